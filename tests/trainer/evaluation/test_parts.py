"""Finished parts are kept, damaged ones made again, other work's parts deleted."""

from typing import Any

import numpy as np
import torch

from trainer.distributed import Ranks
from trainer.evaluation.parts import Parts

ONE = Ranks(0, 1, torch.device("cpu"))


def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    made: list[Any] = []

    def compute(number):
        if number == 2 and 2 not in made and len(made) == 2:
            raise KeyboardInterrupt
        made.append(number)
        return {"value": np.array([number, number + 10])}

    try:
        Parts(tmp_path / "parts", {"a": 1}, ONE).make("x", 4, compute, lambda: None)
    except KeyboardInterrupt:
        made.append("killed")
    parts = Parts(tmp_path / "parts", {"a": 1}, ONE)
    parts.make("x", 4, compute, lambda: None)
    assert made == [0, 1, "killed", 2, 3]
    assert parts.gather("x", 4)["value"].tolist() == [0, 10, 1, 11, 2, 12, 3, 13]
    assert not [path for path in parts.folder.iterdir() if path.suffix != ".npz"]
    parts.clear()
    assert not (tmp_path / "parts").exists()


def test_a_truncated_part_is_made_again_and_other_keys_go(tmp_path):
    made: list[Any] = []

    def compute(number):
        made.append(number)
        return {"value": np.arange(100) + number}

    parts = Parts(tmp_path / "parts", {"a": 1}, ONE)
    parts.make("x", 2, compute, lambda: None)
    path = parts.path("x", 1)
    path.write_bytes(path.read_bytes()[:-40])
    parts.make("x", 2, compute, lambda: None)
    assert made == [0, 1, 1]
    other = Parts(tmp_path / "parts", {"a": 2}, ONE)
    assert not parts.folder.exists()
    other.make("x", 1, compute, lambda: None)
    assert made == [0, 1, 1, 0]


def test_processes_share_the_parts(tmp_path):
    made: list[Any] = []
    for rank in (0, 1):
        parts = Parts(tmp_path / "parts", {"a": 1}, Ranks(rank, 2, torch.device("cpu")))
        parts.make(
            "x", 5, lambda number, rank=rank: made.append((rank, number)) or {"n": np.array([number])}, lambda: None
        )
    assert made == [(0, 0), (0, 2), (0, 4), (1, 1), (1, 3)]
    assert parts.gather("x", 5)["n"].tolist() == [0, 1, 2, 3, 4]
