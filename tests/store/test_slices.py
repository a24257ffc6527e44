"""Short time slices for all threads of this process, and the kernel's again."""

import os
import platform
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from store import slices
from store.slices import OWN, SHORTEST, attributes_of, give_slices
from tests.support.processes import wait_for


def kernel() -> tuple[int, ...]:
    return tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2] if part.isdigit())


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in slices._CALLS or kernel() < (6, 12),
    reason="a kernel that knows slices",
)
def test_every_thread_has_the_slice_and_keeps_all_else() -> None:
    end = threading.Event()
    other = threading.Thread(target=end.wait)
    other.start()
    threads = [threading.get_native_id(), other.native_id or 0]

    def found() -> list[tuple[int, int, int]]:
        every = [attributes_of(thread) for thread in threads]
        return [(one.policy, one.nice, one.runtime) for one in every if one is not None]

    nice = os.getpriority(os.PRIO_PROCESS, 0)
    before = found()
    assert [one[:2] for one in before] == [(os.SCHED_OTHER, nice)] * 2
    assert all(one[2] > SHORTEST for one in before)
    give_slices(SHORTEST)
    assert found() == [(os.SCHED_OTHER, nice, SHORTEST)] * 2
    give_slices(OWN)
    assert found() == before
    end.set()
    other.join()


def test_a_thread_that_has_ended_is_passed_over() -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    # Python joins a thread a moment before the kernel lets go of it.
    wait_for(lambda: not Path(f"/proc/self/task/{thread.native_id}").exists())
    assert attributes_of(thread.native_id or 0) is None


@pytest.mark.parametrize(("system", "machine"), [("darwin", "arm64"), ("linux", "riscv64")])
def test_other_machines_have_no_such_call(system: str, machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "sys", SimpleNamespace(platform=system))
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(slices, "_call", lambda *_: pytest.fail("called"))
    give_slices(SHORTEST)
