"""COCO captions as published (`captions_train2014.json`, `captions_val2017.json`, ...) and the pictures beside them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipeline.corpora import json_files
from store.errors import ChatPainterError

REMEDY = "take the file again from cocodataset.org (annotations), or point `raw` in params.yaml elsewhere"


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
    if not path.is_file():
        known = sorted(p.name[len("captions_") : -len(".json")] for p in path.parent.glob("captions_*.json"))
        there = f"splits found there: {', '.join(known)}" if known else "no captions_*.json lies there"
        raise ChatPainterError(f"{path}: no such file for split {split!r}; {there}")
    return path


def read(path: Path) -> dict[int, Image]:
    """The images of a captions file by id, in the order of the file, each with its captions.

    Captions lose their outer whitespace, and whitespace inside (newlines too) becomes one space.

    Raises:
        ChatPainterError: names the file, the record, and what was expected.
    """
    content = json_files.read_object(path, REMEDY)
    images: dict[int, Image] = {}
    for position, entry in enumerate(json_files.field(content, "images", list, str(path))):
        where = f"{path}: images[{position}]"
        image_id = json_files.field(entry, "id", int, where)
        if image_id in images:
            raise ChatPainterError(f"{where}: image id {image_id} appears twice; {REMEDY}")
        name = json_files.field(entry, "file_name", str, where)
        pure = PurePosixPath(name)
        if not name or pure.is_absolute() or ".." in pure.parts:
            raise ChatPainterError(f"{where}: file_name {name!r} does not stay inside the images' folder; {REMEDY}")
        images[image_id] = Image(image_id, name, _size(entry, "width", where), _size(entry, "height", where))
    seen: set[int] = set()
    for position, entry in enumerate(json_files.field(content, "annotations", list, str(path))):
        where = f"{path}: annotations[{position}]"
        caption_id = json_files.field(entry, "id", int, where)
        image_id = json_files.field(entry, "image_id", int, where)
        text = json_files.fold(json_files.field(entry, "caption", str, where))
        if caption_id in seen:
            raise ChatPainterError(f"{where}: caption id {caption_id} appears twice; {REMEDY}")
        seen.add(caption_id)
        if not text:
            raise ChatPainterError(
                f"{where}: caption {caption_id} of image {image_id} is empty; write one or remove it"
            )
        if image_id not in images:
            raise ChatPainterError(
                f"{where}: caption {caption_id} is of image {image_id}, not among `images`; {REMEDY}"
            )
        images[image_id].captions.append((caption_id, text))
    return images


def _size(entry: dict, name: str, where: str) -> int | None:
    return json_files.field(entry, name, int, where) if entry.get(name) is not None else None


class Pictures:
    """The picture files of a split, listed once: 123,287 single look-ups on a network disk would take minutes."""

    def __init__(self, raw: Path, split: str) -> None:
        self.folders = [raw / "images" / split, raw / split, raw / "images"]
        self._there = {folder: _files(folder) for folder in self.folders}

    def find(self, image_id: int, file_name: str = "") -> Path | None:
        """The file of an image: by `file_name`, else by the official names of COCO 2014, COCO 2017 and VisDial 1.0."""
        names = [file_name] if file_name else []
        for name in [*names, *official_names(image_id)]:
            for folder in self.folders:
                if name in self._there[folder] or ("/" in name and (folder / name).is_file()):
                    return folder / name
        return None

    def name(self, path: Path) -> str:
        """A found file's name inside the folder that it was found in: the corpus' `file_name`."""
        folder = next(folder for folder in self.folders if path.is_relative_to(folder))
        return path.relative_to(folder).as_posix()


def official_names(image_id: int) -> Iterator[str]:
    """The names under which an image of this id was published, one after another."""
    for prefix in ("", "COCO_train2014_", "COCO_val2014_", "VisualDialog_val2018_", "VisualDialog_test2018_"):
        yield f"{prefix}{image_id:012d}.jpg"


def _files(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise ChatPainterError(
            f"{folder}: cannot be listed ({error.strerror}); check the folder's permissions"
        ) from None
