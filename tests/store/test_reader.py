"""Store: the rows that were written, however they are asked for and by whom."""

import contextlib
import mmap
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import Store, StoreError
from store.reader import Store as ReaderStore


@pytest.mark.parametrize(
    ("shape", "dtype", "dataset"),
    [
        ((12,), "float16", "vectors"),
        ((333,), "float32", "vectors"),
        ((5, 5, 3), "uint8", "images"),
        ((1,), "float16", "v"),
    ],
)
def test_rows_come_back_whatever_their_shape_and_dtype(tmp_path, make_store, shape, dtype, dataset):
    rows = make_store(tmp_path, shape=shape, dtype=dtype, dataset=dataset)
    store = Store(tmp_path)
    assert (len(store), store.shape, store.dtype) == (len(rows), shape, np.dtype(dtype))
    order = np.random.default_rng(1).permutation(len(rows))
    np.testing.assert_array_equal(store.take(order), rows[order])
    np.testing.assert_array_equal(store.slice(0, len(rows)), rows)
    out = np.empty((4, *shape), dtype)
    assert store.take([20, 0, 13, 14], out) is out
    np.testing.assert_array_equal(out, rows[[20, 0, 13, 14]])


@pytest.mark.parametrize("locking", [None, True, False, "best-effort"])
def test_a_shard_that_the_process_has_open_otherwise_is_read(tmp_path, make_store, locking):
    rows = make_store(tmp_path)
    with contextlib.ExitStack() as opened:
        for path in tmp_path.glob("vectors-*.h5"):
            opened.enter_context(h5py.File(path, "r", locking=locking))
        np.testing.assert_array_equal(Store(tmp_path).slice(0, len(rows)), rows)


@given(data=st.data())
def test_any_shards_any_rows_any_runs(tmp_path_factory, make_store, data):
    lengths = data.draw(st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=5), min_size=1, max_size=5))
    width = data.draw(st.sampled_from([1, 3, 64]))
    path = tmp_path_factory.mktemp("any")
    rows = make_store(path, lengths, (width,))
    store = Store(path)
    asked = data.draw(st.lists(st.integers(-len(rows), len(rows) - 1), max_size=9))
    np.testing.assert_array_equal(store.take(asked), rows[np.array(asked, int)])
    start, stop = data.draw(st.integers(0, len(rows))), data.draw(st.integers(0, len(rows)))
    np.testing.assert_array_equal(store.slice(start, stop), rows[start:stop])
    first, counts = store.column("row"), store.column("rounds")
    chosen = data.draw(st.lists(st.integers(0, len(first) - 1), min_size=1, max_size=8))
    got = store.runs(first[chosen], counts[chosen])
    assert got.shape == (len(chosen), counts[chosen].max(), width)
    for run, dialogue in zip(got, chosen):
        count = counts[dialogue]
        np.testing.assert_array_equal(run[:count], rows[first[dialogue] :][:count])
        assert not run[count:].any()


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("width", [1, 333, 4800])
def test_dialogues_of_equal_length_wherever_they_begin(tmp_path, make_store, before, width):
    """Ten rounds each, as in VisDial, over several shards; with a shorter one before them, off the multiples of ten."""
    rows = make_store(tmp_path, ([10] * 4, [before, *[10] * 3] if before else [10], [10] * 2), (width,))
    store = Store(tmp_path)
    first = store.column("row")[store.column("rounds") == 10]
    chosen = np.random.default_rng(0).permutation(np.repeat(first, 2))
    out = np.empty((len(chosen), 10, width), np.float16)
    store.runs(chosen, np.full(len(chosen), 10), out)
    np.testing.assert_array_equal(out, rows[chosen[:, None] + np.arange(10)])
    assert store.runs(first[:2], [0, 0]).shape == (2, 0, width)


def test_runs_fill_the_buffer_they_are_given(tmp_path, make_store):
    rows = make_store(tmp_path)
    out = np.full((3, 11, 12), 9, np.float16)
    got = Store(tmp_path).runs([0, 14, 4], [3, 0, 10], out)
    assert got.base is out or got is out
    np.testing.assert_array_equal(got[0, :3], rows[:3])
    np.testing.assert_array_equal(got[2, :10], rows[4:14])
    assert not got[0, 3:].any()
    assert not got[1].any()
    assert not got[2, 10:].any()
    with pytest.raises(ValueError, match="runs of up to 10"):
        Store(tmp_path).runs([4], [10], np.empty((1, 9, 12), np.float16))


def test_positions_outside_the_store_are_refused(tmp_path, make_store):
    rows = make_store(tmp_path)
    store = Store(tmp_path)
    for wrong in (lambda: store.take([len(rows)]), lambda: store.runs([len(rows) - 1], [2]), lambda: store.take([-99])):
        with pytest.raises(IndexError):
            wrong()
    with pytest.raises(IndexError, match="one shard"):
        store.runs([13], [2])  # rows 13 and 14 lie in two shards


def test_a_slice_in_one_shard_is_the_file_itself_and_cannot_be_written(tmp_path, make_store):
    make_store(tmp_path)
    store = Store(tmp_path)
    part = store.slice(2, 9)
    assert np.shares_memory(part, store.slice(0, 14))
    with pytest.raises(ValueError, match="read-only"):
        part[0] = 0


def test_making_a_store_opens_no_shard(tmp_path, make_store, monkeypatch):
    make_store(tmp_path)
    monkeypatch.setattr(ReaderStore, "_map", lambda self: pytest.fail("mapped before a row was read"))
    store = Store(tmp_path)
    assert (len(store), store.kind, store.index.num_rows, store.identity["encoder"]["name"]) == (21, "turns", 5, "test")
    assert "21 turns" in repr(store)


def test_a_pickle_carries_the_path_and_not_the_rows(tmp_path, make_store):
    rows = make_store(tmp_path, [[10] * 2000], (12,))
    store = Store(tmp_path)
    store.take([0])
    pickled = pickle.dumps(store)
    assert len(pickled) < 3000
    np.testing.assert_array_equal(pickle.loads(pickled).take([5, 19999]), rows[[5, 19999]])  # noqa: S301


def _read_in_child(store: Store, rows: np.ndarray, seed: int, results: "multiprocessing.Queue") -> None:
    order = np.random.default_rng(seed).integers(0, len(rows), (50, 16))
    results.put(all((store.take(batch) == rows[batch]).all() for batch in order) and store.index.num_rows == 5)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("opened_before", [True, False])
def test_reading_after_fork(tmp_path, make_store, opened_before):
    rows = make_store(tmp_path)
    store = Store(tmp_path)
    if opened_before:
        store.take([0])
        assert store.index.num_rows == 5
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    children = [context.Process(target=_read_in_child, args=(store, rows, seed, results)) for seed in range(3)]
    for child in children:
        child.start()
    assert [results.get(timeout=300) for _ in children] == [True] * 3
    for child in children:
        child.join(300)
        assert child.exitcode == 0


def test_reading_in_threads_that_come_first_at_once(tmp_path, make_store):
    rows = make_store(tmp_path)
    store = Store(tmp_path)
    start = threading.Barrier(8)
    failures: list[int] = []

    def read(seed: int) -> None:
        order = np.random.default_rng(seed).integers(0, len(rows), (200, 16))
        start.wait()
        failures.extend(seed for batch in order if not (store.take(batch) == rows[batch]).all())

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_maps_are_given_back(tmp_path, make_store):
    rows = make_store(tmp_path)

    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count(str(tmp_path))

    if not Path("/proc/self/maps").exists():
        pytest.skip("needs /proc")
    store = Store(tmp_path)
    view = store.slice(0, 3)
    assert mapped() == 2
    del store
    np.testing.assert_array_equal(view, rows[:3])  # a view keeps what it shows
    del view
    assert mapped() == 0


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="only Linux reads files in huge pages")
@pytest.mark.parametrize(("memory", "asked"), [(1 << 40, True), (1000, False)])
def test_huge_pages_are_asked_for_where_the_store_fits_into_memory(tmp_path, make_store, monkeypatch, memory, asked):
    rows = make_store(tmp_path / "s")
    monkeypatch.setattr("store.machine.memory", lambda: memory)
    store = Store(tmp_path / "s")
    np.testing.assert_array_equal(store.slice(0, len(rows)), rows)
    maps = Path("/proc/self/smaps").read_text().split(str(tmp_path))[1:]
    flags = [re.search("^VmFlags:(.*)", one, re.MULTILINE)[1].split() for one in maps]
    assert len(flags) == 2
    assert ["hg" in each for each in flags] == [asked, asked]


def test_reading_from_a_folder_that_cannot_be_written(tmp_path, make_store):
    rows = make_store(tmp_path / "s")
    for path in (tmp_path / "s").iterdir():
        path.chmod(0o444)
    (tmp_path / "s").chmod(0o555)
    try:
        np.testing.assert_array_equal(Store(tmp_path / "s", verify=True).take([3, 20]), rows[[3, 20]])
    finally:
        (tmp_path / "s").chmod(0o755)


def test_reading_from_a_read_only_mount(tmp_path, make_store):
    rows = make_store(tmp_path / "s")
    mount = tmp_path / "mount"
    mount.mkdir()
    script = (
        f"mount --bind {tmp_path / 's'} {mount} && mount -o remount,bind,ro {mount} && "
        f"! touch {mount}/x 2>/dev/null && "
        f"{sys.executable} -c \"from store import Store; print(float(Store('{mount}', verify=True).take([20])[0, 3]))\""
    )
    made = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})  # fmt: skip
    if made.returncode and any(word in made.stderr for word in ("permitted", "denied", "unshare")):
        pytest.skip("may not mount here")
    assert made.returncode == 0, made.stderr
    assert float(made.stdout) == float(rows[20, 3])


@pytest.mark.parametrize("kind", ["missing", "truncated", "longer", "not hdf5", "another", "no index", "index"])
def test_a_store_that_is_not_whole_is_refused_by_name(tmp_path, make_store, kind):
    make_store(tmp_path)
    shard, index = tmp_path / "vectors-00001.h5", tmp_path / "index.parquet"
    size = shard.stat().st_size
    match kind:
        case "missing":
            shard.unlink()
        case "truncated":
            os.truncate(shard, size - 1)
        case "longer":
            os.truncate(shard, size + 1)
        case "not hdf5":
            shard.write_bytes(bytes(size))
        case "another":
            make_store(tmp_path / "other", seed=1, made_from={"encoder": {"name": "another"}})
            shard.write_bytes((tmp_path / "other" / shard.name).read_bytes().ljust(size, b"\0")[:size])
        case "no index":
            index.unlink()
        case "index":
            index.write_bytes(index.read_bytes()[:-1] + b"?")
    expected = "index.parquet" if "index" in kind else "vectors-00001.h5"

    def read_all() -> None:
        store = Store(tmp_path)
        store.take([0])
        assert store.index.num_rows == 5

    with pytest.raises(StoreError, match=expected) as caught:
        read_all()
    assert "again" in caught.value.message
    assert "\n" not in caught.value.message


def test_a_flipped_bit_is_refused_when_asked(tmp_path, make_store):
    make_store(tmp_path)
    shard = tmp_path / "vectors-00001.h5"
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    shard.write_bytes(content)
    Store(tmp_path).take([0])
    with pytest.raises(StoreError, match=r"vectors-00001\.h5: damaged"):
        Store(tmp_path, verify=True)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"version": 1', '"version": 2', "version 2, but this program reads chatpainter-store version 1"),
        ('"chatpainter-store"', '"something"', "'something' version 1"),
        ('"rows":', '"ros":', "was edited after it was written"),
        ("{", "", "not a store's manifest"),
    ],
)
def test_a_manifest_that_cannot_be_understood(tmp_path, make_store, old, new, message):
    make_store(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(StoreError, match=message):
        Store(tmp_path)


def test_no_store_there(tmp_path):
    with pytest.raises(StoreError, match=r"no manifest\.json"):
        Store(tmp_path)
    with pytest.raises(StoreError, match="no such folder"):
        Store(tmp_path / "nowhere")
