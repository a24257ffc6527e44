"""`chatpainter-prepare weights-status` and `weights-fetch`: options and messages only."""

from pathlib import Path

import click

ORIGINAL = "http://www.cs.toronto.edu/~rkiros/models/ (the authors' host; gone since 2024)"
MIRROR = "http://mirror.nubenum.de/www.cs.toronto.edu/~rkiros/models/ (a mirror, not the authors')"
REED = (
    "github.com/reedscot/icml2016 and /cvpr2016, READMEs: Google Drive; COCO's encoder is id "
    "0B0ywwgffWnLLeVNmVVV6OHBDUFE (old Drive ids may ask for approval)"
)

_folder = click.option(
    "--folder", type=click.Path(path_type=Path), default=Path("data/weights"), show_default=True, help="Where they lie."
)


@click.command("weights-status")
@_folder
@click.option("--untrained", type=click.Path(path_type=Path), default=Path("data/untrained"), show_default=True)
@click.option("--trained", type=click.Path(path_type=Path), default=Path("data/trained"), show_default=True)
@click.option("--quick", is_flag=True, help="Sizes only: hashing five gigabytes takes some seconds.")
def weights_status(folder: Path, untrained: Path, trained: Path, quick: bool) -> None:
    """Say which encoder weights are here, which are missing, and what each file should be."""
    from pipeline.weights import status

    click.echo(f"Skip-Thought, for dialogues, in {folder}")
    lines = status.skip_thought(folder, quick)
    for line in lines:
        click.echo(f"  {line}")
    click.echo(f"  published at {ORIGINAL}\n  {MIRROR}\n  hashes as published by github.com/Maluuba/nlg-eval")
    click.echo(f"char-CNN-RNN, for captions, in {folder}")
    for line in status.char_cnn_rnn(folder):
        click.echo(f"  {line}")
    click.echo(f"  published at {REED}; no sizes or hashes were published")
    click.echo("Sources side by side (encoders.weights in params.yaml names a folder)")
    for line in status.sources(folder, trained, untrained):
        click.echo(f"  {line}")
    click.echo(status.conclusion(folder, untrained))


@click.command("weights-fetch")
@click.option("--url", required=True, help="Where the file is.")
@click.option("--name", help="Name to give it. [the URL's last part]")
@click.option("--sha256", help="What its hash must be. [the published one, if the name is a published file's]")
@_folder
def weights_fetch(url: str, name: str | None, sha256: str | None, folder: Path) -> None:
    """Fetch a weight file; the same command again continues where it broke off."""
    from tqdm import tqdm

    from pipeline.weights import fetch, published

    with tqdm(unit="B", unit_scale=True, disable=None) as bar:

        def progress(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        path = fetch.fetch(url, folder, name, sha256, progress)
    checked = sha256 or path.name in published.SKIP_THOUGHT
    click.echo(f"{path}: {path.stat().st_size:,} bytes, " + ("hash right" if checked else "no published hash to check"))
