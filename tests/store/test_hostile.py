"""Damaged and forged stores: the rows that were written, or one line. Nothing else, from any reader of a store."""

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

from store import Store
from store.cli import main
from store.errors import StoreError
from store.files import sha256_file
from store.jpeg import BLOCK, JpegWriter, open_images
from store.manifest import Manifest
from store.verify import verify_store
from tests.support.mutate import damaged_bytes, damaged_records
from tests.support.outcomes import one_line, right_or_refused
from tests.support.stores import edit_manifest, write_turns

NEW = ("lengths", "checksums", "seal")  # what the manifest of an older store lacks


@pytest.fixture(scope="module")
def turns(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    path = tmp_path_factory.mktemp("turns") / "turns"
    return path, write_turns(path, ((3, 1, 4), (2, 5)), (40,))


@pytest.fixture
def copy(turns: tuple[Path, np.ndarray], tmp_path: Path) -> Callable[[], Path]:
    """A fresh copy of the store of turns at each call."""

    def make() -> Path:
        shutil.rmtree(tmp_path / "s", ignore_errors=True)
        return Path(shutil.copytree(turns[0], tmp_path / "s"))

    return make


def rows_of(path: Path) -> np.ndarray:
    """All rows, read in every way there is; the ways agree."""
    store = Store(path)
    rows = store.take(np.arange(len(store)))
    np.testing.assert_array_equal(store.slice(0, len(store)), rows)
    lengths, first = store.lengths, store.column("row")
    assert len(lengths) == len(first) == store.index.num_rows == len(store.column("image_id"))
    for run, start, length in zip(store.runs(first, lengths), first.tolist(), lengths.tolist()):
        np.testing.assert_array_equal(run[:length], rows[start : start + length])
    return rows


def commands_of(path: Path) -> Iterator[str]:
    """What the commands say that end with a status other than 0; no traceback and no line without words."""
    for command in ("verify", "info", "head"):
        result = CliRunner().invoke(main, [command, str(path)])
        assert result.exception is None or isinstance(result.exception, SystemExit), (command, result.exception)
        lines = result.stderr.splitlines()
        assert (result.exit_code == 0) == (not lines), result.output
        assert command == "verify" or len(lines) <= 1
        yield from map(one_line, lines)


def unseal(path: Path) -> None:
    """Take away what would show any edit at once, so that what lies behind it is reached."""
    edit_manifest(path, lambda values: [values.pop(name) for name in NEW], sealed=False)
    (path / "checksums.crc32").unlink()


@pytest.mark.parametrize(
    "file", ["vectors-00000.h5", "vectors-00001.h5", "index.parquet", "checksums.crc32", "manifest.json"]
)
def test_damaged_files_give_the_rows_that_were_written_or_one_line(turns, copy, file) -> None:
    path, rows = copy(), turns[1]
    data = (path / file).read_bytes()
    refused = 0
    for name, damaged in damaged_bytes(data, count=60):
        (path / file).write_bytes(damaged)
        found, message = right_or_refused(lambda: rows_of(path))
        assert message or np.array_equal(found, rows), name
        refused += bool(message)
        # Whatever the reader does not look at, such as space between HDF5's tables, `verify` does.
        faults = [one_line(fault) for fault in verify_faults(path)]
        same = damaged == data or (file == "manifest.json" and not message)
        assert bool(faults) != same, (name, faults)
    assert refused > 10


def verify_faults(path: Path) -> list[str]:
    try:
        return list(verify_store(path))
    except StoreError as error:
        return [error.message]


@pytest.mark.parametrize("sealed", [True, False])
def test_forged_manifests_give_the_rows_that_were_written_or_one_line(turns, copy, sealed) -> None:
    path, rows = copy(), turns[1]
    if not sealed:
        unseal(path)
    values = json.loads((path / "manifest.json").read_text())
    for name, damaged in damaged_records(values, seed=1, count=250):
        (path / "manifest.json").write_text(json.dumps(damaged))
        if sealed and isinstance(damaged, dict):
            edit_manifest(path, lambda values: None)
        found, message = right_or_refused(lambda: rows_of(path))
        # A split, a kind or a corpus can be forged by whoever seals the manifest again; rows cannot.
        assert message or np.array_equal(found, rows), name
        said = list(commands_of(path))
        assert said or not message, (name, message)


def forge(path: Path, file: str = "vectors-00001.h5") -> None:
    """Make the manifest agree with what now lies in `file`, in a store that has no checksums of blocks."""

    def change(values: dict[str, Any]) -> None:
        entry = next((shard for shard in values["shards"] if shard["file"] == file), values["index"])
        entry["sha256"] = sha256_file(path / file)
        if "bytes" in entry:
            entry["bytes"] = (path / file).stat().st_size

    edit_manifest(path, change, sealed=False)


@pytest.mark.parametrize("seed", range(3))
def test_forged_shards_are_read_or_refused_in_one_line(copy, seed) -> None:
    """HDF5 that no checksum guards: other rows may come, as they were forged, and nothing else."""
    path = copy()
    unseal(path)
    shard = path / "vectors-00001.h5"
    data = shard.read_bytes()
    tables = max(np.flatnonzero(np.frombuffer(data[: 1 << 17], np.uint8)).tolist())  # where HDF5's own bytes end
    for _, damaged in damaged_bytes(data[:tables], seed=seed, count=60):
        shard.write_bytes(damaged + data[tables:])
        forge(path)
        right_or_refused(lambda: rows_of(path))
        list(commands_of(path))


def set_attribute(file: h5py.File, name: str, value: Any) -> None:
    file["vectors"].attrs[name] = value


def drop_attribute(file: h5py.File, name: str) -> None:
    del file["vectors"].attrs[name]


@pytest.mark.parametrize("file", ["vectors-00001.h5", "index.parquet", "checksums.crc32", "manifest.json"])
def test_the_command_that_makes_a_store_makes_every_damage_good_and_keeps_the_other_shard(turns, copy, file) -> None:
    path = copy()
    whole = {each.name: each.read_bytes() for each in path.iterdir()}
    written = (path / "vectors-00000.h5").stat().st_mtime_ns
    for name, damaged in damaged_bytes(whole[file], seed=5, count=25):
        (path / file).write_bytes(damaged)
        _, message = right_or_refused(lambda: write_turns(path, ((3, 1, 4), (2, 5)), (40,)))
        if message:  # beyond recognition: it might be anybody's
            assert file == "manifest.json", name
            assert "was not written by this program" in message
            assert (path / file).read_bytes() == damaged
            (path / file).unlink()
            write_turns(path, ((3, 1, 4), (2, 5)), (40,))
        assert {each.name: each.read_bytes() for each in path.iterdir()} == whole, name
        assert (path / "vectors-00000.h5").stat().st_mtime_ns == written, name


STRUCTURES: dict[str, Callable[[h5py.File], Any]] = {
    "dataset missing": lambda file: file.pop("vectors"),
    "a group": lambda file: replaced(file, lambda: file.create_group("vectors")),
    "a datatype": lambda file: replaced(file, lambda: file.__setitem__("vectors", np.dtype("f2"))),
    "a scalar": lambda file: replaced(file, lambda: file.create_dataset("vectors", data=np.float16(1))),
    "nothing": lambda file: replaced(file, lambda: file.create_dataset("vectors", data=h5py.Empty("f2"))),
    "chunked": lambda file: replaced(file, lambda: file.create_dataset("vectors", (7, 40), "f2", chunks=(1, 40))),
    "compressed": lambda file: replaced(
        file, lambda: file.create_dataset("vectors", (7, 40), "f2", chunks=(7, 40), compression="gzip")
    ),
    "a bomb": lambda file: replaced(
        file, lambda: file.create_dataset("vectors", (1 << 40, 40), "f2", chunks=(1 << 20, 40), compression="gzip")
    ),
    "not there yet": lambda file: replaced(file, lambda: file.create_dataset("vectors", (7, 40), "f2")),
    "huge and not there": lambda file: replaced(file, lambda: file.create_dataset("vectors", (1 << 50, 40), "f2")),
    "strings": lambda file: replaced(file, lambda: file.create_dataset("vectors", (7, 40), h5py.string_dtype())),
    "references": lambda file: replaced(file, lambda: file.create_dataset("vectors", (7, 40), h5py.ref_dtype)),
    "compound": lambda file: replaced(file, lambda: file.create_dataset("vectors", (7, 40), [("a", "f2")])),
    "big endian": lambda file: replaced(file, lambda: file.create_dataset("vectors", data=np.ones((7, 40), ">f2"))),
    "in another file": lambda file: replaced(
        file, lambda: file.create_dataset("vectors", (7, 40), "f2", external=[("/etc/hostname", 0, 560)])
    ),
    "a link to another file": lambda file: replaced(
        file, lambda: file.__setitem__("vectors", h5py.ExternalLink("vectors-00000.h5", "vectors"))
    ),
    "a soft link": lambda file: replaced(file, lambda: file.__setitem__("vectors", h5py.SoftLink("/other"))),
    "a link to itself": lambda file: replaced(file, lambda: file.__setitem__("vectors", h5py.SoftLink("/vectors"))),
    "virtual": lambda file: replaced(
        file, lambda: file.create_virtual_dataset("vectors", h5py.VirtualLayout((7, 40), "f2"))
    ),
    **{
        f"{name} = {value!r:.40}": partial(set_attribute, name=name, value=value)
        for name, values in {
            "first_row": (-1, 2**63 - 1, 1.5, "8", [8, 8], np.zeros(5000)),
            "rows": (0, 8, 2**62, float("nan"), "7"),
            "key": (3, "", "x" * 60_000, b"\xff\xfe", ["a"]),
            "sha256": (3, "", "0" * 64),
            "made_from": ("[]", "null", "5", "", "{", '"x"', '{"encoder": 3}', "[" * 50_000, "7" * 5000),
            "counts": ("5", '{"texts": "a"}', '{"texts": -1}', '{"texts": 1e400}', '{"texts": null}', "[1]"),
        }.items()
        for value in values
    },
    **{
        f"without {name}": partial(drop_attribute, name=name)
        for name in ("first_row", "rows", "key", "sha256", "made_from", "counts")
    },
    "another format": lambda file: file.attrs.__setitem__("format", "x"),
    "another version": lambda file: file.attrs.__setitem__("version", 2),
    "version as text": lambda file: file.attrs.__setitem__("version", "1"),
    "without format": lambda file: file.attrs.pop("format"),
}


def replaced(file: h5py.File, make: Callable[[], Any]) -> None:
    """The dataset made anew, with the attributes that it had."""
    attributes = dict(file["vectors"].attrs)
    del file["vectors"]
    make()
    if isinstance(file.get("vectors", getlink=True), h5py.HardLink):
        file["vectors"].attrs.update(attributes)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_every_other_structure_of_a_shard_is_refused_by_its_name(copy, structure) -> None:
    path = copy()
    unseal(path)
    shard = path / "vectors-00001.h5"
    with h5py.File(shard, "r+") as file:
        file["other"] = np.ones((7, 40), np.float16)
        STRUCTURES[structure](file)
    forge(path)
    if structure.startswith("sha256 = '"):
        return  # of the rows, for runs that find no manifest: the manifest's own is of the whole file
    if structure != "made_from = '{\"encoder\": 3}'":  # only verify looks that far
        with pytest.raises(StoreError) as error:
            Store(path).take([0])
        assert "vectors-00001.h5: " in one_line(error.value.message), error.value.message
    said = list(commands_of(path))
    assert any("vectors-00001.h5" in line or "counts" in line for line in said)


def index_of(**columns: Any) -> pa.Table:
    return pa.table({"row": [0, 3, 4, 8, 10], "image_id": [0, 7, 14, 21, 28], "rounds": [3, 1, 4, 2, 5], **columns})


INDEXES: dict[str, pa.Table] = {
    "fewer lines": index_of().slice(1),
    "no lines": index_of().slice(5),
    "more lines": pa.concat_tables([index_of(), index_of()]),
    "rows negative": index_of(row=[0, 3, -4, 8, 10]),
    "rows outside": index_of(row=[0, 3, 4, 8, 2**40]),
    "rows huge": index_of(row=pa.array([0, 3, 4, 8, 2**64 - 1], pa.uint64())),
    "rows null": index_of(row=[0, 3, None, 8, 10]),
    "rows text": index_of(row=list("abcde")),
    "rows float": index_of(row=[0.0, 3.0, 4.0, 8.0, float("nan")]),
    "rows nested": index_of(row=[[0], [3], [4], [8], [10]]),
    "rows missing": index_of().drop_columns("row"),
    "rounds negative": index_of(rounds=[3, 1, -4, 2, 5]),
    "rounds huge": index_of(rounds=[3, 1, 4, 2, 2**62]),
    "rounds null": index_of(rounds=[3, 1, 4, 2, None]),
    "rounds missing": index_of().drop_columns("rounds"),
    "ids null": index_of(image_id=[0, 7, None, 21, 28]),
    "ids text": index_of(image_id=list("abcde")),
    "texts of another shape": index_of(texts=["a", "b", "c", "d", "e"]),
    "texts null": index_of(texts=[["a"], None, ["c"], ["d"], ["e"]]),
    "texts null inside": index_of(texts=[["a", None, "b"], ["a"], ["a"] * 4, ["d"] * 2, ["e"] * 5]),
    "texts of numbers": index_of(texts=[[1, 2, 3], [1], [1] * 4, [1] * 2, [1] * 5]),
    "text null": index_of(text=["a", None, "c", "d", "e"]),
    "extension metadata": index_of().replace_schema_metadata({"pandas": "{", "ARROW:schema": "x"}),
}


@pytest.mark.parametrize("name", INDEXES)
def test_forged_indexes_never_lead_outside_the_rows(turns, copy, name) -> None:
    path, rows = copy(), turns[1]
    pq.write_table(INDEXES[name], path / "index.parquet")
    stated = {"sha256": sha256_file(path / "index.parquet"), "rows": INDEXES[name].num_rows}
    edit_manifest(path, lambda values: values["index"].update(stated))
    found, message = right_or_refused(lambda: rows_of(path))
    assert message or np.array_equal(found, rows)
    assert message or name in ("extension metadata", *(n for n in INDEXES if "lines" in n or "text" in n))
    if name != "extension metadata":
        assert any("index.parquet" in line for line in commands_of(path)), message


@pytest.mark.parametrize("seed", range(2))
def test_forged_parquet_is_read_or_refused_in_one_line(copy, seed) -> None:
    path = copy()
    unseal(path)
    for _, damaged in damaged_bytes((path / "index.parquet").read_bytes(), seed=seed, count=80):
        (path / "index.parquet").write_bytes(damaged)
        forge(path, "index.parquet")
        right_or_refused(lambda: rows_of(path))
        list(commands_of(path))


def test_a_small_index_that_would_fill_the_memory_is_refused_before(copy, monkeypatch) -> None:
    path = copy()
    text = ["x" * 3_000_000] * 5  # 15 MB in memory, a few kB in the file
    pq.write_table(index_of(text=text), path / "index.parquet", compression="zstd")
    assert (path / "index.parquet").stat().st_size < 20_000
    stated = {"sha256": sha256_file(path / "index.parquet")}
    edit_manifest(path, lambda values: values["index"].update(stated))
    assert Store(path).index.num_rows == 5
    monkeypatch.setattr("store.machine.available_memory", lambda: 10_000_000)
    with pytest.raises(StoreError, match=r"index\.parquet: would take more memory than there is"):
        _ = Store(path).index
    assert Store(path).column("rounds").tolist() == [3, 1, 4, 2, 5]  # without the texts it fits


@pytest.mark.parametrize(
    "name",
    ["../vectors-00001.h5", "/etc/hostname", "..\\x", "C:\\x", "", ".", "a\0b", "x" * 300, "\ud800", None, 7, []],
)
@pytest.mark.parametrize("where", ["shard", "index", "checksums"])
def test_a_name_that_leads_out_of_the_folder_is_not_followed(copy, name, where, monkeypatch) -> None:
    path = copy()
    shutil.copy(path / "vectors-00001.h5", path.parent)

    def change(values: dict[str, Any]) -> None:
        (values["shards"][1] if where == "shard" else values[where])["file"] = name

    edit_manifest(path, change)
    with pytest.raises(StoreError) as error:
        Store(path)
    assert "manifest.json: " in one_line(error.value.message)
    assert len(list(commands_of(path))) >= 3


def test_damaged_pictures_are_right_or_refused_in_one_line(tmp_path) -> None:
    import io

    random = np.random.default_rng(0)
    pictures, jpegs = [], []
    for _ in range(6):
        buffer = io.BytesIO()
        Image.fromarray(random.integers(0, 255, (48, 48, 3), np.uint8)).save(buffer, "JPEG", quality=90)
        jpegs.append(buffer.getvalue())
        with Image.open(buffer) as image:
            pictures.append(np.asarray(image))
    made_from = {"encoding": "jpeg", "size": 48}
    with JpegWriter(
        tmp_path, kind="images", split="t", shape=(BLOCK,), dtype="uint8", made_from=made_from, dataset="images"
    ) as writer:
        writer.keep([])
        writer.append(jpegs, "k")
        row, blocks = writer.runs()
        writer.commit(pa.table({"row": row, "image_id": range(6), "blocks": blocks}), lengths="blocks")
    data = (tmp_path / "images-00000.h5").read_bytes()
    refused = 0
    for name, damaged in damaged_bytes(data, seed=3, count=80):
        (tmp_path / "images-00000.h5").write_bytes(damaged)

        def read() -> np.ndarray:
            store = open_images(tmp_path)
            return store.take(store.column("row"))

        found, message = right_or_refused(read)
        assert message or np.array_equal(found, pictures), name
        refused += bool(message)
    assert refused > 20
    # Forged to fit: what a JPEG's length says is not believed beyond the store's rows.
    (tmp_path / "images-00000.h5").write_bytes(data)
    unseal(tmp_path)
    with h5py.File(tmp_path / "images-00000.h5") as file:
        offset = file["images"].id.get_offset()
    for length in (0, 3, 10**6, 2**32 - 1):
        forged = bytearray(data)
        forged[offset : offset + 4] = length.to_bytes(4, "little")
        (tmp_path / "images-00000.h5").write_bytes(forged)
        forge(tmp_path, "images-00000.h5")
        with pytest.raises(StoreError, match="no picture begins at row 0"):
            open_images(tmp_path).take([0])


def test_a_manifest_is_read_in_the_same_words_by_every_reader(copy) -> None:
    """A last look at what fuzzing cannot name: each field's type, in one line that names it."""
    path = copy()
    unseal(path)
    values = json.loads((path / "manifest.json").read_text())
    for field in ("kind", "split", "rows", "shape", "dtype", "dataset", "shards", "index", "made_from", "counts"):
        (path / "manifest.json").write_text(json.dumps({**values, field: 1.5}))
        with pytest.raises(StoreError, match=rf"manifest\.json: not a whole manifest \(manifest\.{field}: expected"):
            Manifest.read(path)
