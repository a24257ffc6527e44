"""Lists, strings and numpy arrays out of pickles written by Python 2 or 3, without running anything.

pickle.load would call whatever a file names. This is a small machine for the few instructions that lists of strings
and arrays consist of; it knows the few names below and calls none of them, and an array's data stay in the file until
they are asked for, so a file of gigabytes costs some 200 bytes an array.
"""

import codecs
import math
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pipeline.weights import WeightsError, npy, shown
from pipeline.weights.pickled import CODE, Dtype, Later, Name, PickledArray

# numpy 2 renamed numpy.core to numpy._core.
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy._core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy.core.numeric", "_frombuffer"): "frombuffer",  # protocol 5
    ("numpy._core.numeric", "_frombuffer"): "frombuffer",
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",  # how Python 3 writes bytes for Python 2: as text that stands for them
}
PLAIN = "lists of strings and arrays"
LONG = 64  # strings of more bytes stay in the file
LONGEST_LINE = 1 << 20


class Unpickler:
    """Reads one pickle from an open file, from where the file stands.

    Raises (from `load` and `read`):
        WeightsError: the file is cut short, does not hold together, or asks for a name that plain data do not need.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.file = file
        self.size = os.fstat(file.fileno()).st_size
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.shapes: dict[tuple[int, ...], tuple[int, ...]] = {}

    def load(self) -> Any:
        """The pickled object: list, tuple, bytes (Python 2's str), str, int, float, bool, None or PickledArray."""
        try:
            return self._run()
        except WeightsError:
            raise
        except _INCOHERENT as error:
            raise self.damaged(f"its pickle does not hold together ({type(error).__name__}: {error})") from None

    def read(self, array: PickledArray) -> np.ndarray:
        """The values of an array of numbers or of strings, C order, native byte order.

        Raises:
            WeightsError: an object array, or data that do not fill the shape.
        """
        try:
            dtype = array.dtype.numpy
            values = np.frombuffer(self.content(array.data), dtype)
            values = values.reshape(array.shape, order="F" if array.fortran else "C")
            return np.ascontiguousarray(values.astype(dtype.newbyteorder("="))).reshape(array.shape)
        except _INCOHERENT as error:
            raise self.damaged(f"an array that cannot be read ({error})") from None

    def mapped(self, array: PickledArray) -> np.ndarray:
        """As `read`, but the values stay in the file and are mapped, where they lie there as they are in memory."""
        try:
            dtype, data = array.dtype.numpy, array.data
            whole = isinstance(data, Later) and data.length == dtype.itemsize * math.prod(array.shape)
            if not whole or data.recode or array.fortran or min(array.shape, default=0) < 1:
                return self.read(array)
            return np.memmap(self.path, dtype, "r", data.offset, array.shape)
        except _INCOHERENT as error:
            raise self.damaged(f"an array that cannot be read ({error})") from None

    def content(self, string: Any) -> bytes:
        """A string, fetched from the file if it was left there; of text, its UTF-8.

        Raises:
            TypeError: it is no string.
        """
        if isinstance(string, Later):
            self.file.seek(string.offset)
            data = self._take(string.length)
            return _bytes_of(data.decode("utf-8", "surrogatepass")) if string.recode else data
        if isinstance(string, str):
            return string.encode("utf-8", "surrogatepass")
        if not isinstance(string, bytes):
            raise TypeError(f"{type(string).__name__} where a string was expected")
        return string

    def refused(self, why: str, remedy: str | None = None) -> WeightsError:
        """An error that names the file, and what it should be instead."""
        return WeightsError(f"{self.path}: {why}; {remedy or f'expected {PLAIN}, as they were published'}")

    def damaged(self, why: str) -> WeightsError:
        """An error that names the file and the place."""
        return self.refused(f"{why} (at byte {self.file.tell():,})", "fetch the file again")

    def _run(self) -> Any:
        steps = {bytes([code]): step for code, step in self.steps().items()}
        read = self.file.read
        while True:
            code = read(1)
            if code == b".":
                return self.stack.pop()
            step = steps.get(code)
            if step is None:
                raise self._unknown(code)
            step(self)

    def steps(self) -> "dict[int, Callable[[Unpickler], None]]":
        """What each instruction does."""
        return STEPS

    def _unknown(self, code: bytes) -> WeightsError:
        if not code:
            return self.damaged("the file is cut short")
        if self.file.tell() == 1:
            npy.refuse_another(self.path, "a pickle")
            return self.damaged(f"no pickle: it begins with {code!r}")
        if code in b"}d":
            return self.refused("holds a dictionary", f"expected {PLAIN}; pickle those that are in it")
        return self.damaged(f"pickle instruction {code!r} has no place in {PLAIN}")

    def _take(self, count: int) -> bytes:
        if count > self.size - self.file.tell():
            raise self.damaged(f"the file is cut short: {count:,} bytes were to follow")
        return self.file.read(count)

    def _number(self, form: str) -> int:
        return int(struct.unpack("<" + form, self._take(struct.calcsize("<" + form)))[0])

    def _line(self) -> bytes:
        line = self.file.readline(LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise self.damaged("the file is cut short, or a line of it too long")
        return line[:-1]

    def string(self, form: str) -> None:
        """Bytes, or Python 2's str."""
        length = self._number(form)
        self.stack.append(self._later(length) or self._take(length))

    def text(self, form: str) -> None:
        """Text, in UTF-8."""
        length = self._number(form)
        self.stack.append(self._later(length) or self._take(length).decode("utf-8", "surrogatepass"))

    def _later(self, length: int) -> Later | None:
        if length <= LONG:
            return None
        at = self.file.tell()
        if length > self.size - at:
            raise self.damaged(f"the file is cut short: {length:,} bytes were to follow")
        self.file.seek(length, 1)
        return Later(at, length)

    def quoted(self) -> None:
        self.stack.append(codecs.escape_decode(self._line().strip()[1:-1])[0])

    def text_line(self) -> None:
        self.stack.append(codecs.raw_unicode_escape_decode(self._line())[0])

    def integer(self) -> None:
        line = self._line()
        self.stack.append(line == b"01" if line in (b"00", b"01") else int(line))

    def skip(self, count: int) -> None:
        self._take(count)

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def remember(self, key: int) -> None:
        self.memo[key] = self.stack[-1]

    def recall(self, key: int) -> None:
        self.stack.append(self.memo[key])

    def tuple_of(self, count: int) -> None:
        items = tuple(self.stack[-count:])
        self.stack[-count:] = [items]

    def since_mark(self) -> list[Any]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def append(self) -> None:
        item = self.stack.pop()
        self._list().append(item)

    def extend(self) -> None:
        items = self.since_mark()
        self._list().extend(items)

    def _list(self) -> list[Any]:
        if not isinstance(self.stack[-1], list):
            raise TypeError("appending to what is no list")
        return self.stack[-1]

    def name(self, module: Any, name: Any) -> None:
        module, name = (part.decode("ascii", "replace") if isinstance(part, bytes) else part for part in (module, name))
        module, name = (part if isinstance(part, str) else "?" for part in (module, name))
        known = ALLOWED.get((module, name))
        if known is None:
            raise self.refused(f"asks for {shown(f'{module}.{name}', 80)}, which {PLAIN} do not need, and was not read")
        self.stack.append(Name(known))

    def stack_name(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.name(module, name)

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Name):
            raise self.damaged("a call of what is no name")
        match function, arguments:
            case "reconstruct", (Name() as kind, *_) if kind == "ndarray":
                self.stack.append(PickledArray())
            case "dtype", (code, *_):
                self.stack.append(Dtype(self._code(code)))
            case "frombuffer", (data, Dtype() as dtype, tuple() as shape, order):
                array = PickledArray()
                array.dtype, array.shape, array.data, array.fortran = dtype, shape, data, self.content(order) == b"F"
                self.stack.append(array)
            case "encode", (text, encoding) if self.content(encoding) == b"latin1":
                if isinstance(text, Later):
                    self.stack.append(Later(text.offset, text.length, recode=True))
                else:
                    self.stack.append(_bytes_of(text))
            case _:
                raise self.refused(f"a call of {function} that makes no array")

    def _code(self, code: Any) -> str:
        name = self.content(code).decode("ascii", "replace")
        if not CODE.fullmatch(name):
            raise self.refused(f"an array of {name!r}", f"expected {PLAIN} of numbers, as they were published")
        return name

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Dtype):
            target.order = self.content(state[1]).decode("ascii", "replace")
        elif isinstance(target, PickledArray):
            _, shape, dtype, fortran, data = state
            if not isinstance(dtype, Dtype):
                raise self.damaged("an array without a dtype")
            target.shape, target.dtype, target.data = self.shapes.setdefault(shape, shape), dtype, data
            target.fortran = bool(fortran)
        else:
            raise self.damaged("state for what is no array")


def _bytes_of(text: Any) -> bytes:
    if not isinstance(text, str):
        raise TypeError("no text where text was expected")
    return text.encode("latin-1")


# What a machine stumbles over in a file that was not written by a pickler.
_INCOHERENT = (
    LookupError,
    ValueError,
    OverflowError,
    struct.error,
    TypeError,
    AttributeError,
    MemoryError,
    RecursionError,
)


STEPS: dict[int, Callable[[Unpickler], None]] = {
    ord("\x80"): lambda u: u.skip(1),  # the protocol's number
    ord("\x95"): lambda u: u.skip(8),  # a frame's length
    ord("U"): lambda u: u.string("B"),
    ord("T"): lambda u: u.string("I"),
    ord("C"): lambda u: u.string("B"),
    ord("B"): lambda u: u.string("I"),
    ord("\x8e"): lambda u: u.string("Q"),
    ord("S"): Unpickler.quoted,
    ord("\x96"): lambda u: u.string("Q"),  # a bytearray, protocol 5
    ord("V"): Unpickler.text_line,
    ord("X"): lambda u: u.text("I"),
    ord("\x8c"): lambda u: u.text("B"),
    ord("\x8d"): lambda u: u.text("Q"),
    ord("K"): lambda u: u.push(u._number("B")),
    ord("M"): lambda u: u.push(u._number("H")),
    ord("J"): lambda u: u.push(u._number("i")),
    ord("I"): Unpickler.integer,
    ord("L"): lambda u: u.push(int(u._line().rstrip(b"L"))),
    ord("\x8a"): lambda u: u.push(int.from_bytes(u._take(u._number("B")), "little", signed=True)),
    ord("F"): lambda u: u.push(float(u._line())),
    ord("G"): lambda u: u.push(struct.unpack(">d", u._take(8))[0]),
    ord("N"): lambda u: u.push(None),
    ord("\x88"): lambda u: u.push(True),
    ord("\x89"): lambda u: u.push(False),
    ord("("): lambda u: u.marks.append(len(u.stack)),
    ord(")"): lambda u: u.push(()),
    ord("t"): lambda u: u.push(tuple(u.since_mark())),
    ord("\x85"): lambda u: u.tuple_of(1),
    ord("\x86"): lambda u: u.tuple_of(2),
    ord("\x87"): lambda u: u.tuple_of(3),
    ord("]"): lambda u: u.push([]),
    ord("l"): lambda u: u.push(u.since_mark()),
    ord("a"): Unpickler.append,
    ord("e"): Unpickler.extend,
    ord("q"): lambda u: u.remember(u._number("B")),
    ord("r"): lambda u: u.remember(u._number("I")),
    ord("p"): lambda u: u.remember(int(u._line())),
    ord("\x94"): lambda u: u.remember(len(u.memo)),
    ord("h"): lambda u: u.recall(u._number("B")),
    ord("j"): lambda u: u.recall(u._number("I")),
    ord("g"): lambda u: u.recall(int(u._line())),
    ord("c"): lambda u: u.name(u._line(), u._line()),
    ord("\x93"): Unpickler.stack_name,
    ord("R"): Unpickler.reduce,
    ord("b"): Unpickler.build,
}
