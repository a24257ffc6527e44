"""One shard: an HDF5 file with one contiguous, unchunked, uncompressed dataset, committed by rename."""

import contextlib
import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from store.checksums import REMEDY, blocks_of
from store.differences import differences
from store.errors import StoreError, one_line, short
from store.files import in_words, replacing, sha256_file, system_errors
from store.lock import read_token
from store.manifest import DTYPES, FORMAT, VERSION, Shard
from store.threads import in_threads

T = TypeVar("T")

# Rows start at a multiple of this, so that they can be mapped whatever the machine's page size.
ALIGNMENT = 65536
# A network file system may show a file written elsewhere only after a moment.
PATIENCE_SECONDS = 5.0


class OtherMount(StoreError):
    """A worker and the run that sent it the work do not see the same folder."""


def shard_name(dataset: str, number: int) -> str:
    """What the file of a shard is called."""
    return f"{dataset}-{number:05d}.h5"


@dataclass(frozen=True)
class ShardTask:
    """Everything needed to write one shard, here or in another process; small enough to travel."""

    folder: str
    dataset: str
    number: int
    first_row: int
    rows: int
    shape: tuple[int, ...]
    dtype: str
    key: str
    origin: dict[str, Any]
    token: str

    @property
    def path(self) -> Path:
        """Where the shard belongs."""
        return Path(self.folder) / shard_name(self.dataset, self.number)

    def check_folder(self) -> None:
        """Refuse to work for a run whose folder is not the one seen here, or that has ended.

        Raises:
            OtherMount: names this host and the folder.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (token := read_token(Path(self.folder))) != self.token:
            if token is not None or time.monotonic() > deadline:
                raise OtherMount(
                    f"{self.folder}: worker {os.uname().nodename} (process {os.getpid()}) does not see the folder of "
                    "the run that sent it this shard; mount the same disk at the same path on every worker, "
                    "and name the output folder by its full path"
                )
            time.sleep(0.2)

    def write(self, rows: np.ndarray, attributes: dict[str, int] | None = None) -> Shard:
        """Write the shard under a temporary name, then move it into place.

        Args:
            rows: (rows, *shape) of the shard's dtype.
            attributes: whole numbers kept beside the rows, summed up in the manifest's `counts`.

        Raises:
            StoreError: full disk, read-only folder, or the run has ended meanwhile.
        """
        if rows.shape != (self.rows, *self.shape) or rows.dtype != np.dtype(self.dtype):
            raise ValueError(
                f"shard {self.number} takes {(self.rows, *self.shape)} {self.dtype}, not {rows.shape} {rows.dtype}"
            )
        data = _bytes(np.ascontiguousarray(rows))
        with in_words(self.path), replacing(self.path) as temporary:
            offset = self._write_header(temporary, hashlib.sha256(data).hexdigest(), attributes or {})
            jobs: list[Callable[[], Any]] = [  # the checksums while the disk is busy
                partial(_write_at, temporary, offset, data),
                partial(_file_checksum, temporary, offset, data),
                partial(blocks_of, data, len(data) // max(1, self.rows)),
            ]
            _, checksum, blocks = in_threads(lambda job: job(), jobs)
            size = temporary.stat().st_size
            # A worker may outlive its run: what it made must not land in the folder of the next one.
            self.check_folder()
        return Shard(self.path.name, self.first_row, self.rows, size, checksum, self.key, blocks)

    def _write_header(self, path: Path, checksum: str, attributes: dict[str, int]) -> int:
        """Everything of the file but the rows; returns where they belong. h5py says too little when a disk is full."""
        import h5py

        shape = (self.rows, *self.shape)
        size = int(np.prod(shape)) * np.dtype(self.dtype).itemsize
        threshold = max(1, min(size, ALIGNMENT))
        with (
            system_errors(RuntimeError, r"errno = (\d+)"),  # of h5py, where closing fails
            h5py.File(path, "w", alignment_threshold=threshold, alignment_interval=ALIGNMENT) as file,
        ):
            file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
            plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plist.set_obj_track_times(False)
            plist.set_layout(h5py.h5d.CONTIGUOUS)
            plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            kind = h5py.h5t.py_create(np.dtype(self.dtype), logical=True)
            space = h5py.h5s.create_simple(shape)
            dataset = h5py.Dataset(h5py.h5d.create(file.id, self.dataset.encode(), kind, space, plist))
            dataset.attrs["first_row"], dataset.attrs["rows"] = self.first_row, self.rows
            dataset.attrs["key"], dataset.attrs["sha256"] = self.key, checksum
            dataset.attrs["made_from"] = json.dumps(self.origin, sort_keys=True)
            dataset.attrs["counts"] = json.dumps(attributes, sort_keys=True)
            offset = dataset.id.get_offset()
        assert offset is not None or size == 0
        return offset or 0


@dataclass(frozen=True)
class ShardHeader:
    """What a shard says of itself. `offset` is where its rows start in the file, in bytes."""

    first_row: int
    rows: int
    shape: tuple[int, ...]
    dtype: np.dtype
    key: str
    sha256: str
    origin: dict[str, Any]
    counts: dict[str, int]
    offset: int
    bytes: int


def _opened(path: Path) -> Any:
    """The file, unlocked, as network disks may have no locks; or as this process has it open: HDF5 wants both alike."""
    import h5py

    for locking in (False, None, True):
        with contextlib.suppress(OSError):
            return h5py.File(path, "r", locking=locking)
    return h5py.File(path, "r", locking="best-effort")


def read_header(path: Path, dataset: str) -> ShardHeader:
    """The header of the shard at `path`; a file from elsewhere can neither crash it nor lead it to another file.

    Raises:
        StoreError: missing, truncated, not HDF5, not contiguous or without our attributes.
    """
    import h5py

    try:
        with _opened(path) as file:
            version = (_attribute(file, "format", str), _attribute(file, "version", int))
            if version != (FORMAT, VERSION):
                found = " version ".join(map(str, version))
                raise StoreError(f"{path}: {found}, but this program reads {FORMAT} {VERSION}")
            link = file.get(dataset, getlink=True)
            data = file[dataset] if isinstance(link, h5py.HardLink) else None
            if not isinstance(data, h5py.Dataset):
                raise ValueError(f"{dataset} is no dataset of this file")
            layout = data.id.get_create_plist()
            if layout.get_layout() != h5py.h5d.CONTIGUOUS or layout.get_external_count() or not data.ndim:
                raise ValueError(f"{dataset} is not one contiguous run of rows")
            if data.dtype.str not in _STORED:
                raise ValueError(f"{dataset} is of {data.dtype}")
            header = ShardHeader(
                _attribute(data, "first_row", int),
                _attribute(data, "rows", int),
                tuple(data.shape[1:]),
                data.dtype,
                _attribute(data, "key", str),
                _attribute(data, "sha256", str),
                _mapping(_attribute(data, "made_from", str)),
                _mapping(_attribute(data, "counts", str)),
                data.id.get_offset() or 0,
                path.stat().st_size,
            )
            found_rows, length = int(data.shape[0]), math.prod(data.shape) * data.dtype.itemsize
            placed = data.id.get_offset() is not None or not length
    except StoreError:
        raise
    except FileNotFoundError:
        raise StoreError(f"{path}: missing; run the command that makes the store again") from None
    except PermissionError:
        raise StoreError(f"{path}: no permission to read it") from None
    except _H5PY_ERRORS as error:
        raise StoreError(f"{path}: damaged ({one_line(error)}); {REMEDY}") from None
    if not placed or header.offset % ALIGNMENT or found_rows != header.rows:
        raise StoreError(f"{path}: {dataset} is not one contiguous run of {header.rows} rows; {REMEDY}")
    if any(type(count) is not int or count < 0 for count in header.counts.values()):
        raise StoreError(f"{path}: damaged (its counts are {short(header.counts)}); {REMEDY}")
    if header.bytes < header.offset + length:
        raise StoreError(f"{path}: truncated ({header.bytes:,} of {header.offset + length:,} bytes); {REMEDY}")
    return header


_STORED = frozenset(np.dtype(name).newbyteorder("<").str for name in DTYPES)
# What h5py is known to raise for files that are not as it expects.
_H5PY_ERRORS = (OSError, LookupError, ValueError, TypeError, AttributeError, RuntimeError, ArithmeticError, MemoryError)


def _attribute(owner: Any, name: str, kind: type[T]) -> T:
    """One value of an attribute; its size is looked at before it is read."""
    about = owner.attrs.get_id(name)
    if about.shape != ():
        raise ValueError(f"attribute {name} is not one value")
    value = owner.attrs[name]
    if kind is int and not isinstance(value, int | np.integer):
        raise ValueError(f"attribute {name} is no whole number")
    if kind is str and not isinstance(value, str):
        raise ValueError(f"attribute {name} is no text")
    return kind(value)  # type: ignore[call-arg]


def _mapping(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except RecursionError:
        values = None
    if not isinstance(values, dict):
        raise ValueError("an attribute is not a JSON mapping")
    return values


def finished(task: ShardTask, sha256: str | None = None) -> tuple[Shard, dict[str, int]] | None:
    """The shard and its attributes where it is on disk, whole, and the one that `task` asks for; else None.

    Args:
        sha256: of the whole file, where a manifest states it; without one the rows' own checksum is compared.
    """
    if not task.path.exists():
        return None
    try:
        header = read_header(task.path, task.dataset)
        if mismatch(task, header) is not None:
            return None
        if sha256 is None and rows_checksum(task.path, header) != header.sha256:
            return None
    except StoreError:
        return None
    checksum = sha256_file(task.path)
    if checksum != (sha256 or checksum):
        return None
    data = _bytes(_mapped(task.path, header))
    blocks = blocks_of(data, len(data) // max(1, task.rows))
    return Shard(task.path.name, task.first_row, task.rows, header.bytes, checksum, task.key, blocks), header.counts


def mismatch(task: ShardTask, header: ShardHeader) -> str | None:
    """Why a shard on disk is not the one planned, in words; None where it is."""
    if header.origin != task.origin:
        return f"made from another {', '.join(differences(header.origin, task.origin))}"
    if header.dtype != np.dtype(task.dtype) or header.shape != task.shape:
        return "shape or dtype changed"
    if (header.key, header.first_row, header.rows) != (task.key, task.first_row, task.rows):
        return "contents changed"
    return None


def rows_checksum(path: Path, header: ShardHeader) -> str:
    """sha256 of the rows as they lie in the file, to compare with the header's own."""
    return hashlib.sha256(_bytes(_mapped(path, header))).hexdigest()


def _mapped(path: Path, header: ShardHeader) -> np.ndarray:
    """The values of all rows, (n,)."""
    count = header.rows * math.prod(header.shape)
    if not count:
        return np.empty(0, header.dtype)
    return np.memmap(path, dtype=header.dtype, mode="r", offset=header.offset, shape=(count,))


def _file_checksum(path: Path, offset: int, rows: memoryview) -> str:
    """sha256 of the file once `rows` lie at `offset`, without reading them back."""
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read(offset))
        digest.update(rows)
        file.seek(offset + len(rows))
        digest.update(file.read())
    return digest.hexdigest()


def _write_at(path: Path, offset: int, data: memoryview) -> None:
    with open(path, "r+b", buffering=0) as file:
        file.seek(offset)
        while data:
            data = data[file.write(data) :]
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):  # not on macOS
            # A store may be larger than memory: it must not push the mapped word vectors out of the page cache.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _bytes(rows: np.ndarray) -> memoryview:
    return memoryview(rows.reshape(-1).view(np.uint8).data)
