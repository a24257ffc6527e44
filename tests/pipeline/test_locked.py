"""dvc.lock: the committed one names what the commands make, and the comparison of two."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from pipeline.locked import main
from pipeline.prepare_cli import main as prepare

ROOT = Path(__file__).parents[2]


def stage(md5, path="data/out", **params):
    return {"cmd": "make it", "params": {"params.yaml": params}, "outs": [{"path": path, "hash": "md5", "md5": md5}]}


BEFORE = {"corpus@val": stage("a" * 32, "data/corpus/val.parquet", seed=1), "stage1": stage("b" * 32, "runs/stage1")}


@pytest.fixture
def compare(tmp_path, monkeypatch):
    """Exit status and text, with BEFORE committed and other stages in the folder."""
    monkeypatch.chdir(tmp_path)
    for command in ["init", "-q"], ["config", "user.email", "a@b.c"], ["config", "user.name", "a"]:
        subprocess.run(["git", *command], check=True)

    def compare(now, *stages, committed=BEFORE):
        Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": committed}))
        subprocess.run(["git", "add", "dvc.lock"], check=True)
        subprocess.run(["git", "commit", "-qm", "lock", "--allow-empty"], check=True)
        Path("dvc.lock").write_text(now if isinstance(now, str) else yaml.safe_dump({"schema": "2.0", "stages": now}))
        done = CliRunner().invoke(main, stages)
        return done.exit_code, done.output.strip()

    return compare


def test_equal_bytes_are_said(compare):
    assert compare(BEFORE, "corpus", "stage1") == (0, "2 of 2 stages gave the bytes of the committed dvc.lock")


def test_other_bytes_of_a_training_are_told_and_let_pass(compare):
    status, said = compare({**BEFORE, "stage1": stage("c" * 32, "runs/stage1")}, "corpus")
    assert status == 0
    assert said.startswith("1 of 2 stages gave the bytes")
    assert "other bytes on this machine: stage1" in said


@pytest.mark.parametrize("name", ["corpus", "corpus@val"])
def test_other_bytes_of_a_stage_that_was_named_fail(compare, name):
    status, said = compare({**BEFORE, "corpus@val": stage("c" * 32, "data/corpus/val.parquet", seed=1)}, name)
    assert status == 1
    assert "corpus@val (data/corpus/val.parquet)" in said
    assert "Traceback" not in said


def test_other_parameters_are_not_compared(compare):
    assert compare({**BEFORE, "corpus@val": stage("c" * 32, "data/corpus/val.parquet", seed=2)}, "corpus")[0] == 0


def test_a_stage_that_was_not_made_fails(compare):
    status, said = compare({"stage1": BEFORE["stage1"]}, "corpus")
    assert (status, said.splitlines()) == (
        1,
        ["Error: dvc.lock: nothing was made of corpus@val; run: dvc repro corpus@val"],
    )


def test_a_name_that_no_stage_has_is_refused(compare):
    status, said = compare(BEFORE, "corpora")
    assert status == 1
    assert "has no stage corpora" in said


@pytest.mark.parametrize("text", ["", "[]", "stages: {a: {}}", "stages: [", "stages: {a: {cmd: b, outs: [c]}}"])
def test_what_is_no_lock_is_one_line(compare, text):
    status, said = compare(text)
    assert status == 1
    assert said.startswith("Error: dvc.lock: no lock of DVC")
    assert len(said.splitlines()) == 1


def test_without_a_commit_nothing_is_compared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": BEFORE}))
    done = CliRunner().invoke(main, [])
    assert (done.exit_code, done.output) == (0, "dvc.lock is not compared: no commit here has one\n")


def test_the_committed_lock_names_the_world_its_corpora_and_untrained_weights(tmp_path, monkeypatch):
    # As `dvc repro corpus weights` would make them.
    stages = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]
    locked = {out["path"]: out["md5"] for name in stages for out in stages[name]["outs"]}
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    for command in ["world"], ["corpus", "--split", "train"], ["corpus", "--split", "val"], ["weights"]:
        done = CliRunner().invoke(prepare, command, catch_exceptions=False)
        assert done.exit_code == 0, done.output
    for split in "train", "val":
        for suffix in "parquet", "report.json":
            path = f"data/corpus/{split}.{suffix}"
            assert md5(Path(path).read_bytes()) == locked[path], path
    for folder in "data/raw/sample", "data/untrained":
        assert md5_of_folder(Path(folder)) == locked[folder], folder


def md5_of_folder(folder):
    """DVC's: that of its files' in JSON."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    listed = [
        {"md5": md5(path.read_bytes()), "relpath": path.relative_to(folder).as_posix()}
        for path in sorted(files, key=lambda path: path.parts)
    ]
    return md5(json.dumps(listed, sort_keys=True).encode()) + ".dir"


def md5(data):
    return hashlib.md5(data).hexdigest()


@pytest.mark.parametrize("how", ["--force", "--allow-missing"])
def test_what_a_fresh_clone_would_run_is_shown(tmp_path, how):
    # Without either DVC hashes inputs that are not there yet (treeverse/dvc#9818).
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in "dvc.yaml", "dvc.lock", "params.yaml", "data/weights/README.md":
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_bytes((ROOT / name).read_bytes())
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--no-scm", "-q"], cwd=clone, check=True)
    # With the lock, data that nobody changed are not made again; "embed" has every stage of data before it.
    targets = ["embed"] if how == "--allow-missing" else []
    done = subprocess.run([*dvc, "repro", "--dry", how, *targets], cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = list(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
    if how == "--force":
        assert [name for name in names if f"Running stage '{name}" not in done.stdout] == []
    else:
        assert "Running" not in done.stdout
        assert done.stdout.count("didn't change, skipping") == 6  # world, corpora, weights, vectors of two splits
