"""Parts of GeNeVA-GAN (Maluuba/GeNeVA, geneva/models), parameters under the same names; B rows, y (B, h) what was said.

Every activation is LeakyReLU(0.01) unless a docstring says otherwise.
"""

from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

from trainer.networks.blocks import conv3x3

NormStart = Literal["published", "identity"]


class ConditionalBatchNorm(nn.Module):
    """BatchNorm without weights, then γ x + β, both made from what was said by one linear layer `fc`.

    Args:
        start: `published`: γ = β = y_1 + … + y_C (the original writes ones into the first C columns of `fc`, where its
            rows were meant); `identity`: γ near 1 and β near 0.
    """

    def __init__(self, channels: int, said: int, start: NormStart):
        super().__init__()
        self.bn = nn.BatchNorm2d(channels, affine=False)
        self.fc = nn.Linear(said, 2 * channels)
        with torch.no_grad():
            if start == "published":
                self.fc.weight[:, :channels] = 1
                self.fc.weight[:, channels:] = 0
            else:
                nn.init.normal_(self.fc.weight, 0.0, 0.02)
                self.fc.bias[:channels] = 1
                self.fc.bias[channels:] = 0

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x (B, channels, s, s), y (B, said) → the shape of x."""
        gamma, beta = self.fc(y)[:, :, None, None].chunk(2, 1)
        return cast(Tensor, self.bn(x) * gamma + beta)


class ResUpBlock(nn.Module):
    """(B, inputs, s, s) and y (B, said) → (B, outputs, 2s, 2s): under conditional BatchNorm, with a shortcut."""

    def __init__(self, inputs: int, outputs: int, said: int, start: NormStart):
        super().__init__()
        self.bn1 = ConditionalBatchNorm(inputs, said, start)
        self.bn2 = ConditionalBatchNorm(outputs, said, start)
        self.conv1 = conv3x3(inputs, outputs)
        self.conv2 = conv3x3(outputs, outputs)
        self.conv_shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x (B, inputs, s, s), y (B, said) → (B, outputs, 2s, 2s)."""
        hidden = self.conv1(twice(F.leaky_relu(self.bn1(x, y))))
        hidden = self.conv2(F.leaky_relu(self.bn2(hidden, y)))
        # A 1 x 1 convolution commutes with repeating its input, so the shortcut is made before it is enlarged.
        return hidden + twice(self.conv_shortcut(x))


class ResDownBlock(nn.Module):
    """(B, inputs, s, s) → (B, outputs, s/2, s/2), or s: two convolutions under spectral norm, and a shortcut.

    Args:
        first: its input is a picture, which no activation comes before.
        halve: average pooling over 2 x 2. Without it the widths are the same and the shortcut has no convolution.
    """

    def __init__(self, inputs: int, outputs: int, *, first: bool = False, halve: bool = True):
        super().__init__()
        self.first, self.halve = first, halve
        self.conv1 = spectral_norm(conv3x3(inputs, outputs))
        self.conv2 = spectral_norm(conv3x3(outputs, outputs))
        self.conv_shortcut = spectral_norm(nn.Conv2d(inputs, outputs, 1, bias=False)) if halve else None

    def forward(self, x: Tensor) -> Tensor:
        """x (B, inputs, s, s) → (B, outputs, s/2, s/2), or s where nothing is halved."""
        hidden = self.conv2(F.leaky_relu(self.conv1(x if self.first else F.leaky_relu(x))))
        if self.conv_shortcut is None:
            return cast(Tensor, hidden + x)
        # A 1 x 1 convolution commutes with averaging its input, whichever of both the original does first.
        return F.avg_pool2d(hidden, 2) + self.conv_shortcut(F.avg_pool2d(x, 2))


class ImageEncoder(nn.Module):
    """The previous picture's features: convolutions 4 x 4 of stride 2, ReLU and BatchNorm after each.

    The last has BatchNorm alone after it. `object_detector` takes part in nothing: it is in the published files.
    """

    def __init__(self, channels: tuple[int, ...], objects: int):
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in zip((3, *channels), channels):
            layers.append(nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False))
            layers += [] if len(layers) == 3 * (len(channels) - 1) + 1 else [nn.ReLU()]
            layers.append(nn.BatchNorm2d(outputs))
        self.image_encoder = nn.Sequential(*layers)
        self.object_detector = nn.Linear(channels[-1], objects) if objects else None

    def forward(self, pictures: Tensor) -> Tensor:
        """pictures (B, 3, s, s) → (B, channels[-1], s/2^n, s/2^n)."""
        return cast(Tensor, self.image_encoder(pictures))


class SentenceEncoder(nn.Module):
    """A turn's words (GloVe vectors) to one vector: final states of a GRU each way, normalised."""

    def __init__(self, word_dim: int, dim: int):
        super().__init__()
        self.gru = nn.GRU(word_dim, dim // 2, batch_first=True, bidirectional=True)
        self.layer_norm = nn.LayerNorm(dim)

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        """words (B, L, word_dim), lengths (B,) → (B, dim); a turn without words counts as one word."""
        counts = lengths.clamp(min=1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(words, counts, batch_first=True, enforce_sorted=False)
        _, final = self.gru(packed)
        return cast(Tensor, self.layer_norm(torch.cat([final[0], final[1]], 1)))


class ConditionEncoder(nn.Module):
    """A turn's vector as the dialogue's GRU reads it: a linear layer and BatchNorm."""

    def __init__(self, turn_dim: int, dim: int):
        super().__init__()
        self.text_projection = nn.Linear(turn_dim, dim)
        self.bn = nn.BatchNorm1d(dim)

    def forward(self, turns: Tensor) -> Tensor:
        """turns (B, turn_dim) → (B, dim)."""
        return cast(Tensor, self.bn(self.text_projection(turns)))


def twice(x: Tensor) -> Tensor:
    """(B, c, s, s) → (B, c, 2s, 2s), every value repeated."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
