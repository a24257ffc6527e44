"""Films: a picture after every turn of a dialogue, stated in `annotations/turns_SPLIT.json` beside COCO's files.

Layout: `{"objects": [name], "images": [{"image_id", "first": SHOWN, "turns": [SHOWN, ...]}]}` with SHOWN
`{"file_name", "present": [index into objects]}`: the picture before anything is said, and the one after each round
of the image's dialogue. Files lie in `images/SPLIT/`, and turns that change nothing name the same file.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.corpora import json_files
from store.errors import ChatPainterError, StoreError
from store.files import inside

REMEDY = "write it again with whatever made it"


@dataclass(frozen=True)
class FilmFrame:
    """A picture, and which of the corpus' kinds of objects are in it."""

    file_name: str
    present: tuple[int, ...]


@dataclass(frozen=True)
class Film:
    """One dialogue's pictures."""

    image_id: int
    first: FilmFrame
    turns: tuple[FilmFrame, ...]


@dataclass(frozen=True)
class Films:
    """What a file holds; `objects` are the names of the kinds of objects."""

    objects: tuple[str, ...]
    films: dict[int, Film]


def films_file(raw: Path, split: str) -> Path:
    """Where the films of a split are stated."""
    return raw / "annotations" / f"turns_{split}.json"


def read(path: Path) -> Films:
    """The films of a file, checked.

    Raises:
        ChatPainterError: names the file, the image, the turn, and what was expected.
    """
    content = json_files.read_object(path, REMEDY)
    objects = json_files.field(content, "objects", list, str(path))
    for position, name in enumerate(objects):
        if not isinstance(name, str) or not name or objects.index(name) != position:
            raise ChatPainterError(
                f"{path}: objects[{position}] should be a name of its own, found {name!r:.40}; {REMEDY}"
            )
    films: dict[int, Film] = {}
    for position, entry in enumerate(json_files.field(content, "images", list, str(path))):
        where = f"{path}: images[{position}]"
        image_id = json_files.field(entry, "image_id", int, where)
        if image_id in films:
            raise ChatPainterError(f"{where}: image {image_id} appears twice; {REMEDY}")
        first = _shown(entry.get("first"), len(objects), path, f"{where}: first")
        turns = json_files.field(entry, "turns", list, where)
        shown = (_shown(turn, len(objects), path, f"{where}: turn {n}") for n, turn in enumerate(turns, 1))
        films[image_id] = Film(image_id, first, tuple(shown))
    return Films(tuple(objects), films)


def layout(objects: Sequence[str], films: Iterable[Film]) -> dict[str, Any]:
    """Films as the file has them, to be written as JSON."""

    def shown(one: FilmFrame) -> dict[str, Any]:
        return {"file_name": one.file_name, "present": list(one.present)}

    images = [
        {"image_id": film.image_id, "first": shown(film.first), "turns": [shown(turn) for turn in film.turns]}
        for film in films
    ]
    return {"objects": list(objects), "images": images}


def _shown(entry: Any, kinds: int, path: Path, where: str) -> FilmFrame:
    name = json_files.field(entry, "file_name", str, where)
    try:
        inside(path.parent, name, stated_in=where)
    except StoreError as error:
        raise ChatPainterError(f"{error.message}; {REMEDY}") from None
    present = json_files.field(entry, "present", list, where)
    for one in present:
        if type(one) is not int or not 0 <= one < kinds:
            raise ChatPainterError(f"{where}: present names {one!r:.40}, but there are {kinds} objects; {REMEDY}")
    return FilmFrame(name, tuple(present))
