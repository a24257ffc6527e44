"""What this process may use of the machine: its affinity, its container's limits and its job's, not the whole."""

import contextlib
import math
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

_CGROUP, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def cores() -> int:
    """Cores that this process may use, at least 1: its affinity, and quotas of the control groups that it is in."""
    process = psutil.Process()
    # macOS knows no affinity.
    found = len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else os.cpu_count() or 1
    quotas = (_quota(folder) for folder in _groups("cpu"))
    return max(1, min([found, *(math.ceil(quota / period) for quota, period in quotas if min(quota, period) > 0)]))


def memory() -> int:
    """Bytes of memory that there are for this process: the machine's, its container's or its job's."""
    limits = (_number(folder, "memory.max", "memory.limit_in_bytes") for folder in _groups("memory"))
    return min([int(psutil.virtual_memory().total), *(limit for limit in limits if limit > 0)])


def available_memory() -> int:
    """Bytes that could be had without swapping, the page cache among them."""
    found = int(psutil.virtual_memory().available)
    for folder in _groups("memory"):
        if (limit := _number(folder, "memory.max", "memory.limit_in_bytes")) > 0:
            used = _number(folder, "memory.current", "memory.usage_in_bytes") - _page_cache(folder)
            found = min(found, limit - max(0, used))
    return max(0, found)


def describe() -> dict[str, Any]:
    """What figures were taken on, for benchmarks' JSON; `torch` and `gpu` only where torch is loaded already."""
    about: dict[str, Any] = {
        "processor": processor(),
        "cores": cores(),
        "memory_gb": round(memory() / 1e9, 1),
        "load_average": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
    }
    if numpy := sys.modules.get("numpy"):
        about["numpy"] = numpy.__version__
    if torch := sys.modules.get("torch"):
        about["torch"] = torch.__version__
        about["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return about


def processor() -> str:
    """The processor's name as its maker gives it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _groups(controller: str) -> Iterator[Path]:
    """Folders of the control groups that this process is in, its own first: of version 2, then of version 1."""
    own = {}
    with contextlib.suppress(OSError, ValueError):
        for _, names, path in (line.split(":", 2) for line in _OWN.read_text().splitlines()):
            own.update(dict.fromkeys(names.split(","), path))
    for root, name in ((_CGROUP, ""), (_CGROUP / controller, controller)):
        # In a container the path may be the host's: of what is not there nothing is read.
        inner = Path(own.get(name, "/").lstrip("/"))
        yield from (root / each for each in (inner, *inner.parents) if ".." not in each.parts)


def _quota(folder: Path) -> tuple[int, int]:
    """Microseconds of cores in so many microseconds; negative where there is no limit."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text().split()
        return int(quota), int(period)  # "max" where there is none
    return _number(folder, "cpu.cfs_quota_us"), _number(folder, "cpu.cfs_period_us")


def _page_cache(folder: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
    return 0


def _number(folder: Path, *names: str) -> int:
    """The number in the first of these files that there is and that holds one; -1 where none does."""
    for name in names:
        with contextlib.suppress(OSError, ValueError):
            return int((folder / name).read_text())
    return -1
