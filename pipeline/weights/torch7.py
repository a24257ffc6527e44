"""A reader for Torch7's binary serialisation (.t7) that runs nothing: functions in a file stay unread bytes.

The format, after torch7's File.lua, Tensor.c and Storage.c: little-endian, int 4 bytes, long 8 bytes. An object is
an int32 kind followed by its payload. Tables, torch objects and functions carry an index, so that one object
written in several places (the storage that every time step's tensors view) is stored once.
"""

import math
import mmap
import re
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.corpora.recognise import recognise
from pipeline.weights import WeightsError

NIL, NUMBER, STRING, TABLE, TORCH, BOOLEAN, FUNCTION, LEGACY_RECURSIVE_FUNCTION, RECURSIVE_FUNCTION = range(9)

ELEMENTS = {
    "Byte": np.uint8,
    "Char": np.int8,
    "Short": np.int16,
    "Int": np.int32,
    "Long": np.int64,
    "Float": np.float32,
    "Double": np.float64,
    "Half": np.float16,
    # Tensors saved from a GPU. `torch.CudaTensor` has no element name: it is float32.
    "CudaByte": np.uint8,
    "CudaChar": np.int8,
    "CudaShort": np.int16,
    "CudaInt": np.int32,
    "CudaLong": np.int64,
    "Cuda": np.float32,
    "CudaDouble": np.float64,
    "CudaHalf": np.float16,
}

TYPENAME = re.compile(r"[\w.:]{1,200}", re.ASCII)
UNREADABLE = ("tds",)  # packages whose objects write themselves in a way of their own

# Graphs of hundreds of modules nest about four deep a module. Python's frames live on the heap, so this is safe.
DEEPEST = 50_000


@dataclass(eq=False)
class TorchObject:
    """An object of a Torch class: `typename` such as "nn.Linear", and its fields."""

    typename: str
    fields: dict[Any, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The class without its package, so that nn.Sigmoid and cudnn.Sigmoid are one."""
        return self.typename.rpartition(".")[2]

    def list(self, key: str) -> list[Any]:
        """Field `key`, a Lua array, as a list."""
        return as_list(self.fields.get(key))


def as_list(table: Any) -> list[Any]:
    """A Lua array (a table with keys 1 … n) as a list; anything else as an empty one."""
    if not isinstance(table, dict):
        return []
    return [table[i] for i in range(1, len(table) + 1) if i in table]


def load(path: str | Path) -> Any:
    """The object in a .t7 file: None, float, str, bool, dict (a table), np.ndarray (a tensor) or TorchObject.

    Tensors are read-only views into the mapped file; copy what is to be kept. A tensor of more elements than its
    storage has is a TorchObject without fields. Whole-number table keys become int.

    Raises:
        WeightsError: the file is missing, cut short or not a Torch7 file.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'the file is empty'})"
        ) from None
    reader = _Reader(path, data)
    with _deep_recursion():
        try:
            return reader.object()
        except RecursionError:
            raise WeightsError(f"{path}: objects nest deeper than {DEEPEST}; not a published Torch7 file") from None


@contextmanager
def _deep_recursion() -> Iterator[None]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, DEEPEST))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


class _Reader:
    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path = path
        self.data = data
        self.at = 0
        self.seen: dict[int, Any] = {}

    def object(self) -> Any:
        kind = self.integer()
        if kind == NIL:
            return None
        if kind == NUMBER:
            return struct.unpack("<d", self.take(8))[0]
        if kind == STRING:
            return self.string()
        if kind == BOOLEAN:
            return self.integer() == 1
        if kind == FUNCTION:
            self.string()
            self.object()
            return None
        if kind not in (TABLE, TORCH, LEGACY_RECURSIVE_FUNCTION, RECURSIVE_FUNCTION):
            raise self.damaged(f"unknown object kind {kind}")
        index = self.integer()
        if index in self.seen:
            return self.seen[index]
        if kind == TABLE:
            return self.table(index)
        if kind == TORCH:
            return self.torch_object(index)
        self.seen[index] = None
        self.string()
        self.object()
        return None

    def table(self, index: int) -> dict[Any, Any]:
        table: dict[Any, Any] = {}
        self.seen[index] = table
        count = self.integer()
        if count < 0:
            raise self.damaged(f"a table of {count} entries")
        for _ in range(count):
            key, value = self.object(), self.object()
            if isinstance(key, float) and key.is_integer():
                key = int(key)
            if isinstance(key, int | float | str | bool | TorchObject):
                table[key] = value
        return table

    def torch_object(self, index: int) -> Any:
        version = self.string()
        typename = self.string() if version.startswith("V ") else version
        if not TYPENAME.fullmatch(typename):
            raise self.damaged(f"an object of class {typename[:60]!r}")
        package, _, name = typename.rpartition(".")
        value: Any
        if package == "torch" and name.endswith("Tensor") and name.removesuffix("Tensor") in ELEMENTS:
            value = self.tensor(typename, ELEMENTS[name.removesuffix("Tensor")])
        elif package == "torch" and name.endswith("Storage") and name.removesuffix("Storage") in ELEMENTS:
            value = self.storage(ELEMENTS[name.removesuffix("Storage")])
        elif package in UNREADABLE:
            raise WeightsError(
                f"{self.path}: holds a {typename} (at byte {self.at:,}), whose layout is its own; turn it into a table "
                "in Torch and save the file again"
            )
        else:
            value = TorchObject(typename)
            self.seen[index] = value
            payload = self.object()
            value.fields = payload if isinstance(payload, dict) else {}
        self.seen[index] = value
        return value

    def tensor(self, typename: str, element: type) -> "np.ndarray | TorchObject":
        dimensions = self.integer()
        if not 0 <= dimensions <= 32:
            raise self.damaged(f"a tensor of {dimensions} dimensions")
        shape, strides = self.longs(dimensions), self.longs(dimensions)
        (offset,) = self.longs(1)
        storage = self.object()
        if storage is None or dimensions == 0:
            return np.zeros(0, element)
        if not isinstance(storage, np.ndarray) or storage.dtype != element:
            raise self.damaged("a tensor without its storage")
        if min(shape) < 0 or min(strides) < 0 or offset < 1:
            raise self.damaged(f"a tensor of shape {shape} with strides {strides} from element {offset}")
        if 0 in shape:
            return np.zeros(0, element)
        first = offset - 1
        if first + sum((n - 1) * stride for n, stride in zip(shape, strides)) >= len(storage):
            raise self.damaged("a tensor that reaches outside its storage")
        if math.prod(shape) > len(storage):
            # One value seen many times over, of any size: a network may keep such a view, but no weights.
            return TorchObject(typename)
        size = storage.itemsize
        return np.lib.stride_tricks.as_strided(
            storage[first:], shape, [stride * size for stride in strides], writeable=False
        )

    def storage(self, element: type) -> np.ndarray:
        (count,) = self.longs(1)
        size = np.dtype(element).itemsize
        start = self.at
        self.skip(count * size)
        if start % size == 0:
            return np.frombuffer(self.data, element, count, start)
        return np.frombuffer(self.data[start : self.at], element)  # strides need aligned elements: copy

    def integer(self) -> int:
        return struct.unpack("<i", self.take(4))[0]

    def longs(self, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}q", self.take(8 * count))

    def string(self) -> str:
        return self.take(self.integer()).decode("utf-8", "surrogateescape")

    def take(self, count: int) -> bytes:
        start = self.at
        self.skip(count)
        return self.data[start : self.at]

    def skip(self, count: int) -> None:
        if count < 0 or self.at + count > len(self.data):
            raise self.damaged(f"the file ends at byte {len(self.data):,} where {count:,} more were to follow")
        self.at += count

    def damaged(self, what: str) -> WeightsError:
        if other := recognise(self.data[:512]):
            return WeightsError(f"{self.path}: {other}, where a Torch7 file was expected")
        return WeightsError(
            f"{self.path}: {what} (at byte {self.at:,}); cut short, or no Torch7 binary file: fetch it again"
        )
