"""Options that several commands share: the same name, default and words everywhere."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def path_option(name: str, default: str, help: str, parameter: str | None = None) -> Callable[[F], F]:
    """--NAME, a file or folder with a default that is shown; `parameter`: what the function calls it instead."""
    return click.option(
        f"--{name}",
        parameter or name,
        type=click.Path(path_type=Path),
        default=Path(default),
        show_default=True,
        help=help,
    )


version_option = click.version_option(package_name="chatpainter", message="%(prog)s %(version)s")
params_option = path_option("params", "params.yaml", "The settings: every number that a run depends on.", "params_file")
corpus_option = path_option("corpus", "data/corpus", "Folder of the corpora, SPLIT.parquet.")
embeddings_option = path_option(
    "embeddings", "data/embeddings", "Folder with SPLIT/captions, SPLIT/turns or SPLIT/dialogues."
)
images_option = path_option("images", "data/images", "Folder with SPLIT/76 and SPLIT/304.")
device_option = click.option(
    "--device", default="auto", show_default=True, metavar="NAME", help="auto, cpu, cuda or cuda:N."
)
