"""What other tests lean on: damage is damage and comes again, comparisons see every difference, pickles do run."""

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from store.errors import ChatPainterError
from tests.support import parity
from tests.support.mutate import as_json, damaged_bytes, damaged_records, flip
from tests.support.outcomes import one_line, right_or_refused
from tests.support.pickles import Hostile
from tests.support.same import assert_same, same

RECORD = {"images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}], "info": {"year": 2014}}


def test_damaged_bytes_come_again_and_differ():
    data = bytes(range(256)) * 20
    cases = list(damaged_bytes(data, seed=3, count=200))
    assert cases == list(damaged_bytes(data, seed=3, count=200))
    assert len(cases) == 200
    assert cases != list(damaged_bytes(data, seed=4, count=200))
    assert sum(case.value != data for case in cases) > 190  # a block may be spliced over its equal
    assert {case.name.split()[0] for case in cases} >= {"empty", "cut", "flip", "end"}
    assert [value for _, value in damaged_bytes(b"", count=20)]


def test_damaged_records_come_again_and_leave_the_original():
    before = copy.deepcopy(RECORD)
    cases = [(name, as_json(value)) for name, value in damaged_records(RECORD, seed=1, count=500)]
    assert cases == [(name, as_json(value)) for name, value in damaged_records(RECORD, seed=1, count=500)]
    assert before == RECORD
    assert sum(data != as_json(RECORD) for _, data in cases) > 480
    assert all(json.loads(data) is not ... for _, data in cases)
    said = " ".join(name for name, _ in cases)
    for word in ("images[0].file_name = ", "dropped", "twice", "../outside.jpg", "1000000000000000000000000000000"):
        assert word in said


def test_one_bit_is_flipped():
    assert flip(b"\x00\x00", -1, 3) == b"\x00\x08"


VALUE: dict[str, Any] = {"a": [1, 2.0, (None, "x")], "t": torch.tensor([1.0, float("nan")]), "n": np.arange(3)}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"a": [1, 2.0, (None, "y")]}, r"value\.a\[2\]\[1\]"),
        ({"a": [1, 2, (None, "x")]}, r"value\.a\[1\]: float and int"),
        ({"a": [1, 2.0]}, r"value\.a: 3 and 2"),
        ({"t": torch.tensor([1.0, 2.0])}, r"value\.t: 1 of 2"),
        ({"t": torch.tensor([1.0, float("nan")], dtype=torch.float64)}, r"value\.t"),
        ({"t": torch.tensor([[1.0, float("nan")]])}, r"value\.t"),
        ({"t": VALUE["t"].view(torch.int32)}, r"value\.t: torch\.float32 and torch\.int32"),
        ({"n": np.arange(3, dtype=np.int32)}, r"value\.n: int64 and int32"),
        ({"b": 1}, r"keys \['b'\]"),
    ],
)
def test_every_difference_is_seen_and_named(change, where):
    assert_same(VALUE, copy.deepcopy(VALUE))
    with pytest.raises(AssertionError, match=where):
        assert_same(VALUE, VALUE | change)
    assert not same(VALUE, VALUE | change)
    assert not same(0.0, -0.0)
    assert same(torch.zeros(0, 3), torch.zeros(0, 3))
    assert same(torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.bfloat16))


def test_a_hostile_pickle_runs_where_it_is_loaded_freely(tmp_path):
    hostile = Hostile(tmp_path / "ran")
    pickle.loads(hostile.pickled())  # noqa: S301
    assert hostile.ran


def test_right_or_refused_in_one_line():
    def refuse(message: str) -> None:
        raise ChatPainterError(message)

    assert right_or_refused(lambda: 3) == (3, "")
    assert right_or_refused(lambda: refuse("a.json: wrong")) == (None, "a.json: wrong")
    for bad in ("two\nlines", "", "x" * 3000, "\ud800"):
        with pytest.raises((AssertionError, UnicodeEncodeError)):
            one_line(bad)
    with pytest.raises(KeyError):
        right_or_refused(lambda: dict[str, int]()["a"])


def recorded(values: torch.Tensor) -> dict[str, Any]:
    """As the files beside parity describe an output."""
    flat = values.flatten()
    ends = {"first": flat[:8].tolist(), "last": flat[-8:].tolist(), "mean": float(flat.mean())}
    return {"shape": list(values.shape), **ends, "std": float(flat.std(correction=0)), "abs": float(flat.abs().sum())}


WAVE = parity.wave(0, (4, 5, 6))


def test_a_record_holds_what_it_is_of() -> None:
    parity.assert_recorded(WAVE, {**recorded(WAVE), "f64": 0.0})


@pytest.mark.parametrize(
    "other",
    [
        WAVE.float(),
        WAVE.view(4, 6, 5),
        WAVE * (1 + 1e-5),
        WAVE.flip(0),
        torch.cat([WAVE.flatten()[:60] + 1e-4, WAVE.flatten()[60:]]).view(4, 5, 6),
        WAVE.flatten().index_add(0, torch.tensor([50]), torch.tensor([0.1], dtype=torch.float64)).view(4, 5, 6),
    ],
    ids=["float32", "another shape", "1e-5 larger", "turned", "half of it moved", "one in the middle"],
)
def test_a_record_refuses_another_output(other: torch.Tensor) -> None:
    with pytest.raises(AssertionError):
        parity.assert_recorded(other, {**recorded(WAVE), "f64": 1e-8})


def test_buffers_that_moved_otherwise_are_refused() -> None:
    norm = torch.nn.BatchNorm2d(2)
    record = {"running_mean_abs": 0.0, "running_var_sum": 2.0}
    parity.assert_buffers(norm, record)
    norm(torch.arange(32.0).view(2, 2, 2, 4))
    with pytest.raises(AssertionError):
        parity.assert_buffers(norm, record)
