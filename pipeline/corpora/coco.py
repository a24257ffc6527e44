"""COCO captions as published (`captions_train2014.json`, `captions_val2017.json`, ...), or as converters write them."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.corpora import json_files
from store.errors import ChatPainterError, StoreError
from store.files import inside

# The splits whose captions COCO itself published.
OFFICIAL = ("train2014", "val2014", "train2017", "val2017")
_MOST_PIXELS = 2**31 - 1


@dataclass
class Image:
    """One entry of `images`, with the captions that name it, in the order of the file."""

    image_id: int
    file_name: str
    width: int | None
    height: int | None
    captions: list[tuple[int, str]] = field(default_factory=list)


def captions_file(raw: Path, split: str) -> Path:
    """Where the captions of a split lie.

    Raises:
        ChatPainterError: there is none; the splits that do lie there are named.
    """
    path = raw / "annotations" / f"captions_{split}.json"
    # os.path, not Path: a split whose name is too long for any file is no error of the system's.
    if not os.path.isfile(path):
        known = sorted(p.name[len("captions_") : -len(".json")] for p in path.parent.glob("captions_*.json"))
        there = f"splits found there: {', '.join(known)}" if known else "no captions_*.json lies there"
        raise ChatPainterError(f"{path}: no such file for split {split!r}; {there}")
    return path


def check_split(name: str, where: str) -> str:
    """The name itself, if it is one that files can have in theirs.

    Raises:
        ChatPainterError: it is not; begins with `where`.
    """
    inside(Path("annotations"), f"captions_{name}.json", stated_in=where)
    if not name.isprintable() or set(name) & set("/\\"):
        raise ChatPainterError(f"{where}: {name!r} is no split's name; a name is a word, such as train2014")
    return name


def read(path: Path) -> dict[int, Image]:
    """The images of a captions file by id, in the order of the file, each with its captions.

    Captions lose their outer whitespace, and whitespace inside (newlines too) becomes one space.

    Raises:
        ChatPainterError: names the file, the record, and what was expected.
    """
    remedy = _remedy(path)
    content = json_files.read_object(path, remedy)
    images: dict[int, Image] = {}
    for position, entry in enumerate(json_files.field(content, "images", list, str(path))):
        where = f"{path}: images[{position}]"
        image_id = json_files.field(entry, "id", int, where)
        if image_id in images:
            raise ChatPainterError(f"{where}: image id {image_id} appears twice; {remedy}")
        name = json_files.field(entry, "file_name", str, where)
        try:
            inside(path.parent, name, stated_in=where)
        except StoreError as error:
            raise ChatPainterError(f"{error.message}; {remedy}") from None
        images[image_id] = Image(image_id, name, _size(entry, "width", where), _size(entry, "height", where))
    seen: set[int] = set()
    for position, entry in enumerate(json_files.field(content, "annotations", list, str(path))):
        where = f"{path}: annotations[{position}]"
        caption_id = json_files.field(entry, "id", int, where)
        image_id = json_files.field(entry, "image_id", int, where)
        text = json_files.fold(json_files.field(entry, "caption", str, where))
        if caption_id in seen:
            raise ChatPainterError(f"{where}: caption id {caption_id} appears twice; {remedy}")
        seen.add(caption_id)
        if not text:
            raise ChatPainterError(
                f"{where}: caption {caption_id} of image {image_id} is empty; write one or remove it"
            )
        if image_id not in images:
            raise ChatPainterError(
                f"{where}: caption {caption_id} is of image {image_id}, not among `images`; {remedy}"
            )
        images[image_id].captions.append((caption_id, text))
    return images


def _size(entry: dict, name: str, where: str) -> int | None:
    return json_files.field(entry, name, int, where, 1, _MOST_PIXELS) if entry.get(name) is not None else None


def _remedy(path: Path) -> str:
    if path.name in (f"captions_{split}.json" for split in OFFICIAL):
        return "take the file again from cocodataset.org (annotations)"
    return "write it again with whatever made it, or name another folder with --raw"
