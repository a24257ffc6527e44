"""Company on the same cores: threads that wait let go of their core while other processes want it.

torch on a CPU shares an operation among threads that spin until the last of them is done. Alone that is fastest. Where
another process wants the core that the last one needs, they spin its time away, at every operation. While that is so
they spin briefly (store/openmp.py). Figures are the same to the bit, since as many threads share an operation as
before.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

import psutil

from store.openmp import Team, teams

DECIDED = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")  # whoever sets one has decided how threads wait
LOOK = 0.5  # seconds from one look at the machine to the next
COMES, GOES = 0.3, 0.15  # cores of ours that others take: company from the one up, none any more below the other


@contextlib.contextmanager
def considerate(device: str = "cpu") -> Iterator[None]:
    """While it is entered, this process gives way to others that want the cores it computes on.

    It may be entered before torch is loaded. Does nothing on a GPU, on one core, with one thread (`OMP_NUM_THREADS=1`),
    where `OMP_WAIT_POLICY` or `GOMP_SPINCOUNT` is set, with another OpenMP than libgomp (macOS), and where no more
    threads can be started.

    Args:
        device: where this process computes, as torch calls it.
    """
    leave = threading.Event()
    watcher = threading.Thread(target=watch, args=(leave,), name="company", daemon=True)
    if device == "cpu" and _spins():
        with contextlib.suppress(RuntimeError):  # "can't start new thread"
            watcher.start()
    try:
        yield
    finally:
        leave.set()
        if watcher.ident is not None:
            watcher.join()


def watch(leave: threading.Event, others: Callable[[], float] | None = None) -> None:
    """Until `leave` is set, hold an idle team of every libgomp while there is company; whatever fails ends it.

    Args:
        others: cores that others kept busy since the last call; as `Load` measures it unless given.
    """
    held: list[Team] = []
    try:
        with contextlib.suppress(OSError, RuntimeError, psutil.Error):
            others = others or Load().others
            while not leave.wait(LOOK):
                taken = others()
                if held and taken - held[0].free < GOES:
                    _release(held)
                elif not held and taken > COMES:
                    for team in teams():  # looked for only now: torch may not have been loaded before
                        if taken - team.free > COMES:
                            team.hold()
                            held.append(team)
    finally:
        _release(held)


class Load:
    """How busy other processes keep the cores that this one may use."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._cores = frozenset(self._process.cpu_affinity())
        self._before = self._times()

    def others(self) -> float:
        """Cores that they kept busy, on average since it was last asked."""
        before, self._before = self._before, self._times()
        everybody, own, seconds = (now - then for now, then in zip(self._before, before))
        return max(0.0, everybody - own) / max(seconds, 1e-3)

    def _times(self) -> tuple[float, float, float]:
        """Seconds of these cores, of this process, and of the clock."""
        every = enumerate(psutil.cpu_times(percpu=True))
        everybody = sum(core.user + core.nice + core.system for number, core in every if number in self._cores)
        own = self._process.cpu_times()
        return everybody, own.user + own.system, time.monotonic()


def _release(held: list[Team]) -> None:
    while held:
        held.pop().release()


def _spins() -> bool:
    """Whether threads of ours wait in ways that could be changed."""
    known = sys.platform == "linux" and not any(name in os.environ for name in DECIDED)
    return known and os.environ.get("OMP_NUM_THREADS") != "1" and len(os.sched_getaffinity(0)) > 1
