"""GNU's OpenMP, libgomp, by whose threads torch computes on a CPU: how long they spin, changed while they compute.

Threads that are done with their share of an operation spin until the last one is, for milliseconds. libgomp lets them
spin a three-thousandth as long once its process manages more threads than there are cores, counted over all teams
(`gomp_managed_threads > gomp_available_cpus` in its config/linux/wait.h; a team is a thread that asks and those that it
started). So a team that does nothing switches from one to the other, and back when it ends. The team that computes
keeps its threads, and sums keep their order.
"""

import contextlib
import ctypes
import threading
from collections.abc import Iterator
from pathlib import Path

MAPS = Path("/proc/self/maps")


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
