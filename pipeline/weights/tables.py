"""Skip-Thought's word vectors: an object array pickled by Python 2, turned once into a float32 file that is mapped.

Each of the 930,913 elements is a numpy array of its own, shape (1, E) or (E,). Unpickled they take 2.7 GB; here an
element is a place in the file until its row is copied.
"""

import os
import tempfile
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock

from pipeline.weights import WeightsError
from pipeline.weights.unpickle import PickledArray, Unpickler

ROWS = 4096  # rows copied at a time


def mapped(path: Path, sha256: str, converted: Path) -> np.ndarray:
    """The word vectors of `path`, a read-only map (words, E) float32.

    A plain float32 array is mapped where it lies. An object array is converted on first use into
    `converted`/<name>-<sha256 of the source>.npy; peak memory is some 250 bytes a word, whatever E (0.25 GB for the
    published tables, against 2.7 GB for numpy.load). Processes that want the same table wait for the first.

    Raises:
        WeightsError: missing or damaged file, names that a table of vectors does not need, rows of unequal length.
    """
    try:
        with path.open("rb", buffering=1 << 20) as file:
            shape, dtype = _header(path, file)
            if not dtype.hasobject:
                if dtype != np.float32 or len(shape) != 2:
                    raise WeightsError(f"{path}: holds {dtype} of shape {shape}, expected word vectors in float32")
                return _map(path)
            target = converted / f"{path.stem}-{sha256[:16]}.npy"
            if not target.exists():
                converted.mkdir(parents=True, exist_ok=True)
                with FileLock(target.with_suffix(".lock")):
                    if not target.exists():
                        _convert(path, file, shape, target)
    except OSError as error:
        raise WeightsError(f"{error.filename or path}: {error.strerror or error}") from None
    return _map(target)


def _map(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise WeightsError(f"{path}: cut short or damaged ({error}); fetch it again") from None


def _header(path: Path, file: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    except (ValueError, EOFError) as error:
        raise WeightsError(f"{path}: not a .npy file ({error}); fetch it again") from None
    return shape, dtype


def _convert(path: Path, file: BinaryIO, shape: tuple[int, ...], target: Path) -> None:
    """Rewrite the pickled object array that follows in `file` as a plain float32 .npy under `target`, atomically."""
    unpickler = Unpickler(path, file)
    table = unpickler.load()
    if not (isinstance(table, PickledArray) and table.objects and table.shape == shape and len(shape) == 1):
        raise unpickler.refused("not a one-dimensional array of objects")
    rows = table.data
    if not isinstance(rows, list) or len(rows) != shape[0] or not rows:
        raise unpickler.refused(f"not the {shape[0]:,} word vectors that its header announces")
    width = rows[0].shape[-1] if isinstance(rows[0], PickledArray) and rows[0].shape else 0
    for number, row in enumerate(rows):
        right = isinstance(row, PickledArray) and row.shape in ((width,), (1, width)) and row.dtype.code == "f4"
        if not right:
            raise unpickler.refused(f"word {number:,} has no vector of {width} float32 values")
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as out:
            header = {"descr": "<f4", "fortran_order": False, "shape": (len(rows), width)}
            np.lib.format.write_array_header_1_0(out, header)
            for start in range(0, len(rows), ROWS):
                block = [unpickler.read(row).reshape(width) for row in rows[start : start + ROWS]]
                out.write(np.stack(block).astype("<f4").tobytes())
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
