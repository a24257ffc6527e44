"""Stores of runs of rows that are known at once: what is in a picture, box by box, or turn by turn."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from store.manifest import Manifest, content_key
from store.writer import StoreWriter

SHARD_BYTES = 64 << 20


def cut(lengths: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """(first line, lines) of shards of at most `most` rows; a longer run fills one of its own."""
    first, rows = 0, 0
    for line, length in enumerate(lengths):
        if rows and rows + length > most:
            yield first, line - first
            first, rows = line, 0
        rows += length
    if first < len(lengths):
        yield first, len(lengths) - first


def write(
    path: Path,
    kind: str,
    split: str,
    image_ids: Sequence[int],
    runs: Sequence[np.ndarray],
    made_from: Mapping[str, Any],
    *,
    lengths: str | None,
) -> Manifest:
    """Write the store `path`: a run of rows an image, in their order; finished shards of an earlier call are kept.

    Args:
        runs: (rows of the image, *shape) each, all of one shape and dtype; none of no rows.
        made_from: for the manifest, `corpus` and all that the rows depend on.
        lengths: what the index calls the number of an image's rows; None where each has one.

    Raises:
        StoreError: it cannot be written.
    """
    shape, dtype = runs[0].shape[1:], runs[0].dtype
    counts = [len(run) for run in runs]
    rows = np.cumsum([0, *counts])
    row_bytes = max(1, int(np.prod(shape)) * dtype.itemsize)
    parts = list(cut(counts, max(1, SHARD_BYTES // row_bytes)))
    arrays = [np.concatenate(runs[line : line + lines]) for line, lines in parts]
    with StoreWriter(path, kind=kind, split=split, shape=shape, dtype=dtype.name, made_from=made_from) as writer:
        planned = []
        for (line, _), array in zip(parts, arrays):
            first = int(rows[line])
            contents = [hashlib.sha256(array.tobytes()).hexdigest()]
            planned.append((first, len(array), content_key(writer.made_from, writer.dtype, shape, first, contents)))
        for number in writer.plan(planned):
            writer.write_shard(number, arrays[number])
        index = {"row": rows[:-1], "image_id": pa.array(image_ids, pa.int64())}
        if lengths is not None:
            index[lengths] = np.array(counts, np.int32)
        return writer.commit(pa.table(index), {"images": len(runs)}, lengths=lengths)
