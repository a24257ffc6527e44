"""What "C4-64-2,C4-128-2" says: convolutions one after the other, by kernel, channels and stride (google/sg2im)."""

import re
from typing import NamedTuple

_LAYER = re.compile(r"C(\d{1,4})-(\d{1,4})-(\d{1,4})")


class Layer(NamedTuple):
    """One convolution, without padding."""

    kernel: int
    channels: int
    stride: int


def layers(arch: str) -> list[Layer]:
    """The convolutions that `arch` names.

    Raises:
        ValueError: something else stands there.
    """
    found = [_LAYER.fullmatch(one) for one in arch.split(",")]
    named = [Layer(*map(int, one.groups())) for one in found if one is not None]
    if len(named) < len(found) or any(min(one) < 1 for one in named):
        raise ValueError(f"arch {arch!r}: expected convolutions such as C4-64-2,C4-128-2 (kernel, channels, stride)")
    return named


def smallest(arch: str) -> int:
    """The least side of pictures of which one place is left behind the last convolution."""
    side = 1
    for layer in reversed(layers(arch)):
        side = (side - 1) * layer.stride + layer.kernel
    return side
