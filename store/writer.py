"""Making a store: what is missing, shard by shard, and the manifest last."""

import collections
import hashlib
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow

from store import index as indices
from store.checksums import CHECKSUMS, block_rows
from store.errors import StoreError
from store.files import in_words, replacing, sha256_file, sync_folder
from store.lock import FolderLock
from store.manifest import INDEX, MANIFEST, Checksums, Index, Manifest, Shard, refuse_rows, shard_origin
from store.ours import our_files, refuse_foreign
from store.shards import PATIENCE_SECONDS, ShardTask, finished, mismatch, read_header, shard_name
from store.threads import in_threads


class StoreWriter:
    """Writes one store into the folder `path`, and continues one that a killed run left behind.

        with StoreWriter(path, kind="captions", split="train", shape=(1024,), dtype="float16", made_from=...) as writer:
            for number in writer.plan([(first_row, rows, key), ...]):
                writer.write_shard(number, vectors)
            writer.commit(index)

    Args:
        shape: of one row.
        dtype: of one row.
        dataset: the name inside the HDF5 files, and how the files' names begin.
        made_from: what the manifest says of the origin; every entry but `corpus` is also kept in each shard.

    Raises:
        StoreError: another run writes here; the disk is full or read-only; a file of another program is in the way.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        kind: str,
        split: str,
        shape: Sequence[int],
        dtype: str,
        made_from: Mapping[str, Any],
        dataset: str = "vectors",
    ) -> None:
        self.path = Path(path).absolute()
        self.kind, self.split, self.dataset = kind, split, dataset
        self.shape, self.dtype = tuple(int(size) for size in shape), np.dtype(dtype).name
        refuse_rows(self.dataset, self.shape, self.dtype)
        self._row_bytes = math.prod(self.shape) * np.dtype(dtype).itemsize
        self.made_from: dict[str, Any] = json.loads(json.dumps(made_from))
        self.tasks: list[ShardTask] = []
        self.kept: list[int] = []
        self.reasons: collections.Counter[str] = collections.Counter()
        self._shards: dict[int, Shard] = {}
        self._lock = FolderLock(self.path)

    def __enter__(self) -> Self:
        self._lock.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.__exit__(kind, error, trace)

    def plan(self, shards: Sequence[tuple[int, int, str]]) -> list[int]:
        """Say what the store will hold: (first_row, rows, key) of every shard in order.

        Keeps the shards on disk whose key and checksum match, deletes every other one and whatever killed runs left,
        and returns the numbers of those still to write. `kept` lists the others; `reasons` counts why shards on
        disk could not be kept.

        Raises:
            StoreError: a file that this program did not write has the name of one that it is to write.
        """
        expected = 0
        for first_row, rows, _ in shards:
            if first_row != expected or rows < 1:
                raise ValueError(f"shards must follow each other from row 0: {first_row=}, {rows=}, {expected=}")
            expected += rows
        origin = shard_origin(self.made_from)
        self.tasks = [
            ShardTask(
                folder=str(self.path),
                dataset=self.dataset,
                number=number,
                first_row=int(first_row),
                rows=int(rows),
                shape=self.shape,
                dtype=self.dtype,
                key=key,
                origin=origin,
                token=self._lock.token,
            )
            for number, (first_row, rows, key) in enumerate(shards)
        ]
        with in_words(self.path):
            refuse_foreign(self.path, {INDEX, MANIFEST, CHECKSUMS, *(task.path.name for task in self.tasks)})
            known = self._known_checksums()
            there = in_threads(lambda task: self._kept(task, known.get(task.path.name)), self.tasks)
            self._shards = {n: shard for n, shard in enumerate(there) if shard}
            self.kept = sorted(self._shards)
            strays = self._strays()
            if len(self.kept) < len(self.tasks) or strays:
                # The store stops existing before any of its files changes. The shards go last: by them it is known
                # whose the other files are, should this run be killed here.
                for name in (MANIFEST, INDEX, CHECKSUMS):
                    (self.path / name).unlink(missing_ok=True)
            for path in strays:
                path.unlink(missing_ok=True)
        return self.missing()

    def missing(self) -> list[int]:
        """The numbers of the shards that are still to be written."""
        return [task.number for task in self.tasks if task.number not in self._shards]

    def write_shard(
        self, number: int, array: np.ndarray, key: str | None = None, attributes: dict[str, int] | None = None
    ) -> None:
        """Write shard `number`: (rows, *shape). `key`, where given, must be the planned one."""
        if key not in (None, self.tasks[number].key):
            raise ValueError(f"shard {number} was planned with another key")
        self.accept(number, self.tasks[number].write(array, attributes))

    def accept(self, number: int, shard: Shard) -> None:
        """Note a shard that a `ShardTask` wrote, perhaps on another machine, once it can be seen here.

        Raises:
            StoreError: it is not here, or not of the size that was written.
        """
        task = self.tasks[number]
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not task.path.is_file() or task.path.stat().st_size != shard.bytes:
            if time.monotonic() > deadline:
                raise StoreError(
                    f"{task.path}: a worker has written it but it cannot be seen here; mount the same disk at the "
                    "same path on every worker and on this machine"
                )
            time.sleep(0.1)
        self._shards[number] = shard

    def reconcile(self) -> list[int]:
        """Note shards on disk that nobody reported (their worker died after writing); returns what is missing."""
        for number in self.missing():
            if shard := self._kept(self.tasks[number]):
                self._shards[number] = shard
        return self.missing()

    def adopt(self, folder: Path) -> None:
        """Move the missing shards that lie finished in `folder`, of the same disk, into the store.

        Raises:
            StoreError: the disk refuses.
        """
        wanted = [replace(self.tasks[number], folder=str(folder)) for number in self.missing()]
        wanted = [task for task in wanted if task.path.exists()]
        with in_words(self.path):
            for task, shard in zip(wanted, in_threads(self._kept, wanted)):
                if shard:
                    os.replace(task.path, self.tasks[task.number].path)
                    self._shards[task.number] = shard
            sync_folder(self.path)
        self.kept = sorted(self._shards)

    def totals(self) -> dict[str, int]:
        """The shards' attributes, summed up."""
        totals: collections.Counter[str] = collections.Counter()
        for task in self.tasks:
            totals.update(read_header(task.path, self.dataset).counts)
        return dict(sorted(totals.items()))

    def commit(
        self, index: pyarrow.Table, counts: Mapping[str, int] | None = None, *, lengths: str | None = None
    ) -> Manifest:
        """Write the index, the blocks' checksums and, last of all, the manifest.

        Args:
            index: column `row` (ascending from 0) and whatever identifies the rows.
            counts: for the manifest; the sum of the shards' attributes where not given.
            lengths: the index's column that says how many rows follow each other from `row` on; one where not given.

        Raises:
            StoreError: names the shards that are missing.
        """
        if missing := self.missing():
            names = ", ".join(shard_name(self.dataset, number) for number in missing[:8])
            more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
            raise StoreError(f"{self.path}: {len(missing)} shards missing ({names}{more}); run the same command again")
        rows = sum(task.rows for task in self.tasks)
        if fault := indices.faults(index, rows, lengths):
            raise ValueError(f"the index {fault} (lengths={lengths!r})")
        with in_words(self.path):
            manifest = Manifest(
                kind=self.kind,
                split=self.split,
                rows=rows,
                shape=self.shape,
                dtype=self.dtype,
                dataset=self.dataset,
                shards=tuple(self._shards[task.number] for task in self.tasks),
                index=self._write_index(index),
                made_from=self.made_from,
                counts=dict(self.totals() if counts is None else counts),
                lengths=lengths,
                checksums=self._write_checksums(),
            )
            for path in self._strays():  # what workers left that were killed while this run went on
                path.unlink(missing_ok=True)
            manifest.write(self.path)
        return manifest

    def _write_index(self, index: pyarrow.Table) -> Index:
        import pyarrow.parquet

        path = self.path / INDEX
        with replacing(path) as temporary:
            pyarrow.parquet.write_table(index, temporary, compression="zstd")
            checksum = self._outdate(path, sha256_file(temporary))
        return Index(INDEX, index.num_rows, checksum)

    def _write_checksums(self) -> Checksums:
        blocks = b"".join(self._shards[task.number].blocks for task in self.tasks)
        path, checksum = self.path / CHECKSUMS, hashlib.sha256(blocks).hexdigest()
        if not path.is_file() or path.read_bytes() != blocks:
            with replacing(path) as temporary:
                temporary.write_bytes(blocks)
                self._outdate(path, checksum)
        return Checksums(CHECKSUMS, block_rows(self._row_bytes), checksum)

    def _outdate(self, path: Path, checksum: str) -> str:
        """The store stops existing before one of its files changes; `checksum` is the file's that is to come."""
        if not path.is_file() or sha256_file(path) != checksum:
            (self.path / MANIFEST).unlink(missing_ok=True)
        return checksum

    def _kept(self, task: ShardTask, sha256: str | None = None) -> Shard | None:
        """The shard on disk where it is the one planned and whole; else None, with the reason noted.

        Args:
            sha256: of its file, where an earlier run got as far as a manifest.
        """
        if there := finished(task, sha256):
            return there[0]
        if task.path.exists():
            try:
                reason = mismatch(task, read_header(task.path, self.dataset))
            except StoreError:
                reason = None
            self.reasons[reason or "damaged"] += 1
        return None

    def _known_checksums(self) -> dict[str, str]:
        """Checksums of whole files, where an earlier run got as far as a manifest."""
        try:
            return {shard.file: shard.sha256 for shard in Manifest.read(self.path).shards}
        except StoreError:
            return {}

    def _strays(self) -> list[Path]:
        current = {self.tasks[number].path.name for number in self._shards} | {INDEX, MANIFEST, CHECKSUMS}
        return [path for path in our_files(self.path) if path.name not in current]


def remove_store(path: str | Path) -> None:
    """Delete what a store consists of, and its folder where nothing else lies in it."""
    folder = Path(path)
    if not folder.is_dir():
        return
    with in_words(folder):
        with FolderLock(folder):
            delete_files(folder)
        if not any(folder.iterdir()):
            folder.rmdir()


def delete_files(folder: Path) -> None:
    """Delete what a store, or a part of one, consists of; whoever calls holds the folder's lock."""
    # The manifest first: without it there is no store. The shards last: by them the others are known.
    for path in sorted(our_files(folder), key=lambda path: (path.name != MANIFEST, path.suffix == ".h5")):
        path.unlink()
