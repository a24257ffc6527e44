"""python -m evidence.picture_features: what a world's classifier makes of every picture of a split, as Parquet.

`chatpainter-encoders train char-cnn-rnn` trains captions against it, as the original did against GoogLeNet's features.
"""

from pathlib import Path

import click

from store.errors import ChatPainterError
from store.files import in_words, replacing
from store.options import CONTEXT, images_option, version_option


@click.command(context_settings=CONTEXT)
@click.argument("classifier", type=click.Path(path_type=Path))
@click.argument("truth", type=click.Path(path_type=Path))
@click.option("--split", required=True, help="Which split's pictures.")
@images_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The Parquet file.")
@version_option
def main(classifier: Path, truth: Path, split: str, images: Path, out: Path) -> None:
    """Write what CLASSIFIER (classifier.safetensors) of the world of TRUTH (truth_SPLIT.json) makes of its pictures."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from store.reader import Store
    from trainer.evaluation import classifier as classifiers
    from trainer.evaluation.split import middle
    from trainer.evaluation.truth import Truth

    found = classifiers.kept(classifier, Truth.load(truth), key=None)
    if found is None:
        raise ChatPainterError(f"{classifier}: no such file; chatpainter-evaluate makes it (runs/evaluate)")
    network, _ = found
    store = Store(images / split / "76")
    parts = np.array_split(np.arange(len(store)), max(1, len(store) // 256))
    features = np.concatenate([network.predict(middle(store.take(rows), classifiers.SIDE))[0] for rows in parts])
    table = pa.table({"image_id": store.column("image_id"), "features": pa.array(list(features))})
    with in_words(out), replacing(out) as temporary:
        pq.write_table(table, temporary)
    click.echo(f"{out}: {features.shape[1]} values of each of {len(features):,} pictures")


if __name__ == "__main__":
    main()
