"""Encoder: texts → vectors. One interface; the published encoders, and modern ones beside them.

To add an encoder, write one module with two functions, and one line in ENCODERS:

    def identity(name, settings):      # what its vectors depend on: files' hashes, switches, versions
        return {"name": "bag-of-letters", "version": 1, "trained": True, "weights": {}}

    def build(name, settings):         # an object with `dim`, `identity` and `encode`
        return BagOfLetters(identity(name, settings))

`encode` takes any number of texts and gives their vectors, float32, in order, with what was read of each (`Encoded`);
a vector may depend on nothing but its text and the identity, since shards are made in any order, on any machine, each
distinct text once. Whatever changes a vector must change the identity: that is how a store knows that it is stale.
`trained` says whether anyone trained the weights; stores and models made with those that nobody did say so. Settings of
its own are a dataclass like those below, and a field of EncoderSettings. Import torch and the like inside functions, so
that `--help` stays quick. An encoder outside this project needs no line here: `chatpainter-embed --encoders MODULE`
names a module with the two functions of `EncoderFactory`.
"""

import difflib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from pipeline.texts import Kind
from store import devices
from store.errors import ParamsError

if TYPE_CHECKING:
    import torch


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

    def torch_device(self) -> "torch.device":
        """Where to compute.

        Raises:
            ChatPainterError: torch finds no such device.
        """
        return devices.choose(self.device, "params.yaml: encoders.device")


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


@dataclass(frozen=True)
class WordStates:
    """The vectors of every word of n texts, one text after the other, and what was read of each text."""

    vectors: np.ndarray  # (sum of lengths, dim) float32
    lengths: np.ndarray  # (n,) int64, each at least 1: an empty text is a row of zeros
    tokens: np.ndarray  # these as `Encoded` has them
    unknown: np.ndarray
    truncated: np.ndarray


@runtime_checkable
class WordEncoder(Protocol):
    """An `Encoder` that has a vector for every word of a text, too, as its own tokeniser finds them."""

    def word_counts(self, texts: Sequence[str]) -> np.ndarray:
        """How many vectors `words` gives for each text, (n,) int64, without computing them."""
        ...

    def words(self, texts: Sequence[str]) -> WordStates:
        """Their vectors. A vector depends on nothing but its text and the identity."""
        ...


class EncoderFactory(Protocol):
    """Who builds encoders for a run: this package, or any module or picklable object with these two functions."""

    def build(self, kind: Kind, settings: EncoderSettings, /) -> Encoder:
        """The encoder of these texts, weights loaded; turns and dialogues may have one in common."""
        ...

    def identity(self, kind: Kind, settings: EncoderSettings, /) -> dict[str, Any]:
        """What `build(kind, settings).identity` would say, without loading large files."""
        ...


class EncoderModule(Protocol):
    """What a module in ENCODERS has. `name` is the whole of what params.yaml says, such as "transformers:FOLDER"."""

    def build(self, name: str, settings: EncoderSettings, /) -> Encoder: ...
    def identity(self, name: str, settings: EncoderSettings, /) -> dict[str, Any]: ...


# What params.yaml calls an encoder (up to a colon), and the module that has it.
ENCODERS = {
    "char-cnn-rnn": "pipeline.encoders.char_cnn_rnn",
    "skip-thought": "pipeline.encoders.skip_thought",
    "minilm": "pipeline.encoders.modern",
    "sentence-transformers": "pipeline.encoders.modern",
    "transformers": "pipeline.encoders.modern",
    "damsm": "pipeline.encoders.damsm",
}


def build(kind: Kind, settings: EncoderSettings) -> Encoder:
    """The encoder that `settings` names for these texts, weights loaded; turns and dialogues have one in common.

    Raises:
        WeightsError: weights are missing, damaged or not what their names say.
        ParamsError: no encoder has this name.
    """
    name = getattr(settings, slot(kind))
    return _module(name).build(name, settings)


def identity(kind: Kind, settings: EncoderSettings) -> dict[str, Any]:
    """What `build(kind, settings).identity` would say, without loading the large files.

    Everything that changes a vector is in it: name and version, sha256 of each weight file, every switch, precision,
    and whether the weights were trained.

    Raises:
        WeightsError, ParamsError: as `build`.
    """
    name = getattr(settings, slot(kind))
    return _module(name).identity(name, settings)


def slot(kind: Kind) -> Literal["captions", "dialogue"]:
    """The entry of EncoderSettings that names the encoder of these texts."""
    return "captions" if kind == "captions" else "dialogue"


def _module(name: str) -> EncoderModule:
    key = name.partition(":")[0]
    if key not in ENCODERS:
        near = difflib.get_close_matches(key, ENCODERS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(ENCODERS)}"
        raise ParamsError(f"params.yaml: no encoder {name[:100]!r}; {hint}")
    module: Any = importlib.import_module(ENCODERS[key])
    return module


def check_texts(texts: Sequence[str]) -> list[str]:
    """`texts` as a list of str; a bare str, easily passed by mistake, raises TypeError."""
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise TypeError("encode() takes a sequence of str")
    return list(texts)
