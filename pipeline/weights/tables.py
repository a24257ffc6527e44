"""Skip-Thought's word vectors: an object array pickled by Python 2, turned once into a float32 file that is mapped.

Each of the 930,913 elements is a numpy array of its own, shape (1, E) or (E,). Unpickling them takes 2.7 GB and
would run whatever a file says; this reader is a small machine for the few pickle instructions that such a file
consists of. It allows three names, writes each row as it passes, and keeps no row.
"""

import os
import struct
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock

from pipeline.weights import WeightsError

# numpy 2 renamed the package to numpy._core.
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy._core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
}
KEPT_BYTES = 64  # memoised strings up to this size are kept, longer ones are read again from the file


def mapped(path: Path, sha256: str, converted: Path) -> np.ndarray:
    """The word vectors of `path`, a read-only map (words, E) float32.

    A plain float32 array is mapped where it lies. An object array is converted on first use into
    `converted`/<name>-<sha256 of the source>.npy; peak memory is about 200 bytes a word, whatever E.

    Raises:
        WeightsError: missing or damaged file, names that a table of vectors does not need, rows of unequal length.
    """
    try:
        with path.open("rb") as file:
            shape, dtype = _header(path, file)
            if not dtype.hasobject:
                if dtype != np.float32 or len(shape) != 2:
                    raise WeightsError(f"{path}: holds {dtype} of shape {shape}, expected word vectors in float32")
                return np.load(path, mmap_mode="r", allow_pickle=False)
            target = converted / f"{path.stem}-{sha256[:16]}.npy"
            if not target.exists():
                converted.mkdir(parents=True, exist_ok=True)
                with FileLock(target.with_suffix(".lock")):
                    if not target.exists():
                        convert(path, file, shape, target)
    except OSError as error:
        raise WeightsError(f"{error.filename or path}: {error.strerror or error}") from None
    return np.load(target, mmap_mode="r", allow_pickle=False)


def _header(path: Path, file: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    except (ValueError, EOFError) as error:
        raise WeightsError(f"{path}: not a .npy file ({error}); fetch it again") from None
    return shape, dtype


def convert(path: Path, file: BinaryIO, shape: tuple[int, ...], target: Path) -> None:
    """Rewrite the pickled object array that follows in `file` as a plain float32 .npy under `target`, atomically."""
    if len(shape) != 1:
        raise WeightsError(f"{path}: an object array of shape {shape}, expected one element a word")
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as out:
            machine = _Machine(path, file, out, shape[0])
            machine.run()
            out.seek(0)
            out.write(machine.npy_header())
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


HEADER = 128  # bytes kept free for the .npy header, which is known only once the first row is read


class _Array:
    """An array under construction; afterwards only its row number remains."""

    __slots__ = ("row",)

    def __init__(self) -> None:
        self.row = -1


class _Later:
    """A long byte string that was memoised: where it lies in the file."""

    __slots__ = ("length", "offset")

    def __init__(self, offset: int, length: int) -> None:
        self.offset = offset
        self.length = length


class _Dtype:
    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "<"


class _Machine:
    def __init__(self, path: Path, file: BinaryIO, out: BinaryIO, rows: int) -> None:
        self.path = path
        self.file = file
        self.out = out
        self.rows = rows
        self.written = 0
        self.width = -1
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.last = _Later(0, 0)  # where the byte string read last lies
        out.write(b"\0" * HEADER)

    def npy_header(self) -> bytes:
        text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({self.rows}, {self.width}), }}"
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", HEADER - 10) + text.ljust(HEADER - 11).encode() + b"\n"

    def run(self) -> None:
        try:
            self.steps()
        except (IndexError, KeyError, ValueError, struct.error, TypeError, AttributeError) as error:
            raise self.refused(f"its pickle does not hold together ({type(error).__name__}: {error})") from None
        if self.written != self.rows:
            raise self.refused(f"{self.written:,} word vectors where the header says {self.rows:,}")

    def refused(self, why: str) -> WeightsError:
        return WeightsError(f"{self.path}: {why} (at byte {self.file.tell():,}); fetch the file again")

    def take(self, count: int) -> bytes:
        data = self.file.read(count)
        if len(data) != count:
            raise self.refused(f"the file is cut short: {count:,} bytes were to follow")
        return data

    def text(self, count: int) -> bytes:
        self.last = _Later(self.file.tell() if count > KEPT_BYTES else 0, count)
        return self.take(count)

    def steps(self) -> None:
        stack, take, push = self.stack, self.take, self.stack.append
        while True:
            op = take(1)
            if op == b"U" or op == b"C":  # SHORT_BINSTRING, SHORT_BINBYTES
                push(self.text(take(1)[0]))
            elif op == b"T" or op == b"B":  # BINSTRING, BINBYTES
                push(self.text(struct.unpack("<I", take(4))[0]))
            elif op == b"\x8e":  # BINBYTES8
                push(self.text(struct.unpack("<Q", take(8))[0]))
            elif op == b"q":  # BINPUT
                self.remember(take(1)[0])
            elif op == b"r":  # LONG_BINPUT
                self.remember(struct.unpack("<I", take(4))[0])
            elif op == b"\x94":  # MEMOIZE
                self.remember(len(self.memo))
            elif op == b"h":  # BINGET
                push(self.recall(take(1)[0]))
            elif op == b"j":  # LONG_BINGET
                push(self.recall(struct.unpack("<I", take(4))[0]))
            elif op == b"K":  # BININT1
                push(take(1)[0])
            elif op == b"M":  # BININT2
                push(struct.unpack("<H", take(2))[0])
            elif op == b"J":  # BININT
                push(struct.unpack("<i", take(4))[0])
            elif op == b"(":
                self.marks.append(len(stack))
            elif op == b"t":  # TUPLE
                push(tuple(self.since_mark()))
            elif op == b"\x85":
                stack[-1:] = [(stack[-1],)]
            elif op == b"\x86":
                stack[-2:] = [tuple(stack[-2:])]
            elif op == b"\x87":
                stack[-3:] = [tuple(stack[-3:])]
            elif op == b")":
                push(())
            elif op == b"R":  # REDUCE
                arguments = stack.pop()
                stack[-1] = self.reduce(stack[-1], arguments)
            elif op == b"b":  # BUILD
                state = stack.pop()
                self.build(stack[-1], state)
            elif op == b"]":
                push([])
            elif op == b"a":  # APPEND
                item = stack.pop()
                stack[-1].append(item)
            elif op == b"e":  # APPENDS
                items = self.since_mark()
                stack[-1].extend(items)
            elif op == b"N":
                push(None)
            elif op == b"\x88" or op == b"\x89":
                push(op == b"\x88")
            elif op == b"X":  # BINUNICODE
                push(take(struct.unpack("<I", take(4))[0]))
            elif op == b"\x8c":  # SHORT_BINUNICODE
                push(take(take(1)[0]))
            elif op == b"c":  # GLOBAL
                push(self.name(self.line(), self.line()))
            elif op == b"\x93":  # STACK_GLOBAL
                name = stack.pop()
                stack[-1] = self.name(stack[-1], name)
            elif op == b"\x80":  # PROTO
                take(1)
            elif op == b"\x95":  # FRAME
                take(8)
            elif op == b".":  # STOP
                return
            else:
                raise self.refused(f"pickle instruction {op!r} has no place in a table of word vectors")

    def line(self) -> bytes:
        return self.file.readline(200).rstrip(b"\n")

    def since_mark(self) -> list[Any]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def remember(self, key: int) -> None:
        value = self.stack[-1]
        self.memo[key] = self.last if isinstance(value, bytes) and len(value) > KEPT_BYTES else value

    def recall(self, key: int) -> Any:
        value = self.memo[key]
        if isinstance(value, _Later):
            here = self.file.tell()
            self.file.seek(value.offset)
            data = self.take(value.length)
            self.file.seek(here)
            return data
        return value

    def name(self, module: bytes, name: bytes) -> str:
        key = (module.decode("ascii", "replace"), name.decode("ascii", "replace"))
        if key not in ALLOWED:
            raise WeightsError(
                f"{self.path}: asks for {key[0]}.{key[1]}, which a table of word vectors does not need; "
                "the file is not the published one and was not read"
            )
        return ALLOWED[key]

    def reduce(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        if function == "reconstruct" and arguments[0] == "ndarray":
            return _Array()
        if function == "dtype":
            code = arguments[0]
            return _Dtype(code.decode("ascii") if isinstance(code, bytes) else str(code))
        raise self.refused("a call that makes no array")

    def build(self, target: Any, state: tuple[Any, ...]) -> None:
        if isinstance(target, _Dtype):
            target.order = state[1].decode("ascii")
            return
        _, shape, dtype, _, data = state
        if dtype.code.startswith("O"):
            rows = [element.row for element in data]
            if shape != (self.rows,) or rows != list(range(self.rows)):
                raise self.refused("the rows are not each word's own, in order")
            return
        if dtype.code != "f4" or dtype.order not in "<=|":
            raise self.refused(f"word vectors of type {dtype.order}{dtype.code}, expected <f4")
        width = shape[-1]
        if shape not in ((width,), (1, width)) or len(data) != 4 * width or self.width not in (-1, width):
            raise self.refused(f"word {self.written:,} has a vector of shape {shape}")
        self.width = width
        self.out.write(data)
        target.row = self.written
        self.written += 1
