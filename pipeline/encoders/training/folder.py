"""The folder of a training: one run at a time, one configuration, continued to the bit, a log that is never rewritten.

runs/skip-thought/  config.json  log.jsonl  checkpoint.pt  sentences/
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store.differences import changes
from store.errors import ChatPainterError, one_line
from store.files import in_words, replacing
from store.lock import FolderLock

if TYPE_CHECKING:
    import torch

CONFIG, LOG, CHECKPOINT = "config.json", "log.jsonl", "checkpoint.pt"
PATIENCE = 20  # updates in a row with a gradient that is not finite


class TrainingFolder:
    """A training's folder, held while it is entered.

    Args:
        config: all that decides what is trained; a folder that was begun with another one is refused.

    Raises:
        ChatPainterError: it was begun with another configuration.
        StoreError: another process trains in it, or it cannot be written.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.folder, self.config = folder, json.loads(json.dumps(config))
        self._nonfinite = 0

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for this process."""
        with FolderLock(self.folder):
            path = self.folder / CONFIG
            begun = (self.folder / CHECKPOINT).exists()  # before that nothing was learned
            if begun and path.exists() and (changed := changes(_json(path), self.config)):
                raise ChatPainterError(
                    f"{self.folder}: was begun with another configuration ({', '.join(changed)}); restore it, or name "
                    "another folder with --run"
                )
            with in_words(path), replacing(path) as temporary:
                temporary.write_text(json.dumps(self.config, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            yield

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the checkpoint, whole or not at all: tensors and plain values, `done` among them."""
        import torch

        path = self.folder / CHECKPOINT
        with in_words(path), replacing(path) as temporary:
            torch.save(dict(state), temporary)

    def load(self, device: "torch.device") -> dict[str, Any] | None:
        """The checkpoint, read without running anything in it; None where there is none.

        Raises:
            ChatPainterError: it is damaged.
        """
        import torch

        path = self.folder / CHECKPOINT
        if not path.exists():
            return None
        try:
            state = torch.load(path, map_location=device, weights_only=True)
            int(state["done"])
        except Exception as error:  # torch meets a damaged archive with many kinds of errors
            raise ChatPainterError(
                f"{path}: damaged, or not a checkpoint ({one_line(error)}); remove it to begin the training again"
            ) from None
        return dict(state)

    def log(self, record: Mapping[str, Any]) -> None:
        """Append a line to log.jsonl, or add to that of the same `done`; later ones (a killed run's) are dropped."""
        path = self.folder / LOG
        kept: list[str] = []
        same: dict[str, Any] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError, LookupError, TypeError):
                    there = json.loads(line)
                    if there["done"] < record["done"]:
                        kept.append(line)
                    elif there["done"] == record["done"]:
                        same = there
        with in_words(path), replacing(path) as temporary:
            temporary.write_text("\n".join([*kept, json.dumps({**same, **record})]) + "\n", encoding="utf-8")

    def finite(self, norm: float) -> bool:
        """Whether an update may be done with a gradient of this norm; many in a row that may not end the run."""
        if norm < float("inf"):  # false for NaN too
            self._nonfinite = 0
            return True
        self._nonfinite += 1
        if self._nonfinite >= PATIENCE:
            raise ChatPainterError(
                f"{self.folder}: the last {PATIENCE} gradients were not finite; lower the rate, or set precision: "
                "float32, and run again: the last checkpoint is good"
            )
        return False


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
        if isinstance(values, dict):
            return values
    except ValueError:
        pass
    raise ChatPainterError(f"{path}: not JSON; remove the run's folder to begin again")
