"""Company on the same cores: threads that wait let go of their core while other processes want it.

torch on a CPU shares an operation among OpenMP threads, and GNU's libgomp lets those that are done spin until the last
one is. Alone that is fastest. Where another process wants the core that the last one needs, they spin its time away,
at every operation. libgomp spins a three-thousandth as long once its process manages more threads than there are cores
(`gomp_managed_threads > gomp_available_cpus` in its config/linux/wait.h), counted over all teams of the process. So a
second team that does nothing switches from one to the other while the process computes, and back when it ends. The
team that computes keeps its threads, and sums keep their order: figures are the same to the bit.
"""

import contextlib
import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

DECIDED = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")  # whoever sets one has decided how threads wait
LOOK = 0.5  # seconds from one look at the machine to the next
COMES, GOES = 0.3, 0.15  # cores of ours that others take: company from the one up, none any more below the other
MAPS = Path("/proc/self/maps")


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


class Team:
    """Idle threads of a libgomp, just enough that all of its threads are more than the cores.

    Attributes:
        free: cores that the threads which share an operation leave.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._end = threading.Event()
        computing = int(library.omp_get_max_threads())
        self.free = int(library.omp_get_num_procs()) - computing
        self.useful = computing > 1 and self.free >= 0  # one thread waits for nobody; too many spin briefly anyway

    def hold(self) -> None:
        """Start them.

        Raises:
            RuntimeError: so many threads cannot be started.
        """
        size = self.free + 2  # one of them is the thread that asks, and is not counted
        _require_threads(size)
        held = threading.Event()
        self._holder = threading.Thread(target=self._hold, args=(size, held), name="idle team", daemon=True)
        self._holder.start()
        held.wait()

    def release(self) -> None:
        """End them."""
        self._end.set()
        self._holder.join()

    def _hold(self, size: int, held: threading.Event) -> None:
        # All call a function without effect. libgomp keeps a team until the thread that asked for it ends.
        without_effect = self._library.omp_get_thread_num
        self._library.GOMP_parallel(without_effect, None, ctypes.c_uint(size), ctypes.c_uint(0))
        held.set()
        self._end.wait()


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


def teams() -> list[Team]:
    """One for each libgomp in this process that would be of use; scikit-learn, for one, brings its own."""
    with contextlib.suppress(OSError):
        lines = MAPS.read_text(encoding="utf-8", errors="replace").splitlines()
        files = sorted({line.split(maxsplit=5)[5] for line in lines if "/libgomp" in line})
        return [team for file in files for team in _team(file) if team.useful]
    return []


def _team(file: str) -> Iterator[Team]:
    with contextlib.suppress(OSError, AttributeError):  # gone from the disk, or a plugin without these functions
        yield Team(ctypes.CDLL(file))


def _release(held: list[Team]) -> None:
    while held:
        held.pop().release()


def _spins() -> bool:
    """Whether threads of ours wait in ways that could be changed."""
    known = sys.platform == "linux" and not any(name in os.environ for name in DECIDED)
    return known and os.environ.get("OMP_NUM_THREADS") != "1" and len(os.sched_getaffinity(0)) > 1


def _require_threads(count: int) -> None:
    """libgomp ends the process where a thread cannot be started; Python raises RuntimeError."""
    end = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(count):
            started.append(threading.Thread(target=end.wait, daemon=True))
            started[-1].start()
    finally:
        end.set()
        for thread in started:
            if thread.ident is not None:
                thread.join()
