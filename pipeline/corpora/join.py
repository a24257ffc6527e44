"""Captions, dialogues and pictures joined on the image id."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.corpora.coco import Image
from pipeline.corpora.corpus import Row
from pipeline.corpora.visdial import DialogueRecord
from pipeline.pictures.files import PREFIXES, PictureFiles, official_names

Fate = Literal["drop", "keep"]
_FIRST = 5


@dataclass(frozen=True)
class CorpusSettings:
    """Does an image that lacks one of these stay in the corpus? (`corpus:` of params.yaml)"""

    without_caption: Fate = "drop"
    without_dialogue: Fate = "drop"
    without_image: Fate = "drop"


@dataclass
class Lacking:
    """Images that lack something: how many, the first of them, and whether they stayed."""

    fate: Fate
    count: int = 0
    first: list[int] = field(default_factory=list)

    def add(self, image_id: int) -> None:
        self.count += 1
        if len(self.first) < _FIRST:
            self.first.append(image_id)


@dataclass
class Counts:
    """What was joined and what was lacking; an image that lacks two things is counted under both.

    Attributes:
        other_splits: dialogues of images that the captions file does not list, not read.
        looked_for: names of files, for the first images without one.
        one_file: files that several images name, each with the images.
    """

    without_caption: Lacking
    without_dialogue: Lacking
    without_image: Lacking
    other_splits: int = 0
    looked_for: dict[int, list[str]] = field(default_factory=dict)
    one_file: dict[str, list[int]] = field(default_factory=dict)


def join(
    images: dict[int, Image],
    dialogues: dict[int, DialogueRecord],
    pictures: PictureFiles,
    settings: CorpusSettings,
    alone: bool,
    prefixes: tuple[str, ...] = PREFIXES,
) -> tuple[list[Row], Counts]:
    """One row per image: those of the captions file in its order, then those that only a dialogue names, in theirs.

    Args:
        alone: the dialogues are of this split alone; otherwise those of images that the captions file does not
            list belong to other splits, and are only counted.
        prefixes: beginnings of the official names of pictures that only a dialogue names.
    """
    counts = Counts(
        Lacking(settings.without_caption), Lacking(settings.without_dialogue), Lacking(settings.without_image)
    )
    others = [dialogue for image_id, dialogue in dialogues.items() if image_id not in images]
    if not alone:
        counts.other_splits, others = len(others), []
    rows = []
    named: dict[Path, list[int]] = {}
    for image in _all(images, others):
        dialogue = dialogues.get(image.image_id)
        # A name that is stated and not there is another picture's, or nobody's: the number proves nothing then.
        stated = image.file_name
        path = pictures.find(stated) if stated else pictures.find_official(image.image_id, prefixes)
        if path:
            named.setdefault(path, []).append(image.image_id)
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
        if path is None and len(counts.looked_for) < _FIRST:
            counts.looked_for[image.image_id] = [stated] if stated else official_names(image.image_id, prefixes)
        if all(lack.fate == "keep" for lack in lacking):
            rows.append(
                Row(
                    image_id=image.image_id,
                    file_name=pictures.name(path) if path else stated,
                    width=image.width,
                    height=image.height,
                    captions=image.captions,
                    rounds=dialogue.rounds if dialogue else [],
                    visdial_caption=dialogue.caption if dialogue else "",
                )
            )
    counts.one_file = {pictures.name(path): ids for path, ids in named.items() if len(ids) > 1}
    return rows, counts


def _all(images: dict[int, Image], others: list[DialogueRecord]) -> Iterator[Image]:
    yield from images.values()
    for dialogue in others:
        yield Image(dialogue.image_id, "", None, None)
