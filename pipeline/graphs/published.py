"""Scene graphs as sg2im publishes them, in JSON: `[{"objects": [name], "relationships": [[row, predicate, row]]}]`."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from store import Store
from store.errors import StoreError


def graphs(folder: Path, seed: int = 0) -> Iterator[dict[str, Any]]:
    """The graphs of a split's pictures in the order of the stores `folder`/{objects,triples}, each with its `image_id`.

    Every object gets one relation to another one, in either direction, as sg2im draws them while it trains: a function
    of the seed and the picture; what is drawn twice stands there once. The image itself, and that objects are in it,
    are left out; readers add them.

    Raises:
        StoreError: a store is missing, damaged, or without a vocabulary; they are of different corpora.
    """
    objects, triples = Store(folder / "objects"), Store(folder / "triples")
    if objects.manifest.made_from != triples.manifest.made_from:
        raise StoreError(f"{folder}: objects and triples were made from different files; make the images again")
    words = objects.manifest.made_from.get("vocabulary")
    if not isinstance(words, dict) or not {"objects", "predicates"} <= words.keys():
        raise StoreError(f"{objects.path}: states no vocabulary; make the images again (chatpainter-prepare images)")
    ids, rows, counts = objects.column("image_id"), objects.column("row"), objects.lengths
    starts, lengths = triples.column("row"), triples.lengths
    for line, image_id in enumerate(ids.tolist()):
        kinds = objects.slice(int(rows[line]), int(rows[line] + counts[line])).tolist()[:-1]
        pairs = triples.slice(int(starts[line]), int(starts[line] + lengths[line])).tolist()
        relation = {(subject, object_): predicate for subject, predicate, object_ in pairs}
        draw = random.Random(f"chatpainter {seed} {image_id}")
        chosen = []
        for one in range(len(kinds)):
            if others := [other for other in range(len(kinds)) if other != one]:
                pair = (one, draw.choice(others))
                subject, object_ = pair if draw.random() < 0.5 else pair[::-1]
                said = [subject, words["predicates"][relation[subject, object_]], object_]
                chosen += [said] * (said not in chosen)
        yield {"image_id": image_id, "objects": [words["objects"][kind] for kind in kinds], "relationships": chosen}
