"""This process knows when it has company on its cores, and is considerate then."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import psutil
import pytest

from painter import cli as painter_cli
from pipeline.worker import Sync
from store import company
from store.company import Load, considerate, watch
from trainer import loop
from trainer.evaluation import evaluate as evaluation


class Looks(threading.Event):
    """As many looks as there are values, then it is time to leave."""

    def __init__(self, *taken: float) -> None:
        super().__init__()
        self.taken = list(taken)

    def wait(self, timeout: float | None = None) -> bool:
        return not self.taken

    def others(self) -> float:
        return self.taken.pop(0)


class Noted:
    """A team that says what became of it."""

    def __init__(self, free: int, fails: bool = False) -> None:
        self.free, self.fails, self.done = free, fails, ""

    def hold(self) -> None:
        if self.fails:
            raise RuntimeError("can't start new thread")
        self.done += "hold "

    def release(self) -> None:
        self.done += "release "


@pytest.mark.parametrize(
    ("free", "taken", "done"),
    [
        (0, (0.0, 0.29), ""),
        (0, (0.31,), "hold release "),  # leaving releases
        (0, (0.5, 0.2, 1.0, 0.16, 0.14, 0.2), "hold release "),  # between the two nothing changes
        (0, (0.5, 0.0, 0.5), "hold release hold release "),
        (6, (6.2, 1.0), ""),  # two threads on eight cores: others find room
        (6, (6.4, 6.1, 6.4), "hold release hold release "),
    ],
)
def test_a_team_is_held_while_there_is_company(
    free: int, taken: tuple[float, ...], done: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    team, looks = Noted(free), Looks(*taken)
    monkeypatch.setattr(company, "teams", lambda: [team])
    watch(looks, looks.others)
    assert team.done == done


def test_where_threads_run_out_the_watch_ends_and_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, looks = Noted(0), Noted(0, fails=True), Looks(1.0, 1.0)
    monkeypatch.setattr(company, "teams", lambda: [first, second])
    watch(looks, looks.others)
    assert (first.done, second.done, looks.taken) == ("hold release ", "", [1.0])


def test_load_is_what_others_take_of_our_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    def core(user: float, nice: float = 0.0, system: float = 0.0) -> SimpleNamespace:
        return SimpleNamespace(user=user, nice=nice, system=system, idle=9.0, iowait=9.0, irq=9.0, steal=9.0)

    moments = iter(
        [
            ([core(10.0), core(50.0), core(20.0)], (5.0, 1.0), 100.0),
            # In two seconds: 2 + 1.5 of ours, of which this process had 2.5; the core in the middle is not ours.
            ([core(10.5, 1.0, 0.5), core(52.0), core(21.5)], (7.25, 1.25), 102.0),
            # The sampled times of cores lag behind a process's own.
            ([core(10.5, 1.0, 0.5), core(52.0), core(22.0)], (8.25, 1.25), 103.0),
        ]
    )

    def next_moment(percpu: bool) -> Any:
        cores, (process.user, process.system), process.now = next(moments)
        return cores

    process: Any = SimpleNamespace(cpu_affinity=lambda: [0, 2], cpu_times=lambda: process)
    monkeypatch.setattr(psutil, "Process", lambda: process)
    monkeypatch.setattr(psutil, "cpu_times", next_moment)
    monkeypatch.setattr(company, "time", SimpleNamespace(monotonic=lambda: process.now))
    load = Load()
    assert load.others() == 0.5
    assert load.others() == 0.0


def watched() -> bool:
    return any(thread.name == "company" for thread in threading.enumerate())


@pytest.fixture
def undecided(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Two cores, on Linux, and nothing set."""
    for name in (*company.DECIDED, "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    return monkeypatch


def test_it_watches_while_it_is_entered(undecided: pytest.MonkeyPatch) -> None:
    with contextlib.suppress(KeyError), considerate():
        assert watched()
        raise KeyError
    assert not watched()


@pytest.mark.parametrize(
    "useless",
    [
        lambda patch: patch.setenv("OMP_NUM_THREADS", "1"),
        lambda patch: patch.setenv("OMP_WAIT_POLICY", "active"),
        lambda patch: patch.setenv("GOMP_SPINCOUNT", "10000"),
        lambda patch: patch.setattr(sys, "platform", "darwin"),
        lambda patch: patch.setattr(os, "sched_getaffinity", lambda process: {1}),
    ],
)
def test_it_does_nothing_where_it_is_useless(
    useless: Callable[[pytest.MonkeyPatch], None], undecided: pytest.MonkeyPatch
) -> None:
    useless(undecided)
    with considerate():
        assert not watched()


def test_it_does_nothing_on_a_gpu(undecided: pytest.MonkeyPatch) -> None:
    with considerate("cuda"):
        assert not watched()


def test_where_no_thread_can_be_started_it_is_done_without(undecided: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    undecided.setattr(threading.Thread, "start", fail)
    with considerate():
        assert not watched()


def test_training_evaluating_painting_and_encoding_are_considerate(
    undecided: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = []

    def look(*_: Any) -> Any:
        seen.append(watched())
        return {}

    undecided.setattr(loop, "_train", look)
    run: Any = SimpleNamespace(device="cpu", training=SimpleNamespace(precision="float32"))
    loop.train(run)
    undecided.setattr(evaluation, "_evaluate", look)
    paths: Any = SimpleNamespace(out=tmp_path)
    for main in (True, False):
        ranks: Any = SimpleNamespace(main=main, device=SimpleNamespace(type="cpu"))
        evaluation.evaluate(paths, evaluation.EvaluateSettings(), ranks)
    undecided.setattr("pipeline.worker.make", look)
    work: Any = [None]
    list(Sync().run(work))
    with click.Context(painter_cli.main):
        painter_cli._considerate("cpu")
        look()
    assert seen == [True] * 5
    assert not watched()
