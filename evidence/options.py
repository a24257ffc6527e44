"""What the commands of this room share."""

from pathlib import Path

import click

profile_argument = click.argument("profile", type=click.Path(path_type=Path))
work_option = click.option(
    "--work",
    type=click.Path(path_type=Path),
    help="Folder for data and trainings.  [default: runs/evidence/NAME OF THE PROFILE]",
)


def work_folder(work: Path | None, profile: Path) -> Path:
    """The folder given, or the profile's own; absolute."""
    return (work or Path("runs/evidence") / profile.stem).absolute()
