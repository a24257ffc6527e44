"""Pictures of every turn beside the stores of `write_training_stores`."""

from pathlib import Path
from typing import Any

import numpy as np

from store import Store
from tests.support.stores import write_store

OBJECTS = 5


def write_films(
    embeddings: Path, images: Path, side: int = 76, objects: int = OBJECTS, seed: int = 0, firsts_differ: bool = False
) -> None:
    """turn_pictures, presence, first_pictures and first_presence of the dialogues in `embeddings`/turns.

    Every picture is of one level of grey: the first ones of 255, those after turn t of image i of (10 i + t) mod 256.
    Turn t brings object t, if there is one, and none ever goes. With `firsts_differ` image i begins with 255 - i.
    """
    turns = Store(embeddings / "turns")
    ids, rounds = turns.column("image_id"), turns.lengths
    firsts = np.cumsum([0, *rounds])[:-1].astype(np.int64)
    levels = np.concatenate([10 * i + np.arange(count) for i, count in enumerate(rounds)]) % 256
    shown = np.broadcast_to(levels.astype(np.uint8)[:, None, None, None], (len(levels), side, side, 3))
    # Another order than the turns': alignment is by image_id.
    order = np.random.default_rng(seed).permutation(len(ids))
    rows = np.concatenate([firsts[i] + np.arange(rounds[i]) for i in order])
    begins = np.cumsum([0, *rounds[order]])[:-1].astype(np.int64)
    run = {"row": begins, "image_id": ids[order], "turns": rounds[order].astype(np.int32)}
    each = {"row": np.arange(len(ids)), "image_id": ids[order]}
    about = {"corpus": "c0", "vocabulary": {"objects": [f"object {number}" for number in range(objects)]}}
    number = np.concatenate([np.arange(count) for count in rounds])
    present = (np.arange(objects) <= number[:, None]).astype(np.uint8)
    begin = 255 - order if firsts_differ else np.full(len(ids), 255)
    first = np.broadcast_to(begin.astype(np.uint8)[:, None, None, None], (len(ids), side, side, 3))
    pictures: dict[str, Any] = {"kind": "images", "split": images.name, "shards": 1, "made_from": about}
    write_store(images / "turn_pictures", shown[rows], run, **pictures, lengths="turns")
    write_store(images / "first_pictures", first, each, **pictures)
    write_store(images / "presence", present[rows], run, **pictures, lengths="turns")
    write_store(images / "first_presence", np.zeros((len(ids), objects), np.uint8), each, **pictures)
