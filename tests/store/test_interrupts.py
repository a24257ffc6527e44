"""Signals: the first one asks, a second one aborts, and both really arrive from outside."""

import os
import signal
import subprocess
import sys
import time

import pytest

from store.interrupts import PREEMPTED, Interrupts

CHILD = """
import sys, time
from store.interrupts import PREEMPTED, Interrupts
with Interrupts(same=float(sys.argv[1])) as interrupts:
    print("ready", flush=True)
    until = time.monotonic() + 600
    while time.monotonic() < until and (not interrupts.requested or "stubborn" in sys.argv):
        if interrupts.requested:
            print("asked", interrupts.received.name, flush=True)
        time.sleep(0.05)
sys.exit(PREEMPTED if interrupts.requested else 0)
"""


def child(*arguments: str, same: float = 0.3) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", CHILD, str(same), *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_one_signal_ends_the_run_at_a_safe_point_with_its_own_status(number):
    process = child()
    process.send_signal(number)
    assert process.wait(300) == PREEMPTED == 75


@pytest.mark.parametrize(
    ("second", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGUSR1, -signal.SIGUSR1), (signal.SIGINT, None)]
)
def test_a_second_signal_aborts(second, status):
    process = child("stubborn")
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "asked SIGTERM\n"
    time.sleep(0.4)  # longer than `same`
    process.send_signal(second)
    found = process.wait(300)
    # Python turns an unhandled KeyboardInterrupt into death by SIGINT.
    assert found == (status if status is not None else -signal.SIGINT)


def test_signals_in_quick_succession_are_one_request():
    process = child("stubborn", same=600)
    assert process.stdout is not None
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
        process.send_signal(number)
        assert process.stdout.readline() == "asked SIGINT\n"
    # It goes on, whatever came after the first.
    assert [process.stdout.readline() for _ in range(5)] == ["asked SIGINT\n"] * 5
    process.kill()
    process.communicate()


def test_afterwards_signals_are_handled_as_before():
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    try:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert interrupts.requested
            assert interrupts.received is signal.SIGUSR1
        os.kill(os.getpid(), signal.SIGUSR1)
        assert seen == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)
