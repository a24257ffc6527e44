"""What `unpickle` makes of a pickle: strings and arrays whose data may still lie in the file."""

import re
from typing import Any

import numpy as np

CODE = re.compile(r"[fiu][1248]|b1|[US]\d{1,4}|O[48]?")  # of dtypes whose values are numbers, strings or objects


class Later:
    """A long string: where it lies in the file. `recode`: as UTF-8 text whose characters stand for bytes."""

    __slots__ = ("length", "offset", "recode")

    def __init__(self, offset: int, length: int, recode: bool = False) -> None:
        self.offset = offset
        self.length = length
        self.recode = recode


class Dtype:
    """A dtype under construction: its code, such as "f4" or "O8", and byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "<"

    @property
    def numpy(self) -> np.dtype:
        """The dtype itself."""
        return np.dtype(self.order.replace("|", "") + self.code)


class PickledArray:
    """An array whose data lie in the file: `data` is Later, or for an object array the list of its elements."""

    __slots__ = ("data", "dtype", "fortran", "shape")

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.dtype: Any = None
        self.data: Any = None
        self.fortran = False

    @property
    def objects(self) -> bool:
        """Whether the elements are objects of their own."""
        return isinstance(self.dtype, Dtype) and self.dtype.code.startswith("O")


class Name(str):
    """One of ALLOWED's names on the stack, where no string of the file's can pass for it."""

    __slots__ = ()
