"""Skip-Thought (Kiros et al., 2015): a sentence's vector is the last state of GRUs that read its words.

Follows skipthoughts.py of ryankiros/skip-thoughts. Combined: [uni | bi forward | bi reverse], each of the two halves
at unit length, 4800 values at the published dimensions.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import tokens
from pipeline.encoders import Encoded, EncoderSettings, check_texts
from pipeline.weights import published, tables, theano
from store.devices import fp32_precision

if TYPE_CHECKING:
    from pipeline.encoders import prefix_tree

VERSION = 1


def identity(name: str, settings: EncoderSettings) -> dict[str, Any]:
    """The identity of the encoder that `settings` describe."""
    return _identity(settings)[0]


def build(name: str, settings: EncoderSettings) -> "SkipThought":
    """The encoder that `settings` describe."""
    return SkipThought(settings)


def _identity(settings: EncoderSettings) -> tuple[dict[str, Any], published.FoundFiles]:
    options = settings.skip_thought
    found = published.find_skip_thought(options.variant, settings.weights, settings.untrained)
    hashes = published.hashes(found, Path(settings.converted) / "sha256.json")
    return {
        "name": "skip-thought",
        "version": VERSION,
        "trained": found.trained,
        "weights": hashes,
        "variant": options.variant,
        "tokenizer": tokens.identity(options.tokenizer),
        "eos": options.eos,
        "normalise": options.normalise,
        "precision": settings.precision,
        **found.about,
    }, found


class SkipThought:
    """Encoder over the published files, or over untrained ones of the same formats."""

    def __init__(self, settings: EncoderSettings) -> None:
        from pipeline.encoders import prefix_tree

        self.identity, found = _identity(settings)
        self.settings = settings
        options = settings.skip_thought
        self.tokenize = tokens.tokenizer(options.tokenizer)
        self.words, lines = theano.dictionary(found.paths["dictionary.txt"])
        self.unknown = self.words[theano.UNKNOWN]
        self.end = self.words[theano.END]
        self.halves: list[list[prefix_tree.Direction]] = []
        for half, directions in (("uni", 1), ("bi", 2)):
            if options.variant not in ("combined", half):
                continue
            npz, npy = f"{half}_skip.npz", f"{half[0]}table.npy"
            grus, untrained = theano.parameters(found.paths[npz], directions)
            published.refuse_untrained(found.paths[npz], untrained, found)
            vectors = tables.mapped(found.paths[npy], self.identity["weights"][npy], Path(settings.converted))
            theano.check_table(found.paths[npy], vectors, lines, grus[0].width)
            where = settings.torch_device()
            self.halves.append(
                [prefix_tree.Direction(gru, vectors, reverse=i == 1, device=where) for i, gru in enumerate(grus)]
            )
        self.dim = sum(direction.dim for half in self.halves for direction in half)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Vectors of `texts`. An empty text, on which the original stops, becomes zeros."""
        import torch

        from pipeline.encoders import prefix_tree

        texts = check_texts(texts)
        split = [self.tokenize(text) for text in texts]
        ids = [[self.words.get(word, self.unknown) for word in words] for words in split]
        counts = np.array([len(words) for words in split], np.int32)
        unknown = np.array([sum(word not in self.words for word in words) for words in split], np.int32)
        if self.settings.skip_thought.eos:
            ids = [row + [self.end] for row in ids]
        vectors = np.zeros((len(texts), self.dim), np.float32)
        filled = np.array([i for i, row in enumerate(ids) if row], np.int64)
        ordered, place = prefix_tree.distinct([ids[i] for i in filled])
        states = np.empty((len(ordered), self.dim), np.float32)
        with fp32_precision(self.settings.precision), torch.inference_mode():
            for piece in prefix_tree.pieces(ordered):
                self._encode(prefix_tree.Sequences(ordered[piece]), states[piece])
        vectors[filled] = states[place]
        return Encoded(vectors, counts, unknown, np.zeros(len(texts), bool))

    def _encode(self, sequences: "prefix_tree.Sequences", out: np.ndarray) -> None:
        from pipeline.encoders import prefix_tree

        column = 0
        for half in self.halves:
            start = column
            for direction in half:
                direction.last_states(sequences, out[:, column : column + direction.dim])
                column += direction.dim
            if self.settings.skip_thought.normalise:
                prefix_tree.to_unit_length(out[:, start:column])
