"""Skip-Thought's word vectors: an object array pickled by Python 2, turned once into a file whose rows are mapped.

Each of the 930,913 elements is a numpy array of its own, shape (1, E) or (E,). Unpickled they take 2.7 GB; here an
element is a place in the file until its row is copied.

A converted table is an array (words, E + 1) of 32 bits: the row's float32 values, then their CRC-32. An encoder reads a
few thousand of its rows, so each row is checked as it is read (1 µs, less than a thousandth of what encoding takes),
not the whole file (seconds, on a cold disk half a minute).
"""

import math
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pipeline.weights import WeightsError, npy
from pipeline.weights.pickled import PickledArray
from pipeline.weights.unpickle import Unpickler
from store.files import TEMPORARY, error_in_words, replacing, sha256_file

ROWS = 4096  # rows copied at a time
_ABANDONED_SECONDS = 3600


class WordVectors:
    """The rows of a converted table, (words, E) float32, read from the disk and checked as they are asked for."""

    def __init__(self, path: Path, table: np.ndarray) -> None:
        self.path = path
        self._table = table

    @property
    def shape(self) -> tuple[int, int]:
        """(words, E)."""
        return self._table.shape[0], self._table.shape[1] - 1

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """The vectors (n, E) of the words `rows` (n,).

        Raises:
            WeightsError: a row is not as it was written.
        """
        block = self._table[rows]
        values = np.ascontiguousarray(block[:, :-1])
        for row, value, checksum in zip(rows.tolist(), values, block[:, -1].tolist()):
            if zlib.crc32(value) != checksum:
                raise WeightsError(
                    f"{self.path}: word {row:,} is damaged; remove the file and run the same command again: it is made "
                    "anew from the published table"
                )
        return values.view(np.float32)


def mapped(path: Path, sha256: str, converted: Path) -> WordVectors:
    """The word vectors of `path`, an array of objects or of float32, by way of a converted table.

    The table is made on first use as `converted`/<name>-<sha256 of the source>.rows.npy; peak memory is some 250 bytes
    a word, whatever E (0.25 GB for the published tables, against 2.7 GB for numpy.load). Two processes that make it at
    once both end with the same bytes.

    Raises:
        WeightsError: missing or damaged file, names that a table of vectors does not need, rows of unequal length; or
            a source that is not the one with this `sha256`.
    """
    target = converted / f"{path.stem}-{sha256[:16]}.rows.npy"
    try:
        if not target.exists():
            _convert(path, sha256, target)
        return WordVectors(target, _map(target))
    except OSError as error:
        raise WeightsError(f"{error.filename or target}: {error_in_words(error)}") from None


def _map(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        shape, fortran, dtype = npy.read_header(path, file)
        start, size = file.tell(), path.stat().st_size
    if fortran or dtype != np.uint32 or len(shape) != 2 or shape[1] < 2 or size - start != 4 * math.prod(shape):
        raise WeightsError(
            f"{path}: damaged ({size:,} bytes for {dtype} of shape {shape}); remove it and run the same command again"
        )
    return np.memmap(path, np.uint32, "r", start, shape)


def _convert(path: Path, sha256: str, target: Path) -> None:
    found = sha256_file(path)
    if found != sha256:
        raise WeightsError(
            f"{path}: its sha256 is {found}, not {sha256} as remembered in {target.parent}; if the file is sound, "
            f"remove {target.parent} and run the same command again, else fetch it again"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    _clear(target)
    npy.refuse_another(path, "a .npy file")
    with path.open("rb", buffering=1 << 20) as file:
        shape, fortran, dtype = npy.read_header(path, file)
        blocks = _objects(path, file, shape) if dtype.hasobject else _plain(path, file, shape, fortran, dtype)
        with replacing(target) as temporary, temporary.open("wb") as out:
            first = next(blocks)
            header = {"descr": "<u4", "fortran_order": False, "shape": (shape[0], first.shape[1] + 1)}
            np.lib.format.write_array_header_1_0(out, header)
            _write(out, first)
            for block in blocks:
                _write(out, block)


def _write(out: BinaryIO, block: np.ndarray) -> None:
    rows = np.empty((len(block), block.shape[1] + 1), "<u4")
    rows[:, :-1] = np.ascontiguousarray(block, "<f4").view("<u4")
    rows[:, -1] = [zlib.crc32(row) for row in np.ascontiguousarray(rows[:, :-1])]
    out.write(rows.tobytes())


def _clear(target: Path) -> None:
    """Remove what killed conversions left: a living one writes all the time."""
    for path in target.parent.glob(f"{target.name}.*{TEMPORARY}"):
        if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
            path.unlink(missing_ok=True)


def _plain(path: Path, file: BinaryIO, shape: tuple[int, ...], fortran: bool, dtype: np.dtype) -> Iterator[np.ndarray]:
    """The rows of an array of float32, some thousands at a time."""
    if dtype != np.float32 or len(shape) != 2 or 0 in shape or fortran:
        raise WeightsError(f"{path}: holds {dtype} of shape {shape}, expected word vectors in float32")
    start, size = file.tell(), path.stat().st_size
    if size - start != 4 * math.prod(shape):
        raise WeightsError(f"{path}: cut short or damaged ({size - start:,} bytes for shape {shape}); fetch it again")
    for first in range(0, shape[0], ROWS):
        rows = min(ROWS, shape[0] - first)
        yield np.frombuffer(file.read(4 * rows * shape[1]), dtype).reshape(rows, shape[1])


def _objects(path: Path, file: BinaryIO, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """The rows of the pickled object array that follows in `file`, all looked at before the first is given."""
    unpickler = Unpickler(path, file)
    table: Any = unpickler.load()
    if not (isinstance(table, PickledArray) and table.objects and table.shape == shape and len(shape) == 1):
        raise unpickler.refused("not a one-dimensional array of objects")
    rows = table.data
    if not isinstance(rows, list) or len(rows) != shape[0] or not rows:
        raise unpickler.refused(f"not the {shape[0]:,} word vectors that its header announces")
    width = rows[0].shape[-1] if isinstance(rows[0], PickledArray) and rows[0].shape else 0
    for number, row in enumerate(rows):
        right = isinstance(row, PickledArray) and row.shape in ((width,), (1, width)) and row.dtype.code == "f4"
        if not right or not width:
            raise unpickler.refused(f"word {number:,} has no vector of {width} float32 values")
    for start in range(0, len(rows), ROWS):
        yield np.stack([unpickler.read(row).reshape(width) for row in rows[start : start + ROWS]])
