"""Work cut into parts that survive a kill and can be shared between processes.

Each part is one .npz, written under a temporary name and renamed: whatever carries a final name is whole. Parts live
in a folder named after everything they depend on, so a changed generator or setting starts afresh and stale parts go.
"""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from store import params
from store.files import replacing
from trainer.distributed import Ranks, wait_for_all

Arrays = dict[str, np.ndarray]


class Parts:
    """Parts of one evaluation under `folder`/KEY; what other keys left there is deleted."""

    def __init__(self, folder: Path, key: dict[str, Any], ranks: Ranks) -> None:
        self.folder, self.ranks = folder / params.digest(key)[:16], ranks
        if ranks.main:
            for other in folder.iterdir() if folder.is_dir() else ():
                if other.is_dir() and other != self.folder:
                    shutil.rmtree(other)
            self.folder.mkdir(parents=True, exist_ok=True)
        wait_for_all()

    def path(self, name: str, number: int) -> Path:
        return self.folder / f"{name}-{number:06d}.npz"

    def make(self, name: str, count: int, compute: Callable[[int], Arrays], did: Callable[[], None]) -> None:
        """Compute this process's share of `count` parts, leaving out those that exist; then wait for the others'."""
        for number in range(self.ranks.rank, count, self.ranks.world):
            path = self.path(name, number)
            if not _whole(path):
                arrays = compute(number)
                with replacing(path) as temporary, open(temporary, "wb") as file:
                    np.savez(file, **arrays)  # type: ignore[arg-type]
            did()
        wait_for_all()

    def gather(self, name: str, count: int) -> Arrays:
        """All `count` parts joined along their first axis."""
        parts = [self.load(name, number) for number in range(count)]
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def load(self, name: str, number: int) -> Arrays:
        """One part."""
        with np.load(self.path(name, number), allow_pickle=False) as file:
            return {key: file[key] for key in file.files}

    def clear(self) -> None:
        """Delete the parts: the figures are written."""
        shutil.rmtree(self.folder.parent)


def _whole(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (zipfile.BadZipFile, OSError):
        return False
