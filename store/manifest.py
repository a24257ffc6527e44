"""manifest.json: what a store holds, and from what it was made. It is written last; without it there is no store."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store.errors import StoreError
from store.files import in_words, replacing

FORMAT = "chatpainter-store"
VERSION = 1
MANIFEST = "manifest.json"
INDEX = "index.parquet"


@dataclass(frozen=True)
class Shard:
    """One file of neighbouring rows."""

    file: str
    first_row: int
    rows: int
    bytes: int
    sha256: str  # of the whole file, as `sha256sum` prints it
    key: str  # what the rows were made from


@dataclass(frozen=True)
class Index:
    file: str
    rows: int
    sha256: str


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

    def write(self, folder: Path) -> None:
        """Commit the store: the last file to appear, and only where its bytes are new."""
        text = self.text().encode()
        path = folder / MANIFEST
        if path.is_file() and path.read_bytes() == text:
            return
        with replacing(path) as temporary:
            temporary.write_bytes(text)

    def text(self) -> str:
        return json.dumps({"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}, indent=1) + "\n"

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """The manifest of the store in `folder`.

        Raises:
            StoreError: there is none, it is not JSON, not ours, of another version, or lacks a field.
        """
        path = folder / MANIFEST
        if not path.is_file():
            if not folder.is_dir():
                raise StoreError(f"{folder}: no such folder; a store is expected here")
            raise StoreError(f"{folder}: no {MANIFEST}, so no finished store; run the command that makes it (again)")
        with in_words(path):
            text = path.read_text(encoding="utf-8", errors="replace")
        try:
            values = json.loads(text)
            found = values.pop("format"), values.pop("version")
        except (ValueError, KeyError, AttributeError, TypeError):
            raise StoreError(f"{path}: not a store's manifest; make the store again") from None
        if found != (FORMAT, VERSION):
            raise StoreError(
                f"{path}: {found[0]} version {found[1]}, but this program reads {FORMAT} version {VERSION}; "
                "make the store again or use the program that wrote it"
            )
        try:
            return cls(
                **{
                    **values,
                    "shape": tuple(values["shape"]),
                    "shards": tuple(Shard(**shard) for shard in values["shards"]),
                    "index": Index(**values["index"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise StoreError(f"{path}: not a whole manifest ({error}); make the store again") from None


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
