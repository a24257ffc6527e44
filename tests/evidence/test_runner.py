"""Which trainings are started, how many at a time, and how they end; the trainings are small scripts here."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evidence import profile as profiles
from evidence import runner
from evidence.worker import DONE

FINISHES = """
import json, pathlib, time
folder = pathlib.Path("trainings/NAME")
began = time.time()
time.sleep(0.3)
about = json.loads((folder / "job.json").read_text()) | {"times": [began, time.time()]}
(folder / "result.json").write_text(json.dumps(about))
"""


@pytest.fixture
def experiment(load, tmp_path):
    plan, values = load()
    return plan, profiles.jobs(plan, values), tmp_path / "work"


def scripted(monkeypatch: pytest.MonkeyPatch, script: str) -> list[subprocess.Popen[bytes]]:
    """Let every training be this script; returns their processes as they are started."""
    started: list[subprocess.Popen[bytes]] = []

    def start(work: Path, job: profiles.Job, device: str) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen([sys.executable, "-c", script.replace("NAME", job.name)], cwd=work))
        return started[-1]

    monkeypatch.setattr(runner, "_start", start)
    return started


def test_all_are_run_a_few_at_a_time_and_only_once(experiment, monkeypatch, tmp_path):
    plan, jobs, work = experiment
    started = scripted(monkeypatch, FINISHES)
    assert runner.run(work, plan, jobs, tmp_path, 2, "cpu", None) == []
    assert all(runner.finished(work, job) for job in jobs)
    times = [json.loads((work / "trainings" / job.name / DONE).read_text())["times"] for job in jobs]
    assert max(sum(began <= at < ended for began, ended in times) for at, _ in times) <= 2
    assert len(started) == len(jobs) == 5
    assert runner.run(work, plan, jobs, tmp_path, 2, "cpu", None) == []
    assert len(started) == 5


def test_those_that_fail_are_named_and_the_others_run(experiment, monkeypatch, tmp_path, capsys):
    plan, jobs, work = experiment
    scripted(monkeypatch, f"assert 'NAME' != 'caption-1'\n{FINISHES}")
    assert runner.run(work, plan, jobs, tmp_path, 5, "cpu", None) == ["caption-1"]
    assert [job.name for job in jobs if not runner.finished(work, job)] == ["caption-1"]
    assert "caption-1: FAILED" in capsys.readouterr().out


def test_nothing_is_started_after_the_deadline(experiment, monkeypatch, tmp_path, capsys):
    plan, jobs, work = experiment
    assert scripted(monkeypatch, FINISHES) == []
    assert runner.run(work, plan, jobs, tmp_path, 1, "cpu", time.monotonic() - 1) == []
    assert not any(runner.finished(work, job) for job in jobs)
    assert "out of time; not run: caption-0, recurrent-0" in capsys.readouterr().out


def test_an_interrupted_run_leaves_no_training_behind(experiment, monkeypatch, tmp_path):
    plan, jobs, work = experiment
    started = scripted(monkeypatch, "import time; time.sleep(600)")

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        runner.run(work, plan, jobs, tmp_path, 2, "cpu", None)
    assert len(started) == 2
    assert all(process.returncode is not None for process in started)


def test_a_training_s_numbers_lie_beside_it(experiment, monkeypatch, tmp_path):
    plan, jobs, work = experiment
    scripted(monkeypatch, FINISHES)
    runner.run(work, plan, jobs[:1], tmp_path, 1, "cpu", None)
    folder = work / "trainings/caption-0"
    about = json.loads((folder / "job.json").read_text())
    assert about == {
        "key": jobs[0].key,
        "points": [32, 64],
        "system": "stage1",
        "pictures_each": 1,
        "evaluate_between": {},
    }
    assert str(tmp_path) not in (folder / "params.yaml").read_text()
