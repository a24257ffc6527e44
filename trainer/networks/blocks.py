"""Building blocks of StackGAN, StackGAN++ and AttnGAN (their code/model.py), parameters under the same names.

StackGAN activates by ReLU, its two successors by gated linear units: the blocks are the same, and so are the indices of
their layers.
"""

import math
from collections.abc import Callable
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized

from trainer.config import Norm

Activation = Literal["relu", "glu"]
GROUPS = 8


class GLU(nn.Module):
    """(B, 2c, …) → (B, c, …): the first half of the channels, gated by the sigmoid of the second."""

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 2c, …) → (B, c, …)."""
        return F.glu(x, 1)


def activate(activation: Activation) -> nn.Module:
    """The layer; gated linear units halve the channels, so what lies before them makes twice as many (`widened`)."""
    return nn.ReLU(True) if activation == "relu" else GLU()


def widened(outputs: int, activation: Activation) -> int:
    """Channels before the activation, of which it leaves `outputs`."""
    return outputs if activation == "relu" else 2 * outputs


def two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """(…, inputs) → (…, outputs) by way of hidden values under LeakyReLU."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, outputs))


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    """(B, inputs, h, w) → (B, outputs, h, w)."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


def conv_block(inputs: int, outputs: int, activation: Activation = "relu") -> nn.Sequential:
    """3x3 convolution, BatchNorm, activation: (B, inputs, h, w) → (B, outputs, h, w)."""
    wide = widened(outputs, activation)
    return nn.Sequential(conv3x3(inputs, wide), nn.BatchNorm2d(wide), activate(activation))


class UpBlock(nn.Sequential):
    """Nearest-neighbour upsampling, 3x3 convolution, BatchNorm, activation: (B, inputs, h, w) → (B, outputs, 2h, 2w).

    Upsampling by repetition followed by a 3x3 convolution is one 4x4 transposed convolution of stride 2 whose
    kernel is the 3x3 kernel summed over the repeats: the same numbers for 4/9 of the multiplications, and the
    enlarged input is never written to memory.
    """

    def __init__(self, inputs: int, outputs: int, activation: Activation = "relu"):
        super().__init__(nn.Upsample(scale_factor=2, mode="nearest"), *conv_block(inputs, outputs, activation))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, inputs, s, s) → (B, outputs, 2 s, 2 s)."""
        upsample, convolution, norm, activation = self
        # Of a 4x4 input the padded edge is a third, and there the channels are most: nothing is won.
        small = x.shape[2] < 8
        x = convolution(upsample(x)) if small else upsampled_conv3x3(x, cast(nn.Conv2d, convolution).weight)
        return cast(Tensor, activation(norm(x)))


def upsampled_conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    """conv3x3(upsample(x)) for x (B, i, h, w) and weight (o, i, 3, 3), as one transposed convolution."""
    # Row m of the 4x4 kernel gathers the rows k of the 3x3 kernel that read the same source row: k = 2 - m, 3 - m.
    above, middle, below = weight.unbind(2)
    rows = torch.stack([below, middle + below, above + middle, above], 2)
    left, middle, right = rows.unbind(3)
    kernel = torch.stack([right, middle + right, left + middle, left], 3)
    return F.conv_transpose2d(x, kernel.transpose(0, 1), stride=2, padding=1)


class ResidualBlock(nn.Module):
    """(B, c, h, w) → (B, c, h, w): x + conv-BN-activation-conv-BN(x), and a ReLU after it where ReLU activates."""

    def __init__(self, channels: int, activation: Activation = "relu"):
        super().__init__()
        self.block = nn.Sequential(
            *conv_block(channels, channels, activation), conv3x3(channels, channels), nn.BatchNorm2d(channels)
        )
        self.after = nn.ReLU(inplace=True) if activation == "relu" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """x (B, channels, s, s) → the same shape."""
        return cast(Tensor, self.after(self.block(x) + x))


def downs(df: int, halvings: int, norm: Norm) -> list[nn.Module]:
    """(B, 3, s, s) → (B, 2^(halvings - 1) df, 4, 4): convolutions 4x4 of stride 2; StackGAN's first has no norm."""
    layers = _normed(3, df, norm, first=True, kernel=4, stride=2)
    for wider in range(halvings - 1):
        layers += down(df << wider, df << wider + 1, norm)
    return layers


def down(inputs: int, outputs: int, norm: Norm) -> list[nn.Module]:
    """(B, inputs, 2h, 2w) → (B, outputs, h, w), convolution 4x4 of stride 2, norm, LeakyReLU."""
    return _normed(inputs, outputs, norm, first=False, kernel=4, stride=2)


def same(inputs: int, outputs: int, norm: Norm) -> list[nn.Module]:
    """(B, inputs, h, w) → (B, outputs, h, w), convolution 3x3, norm, LeakyReLU."""
    return _normed(inputs, outputs, norm, False, kernel=3, stride=1)


def _normed(inputs: int, outputs: int, norm: Norm, first: bool, kernel: int, stride: int) -> list[nn.Module]:
    # Without BatchNorm its shift is gone, so the convolution gets a bias; an Identity keeps the Sequential's indices.
    convolution = spectral(nn.Conv2d(inputs, outputs, kernel, stride, padding=1, bias=norm != "batch"), norm)
    layers: list[nn.Module] = [convolution]
    if not first:
        if norm == "batch":
            layers.append(nn.BatchNorm2d(outputs))
        else:
            layers.append(nn.GroupNorm(math.gcd(GROUPS, outputs), outputs) if norm == "group" else nn.Identity())
    return [*layers, nn.LeakyReLU(0.2, inplace=True)]


def spectral(convolution: nn.Conv2d, norm: Norm) -> nn.Module:
    """The convolution, under spectral norm if that is the norm (initialised first, as its vectors start from it)."""
    if norm not in ("spectral", "group"):
        return convolution
    initialise(convolution)
    return spectral_norm(convolution)


class Logits(nn.Module):
    """Is the picture real (and does it show what the condition says)? StackGAN's D_GET_LOGITS without its Sigmoid.

    features (B, `features`, 4, 4) [, condition (B, c)] → (B,) in float32.
    """

    def __init__(self, features: int, condition_dim: int | None, norm: Norm):
        super().__init__()
        last = spectral(nn.Conv2d(features, 1, 4, stride=4), norm)
        joint = [] if condition_dim is None else same(features + condition_dim, features, norm)
        self.outlogits = nn.Sequential(*joint, last)

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Tensor:
        """features (B, f, 4, 4), condition (B, c) or None → logits (B,) float32."""
        if condition is not None:
            features = torch.cat([features, tiled(condition, features)], 1)
        return logit(cast(nn.Conv2d, self.outlogits[-1]), self.outlogits[:-1](features))


def tiled(condition: Tensor, features: Tensor) -> Tensor:
    """condition (B, c) at every place of features (B, ·, h, w): (B, c, h, w), in their dtype."""
    return condition[:, :, None, None].expand(-1, -1, *features.shape[2:]).to(features.dtype)


def logit(layer: nn.Conv2d, hidden: Tensor) -> Tensor:
    """hidden (B, f, 4, 4) → (B,), never in bfloat16: it has 8 bits, and losses compare logits with 1 and each other."""
    with torch.autocast(hidden.device.type, enabled=False):
        return cast(Tensor, layer(hidden.to(cast(Tensor, layer.bias).dtype))).flatten()


def initialise(module: nn.Module) -> None:
    """StackGAN's `weights_init`, for `module.apply`: convolutions keep PyTorch's bias, linear layers get zero."""
    _initialise(module, lambda weight: nn.init.normal_(weight, 0.0, 0.02))


def initialise_orthogonal(module: nn.Module) -> None:
    """StackGAN++'s and AttnGAN's `weights_init`, for `module.apply`: as StackGAN's, with orthogonal weights."""
    _initialise(module, nn.init.orthogonal_)


def _initialise(module: nn.Module, weights: Callable[[Tensor], Tensor]) -> None:
    if is_parametrized(module):
        return
    if isinstance(module, nn.Conv2d | nn.Linear):
        weights(module.weight)
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
    if isinstance(module, nn.Linear | nn.BatchNorm1d | nn.BatchNorm2d) and module.bias is not None:
        nn.init.zeros_(module.bias)
