"""Does a store on disk hold what its manifest says, to the last bit?"""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow

from store.errors import StoreError
from store.files import in_words, sha256_file
from store.lock import LOCK
from store.manifest import MANIFEST, Manifest, Shard, content_key, shard_origin
from store.shards import REMEDY, read_header, rows_checksum


def verify_store(path: str | Path) -> Iterator[str]:
    """Every fault found, as one line that names the file; nothing where the store is whole.

    Raises:
        StoreError: there is no manifest to compare with.
    """
    folder = Path(path)
    manifest = Manifest.read(folder)
    with ThreadPoolExecutor(4) as pool:  # hashing lets go of the GIL
        for fault in pool.map(lambda shard: _shard_fault(folder, manifest, shard), manifest.shards):
            if fault:
                yield fault
    expected = list(itertools.accumulate((shard.rows for shard in manifest.shards), initial=0))
    if [shard.first_row for shard in manifest.shards] != expected[:-1] or expected[-1] != manifest.rows:
        yield f"{folder / MANIFEST}: its shards do not follow each other from row 0 to {manifest.rows:,}; {REMEDY}"
    yield from _index_faults(folder, manifest)
    known = {MANIFEST, LOCK, manifest.index.file, *(shard.file for shard in manifest.shards)}
    for entry in sorted(folder.iterdir()):
        if entry.name not in known:
            yield f"{entry}: no part of the store; {REMEDY}"


def _shard_fault(folder: Path, manifest: Manifest, shard: Shard) -> str | None:
    path = folder / shard.file
    try:
        header = read_header(path, manifest.dataset)
        with in_words(path):
            if sha256_file(path) != shard.sha256:
                where = "its rows" if rows_checksum(path, header) != header.sha256 else "outside its rows"
                return f"{path}: damaged (checksum differs, {where}); {REMEDY}"
    except StoreError as error:
        return error.message
    found = (header.first_row, header.rows, header.key, header.shape, header.dtype, header.origin)
    origin = shard_origin(manifest.made_from)
    said = (shard.first_row, shard.rows, shard.key, manifest.shape, np.dtype(manifest.dtype), origin)
    return None if found == said else f"{path}: not the shard that the manifest names; {REMEDY}"


def _index_faults(folder: Path, manifest: Manifest) -> Iterator[str]:
    import pyarrow.parquet

    path = folder / manifest.index.file
    try:
        with in_words(path):
            if sha256_file(path) != manifest.index.sha256:
                yield f"{path}: damaged or not this store's (checksum differs); {REMEDY}"
                return
        table = pyarrow.parquet.read_table(path)
    except StoreError as error:
        yield error.message
        return
    except (pyarrow.ArrowException, OSError) as error:
        yield f"{path}: not readable as Parquet ({str(error).splitlines()[0]}); {REMEDY}"
        return
    row = table["row"].to_numpy()
    several = [name for name in ("rounds", "blocks") if name in table.column_names]
    lengths = table[several[0]].to_numpy().astype(np.int64) if several else np.ones(len(row), np.int64)
    if (row != np.cumsum(lengths) - lengths).any() or lengths.sum() != manifest.rows:
        yield f"{path}: its rows are not 0 to {manifest.rows:,} in order; {REMEDY}"
        return
    for shard in manifest.shards:
        texts = shard_texts(table, shard)
        if texts is not None:
            key = content_key(manifest.made_from, manifest.dtype, manifest.shape, shard.first_row, texts)
            if key != shard.key:
                yield f"{path}: its texts are not those that {shard.file} was made from; {REMEDY}"


def shard_texts(index: pyarrow.Table, shard: Shard) -> list[str] | None:
    """The texts of a shard's rows by the index, one a row; None where the index has none (images)."""
    row = index["row"].to_numpy()
    start, stop = np.searchsorted(row, [shard.first_row, shard.first_row + shard.rows])
    part = index.slice(start, stop - start)
    if "texts" in index.column_names:
        return list(itertools.chain.from_iterable(part["texts"].to_pylist()))
    return part["text"].to_pylist() if "text" in index.column_names else None
