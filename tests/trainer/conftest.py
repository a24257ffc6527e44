"""Small stores for the trainer's tests, made through the real writer."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest

from store import StoreWriter

MakeStores = Callable[..., tuple[Path, Path]]


def write_store(path: Path, rows: np.ndarray, index: dict[str, Any], *, shards: int = 2, **about: Any) -> None:
    """`rows` in `shards` shards."""
    kind = about.pop("kind", path.name)
    bounds = np.linspace(0, len(rows), shards + 1).astype(int)
    plan = [(int(a), int(b - a), f"{path.name}-{a}") for a, b in itertools.pairwise(bounds)]
    dataset = "images" if kind == "images" else "vectors"
    with StoreWriter(
        path, kind=kind, split="train", shape=rows.shape[1:], dtype=str(rows.dtype), dataset=dataset, made_from=about
    ) as writer:
        for number in writer.plan(plan):
            first, count, key = plan[number]
            writer.write_shard(number, rows[first : first + count], key)
        writer.commit(pyarrow.table(index))


@pytest.fixture(scope="session")
def make_stores() -> MakeStores:
    """Write captions, turns, dialogues and images of a small made-up split, in the folders that a run expects.

    Returns (folder/embeddings/SPLIT, folder/images/SPLIT/SIZE of the first size).
    Every vector holds its own row number in element 0, its image in element 1; every picture is full of noise but
    for pixel (0, 0), which holds its image's position.
    """

    def make(
        folder: Path,
        split: str = "train",
        *,
        images: int = 24,
        first_id: int = 1000,
        captions: Sequence[int] = (5, 1, 6, 7),
        rounds: Sequence[int] = (10, 3, 1),
        caption_dim: int = 12,
        turn_dim: int = 10,
        sizes: Sequence[int] = (76,),
        dtype: str = "float16",
        seed: int = 0,
        without_dialogue: Sequence[int] = (),
        identity: str = "one",
        corpus: str = "c0",
        shards: int = 2,
    ) -> tuple[Path, Path]:
        random = np.random.default_rng(seed)
        embeddings, pictures_of = folder / "embeddings" / split, folder / "images" / split
        ids = first_id + 7 * random.permutation(images)
        per_caption = np.resize(captions, images)
        talking = [i for i in range(images) if i not in without_dialogue]
        per_round = np.resize(rounds, images)[talking]
        about = {"corpus": corpus, "encoder": {"name": identity, "sha256": identity}, "text": {"turn": "q+a"}}

        def vectors(owners: np.ndarray, dim: int) -> np.ndarray:
            rows = random.normal(size=(len(owners), dim)).astype(dtype)
            rows[:, 0], rows[:, 1] = np.arange(len(owners)), owners
            return rows

        owners = np.repeat(np.arange(images), per_caption)
        write_store(
            embeddings / "captions",
            vectors(owners, caption_dim),
            {
                "row": np.arange(len(owners)),
                "image_id": ids[owners],
                "caption_id": 10 * np.arange(len(owners)),
                "text": [f"caption {row} of image {ids[owner]}" for row, owner in enumerate(owners)],
            },
            shards=shards,
            **about,
        )
        turns = np.repeat(talking, per_round)
        first = np.cumsum(per_round) - per_round
        write_store(
            embeddings / "turns",
            vectors(turns, turn_dim),
            {
                "row": first,
                "image_id": ids[talking],
                "rounds": per_round.astype(np.int32),
                "texts": [[f"round {r} of image {ids[i]}" for r in range(n)] for i, n in zip(talking, per_round)],
            },
            shards=1,
            **about,
        )
        write_store(
            embeddings / "dialogues",
            vectors(np.array(talking), turn_dim),
            {
                "row": np.arange(len(talking)),
                "image_id": ids[talking],
                "text": [f"dialogue of image {ids[i]}" for i in talking],
            },
            shards=shards,
            **about,
        )
        for size in sizes:
            pictures = random.integers(0, 256, (images, size, size, 3), dtype=np.uint8)
            pictures[:, 0, 0] = np.arange(images)[:, None]
            # Another order than the captions': alignment is by image_id.
            order = random.permutation(images)
            write_store(
                pictures_of / str(size),
                pictures[order],
                {
                    "row": np.arange(images),
                    "image_id": ids[order],
                    "file_name": [f"{ids[i]}.jpg" for i in order],
                },
                kind="images",
                shards=shards,
                resampling="box",
            )
        return embeddings, pictures_of / str(sizes[0])

    return make
