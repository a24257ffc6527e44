"""index.parquet: which row is which. Read as untrusted: nothing is believed before it is compared."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow

from store import machine
from store.checksums import REMEDY
from store.errors import StoreError, one_line
from store.files import in_words, inside, sha256_file
from store.manifest import Manifest, Shard

_LINES = 1024  # read at a time, so that a small file that would fill the memory is noticed


def read_index(folder: Path, manifest: Manifest, columns: Sequence[str] | None = None) -> pyarrow.Table:
    """The index, or some of its columns, anew from the file.

    Raises:
        StoreError: it is missing, not the one that the manifest names, not Parquet, has other lines or lacks a column,
            or would take more memory than there is.
    """
    import pyarrow.parquet

    path = inside(folder, manifest.index.file)
    if not path.is_file():
        raise StoreError(f"{path}: missing; {REMEDY}")
    with in_words(path):
        if sha256_file(path) != manifest.index.sha256:
            raise StoreError(f"{path}: not the index that the manifest names (checksum differs); {REMEDY}")
        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                found, lines = set(file.schema_arrow.names), file.metadata.num_rows
                if lines != manifest.index.rows or lines > manifest.rows:
                    said = f"the manifest says {manifest.index.rows:,}, of {manifest.rows:,} rows"
                    raise StoreError(f"{path}: {lines:,} lines where {said}; {REMEDY}")
                if missing := {"row", *(columns or ())} - found:
                    raise StoreError(f"{path}: has no column {', '.join(sorted(missing))}; {REMEDY}")
                table = _read(file, columns, path)
        except (pyarrow.ArrowException, OSError, ValueError, TypeError, LookupError, RuntimeError) as error:
            raise StoreError(f"{path}: not readable as Parquet ({one_line(error)}); {REMEDY}") from None
    if table.num_rows != lines:
        raise StoreError(f"{path}: {table.num_rows:,} lines where it says {lines:,}; {REMEDY}")
    return table


def _read(file: "pyarrow.parquet.ParquetFile", columns: Sequence[str] | None, path: Path) -> pyarrow.Table:
    budget = machine.available_memory()
    packed = sum(file.metadata.row_group(number).total_byte_size for number in range(file.metadata.num_row_groups))
    batches = []
    if packed <= budget:
        # Arrow's threads do not live on in a forked process.
        for batch in file.iter_batches(_LINES, columns=columns, use_threads=False):
            batch.validate(full=True)  # texts that are not UTF-8, lists that lead outside their values
            batches.append(batch)
            budget -= batch.nbytes
            if budget < 0:
                break
    if packed > budget:
        raise StoreError(f"{path}: would take more memory than there is; {REMEDY}")
    schema = file.schema_arrow if columns is None else pyarrow.schema([file.schema_arrow.field(c) for c in columns])
    return pyarrow.Table.from_batches(batches, schema.remove_metadata() if not batches else None).combine_chunks()


def numbers(folder: Path, manifest: Manifest, name: str) -> np.ndarray:
    """One column of whole numbers, (lines,); that of `row` and of lengths lie within the store's rows.

    Raises:
        StoreError: the column has other values, or names rows that the store does not have.
    """
    path = folder / manifest.index.file
    column = read_index(folder, manifest, [name])[name]
    if not (pyarrow.types.is_integer(column.type) or pyarrow.types.is_floating(column.type)) or column.null_count:
        raise StoreError(f"{path}: column {name} is of {column.type}, not a number in every line; {REMEDY}")
    values = column.to_numpy()
    if name == "row" or name == manifest.lengths:
        if values.dtype.kind not in "iu":
            raise StoreError(f"{path}: column {name} is of {column.type}, not whole numbers; {REMEDY}")
        outside = (values < 0) | (values > manifest.rows - (name == "row"))
        if outside.any():
            line = int(np.flatnonzero(outside)[0])
            raise StoreError(
                f"{path}, line {line}: {name} {values[line]} where the store has {manifest.rows:,} rows; {REMEDY}"
            )
    return values


def lengths(table: pyarrow.Table, column: str | None) -> np.ndarray:
    """How many rows belong to each line of the index, (lines,) int64."""
    if column is None:
        return np.ones(table.num_rows, np.int64)
    return table[column].to_numpy().astype(np.int64)


def faults(table: pyarrow.Table, rows: int, column: str | None) -> str | None:
    """What contradicts a store of `rows` rows, in words; None where nothing does.

    Args:
        column: of lengths.
    """
    needed = ["row"] if column is None else ["row", column]
    for name in needed:
        if name not in table.column_names:
            return f"has no column {name}"
    for name in [*needed, *({"image_id", "caption_id"} & set(table.column_names))]:
        if not pyarrow.types.is_integer(table[name].type) or table[name].null_count:
            return f"column {name} is of {table[name].type}, not a whole number in every line"
    for name, expected in (("text", pyarrow.string()), ("texts", pyarrow.list_(pyarrow.string()))):
        if name in table.column_names and not _is(table[name], expected):
            return f"column {name} is of {table[name].type}, not {expected} in every line"
    row, count = table["row"].to_numpy().astype(np.int64), lengths(table, column)
    if (count < 0).any() or (row != np.cumsum(count) - count).any() or count.sum() != rows:
        return f"its rows are not 0 to {rows:,} in order"
    return None


def _is(column: pyarrow.ChunkedArray, kind: pyarrow.DataType) -> bool:
    if column.null_count or column.type != kind:
        return False
    return not pyarrow.types.is_list(kind) or not any(chunk.flatten().null_count for chunk in column.chunks)


def shard_texts(index: pyarrow.Table, shard: Shard) -> list[str] | None:
    """The texts of a shard's rows by the index, one a row; None where the index has none (images)."""
    row = index["row"].to_numpy()
    start, stop = np.searchsorted(row, [shard.first_row, shard.first_row + shard.rows])
    part = index.slice(start, stop - start)
    if "texts" in index.column_names:
        return list(itertools.chain.from_iterable(part["texts"].to_pylist()))
    return part["text"].to_pylist() if "text" in index.column_names else None
