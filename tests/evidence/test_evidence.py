"""The experiment's profiles, and what is made of finished trainings."""

import csv
import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from evidence import profile as profiles
from evidence import report
from evidence.__main__ import main
from evidence.preparation import parsed
from store import params
from store.errors import ChatPainterError, ParamsError
from trainer import config
from trainer.evaluate import EvaluateSettings

ROOT = Path(__file__).parents[2]
PROFILE = {
    "title": "A trial",
    "arms": {"caption": {"model": {"dialogue": "none"}}, "recurrent": {"model": {"dialogue": "recurrent"}}},
    "seeds": [0, 1],
    "points": [32, 64],
    "prepare": ["chatpainter-prepare world"],
    "compare": [["recurrent", "caption"]],
    "score": "stage1_colour_accuracy",
    "overrides": {"model": {"preset": "paper", "gf": 8}, "stage1": {"kl_weight": 1.0}},
    "ablations": {"arm": "recurrent", "changes": {"hinge": {"stage1": {"loss": "bce"}}}},
}
BASE = {"raw": "data/raw/sample", "model": {"lstm_hidden": 7}, "stage1": {"batch": 16, "kl_weight": 3.0}}


@pytest.fixture
def base(tmp_path):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(BASE))
    return tmp_path / "params.yaml"


def load(tmp_path, base, **changes):
    path = tmp_path / "trial.yaml"
    path.write_text(yaml.safe_dump({**PROFILE, **changes}))
    return profiles.load(path, base)


@pytest.mark.parametrize("path", sorted((ROOT / "evidence").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_training_of_our_profiles_can_be_built(path, tmp_path):
    plan, values = profiles.load(path, ROOT / "params.yaml")
    for job in profiles.jobs(plan, values):
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(job.params))
        model, training = config.load(tmp_path / "params.yaml", 1)
        params.section(job.params, "evaluate", EvaluateSettings)
        assert training.images == job.points[-1]
        assert training.seed == job.seed
        assert not training.flip  # left and right are part of the text
        if job.change is None:
            arm = job.arm.split("-")[0]  # of its name the first word says what is read
            assert model.dialogue == {"caption": "none"}.get(arm, arm)
    assert len({job.name for job in profiles.jobs(plan, values)}) == len(profiles.jobs(plan, values))


def test_what_lies_over_what(tmp_path, base):
    plan, values = load(tmp_path, base)
    jobs = {job.name: job for job in profiles.jobs(plan, values)}
    assert list(jobs) == ["caption-0", "recurrent-0", "caption-1", "recurrent-1", "recurrent-without-hinge-0"]
    # A section with a preset stands alone; one without lies over params.yaml.
    assert jobs["caption-1"].params["model"] == {"preset": "paper", "gf": 8, "dialogue": "none"}
    assert jobs["caption-1"].params["stage1"] == {"batch": 16, "kl_weight": 1.0, "seed": 1, "images": 64}
    assert jobs["recurrent-without-hinge-0"].params["stage1"]["loss"] == "bce"
    assert "loss" not in jobs["recurrent-0"].params["stage1"]
    assert len({job.key for job in jobs.values()}) == 5
    assert Path(values["encoders"]["weights"]) == tmp_path / "data/weights"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": [1]}, "seeds"),
        ({"points": [64, 32]}, "points must rise"),
        ({"compare": [["recurrent", "nobody"]]}, "nobody"),
        ({"ablations": {"arm": "nobody", "changes": {"x": {}}}}, "nobody"),
        ({"seeds": []}, "must not be empty"),
    ],
)
def test_wrong_profiles_are_refused_in_one_line(tmp_path, base, change, says):
    with pytest.raises(ParamsError) as error:
        load(tmp_path, base, **change)
    assert says in error.value.message
    assert "\n" not in error.value.message


def test_the_environment_names_folders(tmp_path, base, monkeypatch):
    plan, _ = load(tmp_path, base)
    monkeypatch.setenv("SOMEWHERE", "/a b")
    _, arguments = parsed("chatpainter-prepare codraw --source $SOMEWHERE/c", plan.title)
    assert arguments == ["codraw", "--source", "/a b/c"]
    monkeypatch.delenv("SOMEWHERE")
    with pytest.raises(ChatPainterError, match=r"\$SOMEWHERE"):
        parsed("chatpainter-prepare codraw --source $SOMEWHERE/c", plan.title)


def test_only_the_project_s_commands_are_run(tmp_path, base):
    plan, _ = load(tmp_path, base)
    with pytest.raises(ParamsError, match="chatpainter-prepare or chatpainter-embed"):
        parsed("rm -rf data", plan.title)


def finish(work: Path, job: profiles.Job, values: dict[int, float], right: list[int]) -> None:
    """What a finished training leaves behind, as far as the report reads it."""
    folder = work / "trainings" / job.name
    for point, value in values.items():
        figures = {
            "stage1_colour_accuracy": value,
            "stage1_domain_fid": 20 - value,
            "caption_ceiling_colour_accuracy": 0.5,
            "chance_ceiling_colour_accuracy": 1 / 6,
        }
        if job.arm == "recurrent":
            figures |= {f"stage1_{probe}_colour_accuracy": value / 2 for probe in ("own", "shuffled", "reversed")}
            figures["stage1_own_4_rounds_colour_accuracy"] = value / 4
        out = folder / f"{point:09d}"
        out.mkdir(parents=True)
        record = {"figures": [{"name": name, "value": figure} for name, figure in figures.items()]}
        (out / "metrics.json").write_text(json.dumps(record))
        rows = "".join(f"{i},2,{count}\n" for i, count in enumerate(right))
        (out / "pictures_val.csv").write_text("image_id,objects,stage1_colours_right\n" + rows)
    (folder / "result.json").write_text(json.dumps({"key": job.key, "seconds": 5.0}))


def test_report(tmp_path, base):
    plan, values = load(tmp_path, base)
    jobs = {job.name: job for job in profiles.jobs(plan, values)}
    work = tmp_path / "work"
    finish(work, jobs["caption-0"], {32: 0.2, 64: 0.30}, [0, 1, 0, 1])
    finish(work, jobs["caption-1"], {32: 0.2, 64: 0.34}, [0, 1, 0, 1])
    finish(work, jobs["recurrent-0"], {32: 0.2, 64: 0.50}, [2, 1, 0, 2])
    finish(work, jobs["recurrent-1"], {32: 0.2, 64: 0.60}, [2, 1, 0, 2])
    finish(work, jobs["recurrent-without-hinge-0"], {32: 0.1, 64: 0.11}, [0, 0, 0, 0])
    written = report.write(tmp_path / "out", "trial", plan, work, list(jobs.values()))
    assert {path.name for path in written} >= {"trial.json", "trial.csv", "trial.md"}
    text = (tmp_path / "out/trial.md").read_text()
    assert "| caption | 2 | 0.320 ± 0.028 | 19.7 ± 0.0 |" in text
    assert "| recurrent | 2 | 0.550 ± 0.071 | 19.4 ± 0.1 |" in text
    assert "colour accuracy: caption 0.500" in text
    assert "| recurrent | 0.275 ± 0.035 | 0.275 ± 0.035 | 0.275 ± 0.035 |" in text  # the probes
    assert "| rounds | 4 |" in text
    assert "| without hinge | 1 | 0.100 | 0.110 |" in text
    assert "| the recipe | 1 | 0.200 | 0.500 |" in text
    record = json.loads((tmp_path / "out/trial.json").read_text())
    compared = record["comparisons"][0]
    assert compared["values_a"] == [0.5, 0.6]
    assert compared["over_seeds"]["difference"] == pytest.approx(0.23)
    assert compared["over_seeds"]["p_sign_flip"] == 0.5  # the least with two seeds
    # Over scenes: shares of two objects each, seeds averaged.
    assert compared["over_scenes"]["difference"] == pytest.approx((1 + 0 + 0 + 0.5) / 4)
    assert record["trainings"][0]["seconds"] == 5.0
    with open(tmp_path / "out/trial.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["figure"] == "stage1_colour_accuracy"]
    assert len(rows) == 10
    assert (rows[-1]["without"], rows[-1]["images_seen"], rows[-1]["value"]) == ("hinge", "64", "0.11")


def test_nothing_finished_is_said(tmp_path, base):
    load(tmp_path, base)
    command = [str(tmp_path / "trial.yaml"), "--params", str(base), "--work", str(tmp_path / "work"), "--report"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert "no training is finished" in result.output


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_whole_small_experiment_and_again(tmp_path):
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    trial = {
        **PROFILE,
        "seeds": [0],
        "points": [32, 64],
        "prepare": yaml.safe_load((ROOT / "evidence/gpu.yaml").read_text())["prepare"],  # without dask
        "overrides": {
            "world": {"seed": 1, "train": 60, "val": 20, "image_size": 64},
            "images": {"sizes": [76]},
            "model": {"preset": "paper", "gf": 4, "df": 4, "lstm_hidden": 4, "condition_dim": 4, "noise_dim": 4},
            "stage1": {"preset": "paper", "batch": 16, "flip": False},
            "evaluate": {"gallery": 3, "probe_pictures": 10, "classifier": {"epochs": 1, "width": 4}},
        },
        "ablations": {},
    }
    (tmp_path / "trial.yaml").write_text(yaml.safe_dump(trial))
    command = [str(tmp_path / "trial.yaml"), "--params", str(tmp_path / "params.yaml"), "--device", "cpu"]
    command += ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"), "--jobs", "2"]
    first = CliRunner().invoke(main, command, catch_exceptions=False)
    assert first.exit_code == 0, first.output
    assert "recurrent-0: done" in first.output
    assert (tmp_path / "out/trial-pictures.png").exists()
    again = CliRunner().invoke(main, command, catch_exceptions=False)
    assert "started" not in again.output
    record = json.loads((tmp_path / "out/trial.json").read_text())
    assert [training["name"] for training in record["trainings"]] == ["caption-0", "recurrent-0"]
    assert {point: len(figures) > 20 for point, figures in record["trainings"][1]["points"].items()} == {
        "32": True,
        "64": True,
    }
