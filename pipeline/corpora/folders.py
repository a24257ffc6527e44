"""A dataset's folder that is written whole or not at all."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from store.errors import ChatPainterError
from store.files import in_words
from store.lock import FolderLock


@contextlib.contextmanager
def replacing_folder(folder: Path, ours: re.Pattern[str], marker: str, option: str = "--raw") -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place once the block ended well.

    Where `folder` is a link, the folder that it leads to is replaced and the link stays.

    Args:
        ours: names inside, relative to the folder, that may be replaced.
        marker: a pattern of files of which one must be there before anything is replaced.
        option: of the command, that names the folder.

    Raises:
        ChatPainterError: before any work is done: the folder holds something else, cannot be replaced whole (it is the
            folder that the command runs in, or a disk of its own), or another run is writing it. Or: it cannot be
            written.
    """
    place = _place(folder, option)
    _refuse_foreign(folder, ours, marker, option)
    work = place.with_name(f".{place.name}.tmp")
    with _removing(work), in_words(folder), FolderLock(work):
        try:
            _clear(work)  # of what a killed run left; its lock died with it
            (work / "new").mkdir()
            yield work / "new"
            _refuse_foreign(folder, ours, marker, option)
            if place.exists():
                os.replace(place, work / "old")
            os.replace(work / "new", place)
        finally:
            _clear(work)


@contextlib.contextmanager
def _removing(work: Path) -> Iterator[None]:
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            work.rmdir()  # unless another run is in it


def _clear(work: Path) -> None:
    for name in ("new", "old"):
        shutil.rmtree(work / name, ignore_errors=True)


def _place(folder: Path, option: str) -> Path:
    """Where the folder really lies: its own parent must take the new folder beside the old one."""
    another = f"name another folder with {option}"
    try:
        place = folder.resolve()
    except (OSError, RuntimeError) as error:
        raise ChatPainterError(f"{folder}: is a link that leads nowhere ({error}); remove it, or {another}") from None
    if folder.is_symlink() and not place.exists():
        raise ChatPainterError(
            f"{folder}: is a link to {place}, which is not there; make that folder, mount its disk, or {another}"
        )
    if Path.cwd().is_relative_to(place):
        raise ChatPainterError(
            f"{folder}: this command replaces its folder whole, and runs in that one; {another} (one inside, say)"
        )
    if os.path.ismount(place):
        raise ChatPainterError(
            f"{folder}: this command replaces its folder whole, and {place} is a disk of its own; {another} (one on "
            "that disk, say)"
        )
    return place


def _refuse_foreign(folder: Path, ours: re.Pattern[str], marker: str, option: str) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ChatPainterError(f"{folder}: is a file; name another folder with {option}")
    files = [path for path in sorted(folder.rglob("*")) if not path.is_dir() or path.is_symlink()]
    foreign = [path for path in files if not ours.fullmatch(path.relative_to(folder).as_posix())]
    if foreign or (files and not any(folder.glob(marker))):
        raise ChatPainterError(
            f"{(foreign or files)[0]}: not made by this command, which replaces all of {folder}; "
            f"move it, or name another folder with {option}"
        )
