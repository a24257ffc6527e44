"""python -m evidence.text_readers: what a linear reader knows of a world from the vectors of its texts, by encoder.

    python -m evidence.text_readers untrained=data/untrained trained=data/trained minilm --out readers.json
    python -m evidence.text_readers stored=data/embeddings

The reader is that of `linear_probe`: a ridge regression learns from the training scenes which facts hold, and names
them for held-out ones. A fact of CoDraw is that a sprite is there, one of the sample world that there is this colour
(shape, size) at this place, or this ground. The score is the F1 over all scenes and facts together.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from store import machine, params
from store.errors import ChatPainterError
from store.files import in_words, replacing
from store.options import CONTEXT, corpus_option, params_option, version_option

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.texts import Kind


@click.command(context_settings=CONTEXT)
@click.argument("encoders", nargs=-1, required=True, metavar="NAME[=FOLDER]...")
@params_option
@corpus_option
@click.option("--raw", type=click.Path(path_type=Path), help="Folder of truth_SPLIT.json. [params: raw]")
@click.option("--split", "held_out", default="val", show_default=True, help="Whose scenes are held out.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the figures here, too, as JSON.")
@version_option
def main(
    encoders: tuple[str, ...], params_file: Path, corpus: Path, raw: Path | None, held_out: str, out: Path | None
) -> None:
    """Read a world's facts linearly out of captions, collapsed dialogues and turns (their mean).

    An encoder is a folder of weights, NAME=FOLDER, whose Skip-Thought reads dialogues and whose char-CNN-RNN reads
    captions if it has one; or the name of one that reads both, such as minilm. Or FOLDER holds what chatpainter-embed
    made of the same corpus, and nothing is encoded again.
    """
    values = params.load(params_file)
    split = params.section(values, "splits", params.Names, str(params_file))[0]
    raw = raw or Path(params.section(values, "raw", str, str(params_file)))
    found: dict[str, Any] = {"machine": machine.describe(), "held_out": held_out, "scores": {}}
    for encoder, texts, score in scores(encoders, values, corpus, raw, (split, held_out), str(params_file)):
        found["scores"].setdefault(encoder, {})[texts] = score
        click.echo(f"{encoder:20} {texts:20} {score:.3f}")
    if out:
        with in_words(out), replacing(out) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def scores(
    encoders: tuple[str, ...], values: dict[str, Any], corpus: Path, raw: Path, splits: tuple[str, str], where: str
) -> Iterator[tuple[str, str, float]]:
    """(encoder, texts, F1) as they are known; the first are of a reader that sees nothing.

    Raises:
        ChatPainterError: a corpus, a truth or an encoder is missing.
    """
    from evidence.linear_probe import linear_f1
    from pipeline.corpora import corpus as corpora
    from pipeline.texts import KINDS
    from trainer.evaluation.truth import Truth

    tables = [corpora.read(corpus / f"{split}.parquet") for split in splits]
    truths = [Truth.load(raw / f"truth_{split}.json") for split in splits]
    there = [facts(truth, table["image_id"].to_numpy()) for truth, table in zip(truths, tables)]
    nothing = [np.zeros((len(each), 1)) for each in there]
    yield "nothing", "", linear_f1(nothing[0], there[0], nothing[1], there[1])
    for encoder in encoders:
        name, _, folder = encoder.partition("=")
        for kind in KINDS:
            if folder and (Path(folder) / splits[0]).is_dir():
                found = stored(Path(folder), kind, splits)
            elif kind == "captions" and folder and not any(Path(folder).glob("*.t7")):
                continue
            else:
                found = encoded(name, folder, kind, tables, values, where)
            sides: list[np.ndarray] = []
            for truth, (image_ids, lengths, vectors) in zip(truths, found):
                means = np.add.reduceat(vectors, np.cumsum(lengths) - lengths) / lengths[:, None]
                sides += [means, facts(truth, image_ids)]
            yield name, {"turns": "turns, mean", "dialogues": "collapsed dialogue"}.get(kind, kind), linear_f1(*sides)


Texts = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Ids of images (n,), how many vectors each text has (n,), and all of these (sum, d)."""


def stored(folder: Path, kind: str, splits: tuple[str, str]) -> list[Texts]:
    """The vectors of a kind of texts as `chatpainter-embed` left them below `folder`, by split."""
    from store.reader import Store

    stores = [Store(folder / split / kind) for split in splits]
    return [(one.column("image_id"), one.lengths, one.slice(0, len(one)).astype(np.float32)) for one in stores]


def encoded(
    name: str, folder: str, kind: "Kind", tables: "list[pa.Table]", values: dict[str, Any], where: str
) -> list[Texts]:
    """The vectors that an encoder, or the weights in `folder`, make of a kind of each table's texts."""
    from pipeline import encoders, texts_of_rows
    from pipeline.texts import TextSettings

    text = params.section(values, "text", TextSettings, where)
    settings = params.section(values, "encoders", encoders.EncoderSettings, where)
    if folder:
        asked = replace(settings, captions="char-cnn-rnn", dialogue="skip-thought", weights=folder, untrained=None)
    else:
        asked = replace(settings, captions=name, dialogue=name)
    built = encoders.build(kind, asked)
    found = []
    for table in tables:
        rows = texts_of_rows.read(kind, table, text)
        image_ids = rows.index["image_id"].to_numpy()
        lengths = rows.index["rounds"].to_numpy() if kind == "turns" else np.ones(len(image_ids), np.int64)
        found.append((image_ids, lengths, built.encode(rows.of(0, len(rows))).vectors))
    return found


def facts(truth: Any, image_ids: np.ndarray) -> np.ndarray:
    """(n, facts) of bool: which sprites there are, or which class each head of a scene has, "nothing" apart."""
    targets = truth.targets(image_ids)
    columns = []
    for head, column in zip(truth.heads(), targets.T):
        first = 0 if head.kind == "ground" else 1  # of the others class 0 is that there is none
        columns += [column == number for number in range(first, len(head.classes))]
    if not columns:
        raise ChatPainterError(f"{truth.path}: knows no facts")
    return np.stack(columns, 1)


if __name__ == "__main__":
    main()
