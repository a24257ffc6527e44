"""A deterministic encoder without weights: a text's vector is its hash. Workers find it by module name.

Environment: HASH_LOG, a file that notes every load and call; HASH_DELAY, seconds a call; HASH_HOLD, the number of a
call of this process that waits until the file HASH_LOG.go is there; HASH_VERSION, part of the identity; HASH_POISON, a
text that kills its process.
"""

import hashlib
import itertools
import json
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.encoders import Encoded

CALLS = itertools.count(1)
DIM = {"captions": 1024, "dialogue": 2048}  # in shards of 1 MiB of float16: 512 captions, 256 turns


def vector(text: str, dim: int) -> np.ndarray:
    return np.frombuffer(hashlib.shake_128(text.encode()).digest(dim), np.uint8).astype(np.float32) / 255 - 0.5


def log(what: str, count: int) -> None:
    if path := os.environ.get("HASH_LOG"):
        threads, trim = os.environ.get("OMP_NUM_THREADS"), os.environ.get("MALLOC_TRIM_THRESHOLD_")
        with open(path, "a") as file:
            about = {"threads": threads, "trim": trim, "gpu": os.environ.get("CUDA_VISIBLE_DEVICES")}
            file.write(json.dumps({"what": what, "pid": os.getpid(), "count": count, **about}) + "\n")


class HashEncoder:
    def __init__(self, kind: str) -> None:
        self.identity = identity(kind, None)
        self.kind = self.identity["kind"]
        self.dim = DIM[self.kind]
        log(f"load {self.kind}", 0)

    def encode(self, texts: Sequence[str]) -> Encoded:
        if os.environ.get("HASH_POISON") in texts:
            os._exit(7)
        log(self.kind, len(texts))
        if next(CALLS) == int(os.environ.get("HASH_HOLD", "0")):
            while not os.path.exists(os.environ["HASH_LOG"] + ".go"):
                time.sleep(0.01)
        time.sleep(float(os.environ.get("HASH_DELAY", "0")))
        vectors = np.stack([vector(text, self.dim) for text in texts])
        tokens = np.array([len(text.split()) for text in texts], np.int32)
        return Encoded(vectors, tokens, tokens // 4, tokens > 9)


def build(kind: str, settings: Any) -> HashEncoder:
    return HashEncoder(kind)


def identity(kind: str, settings: Any) -> dict[str, Any]:
    reads = "captions" if kind == "captions" else "dialogue"
    return {"name": "hash", "kind": reads, "version": os.environ.get("HASH_VERSION", "1"), "trained": False}
