"""python -m evidence PROFILE: run an experiment's arms, seeds and ablations, and write what they show.

Finished trainings are kept: the same command again runs what is left. Data are made in the work folder by the same
commands that `dvc repro` calls; every training is a process of its own, `--jobs` at a time.
"""

import os
import time
from pathlib import Path

import click

from evidence import preparation, runner
from evidence import profile as profiles
from store.errors import ChatPainterError


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
        preparation.prepare(work, plan, values)
        preparation.make_classifier(work, values, device)
        deadline = None if until is None else began + 60 * until
        failed = runner.run(work, plan, queue, jobs, device, deadline)
        if failed:
            click.echo(f"failed: {', '.join(failed)}; the last lines of output.txt in {work}/trainings/NAME say why")
    from evidence import report

    finished = [job for job in profiles.jobs(plan, values) if runner.finished(work, job)]
    if not finished:
        raise ChatPainterError(f"{work}: no training is finished, so there is nothing to report")
    for path in report.write(out, profile.stem, plan, work, finished):
        click.echo(str(path))


if __name__ == "__main__":
    # Before torch is loaded: trainings side by side take a thread each, and so does the classifier.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
