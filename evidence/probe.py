"""Where the text gets lost, and what is learned by heart: questions to the finished trainings of an experiment.

python -m evidence.probe linear evidence/codraw-cpu.yaml
python -m evidence.probe generalisation evidence/codraw-cpu.yaml
"""

from pathlib import Path

import click

from evidence import profile as profiles
from evidence import runner
from evidence.options import profile_argument, work_folder, work_option
from evidence.profile import Job, Profile
from store.errors import ChatPainterError
from store.options import CONTEXT, device_option, params_option, version_option


@click.group(context_settings=CONTEXT)
@version_option
def main() -> None:
    """Ask the finished trainings of an experiment where the text gets lost, and how much is by heart."""


@main.command()
@profile_argument
@params_option
@work_option
def linear(profile: Path, params_file: Path, work: Path | None) -> None:
    """Print the presence F1 of a linear probe at every step from texts to condition, for CoDraw's sprites."""
    from evidence import linear_probe

    plan, values = profiles.load(profile, params_file)
    for name, score in linear_probe.scores(work_folder(work, profile), values, _finished(plan, values, profile, work)):
        click.echo(f"{name:40} {score:.3f}")


@main.command("generalisation")
@profile_argument
@params_option
@work_option
@device_option
@click.option("--pictures", type=click.IntRange(min=8), default=1000, show_default=True, help="Of each split's images.")
def generalisation_gap(profile: Path, params_file: Path, work: Path | None, device: str, pictures: int) -> None:
    """Print the score of pictures painted from training texts and from held-out ones, and the gap between them."""
    from evidence import generalisation, tables

    plan, values = profiles.load(profile, params_file)
    jobs = _finished(plan, values, profile, work)
    found: generalisation.Scores = {}
    for job, seen, unseen in generalisation.scores(work_folder(work, profile), plan.score, jobs, pictures, device):
        found.setdefault(job.arm, {})[job.seed] = seen, unseen
        click.echo(f"{job.name}: {seen:.3f} of training texts, {unseen:.3f} of held-out ones")
    click.echo("\n" + tables.markdown(generalisation.table(found)))
    if compared := generalisation.comparisons(plan, found):
        click.echo("\nThe gaps compared:\n\n" + tables.markdown(tables.tests(compared)))


def _finished(plan: Profile, values: profiles.Overrides, profile: Path, work: Path | None) -> list[Job]:
    folder = work_folder(work, profile)
    jobs = [job for job in profiles.jobs(plan, values) if job.change is None and runner.finished(folder, job)]
    if not jobs:
        raise ChatPainterError(f"{folder}: no training of {profile} is finished; run python -m evidence {profile}")
    return jobs


if __name__ == "__main__":
    main()
