"""What this process may use of the machine: its affinity and its container's limits, not the machine's size."""

import contextlib
import math
import os
import platform
import sys
from pathlib import Path
from typing import Any

import psutil

_CGROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """Cores that this process may use, at least 1: its affinity and its container's quota."""
    process = psutil.Process()
    # macOS knows no affinity.
    found = len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else os.cpu_count() or 1
    quota, period = _quota()
    return max(1, min(found, math.ceil(quota / period))) if quota > 0 and period > 0 else found


def memory() -> int:
    """Bytes of memory that there are for this process: the machine's, or its container's."""
    limit = _number("memory.max", "memory/memory.limit_in_bytes")
    total = int(psutil.virtual_memory().total)
    return min(total, limit) if limit > 0 else total


def available_memory() -> int:
    """Bytes that could be had without swapping, the page cache among them."""
    available = int(psutil.virtual_memory().available)
    limit = _number("memory.max", "memory/memory.limit_in_bytes")
    if limit <= 0:
        return available
    used = _number("memory.current", "memory/memory.usage_in_bytes") - _page_cache()
    return max(0, min(available, limit - max(0, used)))


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


def _quota() -> tuple[int, int]:
    """Microseconds of processor time in a period, and the period; (-1, -1) where there is no limit."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        return int(quota), int(period)  # "max" where there is none
    return _number("cpu/cpu.cfs_quota_us"), _number("cpu/cpu.cfs_period_us")


def _page_cache() -> int:
    for name, entry in (("memory.stat", "inactive_file"), ("memory/memory.stat", "total_inactive_file")):
        with contextlib.suppress(OSError, ValueError):
            for line in (_CGROUP / name).read_text().splitlines():
                if line.startswith(f"{entry} "):
                    return int(line.split()[1])
    return 0


def _number(*names: str) -> int:
    """The number in the first of these files that there is and that holds one; -1 where none does."""
    for name in names:
        with contextlib.suppress(OSError, ValueError):
            return int((_CGROUP / name).read_text())
    return -1
