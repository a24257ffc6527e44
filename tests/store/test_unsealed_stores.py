"""Stores without seal and checksums of blocks are read, and get both by the command that made them: no shard anew.

The two in data/ were written by the last commit whose manifests had no seal.
"""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from PIL import Image

from store import Store, StoreWriter
from store.cli import main
from store.jpeg import BLOCK, JpegWriter, open_images
from store.manifest import content_key
from store.verify import verify_store
from tests.support.stores import MADE_FROM

PACKED = Path(__file__).parent / "data" / "unsealed-stores.tar.xz"
LENGTHS = [3, 1, 10, 2, 5]


@pytest.fixture
def old(tmp_path):
    """turns/ and jpeg/ with the rows and the JPEGs that were put into them, as arrays."""
    with tarfile.open(PACKED) as packed:
        packed.extractall(tmp_path, filter="data")
    return tmp_path


def test_rows_lengths_and_texts_are_right(old):
    rows = np.load(old / "turns.npy")
    text = (old / "turns" / "manifest.json").read_bytes()
    store = Store(old / "turns")
    np.testing.assert_array_equal(store.take(np.arange(21)), rows)
    assert store.lengths.tolist() == LENGTHS
    got = store.runs(store.column("row"), store.lengths)
    np.testing.assert_array_equal(got[2], rows[4:14])
    assert store.manifest.lengths == "rounds"
    assert store.manifest.checksum == hashlib.sha256(text).hexdigest()
    assert store.index["texts"].to_pylist()[1] == ["dialogue 1 turn 0"]


def test_pictures_are_right(old):
    data, lengths = np.load(old / "jpegs.npy").tobytes(), np.load(old / "lengths.npy")
    store = open_images(old / "jpeg")
    assert store.manifest.lengths == "blocks"
    pictures = store.take(store.column("row"))
    for picture, end, length in zip(pictures, np.cumsum(lengths), lengths):
        with Image.open(io.BytesIO(data[end - length : end])) as image:
            np.testing.assert_array_equal(picture, np.asarray(image))


def test_they_are_whole_and_it_is_said_what_cannot_be_known(old):
    for name in ("turns", "jpeg"):
        assert list(verify_store(old / name)) == []
        result = CliRunner().invoke(main, ["verify", str(old / name)])
        assert result.exit_code == 0
        assert "whole" in result.output
        assert "an older store, whose manifest has no seal and whose blocks have no checksums" in result.output
        assert "an older store" in CliRunner().invoke(main, ["info", str(old / name)]).output


def test_the_command_that_made_it_keeps_every_shard_and_adds_what_is_new(old):
    before = {path.name: path.read_bytes() for path in (old / "turns").iterdir()}
    said = Store(old / "turns").index.to_pydict()
    index = pa.table({**said, "rounds": np.array(said["rounds"], np.int32)})
    texts = [text for turn in said["texts"] for text in turn]
    plan = [
        (first, count, content_key(MADE_FROM, "float16", (12,), first, texts[first : first + count]))
        for first, count in ((0, 14), (14, 7))
    ]
    with StoreWriter(
        old / "turns", kind="turns", split="t", shape=(12,), dtype="float16", made_from=MADE_FROM
    ) as writer:
        assert writer.plan(plan) == []
        writer.commit(index, lengths="rounds")
    after = {path.name: path.read_bytes() for path in (old / "turns").iterdir()}
    assert {name for name in after if after[name] != before.get(name)} == {"manifest.json", "checksums.crc32"}
    then, now = json.loads(before["manifest.json"]), json.loads(after["manifest.json"])
    assert {name: now[name] for name in then} == then
    # By this a run that was begun on the old store knows the new one for the same.
    assert Store(old / "turns").manifest.checksum == hashlib.sha256(before["manifest.json"]).hexdigest()
    store = Store(old / "turns")
    assert store.manifest.sealed
    np.testing.assert_array_equal(store.take(np.arange(21)), np.load(old / "turns.npy"))
    assert list(verify_store(old / "turns")) == []


def test_shards_of_jpegs_are_kept_too(old):
    made_from = {"corpus": "c0", "encoding": "jpeg", "quality": 95, "size": 64}
    first_file = (old / "jpeg" / "images-00000.h5").read_bytes()
    index = Store(old / "jpeg").index
    keys = [content_key(made_from, "uint8", (BLOCK,), row, names) for row, names in ((0, ["a", "b"]), (2, ["c"]))]
    with JpegWriter(
        old / "jpeg", kind="images", split="t", shape=(BLOCK,), dtype="uint8", made_from=made_from, dataset="images"
    ) as writer:
        assert writer.keep(keys) == 2
        rows, blocks = writer.runs()
        assert (rows.tolist(), blocks.tolist()) == (index["row"].to_pylist(), index["blocks"].to_pylist())
        writer.commit(pa.table(index), lengths="blocks")
    assert (old / "jpeg" / "images-00000.h5").read_bytes() == first_file
    assert list(verify_store(old / "jpeg")) == []
