"""A store made in shares, by runs that know nothing of each other: hosts without a scheduler, an array of jobs.

A part writes its shards into a folder of its own beside the store, under that folder's lock. Whoever finishes the
store holds the locks of all of them, moves what they made into place, and commits.
"""

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from store.errors import ChatPainterError, StoreError
from store.files import in_words, sync_folder
from store.lock import FolderLock
from store.shards import ShardTask, finished
from store.threads import in_threads
from store.writer import StoreWriter, delete_files

_FOLDERS = ".parts"  # after the store's name
_FOLDER = re.compile(r"([1-9]\d*)-of-([1-9]\d*)")


@dataclass(frozen=True)
class Part:
    """Part `number` (from 1) `of` so many: every of-th shard."""

    number: int
    of: int

    @classmethod
    def read(cls, text: str) -> Self:
        """From I/N.

        Raises:
            ChatPainterError: it is no such thing.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        part = cls(*map(int, found.groups())) if found else cls(0, 0)
        if not 1 <= part.number <= part.of:
            raise ChatPainterError(f"--part {text[:40]}: expected I/N with I from 1 to N, such as 2/8")
        return part

    def has(self, shard: int) -> bool:
        """Whether shard `shard` (from 0) is this part's."""
        return shard % self.of == self.number - 1

    def folder(self, store: Path) -> Path:
        """Where its shards of the store at `store` lie until the store is finished."""
        return _folders(store) / f"{self.number}-of-{self.of}"

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def parts_of(store: Path) -> dict[Part, Path]:
    """The parts that were begun of the store at `store`, and their folders."""
    folder = _folders(store)
    if not folder.is_dir():
        return {}
    with in_words(folder):
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    found = {name: _FOLDER.fullmatch(name) for name in names}
    return {Part(int(match[1]), int(match[2])): folder / name for name, match in found.items() if match}


def made_elsewhere(tasks: Iterable[ShardTask], folders: Iterable[Path]) -> set[int]:
    """The numbers of the shards that are wanted and lie finished in one of the folders."""
    places = [dataclasses.replace(task, folder=str(folder)) for task in tasks for folder in folders]
    there = [task for task in places if task.path.exists()]
    return {task.number for task, shard in zip(there, in_threads(finished, there)) if shard}


@contextlib.contextmanager
def taken_over(writer: StoreWriter, *, all_or_none: bool = False) -> Iterator[None]:
    """Move what parts made of the planned store into place; their folders go when the block ends well.

    Args:
        all_or_none: nothing else will be made, so move nothing unless all that is missing is there.

    Raises:
        StoreError: a part is still at work; shards are missing where all are asked for, and which parts make them.
    """
    with contextlib.ExitStack() as held:
        parts = parts_of(writer.path)
        for folder in parts.values():
            held.enter_context(FolderLock(folder))
        if all_or_none:
            _refuse_unfinished(writer, parts)
        for folder in parts.values():
            writer.adopt(folder)
        yield
        for folder in parts.values():
            with in_words(folder):
                delete_files(folder)
    for folder in parts.values():
        _remove_empty(folder)
    if parts:
        _remove_empty(_folders(writer.path))
        sync_folder(writer.path.parent)


def _refuse_unfinished(writer: StoreWriter, parts: Mapping[Part, Path]) -> None:
    wanted = writer.missing()
    there = made_elsewhere([writer.tasks[number] for number in wanted], parts.values())
    missing = [number for number in wanted if number not in there]
    if not missing:
        return
    remedy = "run its parts (--part I/N) first"
    if parts:
        of = max(part.of for part in parts)  # the finest division that was begun
        runs = [f"--part {Part(first + 1, of)}" for first in sorted({number % of for number in missing})]
        more = f" and {len(runs) - 8} more" if len(runs) > 8 else ""
        remedy = f"run {', '.join(runs[:8])}{more} again, with the same settings"
    raise StoreError(f"{writer.path}: {len(missing)} of {len(writer.tasks)} shards are missing; {remedy}")


def _folders(store: Path) -> Path:
    return store.with_name(store.name + _FOLDERS)


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # a part that began meanwhile, or somebody's own file: it stays
        os.rmdir(folder)
