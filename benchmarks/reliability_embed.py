"""chatpainter-embed killed at random moments: the command, a worker, the scheduler. What survives, what is lost?

    python -m benchmarks.reliability_embed --kills 8

A run over eight shards is killed with SIGKILL, said again where it did not go on by itself, and compared byte for byte
with a run that nobody disturbed. A shard that was finished before the kill and is encoded again counts as lost.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import psutil

from benchmarks.reliability import EMBED, PATIENCE, environment, write_results
from store import machine
from tests.support.corpora import corpus_rows, write_corpus
from tests.support.folders import content

SHARDS = 8
DELAY = 0.4  # seconds a shard


class Trial:
    """A folder with a corpus, in which the command runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        folder.mkdir()
        (folder / "params.yaml").write_text("embed: {shard_mib: 1, workers: 2}\n")
        write_corpus(folder / "data/corpus/t.parquet", corpus_rows(120))

    def environment(self) -> dict[str, str]:
        return {**environment(), "HASH_LOG": str(self.log), "HASH_DELAY": str(DELAY)}

    def start(self, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", *EMBED, "--out", "out", *options], cwd=self.folder, env=self.environment(),
            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def calls(self) -> list[dict[str, Any]]:
        """Of the encoder, so far."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [call for call in map(json.loads, lines) if not call["what"].startswith("load")]

    def finished(self) -> int:
        return len(list(self.folder.glob("out/*/*/*.h5")))


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.01)


def at_a_random_moment(trial: Trial, process: subprocess.Popen[str], chance: random.Random) -> None:
    """Let a run go on until so many shards were begun, and then a part of a shard's time."""
    begun, pause = chance.randrange(SHARDS), chance.random()
    wait_for(lambda: len(trial.calls()) >= begun or process.poll() is not None)
    time.sleep(pause * DELAY)


def kill_command(trial: Trial, chance: random.Random) -> int | None:
    """The exit status of a run that went on; None where there was none, the command being dead."""
    options = chance.choice((["--scheduler", "sync"], ["--workers", "2"]))
    process = trial.start(*options)
    at_a_random_moment(trial, process, chance)
    workers = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.kill()
    process.communicate()
    psutil.wait_procs(workers, timeout=PATIENCE)
    return None


def kill_worker(trial: Trial, chance: random.Random) -> int | None:
    process = trial.start("--workers", "2")
    wait_for(lambda: len(trial.calls()) >= 1 or process.poll() is not None)
    at_a_random_moment(trial, process, chance)
    pids = {call["pid"] for call in trial.calls()} - {process.pid}
    if pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(sorted(pids)), signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    return process.returncode


def kill_scheduler(trial: Trial, chance: random.Random) -> int | None:
    with cluster(trial) as (file, scheduler):
        process = trial.start("--scheduler", str(file), "--wait", "15")
        at_a_random_moment(trial, process, chance)
        os.killpg(scheduler.pid, signal.SIGKILL)
        _, said = process.communicate(timeout=PATIENCE)
        if process.returncode and len(said.splitlines()) != 1:
            raise RuntimeError(f"not one line: {said}")
        return process.returncode


@contextlib.contextmanager
def cluster(trial: Trial) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A scheduler and two workers, as people start them."""
    file = trial.folder / "scheduler.json"
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{command[0]}", *command[1:]], cwd=trial.folder,
            env=trial.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process

    try:
        scheduler = start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file",
                          str(file))  # fmt: skip
        wait_for(lambda: file.exists() and file.read_text())
        for _ in range(2):
            start("worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1")
        yield file, scheduler
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


KILLS = {"command": kill_command, "worker": kill_worker, "scheduler": kill_scheduler}


@click.command()
@click.option("--kills", default=8, show_default=True, help="Of each: the command, a worker, the scheduler.")
@click.option("--target", "targets", multiple=True, type=click.Choice(list(KILLS)), help="[default: all]")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="[default: benchmarks/results/reliability-embed.json]")
def main(kills: int, targets: tuple[str, ...], seed: int, out: Path | None) -> None:
    """Kill, say again, compare; print a table and write JSON."""
    result: dict[str, Any] = {"machine": machine.describe(), "shards": SHARDS, "kills": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reference = Trial(folder / "whole")
        if reference.start("--scheduler", "sync").wait(PATIENCE):
            raise click.ClickException("the undisturbed run failed")
        whole = content(reference.folder / "out")
        for target in targets or KILLS:
            chance = random.Random(f"{target} {seed}")
            rows = []
            for number in range(kills):
                trial = Trial(folder / f"{target}-{number}")
                status = KILLS[target](trial, chance)
                finished, before = trial.finished(), len(trial.calls())
                again = status != 0
                if again and trial.start("--scheduler", "sync").wait(PATIENCE):
                    raise click.ClickException(f"{target} {number}: the second run failed")
                anew = len(trial.calls()) - before if again else 0
                row = {
                    "finished_when_killed": finished if again else None,
                    "went_on_by_itself": not again,
                    "lost": max(0, anew + finished - SHARDS) if again else 0,
                    "same_bytes": content(trial.folder / "out") == whole,
                }
                rows.append(row)
                click.echo(f"{target:>9} {number + 1:>2}/{kills}: {row}", err=True)
            result["kills"][target] = rows
    click.echo(
        f"{'killed':>9} {'tried':>5} {'went on':>8} {'said again':>10} {'same bytes':>10} {'finished shards lost':>20}"
    )
    for target, rows in result["kills"].items():
        on = sum(row["went_on_by_itself"] for row in rows)
        same, lost = sum(row["same_bytes"] for row in rows), sum(row["lost"] for row in rows)
        click.echo(f"{target:>9} {len(rows):>5} {on:>8} {len(rows) - on:>10} {same:>10} {lost:>20}")
    write_results(result, "embed", out)


if __name__ == "__main__":
    main()
