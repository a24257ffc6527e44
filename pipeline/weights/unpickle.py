"""Lists, strings and numpy arrays out of pickles written by Python 2 or 3, without running anything.

pickle.load would call whatever a file names. This is a small machine for the few instructions that lists of strings
and arrays consist of; it knows three names, and an array's data stay in the file until they are asked for, so a file
of gigabytes costs some 200 bytes an array.
"""

import codecs
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pipeline.weights import WeightsError

# numpy 2 renamed the package to numpy._core.
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy._core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
}
LONG = 64  # strings of more bytes stay in the file


class Later:
    """A long string: where it lies in the file."""

    __slots__ = ("length", "offset")

    def __init__(self, offset: int, length: int) -> None:
        self.offset = offset
        self.length = length


class Dtype:
    """A dtype under construction: its code, such as "f4" or "O8", and byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "<"


class PickledArray:
    """An array whose data lie in the file: `data` is Later, or for an object array the list of its elements."""

    __slots__ = ("data", "dtype", "shape")

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.dtype: Any = None
        self.data: Any = None

    @property
    def objects(self) -> bool:
        """Whether the elements are objects of their own."""
        return bool(self.dtype.code.startswith("O"))


class Unpickler:
    """Reads one pickle from an open file, from where the file stands.

    Raises (from `load` and `read`):
        WeightsError: the file is cut short, does not hold together, or asks for a name that plain data do not need.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.file = file
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
        except (LookupError, ValueError, OverflowError, struct.error, TypeError, AttributeError) as error:
            raise self.refused(f"its pickle does not hold together ({type(error).__name__}: {error})") from None

    def read(self, array: PickledArray) -> np.ndarray:
        """The values of an array of numbers, C order, native byte order.

        Raises:
            WeightsError: an object array, or data that do not fill the shape.
        """
        try:
            dtype = np.dtype(array.dtype.code).newbyteorder(array.dtype.order.replace("|", "="))
            return np.frombuffer(self.content(array.data), dtype).reshape(array.shape).astype(dtype.newbyteorder("="))
        except (TypeError, ValueError, AttributeError) as error:
            raise self.refused(f"an array that cannot be read ({error})") from None

    def mapped(self, array: PickledArray) -> np.ndarray:
        """As `read`, but the values stay in the file and are mapped, where they lie there as they are in memory."""
        dtype = np.dtype(array.dtype.code).newbyteorder(array.dtype.order.replace("|", "="))
        if not isinstance(array.data, Later) or array.data.length != dtype.itemsize * int(np.prod(array.shape)):
            return self.read(array)
        return np.memmap(self.path, dtype, "r", array.data.offset, array.shape)

    def content(self, string: Any) -> bytes:
        """A string, fetched from the file if it was left there."""
        if isinstance(string, Later):
            self.file.seek(string.offset)
            return self._take(string.length)
        return string if isinstance(string, bytes) else string.encode("latin-1")

    def refused(self, why: str) -> WeightsError:
        """An error that names the file and the place."""
        return WeightsError(f"{self.path}: {why} (at byte {self.file.tell():,}); fetch the file again")

    def _run(self) -> Any:
        steps = {bytes([code]): step for code, step in STEPS.items()}
        read = self.file.read
        while True:
            code = read(1)
            if code == b".":
                return self.stack.pop()
            step = steps.get(code)
            if step is None:
                if not code:
                    raise self.refused("the file is cut short")
                raise self.refused(f"pickle instruction {code!r} has no place in plain data")
            step(self)

    def _take(self, count: int) -> bytes:
        data = self.file.read(count)
        if len(data) != count:
            raise self.refused(f"the file is cut short: {count:,} bytes were to follow")
        return data

    def _number(self, form: str) -> int:
        return int(struct.unpack("<" + form, self._take(struct.calcsize("<" + form)))[0])

    def _line(self) -> bytes:
        line = self.file.readline()
        if not line.endswith(b"\n"):
            raise self.refused("the file is cut short")
        return line[:-1]

    def string(self, form: str) -> None:
        length = self._number(form)
        if length > LONG:
            self.stack.append(Later(self.file.tell(), length))
            self.file.seek(length, 1)
        else:
            self.stack.append(self._take(length))

    def quoted(self) -> None:
        self.stack.append(codecs.escape_decode(self._line().strip()[1:-1])[0])

    def text(self, form: str) -> None:
        self.stack.append(self._take(self._number(form)).decode("utf-8", "surrogatepass"))

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
        if (module, name) not in ALLOWED:
            raise WeightsError(
                f"{self.path}: asks for {module}.{name}, which lists of strings and arrays do not need; the file is "
                "not the published one and was not read"
            )
        self.stack.append(ALLOWED[module, name])

    def stack_name(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.name(module, name)

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if function == "reconstruct" and arguments[0] == "ndarray":
            self.stack.append(PickledArray())
        elif function == "dtype":
            code = arguments[0]
            self.stack.append(Dtype(code.decode("ascii") if isinstance(code, bytes) else str(code)))
        else:
            raise self.refused("a call that makes no array")

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Dtype):
            order = state[1]
            target.order = order.decode("ascii") if isinstance(order, bytes) else str(order)
        elif isinstance(target, PickledArray):
            _, shape, dtype, fortran, data = state
            if not isinstance(dtype, Dtype) or (fortran and len(shape) > 1 and min(shape) > 1):
                raise self.refused("an array in Fortran order, or without a dtype")
            target.shape, target.dtype, target.data = self.shapes.setdefault(shape, shape), dtype, data
        else:
            raise self.refused("state for what is no array")


STEPS: dict[int, Callable[[Unpickler], None]] = {
    ord("\x80"): lambda u: u.skip(1),  # the protocol's number
    ord("\x95"): lambda u: u.skip(8),  # a frame's length
    ord("U"): lambda u: u.string("B"),
    ord("T"): lambda u: u.string("I"),
    ord("C"): lambda u: u.string("B"),
    ord("B"): lambda u: u.string("I"),
    ord("\x8e"): lambda u: u.string("Q"),
    ord("S"): Unpickler.quoted,
    ord("X"): lambda u: u.text("I"),
    ord("\x8c"): lambda u: u.text("B"),
    ord("K"): lambda u: u.push(u._number("B")),
    ord("M"): lambda u: u.push(u._number("H")),
    ord("J"): lambda u: u.push(u._number("i")),
    ord("I"): Unpickler.integer,
    ord("L"): lambda u: u.push(int(u._line().rstrip(b"L"))),
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
