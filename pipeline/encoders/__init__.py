"""Encoder: texts → vectors. One interface; the published encoders, and modern ones beside them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from pipeline.texts import Kind


@dataclass(frozen=True)
class CharCnnRnnSettings:
    """Settings of Reed's char-CNN-RNN."""

    file: str | None = None  # a .t7 in the weights folder; None: COCO's, or the only one
    lowercase: bool = True  # its alphabet has no capitals: without this they are unknown
    unknown: Literal["zero", "space"] = "zero"


@dataclass(frozen=True)
class SkipThoughtSettings:
    """Settings of Skip-Thought."""

    variant: Literal["combined", "uni", "bi"] = "combined"
    tokenizer: Literal["treebank-3.2.5", "treebank-3.0.4", "nltk-installed"] = "treebank-3.2.5"
    eos: bool = False
    normalise: bool = True  # each half to unit length, as the original does


@dataclass(frozen=True)
class EncoderSettings:
    """Section `encoders` of params.yaml."""

    captions: str = "char-cnn-rnn"
    dialogue: str = "skip-thought"
    weights: str = "data/weights"
    untrained: str | None = "data/untrained"
    converted: str = "data/converted"  # word vectors as mappable files, and hashes of large files
    char_cnn_rnn: CharCnnRnnSettings = field(default_factory=CharCnnRnnSettings)
    skip_thought: SkipThoughtSettings = field(default_factory=SkipThoughtSettings)
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    precision: Literal["float32", "tf32"] = "float32"


@dataclass(frozen=True)
class Encoded:
    """Vectors of n texts, and what was read of each."""

    vectors: np.ndarray  # (n, dim) float32
    tokens: np.ndarray  # (n,) int32: words (Skip-Thought) or bytes (char-CNN-RNN) read; 0 for an empty text
    unknown: np.ndarray  # (n,) int32: of these, not known
    truncated: np.ndarray  # (n,) bool: more was there than the encoder reads


class Encoder(Protocol):
    """Texts to vectors. The vector of a text depends on nothing but the text and the identity."""

    dim: int
    identity: dict[str, Any]

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Vectors of `texts`, in order. A bare str raises TypeError."""
        ...


def slot(kind: Kind) -> Literal["captions", "dialogue"]:
    """The entry of EncoderSettings that names the encoder of these texts."""
    return "captions" if kind == "captions" else "dialogue"


def build(kind: Kind, settings: EncoderSettings) -> Encoder:
    """The encoder that `settings` names for these texts, weights loaded; turns and dialogues have one in common.

    Raises:
        WeightsError: weights are missing, damaged or not what their names say.
    """
    name = getattr(settings, slot(kind))
    if name == "char-cnn-rnn":
        from pipeline.encoders.char_cnn_rnn import CharCnnRnn

        return CharCnnRnn(settings)
    if name == "skip-thought":
        from pipeline.encoders.skip_thought import SkipThought

        return SkipThought(settings)
    from pipeline.encoders.modern import Modern

    return Modern(name, settings)


def identity(kind: Kind, settings: EncoderSettings) -> dict[str, Any]:
    """What `build(kind, settings).identity` would say, without loading the large files.

    Everything that changes a vector is in it: name and version, sha256 of each weight file, every switch, precision,
    and whether the weights were trained.
    """
    name = getattr(settings, slot(kind))
    if name == "char-cnn-rnn":
        from pipeline.encoders import char_cnn_rnn

        return char_cnn_rnn.identity(settings)[0]
    if name == "skip-thought":
        from pipeline.encoders import skip_thought

        return skip_thought.identity(settings)[0]
    from pipeline.encoders import modern

    return modern.identity(name, settings)


def check_texts(texts: Sequence[str]) -> list[str]:
    """`texts` as a list of str; a bare str, easily passed by mistake, raises TypeError."""
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise TypeError("encode() takes a sequence of str")
    return list(texts)
