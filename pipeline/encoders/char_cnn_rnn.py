"""char-CNN-RNN (Reed et al., 2016): convolutions over characters, then a recurrence over the columns they leave.

Follows main_txt_coco.lua, HybridCNN.lua, HybridCNNLong.lua, FixedGRU.lua and FixedRNN.lua of reedscot/icml2016 and
reedscot/cvpr2016, whichever the weight file holds.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.encoders import CharCnnRnnSettings, Encoded, EncoderSettings, check_texts
from pipeline.weights import published, reed
from store.devices import fp32_precision

VERSION = 1
MOST_TEXTS = 4096  # in one piece, which bounds memory
LENGTH = reed.LENGTH
# '-' stands in it twice; Reed's table keeps the later one, so channel 36 is never active.
ALPHABET = b"abcdefghijklmnopqrstuvwxyz0123456789-,;.!?:'\"/\\|_@#$%^&*~`+-=<>()[]{} "
NOTHING = len(ALPHABET)  # the channel of unknown bytes and of everything past the text: zero weights

CHANNEL = np.full(256, NOTHING, np.uint8)
CHANNEL[list(ALPHABET)] = np.arange(len(ALPHABET))


def identity(name: str, settings: EncoderSettings) -> dict[str, Any]:
    """The identity of the encoder that `settings` describe."""
    return _identity(settings)[0]


def build(name: str, settings: EncoderSettings) -> "CharCnnRnn":
    """The encoder that `settings` describe."""
    return CharCnnRnn(settings)


def _identity(settings: EncoderSettings) -> tuple[dict[str, Any], published.FoundFiles]:
    options = settings.char_cnn_rnn
    found = published.find_char_cnn_rnn(options.file, settings.weights, settings.untrained)
    hashes = published.hashes(found, Path(settings.converted) / "sha256.json")
    return {
        "name": "char-cnn-rnn",
        "version": VERSION,
        "trained": found.trained,
        "weights": hashes,
        "lowercase": options.lowercase,
        "unknown": options.unknown,
        "precision": settings.precision,
        **found.about,
    }, found


def channels(text: str, options: CharCnnRnnSettings) -> tuple[np.ndarray, int, bool]:
    """Channel of each byte read (at most 201) as uint8, how many bytes were unknown, whether any were cut off.

    White space at the ends is dropped: COCO's captions carry some by accident, and Reed read stripped lines.
    """
    text = text.strip()
    data = np.frombuffer((text.lower() if options.lowercase else text).encode("utf-8"), np.uint8)
    read = CHANNEL[data[:LENGTH]]
    unknown = int((read == NOTHING).sum())
    if options.unknown == "space":
        read = np.where(read == NOTHING, np.uint8(ALPHABET.index(b" ")), read)
    return read, unknown, len(data) > LENGTH


class CharCnnRnn:
    """Encoder over a published .t7 file of any variant, or over an untrained one."""

    def __init__(self, settings: EncoderSettings) -> None:
        from pipeline.encoders.character_net import CharacterNet

        self.identity, found = _identity(settings)
        self.settings = settings
        (path,) = found.paths.values()
        weights = reed.load(path)
        published.refuse_untrained(path, weights.untrained, found)
        self.dim = weights.dim
        self.net = CharacterNet(weights, settings.torch_device())

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Vectors of `texts`. An empty text has one too: that of 201 empty columns."""
        import torch

        read = [channels(text, self.settings.char_cnn_rnn) for text in check_texts(texts)]
        place: dict[bytes, int] = {}
        which = np.array([place.setdefault(row.tobytes(), len(place)) for row, _, _ in read], np.int64)
        rows = sorted(place)  # texts that begin alike lie side by side and share columns
        order = np.empty(len(rows), np.int64)
        order[[place[row] for row in rows]] = np.arange(len(rows))
        vectors = np.empty((len(rows), self.dim), np.float32)
        with fp32_precision(self.settings.precision), torch.inference_mode():
            for start in range(0, len(rows), MOST_TEXTS):
                piece = rows[start : start + MOST_TEXTS]
                padded = np.full((len(piece), LENGTH), NOTHING, np.uint8)
                for target, row in zip(padded, piece):
                    target[: len(row)] = np.frombuffer(row, np.uint8)
                vectors[start : start + MOST_TEXTS] = self.net(padded, np.array([len(row) for row in piece]))
        return Encoded(
            vectors[order[which]] if len(read) else vectors,
            np.array([len(row) for row, _, _ in read], np.int32),
            np.array([unknown for _, unknown, _ in read], np.int32),
            np.array([cut for _, _, cut in read], bool),
        )
