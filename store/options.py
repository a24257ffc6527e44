"""Options that several commands share: the same name, default and words everywhere."""

from pathlib import Path

import click

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

version_option = click.version_option(package_name="chatpainter", message="%(prog)s %(version)s")
params_option = click.option(
    "--params",
    "params_file",
    type=click.Path(path_type=Path),
    default=Path("params.yaml"),
    show_default=True,
    help="The settings: every number that a run depends on.",
)
corpus_option = click.option(
    "--corpus",
    type=click.Path(path_type=Path),
    default=Path("data/corpus"),
    show_default=True,
    help="Folder of the corpora, SPLIT.parquet.",
)
embeddings_option = click.option(
    "--embeddings",
    type=click.Path(path_type=Path),
    default=Path("data/embeddings"),
    show_default=True,
    help="Folder with SPLIT/captions, SPLIT/turns or SPLIT/dialogues.",
)
images_option = click.option(
    "--images",
    type=click.Path(path_type=Path),
    default=Path("data/images"),
    show_default=True,
    help="Folder with SPLIT/76 and SPLIT/304.",
)
device_option = click.option(
    "--device", default="auto", show_default=True, metavar="NAME", help="auto, cpu, cuda or cuda:N."
)
