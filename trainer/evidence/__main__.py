"""python -m trainer.evidence PROFILE: run an experiment's arms, seeds and ablations, and write what they show.

Finished trainings are kept: the same command again runs what is left. Data are made in the work folder by the same
commands that `dvc repro` calls; every training is a process of its own, `--jobs` at a time.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import yaml

from store.errors import ChatPainterError
from store.files import replacing
from trainer.evidence import profile as profiles
from trainer.evidence.worker import DONE


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("profile", type=click.Path(path_type=Path))
@click.option(
    "--params",
    "base",
    type=click.Path(path_type=Path),
    default=Path("params.yaml"),
    show_default=True,
    help="The numbers that the profile overrides.",
)
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    help="Folder for data and trainings.  [default: runs/evidence/NAME OF THE PROFILE]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("docs/evidence"),
    show_default=True,
    help="Folder for the results: NAME.json, .csv, .md and pictures.",
)
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Trainings at a time.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--only", multiple=True, metavar="NAME", help="Only jobs whose name begins so; repeatable.")
@click.option(
    "--until",
    type=float,
    metavar="MINUTES",
    help="Start no further training after so many minutes; report what is finished.",
)
@click.option("--report", "report_only", is_flag=True, help="Run nothing; write the results of what is finished.")
@click.option("--dry-run", is_flag=True, help="List the jobs and leave.")
def main(
    profile: Path,
    base: Path,
    work: Path | None,
    out: Path,
    jobs: int,
    device: str,
    only: tuple[str, ...],
    until: float | None,
    report_only: bool,
    dry_run: bool,
) -> None:
    """Does dialogue help? Run PROFILE (a YAML file) and write tables, tests and curves."""
    began = time.monotonic()
    plan, values = profiles.load(profile, base)
    work = (work or Path("runs/evidence") / profile.stem).absolute()
    queue = [job for job in profiles.jobs(plan, values) if not only or job.name.startswith(only)]
    if dry_run:
        for job in queue:
            click.echo(f"{job.name}: {', '.join(f'{point:,}' for point in job.points)} pictures")
        return
    if not report_only:
        _prepare(work, plan, values)
        _make_classifier(work, values, device)
        deadline = None if until is None else began + 60 * until
        failed = _run(work, plan, queue, jobs, device, deadline)
        if failed:
            click.echo(f"failed: {', '.join(failed)}; the last lines of output.txt in {work}/trainings/NAME say why")
    from trainer.evidence import report

    finished = [job for job in profiles.jobs(plan, values) if _finished(work, job)]
    if not finished:
        raise ChatPainterError(f"{work}: no training is finished, so there is nothing to report")
    for path in report.write(out, profile.stem, plan, work, finished):
        click.echo(str(path))


def _prepare(work: Path, plan: profiles.Profile, values: dict[str, Any]) -> None:
    """Make the data, once for the same commands and numbers."""
    work.mkdir(parents=True, exist_ok=True)
    # The trainings' own sections do not change the data.
    relevant = {name: value for name, value in values.items() if name not in ("model", "stage1", "stage2", "evaluate")}
    key = hashlib.sha256(json.dumps([plan.prepare, relevant], sort_keys=True).encode()).hexdigest()
    done = work / "prepared.json"
    if done.exists() and json.loads(done.read_text())["key"] == key:
        return
    _write_params(work / "params.yaml", values)
    for module, *arguments in plan.prepare:
        arguments = [_expand(argument, plan) for argument in arguments]
        click.echo(f"{module} {' '.join(arguments)}")
        command = [sys.executable, "-c", f"from {module} import main; main()", *arguments]
        if subprocess.run(command, cwd=work, env=_environment()).returncode:
            raise ChatPainterError(f"{module} {' '.join(arguments)}: failed in {work}; see above")
    with replacing(done) as temporary:
        temporary.write_text(json.dumps({"key": key}) + "\n")


def _expand(argument: str, plan: profiles.Profile) -> str:
    expanded = os.path.expandvars(argument)
    if "$" in expanded:
        raise ChatPainterError(f"{plan.title}: set {expanded} in the environment (docs/metrics.md says to what)")
    return expanded


def _make_classifier(work: Path, values: dict[str, Any], device: str) -> None:
    """Train the world's classifier before the jobs, which all judge by it."""
    command = "import sys; from trainer.evaluate import make_classifier; make_classifier(*sys.argv[1:])"
    _write_params(work / "params.yaml", values)
    arguments = [sys.executable, "-c", command, "params.yaml", device]
    if subprocess.run(arguments, cwd=work, env=_environment()).returncode:
        raise ChatPainterError(f"{work}: the classifier could not be trained; see above")


def _run(
    work: Path, plan: profiles.Profile, queue: list[profiles.Job], jobs: int, device: str, deadline: float | None
) -> list[str]:
    """Run what is not finished, `jobs` at a time; names of those that failed."""
    waiting = []
    for job in queue:
        folder = work / "trainings" / job.name
        about = {"key": job.key, "points": job.points, "evaluate_between": plan.evaluate_between}
        if (folder / "job.json").exists() and json.loads((folder / "job.json").read_text())["key"] != job.key:
            raise ChatPainterError(f"{folder}: was run with other numbers; delete it, or name another --work")
        if not _finished(work, job):
            folder.mkdir(parents=True, exist_ok=True)
            _write_params(folder / "params.yaml", job.params)
            (folder / "job.json").write_text(json.dumps(about) + "\n")
            waiting.append(job)
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
        for process, _ in running.values():
            process.terminate()
    return failed


def _start(work: Path, job: profiles.Job, device: str) -> "subprocess.Popen[bytes]":
    folder = work / "trainings" / job.name
    with open(folder / "output.txt", "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "trainer.evidence.worker", f"trainings/{job.name}", device],
            cwd=work,
            env=_environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def _finished(work: Path, job: profiles.Job) -> bool:
    path = work / "trainings" / job.name / DONE
    return path.exists() and json.loads(path.read_text())["key"] == job.key


def _environment() -> dict[str, str]:
    """The work folder is not the project's: packages that are not installed are found beside this one."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}


def _write_params(path: Path, values: dict[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    main()
