"""Store: the rows of all shards behind one object, read by position from mapped files."""

import ctypes
import math
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow

from store import index as indices
from store import machine
from store.ahead import Ahead, libc
from store.checksums import REMEDY, Blocks, read_checksums
from store.errors import StoreError
from store.files import inside
from store.manifest import Manifest
from store.shards import ShardHeader, read_header


class _Maps(NamedTuple):
    """The shards of a store in one range of addresses."""

    data: np.ndarray  # (positions, *shape): all rows, with gaps
    where: np.ndarray  # (rows,) int64: the position of each
    blocks: Blocks | None  # None where the store has no checksums
    ahead: Ahead | None  # None where memory can hold the store


class Store:
    """A store on disk, opened lazily: making one reads the manifest, the first row read maps the shards.

    Nothing but maps is held open, so a Store may be shared by threads, survive a fork, and be pickled (only its path
    travels). Files are only ever read: a read-only mount will do.

    Args:
        path: the folder with manifest.json.
        verify: also compare every checksum, which reads the whole store once (and so warms the page cache).

    Raises:
        StoreError: no store, another format version, a shard that is missing, truncated or not the manifest's.
    """

    def __init__(self, path: str | Path, verify: bool = False) -> None:
        self.path = Path(path)
        self.manifest = Manifest.read(self.path)
        self.kind = self.manifest.kind
        self.shape = self.manifest.shape
        self.dtype = np.dtype(self.manifest.dtype)
        self._maps: _Maps | None = None
        self._columns: dict[str, np.ndarray] = {}
        self._check_sizes()
        if verify:
            from store.verify import verify_store

            for problem in verify_store(self.path):
                raise StoreError(problem)

    def __len__(self) -> int:
        return self.manifest.rows

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}: {len(self):,} {self.kind} of {self.shape} {self.dtype})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": None, "_columns": {}}

    @property
    def identity(self) -> dict[str, Any]:
        """What its numbers mean (encoder, text switches, names of kinds): stores that differ here must not be mixed."""
        meaning = ("encoder", "text", "vocabulary")
        return {name: value for name, value in self.manifest.made_from.items() if name in meaning}

    @property
    def index(self) -> pyarrow.Table:
        """The whole index, read anew at each call."""
        return indices.read_index(self.path, self.manifest)

    def column(self, name: str) -> np.ndarray:
        """One numeric column of the index, (lines of the index,).

        Raises:
            StoreError: there is none of that name, or not a number in every line.
        """
        if name not in self._columns:
            self._columns[name] = indices.numbers(self.path, self.manifest, name)
        return self._columns[name]

    @property
    def lengths(self) -> np.ndarray:
        """How many rows belong to each line of the index, (lines of the index,) int64: rounds, words, objects; or 1."""
        if self.manifest.lengths is None:
            return np.ones(self.manifest.index.rows, np.int64)
        return self.column(self.manifest.lengths).astype(np.int64)

    def take(self, rows: Sequence[int] | np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Rows at any positions: (n,) → (n, *shape).

        Args:
            out: (n, *shape), C-contiguous and of the store's dtype; filled and returned, which spares an allocation.

        Raises:
            IndexError: a position outside the store.
            StoreError: a row is damaged.
        """
        data, where, blocks, ahead = self._mapped()
        positions = where.take(rows)  # checks them; "clip" below spares numpy a second buffer
        if ahead is not None:
            ahead.ask(positions, positions)
        if blocks is not None and blocks.left:
            blocks.touch(np.asarray(rows, np.int64))
        return data.take(positions, 0, out, "clip")

    def slice(self, start: int, stop: int) -> np.ndarray:
        """Rows start to stop: a read-only view of the file where they lie in one shard, else a copy.

        Raises:
            StoreError: a row is damaged.
        """
        data, where, blocks, ahead = self._mapped()
        start, stop, _ = slice(start, stop).indices(len(self))
        if stop <= start:
            return np.empty((0, *self.shape), self.dtype)
        first, last = int(where[start]), int(where[stop - 1])
        if last - first != stop - 1 - start:
            return self.take(np.arange(start, stop))
        if ahead is not None:
            ahead.ask(np.array([first]), np.array([last]))
        if blocks is not None and blocks.left:
            blocks.touch(np.array([start]), np.array([stop - 1]))
        return data[first : last + 1]

    def runs(
        self, first: Sequence[int] | np.ndarray, lengths: Sequence[int] | np.ndarray, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Runs of neighbouring rows, such as the turns of dialogues: (n,), (n,) → (n, max(lengths), *shape).

        Run i is rows first[i] … first[i] + lengths[i] − 1, followed by zeros. Each row is copied once.

        Args:
            out: at least (n, max(lengths), *shape); zeros fill what a run does not.

        Raises:
            IndexError: a run that leaves the store, or reaches over the end of a shard.
            StoreError: a row is damaged.
        """
        data, where, blocks, ahead = self._mapped()
        first, lengths = np.asarray(first), np.asarray(lengths)
        longest = int(lengths.max(initial=0))
        if out is None:
            out = np.empty((len(first), longest, *self.shape), self.dtype)
        elif len(out) < len(first) or out.shape[1] < longest or out.shape[2:] != self.shape:
            raise ValueError(f"out is {out.shape}, but {len(first)} runs of up to {longest} rows were asked for")
        out = out[: len(first)]
        if not lengths.all():
            first = np.where(lengths > 0, first, 0)  # a run of no rows has no first row to look up
        last = np.maximum(lengths, 1) - 1
        starts = np.take(where, first)
        if (np.take(where, first + last) - starts != last).any():
            raise IndexError("a run must lie in one shard, as the turns of a dialogue and the captions of an image do")
        if ahead is not None:
            ahead.ask(starts, starts + last)
        if blocks is not None and blocks.left:
            blocks.touch(first, first + last)
        width = out.shape[1]
        if (lengths == width).all() and out.flags.c_contiguous:
            if width and len(data) % width == 0 and not (starts % width).any():
                # Whole dialogues lie at whole multiples of their length: one copy a dialogue instead of one a row.
                dialogues = data.reshape(-1, width, *self.shape)
                return np.take(dialogues, starts // width, axis=0, out=out, mode="clip")
            return np.take(data, starts[:, None] + np.arange(width), axis=0, out=out, mode="clip")
        for target, start, length in zip(out, starts.tolist(), lengths.tolist()):
            target[:length] = data[start : start + length]
            target[length:] = 0
        return out

    def _check_sizes(self) -> None:
        for shard in self.manifest.shards:
            path = inside(self.path, shard.file)
            try:
                size = path.stat().st_size
            except OSError:
                raise StoreError(f"{path}: missing; {REMEDY}") from None
            if size != shard.bytes:
                what = "truncated" if size < shard.bytes else "not the file that the manifest names"
                raise StoreError(f"{path}: {what} ({size:,} of {shard.bytes:,} bytes); {REMEDY}")

    def _mapped(self) -> _Maps:
        # No lock: two threads that come first at once both map, and either result serves.
        maps = self._maps
        if maps is None:
            maps = self._maps = self._map()
        return maps

    def _map(self) -> _Maps:
        """A batch over many shards is one `numpy.take` from it, as fast as from a single file."""
        row_bytes = self.manifest.row_bytes
        sums = read_checksums(self.path, self.manifest)
        headers = [self._header(number) for number in range(len(self.manifest.shards))]
        # Every shard starts at whole dialogues from the first, and where huge pages of the page cache can be mapped
        # whole. Addresses are plenty: for all of VisDial these are 0.15 of 128 TB.
        unit = math.lcm(row_bytes * VISDIAL_ROUNDS, _HUGE_PAGE)
        starts: list[int] = []
        position = 0
        for header in headers:
            starts.append(position)
            position += math.ceil(header.rows * row_bytes / unit) * unit
        addresses = _reserve(position + _HUGE_PAGE, self.path)
        lead = (headers[0].offset - addresses.ctypes.data) % _HUGE_PAGE if headers else 0
        addresses = addresses[lead:]
        # Read from the disk 2 MiB at a time, random rows are as fast as from pages that stayed since they were
        # written. A store that memory cannot hold would read each row's neighbours for nothing, again and again.
        fits = 2 * sum(shard.bytes for shard in self.manifest.shards) < machine.memory()
        for shard, header, start in zip(self.manifest.shards, headers, starts):
            _map_file(self.path / shard.file, header.offset, addresses, start, header.rows * row_bytes, fits)
        data = addresses[:position].view(self.dtype).reshape(-1, *self.shape)
        parts = [np.arange(header.rows) + start // row_bytes for header, start in zip(headers, starts)]
        where = np.concatenate([np.empty(0, np.int64), *parts])
        ahead = None if fits else Ahead(data)
        blocks = None if sums is None else Blocks(self.path, self.manifest, data, where, sums, ahead)
        return _Maps(data, where, blocks, ahead)

    def _header(self, number: int) -> ShardHeader:
        shard = self.manifest.shards[number]
        path = self.path / shard.file
        header = read_header(path, self.manifest.dataset)
        said = (header.key, header.first_row, header.rows, header.shape, header.dtype)
        if said != (shard.key, shard.first_row, shard.rows, self.shape, self.dtype):
            raise StoreError(f"{path}: not the shard that the manifest names; {REMEDY}")
        return header


def _reserve(size: int, path: Path) -> np.ndarray:
    """(size,) uint8: a range of addresses that costs no memory and frees itself with everything mapped into it."""
    try:
        return np.frombuffer(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ), np.uint8)
    except (OSError, ValueError, OverflowError):
        raise StoreError(
            f"{path}: its rows need {size:,} bytes of addresses, more than this process may have (ulimit -v)"
        ) from None


def _map_file(path: Path, offset: int, addresses: np.ndarray, start: int, length: int, huge_pages: bool) -> None:
    """Lay `length` bytes of a file, from `offset`, over addresses[start:]; Python's mmap cannot choose the place."""
    if not length:
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        place = addresses.ctypes.data + start
        if libc.mmap(place, length, mmap.PROT_READ, mmap.MAP_SHARED | _MAP_FIXED, descriptor, offset) != place:
            reason = os.strerror(ctypes.get_errno())
            raise StoreError(f"{path}: cannot be mapped ({reason}); copy the store to a local disk")
        if huge_pages and hasattr(mmap, "MADV_HUGEPAGE"):
            libc.madvise(place, length, mmap.MADV_HUGEPAGE)  # a wish; kernels that cannot are as fast as before
    finally:
        os.close(descriptor)


VISDIAL_ROUNDS = 10  # of every dialogue there; others are read as well, row by row
_HUGE_PAGE = 1 << 21  # of x86 and of arm64; elsewhere only less speed is lost
_MAP_FIXED = 0x10  # the same on Linux and macOS
