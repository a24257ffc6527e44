"""A store as files that every array and table library opens: one .npy of all rows, one Parquet of which is which."""

import json
import os
import shutil
import uuid
from pathlib import Path

import numpy as np

from store.errors import StoreError
from store.files import TEMPORARY, in_words, sync_folder
from store.reader import Store

BLOCK_BYTES = 16 << 20
VECTORS, INDEX = "rows.npy", "index.parquet"
METADATA = b"chatpainter"


def export(store: Store, folder: Path, *, block_bytes: int = BLOCK_BYTES) -> Path:
    """Write `folder/rows.npy`, (rows, *shape) as `numpy.load(..., mmap_mode="r")` maps it, and `folder/index.parquet`.

    The index is the store's own, with a column `length` beside `row`: line i is rows row[i] … row[i] + length[i] − 1.
    What the store was made from stands in the Parquet schema's metadata, key `chatpainter`, as JSON. The folder is
    written beside and renamed. Memory: `block_bytes`, and the index.

    Raises:
        StoreError: the folder is there and not empty, it cannot be written, or a row is damaged.
    """
    folder = folder.absolute()
    with in_words(folder):
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise StoreError(f"{folder}: is there already; name another folder, or remove it first")
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:12]}{TEMPORARY}")
        beside.mkdir()
        try:
            _write_rows(store, beside / VECTORS, block_bytes)
            _write_index(store, beside / INDEX)
            for path in (beside / VECTORS, beside / INDEX):
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
            sync_folder(beside)
            beside.rename(folder)
            sync_folder(folder.parent)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
    return folder


def _write_rows(store: Store, path: Path, block_bytes: int) -> None:
    # Written, not mapped: a full disk is then an error that can be said, and no SIGBUS.
    step = max(1, block_bytes // store.manifest.row_bytes)
    with open(path, "wb") as file:
        header = {"descr": store.dtype.str, "fortran_order": False, "shape": (len(store), *store.shape)}
        np.lib.format.write_array_header_1_0(file, header)
        for first in range(0, len(store), step):
            file.write(np.ascontiguousarray(store.slice(first, first + step)).data)


def _write_index(store: Store, path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    manifest, table = store.manifest, store.index
    if "length" not in table.column_names:
        place = table.column_names.index("row") + 1
        table = table.add_column(place, "length", pyarrow.array(store.lengths, pyarrow.int64()))
    about = {"kind": manifest.kind, "split": manifest.split, "made_from": manifest.made_from, "counts": manifest.counts}
    table = table.replace_schema_metadata({METADATA: json.dumps(about, sort_keys=True)})
    pyarrow.parquet.write_table(table, path, compression="zstd")
