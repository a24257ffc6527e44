"""What lies over what in a profile, and which trainings it asks for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from evidence import profile as profiles
from evidence import worker
from evidence.preparation import forerunners, parsed
from store import params
from store.errors import ParamsError
from trainer import systems

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", sorted((ROOT / "evidence").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_training_of_our_profiles_can_be_built(path, tmp_path):
    plan, values = profiles.load(path, ROOT / "params.yaml")
    jobs = profiles.jobs(plan, values)
    for job in jobs:
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(job.params))
        values = params.load(tmp_path / "params.yaml")
        config: Any = worker.configured(values, job.system, plan.evaluate_between, job.name)[1]
        training = config.training
        assert training.images * job.pictures_each == job.points[-1]
        assert training.seed == job.seed
        if job.system in ("geneva", "iterative"):  # which never mirror, and read dialogues in their own ways
            assert job.arm == job.system
            continue
        assert not training.flip  # left and right are part of the text
        reads = {"collapsed", "recurrent", "attended"} & set(job.arm.split("-"))
        assert {config.model.dialogue} == (reads or {"none"})  # as the arm's name says
        before = systems.find(job.system).starts_from
        assert before is None or before in forerunners(plan)
    assert len({job.name for job in jobs}) == len({job.key for job in jobs}) == len(jobs)


@pytest.mark.parametrize("path", sorted((ROOT / "evidence").glob("*.yaml")), ids=lambda path: path.stem)
def test_others_data_are_laid_out_where_our_profiles_read_them(path, tmp_path, monkeypatch):
    for variable in ("CODRAW", "SCONE"):
        monkeypatch.setenv(variable, str(tmp_path))
    plan, values = profiles.load(path, ROOT / "params.yaml")
    for line in plan.prepare:
        command, (name, *arguments) = parsed(line, plan.title)
        if "--source" not in arguments:
            continue
        assert isinstance(command, click.Group)
        given = command.commands[name].make_context(name, arguments).params
        assert (given["raw"] or Path(f"data/raw/scone-{given['domain']}")) == Path(values["raw"])


def test_what_lies_over_what(load):
    plan, values = load()
    jobs = {job.name: job for job in profiles.jobs(plan, values)}
    assert list(jobs) == ["caption-0", "recurrent-0", "caption-1", "recurrent-1", "recurrent-without-hinge-0"]
    # A section with a preset stands alone; one without lies over params.yaml.
    assert jobs["caption-1"].params["model"] == {"preset": "paper", "gf": 8, "dialogue": "none"}
    assert jobs["caption-1"].params["stage1"] == {"batch": 16, "kl_weight": 1.0, "seed": 1, "images": 64}
    assert jobs["recurrent-without-hinge-0"].params["stage1"]["loss"] == "bce"
    assert "loss" not in jobs["recurrent-0"].params["stage1"]
    assert len({job.key for job in jobs.values()}) == 5


def test_arms_of_several_systems(load):
    arms = {
        "caption": {"model": {"dialogue": "none"}},
        "birds": {"system": "stackgan-v2", "stackgan-v2": {"gf": 8}},
    }
    plan, values = load(arms=arms, compare=[], changes={}, ablations=[], seeds=[3])
    birds, caption = profiles.jobs(plan, values)
    assert (birds.system, caption.system) == ("stackgan-v2", "stage1")
    assert birds.params["stackgan-v2"] == {"gf": 8, "seed": 3, "images": 64}
    assert "seed" not in birds.params["stage1"]
    assert "system" not in birds.params
    assert birds.key != replace(birds, system="stage1").key


def test_arms_that_count_dialogues_see_as_many_pictures(load):
    arms: dict[str, dict[str, Any]] = {
        "attended": {"model": {"dialogue": "attended"}},
        "geneva": {"system": "geneva", "pictures_each": 8, "geneva": {"preset": "tiny"}},
    }
    plan, values = load(arms=arms, compare=[], ablations=[], seeds=[3])
    attended, geneva = profiles.jobs(plan, values)
    assert attended.points == geneva.points == (32, 64)
    assert (attended.pictures_each, geneva.pictures_each) == (1, 8)
    assert geneva.params["geneva"] == {"preset": "tiny", "seed": 3, "images": 8}
    assert attended.params["stage1"]["images"] == 64
    arms["geneva"]["pictures_each"] = 7
    with pytest.raises(ParamsError, match="geneva: pictures_each must be a whole number that divides all points"):
        load(arms=arms, compare=[], ablations=[])


def test_a_profile_over_another(tmp_path, base, load):
    load()
    above = {
        "base": "trial.yaml",
        "title": "Above",
        "points": [96],
        "overrides": {"model": {"df": 4}, "stage1": {"preset": "tiny"}, "evaluate": {"split": "val"}},
    }
    (tmp_path / "above.yaml").write_text(yaml.safe_dump(above))
    plan, values = profiles.load(tmp_path / "above.yaml", base)
    assert (plan.title, plan.points, plan.seeds) == ("Above", (96,), (0, 1))
    assert values["model"] == {"preset": "paper", "gf": 8, "df": 4}
    assert values["stage1"] == {"preset": "tiny"}  # neither the base's kl_weight nor params.yaml's batch
    assert values["evaluate"] == {"split": "val"}
    assert "recurrent-without-hinge-0" in [job.name for job in profiles.jobs(plan, values)]


def test_arms_by_name_are_those_of_the_profiles_below(tmp_path, base, load):
    load()
    middle = {"base": "trial.yaml", "arms": {"wide": {"model": {"gf": 9}}}, "compare": [], "ablations": []}
    (tmp_path / "middle.yaml").write_text(yaml.safe_dump(middle))
    (tmp_path / "top.yaml").write_text("base: middle.yaml\narms: [recurrent, wide]")
    below, _ = profiles.load(tmp_path / "trial.yaml", base)
    plan, _ = profiles.load(tmp_path / "top.yaml", base)
    assert plan.arms == {"recurrent": below.arms["recurrent"], "wide": {"model": {"gf": 9}}}
    (tmp_path / "top.yaml").write_text("base: middle.yaml\narms: [recurrant]")
    with pytest.raises(ParamsError, match=r"top\.yaml: arms: 'recurrant' is no arm of its base; there: caption, rec"):
        profiles.load(tmp_path / "top.yaml", base)
    (tmp_path / "top.yaml").write_text("base: middle.yaml\narms: [recurrent, wide: {model: {df: 5}}]")
    plan, _ = profiles.load(tmp_path / "top.yaml", base)
    assert plan.arms == {"recurrent": below.arms["recurrent"], "wide": {"model": {"gf": 9, "df": 5}}}
    for wrong, why in {
        "recurrent: ": "recurrent: expected a mapping of what it changes, found None",
        "[recurrent]": r"\['recurrent'\] is no arm of its base",
        "{recurrent: {}, wide: {}}": "is no arm of its base",
    }.items():
        (tmp_path / "top.yaml").write_text(f"base: middle.yaml\narms: [{wrong}]")
        with pytest.raises(ParamsError, match=f"arms: .*{why}"):
            profiles.load(tmp_path / "top.yaml", base)


def test_a_circle_of_profiles_is_refused(tmp_path, base):
    (tmp_path / "a.yaml").write_text("base: b.yaml")
    (tmp_path / "b.yaml").write_text("base: a.yaml")
    with pytest.raises(ParamsError, match=r"a\.yaml: base leads back"):
        profiles.load(tmp_path / "a.yaml", base)


def test_ablations_of_several_arms(load):
    group = {"arms": ["caption", "recurrent"], "changes": ["hinge", "kl"], "seeds": [0, 1], "points": [8]}
    plan, values = load(ablations=[group])
    changed = [job for job in profiles.jobs(plan, values) if job.change]
    assert [job.name for job in changed[:4]] == [
        "caption-without-hinge-0",
        "recurrent-without-hinge-0",
        "caption-without-kl-0",
        "recurrent-without-kl-0",
    ]
    assert len(changed) == 8
    assert {job.points for job in changed} == {(8,)}
    assert changed[2].params["model"]["dialogue"] == "none"
    assert changed[2].params["stage1"] == {"batch": 16, "kl_weight": 2.0, "seed": 0, "images": 8}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": [1]}, "seeds"),
        ({"points": [64, 32]}, "points must rise"),
        ({"compare": [["recurrent", "nobody"]]}, "nobody"),
        ({"ablations": [{"arms": ["nobody"], "changes": ["hinge"]}]}, "nobody"),
        ({"ablations": [{"arms": ["caption"], "changes": ["nothing"]}]}, "nothing"),
        ({"ablations": 2 * [{"arms": ["caption"], "changes": ["hinge"]}]}, "twice"),
        ({"ablations": [{"arms": ["caption"], "changes": ["hinge"], "points": [2, 1]}]}, "points must rise"),
        ({"seeds": []}, "must not be empty"),
        ({"reach": {"colour_accuracy": "high"}}, "reach"),
        ({"base": 3}, "base"),
        ({"base": "nowhere.yaml"}, "nowhere.yaml: cannot be read"),
    ],
)
def test_wrong_profiles_are_refused_in_one_line(load, change, says):
    with pytest.raises(ParamsError) as error:
        load(**change)
    assert says in error.value.message
    assert "\n" not in error.value.message


@pytest.mark.parametrize("text", [b"- a", b"a: [", b"\xff\xfe", b"title: a\ntitle: b"])
def test_what_is_no_profile_is_refused_in_one_line(tmp_path, base, text):
    (tmp_path / "trial.yaml").write_bytes(text)
    with pytest.raises(ParamsError, match=r"trial\.yaml[:,] ") as error:
        profiles.load(tmp_path / "trial.yaml", base)
    assert "\n" not in error.value.message


def test_a_moved_clone_has_the_same_jobs_and_finds_its_files(load, tmp_path):
    plan, values = load()
    here = params.merge(values, {"encoders": {"weights": "my/weights"}})
    moved = params.merge(values, {"encoders": {"weights": "/mnt/disk/weights"}})
    assert [job.key for job in profiles.jobs(plan, here)] == [job.key for job in profiles.jobs(plan, moved)]
    seen = profiles.located(plan, here, tmp_path, tmp_path / "runs/evidence/trial")
    assert seen["encoders"]["weights"] == "../../../my/weights"
    assert seen["evaluate"]["published"]["weights"] == "../../../data/weights"
    seen = profiles.located(plan, moved, tmp_path, Path("/mnt/work"))
    assert seen["encoders"]["weights"] == "../disk/weights"
    trains = replace(plan, prepare=("chatpainter-encoders train skip-thought texts.txt --out my/weights",))
    seen = profiles.located(trains, here, tmp_path, tmp_path / "runs/evidence/trial")
    assert seen["encoders"]["weights"] == "my/weights"  # it lies where the profile's own line puts it
    assert seen["evaluate"]["published"]["weights"] == "../../../data/weights"
    # What else the sections say does count.
    other = params.merge(values, {"evaluate": {"published": {"clip": "another"}}})
    assert profiles.jobs(plan, other)[0].key != profiles.jobs(plan, values)[0].key
