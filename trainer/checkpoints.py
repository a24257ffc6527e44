"""Checkpoints that survive kills, full disks and damage: a whole file under its final name, or none.

checkpoints/
    images-000038400.pt            torch.save, loadable with weights_only=True
    images-000038400.pt.sha256     the line `sha256sum -c` reads; renamed into place *before* its checkpoint
    best.json                      which of them scored best
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from store.errors import ChatPainterError
from store.files import replacing, sha256_file, unwritten
from trainer import tensor_file

_NAME = re.compile(r"images-(\d+)\.pt")


class Checkpoints:
    """The checkpoints of one run: save, find the latest good one, keep the last `keep` and the best.

    Only rank 0 calls `save` and `latest`; the path goes to the others (`distributed.from_main`), which `load` it.
    """

    def __init__(self, folder: str | Path, keep: int = 2, say: Callable[[str], None] = print) -> None:
        assert keep >= 1
        self.folder = Path(folder)
        self._keep = keep
        self._say = say

    def save(self, state: dict[str, Any], images_seen: int, score: float | None = None) -> Path:
        """Write `state` (tensors and plain values only) as the checkpoint after `images_seen` images, atomically.

        `score`: lower is better; the best one is kept besides the last `keep`.

        Raises:
            ChatPainterError: the folder cannot be written (read-only, full, no rights); earlier checkpoints stand.
        """
        path = self._path(images_seen)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                with open(temporary, "wb") as file:
                    hashed = _Hashing(file)
                    torch.save(state, cast(BinaryIO, hashed))
                # What is said of it gets its final name first: a checkpoint never stands without.
                _write(_sidecar(path), f"{hashed.sha256.hexdigest()}  {path.name}\n")
                if self.is_best(images_seen, score):
                    _write(self.folder / "best.json", json.dumps({"file": path.name, "score": score}) + "\n")
            self._prune()
        except (OSError, RuntimeError) as error:
            # torch's zip writer turns the disk's OSError into a RuntimeError with the cause inside.
            cause = _os_error(error)
            if cause is None:
                raise
            raise ChatPainterError(
                f"{path}: {unwritten(cause, 'name another folder, then run the same command again')}"
            ) from None
        return path

    def latest(self) -> Path | None:
        """The newest checkpoint whose checksum holds; None when there is none at all.

        A damaged one is named aloud and renamed to `*.damaged`, and the one before it is taken.

        Raises:
            ChatPainterError: there are checkpoints, but not one is whole: no reason to start again in silence.
        """
        damaged: list[Path] = []
        for path in reversed(self._paths()):
            fault = _fault(path)
            if fault is None:
                for other in damaged:
                    with contextlib.suppress(OSError):
                        os.replace(other, other.with_name(other.name + ".damaged"))
                        _sidecar(other).unlink(missing_ok=True)
                return path
            self._say(f"{path}: {fault}; falling back to the checkpoint before it")
            damaged.append(path)
        if damaged:
            raise ChatPainterError(
                f"{self.folder}: none of the {len(damaged)} checkpoints is whole; remove the run to start again"
            )
        return None

    def furthest(self) -> int:
        """Pictures seen at the newest checkpoint, whole or not; 0 when there is none."""
        return max((int(re.sub(_NAME, r"\1", path.name)) for path in self._paths()), default=0)

    def is_best(self, images_seen: int, score: float | None) -> bool:
        """Whether the checkpoint after `images_seen` images is, or would be, the one with the lowest score so far."""
        if score is None:
            return False
        best = self._best()
        return best.get("file") == self._path(images_seen).name or score < best.get("score", float("inf"))

    def best(self) -> Path | None:
        """The checkpoint with the lowest score so far, if any was scored."""
        name = self._best().get("file")
        return self.folder / name if name and (self.folder / name).exists() else None

    def load(self, path: str | Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
        """The state saved under `path`; tensors and plain values only, nothing in the file can run.

        Raises:
            ChatPainterError: the file is missing, is not a checkpoint, or holds more than tensors and plain values.
        """
        return load(path, map_location)

    def _path(self, images_seen: int) -> Path:
        return self.folder / f"images-{images_seen:012d}.pt"

    def _paths(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _NAME.fullmatch(path.name))

    def _best(self) -> dict[str, Any]:
        try:
            return cast(dict[str, Any], json.loads((self.folder / "best.json").read_text()))
        except (OSError, ValueError):
            return {}

    def _prune(self) -> None:
        best = self.best()
        for path in self._paths()[: -self._keep]:
            if path != best:
                path.unlink(missing_ok=True)
                _sidecar(path).unlink(missing_ok=True)
        for stray in self.folder.glob("*.tmp"):
            stray.unlink(missing_ok=True)


def load(path: str | Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """See `Checkpoints.load`."""
    if not Path(path).exists():
        raise ChatPainterError(f"{path}: no such checkpoint")
    state = tensor_file.load(path, "a checkpoint of tensors and plain values", map_location)
    if not isinstance(state, dict):
        raise ChatPainterError(f"{path}: expected a mapping of states, found {type(state).__name__}")
    return state


class _Hashing:
    """A file that hashes what is written to it: no second pass over gigabytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text)


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _fault(path: Path) -> str | None:
    """What is wrong with a checkpoint, if anything."""
    try:
        expected = _sidecar(path).read_text().split()[0]
    except (OSError, IndexError, UnicodeDecodeError):
        return "has no checksum beside it"
    return None if sha256_file(path) == expected else "damaged (its checksum differs)"


def _os_error(error: BaseException | None) -> OSError | None:
    while error is not None:
        if isinstance(error, OSError):
            return error
        error = error.__cause__ or error.__context__
    return None
