"""The rows nearest to a vector: a whole store read once, a block at a time."""

import importlib.metadata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from store.errors import ChatPainterError, StoreError
from store.reader import Store

BLOCK_BYTES = 16 << 20
GROUP = "chatpainter.encode"


class Neighbour(NamedTuple):
    """A row, and the cosine of the angle between it and what was asked for."""

    row: int
    cosine: float


def nearest(store: Store, query: np.ndarray, count: int, *, block_bytes: int = BLOCK_BYTES) -> list[Neighbour]:
    """The `count` rows nearest to `query` by cosine, nearest first; of equally near ones the first in the store.

    A row of zeros has no direction and is never found. Memory: a few times `block_bytes`, whatever the store's size.

    Args:
        query: (d,), of the width of the store's rows.

    Raises:
        StoreError: the rows are no vectors, or not of the query's width; a row is damaged.
        ChatPainterError: the query has no direction: zeros, or no numbers.
    """
    refuse_no_vectors(store)
    if query.shape != store.shape:
        raise StoreError(f"{store.path}: vectors of {store.shape[0]}, where what is asked for has {query.shape}")
    query = query.astype(np.float64)
    length = float(np.linalg.norm(query))
    if not 0 < length < np.inf:
        raise ChatPainterError(f"{store.path}: what is asked for has no direction (its length is {length:g})")
    rows, cosines = np.empty(0, np.int64), np.empty(0)
    for first, block in _blocks(store, block_bytes):
        norms = np.sqrt(np.einsum("ij,ij->i", block, block))
        with np.errstate(divide="ignore", invalid="ignore"):
            # Equal rows are to be equally near wherever they lie in a block; BLAS sums them in different orders.
            found = np.round(block @ (query / length) / norms, 12)
        there = np.flatnonzero(np.isfinite(found))
        rows, cosines = np.append(rows, first + there), np.append(cosines, found[there])
        best = np.lexsort((rows, -cosines))[:count]
        rows, cosines = rows[best], cosines[best]
    return [Neighbour(*pair) for pair in zip(rows.tolist(), cosines.tolist())]


def _blocks(store: Store, block_bytes: int) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, rows as float64) of the whole store."""
    step = max(1, block_bytes // (8 * store.shape[0]))
    for first in range(0, len(store), step):
        yield first, store.slice(first, first + step).astype(np.float64)


def refuse_no_vectors(store: Store) -> None:
    """Refuse pictures and numbers of names, between which there are no angles."""
    if len(store.shape) != 1 or store.dtype.kind != "f":
        shape = " x ".join(map(str, store.shape))
        raise StoreError(f"{store.path}: holds {store.kind} of {shape} {store.dtype}, not vectors to compare")


class Lines:
    """What the index says of single rows."""

    def __init__(self, store: Store) -> None:
        self._index, self._first = store.index, store.column("row")

    def of(self, row: int) -> dict[str, Any]:
        """The index's line of a row, with `text`, where there is one, that of the row itself."""
        line = int(np.searchsorted(self._first, row, side="right")) - 1
        values = self._index.slice(line, 1).to_pylist()[0]
        texts = values.pop("texts", None)
        if texts is not None:
            values["text"] = texts[row - values["row"]]
        return {**values, "row": row}


def encode(text: str, store: Store, params: Path, encoders: str | None) -> np.ndarray:
    """`text` as the store's own encoder encodes it, (d,) float32.

    The room that has encoders says in setup.cfg who does it: this one imports neither them nor torch.

    Raises:
        ChatPainterError: the part of the program with the encoders is not installed, or as that part raises.
    """
    found = importlib.metadata.entry_points(group=GROUP, name="text")
    try:
        function = next(iter(found)).load()
    except (StopIteration, ImportError) as error:
        reason = f" ({error})" if str(error) else ""
        raise ChatPainterError(
            f"encoders are not installed here{reason}: pip install 'chatpainter[pipeline]', or name a row: --row"
        ) from None
    made_from: Mapping[str, Any] = store.manifest.made_from
    return np.asarray(function(text, store.kind, made_from.get("encoder"), store.path, params, encoders))
