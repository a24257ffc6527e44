"""export: what numpy and pyarrow read of it is what the store holds."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from store import Store, StoreError
from store.cli import main
from store.export import export
from store.shards import read_header
from tests.support.folders import content
from tests.support.stores import MADE_FROM, write_store


@pytest.mark.parametrize("block", [1, 100, 1 << 20])
@pytest.mark.parametrize(("shape", "dtype"), [((5,), "float16"), ((3, 2), "float32"), ((2, 2, 3), "uint8")])
def test_rows_of_any_kind_are_mapped_by_numpy(
    tmp_path: Path, make_store, block: int, shape: tuple[int, ...], dtype: str
) -> None:
    rows = make_store(tmp_path / "s", shape=shape, dtype=dtype)
    export(Store(tmp_path / "s"), tmp_path / "out", block_bytes=block)
    mapped = np.load(tmp_path / "out" / "rows.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    assert (mapped.dtype, mapped.shape) == (np.dtype(dtype), rows.shape)
    np.testing.assert_array_equal(mapped, rows)


def test_the_index_says_where_each_dialogue_lies(tmp_path: Path, make_store) -> None:
    rows = make_store(tmp_path / "s")
    done = CliRunner().invoke(main, ["export", str(tmp_path / "s"), "--out", str(tmp_path / "a/b")])
    assert done.exit_code == 0, done.output
    assert "rows.npy: (21, 12) float16; " in done.output
    assert "index.parquet: 5 lines" in done.output
    table = pq.read_table(tmp_path / "a/b/index.parquet")
    assert table.column_names == ["row", "length", "image_id", "rounds", "texts"]
    lines = table.to_pylist()
    assert [line["length"] for line in lines] == [3, 1, 10, 2, 5]
    mapped = np.load(tmp_path / "a/b/rows.npy", mmap_mode="r")
    third = lines[2]
    np.testing.assert_array_equal(mapped[third["row"] : third["row"] + third["length"]], rows[4:14])
    about = json.loads(table.schema.metadata[b"chatpainter"])
    assert (about["kind"], about["split"], about["made_from"]) == ("turns", "t", MADE_FROM)


def test_lines_of_no_rows_and_of_one_have_their_length(tmp_path: Path) -> None:
    rows = np.arange(8, dtype=np.float32).reshape(4, 2)
    write_store(tmp_path / "ragged", rows, {"row": [0, 3, 3], "image_id": [5, 6, 7], "objects": [3, 0, 1]},
                kind="objects", shards=1, lengths="objects")  # fmt: skip
    write_store(tmp_path / "plain", rows, {"row": range(4), "image_id": range(4)}, kind="captions")
    for name, lengths in (("ragged", [3, 0, 1]), ("plain", [1, 1, 1, 1])):
        export(Store(tmp_path / name), tmp_path / f"{name}.out")
        assert pq.read_table(tmp_path / f"{name}.out/index.parquet")["length"].to_pylist() == lengths


def test_what_is_there_is_never_touched(tmp_path: Path, make_store) -> None:
    make_store(tmp_path / "s")
    (tmp_path / "out").mkdir()
    export(Store(tmp_path / "s"), tmp_path / "out")  # an empty folder may be there
    before = content(tmp_path / "out")
    with pytest.raises(StoreError, match="is there already; name another folder"):
        export(Store(tmp_path / "s"), tmp_path / "out")
    assert content(tmp_path / "out") == before


def test_a_damaged_store_leaves_nothing_behind(tmp_path: Path, make_store) -> None:
    make_store(tmp_path / "s")
    shard = tmp_path / "s/vectors-00001.h5"
    whole = bytearray(shard.read_bytes())
    whole[read_header(shard, "vectors").offset] ^= 1
    shard.write_bytes(whole)
    with pytest.raises(StoreError, match="vectors-00001"):
        export(Store(tmp_path / "s"), tmp_path / "out", block_bytes=64)
    assert os.listdir(tmp_path) == ["s"]
