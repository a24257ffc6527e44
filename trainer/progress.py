"""What a run says about itself: `log.jsonl` is the truth; status line, TensorBoard, DVCLive and curves.csv repeat it.

One record a tick. A run that starts again at N images drops the records beyond N, so the log of a run that was
killed reads like the log of one that was not.
"""

import contextlib
import csv
import json
import math
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from store.errors import ChatPainterError
from store.files import replacing
from trainer import distributed

GIB = 2**30


class Statistics:
    """Means over a tick, summed on the device: reporting never makes the host wait, collecting does so once.

    The idea is StyleGAN's training_stats; the count is known on the host, so only sum and sum of squares travel.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self._device = torch.device(device)
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: dict[str, int] = {}
        self._spread: set[str] = set()

    def report(self, values: Mapping[str, torch.Tensor | float]) -> None:
        """Add one step's values; a tensor of any shape counts with all its elements."""
        for name, value in values.items():
            if name not in self._sums:
                self._sums[name] = torch.zeros(2, dtype=torch.float64, device=self._device)
                self._counts[name] = 0
            if isinstance(value, torch.Tensor):
                flat = value.detach().reshape(-1).to(torch.float32)
                self._sums[name] += torch.stack((flat.sum(), flat.square().sum()))
                self._counts[name] += flat.numel()
                if flat.numel() > 1:
                    self._spread.add(name)
            else:
                # A Python number becomes part of the kernel call: no copy from the host.
                self._sums[name][0] += value
                self._counts[name] += 1

    def collect(self) -> dict[str, float]:
        """Means over everything reported by all processes since the last call, and `name.std` where there is a spread.

        Every process must call it at the same point, with the same names reported.
        """
        names = sorted(self._sums)
        if not names:
            return {}
        counts = torch.tensor([self._counts[name] for name in names], dtype=torch.float64, device=self._device)
        sums = torch.stack([self._sums[name] for name in names])
        table = distributed.sum_over_ranks(torch.cat((counts[:, None], sums), dim=1)).tolist()
        result: dict[str, float] = {}
        for name, (count, total, squares) in zip(names, table, strict=True):
            mean = total / count
            result[name] = mean
            if name in self._spread:
                variance = squares / count - mean * mean
                result[name + ".std"] = math.sqrt(max(variance, 0.0)) if math.isfinite(variance) else math.nan
        self._sums, self._counts, self._spread = {}, {}, set()
        return result


class Sink(Protocol):
    """Something that shows figures beside the log."""

    def write(self, record: Mapping[str, float], images_seen: int) -> None: ...

    def picture(self, name: str, path: Path, images_seen: int) -> None: ...

    def close(self) -> None: ...


class Progress:
    """The log of one run, and everything that repeats it. Every process makes one; only rank 0 writes and prints.

    report(values)            as often as one likes, no host synchronisation
    tick(images_seen, …)      a record: means since the last tick, speed, waiting, memory, time left

    Args:
        folder: the run's folder; `log.jsonl` and `curves.csv` are written there.
        total_images, images_per_epoch: for the time left and the epoch.
        images_seen: where the run starts; records beyond it are dropped from an earlier log.
        sinks: names out of "tensorboard", "dvclive"; one whose package is missing is left out with a warning.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        total_images: int,
        images_per_epoch: int,
        images_seen: int = 0,
        device: str | torch.device = "cpu",
        main: bool = True,
        sinks: tuple[str, ...] = (),
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.statistics = Statistics(device)
        self._total, self._epoch, self._device, self._main = total_images, images_per_epoch, torch.device(device), main
        self._say = say or (lambda line: print(line, flush=True))
        self._seen = images_seen
        self._seconds = 0.0
        self._sinks: list[Sink] = []
        if main:
            kept = start_log(self.folder, images_seen)
            self._seconds = float(kept[-1].get("seconds", 0.0)) if kept else 0.0
            self._log = open(self.folder / "log.jsonl", "a", encoding="utf-8")  # noqa: SIM115
            self._sinks = [sink for name in sinks if (sink := _sink(name, self.folder, images_seen, self._say))]
        self._began = time.perf_counter()

    def report(self, values: Mapping[str, torch.Tensor | float]) -> None:
        """See `Statistics.report`."""
        self.statistics.report(values)

    def tick(self, images_seen: int, waited: float = 0.0, **figures: float) -> dict[str, float]:
        """Close the tick: collect, log, print. `waited`: seconds spent waiting for data; `figures`: e.g. lr_g, lr_d.

        Every process must call it at the same point. Returns the record.
        """
        means = self.statistics.collect()
        now = time.perf_counter()
        lasted, images = now - self._began, images_seen - self._seen
        self._began, self._seen = now, images_seen
        self._seconds += lasted
        record: dict[str, float] = {
            "images": images_seen,
            "kimg": images_seen / 1000,
            "epoch": images_seen / self._epoch,
            "seconds": self._seconds,
            "sec_per_kimg": lasted / images * 1000 if images else math.nan,
            "img_per_s": images / lasted if lasted else math.nan,
            "data_wait": waited / lasted if lasted else 0.0,
            "cpu_gib": peak_memory() / GIB,
            **figures,
            **means,
        }
        if self._device.type == "cuda":
            record["gpu_gib"] = torch.cuda.max_memory_allocated(self._device) / GIB
            record["gpu_reserved_gib"] = torch.cuda.max_memory_reserved(self._device) / GIB
            torch.cuda.reset_peak_memory_stats(self._device)
        left = (self._total - images_seen) * lasted / images if images else math.nan
        if self._main:
            self._log.write(json.dumps(_plain(record)) + "\n")
            self._log.flush()
            self._say(status_line(record, left))
            for sink in self._sinks:
                sink.write(record, images_seen)
        return record

    def picture(self, name: str, path: str | Path) -> None:
        """Show a picture (a grid) in the sinks that can."""
        for sink in self._sinks:
            sink.picture(name, Path(path), self._seen)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time inside (saving, painting grids) out of the next tick's speed."""
        began = time.perf_counter()
        yield
        self._began += time.perf_counter() - began

    def close(self) -> None:
        """Write curves.csv from the log and close the sinks."""
        if self._main:
            self._log.close()
            write_curves(self.folder)
            for sink in self._sinks:
                sink.close()


def read_log(folder: str | Path) -> list[dict[str, Any]]:
    """The records of a run, oldest first; a last line cut off by a kill is passed over."""
    records = []
    with contextlib.suppress(FileNotFoundError), open(Path(folder) / "log.jsonl", encoding="utf-8") as file:
        for line in file:
            with contextlib.suppress(ValueError):
                records.append(json.loads(line))
    return records


def start_log(folder: str | Path, images_seen: int) -> list[dict[str, Any]]:
    """Make the log end at `images_seen`; records beyond it belong to a part of the run that was lost. Returns the rest.

    Raises:
        ChatPainterError: the folder cannot be written.
    """
    folder = Path(folder)
    try:
        kept = [record for record in read_log(folder) if record.get("images", 0) <= images_seen]
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "log.jsonl") as temporary:
            temporary.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
    except OSError as error:
        raise ChatPainterError(f"{folder}: cannot be written ({error.strerror}); name another folder") from None
    return kept


def write_curves(folder: str | Path) -> Path:
    """`curves.csv` from `log.jsonl`: one column a figure, for `dvc plots` and spreadsheets."""
    records = read_log(folder)
    names = list(dict.fromkeys(name for record in records for name in record))
    path = Path(folder) / "curves.csv"
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows({name: "" if value is None else value for name, value in record.items()} for record in records)
    return path


def status_line(record: Mapping[str, float], left: float = math.nan) -> str:
    """One tick for people: where we are, how fast, is the feed keeping up, is the game in balance, how long still."""

    def number(name: str, digits: int = 3) -> str:
        value = record.get(name)
        return "-" if value is None else f"{value:.{digits}g}"

    parts = [
        f"kimg {record['kimg']:.1f}",
        f"epoch {record['epoch']:.1f}",
        f"s/kimg {record['sec_per_kimg']:.2f}",
        f"img/s {record['img_per_s']:.0f}",
        f"wait {100 * record['data_wait']:.1f}%",
        f"mem {record.get('gpu_gib', record['cpu_gib']):.1f}G",
        f"D {number('d_real')}/{number('d_wrong')}/{number('d_fake')}",
        f"G {number('g_loss')}",
        f"KL {number('kl')}",
        f"mu {number('mu_spread')}",
        f"lr {number('lr_g')}/{number('lr_d')}",
        f"nonfinite {record.get('nonfinite', 0):.0f}",
    ]
    if math.isfinite(left):
        parts.append(f"left {duration(left)}")
    return "  ".join(parts)


def peak_memory() -> int:
    """The most memory that this process has had so far, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def duration(seconds: float) -> str:
    """59s, 3m 07s, 2h 05m, 3d 04h."""
    whole = max(0, round(seconds))
    for size, unit, small, below in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // small:02d}{below}"
    return f"{whole}s"


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


def _sink(name: str, folder: Path, images_seen: int, say: Callable[[str], None]) -> Sink | None:
    kinds: dict[str, Callable[[Path, int], Sink]] = {"tensorboard": _TensorBoard, "dvclive": _DvcLive}
    if name not in kinds:
        raise ChatPainterError(f"log {name!r}: expected one of {', '.join(kinds)}")
    try:
        return kinds[name](folder, images_seen)
    except ImportError as error:
        say(f"no {name} log: {error.name} is not installed (log.jsonl holds everything)")
        return None


def _plain(record: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN: null stands for it."""
    return {name: value if math.isfinite(value) else None for name, value in record.items()}
