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

VERSION = 1
LENGTH = reed.LENGTH
# '-' stands in it twice; Reed's table keeps the later one, so channel 36 is never active.
ALPHABET = b"abcdefghijklmnopqrstuvwxyz0123456789-,;.!?:'\"/\\|_@#$%^&*~`+-=<>()[]{} "
NOTHING = len(ALPHABET)  # the channel of unknown bytes and of everything past the text: zero weights

CHANNEL = np.full(256, NOTHING, np.uint8)
CHANNEL[list(ALPHABET)] = np.arange(len(ALPHABET))


def identity(settings: EncoderSettings) -> tuple[dict[str, Any], published.Found]:
    """The identity of the encoder that `settings` describe, and its file."""
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
        import torch

        from pipeline.encoders.devices import device

        self.identity, found = identity(settings)
        self.settings = settings
        (path,) = found.paths.values()
        self.weights = reed.load(path)
        self.dim = self.weights.dim
        self.device = device(settings.device)

        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

        first, *others = self.weights.convolutions
        kernel = first[0].shape[1] // len(ALPHABET)
        # (kernel, channels + 1, width): the last row stands for "nothing" and adds nothing
        taps = first[0].reshape(len(first[0]), kernel, len(ALPHABET)).transpose(1, 2, 0)
        self.taps = tensor(np.concatenate([taps, np.zeros((kernel, 1, taps.shape[2]), np.float32)], 1))
        self.first_bias = tensor(first[1])
        self.others = []
        width = len(first[0])
        for weight, bias in others:
            self.others.append((tensor(weight.reshape(len(weight), -1, width).transpose(0, 2, 1)), tensor(bias)))
            width = len(weight)
        self.maps = {name: (tensor(weight.T), tensor(bias)) for name, (weight, bias) in self.weights.maps.items()}
        self.projection = tensor(self.weights.projection[0].T), tensor(self.weights.projection[1])

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Vectors of `texts`. An empty text has one too: that of 201 empty columns."""
        import torch

        from pipeline.encoders.devices import precision

        texts = check_texts(texts)
        read = [channels(text, self.settings.char_cnn_rnn) for text in texts]
        rows = np.full((len(texts), LENGTH), NOTHING, np.uint8)
        for row, (found, _, _) in zip(rows, read):
            row[: len(found)] = found
        vectors = np.empty((len(texts), self.dim), np.float32)
        with precision(self.settings.precision):
            for start in range(0, len(texts), 64):
                batch = torch.from_numpy(rows[start : start + 64].astype(np.int64)).to(self.device)
                vectors[start : start + 64] = self._forward(batch).cpu().numpy()
        return Encoded(
            vectors,
            np.array([len(found) for found, _, _ in read], np.int32),
            np.array([unknown for _, unknown, _ in read], np.int32),
            np.array([cut for _, _, cut in read], bool),
        )

    def _forward(self, rows: Any) -> Any:
        """Vectors of texts given as channels (n, 201)."""
        from torch.nn import functional as F

        kernel = len(self.taps)
        columns = LENGTH - kernel + 1
        x = self.first_bias + sum(self.taps[k][rows[:, k : k + columns]] for k in range(kernel))  # (n, columns, width)
        x = self._activate(x.transpose(1, 2), 0)
        for i, (weight, bias) in enumerate(self.others, 1):
            x = self._activate(F.conv1d(x, weight, bias), i)
        return self._recur(x.permute(2, 0, 1))

    def _activate(self, x: Any, layer: int) -> Any:
        from torch.nn import functional as F

        x = F.threshold(x, self.weights.threshold, 0.0)
        pool = self.weights.pools[layer]
        return F.max_pool1d(x, pool.width, pool.stride) if pool else x

    def _recur(self, x: Any) -> Any:
        """From the columns (steps, n, width) to vectors (n, dim)."""
        import torch

        def apply(name: str, value: Any) -> Any:
            weight, bias = self.maps[name]
            return value @ weight + bias

        h = (torch.relu if self.weights.recurrence == "rnn" else torch.tanh)(apply("input", x[0]))
        total = h.clone()
        for column in x[1:]:
            if self.weights.recurrence == "rnn":
                h = torch.relu(apply("input", column) + apply("hidden", h))
            else:
                z = torch.sigmoid(apply("input_update", column) + apply("hidden_update", h))
                r = torch.sigmoid(apply("input_reset", column) + apply("hidden_reset", h))
                h = z * torch.tanh(apply("input", column) + apply("hidden", r * h)) + (1 - z) * h
            total += h
        if self.weights.average:
            h = total / self.weights.steps
        return h @ self.projection[0] + self.projection[1]
