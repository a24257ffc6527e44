"""A real cluster: dask scheduler and dask worker processes on loopback, killed, added, seeing other disks."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from distributed import Client

from tests.support.folders import content

SHARDS = 8  # 2 of captions, 5 of turns, 1 of dialogues
PATIENT = ("--wait", "300")  # a worker's imports take a minute where all cores are busy


class Dask:
    """Processes of a cluster, as people start them."""

    def __init__(self, folder: Path, *options: str):
        self.file, self.options = folder / "scheduler.json", options
        self.workers: list[subprocess.Popen[bytes]] = []
        self.scheduler = self._start(os.environ, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
                                     "--scheduler-file", str(self.file))  # fmt: skip
        deadline = time.monotonic() + 300
        while not self.file.exists() or not self.file.read_text():
            assert self.scheduler.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def worker(self, place, *wrap: str, **environ: str) -> subprocess.Popen[bytes]:
        """A worker that works for `place`; `wrap` is a command that starts the one given to it."""
        address = json.loads(self.file.read_text())["address"]
        process = self._start(place.environment(**environ), "worker", address, "--nthreads", "1", "--no-dashboard",
                              "--host", "127.0.0.1", "--local-directory", str(self.file.parent), wrap=wrap)  # fmt: skip
        self.workers.append(process)
        return process

    def wait_for_workers(self, count: int) -> None:
        with Client(json.loads(self.file.read_text())["address"], set_as_default=False) as client:
            client.wait_for_workers(count, timeout=300)

    def _start(self, environ, *command: str, wrap: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*wrap, sys.executable, "-m", "distributed.cli.dask_" + command[0], *command[1:], *self.options],
            env=environ, cwd=self.file.parent, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def dismiss(self) -> None:
        while self.workers:
            self.kill(self.workers.pop())

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """The process and its children (a worker and the nanny that would bring it back)."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(300)

    def close(self) -> None:
        self.dismiss()
        self.kill(self.scheduler)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    cluster = Dask(tmp_path_factory.mktemp("dask"))
    yield cluster
    cluster.close()


@pytest.fixture
def dask(scheduler):
    yield scheduler
    scheduler.dismiss()


class Running:
    """The command in a thread of this process."""

    def __init__(self, place, *options: str):
        self.result = None
        self.thread = threading.Thread(target=self._run, args=(place, *options))
        self.thread.start()

    def _run(self, place, *options: str) -> None:
        self.result = place.here(*options)

    def ended(self):
        return self.result

    def wait(self):
        self.thread.join(400)
        return self.result


def refused(result) -> str:
    """The one line in which the command ended."""
    lines = result.stderr.splitlines()
    assert result.exit_code == 1, result.output
    assert len(lines) == 1, result.output
    return lines[0]


def test_a_worker_is_killed_and_another_joins(place, rows, whole, dask):
    place.corpus(rows)
    first, _ = dask.worker(place, HASH_HOLD="2"), dask.worker(place, HASH_DELAY="0.4")
    dask.wait_for_workers(2)
    run = Running(place, "--scheduler", str(dask.file), *PATIENT)
    place.wait_for_calls(3, run.ended)
    dask.kill(first)
    dask.worker(place)
    done = run.wait()
    assert done.exit_code == 0, done.output
    assert content(place.path / "out") == whole
    calls = place.calls()
    assert len({call["pid"] for call in calls}) >= 2
    assert SHARDS <= sum(not call["what"].startswith("load") for call in calls) <= SHARDS + 2
    loads = [(call["pid"], call["what"]) for call in calls if call["what"].startswith("load")]
    assert len(loads) == len(set(loads)), "an encoder was loaded twice by one process"


def test_a_cluster_that_cannot_do_the_work_is_said_in_one_line(place, rows, dask):
    place.corpus(rows)
    assert "has no worker" in refused(place.here("--scheduler", str(dask.file), "--wait", "2"))
    stranger = dask.worker(place, HASH_VERSION="2")
    assert "encoder is not the command's" in refused(place.here("--scheduler", str(dask.file), *PATIENT))
    dask.kill(stranger)
    dask.worker(place, HASH_DELAY="60")
    line = refused(place.here("--scheduler", str(dask.file), *PATIENT, "--timeout", "3"))
    assert "no shard was finished for 3 s" in line
    assert not list((place.path / "out").rglob("*.tmp"))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "tls://127.0.0.1:9"])
def test_nobody_answers_and_nothing_is_left_that_waits(place, rows, address):
    """A client left half made would be closed by the garbage collector, in the middle of another one's start."""
    place.corpus(rows)
    before = set(threading.enumerate())
    line = refused(place.here("--scheduler", address, "--wait", "2"))
    assert f"{address}: no dask scheduler answers there" in line
    assert set(threading.enumerate()) <= before


def test_workers_that_see_another_disk_are_found_out(place, rows, dask):
    place.corpus(rows)
    out = place.path / "out"
    out.mkdir()
    if subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "x", str(out)], stderr=-3, check=False).returncode:
        pytest.skip("may not mount here")
    dask.worker(place, "unshare", "-m", "sh", "-c", f'mount -t tmpfs tmpfs {out} && exec "$@"', "sh")
    line = refused(place.here("--scheduler", str(dask.file), *PATIENT))
    assert "does not see the folder of the run" in line
    assert "mount the same disk at the same path on every worker" in line
    assert not any(name.endswith(".h5") for name in content(out))


def test_the_scheduler_is_killed(place, rows, whole, dask):
    place.corpus(rows)
    dask.worker(place, HASH_HOLD="4")
    dask.wait_for_workers(1)
    run = Running(place, "--scheduler", str(dask.file), "--wait", "10")
    place.wait_for_calls(4, run.ended)
    dask.kill(dask.scheduler)
    ended = run.wait()
    *lost, line = ended.stderr.splitlines()
    assert ended.exit_code == 1
    # Whether the shards' loss or the scheduler's is noticed first is up to dask.
    assert all("was not made, will be tried again" in each for each in lost), lost
    assert "the scheduler is gone" in line
    assert "run the same command again" in line
    assert sum(name.endswith(".h5") for name in content(place.path / "out")) >= 2
    done = place.here("--scheduler", "sync")
    assert done.exit_code == 0, done.output
    assert content(place.path / "out") == whole


@pytest.mark.slow
def test_a_text_that_kills_every_worker_ends_with_the_list_of_what_is_missing(place, rows, whole):
    place.corpus(rows)
    poison = rows[40]["captions"][0]["text"]
    done = place.run("--workers", "2", HASH_POISON=poison, timeout=550)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert "1 of 2 shards could not be made in 3 attempts: vectors-00000.h5 (" in line
    assert "killed the worker" in line or "all workers died" in line
    assert place.run("--scheduler", "sync").returncode == 0
    assert content(place.path / "out") == whole


@pytest.mark.slow
def test_tls_options_reach_dask(place, rows, whole, tmp_path_factory):
    pytest.importorskip("cryptography")
    from distributed.security import Security

    folder = tmp_path_factory.mktemp("tls")
    security = Security.temporary()
    names = {}
    for option, text in (
        ("ca", security.tls_ca_file), ("cert", security.tls_client_cert), ("key", security.tls_client_key)
    ):  # fmt: skip
        names[option] = str(folder / f"{option}.pem")
        Path(names[option]).write_text(text)
    flags = ["--tls-ca-file", names["ca"], "--tls-cert", names["cert"], "--tls-key", names["key"]]
    dask = Dask(folder, *flags, "--protocol", "tls")
    try:
        dask.worker(place)
        place.corpus(rows)
        address = json.loads(dask.file.read_text())["address"]
        assert address.startswith("tls://127.0.0.1:")
        refused(place.here("--scheduler", address, "--wait", "5"))
        mine = ["--tls-ca", names["ca"], "--tls-cert", names["cert"], "--tls-key", names["key"]]
        done = place.here("--scheduler", address, *PATIENT, *mine)
        assert done.exit_code == 0, done.output
        assert content(place.path / "out") == whole
    finally:
        dask.close()


@pytest.mark.slow
def test_dashboard_and_report_on_request(place, rows):
    pytest.importorskip("bokeh")
    place.corpus(rows)
    done = place.run("--workers", "2", "--dashboard", "--report", "report.html")
    assert done.returncode == 0, done.stderr
    assert "dashboard: http://127.0.0.1:" in done.stderr
    assert "<html" in (place.path / "report.html").read_text()[:2000].lower()
