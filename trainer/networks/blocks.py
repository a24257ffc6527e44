"""Building blocks of StackGAN (hanzhanggit/StackGAN-Pytorch, code/model.py), parameters under the same names."""

import math
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized

Norm = Literal["batch", "spectral", "group", "none"]
GROUPS = 8


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    """(B, inputs, h, w) → (B, outputs, h, w)."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


class UpBlock(nn.Sequential):
    """Nearest-neighbour upsampling, 3x3 convolution, BatchNorm, ReLU: (B, inputs, h, w) → (B, outputs, 2h, 2w).

    Upsampling by repetition followed by a 3x3 convolution is one 4x4 transposed convolution of stride 2 whose
    kernel is the 3x3 kernel summed over the repeats: the same numbers for 4/9 of the multiplications, and the
    enlarged input is never written to memory.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__(
            nn.Upsample(scale_factor=2, mode="nearest"),
            conv3x3(inputs, outputs),
            nn.BatchNorm2d(outputs),
            nn.ReLU(True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (B, inputs, s, s) → (B, outputs, 2 s, 2 s)."""
        upsample, convolution, norm, relu = self
        # Of a 4x4 input the padded edge is a third, and there the channels are most: nothing is won.
        small = x.shape[2] < 8
        x = convolution(upsample(x)) if small else upsampled_conv3x3(x, cast(nn.Conv2d, convolution).weight)
        return cast(Tensor, relu(norm(x)))


def upsampled_conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    """conv3x3(upsample(x)) for x (B, i, h, w) and weight (o, i, 3, 3), as one transposed convolution."""
    # Row m of the 4x4 kernel gathers the rows k of the 3x3 kernel that read the same source row: k = 2 - m, 3 - m.
    above, middle, below = weight.unbind(2)
    rows = torch.stack([below, middle + below, above + middle, above], 2)
    left, middle, right = rows.unbind(3)
    kernel = torch.stack([right, middle + right, left + middle, left], 3)
    return F.conv_transpose2d(x, kernel.transpose(0, 1), stride=2, padding=1)


class ResidualBlock(nn.Module):
    """(B, c, h, w) → (B, c, h, w): ReLU(x + conv-BN-ReLU-conv-BN(x))."""

    def __init__(self, channels: int):
        super().__init__()
        self.block = nn.Sequential(
            conv3x3(channels, channels),
            nn.BatchNorm2d(channels),
            nn.ReLU(True),
            conv3x3(channels, channels),
            nn.BatchNorm2d(channels),
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, channels, s, s) → the same shape."""
        return cast(Tensor, self.relu(self.block(x) + x))


def downs(df: int, halvings: int, norm: Norm) -> list[nn.Module]:
    """(B, 3, s, s) → (B, 2^(halvings - 1) df, 4, 4): convolutions 4x4 of stride 2; StackGAN's first has no norm."""
    layers = _normed(3, df, norm, first=True, kernel=4, stride=2)
    for wider in range(halvings - 1):
        layers += _normed(df << wider, df << wider + 1, norm, first=False, kernel=4, stride=2)
    return layers


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
            tiled = condition[:, :, None, None].expand(-1, -1, *features.shape[2:]).to(features.dtype)
            features = torch.cat([features, tiled], 1)
        hidden = self.outlogits[:-1](features)
        # The logit itself in float32: a bfloat16 has 8 bits, and the losses compare logits with 1 and with each other.
        with torch.autocast(features.device.type, enabled=False):
            last = cast(nn.Conv2d, self.outlogits[-1])
            return cast(Tensor, last(hidden.to(cast(Tensor, last.bias).dtype))).flatten()


def initialise(module: nn.Module) -> None:
    """StackGAN's `weights_init`, for `module.apply`: convolutions keep PyTorch's bias, linear layers get zero."""
    if is_parametrized(module):
        return
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
    if isinstance(module, nn.Linear | nn.BatchNorm1d | nn.BatchNorm2d) and module.bias is not None:
        nn.init.zeros_(module.bias)
