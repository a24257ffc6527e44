"""Layers as sums over plain numbers, for the equations that modules are held to."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def dot(one: Sequence[float], other: Sequence[float]) -> float:
    """The sum of products."""
    return sum(a * b for a, b in zip(one, other, strict=True))


def linear(layer: torch.nn.Module, x: list[float]) -> list[float]:
    """What a linear layer makes of one vector."""
    assert isinstance(layer, torch.nn.Linear)
    return [float(bias) + dot([float(w) for w in row], x) for row, bias in zip(layer.weight, layer.bias, strict=True)]


def two_layers(layers: torch.nn.Module, x: list[float]) -> list[float]:
    """Linear, LeakyReLU of 0.2, linear."""
    assert isinstance(layers, torch.nn.Sequential)
    return linear(layers[2], [value if value > 0 else 0.2 * value for value in linear(layers[0], x)])


def layer_norm(layer: torch.nn.Module, x: list[float]) -> list[float]:
    """Less the mean, over the standard deviation, times a gain, and a shift."""
    assert isinstance(layer, torch.nn.LayerNorm)
    mean = sum(x) / len(x)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in x) / len(x) + layer.eps)
    gains = zip(x, layer.weight, layer.bias, strict=True)
    return [(value - mean) / deviation * float(w) + float(shift) for value, w, shift in gains]


def softmax(fits: list[float]) -> list[float]:
    """Shares that sum to 1."""
    return [math.exp(fit) / sum(map(math.exp, fits)) for fit in fits]


def at(picture: Tensor, b: int, y: int, x: int) -> list[float]:
    """The channels of one place of (B, c, h, w)."""
    return [float(value) for value in picture[b, :, y, x]]
