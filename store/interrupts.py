"""Signals that ask a run to stop: finish the iteration, save, leave with a status that says "run me again"."""

import os
import signal
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

PREEMPTED = 75
"""Exit status of a run that was asked to stop, has saved, and continues when the same command is run again.
It is `EX_TEMPFAIL` of sysexits.h ("try again later"), so that a scheduler can tell it from 0 (done) and 1 (failed).
torchrun passes SIGTERM and SIGINT on, but leaves with 1 itself; it passes SIGUSR1 on when it is started with
`--signals-to-handle SIGTERM,SIGINT,SIGUSR1`, and kills what has not ended `--shutdown-timeout` (30) seconds later."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Interrupts:
    """While it is entered, the first SIGTERM, SIGINT or SIGUSR1 only sets `requested`; the second one aborts.

    The second signal acts as if nobody had handled it (SIGINT raises `KeyboardInterrupt`, the others end the process).
    Signals less than `same` seconds after the first are counted as the same request: Ctrl-C under torchrun
    reaches every process once from the terminal and once more from torchrun.
    """

    def __init__(self, signals: tuple[signal.Signals, ...] = SIGNALS, same: float = 1.0) -> None:
        self.received: signal.Signals | None = None
        self._signals = signals
        self._same = same
        self._first = 0.0
        self._before: dict[signal.Signals, Callable[..., Any] | int | None] = {}

    @property
    def requested(self) -> bool:
        """Whether the run has been asked to stop."""
        return self.received is not None

    def __enter__(self) -> "Interrupts":
        self._before = {number: signal.signal(number, self._handle) for number in self._signals}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received, self._first = signal.Signals(number), time.monotonic()
        elif time.monotonic() - self._first >= self._same:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            os.kill(os.getpid(), number)
