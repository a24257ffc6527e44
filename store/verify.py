"""Does a store on disk hold what its manifest says, to the last bit?"""

import collections
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from store.checksums import REMEDY, read_checksums
from store.errors import StoreError
from store.files import in_words, sha256_file
from store.index import faults, read_index, shard_texts
from store.lock import LOCK
from store.manifest import MANIFEST, Manifest, Shard, content_key, shard_origin
from store.shards import ShardHeader, read_header, rows_checksum
from store.threads import in_threads

# Columns that only one of the kinds of docs/store.md has.
_KIND_OF = {"caption_id": "captions", "texts": "turns", "file_name": "images"}
_KINDS = {"captions", "turns", "dialogues", "images"}


def verify_store(path: str | Path) -> Iterator[str]:
    """Every fault found, as one line that names the file; nothing where the store is whole.

    Raises:
        StoreError: there is no manifest to compare with.
    """
    folder = Path(path)
    try:
        manifest = Manifest.read(folder)
    except StoreError as error:
        if not (folder / MANIFEST).is_file():
            raise
        yield error.message
        return
    headers: list[ShardHeader] = []
    for found in in_threads(lambda shard: _compare(folder, manifest, shard), manifest.shards):
        if isinstance(found, str):
            yield found
        else:
            headers.append(found)
    yield from _counts_faults(folder, manifest, headers)
    yield from _index_faults(folder, manifest)
    yield from _checksums_faults(folder, manifest)
    known = {MANIFEST, LOCK, manifest.index.file, *(shard.file for shard in manifest.shards)}
    known |= {manifest.checksums.file} if manifest.checksums else set()
    with in_words(folder):
        for entry in sorted(folder.iterdir()):
            if entry.name not in known:
                yield f"{entry}: no part of the store; {REMEDY}"


def _compare(folder: Path, manifest: Manifest, shard: Shard) -> ShardHeader | str:
    """The shard's header, or its fault."""
    path = folder / shard.file
    try:
        header = read_header(path, manifest.dataset)
        with in_words(path):
            if sha256_file(path) != shard.sha256:
                where = "its rows" if rows_checksum(path, header) != header.sha256 else "outside its rows"
                return f"{path}: damaged (checksum differs, {where}); {REMEDY}"
    except StoreError as error:
        return error.message
    found = (header.first_row, header.rows, header.key, header.shape, header.dtype, header.origin, header.bytes)
    origin = shard_origin(manifest.made_from)
    said = (shard.first_row, shard.rows, shard.key, manifest.shape, np.dtype(manifest.dtype), origin, shard.bytes)
    return header if found == said else f"{path}: not the shard that the manifest names; {REMEDY}"


def _counts_faults(folder: Path, manifest: Manifest, headers: list[ShardHeader]) -> Iterator[str]:
    totals: collections.Counter[str] = collections.Counter()
    for header in headers:
        totals.update(header.counts)
    if len(headers) < len(manifest.shards):
        return
    # Some are of the whole store alone, such as pictures without a file.
    wrong = sorted(name for name in totals if totals[name] != manifest.counts.get(name, totals[name]))
    if wrong:
        yield f"{folder / MANIFEST}: counts of {', '.join(wrong)} are not those of its shards; {REMEDY}"


def _index_faults(folder: Path, manifest: Manifest) -> Iterator[str]:
    path = folder / manifest.index.file
    try:
        table = read_index(folder, manifest)
    except StoreError as error:
        yield error.message
        return
    if fault := faults(table, manifest.rows, manifest.lengths):
        yield f"{path}: {fault}; {REMEDY}"
        return
    for column, kind in _KIND_OF.items():
        if column in table.column_names and manifest.kind in _KINDS - {kind}:
            yield f"{folder / MANIFEST}: says kind {manifest.kind}, but the index has {column} of {kind}; {REMEDY}"
    for shard in manifest.shards:
        texts = shard_texts(table, shard)
        if texts is not None:
            key = content_key(manifest.made_from, manifest.dtype, manifest.shape, shard.first_row, texts)
            if key != shard.key:
                yield f"{path}: its texts are not those that {shard.file} was made from; {REMEDY}"


def _checksums_faults(folder: Path, manifest: Manifest) -> Iterator[str]:
    try:
        read_checksums(folder, manifest)
    except StoreError as error:
        yield error.message
