"""The picture files of a split as they lie on disk, and which of them is an image's."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from store.errors import ChatPainterError

# The names under which COCO 2017, COCO 2014 and VisDial 1.0 published pictures, by the number of the image.
COCO = ("", "COCO_train2014_", "COCO_val2014_")
VISDIAL_VAL = ("VisualDialog_val2018_",)
VISDIAL_TEST = ("VisualDialog_test2018_",)
PREFIXES = (*COCO, *VISDIAL_VAL, *VISDIAL_TEST)


class PictureFiles:
    """The files of a split, listed once: 123,287 single look-ups on a network disk would take minutes.

    Args:
        stated: every `file_name` that a captions file states. A name's leading folders may then be left out, as long
            as no other image's name ends alike: they tell how pictures lay on somebody else's disk.

    Raises:
        ChatPainterError: a folder cannot be listed.
    """

    def __init__(self, raw: Path, split: str, stated: Iterable[str] = ()) -> None:
        self.folders = [raw / "images" / split, raw / split, raw / "images"]
        self._there = {folder: _files(folder) for folder in self.folders}
        self._raw = raw
        self._ends = Counter(end for name in stated for end in _ends(name))

    def find(self, file_name: str) -> Path | None:
        """The file of a stated name, and of no other: backslashes divide folders where no file has one in its name, and
        a letter with its accent is the same in one code point (NFC) or in two (NFD, as macOS writes archives)."""
        for name in spellings(file_name):
            if found := self._exactly(name):
                return found
        for end in _ends(file_name):
            if self._ends[end] == 1 and (found := self._exactly(end)):
                return found
        return None

    def find_official(self, image_id: int, prefixes: tuple[str, ...] = PREFIXES) -> Path | None:
        """The file of an image that nobody states a name for: by the official names of its number.

        Raises:
            ChatPainterError: there are several, which may be of different images: COCO and VisDial 1.0 count anew.
        """
        found: dict[str, Path] = {}
        for prefix, name in zip(PREFIXES, official_names(image_id)):
            if path := self._exactly(name):
                found[prefix] = path
        if len({(status.st_dev, status.st_ino) for status in map(os.stat, found.values())}) > 1:
            files = ", ".join(map(str, found.values()))
            raise ChatPainterError(
                f"image {image_id}: which picture is it? no captions file states its name, and there are {files}; "
                "state it as `file_name` in a captions file, or leave only the right one there"
            )
        return next((path for prefix, path in found.items() if prefix in prefixes), None)

    def name(self, path: Path) -> str:
        """A found file's name inside its folder, by which `find` finds it again: the corpus' `file_name`."""
        for folder in (*self.folders, self._raw):
            if path.is_relative_to(folder):
                name = path.relative_to(folder).as_posix()
                if self._exactly(name) == path:
                    return name
        raise AssertionError(f"{path} was not found here")

    def _exactly(self, name: str) -> Path | None:
        return next(self._everywhere(name), None)

    def _everywhere(self, name: str) -> Iterator[Path]:
        name = str(PurePosixPath(name))
        inside = "/" in name
        for folder in self.folders:
            # os.path, not Path: a name too long, or with a NUL in it, is no file either.
            if name in self._there[folder] or (inside and os.path.isfile(folder / name)):
                yield folder / name
        if inside and os.path.isfile(self._raw / name):
            yield self._raw / name


def spellings(file_name: str) -> list[str]:
    """The names that a stated name may mean: itself, with slashes for backslashes, its accents composed or apart."""
    slashes = file_name.replace("\\", "/")
    return list(dict.fromkeys((file_name, slashes, *(normalize(form, slashes) for form in ("NFC", "NFD")))))


def official_names(image_id: int, prefixes: tuple[str, ...] = PREFIXES) -> list[str]:
    """The names under which an image of this number may have been published."""
    return [f"{prefix}{image_id:012d}.jpg" for prefix in prefixes]


def _ends(name: str) -> Iterator[str]:
    """`a/b/c.jpg` without its first folder, its first two, ...: `b/c.jpg`, `c.jpg`; a bare name is its own end."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    for start in range(min(1, len(parts) - 1), len(parts)):
        yield "/".join(parts[start:])


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
