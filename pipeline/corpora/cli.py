"""`chatpainter-prepare imagefolder`. Options and messages only."""

from pathlib import Path

import click


@click.command()
@click.option("--source", required=True, type=click.Path(path_type=Path),
              help="Folder of pictures, and metadata.csv, metadata.jsonl, or a text beside each.")  # fmt: skip
@click.option("--raw", default="data/raw/imagefolder", show_default=True, type=click.Path(path_type=Path),
              help="Folder to write.")  # fmt: skip
@click.option("--val-share", type=click.FloatRange(0, 1, min_open=True, max_open=True), metavar="SHARE",
              help="Hold out this share as `val`.  [splits as stated, or as the folders are called]")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="With --val-share: which ones.")
def imagefolder(source: Path, raw: Path, val_share: float | None, seed: int) -> None:
    """Lay out pictures of your own, with captions and dialogues, as COCO and VisDial are."""
    from tqdm import tqdm

    from pipeline.corpora import imagefolder as corpora

    with tqdm(unit=" pictures", disable=None, desc="pictures") as bar:
        made = corpora.make(source, raw, val_share, seed, bar.reset, bar.update)
    for split, (pictures, captions, dialogues, rounds) in made.splits.items():
        click.echo(
            f"{raw}: {split}: {pictures:,} pictures, {captions:,} captions, {dialogues:,} dialogues, {rounds:,} rounds"
        )
    if made.unread:
        click.echo(f"  not read: {', '.join(map(repr, made.unread))}")
