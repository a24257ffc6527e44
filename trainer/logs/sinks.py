"""TensorBoard and DVCLive beside the log."""

import json
import math
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from store.errors import ChatPainterError
from store.files import replacing


class Sink(Protocol):
    """Something that shows figures beside the log; it raises OSError where its files cannot be written."""

    def write(self, record: Mapping[str, float], images_seen: int) -> None: ...

    def picture(self, name: str, path: Path, images_seen: int) -> None: ...

    def close(self) -> None: ...


class _TensorBoard:
    def __init__(self, folder: Path, images_seen: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._hook = threading.excepthook
        threading.excepthook = self._thread_failed
        # purge_step hides what an earlier, lost part of the run wrote beyond this point.
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=images_seen + 1 if images_seen else None)

    def write(self, record: Mapping[str, float], images_seen: int) -> None:
        for name, value in record.items():
            self._writer.add_scalar(name, value, images_seen)
        self._writer.flush()

    def picture(self, name: str, path: Path, images_seen: int) -> None:
        import numpy as np
        from PIL import Image

        with Image.open(path) as picture:
            self._writer.add_image(name, np.asarray(picture.convert("RGB")), images_seen, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        try:
            self._writer.flush()
            self._writer.close()
        finally:
            threading.excepthook = self._hook

    def _thread_failed(self, about: threading.ExceptHookArgs) -> None:
        # The thread of tensorboard that writes hands an OSError on, and `flush` raises it: no need to print it too.
        if not (isinstance(about.exc_value, OSError) and type(about.thread).__module__.startswith("tensorboard.")):
            self._hook(about)


class _DvcLive:
    def __init__(self, folder: Path, images_seen: int) -> None:
        from dvclive import Live

        for path in (folder / "dvclive").rglob("*.tsv"):
            _shorten(path, images_seen)
        _remove_cut_off(folder / "dvclive/metrics.json")
        # The run's own dvc.yaml stage is the experiment: no second dvc.yaml, no commit, no report page from here.
        self._live = Live(
            str(folder / "dvclive"), resume=images_seen > 0, save_dvc_exp=False, dvcyaml=None, report=None
        )

    def write(self, record: Mapping[str, float], images_seen: int) -> None:
        self._live.step = images_seen
        for name, value in record.items():
            if math.isfinite(value):
                self._live.log_metric(name, value)
        self._live.make_summary()

    def picture(self, name: str, path: Path, images_seen: int) -> None:
        self._live.log_image(f"{name}.png", str(path))

    def close(self) -> None:
        self._live.end()


def _shorten(curve: Path, images_seen: int) -> None:
    """Drop what lies beyond, and what a full disk or a kill cut off: dvclive writes in place, and reads it again."""
    lines = [line for line in curve.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    if not lines:
        curve.unlink()
        return
    step = lines[0].rstrip().split("\t").index("step")
    kept = [line for line in lines[1:] if int(line.split("\t")[step]) <= images_seen]
    with replacing(curve) as temporary:
        temporary.write_text(lines[0] + "".join(kept), encoding="utf-8")


def _remove_cut_off(summary: Path) -> None:
    if summary.is_file():
        try:
            json.loads(summary.read_text(encoding="utf-8"))
        except ValueError:
            summary.unlink()


def open_sink(name: str, folder: Path, images_seen: int, say: Callable[[str], None]) -> Sink | None:
    kinds: dict[str, Callable[[Path, int], Sink]] = {"tensorboard": _TensorBoard, "dvclive": _DvcLive}
    if name not in kinds:
        raise ChatPainterError(f"log {name!r}: expected one of {', '.join(kinds)}")
    try:
        return kinds[name](folder, images_seen)
    except ImportError as error:
        say(f"no {name} log: {error.name} is not installed (log.jsonl holds everything)")
        return None
