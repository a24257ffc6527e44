"""The log of one run, and everything that repeats it."""

import contextlib
import math
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch

from trainer.logs.log import LogFile
from trainer.logs.sinks import Sink, open_sink
from trainer.logs.statistics import Statistics
from trainer.logs.status import Shown, status_line

GIB = 2**30


class Progress:
    """The log of one run, and everything that repeats it. Every process makes one; only rank 0 writes and prints.

    report(values)            as often as one likes, no host synchronisation
    tick(images_seen, …)      a record: means since the last tick, speed, waiting, memory, time left

    Args:
        folder: the run's folder; `log.jsonl` and `curves.csv` are written there.
        total_images, images_per_epoch: for the time left and the epoch.
        images_seen: where the run starts; records beyond it are dropped from an earlier log.
        shown: what the status line shows of the system.
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
        shown: Shown = (),
        sinks: tuple[str, ...] = (),
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.statistics = Statistics(device)
        self._total, self._epoch, self._device, self._main = total_images, images_per_epoch, torch.device(device), main
        self._shown = shown
        self._say = say or (lambda line: print(line, flush=True))
        self._seen = images_seen
        self._seconds = 0.0
        self._sinks: list[Sink] = []
        if main:
            self._log = LogFile(self.folder, images_seen)
            self._seconds = float(self._log.kept[-1].get("seconds", 0.0)) if self._log.kept else 0.0
            self._sinks = [sink for name in sinks if (sink := open_sink(name, self.folder, images_seen, self._say))]
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
            self._log.write(record)
            self._say(status_line(record, self._shown, left))
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
            for sink in self._sinks:
                sink.close()


def peak_memory() -> int:
    """The most memory that this process has had so far, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
