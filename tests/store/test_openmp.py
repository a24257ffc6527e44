"""libgomp's threads spin briefly while an idle team is held, and compute what they did."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from store import openmp
from store.company import DECIDED
from store.openmp import Team

ROOT = Path(__file__).parents[2]
TWO_CORES = pytest.mark.skipif(
    sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="threads wait for each other on two cores"
)
COMPUTES = """
import json, os, sys, threading, time
from pathlib import Path

import torch

from store import company, openmp


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
    undecided = {name: value for name, value in os.environ.items() if name not in DECIDED}
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
(team,) = openmp.teams()
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
    monkeypatch.setattr(openmp, "_require_threads", lambda count: None)
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
    monkeypatch.setattr(openmp, "MAPS", maps)
    assert openmp.teams() == []
    maps.unlink()
    assert openmp.teams() == []


def test_threads_are_tried_before_libgomp_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would end the process."""
    start, here = threading.Thread.start, threading.active_count()

    def third_fails(thread: threading.Thread) -> None:
        if threading.active_count() >= here + 2:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", third_fails)
    openmp._require_threads(2)
    with pytest.raises(RuntimeError):
        openmp._require_threads(3)
    assert threading.active_count() == here
