"""python -m evidence PROFILE: run an experiment's arms, seeds and ablations, and write what they show.

Finished trainings are kept: the same command again runs what is left. Data are made in the work folder by the same
commands that `dvc repro` calls; every training is a process of its own, `--jobs` at a time.
"""

import os
import signal
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import click

from evidence import preparation, runner, worker
from evidence import profile as profiles
from evidence.options import profile_argument, work_folder, work_option
from store.errors import ChatPainterError
from store.lock import FolderLock
from store.options import CONTEXT, device_option, params_option, path_option, version_option

REPORT_NEEDS = ("jinja2", "matplotlib", "scipy")


@click.command(context_settings=CONTEXT)
@profile_argument
@params_option
@work_option
@path_option("out", "docs/evidence", "Folder for the results: NAME.json, .csv, .md and pictures.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Trainings at a time.")
@device_option
@click.option("--only", multiple=True, metavar="NAME", help="Only jobs whose name begins so; repeatable.")
@click.option(
    "--until",
    type=float,
    metavar="MINUTES",
    help="Start no further training after so many minutes; report what is finished.",
)
@click.option("--report", "report_only", is_flag=True, help="Run nothing; write the results of what is finished.")
@click.option("--dry-run", is_flag=True, help="List the jobs and leave.")
@version_option
def main(
    profile: Path,
    params_file: Path,
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
    plan, values = profiles.load(profile, params_file)
    queue = profiles.jobs(plan, values)
    chosen = [job for job in queue if not only or job.name.startswith(only)]
    if not chosen:
        raise ChatPainterError(f"--only {' --only '.join(only)}: no job's name begins so; --dry-run lists them")
    for job in queue:  # a wrong number is named before an hour of training, and so is what the report lacks
        worker.configured(job.params, job.system, plan.evaluate_between, f"{profile}: {job.name}")
    if dry_run:
        for job in chosen:
            click.echo(f"{job.name}: {', '.join(f'{point:,}' for point in job.points)} pictures")
        return
    for package in REPORT_NEEDS:
        if find_spec(package) is None:
            raise ChatPainterError(f"{package} is not installed, which the report needs: pip install -e '.[evidence]'")
    folder, failed = work_folder(work, profile), []
    if not report_only:
        with FolderLock(folder):
            here = params_file.resolve().parent
            preparation.prepare(folder, plan, values, here)
            preparation.make_classifiers(folder, plan, values, device)
            deadline = None if until is None else began + 60 * until
            failed = runner.run(folder, plan, chosen, here, jobs, device, deadline)

    from evidence import report, results

    finished = [job for job in queue if runner.finished(folder, job)]
    if finished:
        for path in report.write(out, profile.stem, results.read(plan, folder, finished)):
            click.echo(str(path))
    if failed:
        raise ChatPainterError(f"failed: {', '.join(failed)}; the end of {folder}/trainings/NAME/output.txt says why")
    if not finished:
        raise ChatPainterError(f"{folder}: no training is finished, so there is nothing to report")


if __name__ == "__main__":
    # Before torch is loaded: trainings side by side take a thread each, and so does the classifier.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # and end the trainings, as Ctrl-C does
    main()
