"""manifest.json: what a store holds, and from what it was made. It is written last; without it there is no store."""

import builtins
import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store.errors import ParamsError, StoreError, short
from store.files import in_words, inside, replacing
from store.typed import build

FORMAT = "chatpainter-store"
VERSION = 1
MANIFEST = "manifest.json"
INDEX = "index.parquet"
DTYPES = ("float16", "float32", "float64", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
_LARGEST = 1 << 26  # bytes of a manifest: of 200,000 shards
_MOST = 1 << 62  # rows or bytes: what numpy and the kernel can count


@dataclass(frozen=True)
class Shard:
    """One file of neighbouring rows."""

    file: str
    first_row: int
    rows: int
    bytes: int
    sha256: str  # of the whole file, as `sha256sum` prints it
    key: str  # what the rows were made from
    # CRC32 of each block of rows; of all shards together in a file of their own, not in manifest.json.
    blocks: builtins.bytes = dataclasses.field(default=b"", repr=False)

    def __post_init__(self) -> None:
        if not (0 <= self.first_row < _MOST and 0 <= self.rows < _MOST and 0 <= self.bytes < _MOST):
            raise ValueError("first_row, rows and bytes must be counts")
        _refuse_checksum(self.sha256)


@dataclass(frozen=True)
class Index:
    """The file that says which row is which."""

    file: str
    rows: int  # lines
    sha256: str

    def __post_init__(self) -> None:
        if not 0 <= self.rows < _MOST:
            raise ValueError(f"rows must be a count, not {self.rows}")
        _refuse_checksum(self.sha256)


@dataclass(frozen=True)
class Checksums:
    """The file of the blocks' checksums: of every `rows` neighbouring rows of a shard one CRC32."""

    file: str
    rows: int
    sha256: str

    def __post_init__(self) -> None:
        if not 1 <= self.rows < _MOST:
            raise ValueError(f"rows must be at least 1, not {self.rows}")
        _refuse_checksum(self.sha256)


@dataclass(frozen=True)
class Manifest:
    """`shape` is one row's. Holds no times and no host names: the same inputs give the same bytes."""

    kind: str
    split: str
    rows: int
    shape: tuple[int, ...]
    dtype: str
    dataset: str
    shards: tuple[Shard, ...]
    index: Index
    made_from: dict[str, Any]
    counts: dict[str, int]
    lengths: str | None = None  # column of the index: how many rows belong to a line; None: one
    checksums: Checksums | None = None  # None: an older store, which has none
    sealed: bool = dataclasses.field(default=True, compare=False)  # False: an older store; an edit would not be seen

    def __post_init__(self) -> None:
        """Refuse what contradicts itself; what it says of files is compared with them as they are read."""
        refuse_rows(self.dataset, self.shape, self.dtype)
        expected = 0
        for shard in self.shards:
            if shard.first_row != expected:
                raise ValueError(f"its shards do not follow each other: {short(shard.file)}")
            if shard.bytes < shard.rows * self.row_bytes:
                raise ValueError(f"{short(shard.file)} is said to be smaller than its rows")
            expected += shard.rows
        if expected != self.rows:
            raise ValueError(f"its shards do not follow each other from row 0 to {self.rows:,}")
        names = [shard.file for shard in self.shards]
        if len(set(names)) != len(names):
            raise ValueError("two shards are one file")
        if any(count < 0 for count in self.counts.values()):
            raise ValueError("counts cannot be negative")
        for name in ("encoder", "text"):
            if not isinstance(self.made_from.get(name, {}), dict):
                raise ValueError(f"made_from.{name} should be a mapping, not {short(self.made_from[name])}")

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return _row_bytes(self.shape, self.dtype)

    def write(self, folder: Path) -> None:
        """Commit the store: the last file to appear, and only where its bytes are new."""
        text = self.text().encode()
        path = folder / MANIFEST
        if path.is_file() and path.read_bytes() == text:
            return
        with replacing(path) as temporary:
            temporary.write_bytes(text)

    def text(self) -> str:
        """The file's content."""
        values = self._values()
        return _written({**values, "seal": seal(values)})

    @property
    def checksum(self) -> str:
        """sha256 of what is said of rows, index and origin: the same before and after an older store got its seal."""
        values = self._values()
        del values["lengths"], values["checksums"]
        return hashlib.sha256(_written(values).encode()).hexdigest()

    def _values(self) -> dict[str, Any]:
        values = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}
        del values["sealed"]
        for shard in values["shards"]:
            del shard["blocks"]
        return values

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """The manifest of the store in `folder`.

        Raises:
            StoreError: there is none, it is not JSON, not ours, of another version, lacks a field, contradicts itself,
                or was edited.
        """
        path = folder / MANIFEST
        values = _read_json(path, folder)
        found = values.pop("format"), values.pop("version")
        if found != (FORMAT, VERSION) or type(found[1]) is not int:
            raise StoreError(
                f"{path}: {short(found[0])} version {short(found[1])}, but this program reads {FORMAT} version "
                f"{VERSION}; make the store again or use the program that wrote it"
            )
        stated = values.pop("seal", None)
        new = {"lengths", "checksums"} & values.keys()
        if (stated is not None or new) and stated != seal({"format": FORMAT, "version": VERSION, **values}):
            raise StoreError(f"{path}: was edited after it was written (its seal differs); make the store again")
        if "lengths" not in values:
            values["lengths"] = _lengths_of_old(folder, values)
        try:
            for part in (values.get("index"), values.get("checksums"), *_listed(values.get("shards"))):
                if isinstance(part, dict) and "file" in part:
                    inside(folder, part["file"], path)
                    part.pop("blocks", None)
            return dataclasses.replace(build(cls, values, "manifest"), sealed=stated is not None)
        except ParamsError as error:
            raise StoreError(f"{path}: not a whole manifest ({error.message}); make the store again") from None


def refuse_rows(dataset: str, shape: Sequence[int], dtype: str) -> None:
    """Raise ValueError where a store cannot have rows of this shape and dtype in datasets of this name."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype {short(dtype)} is none that a store can have")
    if any(not 1 <= size < _MOST for size in shape) or _row_bytes(shape, dtype) >= _MOST:
        raise ValueError(f"shape {short(shape)} is no row's")
    if not re.fullmatch(r"\w{1,100}", dataset):
        raise ValueError(f"dataset {short(dataset)} should be one word")


def _row_bytes(shape: Sequence[int], dtype: str) -> int:
    return math.prod(shape) * int(re.sub(r"\D", "", dtype)) // 8


def _written(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=1) + "\n"


def seal(values: Mapping[str, Any]) -> str:
    """The manifest's own checksum: of all its other entries, as JSON with sorted keys and without white space."""
    text = json.dumps({**values}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _read_json(path: Path, folder: Path) -> dict[str, Any]:
    if not path.is_file():
        if not folder.is_dir():
            raise StoreError(f"{folder}: no such folder; a store is expected here")
        raise StoreError(f"{folder}: no {MANIFEST}, so no finished store; run the command that makes it (again)")
    with in_words(path):
        size = path.stat().st_size
        data = path.read_bytes() if size <= _LARGEST else b""
    if size > _LARGEST:
        raise StoreError(f"{path}: not a store's manifest ({size:,} bytes); make the store again")
    try:
        values = json.loads(data.decode())
        json.dumps(values, ensure_ascii=False).encode()  # lone surrogates can be in no message and no file's name
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or not {"format", "version"} <= values.keys():
        raise StoreError(f"{path}: not a store's manifest; make the store again")
    return values


def _lengths_of_old(folder: Path, values: Mapping[str, Any]) -> str | None:
    """The column of lengths of an older store, whose manifest does not name it: it had one of two names."""
    import pyarrow.parquet

    try:
        columns = pyarrow.parquet.read_schema(inside(folder, values["index"]["file"])).names
    except (KeyError, TypeError, StoreError, OSError, pyarrow.ArrowException):
        return None  # whoever reads the index is told what is wrong with it
    return next((name for name in ("rounds", "blocks") if name in columns), None)


def _listed(values: Any) -> list[Any]:
    return values if isinstance(values, list) else []


def _refuse_checksum(text: str) -> None:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise ValueError(f"{short(text)} is no sha256")


def content_key(
    made_from: Mapping[str, Any], dtype: str, shape: Sequence[int], first_row: int, contents: Iterable[str]
) -> str:
    """What a shard's rows depend on, as one checksum: equal keys mean equal bytes.

    Args:
        made_from: encoder identity and switches; its entry `corpus` is left out, since a shard does not depend on
            what other shards hold.
        dtype, shape: of one row as stored.
        first_row: where the shard begins in the store.
        contents: the texts (or the checksums of the files) of the shard's rows, in order.
    """
    about = [FORMAT, VERSION, dtype, list(shape), first_row, shard_origin(made_from)]
    parts = bytearray(json.dumps(about, sort_keys=True).encode())
    for content in contents:
        data = content.encode("utf-8", "surrogatepass")
        parts += len(data).to_bytes(8, "little")
        parts += data
    return hashlib.sha256(parts).hexdigest()


def shard_origin(made_from: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `made_from` that a single shard depends on."""
    return {name: value for name, value in made_from.items() if name != "corpus"}
