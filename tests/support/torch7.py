"""A writer of Torch7's binary files, byte by byte after torch7's File.lua, independent of the project's reader."""

import io
import struct
import sys

import numpy as np


class Obj:
    """A Torch object to be written: class name and fields."""

    def __init__(self, typename, **fields):
        self.typename, self.fields = typename, fields


class View:
    """A tensor into a flat storage that others share."""

    def __init__(self, storage, shape, offset, kind="Float"):
        self.storage, self.shape, self.offset, self.kind = storage, shape, offset, kind


class Function:
    """A Lua function: bytecode that no reader may run."""


class Storage:
    def __init__(self, values, kind="Float"):
        self.values, self.kind = np.asarray(values), kind


class Torch7:
    """A writer after torch7's File.lua."""

    def __init__(self):
        self.out = io.BytesIO()
        self.index = {}
        self.kept = []

    @classmethod
    def bytes(cls, value):
        writer = cls()
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(50_000)
        try:
            writer.write(value)
        finally:
            sys.setrecursionlimit(limit)
        return writer.out.getvalue()

    def pack(self, form, *values):
        self.out.write(struct.pack("<" + form, *values))

    def string(self, text):
        data = text if isinstance(text, bytes) else text.encode()
        self.pack("i", len(data))
        self.out.write(data)

    def known(self, value, kind):
        self.pack("i", kind)
        if id(value) in self.index:
            self.pack("i", self.index[id(value)])
            return True
        self.kept.append(value)
        self.index[id(value)] = len(self.index) + 1
        self.pack("i", self.index[id(value)])
        return False

    def write(self, value):
        if value is None:
            self.pack("i", 0)
        elif isinstance(value, bool):
            self.pack("ii", 5, value)
        elif isinstance(value, int | float):
            self.pack("id", 1, value)
        elif isinstance(value, str | bytes):
            self.pack("i", 2)
            self.string(value)
        elif isinstance(value, Function):
            if not self.known(value, 8):
                self.string(b"\x1bLJ\x01\x00not to be run")
                self.write({})
        elif isinstance(value, list):
            self.write_table(value, dict(enumerate(value, 1)))
        elif isinstance(value, dict):
            self.write_table(value, value)
        elif isinstance(value, Storage):
            if not self.known(value, 4):
                self.string("V 1")
                self.string(f"torch.{value.kind}Storage")
                self.pack("q", value.values.size)
                self.out.write(value.values.tobytes())
        elif isinstance(value, View):
            if not self.known(value, 4):
                self.string("V 1")
                self.string(f"torch.{value.kind}Tensor")
                strides = [int(np.prod(value.shape[i + 1 :])) for i in range(len(value.shape))]
                self.pack("i", len(value.shape))
                self.pack(f"{2 * len(value.shape) + 1}q", *value.shape, *strides, value.offset + 1)
                self.write(value.storage)
        elif isinstance(value, Obj):
            if not self.known(value, 4):
                self.string("V 1")
                self.string(value.typename)
                self.write(value.fields)
        else:
            raise TypeError(type(value))

    def write_table(self, key, table):
        if not self.known(key, 3):
            self.pack("i", len(table))
            for name, value in table.items():
                self.write(name)
                self.write(value)


def tensor(values, kind="Float"):
    values = np.asarray(values)
    return View(Storage(values.ravel(), kind), values.shape, 0, kind)
