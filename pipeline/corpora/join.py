"""Captions, dialogues and pictures joined on the image id."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from pipeline.corpora.coco import Image, Pictures
from pipeline.corpora.visdial import Dialogue

Fate = Literal["drop", "keep"]


@dataclass(frozen=True)
class CorpusSettings:
    """Does an image that lacks one of these stay in the corpus? (`corpus:` of params.yaml)"""

    without_caption: Fate = "drop"
    without_dialogue: Fate = "drop"
    without_image: Fate = "drop"


@dataclass(frozen=True)
class Row:
    """One image of the corpus: a row of the Parquet file, column for column."""

    image_id: int
    file_name: str
    width: int | None
    height: int | None
    captions: list[tuple[int, str]]
    rounds: list[tuple[str, str]]
    visdial_caption: str


@dataclass
class Lacking:
    """Images that lack something: how many, the first of them, and whether they stayed."""

    fate: Fate
    count: int = 0
    first: list[int] = field(default_factory=list)

    def add(self, image_id: int) -> None:
        self.count += 1
        if len(self.first) < 5:
            self.first.append(image_id)


@dataclass
class Counts:
    """What was joined and what was lacking; an image that lacks two things is counted under both."""

    without_caption: Lacking
    without_dialogue: Lacking
    without_image: Lacking
    other_splits: int = 0


def join(
    images: dict[int, Image], dialogues: dict[int, Dialogue], pictures: Pictures, settings: CorpusSettings, alone: bool
) -> tuple[list[Row], Counts]:
    """One row per image: those of the captions file in its order, then those that only a dialogue names, in theirs.

    Args:
        alone: the dialogues are of this split alone; otherwise those of images that the captions file does not
            list belong to other splits, and are only counted.
    """
    counts = Counts(
        Lacking(settings.without_caption), Lacking(settings.without_dialogue), Lacking(settings.without_image)
    )
    others = [dialogue for image_id, dialogue in dialogues.items() if image_id not in images]
    if not alone:
        counts.other_splits, others = len(others), []
    rows = []
    for image in _all(images, others):
        dialogue = dialogues.get(image.image_id)
        path = pictures.find(image.image_id, image.file_name)
        lacking = [
            lack
            for lack, lacks in (
                (counts.without_caption, not image.captions),
                (counts.without_dialogue, dialogue is None or not dialogue.rounds),
                (counts.without_image, path is None),
            )
            if lacks
        ]
        for lack in lacking:
            lack.add(image.image_id)
        if all(lack.fate == "keep" for lack in lacking):
            rows.append(
                Row(
                    image_id=image.image_id,
                    file_name=pictures.name(path) if path else image.file_name,
                    width=image.width,
                    height=image.height,
                    captions=image.captions,
                    rounds=dialogue.rounds if dialogue else [],
                    visdial_caption=dialogue.caption if dialogue else "",
                )
            )
    return rows, counts


def _all(images: dict[int, Image], others: list[Dialogue]) -> Iterator[Image]:
    yield from images.values()
    for dialogue in others:
        yield Image(dialogue.image_id, "", None, None)
