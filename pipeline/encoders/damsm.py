"""AttnGAN's text encoder: a vector a word and one a caption, as its DAMSM was trained to match them with pictures.

`damsm:PATH`, where PATH is a run of `chatpainter-train damsm`, its generator file, a published text_encoder*.pth with
captions.pickle beside it, or a folder that holds any of these.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.encoders import Encoded, EncoderSettings, WordStates, check_texts
from pipeline.weights import WeightsError
from pipeline.weights.hashing import sha256

VERSION = 1
TRAINED, PUBLISHED, CAPTIONS = "generator.safetensors", "text_encoder*.pth", "captions.pickle"
WORDS = 20  # of a caption are read by a published encoder, as AttnGAN evaluates
AT_ONCE = 512


def identity(name: str, settings: EncoderSettings) -> dict[str, Any]:
    """The identity of the encoder in the folder or file that the name ends with, or in the folder of weights."""
    return {
        "name": "damsm",
        "version": VERSION,
        "trained": True,
        "weights": {path.name: sha256(path) for path in _files(name, settings)},
        "precision": settings.precision,
    }


def build(name: str, settings: EncoderSettings) -> "DamsmTextEncoder":
    """The encoder, loaded."""
    return DamsmTextEncoder(name, settings)


def _files(name: str, settings: EncoderSettings) -> list[Path]:
    """The encoder's file, and what says which words it reads, where that is another.

    Raises:
        WeightsError: they are not there, or it is not clear which is meant.
    """
    where = Path(name.partition(":")[2] or settings.weights)
    if where.is_dir():
        found = [path for path in (where / TRAINED,) if path.is_file()] or sorted(where.glob(PUBLISHED))
        if len(found) != 1:
            many = "several" if found else "no"
            raise WeightsError(f"{where}: holds {many} text encoders of DAMSM; name one: encoders.captions: damsm:FILE")
        where = found[0]
    if not where.is_file():
        raise WeightsError(f"{where}: no such file; train one (chatpainter-train damsm), or fetch AttnGAN's")
    if where.suffix != ".pth":
        return [where]
    beside = where.with_name(CAPTIONS)
    if not beside.is_file():
        raise WeightsError(f"{beside}: is not there; it says which words {where.name} reads, by AttnGAN's data")
    return [where, beside]


class DamsmTextEncoder:
    """A `pipeline.encoders.WordEncoder` and `Encoder`."""

    def __init__(self, name: str, settings: EncoderSettings) -> None:
        from pipeline.weights.attngan import read_captions
        from words.files import read_published, read_trained

        self.identity = identity(name, settings)
        file, *beside = _files(name, settings)
        if beside:
            self.network, self.vocabulary = read_published(file), read_captions(beside[0]).vocabulary
            self.longest = WORDS
            if len(self.vocabulary) != len(self.network.encoder.weight):
                raise WeightsError(
                    f"{file}: reads {len(self.network.encoder.weight):,} words, {beside[0].name} has "
                    f"{len(self.vocabulary):,}; take both from one download"
                )
        else:
            self.network, self.vocabulary, self.longest = read_trained(file)
        self.device = settings.torch_device()
        self.precision = settings.precision
        self.network.to(self.device)
        self.dim = 2 * self.network.rnn.hidden_size

    def encode(self, texts: Sequence[str]) -> Encoded:
        """A vector a caption: what the LSTM ends with, ahead and back."""
        ids, lengths, counts = self._numbers(texts)
        _, sentences = self._read(ids, lengths)
        return Encoded(sentences, *counts)

    def word_counts(self, texts: Sequence[str]) -> np.ndarray:
        """(n,) int64: known words of each text, of a longer one the first that are read; 1 for one without any."""
        return self._numbers(texts)[1]

    def words(self, texts: Sequence[str]) -> WordStates:
        """The LSTM's states at the words that `word_counts` counts."""
        ids, lengths, counts = self._numbers(texts)
        states, _ = self._read(ids, lengths)
        return WordStates(states, lengths, *counts)

    def _numbers(
        self, texts: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Numbers (n, L), lengths (n,), and what was read: words, unknown ones, whether there were more."""
        found = [self.vocabulary.number(text) for text in check_texts(texts)]
        lengths = np.array([min(len(one.ids), self.longest) for one in found], np.int64)
        ids = np.zeros((len(found), lengths.max(initial=1)), np.int64)
        for row, one, length in zip(ids, found, lengths):
            row[:length] = one.ids[:length]
        words = np.array([one.words for one in found], np.int32)
        unknown = np.array([one.unknown for one in found], np.int32)
        cut = np.array([len(one.ids) > self.longest for one in found], bool)
        return ids, lengths, (words, unknown, cut)

    def _read(self, ids: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """States (sum of lengths, dim) and sentences (n, dim)."""
        import torch

        from store.devices import fp32_precision

        starts = np.cumsum(lengths) - lengths
        states = np.zeros((int(lengths.sum()), self.dim), np.float32)
        sentences = np.zeros((len(ids), self.dim), np.float32)
        # By length: a text is then read beside texts as long as itself, and its vector depends on nothing else.
        order = np.argsort(lengths, kind="stable")
        with torch.inference_mode(), fp32_precision(self.precision):
            for length in np.unique(lengths):
                rows = order[lengths[order] == length]
                for places in np.array_split(rows, -(-len(rows) // AT_ONCE)):
                    some = torch.from_numpy(ids[places, :length]).to(self.device)
                    words, sentence = self.network(some, torch.full((len(places),), int(length)))
                    states[starts[places][:, None] + np.arange(length)] = words.float().cpu().numpy()
                    sentences[places] = sentence.float().cpu().numpy()
        return states, sentences
