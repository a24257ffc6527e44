"""Whoever reads a damaged row is told, at the first touch; whoever reads other rows gets them."""

import json
import threading
import zlib
from functools import partial

import h5py
import numpy as np
import pytest

from store import Store, StoreError, checksums
from store.checksums import block_rows
from store.verify import verify_store
from tests.support.mutate import flip
from tests.support.stores import edit_manifest, write_turns

# 13 rows of 20,000 bytes: blocks of 2 rows, the last of each shard shorter; a run lies in up to five.
LENGTHS, SHAPE = ((2, 3, 4), (1, 3)), (10_000,)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "turns"
    return path, write_turns(path, LENGTHS, SHAPE)


@pytest.fixture
def damaged(whole, tmp_path):
    """damaged(row, place, bit): the store with one bit of a row flipped, its size and its header as before."""
    path, rows = whole

    def damage(row, place, bit):
        folder = tmp_path / f"{row}-{place}-{bit}"
        folder.mkdir()
        for file in path.iterdir():
            (folder / file.name).symlink_to(file)
        shard = next(each for each in Store(path).manifest.shards if row < each.first_row + each.rows)
        with h5py.File(path / shard.file) as file:
            offset = file["vectors"].id.get_offset()
        start = offset + (row - shard.first_row) * rows[0].nbytes
        (folder / shard.file).unlink()
        (folder / shard.file).write_bytes(flip((path / shard.file).read_bytes(), start + place, bit))
        return folder

    return damage


@pytest.mark.parametrize(
    ("row_bytes", "rows"),
    [(2, 32768), (2048, 32), (9600, 4), (17328, 2), (1024, 64), (65536, 1), (277248, 1), (6, 8192)],
)
def test_a_block_is_the_largest_power_of_two_of_rows_in_64_kib(row_bytes, rows):
    assert block_rows(row_bytes) == rows


def test_the_file_holds_the_crc32_of_every_block_as_the_specification_says(whole):
    path, _ = whole
    manifest = json.loads((path / "manifest.json").read_text())
    per_block = manifest["checksums"]["rows"]
    assert per_block == 2
    expected = []
    for shard in manifest["shards"]:
        with h5py.File(path / shard["file"]) as file:
            for start in range(0, shard["rows"], per_block):
                expected.append(zlib.crc32(file["vectors"][start : start + per_block].tobytes()))
    assert np.fromfile(path / "checksums.crc32", "<u4").tolist() == expected
    assert len(expected) == 5 + 2


@pytest.mark.parametrize("seed", range(60))
def test_every_flipped_bit_of_a_row_is_found_when_its_block_is_read_and_other_rows_are_right(whole, damaged, seed):
    _, rows = whole
    random = np.random.default_rng(seed)
    row, place, bit = int(random.integers(13)), int(random.integers(20_000)), int(random.integers(8))
    first = row - row % 2 if row < 9 else 9 + (row - 9) // 2 * 2
    last = min(first + 1, 8 if row < 9 else 12)
    folder = damaged(row, place, bit)
    message = rf"vectors-0000{int(row >= 9)}\.h5: damaged \(checksum differs, rows {first} to {last}\); run the command"
    others = np.delete(np.arange(13), np.arange(first, last + 1))
    store = Store(folder)
    np.testing.assert_array_equal(store.take(others), rows[others])
    for read in (
        lambda: store.take([row]),
        lambda: store.take([row - 13]),
        lambda: store.slice(row, row + 1),
        lambda: store.slice(0, 13),
        lambda: store.take([0, 12, row]),
    ):
        for _ in range(2):  # and again: it stays refused
            with pytest.raises(StoreError, match=message):
                read()
    firsts, lengths = store.column("row"), store.lengths
    for start, length in zip(firsts.tolist(), lengths.tolist()):
        touches = set(range(start, start + length)) & set(range(first, last + 1))
        fresh = Store(folder)
        if touches:
            with pytest.raises(StoreError, match=message):
                fresh.runs([start], [length])
        else:
            np.testing.assert_array_equal(fresh.runs([start], [length])[0], rows[start : start + length])


def test_a_run_over_many_blocks_is_compared_in_the_middle_too(tmp_path):
    write_turns(tmp_path, ((9, 2),), SHAPE)
    shard = tmp_path / "vectors-00000.h5"
    with h5py.File(shard) as file:
        offset = file["vectors"].id.get_offset()
    shard.write_bytes(flip(shard.read_bytes(), offset + 4 * 20_000 + 5))
    with pytest.raises(StoreError, match="rows 4 to 5"):
        Store(tmp_path).runs([0, 9], [9, 2])
    assert Store(tmp_path).runs([9], [2]).shape == (1, 2, 10_000)


def test_each_block_is_compared_once_and_nothing_is_left_to_do(whole, monkeypatch):
    path, rows = whole
    compared: list[int] = []
    real = zlib.crc32

    def crc32(data):
        compared.append(len(data))
        return real(data)

    monkeypatch.setattr(checksums.zlib, "crc32", crc32)
    store = Store(path)
    assert not compared
    for _ in range(3):
        np.testing.assert_array_equal(store.take(np.arange(13)), rows)
        store.runs(store.column("row"), store.lengths)
        store.slice(0, 9)
    assert sorted(compared) == [20_000] * 1 + [40_000] * 6
    monkeypatch.setattr(checksums.Blocks, "touch", lambda self, *rows: pytest.fail("compared again"))
    store.take([3])


def test_threads_that_come_first_at_once_are_all_told(damaged):
    store = Store(damaged(3, 77, 1))
    start, told = threading.Barrier(8), []

    def read():
        start.wait()
        try:
            store.take(np.arange(13))
        except StoreError as error:
            told.append(error.message)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 8
    assert all("rows 2 to 3" in message for message in told)


@pytest.mark.parametrize("change", ["missing", "shorter", "flipped", "another"])
def test_checksums_that_are_not_the_store_s_are_refused_by_name(tmp_path, change):
    write_turns(tmp_path, LENGTHS, SHAPE)
    path = tmp_path / "checksums.crc32"
    data = path.read_bytes()
    if change == "missing":
        path.unlink()
    else:
        path.write_bytes({"shorter": data[:-4], "flipped": flip(data, 5), "another": bytes(len(data))}[change])
    store = Store(tmp_path)
    with pytest.raises(StoreError, match=r"checksums\.crc32: (missing|damaged or not this store's)"):
        store.take([0])
    assert len(list(verify_store(tmp_path))) == 1


def set_rows(values, rows):
    values["checksums"]["rows"] = rows


def test_more_or_fewer_checksums_than_blocks_are_refused(tmp_path):
    write_turns(tmp_path, LENGTHS, SHAPE)
    for rows in (1, 3, 2**61):
        edit_manifest(tmp_path, partial(set_rows, rows=rows))
        with pytest.raises(StoreError, match=r"checksums\.crc32: 28 bytes where .* blocks need 4 each"):
            Store(tmp_path).take([0])
