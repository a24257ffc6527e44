"""The experiment's command: data, trainings, results."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from evidence import profile as profiles
from evidence.__main__ import main
from evidence.preparation import data_key, forerunners, parsed
from store.errors import ChatPainterError, ParamsError
from store.lock import FolderLock

ROOT = Path(__file__).parents[2]


def invoke(folder: Path, *more: str):
    command = [str(folder / "trial.yaml"), "--params", str(folder / "params.yaml"), "--device", "cpu"]
    command += ["--work", str(folder / "work"), "--out", str(folder / "out"), *more]
    return CliRunner().invoke(main, command)


def test_the_environment_names_folders(monkeypatch):
    monkeypatch.setenv("SOMEWHERE", "/a b")
    _, arguments = parsed("chatpainter-prepare codraw --source $SOMEWHERE/c", "A trial")
    assert arguments == ["codraw", "--source", "/a b/c"]
    monkeypatch.delenv("SOMEWHERE")
    with pytest.raises(ChatPainterError, match=r"\$SOMEWHERE"):
        parsed("chatpainter-prepare codraw --source $SOMEWHERE/c", "A trial")


@pytest.mark.parametrize("line", ["rm -rf data", "", "python -c pass"])
def test_only_the_project_s_commands_are_run(line):
    with pytest.raises(
        ParamsError, match="chatpainter-prepare or chatpainter-embed or chatpainter-encoders or chatpainter-train"
    ):
        parsed(line, "A trial")


def test_data_depend_on_the_forerunner_s_section_and_on_no_other_of_the_trainer(load, tmp_path):
    def key(**sections):
        plan, values = load(prepare=["chatpainter-train damsm --dry-run"], overrides=sections)
        assert forerunners(plan) == ["damsm"]
        return data_key(plan, values)

    damsm = {"preset": "tiny", "dim": 8}
    assert key(damsm=damsm) == key(damsm=damsm, stage1={"batch": 8}) == key(damsm={**damsm, "preset": "tiny"})
    assert key(damsm=damsm) != key(damsm={**damsm, "seed": 1})
    assert key(damsm=damsm) != key(damsm=damsm, embed={"words": True})


def test_the_jobs_are_listed(load, tmp_path):
    load()
    done = invoke(tmp_path, "--dry-run", "--only", "recurrent-without")
    assert done.output == "recurrent-without-hinge-0: 32, 64 pictures\n"
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"arms": {"caption": {"model": {"dialog": "none"}}}}, "trial.yaml: caption-0: model: unknown key 'dialog'"),
        ({"arms": {"caption": {"modle": {}}}}, "trial.yaml: caption-0: unknown key 'modle'"),
        ({"overrides": {"stage1": {"loss": "best"}}}, "'best' is not one of"),
        ({"overrides": {"evaluate": {"pictures": 1}}}, "pictures must be at least 8"),
        ({"evaluate_between": {"pictures": 1}}, "pictures must be at least 8"),
        ({"system": "stage9"}, "no system 'stage9'"),
    ],
)
def test_wrong_numbers_are_named_before_anything_is_made(load, tmp_path, changes, says):
    load(**{"compare": [], "ablations": [], **changes})
    done = invoke(tmp_path)
    assert done.exit_code == 1
    assert says in done.output.replace("\n", " ")
    assert not (tmp_path / "work").exists()


def test_a_name_that_no_job_has_is_said(load, tmp_path):
    load()
    done = invoke(tmp_path, "--only", "nobody")
    assert done.exit_code == 1
    assert "--only nobody: no job's name begins so" in done.output


def test_nothing_finished_is_said(load, tmp_path):
    load()
    done = invoke(tmp_path, "--report")
    assert done.exit_code == 1
    assert "no training is finished" in done.output


def test_a_command_that_fails_ends_the_experiment_in_its_own_words(load, tmp_path):
    load(prepare=["chatpainter-prepare corpus --split nowhere"])
    done = invoke(tmp_path)
    assert done.exit_code == 1
    assert "Error: " in done.output
    assert "Traceback" not in done.output
    assert not (tmp_path / "work/prepared.json").exists()


def test_two_runs_in_one_work_folder_are_refused(load, tmp_path):
    load(prepare=[])
    with FolderLock(tmp_path / "work"):
        done = invoke(tmp_path)
    assert done.exit_code == 1
    assert "another run is writing here" in done.output


def test_a_training_that_fails_is_named(load, tmp_path):
    load(prepare=[], arms={"caption": {}}, seeds=[0], compare=[], ablations=[])
    done = invoke(tmp_path)
    assert done.exit_code == 1
    assert "caption-0: FAILED" in done.output
    assert "Error: failed: caption-0;" in done.output
    assert (tmp_path / "work/trainings/caption-0/output.txt").read_text().strip()


def test_other_numbers_in_the_same_folder_are_refused(load, tmp_path):
    plan, values = load(prepare=[], arms={"caption": {}}, seeds=[0], compare=[], ablations=[])
    folder = tmp_path / "work/trainings/caption-0"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps({"key": "another"}))
    done = invoke(tmp_path)
    assert done.exit_code == 1
    assert "was run with other numbers" in done.output
    assert profiles.jobs(plan, values)[0].key not in (folder / "job.json").read_text()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_whole_small_experiment_and_again(load, base, tmp_path):
    base.write_text((ROOT / "params.yaml").read_text())
    load(
        seeds=[0],
        points=[32, 64],
        prepare=yaml.safe_load((ROOT / "evidence/gpu.yaml").read_text())["prepare"],  # without dask
        reach={"colour_accuracy": [0.0]},
        overrides={
            "world": {"seed": 1, "train": 60, "val": 20, "image_size": 64},
            "images": {"sizes": [76]},
            "model": {"preset": "paper", "gf": 4, "df": 4, "lstm_hidden": 4, "condition_dim": 4, "noise_dim": 4},
            "stage1": {"preset": "paper", "batch": 16, "flip": False},
            "evaluate": {"gallery": 3, "probe_pictures": 10, "classifier": {"epochs": 1, "width": 4}},
        },
        ablations=[],
    )
    first = invoke(tmp_path, "--jobs", "2")
    assert first.exit_code == 0, first.output
    assert "recurrent-0: done" in first.output
    assert (tmp_path / "out/trial-pictures.png").exists()
    assert (tmp_path / "out/trial-colour_accuracy-by-round.png").exists()
    again = invoke(tmp_path, "--jobs", "2")
    assert "started" not in again.output
    record = json.loads((tmp_path / "out/trial.json").read_text())
    assert [training["name"] for training in record["trainings"]] == ["caption-0", "recurrent-0"]
    assert {point: len(figures) > 20 for point, figures in record["trainings"][1]["points"].items()} == {
        "32": True,
        "64": True,
    }
    minutes = record["trainings"][1]["training_minutes"]
    assert 0 < minutes["32"] < minutes["64"]

    from evidence.probe import main as probe

    command = ["generalisation", str(tmp_path / "trial.yaml"), "--params", str(base), "--work", str(tmp_path / "work")]
    gap = CliRunner().invoke(probe, [*command, "--device", "cpu", "--pictures", "16"], catch_exceptions=False)
    assert gap.exit_code == 0, gap.output
    assert "| caption | 1 | " in gap.output
    assert "| recurrent − caption | " in gap.output
    linear = CliRunner().invoke(probe, ["linear", *command[1:]])
    assert linear.exit_code == 1
    assert "no sprites" in linear.output
