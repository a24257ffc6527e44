"""`chatpainter-prepare import-stackgan`: options and messages only."""

from pathlib import Path

import click

from store.errors import ChatPainterError


@click.command("import-stackgan")
@click.option("--split", required=True, help="Name of the split, such as train.")
@click.option("--embeddings", type=click.Path(path_type=Path), help="char-CNN-RNN-embeddings.pickle")
@click.option("--filenames", type=click.Path(path_type=Path), help="filenames.pickle, from the same folder.")
@click.option("--captions-t7", type=click.Path(path_type=Path), help="val_captions.t7, instead of the two pickles.")
@click.option("--dtype", type=click.Choice(["float16", "float32"]), default="float16", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("data/embeddings"), show_default=True,
              help="Folder of the stores: OUT/SPLIT/captions.")  # fmt: skip
def import_stackgan(
    split: str, embeddings: Path | None, filenames: Path | None, captions_t7: Path | None, dtype: str, out: Path
) -> None:
    """Make a captions store from the vectors that StackGAN published for COCO; no encoder weights are needed."""
    from pipeline.imports import stackgan

    target = out / split / "captions"
    if captions_t7 and not (embeddings or filenames):
        manifest = stackgan.import_captions_t7(captions_t7, target, split, dtype)
    elif embeddings and filenames and not captions_t7:
        manifest = stackgan.import_pickles(embeddings, filenames, target, split, dtype)
    else:
        raise ChatPainterError("give --embeddings and --filenames together, or --captions-t7 alone")
    coco = manifest.made_from["encoder"]["image_ids"] == "COCO"
    numbered = "" if coco else "; no COCO ids in the file: image_id is the position in it"
    click.echo(f"{target}: {manifest.rows:,} vectors{numbered}")
