"""Threads that wait give their cores away while others want them, and nothing else changes."""

import contextlib
import json
import os
import subprocess
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
from store.company import Load, Team, considerate, watch
from trainer import loop
from trainer.evaluation import evaluate as evaluation

ROOT = Path(__file__).parents[2]
TWO_CORES = pytest.mark.skipif(
    sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="threads wait for each other on two cores"
)
COMPUTES = """
import json, os, sys, threading, time
from pathlib import Path

import torch

from store import company


def processor_seconds() -> float:
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path("/proc/self/task").iterdir()) / 1e9


def spun() -> float:
    rows, before = torch.ones(1 << 18), processor_seconds()
    for _ in range(10):
        rows.add_(1)
        time.sleep(0.01)
    return processor_seconds() - before


def trained() -> str:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3), torch.nn.BatchNorm2d(16), torch.nn.ReLU(), torch.nn.Conv2d(16, 8, 3),
        torch.nn.Flatten(), torch.nn.Linear(8 * 28 * 28, 32),
    )
    optimiser = torch.optim.Adam(network.parameters())
    pictures = torch.randn(32, 3, 32, 32)
    for _ in range(3):
        optimiser.zero_grad()
        network(pictures).square().mean().backward()
        optimiser.step()
    return b"".join(values.numpy().tobytes() for values in network.state_dict().values()).hex()
"""


def computed(then: str, **settings: str) -> Any:
    """What another process of two threads gives: `then` prints JSON."""
    undecided = {name: value for name, value in os.environ.items() if name not in company.DECIDED}
    done = subprocess.run(
        [sys.executable, "-c", COMPUTES + then], env=undecided | {"OMP_NUM_THREADS": "2"} | settings, cwd=ROOT,
        timeout=500, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@TWO_CORES
def test_threads_stop_spinning_while_an_idle_team_is_held() -> None:
    """Processor time, not the clock's: a thread that waits takes milliseconds an operation, or next to nothing."""
    found = computed("""
spun()
figures, here = [spun()], threading.active_count()
(team,) = company.teams()
team.hold()
figures.append(spun())
team.release()
figures.append(spun())
print(json.dumps({"spun": figures, "left": threading.active_count() - here, "threads": torch.get_num_threads()}))
""")
    alone, held, afterwards = found["spun"]
    assert held < alone / 3
    assert held < afterwards / 3
    assert found["left"] == 0
    assert found["threads"] == 2


@TWO_CORES
def test_weights_are_the_same_to_the_bit() -> None:
    """With company that comes and goes at every look, a few milliseconds apart."""
    quiet, disturbed, looks = computed(
        """
looks = 0


def others() -> float:
    global looks
    looks += 1
    return float(looks % 2)


quiet = trained()
company.LOOK = 0.002
leave = threading.Event()
watcher = threading.Thread(target=company.watch, args=(leave, others))
watcher.start()
disturbed = trained()
leave.set()
watcher.join()
print(json.dumps([quiet, disturbed, looks]))
""",
        GOMP_SPINCOUNT="1000",
    )  # or the test itself takes minutes on a busy machine
    assert looks > 2
    assert disturbed == quiet


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
    monkeypatch.setattr(company.time, "monotonic", lambda: process.now)
    load = Load()
    assert load.others() == 0.5
    assert load.others() == 0.0


@pytest.mark.parametrize(
    ("computing", "processors", "size"),
    [(2, 2, 2), (2, 8, 8), (64, 128, 66), (1, 2, None), (3, 2, None)],
)
def test_a_team_is_as_large_as_it_takes(
    computing: int, processors: int, size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    library: Any = SimpleNamespace(
        omp_get_max_threads=lambda: computing,
        omp_get_num_procs=lambda: processors,
        omp_get_thread_num=None,
        GOMP_parallel=lambda function, data, count, flags: started.append(count.value),
    )
    monkeypatch.setattr(company, "_require_threads", lambda count: None)
    team = Team(library)
    assert team.useful == (size is not None)
    if size is not None:
        team.hold()
        team.release()
        assert started == [size]
        assert computing + size - 1 == processors + 1  # what libgomp counts, against what it compares with


def test_libraries_without_use_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "libgomp.so.1").write_text("no library")
    maps = tmp_path / "maps"
    lines = [f"7f00-7f01 r-xp 00000000 08:01 123    {path}" for path in (tmp_path / "libgomp.so.1", "/gone/libgomp.so")]
    maps.write_text("\n".join([*lines, "7f02-7f03 rw-p 00000000 00:00 0 "]))
    monkeypatch.setattr(company, "MAPS", maps)
    assert company.teams() == []
    maps.unlink()
    assert company.teams() == []


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


def fail(*_: Any) -> None:
    raise RuntimeError("can't start new thread")


def test_where_no_thread_can_be_started_it_is_done_without(undecided: pytest.MonkeyPatch) -> None:
    undecided.setattr(threading.Thread, "start", fail)
    with considerate():
        assert not watched()


def test_threads_are_tried_before_libgomp_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would end the process."""
    start, here = threading.Thread.start, threading.active_count()

    def third_fails(thread: threading.Thread) -> None:
        if threading.active_count() >= here + 2:
            fail()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", third_fails)
    company._require_threads(2)
    with pytest.raises(RuntimeError):
        company._require_threads(3)
    assert threading.active_count() == here


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
