"""Words and real pictures of a split's images: the corpus and the image stores in data/."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from painter.dialogue import Dialogue
from pipeline.corpora import corpus
from store.errors import ChatPainterError


def dialogue_of(row: corpus.Row) -> Dialogue:
    """A row of a corpus as what was said about its image."""
    return Dialogue(row.caption, tuple(row.rounds), row.image_id)


def dialogues(data: Path, split: str, image_ids: Sequence[int]) -> list[Dialogue]:
    """What was said about images of a split, in the order asked.

    Raises:
        ChatPainterError: no such split, or the image is not in it.
    """
    path = data / "corpus" / f"{split}.parquet"
    try:
        table = corpus.read(path)
    except ChatPainterError as error:
        raise ChatPainterError(f"{error.message} (splits that are there: {_splits(path.parent)})") from None
    known = set(table["image_id"].to_pylist())
    if missing := [image_id for image_id in image_ids if image_id not in known]:
        raise ChatPainterError(f"{path}: no image {missing[0]} in split {split!r}; its column image_id lists them")
    found = {row.image_id: dialogue_of(row) for row in corpus.rows(corpus.of_images(table, image_ids))}
    return [found[image_id] for image_id in image_ids]


def _splits(folder: Path) -> str:
    try:
        return ", ".join(sorted(path.stem for path in folder.glob("*.parquet"))) or "none"
    except OSError:
        return "none"


def pictures(data: Path, split: str, image_ids: Sequence[int]) -> np.ndarray | None:
    """(n, s, s, 3) uint8 real pictures of a split, from its largest image store; None if it has no images.

    Raises:
        ChatPainterError: an image is in no store.
    """
    from store.jpeg import open_images

    folder = data / "images" / split
    sides = sorted(int(path.parent.name) for path in folder.glob("*/manifest.json") if path.parent.name.isdigit())
    if not sides:
        return None
    store = open_images(folder / str(sides[-1]))
    row_of = dict(zip(store.column("image_id").tolist(), store.column("row").tolist()))
    if missing := [image_id for image_id in image_ids if image_id not in row_of]:
        raise ChatPainterError(f"{store.path}: no picture of image {missing[0]}; prepare the images of {split!r} again")
    return store.take(np.array([row_of[image_id] for image_id in image_ids], np.int64))
