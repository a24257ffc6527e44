"""Running the same command again continues exactly: 2N steps equal N, an end of any kind, and N, bit by bit."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from store.errors import ChatPainterError
from store.interrupts import PREEMPTED
from tests.support.models import small_model
from tests.support.processes import wait_for
from tests.support.runs import figures, hold_after
from tests.support.runs import run_of as any_run
from tests.support.same import assert_same
from trainer import generator_file, loop
from trainer.checkpoints import Checkpoints, load
from trainer.cli import main
from trainer.logs.log import read_log
from trainer.run import Run
from trainer.systems.chatpainter.config import ModelConfig, Stage1Config, Stage2Config

BATCH = 6
IMAGES = 20  # 3 batches an epoch, so that runs cross epochs
MODEL: ModelConfig = small_model(dialogue="recurrent", standardise=True)
SHORT: dict[str, Any] = {
    "epochs": None, "images": 10 * BATCH, "batch": BATCH, "seed": 3, "halve_every_epochs": 1, "ema_half_life": 20,
    "d_norm": "spectral", "loss": "hinge", "diffaugment": True, "keep": 3, "threads": 2,
    "log_every": BATCH, "grid_every": 4 * BATCH, "checkpoint_every": 2 * BATCH,
}  # fmt: skip
TRAINING = {1: Stage1Config(**SHORT), 2: Stage2Config(**SHORT)}


@pytest.fixture(scope="module")
def world(tmp_path_factory, make_stores) -> Path:
    """data/ with a split to train on and one to paint."""
    folder = tmp_path_factory.mktemp("world")
    for split, seed in (("train", 0), ("val", 1)):
        make_stores(folder / "data", split, images=IMAGES, sizes=(76, 304), rounds=(3, 1, 2), seed=seed)
    return folder


def run_of(world: Path, stage: int, folder: Path, **changes) -> Run:
    images = changes.pop("images", (10 if stage == 1 else 4) * BATCH)
    start = world / "stage1" if stage == 2 else None
    return any_run(
        world / "data", folder, MODEL, TRAINING[stage], held_out="val", start=start, images=images, **changes
    )


@pytest.fixture(scope="module")
def straight(world) -> dict[int, Path]:
    """Both stages, each trained in one go."""
    folders = {1: world / "stage1", 2: world / "stage2"}
    for stage, folder in folders.items():
        assert loop.train(run_of(world, stage, folder))
    return folders


def assert_same_run(found: Path, expected: Path) -> None:
    """Networks, average, optimisers, what is exported, the log's figures and the last grid are equal to the bit."""
    ours, theirs = (Checkpoints(folder / "checkpoints").latest() for folder in (found, expected))
    assert ours is not None
    assert theirs is not None
    assert ours.name == theirs.name
    assert_same(load(ours), load(theirs))
    for name in ("generator.safetensors", "generator-best.safetensors"):
        generators = [generator_file.load(folder / name) for folder in (found, expected)]
        assert_same(generators[0].state_dict(), generators[1].state_dict())
        assert_same(generators[0].settings, generators[1].settings)
    assert figures(found) == figures(expected)
    grids = [sorted((folder / "grids").glob("*.png"))[-1] for folder in (found, expected)]
    assert grids[0].name == grids[1].name
    assert grids[0].read_bytes() == grids[1].read_bytes()


def train(run: Run) -> None:
    """In a process of its own, with the exit status of the command."""
    if not loop.train(run):
        raise SystemExit(PREEMPTED)


def train_and_hold(run: Run, steps: int, gate: Path) -> None:
    """The same, but no iteration after `steps` begins until the file `gate` is there."""
    hold_after(steps, gate)
    train(run)


@pytest.mark.parametrize("stage", [1, 2])
def test_n_and_n_again_are_2n(world, straight, tmp_path, stage):
    half = (5 if stage == 1 else 2) * BATCH
    assert loop.train(run_of(world, stage, tmp_path / "run", stop_at=half))
    state = load(Checkpoints(tmp_path / "run" / "checkpoints").latest())
    assert state["images_seen"] == half
    torch.manual_seed(12345)  # nothing may hang on what the process did before
    assert loop.train(run_of(world, stage, tmp_path / "run"))
    assert_same_run(tmp_path / "run", straight[stage])


@pytest.mark.parametrize("stage", [1, 2])
def test_killed_in_the_middle_it_continues_as_if_nothing_had_happened(world, straight, tmp_path, launch, stage):
    folder = tmp_path / "run"
    # Past the first checkpoint, so that a part of the log has to be taken back.
    processes = launch(train_and_hold, 1, run_of(world, stage, folder), 3, tmp_path / "never")
    wait_for(lambda: len(read_log(folder)) >= 3)
    processes.signal(0, signal.SIGKILL)
    assert processes.wait() == [-signal.SIGKILL]
    reached = read_log(folder)[-1]["images"]
    assert reached < read_log(straight[stage])[-1]["images"]
    assert loop.train(run_of(world, stage, folder))
    assert_same_run(folder, straight[stage])


class Killed(BaseException):
    """Where a kill would be: nothing handles it."""


def test_killed_before_any_file_of_the_last_save_gets_its_name(world, straight, tmp_path, monkeypatch):
    half, replace = tmp_path / "half", os.replace
    names: list[str | None] = []
    assert loop.train(run_of(world, 1, half, stop_at=9 * BATCH))
    while names.count(None) == 0:
        folder, left = tmp_path / f"killed-{len(names)}", len(names)
        shutil.copytree(half, folder)

        def kill(source, target):
            nonlocal left
            if left == 0:
                names.append(Path(target).name)
                raise Killed
            left -= 1
            replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", kill)
            try:
                assert loop.train(run_of(world, 1, folder))
                names.append(None)
            except Killed:
                pass
        (folder / "grids" / "images-1.png.0123456789ab.tmp").touch()  # an exception cleans up, a kill does not
        assert loop.train(run_of(world, 1, folder))
        assert not list(folder.rglob("*.tmp"))
        assert_same_run(folder, straight[1])
    last = f"images-{10 * BATCH:012d}"
    assert {"generator.safetensors", f"{last}.png", f"{last}.pt", f"{last}.pt.sha256"} <= set(names)
    assert names[-2:] == ["curves.csv", None]


def test_a_damaged_checkpoint_costs_its_interval_only(world, straight, tmp_path, capsys):
    folder = tmp_path / "run"
    assert loop.train(run_of(world, 1, folder, stop_at=6 * BATCH))
    newest = Checkpoints(folder / "checkpoints").latest()
    newest.write_bytes(newest.read_bytes()[:1000])
    assert loop.train(run_of(world, 1, folder))
    said = capsys.readouterr().out
    assert f"{newest}: damaged" in said
    assert f"images-{4 * BATCH:012d}.pt" in said
    assert_same_run(folder, straight[1])


def command_and_hold(arguments: list[str], steps: int, gate: Path) -> None:
    """The real command, with no iteration after `steps` before the file `gate` is there."""
    hold_after(steps, gate)
    main(arguments)


def test_the_command_asked_to_stop_saves_and_leaves_with_its_own_status(world, straight, tmp_path, launch):
    """The real command, held at its third iteration until it has the real signal; then the same again, to the end."""
    folder = tmp_path / "run"
    changed = {field: value for field, value in vars(TRAINING[1]).items() if value != getattr(Stage1Config(), field)}
    model = {field: value for field, value in vars(MODEL).items() if value != getattr(ModelConfig(), field)}
    (tmp_path / "params.yaml").write_text(
        yaml.safe_dump({"splits": ["train", "val"], "model": model, "stage1": changed})
    )
    command = {
        "params": tmp_path / "params.yaml", "run": folder, "embeddings": world / "data" / "embeddings",
        "images": world / "data" / "images", "device": "cpu", "log": "tensorboard",
    }  # fmt: skip
    options = [str(part) for name, value in command.items() for part in (f"--{name}", value)]
    process = launch(command_and_hold, 1, ["stage1", *options], 2, tmp_path / "gate")
    wait_for(lambda: len(read_log(folder)) >= 2)
    process.signal(0, signal.SIGTERM)
    (tmp_path / "gate").touch()
    assert process.wait() == [PREEMPTED] == [75]
    stopped = load(Checkpoints(folder / "checkpoints").latest())["images_seen"]
    assert stopped == read_log(folder)[-1]["images"] == 3 * BATCH
    assert loop.train(run_of(world, 1, folder))
    assert_same_run(folder, straight[1])


def test_a_finished_run_has_nothing_to_do(world, straight):
    before = {path: path.read_bytes() for path in straight[1].rglob("*") if path.is_file()}
    assert loop.train(run_of(world, 1, straight[1]))
    assert {path: path.read_bytes() for path in straight[1].rglob("*") if path.is_file()} == before


def test_a_changed_configuration_is_refused_with_the_difference(world, straight):
    run_of(world, 1, straight[1])
    changed = run_of(world, 1, straight[1], g_lr=1e-3)
    with pytest.raises(ChatPainterError, match=r"g_lr: 0.0002 → 0.001.*--fork"):
        loop.train(changed)
    assert json.loads((straight[1] / "config.json").read_text())["stage1"]["g_lr"] == 2e-4


@pytest.fixture(scope="module")
def together(world, straight, tmp_path_factory, launch) -> dict[int, Path]:
    """Both stages, each trained in one go by two processes."""
    folders = {stage: tmp_path_factory.mktemp("together") for stage in (1, 2)}
    for stage, folder in folders.items():
        assert launch(train, 2, run_of(world, stage, folder)).wait() == [0, 0]
    return folders


class TestTwoProcesses:
    @pytest.mark.parametrize("stage", [1, 2])
    def test_n_and_n_again_are_2n(self, world, together, tmp_path, launch, stage):
        run = run_of(world, stage, tmp_path)
        half = run.training.images // BATCH // 2 * BATCH
        assert launch(train, 2, replace(run, stop_at=half)).wait() == [0, 0]
        assert launch(train, 2, run).wait() == [0, 0]
        assert_same_run(tmp_path, together[stage])

    def test_a_signal_to_one_stops_both_and_a_kill_loses_nothing(self, world, together, tmp_path, launch):
        folder = tmp_path / "run"
        run = run_of(world, 1, folder)
        processes = launch(train_and_hold, 2, run, 2, tmp_path / "gate")
        wait_for(lambda: len(read_log(folder)) >= 2)
        processes.signal(1, signal.SIGUSR1)
        (tmp_path / "gate").touch()
        assert processes.wait() == [PREEMPTED, PREEMPTED]
        stopped = load(Checkpoints(folder / "checkpoints").latest())["images_seen"]
        assert stopped == 3 * BATCH

        processes = launch(train_and_hold, 2, run, 3, tmp_path / "never")
        wait_for(lambda: read_log(folder)[-1]["images"] > stopped)
        for rank in (0, 1):
            processes.signal(rank, signal.SIGKILL)
        assert processes.wait() == [-signal.SIGKILL, -signal.SIGKILL]

        assert launch(train, 2, run).wait() == [0, 0]
        assert_same_run(folder, together[1])

    @pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
    def test_it_goes_on_with_another_number_of_processes(self, world, tmp_path, launch, before, after):
        """Rows and draws are the same; statistics of a part of the batch are not, so figures agree but for those."""
        run = run_of(world, 1, tmp_path / "run")
        assert launch(train, before, replace(run, stop_at=5 * BATCH)).wait() == [0] * before
        assert launch(train, after, run).wait() == [0] * after
        log = figures(tmp_path / "run")
        assert [record["images"] for record in log] == [BATCH * (step + 1) for step in range(10)]
        assert all(record["nonfinite"] == 0 for record in log)
        state = load(Checkpoints(tmp_path / "run" / "checkpoints").latest())
        assert state["images_seen"] == 10 * BATCH
