"""Untrained encoder weights in the published formats: for the sample world, and for trials without the published files.

Nobody trained these, and every store made from them says so. They are drawn such that a vector keeps what its text
said, as far as chance can: orthogonal recurrences with long memory, inputs scaled to stay in tanh's linear part, so
that a linear map can read words, and roughly their order, out of the last state.
"""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from pipeline import tokens
from pipeline.corpora import corpus
from pipeline.corpora.folders import replacing_folder
from pipeline.texts import TextSettings, collapse, turn
from pipeline.weights import marked, published, reed, theano, theano_writer
from pipeline.weights.torch7_writer import NetworkWriter

if TYPE_CHECKING:
    from pipeline.encoders import EncoderSettings

COMMAND = "chatpainter-prepare weights"
T7_NAME = "coco_untrained.t7"
README = "README.txt"
DICTIONARY = "dictionary.txt"
OURS = re.compile("|".join(map(re.escape, (*published.SKIP_THOUGHT, T7_NAME, README, published.MARKER))))
NOTE = """These weights were made by `chatpainter-prepare weights`. Nobody trained them.
They have the formats of the published files, so that everything runs without those; vectors made with them
are good for trying the road and for the sample world, not for results on real pictures.
"""


@dataclass(frozen=True)
class UntrainedSettings:
    """Section `untrained` of params.yaml. `none` makes no weights: where the published ones are at hand."""

    size: Literal["small", "wide", "published", "none"] = "small"
    seed: int = 11

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError("seed must be at least 0")


@dataclass(frozen=True)
class Sizes:
    """Widths of the networks; everything else is as published."""

    words: int  # E
    uni: int  # D of uni_skip; bi_skip has half of it each way
    convolutions: tuple[int, int, int]
    captions: int


SIZES = {
    "small": Sizes(words=64, uni=256, convolutions=(128, 256, 256), captions=256),
    "wide": Sizes(words=64, uni=256, convolutions=(128, 256, 512), captions=512),
    "published": Sizes(words=620, uni=2400, convolutions=(384, 512, 512), captions=1024),
}


def make(
    out: Path,
    settings: UntrainedSettings,
    corpora: list[Path],
    text: TextSettings,
    encoders: "EncoderSettings",
) -> list[Path]:
    """Write untrained weights for both encoders into the folder `out`, in place of those that an earlier run wrote.

    The dictionary holds every word of the corpora (Parquet files of `chatpainter-prepare corpus`) under the
    settings given, in both its own and its lower case, and UNK and <eos>. The same arguments give the same bytes, on
    every processor.

    Returns:
        The files written.

    Raises:
        ChatPainterError: `out` holds anything that this command did not write, or that was changed since.
    """
    out = Path(out)
    marked.refuse_foreign(out, COMMAND)
    with replacing_folder(out, OURS, published.MARKER, "--out") as folder:
        (folder / README).write_text(NOTE)
        words: list[str] = []
        if settings.size != "none":
            words = vocabulary(corpora, text, encoders.skip_thought.tokenizer)
            write(folder, words, settings)
        marked.write(folder, {"trained": False, "made_by": COMMAND, **asdict(settings), "words": len(words)})
    return sorted(out.iterdir())


def write(folder: Path, words: list[str], settings: UntrainedSettings) -> None:
    """The six files of both encoders, for a dictionary of these words in this order; `settings.size` is not none."""
    sizes = SIZES[settings.size]
    _skip_thought(folder, words, sizes, settings.seed)
    (folder / T7_NAME).write_bytes(char_cnn_rnn(sizes, settings.seed))


def vocabulary(corpora: list[Path], text: TextSettings, tokenizer: tokens.TokenizerName) -> list[str]:
    """Every word of the corpora's captions and dialogues, sorted."""
    tokenize = tokens.tokenizer(tokenizer)
    distinct: set[str] = set()
    for line in _texts(corpora, text):
        distinct.update((line, line.lower()))
    return sorted({word for line in distinct for word in tokenize(line)})


def _texts(corpora: list[Path], settings: TextSettings) -> Iterator[str]:
    for path in corpora:
        for row in corpus.rows(corpus.read(path)):
            yield from (text for _, text in row.captions)
            yield row.visdial_caption
            yield from (turn(question, answer, settings) for question, answer in row.rounds)
            yield collapse(row.rounds, row.visdial_caption, settings)


# --- Skip-Thought ------------------------------------------------------------------------------------------------


def _skip_thought(out: Path, words: list[str], sizes: Sizes, seed: int) -> None:
    lines = [theano.END, theano.UNKNOWN, *(word for word in words if word not in (theano.END, theano.UNKNOWN))]
    theano_writer.write_dictionary(out / DICTIONARY, lines)
    for which, (name, prefixes, dim) in enumerate(
        (("uni", ("",), sizes.uni), ("bi", ("", "r_"), sizes.uni // 2)),
    ):
        rng = np.random.default_rng([seed, which])
        vectors = word_vectors(rng, len(lines), sizes.words)
        arrays: dict[str, np.ndarray] = {}
        for prefix in prefixes:
            for key, value in gru(rng, sizes.words, dim).items():
                arrays[f"encoder_{prefix}{key}"] = value
        arrays["untrained"] = np.ones((), np.int8)
        theano_writer.write_npz(out / f"{name}_skip.npz", arrays)
        with (out / f"{name[0]}table.npy").open("wb") as file:
            theano_writer.write_object_table(file, vectors, native=range(2, len(lines), 50))


GRID = 2.0**-18
"""Weights are multiples of it: which last bits a QR decomposition has depends on the processor, these bytes do not."""
MEMORY = 0.93  # the update gate where nothing pushes it: the share of a state that one step keeps
INPUT = 0.5  # typical size of what a word adds before tanh
RECURRENT = 0.9


def word_vectors(rng: np.random.Generator, words: int, width: int) -> np.ndarray:
    """(words, width) float32, of unit length as a rule."""
    return _on_grid(rng.standard_normal((words, width), np.float32) / np.float32(np.sqrt(width)))


def _on_grid(values: np.ndarray) -> np.ndarray:
    return (np.round(values / GRID) * GRID).astype(np.float32)


def gru(rng: np.random.Generator, width: int, dim: int) -> dict[str, np.ndarray]:
    """A GRU whose last state keeps the words that it read, as uni_skip.npz names its arrays: x W, columns [r | u]."""
    gates = np.concatenate([_orthogonal(rng, dim, dim), _orthogonal(rng, dim, dim)], 1)
    return {
        "W": _on_grid(0.1 * rng.standard_normal((width, 2 * dim))),
        "b": _on_grid(np.concatenate([np.full(dim, 2.0), np.full(dim, np.log(MEMORY / (1 - MEMORY)))])),
        "U": _on_grid(0.1 * gates),
        "Wx": _on_grid(INPUT * rng.standard_normal((width, dim))),
        "bx": np.zeros(dim, np.float32),
        "Ux": _on_grid(RECURRENT * _orthogonal(rng, dim, dim)),
    }


def _orthogonal(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r))
    return q if rows >= columns else q.T


# --- char-CNN-RNN ------------------------------------------------------------------------------------------------


def char_cnn_rnn(sizes: Sizes, seed: int) -> bytes:
    """A .t7 file of the COCO variant: 18 steps of FixedGRU, mean over the steps; bare gModule as COCO's is."""
    rng = np.random.default_rng([seed, 2])
    c1, c2, c3 = sizes.convolutions

    def convolution(inputs: int, outputs: int, gain: float, bias: float) -> reed.Map:
        weight = rng.standard_normal((outputs, reed.KERNEL * inputs)) * gain / np.sqrt(reed.KERNEL * inputs)
        return _on_grid(weight), np.full(outputs, bias, np.float32)

    # Of the 70 channels one is active, hence the root. Negative biases let each filter answer to few strings only.
    convolutions = (
        convolution(reed.ALPHABET, c1, 1.5 * float(np.sqrt(reed.ALPHABET)), -1.0),
        convolution(c1, c2, 1.0, -0.3),
        convolution(c2, c3, 1.0, 0.0),
    )

    def square(gain: float, bias: float = 0.0) -> reed.Map:
        return _on_grid(gain * _orthogonal(rng, c3, c3)), np.full(c3, bias, np.float32)

    maps = {
        "input": square(0.5),
        "hidden": square(0.5),
        "input_update": square(0.1),
        "hidden_update": square(0.1),
        "input_reset": square(0.1, 1.0),
        "hidden_reset": square(0.1),
    }
    # Published vectors have about 0.14 a value.
    projection = _on_grid(6 * _orthogonal(rng, sizes.captions, c3)), np.zeros(sizes.captions, np.float32)
    return NetworkWriter().network(convolutions, maps, projection, steps=18, untrained=True)
