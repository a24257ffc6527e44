"""How long the kernel lets a thread compute before it is another's turn; how much each gets in all stays fair.

A thread with a short slice has its turn sooner when it wakes, as threads that wait for each other need it beside a busy
process. Linux 6.12 and later (EEVDF); earlier ones take no notice, other systems have no such call.
"""

import ctypes
import os
import platform
import sys
from pathlib import Path

SHORTEST = 100_000  # nanoseconds: the kernel gives none below
OWN = 0  # the slice that the kernel gives everybody
_CALLS = {"x86_64": (315, 314), "aarch64": (275, 274)}  # sched_getattr and sched_setattr, which Python lacks
_TASKS = Path("/proc/self/task")


class _Attributes(ctypes.Structure):
    """struct sched_attr, as of Linux 5.3."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
        ("util_min", ctypes.c_uint32),
        ("util_max", ctypes.c_uint32),
    )


def give_slices(nanoseconds: int) -> None:
    """To all threads of this process that have none of another kind; `OWN` gives them the kernel's again."""
    if sys.platform != "linux" or platform.machine() not in _CALLS:
        return
    for task in _TASKS.iterdir():
        attributes = attributes_of(int(task.name))
        if attributes is not None and attributes.policy == os.SCHED_OTHER:
            attributes.runtime = nanoseconds
            _call(1, int(task.name), ctypes.byref(attributes), 0)


def attributes_of(thread: int) -> _Attributes | None:
    """The kernel's record of a thread, by its number; None of one that has ended, or where it must not be asked."""
    attributes = _Attributes()
    size = ctypes.sizeof(attributes)
    return attributes if _call(0, thread, ctypes.byref(attributes), size, 0) == 0 else None


def _call(which: int, thread: int, *rest: object) -> int:
    """0, or -1 where the kernel refuses: what cannot be had is done without."""
    number = _CALLS[platform.machine()][which]
    return int(ctypes.CDLL(None).syscall(ctypes.c_long(number), ctypes.c_long(thread), *rest))
