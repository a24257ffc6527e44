"""python -m evidence.films PROFILE: a held-out dialogue turn by turn, true and as finished trainings paint it."""

from pathlib import Path

import click
import numpy as np

from evidence import profile as profiles
from evidence import runner
from evidence.options import profile_argument, work_folder, work_option
from evidence.profile import Job
from store.errors import ChatPainterError
from store.options import CONTEXT, params_option


@click.command(context_settings=CONTEXT)
@profile_argument
@params_option
@work_option
@click.option("--image-id", type=int, help="Which dialogue of the split that is evaluated.  [default: its first]")
@click.option("--arm", "arms", multiple=True, help="Only this arm; repeatable.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The picture (PNG).")
def main(
    profile: Path, params_file: Path, work: Path | None, image_id: int | None, arms: tuple[str, ...], out: Path
) -> None:
    """Show what every arm's first finished training paints after every turn, the true pictures above."""
    plan, values = profiles.load(profile, params_file)
    folder, chosen = work_folder(work, profile), dict[str, Job]()
    for job in profiles.jobs(plan, values):
        if job.change is None and (not arms or job.arm in arms) and runner.finished(folder, job):
            chosen.setdefault(job.arm, job)
    if not chosen:
        raise ChatPainterError(f"{folder}: no such training is finished; run python -m evidence {profile} first")
    strip(folder, chosen, image_id, out)
    click.echo(str(out))


def strip(work: Path, jobs: dict[str, Job], image_id: int | None, out: Path) -> None:
    """Write the PNG `out`: a column before the first turn and one after each, a row for the truth and each arm.

    Arms that read a dialogue as one vector are left out: it cannot end after a turn.

    Raises:
        ChatPainterError: the split has no pictures of its turns, or no such image; or no arm reads turns.
    """
    from evidence import trained

    rows: list[np.ndarray] = []
    names: list[str] = []
    words: list[list[str]] = []
    for arm, job in jobs.items():
        one = trained.Trained(work, job)
        if not one.reads_turns:
            continue
        held_out = one.texts(one.settings.split)
        at = np.flatnonzero(held_out.image_ids == (held_out.image_ids[0] if image_id is None else image_id))
        if not len(at):
            raise ChatPainterError(f"{work}: no image {image_id} in split {one.settings.split}")
        if not rows:
            rows.append(trained.true_film(work, one.settings.split, int(held_out.image_ids[at[0]]), one.side))
            caption, rounds = held_out.words(at)[0]
            words = [[caption], *([said] for said in rounds)]
        rows.append(np.concatenate([one.paint(held_out, at, rounds=number) for number in range(len(words))]))
        names.append(arm)
    if not rows:
        raise ChatPainterError(f"{', '.join(jobs)}: read no turns, after which a picture could be painted")
    trained.write_grid(rows, out, below=words, left=["true", *names])


if __name__ == "__main__":
    main()
