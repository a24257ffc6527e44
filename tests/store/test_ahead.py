"""A store that memory cannot hold: each batch is asked of the disk first, and its rows are the same."""

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store import Store, StoreError, ahead, machine
from store.checksums import block_rows
from tests.support.stores import write_store

ROWS, WIDTH = 3000, 100  # of float16: blocks of 256 rows
VECTORS = np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype(np.float16)


class Recorder:
    """Stands where libc does, and keeps what was asked: (advice, address, bytes)."""

    def __init__(self, libc: Any) -> None:
        self.libc = libc
        self.asked: list[tuple[int, int, int]] = []

    def madvise(self, address: int, size: int, advice: int) -> int:
        self.asked.append((advice, address, size))
        return int(self.libc.madvise(address, size, advice))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    recorder = Recorder(ahead.libc)
    monkeypatch.setattr(ahead, "libc", recorder)
    return recorder.asked


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_store(tmp_path / "store", VECTORS, {"row": range(ROWS)}, shards=3)
    return tmp_path / "store"


@pytest.fixture
def large(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(machine, "memory", lambda: VECTORS.nbytes)
    return Store(folder)


def covered(store: Store, asked: list[tuple[int, int, int]]) -> set[int]:
    """Rows of which every byte was asked for."""
    data, where, *_ = store._mapped()
    ranges = [(at, at + size) for advice, at, size in asked if advice == mmap.MADV_WILLNEED]
    begins = data.ctypes.data + where * 2 * WIDTH
    return {
        row
        for row, begin in enumerate(begins.tolist())
        if any(first <= begin and begin + 2 * WIDTH <= end for first, end in ranges)
    }


def test_rows_runs_and_slices_are_asked_for_and_the_same(large: Store, asked: list[tuple[int, int, int]]) -> None:
    rows = np.array([2999, 5, 1700])
    np.testing.assert_array_equal(large.take(rows), VECTORS[rows])
    assert covered(large, asked) >= set(rows.tolist())
    asked.clear()
    runs = large.runs([990, 2000], [10, 4])
    np.testing.assert_array_equal(runs[0], VECTORS[990:1000])
    np.testing.assert_array_equal(runs[1, :4], VECTORS[2000:2004])
    assert covered(large, asked) >= {*range(990, 1000), *range(2000, 2004)}
    asked.clear()
    np.testing.assert_array_equal(large.slice(100, 300), VECTORS[100:300])
    assert covered(large, asked) >= set(range(100, 300))
    np.testing.assert_array_equal(large.slice(900, 1100), VECTORS[900:1100])  # over the end of a shard


def test_a_whole_block_is_asked_for_before_it_is_compared(large: Store, asked: list[tuple[int, int, int]]) -> None:
    block = block_rows(2 * WIDTH)
    large.take([0])
    assert covered(large, asked) >= set(range(block))
    asked.clear()
    large.take([1])
    assert covered(large, asked) < set(range(block)), "compared once"


def test_the_kernel_is_told_not_to_guess_and_asked_by_the_page(large: Store, asked: list[tuple[int, int, int]]) -> None:
    large.take([7])
    (advice, begin, size), *rest = asked
    data, *_ = large._mapped()
    assert (advice, begin, size) == (mmap.MADV_RANDOM, data.ctypes.data, data.nbytes)
    assert rest
    assert all(at % mmap.PAGESIZE == 0 and length > 0 for _, at, length in rest)


def test_damage_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = folder / Store(folder).manifest.shards[1].file
    content = bytearray(shard.read_bytes())
    place = content.index(VECTORS[1500].tobytes())
    content[place] ^= 1
    shard.write_bytes(content)
    monkeypatch.setattr(machine, "memory", lambda: VECTORS.nbytes)
    store = Store(folder)
    np.testing.assert_array_equal(store.take([999]), VECTORS[[999]])
    with pytest.raises(StoreError, match=rf"{shard.name}: damaged \(checksum differs, rows 1,256 to 1,511\)"):
        store.take([1511])


def test_a_store_that_fits_is_not_asked_for(folder: Path, asked: list[tuple[int, int, int]]) -> None:
    np.testing.assert_array_equal(Store(folder).take([3]), VECTORS[[3]])
    assert not asked


def test_a_system_without_such_advice_reads_the_same(large: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(mmap, "MADV_RANDOM")
    monkeypatch.delattr(mmap, "MADV_WILLNEED")
    np.testing.assert_array_equal(large.take([3, 2000]), VECTORS[[3, 2000]])
