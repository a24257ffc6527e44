"""An encoder that costs nothing, to measure all the rest: `chatpainter-embed --encoders benchmarks.standin`.

Vectors of the published widths are views of one random block, so that only what the pipeline itself does takes time.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.encoders import Encoded

DIM = {"captions": 1024, "turns": 4800, "dialogues": 4800}
LONGEST = {"captions": 32768, "turns": 6991, "dialogues": 6991}  # texts a call: what a shard of 64 MiB holds


class StandIn:
    def __init__(self, kind: str) -> None:
        self.dim, self.identity = DIM[kind], identity(kind, None)
        # Values as large as those of real vectors: float16's smallest ones are slow to make.
        few = (np.random.default_rng(0).random((64, self.dim), np.float32) - 0.5) / 15
        self.block = np.resize(few, (LONGEST[kind], self.dim))

    def encode(self, texts: Sequence[str]) -> Encoded:
        count = len(texts)
        nothing = np.zeros(count, np.int32)
        return Encoded(self.block[:count], np.ones(count, np.int32), nothing, nothing.astype(bool))


def build(kind: str, settings: Any) -> StandIn:
    return StandIn(kind)


def identity(kind: str, settings: Any) -> dict[str, Any]:
    return {"name": "stand-in", "dim": DIM[kind], "trained": False}
