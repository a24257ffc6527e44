"""chatpainter-encoders: train the published encoders, for whoever lacks their files. Options and messages only."""

import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from store import params
from store.errors import ChatPainterError, ParamsError
from store.options import CONTEXT, device_option, params_option, version_option

_out = click.option(
    "--out", type=click.Path(path_type=Path), default=Path("data/trained"), show_default=True,
    help="Folder for the encoder's files; it may hold the other encoder's, too.",
)  # fmt: skip
_preset = click.option(
    "--preset", default="small", show_default=True, type=click.Choice(["small", "published"]),
    help="Numbers that the section in params.yaml does not give.",
)  # fmt: skip
_license = click.option(
    "--license", "license_", default="that of the texts it was trained on", show_default=True, metavar="TEXT",
    help="Under which terms the weights may be used, as WEIGHTS.json, manifests and model cards say it.",
)  # fmt: skip


@click.group(context_settings=CONTEXT)
@version_option
def main() -> None:
    """Encoders of texts: train the two that ChatPainter was published with."""


@main.group()
def train() -> None:
    """Train an encoder, and write it as its authors published theirs."""


@train.command("skip-thought")
@click.argument("texts", nargs=-1, required=True, type=click.Path(path_type=Path))
@params_option
@_preset
@click.option(
    "--run", "folder", type=click.Path(path_type=Path), default=Path("runs/skip-thought"), show_default=True,
    help="Folder of the training; the same command again continues there.",
)  # fmt: skip
@_out
@click.option(
    "--vectors", type=click.Path(path_type=Path),
    help="Word vectors (word2vec's or GloVe's text), by which the vocabulary is expanded.",
)  # fmt: skip
@_license
@device_option
def skip_thought(
    texts: tuple[Path, ...],
    params_file: Path,
    preset: str,
    folder: Path,
    out: Path,
    vectors: Path | None,
    license_: str,
    device: str,
) -> None:
    """Train Skip-Thought on TEXTS: corpora (.parquet), and text files with a sentence a line.

    Writes uni_skip.npz, bi_skip.npz, utable.npy, btable.npy, dictionary.txt and WEIGHTS.json into OUT. To use them:
    encoders.weights: OUT in params.yaml.
    """
    from pipeline.encoders import EncoderSettings
    from pipeline.encoders.training import files, skip_thought
    from pipeline.texts import TextSettings
    from pipeline.weights import marked
    from store import devices
    from store.interrupts import Interrupts

    values, where = params.load(params_file), str(params_file)
    values["train_skip_thought"] = _over(skip_thought.PRESETS[preset], values, "train_skip_thought", params_file)
    settings = params.section(values, "train_skip_thought", skip_thought.SkipThoughtTraining, where)
    text = params.section(values, "text", TextSettings, where)
    encoders = params.section(values, "encoders", EncoderSettings, where)
    marked.refuse_foreign(out, files.COMMAND)
    if vectors is not None and not vectors.is_file():
        raise ChatPainterError(f"{vectors}: no such file; --vectors names word vectors as text")

    def progress(done: int, total: int, surprise: dict[str, float]) -> None:
        said = ", ".join(f"{half} {value:.4f}" for half, value in surprise.items())
        click.echo(f"{done:,} of {total:,} sentences; surprise a word: {said}")

    with Interrupts() as interrupts:
        trained = skip_thought.train(
            folder, list(texts), settings, text, encoders, devices.choose(device), interrupts, progress
        )
    if trained is None:
        _leave(folder)
    about = {"license": license_, "trained_on": trained.about, "perplexity": trained.measured}
    for path in files.write_skip_thought(out, trained, vectors, {**about, "settings": settings.__dict__}):
        click.echo(str(path))
    measured = {half: value for half, value in trained.measured.items() if half != "unigram"}
    for half, value in measured.items():
        click.echo(
            f"{half}: perplexity of held-out sentences {value['before']:.1f} before, {value['after']:.1f} after"
            + (f", {value['itself']:.1f} of themselves" if "itself" in value else "")
            + f" (by words' frequency alone {trained.measured['unigram']:.1f})"
        )


@train.command("char-cnn-rnn")
@click.argument("corpus", type=click.Path(path_type=Path))
@click.option(
    "--features", type=click.Path(path_type=Path),
    help="A vector a picture: a store's folder, a .parquet (image_id, features) or a .npy in the corpus' order.  "
    "[default: captions are trained against other captions of their pictures]",
)  # fmt: skip
@params_option
@_preset
@click.option(
    "--run", "folder", type=click.Path(path_type=Path), default=Path("runs/char-cnn-rnn"), show_default=True,
    help="Folder of the training; the same command again continues there.",
)  # fmt: skip
@_out
@_license
@device_option
def char_cnn_rnn(
    corpus: Path,
    features: Path | None,
    params_file: Path,
    preset: str,
    folder: Path,
    out: Path,
    license_: str,
    device: str,
) -> None:
    """Train char-CNN-RNN on the captions of CORPUS (.parquet) against FEATURES of its pictures.

    Writes char_cnn_rnn.t7, char_cnn_rnn.safetensors and WEIGHTS.json into OUT. A class is a folder of the corpus' file
    names, or an image where they have none; some classes are held out and searched for by their texts.
    """
    from pipeline.encoders import EncoderSettings
    from pipeline.encoders.training import char_cnn_rnn, files
    from pipeline.weights import marked
    from store import devices
    from store.interrupts import Interrupts

    values, where = params.load(params_file), str(params_file)
    values["train_char_cnn_rnn"] = _over(char_cnn_rnn.PRESETS[preset], values, "train_char_cnn_rnn", params_file)
    settings = params.section(values, "train_char_cnn_rnn", char_cnn_rnn.CharCnnRnnTraining, where)
    encoders = params.section(values, "encoders", EncoderSettings, where)
    marked.refuse_foreign(out, files.COMMAND)

    def progress(done: int, total: int, loss: float) -> None:
        click.echo(f"{done:,} of {total:,} pairs; loss {loss:.4f}")

    with Interrupts() as interrupts:
        chosen = devices.choose(device)
        trained = char_cnn_rnn.train(folder, corpus, features, settings, encoders, chosen, interrupts, progress)
    if trained is None:
        _leave(folder)
    about = {"license": license_, "trained_on": trained.about, "retrieval": trained.measured}
    for path in files.write_char_cnn_rnn(out, trained, {**about, "settings": settings.__dict__}):
        click.echo(str(path))
    click.echo(
        f"average precision {trained.measured['average_precision']:.3f} of {trained.measured['held_out_classes']:,} "
        f"held-out classes among {trained.measured['held_out_pictures']:,} pictures (by chance "
        f"{trained.measured['chance']:.3f})"
    )


def _over(preset: dict[str, Any], values: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    given = values.get(name) or {}
    if not isinstance(given, dict):
        raise ParamsError(f"{path}: {name}: expected a mapping, found {type(given).__name__}")
    return {**preset, **given}


def _leave(folder: Path) -> NoReturn:
    from store.interrupts import PREEMPTED

    click.echo(f"{folder}: stopped, saved; run the same command again to continue", err=True)
    sys.exit(PREEMPTED)
