"""Checkpoints: whole or absent, checked, rotated; a damaged one costs one interval and not the run."""

import hashlib
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from store.errors import ChatPainterError
from tests.support.disks import files_of_at_most
from tests.support.pickles import Hostile
from tests.support.processes import wait_for
from tests.support.same import assert_same
from trainer.checkpoints import Checkpoints, load


def state(value: float = 1.0) -> dict:
    weight = torch.nn.Parameter(torch.full((64, 64), value))
    optimizer = torch.optim.Adam([weight], lr=2e-4, betas=(0.5, 0.999))
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    return {"model": {"weight": weight.data}, "optimizer": optimizer.state_dict(), "images_seen": 7, "name": "stage 1"}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def checkpoints(tmp_path, said) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", keep=2, say=said.append)


def test_a_state_comes_back_bit_by_bit(checkpoints):
    saved = state()
    path = checkpoints.save(saved, 384)
    assert checkpoints.latest() == path
    assert_same(checkpoints.load(path), saved)


def test_the_checksum_beside_it_is_what_sha256sum_reads(checkpoints):
    path = checkpoints.save(state(), 384)
    line = Path(f"{path}.sha256").read_text()
    assert line == f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
    subprocess.run(["sha256sum", "-c", "--status", f"{path.name}.sha256"], cwd=path.parent, check=True)


def test_the_last_and_the_best_are_kept(checkpoints):
    for images, score in ((10, 5.0), (20, 3.0), (30, 4.0), (40, None), (50, 3.5)):
        checkpoints.save(state(), images, score)
    assert [name for name in names(checkpoints.folder) if name.endswith(".pt")] == [
        "images-000000000020.pt",
        "images-000000000040.pt",
        "images-000000000050.pt",
    ]
    assert checkpoints.best() == checkpoints.folder / "images-000000000020.pt"
    checkpoints.save(state(), 60, 1.0)
    assert checkpoints.best() == checkpoints.folder / "images-000000000060.pt"
    assert "images-000000000020.pt" not in names(checkpoints.folder)
    assert "images-000000000020.pt.sha256" not in names(checkpoints.folder)


def test_a_run_without_checkpoints_has_none(checkpoints):
    assert checkpoints.latest() is None
    assert checkpoints.best() is None


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "a bit flipped": flip_a_bit,
    "emptied": lambda path: path.write_bytes(b""),
    "no checksum": lambda path: Path(f"{path}.sha256").unlink(),
    "empty checksum": lambda path: Path(f"{path}.sha256").write_text(""),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_one_falls_back_to_the_one_before_and_says_so(checkpoints, said, damage):
    before = checkpoints.save(state(1.0), 10)
    newest = checkpoints.save(state(2.0), 20)
    damage(newest)
    assert checkpoints.latest() == before
    assert len(said) == 1
    assert str(newest) in said[0]
    assert "falling back" in said[0]
    # It is out of the way: found neither again nor counted among those to keep.
    assert checkpoints.latest() == before
    assert len(said) == 1
    checkpoints.save(state(3.0), 20)
    assert_same(checkpoints.load(checkpoints.latest()), state(3.0))
    assert before.exists()


def test_all_damaged_is_an_error_and_not_a_fresh_start(checkpoints):
    for images in (10, 20):
        flip_a_bit(checkpoints.save(state(), images))
    with pytest.raises(ChatPainterError, match="none of the 2 checkpoints is whole"):
        checkpoints.latest()
    # Nor when the same command is run once more.
    with pytest.raises(ChatPainterError, match="none of the 2 checkpoints is whole"):
        checkpoints.latest()


def test_nothing_in_a_checkpoint_runs(tmp_path):
    hostile = Hostile(tmp_path / "ran")
    path = tmp_path / "images-000000000001.pt"
    torch.save({"model": hostile}, path)
    with pytest.raises(ChatPainterError, match="not a checkpoint of tensors and plain values"):
        load(path)
    path.write_bytes(hostile.pickled())
    with pytest.raises(ChatPainterError, match="not a checkpoint"):
        load(path)
    assert not hostile.ran


def test_what_is_no_checkpoint_is_said_in_one_line(tmp_path):
    with pytest.raises(ChatPainterError, match=r"no such checkpoint"):
        load(tmp_path / "images-000000000001.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ChatPainterError, match="expected a mapping"):
        load(tmp_path / "list.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(ChatPainterError, match=r"text.pt: not a checkpoint[^\n]*$"):
        load(tmp_path / "text.pt")


def test_a_full_disk_is_one_line_and_leaves_the_earlier_ones(checkpoints):
    before = checkpoints.save(state(), 10)
    message = r"images-000000000020.pt: cannot be written \(.*\); name another folder"
    with files_of_at_most(4096), pytest.raises(ChatPainterError, match=message):
        checkpoints.save(state(), 20)
    assert names(checkpoints.folder) == [before.name, before.name + ".sha256"]
    assert checkpoints.latest() == before


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(ChatPainterError, match="cannot be written"):
        Checkpoints(tmp_path / "runs" / "checkpoints").save(state(), 1)


def test_killed_at_any_moment_a_whole_one_is_left(tmp_path):
    random.seed(0)
    folder = tmp_path / "checkpoints"
    for life in range(12):
        child = os.fork()
        if child == 0:
            checkpoints = Checkpoints(folder, keep=2)
            big = torch.zeros(1 << 18)
            for images in range(1 + 1000 * life, 1000 * (life + 1)):
                checkpoints.save({"images": images, "weight": big + images}, images)
            os._exit(0)
        wait_for(lambda: list(folder.glob("*.pt")), "no checkpoint comes")
        time.sleep(random.uniform(0, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        said: list[str] = []
        found = Checkpoints(folder, say=said.append).latest()
        assert found is not None
        assert said == []
        whole = load(found)
        assert found.name == f"images-{whole['images']:012d}.pt"
        assert (whole["weight"] == whole["images"]).all()
    Checkpoints(folder, keep=2).save({"images": 10**6}, 10**6)
    assert not list(folder.glob("*.tmp"))
    assert len(list(folder.glob("*.pt"))) == 2
