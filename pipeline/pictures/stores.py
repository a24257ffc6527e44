"""One size of a split's pictures written in either of two ways: say what is wanted, write, commit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from pipeline.pictures.decode import RESAMPLING
from store.jpeg import BLOCK, JpegWriter
from store.manifest import content_key
from store.writer import StoreWriter


class SizeWriter(Protocol):
    @property
    def writer(self) -> StoreWriter: ...

    def plan(self, contents: list[list[str]]) -> list[int]:
        """Say what every shard is made from (a checksum a picture); the numbers of the shards to write."""

    def write(self, number: int, pictures: Sequence[Any]) -> None:
        """Write a shard: (size, size, 3) uint8 arrays, or the bytes of JPEGs. Shards come in ascending order."""

    def commit(self, image_ids: list[int], file_names: list[str], counts: dict[str, int]) -> None:
        """Write index and manifest, which make the store exist."""


def size_writer(path: Path, split: str, size: int, quality: int | None, corpus: str) -> SizeWriter:
    """The store of one size; `quality` None keeps pictures as they are. Its `writer` is to be entered first.

    Args:
        corpus: checksum of the corpus, for the manifest.
    """
    made_from = {"corpus": corpus, "size": size, "resampling": RESAMPLING.name.lower(), "encoding": "raw"}
    common: dict[str, Any] = {"kind": "images", "split": split, "dataset": "images", "dtype": "uint8"}
    if quality is None:
        return RawWriter(StoreWriter(path, shape=(size, size, 3), made_from=made_from, **common))
    made_from |= {"encoding": "jpeg", "quality": quality}
    return BlockWriter(JpegWriter(path, shape=(BLOCK,), made_from=made_from, **common))


class RawWriter:
    """Pictures as they are: a row a picture."""

    def __init__(self, writer: StoreWriter) -> None:
        self.writer = writer

    def plan(self, contents: list[list[str]]) -> list[int]:
        planned, first_row = [], 0
        for part in contents:
            planned.append((first_row, len(part), _key(self.writer, first_row, part)))
            first_row += len(part)
        return self.writer.plan(planned)

    def write(self, number: int, pictures: Sequence[np.ndarray]) -> None:
        self.writer.write_shard(number, np.stack(pictures))

    def commit(self, image_ids: list[int], file_names: list[str], counts: dict[str, int]) -> None:
        rows = np.arange(len(image_ids), dtype=np.int64)
        self.writer.commit(pa.table({"row": rows, "image_id": image_ids, "file_name": file_names}), counts)


class BlockWriter:
    """Pictures as JPEGs: a row a block of bytes. How many a shard takes is known only once it is made, so that a
    shard that changed has all after it made again."""

    def __init__(self, writer: JpegWriter) -> None:
        self.writer = writer
        self._keys: list[str] = []

    def plan(self, contents: list[list[str]]) -> list[int]:
        positions = np.cumsum([0, *map(len, contents)])
        self._keys = [_key(self.writer, int(first), part) for first, part in zip(positions, contents)]
        return list(range(self.writer.keep(self._keys), len(contents)))

    def write(self, number: int, pictures: Sequence[bytes]) -> None:
        self.writer.append(pictures, self._keys[number])

    def commit(self, image_ids: list[int], file_names: list[str], counts: dict[str, int]) -> None:
        rows, blocks = self.writer.runs()
        columns = {"row": rows, "image_id": image_ids, "blocks": blocks, "file_name": file_names}
        self.writer.commit(pa.table(columns), counts, lengths="blocks")


def _key(writer: StoreWriter, first_row: int, contents: list[str]) -> str:
    return content_key(writer.made_from, writer.dtype, writer.shape, first_row, contents)
