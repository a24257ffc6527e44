"""A small store of known rows, in several shards."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from store.manifest import content_key
from store.writer import StoreWriter

MADE_FROM = {"corpus": "c0", "encoder": {"name": "test", "trained": False}, "text": {"turn": "question+answer"}}


@pytest.fixture(scope="session")
def make_store() -> Callable[..., np.ndarray]:
    return _make


def _make(
    path: Path,
    lengths: Sequence[Sequence[int]] = ((3, 1, 10), (2, 5)),
    shape: tuple[int, ...] = (12,),
    dtype: str = "float16",
    dataset: str = "vectors",
    made_from: dict[str, Any] = MADE_FROM,
    seed: int = 0,
) -> np.ndarray:
    """A store of turns: lengths[s][d] turns in dialogue d of shard s; returns all its rows, (n, *shape)."""
    rng = np.random.default_rng(seed)
    flat = [length for shard in lengths for length in shard]
    texts = [[f"dialogue {d} turn {t}" for t in range(length)] for d, length in enumerate(flat)]
    every = [text for dialogue in texts for text in dialogue]
    rows = rng.integers(0, 250, (len(every), *shape)).astype(dtype)
    plan, first = [], 0
    for shard in lengths:
        count = sum(shard)
        key = content_key(made_from, dtype, shape, first, every[first : first + count])
        plan.append((first, count, key))
        first += count
    with StoreWriter(
        path, kind="turns", split="t", shape=shape, dtype=dtype, dataset=dataset, made_from=made_from
    ) as writer:
        for number in writer.plan(plan):
            start, count, key = plan[number]
            writer.write_shard(number, rows[start : start + count], key, {"texts": count, "unknown": number})
        starts = np.cumsum([0, *flat])[:-1]
        index = {"row": starts.astype(np.int64), "image_id": 7 * np.arange(len(flat)), "rounds": np.int32(flat)}
        writer.commit(pa.table({**index, "texts": texts}))
    return rows
