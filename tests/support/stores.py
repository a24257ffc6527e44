"""Small stores of known rows, made through the real writer."""

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from store import StoreWriter
from store.manifest import content_key, seal

MADE_FROM = {"corpus": "c0", "encoder": {"name": "test", "trained": False}, "text": {"turn": "question+answer"}}

WORDS = ["<end>", *(f"word{number}" for number in range(1, 20))]
"""What the numbers of `tokens` stand for."""


def write_store(
    path: Path,
    rows: np.ndarray,
    index: Mapping[str, Iterable[Any]],
    *,
    kind: str | None = None,
    split: str = "train",
    shards: int | Sequence[int] = 2,
    dataset: str | None = None,
    made_from: Mapping[str, Any] = MADE_FROM,
    texts: Sequence[str] | None = None,
    lengths: str | None = None,
) -> None:
    """`rows` (n, *shape) with the columns of `index`, in so many shards of equal length, or of these lengths.

    kind: the folder's name where none is given. texts: one a row, for the shards' keys; by default their numbers.
    Every shard counts its texts, and as many unknown words as its number says.
    """
    kind = kind or path.name
    bounds = (
        np.linspace(0, len(rows), shards + 1).astype(int).tolist()
        if isinstance(shards, int)
        else np.cumsum([0, *shards]).tolist()
    )
    texts = texts or [str(row) for row in range(len(rows))]
    shape, dtype = rows.shape[1:], str(rows.dtype)
    plan = [
        (first, end - first, content_key(dict(made_from), dtype, shape, first, texts[first:end]))
        for first, end in itertools.pairwise(bounds)
    ]
    with StoreWriter(
        path,
        kind=kind,
        split=split,
        shape=shape,
        dtype=dtype,
        dataset=dataset or ("images" if kind == "images" else "vectors"),
        made_from=dict(made_from),
    ) as writer:
        for number in writer.plan(plan):
            first, count, key = plan[number]
            writer.write_shard(number, rows[first : first + count], key, {"texts": count, "unknown": number})
        lengths = lengths or next((name for name in ("rounds", "blocks", "length") if name in index), None)
        writer.commit(pa.table({name: list(column) for name, column in index.items()}), lengths=lengths)


def edit_manifest(path: Path, change: Callable[[dict[str, Any]], Any], *, sealed: bool = True) -> None:
    """Change manifest.json of the store in `path`, as somebody who knows how it is sealed could; or who does not."""
    values = json.loads((path / "manifest.json").read_text())
    change(values)
    if sealed:
        values.pop("seal", None)
        values["seal"] = seal(values)
    (path / "manifest.json").write_text(json.dumps(values))


def write_turns(
    path: Path,
    lengths: Sequence[Sequence[int]] = ((3, 1, 10), (2, 5)),
    shape: tuple[int, ...] = (12,),
    dtype: str = "float16",
    dataset: str = "vectors",
    made_from: Mapping[str, Any] = MADE_FROM,
    seed: int = 0,
) -> np.ndarray:
    """A store of turns: lengths[s][d] turns in dialogue d of shard s; returns all its rows, (n, *shape)."""
    flat = [length for shard in lengths for length in shard]
    texts = [[f"dialogue {d} turn {t}" for t in range(length)] for d, length in enumerate(flat)]
    every = [text for dialogue in texts for text in dialogue]
    rows = np.random.default_rng(seed).integers(0, 250, (len(every), *shape)).astype(dtype)
    index: dict[str, Iterable[Any]] = {
        "row": np.cumsum([0, *flat])[:-1].astype(np.int64),
        "image_id": 7 * np.arange(len(flat)),
        "rounds": np.array(flat, np.int32),
        "texts": texts,
    }
    write_store(
        path,
        rows,
        index,
        kind="turns",
        split="t",
        shards=[sum(shard) for shard in lengths],
        dataset=dataset,
        made_from=made_from,
        texts=every,
    )
    return rows


def write_training_stores(
    folder: Path,
    split: str = "train",
    *,
    images: int = 24,
    first_id: int = 1000,
    captions: Sequence[int] = (5, 1, 6, 7),
    rounds: Sequence[int] = (10, 3, 1),
    caption_dim: int = 12,
    turn_dim: int = 10,
    word_dim: int = 8,
    words: Sequence[int] = (3, 5, 1, 2),
    sizes: Sequence[int] = (76,),
    dtype: str = "float16",
    seed: int = 0,
    without_dialogue: Sequence[int] = (),
    identity: str = "one",
    corpus: str = "c0",
    shards: int = 2,
) -> tuple[Path, Path]:
    """Captions, their words, turns, dialogues and images of a small made-up split, in the folders that a run expects.

    Returns (folder/embeddings/SPLIT, folder/images/SPLIT).
    Every vector holds its own row number in element 0, its image in element 1; every picture is full of noise but
    for pixel (0, 0), which holds its image's position.
    """
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
    index: dict[str, Iterable[Any]] = {
        "row": np.arange(len(owners)),
        "image_id": ids[owners],
        "caption_id": 10 * np.arange(len(owners)),
        "text": [f"caption {row} of image {ids[owner]}" for row, owner in enumerate(owners)],
    }
    write_store(
        embeddings / "captions", vectors(owners, caption_dim), index, split=split, shards=shards, made_from=about
    )
    of_captions = index
    turns = np.repeat(talking, per_round)
    index = {
        "row": np.cumsum(per_round) - per_round,
        "image_id": ids[talking],
        "rounds": per_round.astype(np.int32),
        "texts": [[f"round {r} of image {ids[i]}" for r in range(n)] for i, n in zip(talking, per_round)],
    }
    write_store(embeddings / "turns", vectors(turns, turn_dim), index, split=split, shards=1, made_from=about)
    index = {
        "row": np.arange(len(talking)),
        "image_id": ids[talking],
        "text": [f"dialogue of image {ids[i]}" for i in talking],
    }
    dialogues = vectors(np.array(talking), turn_dim)
    write_store(embeddings / "dialogues", dialogues, index, split=split, shards=shards, made_from=about)
    for size in sizes:
        pictures = random.integers(0, 256, (images, size, size, 3), dtype=np.uint8)
        pictures[:, 0, 0] = np.arange(images)[:, None]
        # Another order than the captions': alignment is by image_id.
        order = random.permutation(images)
        index = {"row": np.arange(images), "image_id": ids[order], "file_name": [f"{ids[i]}.jpg" for i in order]}
        resampled = {"resampling": "box"}
        write_store(
            pictures_of / str(size), pictures[order], index, kind="images", split=split, shards=shards,
            made_from=resampled,
        )  # fmt: skip
    # Of every caption its words: vectors, and numbers of WORDS. Drawn last, so that what is older keeps its numbers.
    lengths = np.resize(words, len(owners)).astype(np.int32)
    index = {**of_captions, "row": np.cumsum(lengths) - lengths, "length": lengths}
    rows = np.repeat(owners, lengths)
    write_store(embeddings / "words", vectors(rows, word_dim), index, split=split, shards=1, made_from=about)
    numbers = random.integers(0, len(WORDS), (len(rows), 1), dtype=np.uint16)
    known = {**about, "vocabulary": {"words": WORDS}}
    write_store(embeddings / "tokens", numbers, index, split=split, shards=1, made_from=known)
    return embeddings, pictures_of


def write_corpus_vectors(folder: Path, corpus: Path, encoder: str = "made up") -> None:
    """Stores of random vectors for the texts of a corpus: captions (9), turns and dialogues (7 elements)."""
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(corpus).to_pylist()
    random = np.random.default_rng(len(rows))
    captions = [
        (row["image_id"], caption["caption_id"], caption["text"]) for row in rows for caption in row["captions"]
    ]
    turns = [[f"{said['question']}? {said['answer']}" for said in row["rounds"]] for row in rows]
    firsts = np.cumsum([0, *map(len, turns)])[:-1]
    ids = [row["image_id"] for row in rows]
    tables: dict[str, tuple[int, int, dict[str, Iterable[Any]]]] = {
        "captions": (
            9,
            len(captions),
            {
                "row": range(len(captions)),
                "image_id": [caption[0] for caption in captions],
                "caption_id": [caption[1] for caption in captions],
                "text": [caption[2] for caption in captions],
            },
        ),
        "turns": (
            7,
            sum(map(len, turns)),
            {"row": firsts, "image_id": ids, "rounds": list(map(len, turns)), "texts": turns},
        ),
        "dialogues": (7, len(ids), {"row": range(len(ids)), "image_id": ids, "text": list(map(" ".join, turns))}),
    }
    made_from = {"encoder": {"name": encoder}, "text": {}}
    for kind, (dim, count, index) in tables.items():
        vectors = random.standard_normal((count, dim)).astype(np.float16)
        write_store(folder / kind, vectors, index, split=folder.name, shards=1, made_from=made_from)


KINDS, PREDICATES = 9, 7  # of objects and relations in `write_graphs`, `__image__` and `__in_image__` included


def write_graphs(
    folder: Path, image_ids: Sequence[int], *, counts: Sequence[int] = (3, 1, 5, 2), side: int = 16, seed: int = 0
) -> None:
    """`objects`, `boxes`, `masks` and `triples` of made-up pictures, in the form of pipeline.graphs.stores.

    Picture i has `counts[i]` objects (again from the first where there are no more) and the image itself.
    """
    random = np.random.default_rng(seed)
    vocabulary = {
        "objects": ["__image__", *(f"kind {number}" for number in range(1, KINDS))],
        "predicates": ["__in_image__", *(f"relation {number}" for number in range(1, PREDICATES))],
    }
    made: dict[str, list[np.ndarray]] = {"objects": [], "boxes": [], "masks": [], "triples": []}
    for n in np.resize(counts, len(image_ids)):
        corners = np.sort(random.random((n, 2, 2)), 1).reshape(n, 4)
        made["objects"].append(np.append(random.integers(1, KINDS, n), 0).astype(np.int16))
        made["boxes"].append(np.vstack([corners, [[0, 0, 1, 1]]]).astype(np.float32))
        masks = random.integers(0, 2, (n, side, side))
        made["masks"].append(np.concatenate([masks, np.ones((1, side, side), int)]).astype(np.uint8))
        pairs = [(s, random.integers(1, PREDICATES), o) for s in range(n) for o in range(n) if s != o]
        made["triples"].append(np.array([*pairs, *((s, 0, n) for s in range(n))], np.int16))
    for name, runs in made.items():
        lengths = np.array([len(run) for run in runs], np.int32)
        index = {"row": np.cumsum([0, *lengths])[:-1], "image_id": image_ids, "length": lengths}
        about = {"corpus": "c0", "vocabulary": vocabulary}
        write_store(folder / name, np.concatenate(runs), index, split=folder.name, shards=1, made_from=about)
