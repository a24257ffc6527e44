"""Stores of JPEGs: pictures of one size, compressed, in the same shards as everything else.

A row is a block of `BLOCK` bytes and a picture is a run of blocks: four bytes that say how long the JPEG is (little
endian), the JPEG, zeros up to the end of the last block. The index says for each picture in which `row` it begins and
how many `blocks` it takes.
manifest.json says `made_from.encoding: jpeg` and `made_from.size`.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow

from store.errors import StoreError
from store.manifest import MANIFEST, shard_origin
from store.ours import refuse_foreign
from store.reader import Store
from store.shards import ShardTask, read_header, shard_name
from store.writer import StoreWriter

# Wastes half a block a picture: 1 % of a 304 x 304 JPEG of quality 95.
BLOCK = 1024
_LENGTH = 4


class JpegStore:
    """Reads as `Store` does, row for row: `take` gives decoded pictures, (n, size, size, 3) uint8.

    Rows are those of the index's column `row`. Safe after fork, in threads and when pickled, as Store is.
    """

    def __init__(self, store: Store) -> None:
        size = store.manifest.made_from.get("size")
        if store.shape != (BLOCK,) or not isinstance(size, int):
            raise StoreError(f"{store.path}: not a store of JPEGs; make it again: chatpainter-prepare images")
        self.store, self.path, self.kind = store, store.path, store.kind
        self.manifest, self.identity = store.manifest, store.identity
        self.shape, self.dtype = (size, size, 3), np.dtype(np.uint8)

    def __len__(self) -> int:
        return self.manifest.index.rows

    @property
    def index(self) -> pyarrow.Table:
        """As `Store.index`."""
        return self.store.index

    def column(self, name: str) -> np.ndarray:
        """As `Store.column`."""
        return self.store.column(name)

    def take(self, rows: Sequence[int] | np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Pictures that begin at these rows: (n,) → (n, size, size, 3) uint8.

        Raises:
            StoreError: a picture that cannot be decoded, or is of another size.
        """
        from PIL import Image

        rows = np.asarray(rows)
        if out is None:
            out = np.empty((len(rows), *self.shape), np.uint8)
        for target, row in zip(out, rows.tolist()):
            try:
                with Image.open(io.BytesIO(self._bytes(row))) as image:
                    target[...] = np.asarray(image)
            except (OSError, ValueError, SyntaxError) as error:
                raise StoreError(
                    f"{self.path}: no picture begins at row {row} ({error}); chatpainter-store verify"
                ) from None
        return out

    def _bytes(self, row: int) -> bytes:
        length = int.from_bytes(self.store.slice(row, row + 1)[0, :_LENGTH].tobytes(), "little")
        if row + _blocks(length) > len(self.store):
            raise ValueError(f"a JPEG of {length:,} bytes would not end in the store")
        return self.store.slice(row, row + _blocks(length)).tobytes()[_LENGTH : _LENGTH + length]


def open_images(path: str | Path) -> Store | JpegStore:
    """The store of images in the folder `path`, whichever way its pictures are kept."""
    store = Store(path)
    return JpegStore(store) if store.manifest.made_from.get("encoding") == "jpeg" else store


class JpegWriter(StoreWriter):
    """A StoreWriter whose shards follow one another, since how many rows one takes is known only once it is made."""

    def keep(self, keys: Sequence[str]) -> int:
        """Keep the shards on disk that are the first of those wanted, by their keys; how many that is."""
        planned: list[tuple[int, int, str]] = []
        for number, key in enumerate(keys):
            try:
                rows = read_header(self.path / shard_name(self.dataset, number), self.dataset).rows
            except StoreError:
                break
            planned.append((sum(planned[-1][:2]) if planned else 0, rows, key))
        if missing := self.plan(planned):
            self.plan(planned[: missing[0]])
        return len(self.tasks)

    def append(self, pictures: Sequence[bytes], key: str, attributes: dict[str, int] | None = None) -> None:
        """Write the next shard: JPEGs in order.

        Raises:
            StoreError: it cannot be written, or would replace a file of another program.
        """
        parts = [len(picture).to_bytes(_LENGTH, "little") + picture for picture in pictures]
        data = b"".join(part + bytes(-len(part) % BLOCK) for part in parts)
        rows = np.frombuffer(data, np.uint8).reshape(-1, BLOCK)
        last = self.tasks[-1] if self.tasks else None
        task = ShardTask(
            folder=str(self.path),
            dataset=self.dataset,
            number=len(self.tasks),
            first_row=last.first_row + last.rows if last else 0,
            rows=len(rows),
            shape=self.shape,
            dtype=self.dtype,
            key=key,
            origin=shard_origin(self.made_from),
            token=self._lock.token,
        )
        refuse_foreign(self.path, {task.path.name})
        (self.path / MANIFEST).unlink(missing_ok=True)
        self.tasks.append(task)
        self.write_shard(task.number, rows, key, attributes)

    def runs(self) -> tuple[np.ndarray, np.ndarray]:
        """Where every picture written so far begins, and how many blocks it takes: two (pictures,) int64."""
        first: list[int] = []
        blocks: list[int] = []
        for task in self.tasks:
            header = read_header(task.path, self.dataset)
            rows = np.memmap(task.path, np.uint8, "r", header.offset, (header.rows, BLOCK))
            row = 0
            while row < header.rows:
                first.append(task.first_row + row)
                blocks.append(_blocks(int.from_bytes(rows[row, :_LENGTH].tobytes(), "little")))
                row += blocks[-1]
        return np.array(first, np.int64), np.array(blocks, np.int64)


def _blocks(length: int) -> int:
    """Blocks that a JPEG of `length` bytes takes."""
    return -(-(_LENGTH + length) // BLOCK)
