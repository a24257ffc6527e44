"""TensorBoard and DVCLive beside the log."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from store.errors import ChatPainterError


class Sink(Protocol):
    """Something that shows figures beside the log."""

    def write(self, record: Mapping[str, float], images_seen: int) -> None: ...

    def picture(self, name: str, path: Path, images_seen: int) -> None: ...

    def close(self) -> None: ...


class _TensorBoard:
    def __init__(self, folder: Path, images_seen: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

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

    def close(self) -> None:
        self._writer.close()


class _DvcLive:
    def __init__(self, folder: Path, images_seen: int) -> None:
        from dvclive import Live

        for path in (folder / "dvclive").rglob("*.tsv"):
            head, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if int(line.split("\t")[head.split("\t").index("step")]) <= images_seen]
            path.write_text(head + "".join(kept), encoding="utf-8")
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


def open_sink(name: str, folder: Path, images_seen: int, say: Callable[[str], None]) -> Sink | None:
    kinds: dict[str, Callable[[Path, int], Sink]] = {"tensorboard": _TensorBoard, "dvclive": _DvcLive}
    if name not in kinds:
        raise ChatPainterError(f"log {name!r}: expected one of {', '.join(kinds)}")
    try:
        return kinds[name](folder, images_seen)
    except ImportError as error:
        say(f"no {name} log: {error.name} is not installed (log.jsonl holds everything)")
        return None
