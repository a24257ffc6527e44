"""How many values a Parquet file says it holds, read from its footer without decoding anything.

A list of a billion empty texts takes a few bytes on disk and gigabytes once decoded. Arrow knows the count, too, but
ends the whole process where a column's metadata are damaged, instead of raising. Source: parquet.thrift of the Parquet
format, in Thrift's compact protocol.
"""

import struct
from pathlib import Path
from typing import Any

_END = struct.Struct("<I4s")  # the footer's length, and PAR1
_ROW_GROUPS, _COLUMNS, _META_DATA, _NUM_VALUES = 4, 1, 3, 5  # fields of FileMetaData, RowGroup, ColumnChunk, ...


def count_values(path: Path) -> int:
    """Values of all columns of all row groups, those inside lists each counted.

    Raises:
        OSError, ValueError: not a Parquet file, or its footer is damaged.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _END.size))
        try:
            length, magic = _END.unpack(file.read())
            if magic != b"PAR1" or length > size:
                raise ValueError("no footer")
            file.seek(size - _END.size - length)
            found = _Compact(file.read(length)).struct()
            columns = [column for group in found[_ROW_GROUPS] for column in group[_COLUMNS]]
            return sum(max(0, int(column[_META_DATA][_NUM_VALUES])) for column in columns)
        except (struct.error, IndexError, KeyError, TypeError, RecursionError):
            raise ValueError("the footer is damaged") from None


class _Compact:
    """Thrift's compact protocol: a struct becomes {field id: value}, a list a list; nothing is made of maps."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def struct(self) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._signed()
            kind = head & 15
            fields[number] = kind == 1 if kind in (1, 2) else self._value(kind)
        return fields

    def _value(self, kind: int) -> Any:
        if kind in (4, 5, 6):
            return self._signed()
        if kind == 8:
            return self._skip(self._unsigned())
        if kind in (9, 10):
            head = self._byte()
            size = self._unsigned() if head >> 4 == 15 else head >> 4
            # Every element takes a byte or more, so that the data bound the work.
            return [self._value(head & 15) for _ in range(size)]
        if kind == 12:
            return self.struct()
        if kind in (1, 2, 3):
            return self._byte()
        if kind in (7, 13):
            return self._skip(8 if kind == 7 else 16)
        raise ValueError("the footer is damaged")

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _skip(self, count: int) -> None:
        self._at += count

    def _unsigned(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 128:
            value |= (byte & 127) << shift
            shift += 7
        return value | byte << shift

    def _signed(self) -> int:
        value = self._unsigned()
        return value >> 1 ^ -(value & 1)
