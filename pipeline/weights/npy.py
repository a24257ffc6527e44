"""numpy's files (.npy, .npz) from elsewhere: every size is checked against the file before memory is taken for it."""

import contextlib
import lzma
import math
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np

from pipeline.corpora.recognise import recognise
from pipeline.weights import WeightsError

# Weights hardly compress: an archive that claims more than this many times its own size is no archive of weights.
MOST_TIMES = 16
_SLACK = 1 << 20  # of which arrays of zeros, such as biases, take almost nothing

_DAMAGED_HEADER = (
    ValueError,
    TypeError,
    LookupError,
    OverflowError,
    SyntaxError,
    RecursionError,
    MemoryError,
    EOFError,
)
_DAMAGED_ARCHIVE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, OSError, EOFError, ValueError, LookupError),
    *(NotImplementedError, RuntimeError, OverflowError),  # an unknown compression; a password; sizes beyond any file
)


def read_header(name: str | Path, file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran order, and dtype of the array that follows in `file`.

    Raises:
        WeightsError: not numpy's format, or a header that describes no array.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a header of Python 2's, which is what is expected here
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            # The arithmetic that numpy itself does with them must hold.
            if any(isinstance(size, bool) or size < 0 for size in shape) or math.prod(shape) > 1 << 60:
                raise ValueError(f"shape {shape}")
    except (*_DAMAGED_HEADER, tokenize.TokenError) as error:
        raise WeightsError(f"{name}: not a .npy file ({_line(error)}); fetch it again") from None
    return shape, fortran, dtype


def read_npz(path: Path, names: Iterable[str]) -> tuple[dict[str, np.ndarray], set[str]]:
    """Those arrays of an archive that are called `names`, as float32, and the names of all that it holds.

    Only these are read; what is pickled beside them stays unread.

    Raises:
        WeightsError: missing or damaged file, or an array that is not of real floating-point numbers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            there = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            wanted = {name: there[name] for name in names if name in there}
            claimed, size = sum(member.file_size for member in wanted.values()), path.stat().st_size
            if claimed > MOST_TIMES * size + _SLACK:
                raise WeightsError(
                    f"{path}: has {size:,} bytes and claims {claimed:,} of weights, which cannot be; fetch it again"
                )
            return {name: _array(path, archive, member) for name, member in wanted.items()}, set(there)
    except _DAMAGED_ARCHIVE as error:
        if not _begins_as_archive(path):  # one that does is half of an .npz, not another kind of file
            refuse_another(path, "an .npz file")
        raise WeightsError(f"{path}: not a readable .npz file ({_line(error)}); fetch it again") from None


def _begins_as_archive(path: Path) -> bool:
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"
    return False


def refuse_another(path: Path, expected: str) -> None:
    """Say what a file that could not be read is, where that can be seen: an error page, a pointer, an archive.

    Raises:
        WeightsError: it can.
    """
    with contextlib.suppress(OSError), path.open("rb") as file:
        if other := recognise(file.read(512)):
            raise WeightsError(f"{path}: {other}, where {expected} was expected")


def _array(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    name = f"{path}: {member.filename}"
    with archive.open(member) as file:
        shape, fortran, dtype = read_header(name, file)
        if dtype.kind != "f":
            raise WeightsError(f"{name} holds {dtype}, expected floating-point numbers; is it the file its name says?")
        data = file.read()
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise WeightsError(f"{name} has {len(data):,} bytes for shape {shape} of {dtype}; fetch the file again")
    values = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    with np.errstate(over="ignore"):  # whoever takes them looks whether they are finite
        return np.ascontiguousarray(values, np.float32).reshape(shape)


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
