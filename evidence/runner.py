"""Run an experiment's trainings, each a process of its own, several at a time; finished ones are kept."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import click

from evidence import worker
from evidence.preparation import write_params
from evidence.profile import Job, Profile, located
from store.errors import ChatPainterError


def run(
    work: Path, plan: Profile, queue: list[Job], here: Path, jobs: int, device: str, deadline: float | None
) -> list[str]:
    """Run what is not finished, `jobs` at a time, and start nothing after `deadline` (of `time.monotonic`).

    Args:
        here: the folder of params.yaml, by which its paths go.

    Returns:
        Names of the jobs that failed.

    Raises:
        ChatPainterError: a job's folder holds a training with other numbers.
    """
    waiting = [job for job in queue if not finished(work, job)]
    for job in waiting:
        _write(work, plan, job, here)
    running: dict[str, tuple[subprocess.Popen[bytes], float]] = {}
    failed = []
    try:
        while waiting or running:
            late = deadline is not None and time.monotonic() > deadline
            while waiting and len(running) < jobs and not late:
                job = waiting.pop(0)
                running[job.name] = (_start(work, job, device), time.monotonic())
                click.echo(f"{job.name}: started")
            if late and not running:
                click.echo(f"out of time; not run: {', '.join(job.name for job in waiting)}")
                break
            time.sleep(0.5)
            for name, (process, since) in list(running.items()):
                if process.poll() is not None:
                    del running[name]
                    minutes = (time.monotonic() - since) / 60
                    click.echo(f"{name}: {'done' if process.returncode == 0 else 'FAILED'} after {minutes:.1f} min")
                    if process.returncode:
                        failed.append(name)
    finally:
        # They save and leave; the work folder is not anybody else's before they have.
        for process, _ in running.values():
            process.terminate()
        for process, _ in running.values():
            process.wait()
    return failed


def finished(work: Path, job: Job) -> bool:
    """Whether this very training, with all its evaluations, lies in the work folder."""
    path = work / "trainings" / job.name / worker.DONE
    return path.exists() and json.loads(path.read_text(encoding="utf-8"))["key"] == job.key


def _write(work: Path, plan: Profile, job: Job, here: Path) -> None:
    folder = work / "trainings" / job.name
    about = folder / "job.json"
    if about.exists() and json.loads(about.read_text(encoding="utf-8"))["key"] != job.key:
        raise ChatPainterError(f"{folder}: was run with other numbers; delete it, or name another --work")
    folder.mkdir(parents=True, exist_ok=True)
    write_params(folder / "params.yaml", located(plan, job.params, here, work))
    values = {
        "key": job.key,
        "points": job.points,
        "system": job.system,
        "pictures_each": job.pictures_each,
        "evaluate_between": plan.evaluate_between,
    }
    about.write_text(json.dumps(values) + "\n", encoding="utf-8")


def _start(work: Path, job: Job, device: str) -> "subprocess.Popen[bytes]":
    with open(work / "trainings" / job.name / "output.txt", "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", worker.__name__, f"trainings/{job.name}", device],
            cwd=work,
            env={"OMP_NUM_THREADS": "1", **os.environ},  # trainings side by side take a thread each
            stdout=output,
            stderr=subprocess.STDOUT,
        )
