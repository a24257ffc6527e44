"""A dataset's folder that is written whole or not at all."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from store.errors import ChatPainterError
from store.files import in_words


@contextlib.contextmanager
def replacing_folder(folder: Path, ours: re.Pattern[str], marker: str) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place once the block ended well.

    Args:
        ours: names inside, relative to the folder, that may be replaced.
        marker: a pattern of files of which one must be there before anything is replaced.

    Raises:
        ChatPainterError: the folder holds something else, or cannot be written.
    """
    _refuse_foreign(folder, ours, marker)
    temporary = folder.with_name(f".{folder.name}.tmp")
    with in_words(folder):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            yield temporary
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _refuse_foreign(folder: Path, ours: re.Pattern[str], marker: str) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ChatPainterError(f"{folder}: is a file; name another folder with --raw")
    files = [path for path in sorted(folder.rglob("*")) if not path.is_dir()]
    foreign = [path for path in files if not ours.fullmatch(path.relative_to(folder).as_posix())]
    if foreign or (files and not any(folder.glob(marker))):
        raise ChatPainterError(
            f"{(foreign or files)[0]}: not made by this command, which replaces all of {folder}; "
            "move it, or name another folder with --raw"
        )
