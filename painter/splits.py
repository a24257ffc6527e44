"""Words and real pictures of a split's images: the corpus and the image stores in data/."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from painter.dialogue import Dialogue
from pipeline.corpora import corpus
from store.errors import ChatPainterError


def dialogue_of(row: dict[str, Any]) -> Dialogue:
    """A row of a corpus as what was said about its image; of several captions the first."""
    caption = row["captions"][0]["text"] if row["captions"] else row["visdial_caption"]
    rounds = tuple((turn["question"], turn["answer"] or "") for turn in row["rounds"] or [])
    return Dialogue(caption or "", rounds, row["image_id"])


def dialogues(data: Path, split: str, image_ids: Sequence[int]) -> list[Dialogue]:
    """What was said about images of a split, in the order asked.

    Raises:
        ChatPainterError: no such split, or the image is not in it.
    """
    path = data / "corpus" / f"{split}.parquet"
    try:
        table = corpus.read(path)
    except ChatPainterError as error:
        there = ", ".join(sorted(file.stem for file in path.parent.glob("*.parquet"))) or "none"
        raise ChatPainterError(f"{error.message} (splits that are there: {there})") from None
    place = {image_id: row for row, image_id in enumerate(table["image_id"].to_pylist())}
    if missing := [image_id for image_id in image_ids if image_id not in place]:
        raise ChatPainterError(f"{path}: no image {missing[0]} in split {split!r}; its column image_id lists them")
    return [dialogue_of(row) for row in table.take([place[image_id] for image_id in image_ids]).to_pylist()]


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
