"""Commands of `chatpainter-prepare` that lay a data set out as COCO and VisDial are. Options and messages only."""

from pathlib import Path
from typing import Any

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


@click.command()
@click.option("--source", required=True, type=click.Path(path_type=Path),
              help="CoDraw's folder: CoDraw_1_0.json (or codraw_dialogs.jsonl.gz) and Pngs/.")  # fmt: skip
@click.option("--raw", default="data/raw/codraw", show_default=True, type=click.Path(path_type=Path), help="Folder.")
@click.option("--limit", type=click.IntRange(1), help="At most so many scenes a split, to try it out. [all]")
@click.option("--canvases", is_flag=True, help="Pictures are the drawer's, one after every turn; rounds are the turns.")
@click.option("--join", type=click.Choice(["added", "none"]), default="added", show_default=True,
              help="With --canvases: turns that add no object join the next.")  # fmt: skip
@click.option("--chitchat", type=click.Choice(["keep", "drop"]), default="drop", show_default=True,
              help="With --canvases: greetings and agreement.")  # fmt: skip
@click.option("--drawer/--no-drawer", default=True, show_default=True,
              help="With --canvases: the drawer's replies are the answers.")  # fmt: skip
@click.option("--tokens/--no-tokens", default=False, show_default=True,
              help="With --canvases: <teller> and <drawer> before what each says.")  # fmt: skip
def codraw(source: Path, raw: Path, limit: int | None, canvases: bool, **conventions: Any) -> None:
    """Render CoDraw's scenes and lay them out, with their dialogues, as COCO and VisDial are."""
    from tqdm import tqdm

    from pipeline.corpora import codraw as corpora
    from pipeline.corpora.codraw_canvases import Conventions

    with tqdm(unit=" scenes", disable=None, desc="CoDraw") as bar:
        made = corpora.make(source, raw, limit, Conventions(**conventions) if canvases else None, bar.reset, bar.update)
    click.echo(f"{raw}: " + ", ".join(f"{scenes:,} {split}" for split, scenes in made.items()) + " scenes")


_SOURCE = click.option(
    "--source", required=True, type=click.Path(path_type=Path), help="Folder that the archives were unpacked in."
)


@click.command()
@_SOURCE
@click.option("--raw", default="data/raw/cub", show_default=True, type=click.Path(path_type=Path), help="Folder.")
@click.option("--crop/--no-crop", default=True, show_default=True, help="Keep StackGAN's square around the bird.")
def cub(source: Path, raw: Path, crop: bool) -> None:
    """Lay out CUB-200-2011, birds with ten captions each, as COCO is; every picture's class stands beside."""
    from tqdm import tqdm

    from pipeline.corpora import cub as corpora

    with tqdm(unit=" pictures", disable=None, desc="CUB") as bar:
        made = corpora.make(source, raw, crop, bar.reset, bar.update)
    click.echo(f"{raw}: " + ", ".join(f"{pictures:,} {split}" for split, pictures in made.items()) + " pictures")


@click.command()
@_SOURCE
@click.option("--raw", default="data/raw/oxford", show_default=True, type=click.Path(path_type=Path), help="Folder.")
def oxford(source: Path, raw: Path) -> None:
    """Lay out Oxford's 102 flowers with ten captions each as COCO is; every picture's class stands beside."""
    from tqdm import tqdm

    from pipeline.corpora import oxford as corpora

    with tqdm(unit=" pictures", disable=None, desc="flowers") as bar:
        made = corpora.make(source, raw, bar.reset, bar.update)
    click.echo(f"{raw}: " + ", ".join(f"{pictures:,} {split}" for split, pictures in made.items()) + " pictures")


@click.command()
@click.option("--source", required=True, type=click.Path(path_type=Path),
              help="SCONE's JSON edition: a folder with scene/, alchemy/ and tangrams/.")  # fmt: skip
@click.option("--domain", required=True, type=click.Choice(["scene", "alchemy", "tangrams"]))
@click.option("--start", type=click.Choice(["words", "shown"]), default="shown", show_default=True,
              help="How the first state becomes known: a fact a round, or as the first picture.")  # fmt: skip
@click.option("--raw", type=click.Path(path_type=Path), help="Folder. [data/raw/scone-DOMAIN]")
@click.option("--image-size", type=click.IntRange(38, 2048), default=128, show_default=True, help="Side in pixels.")
@click.option("--limit", type=click.IntRange(1), help="At most so many dialogues a split, to try it out. [all]")
@click.option("--hold-out", type=click.IntRange(0), default=0, show_default=True,
              help="So many of the training dialogues, the last ones, are a split of their own, test.")  # fmt: skip
def scone(
    source: Path, domain: str, start: Any, raw: Path | None, image_size: int, limit: int | None, hold_out: int
) -> None:
    """Draw SCONE's states and lay them out, with people's instructions, as COCO and VisDial are."""
    from tqdm import tqdm

    from pipeline.corpora import scone as corpora

    raw = raw or Path(f"data/raw/scone-{domain}")
    with tqdm(unit=" dialogues", disable=None, desc=f"SCONE {domain}") as bar:
        made = corpora.make(source, raw, domain, start, image_size, limit, hold_out, bar.reset, bar.update)
    click.echo(f"{raw}: " + ", ".join(f"{count:,} {split}" for split, (count, _) in made.items()) + " dialogues")
    floors = ", ".join(f"{share:.3f} {split}" for split, (_, share) in made.items())
    click.echo(f"  of the last state's slots, right in a copy of the first: {floors}")


@click.command()
@click.option("--source", required=True, type=click.Path(path_type=Path),
              help="Hexagons' folder: train.jsonl and dev.jsonl.")  # fmt: skip
@click.option("--raw", default="data/raw/hexagons", show_default=True, type=click.Path(path_type=Path), help="Folder.")
@click.option("--image-size", type=click.IntRange(64, 2048), default=128, show_default=True, help="Side in pixels.")
@click.option("--limit", type=click.IntRange(1), help="At most so many procedures a split, to try it out. [all]")
def hexagons(source: Path, raw: Path, image_size: int, limit: int | None) -> None:
    """Draw Hexagons' boards and lay them out, with people's instructions, as COCO and VisDial are."""
    from tqdm import tqdm

    from pipeline.corpora import hexagons as corpora

    with tqdm(unit=" procedures", disable=None, desc="Hexagons") as bar:
        made = corpora.make(source, raw, image_size, limit, bar.reset, bar.update)
    click.echo(f"{raw}: " + ", ".join(f"{count:,} {split}" for split, count in made.items()) + " procedures")
