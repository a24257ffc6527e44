"""One deep comparison of what is saved and loaded: mappings, sequences, tensors, arrays, plain values."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def assert_same(one: Any, other: Any, where: str = "value") -> None:
    """Equal to the bit, with equal types at every place; the message names the first place that differs.

    Two NaN of equal bits are the same, 0.0 and -0.0 are not.
    """
    assert type(one) is type(other), f"{where}: {type(one).__name__} and {type(other).__name__}"
    if isinstance(one, Mapping):
        assert one.keys() == other.keys(), f"{where}: keys {sorted(map(str, one.keys() ^ other.keys()))} in one only"
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), f"{where}: {len(one)} and {len(other)} elements"
        for number, (a, b) in enumerate(zip(one, other)):
            assert_same(a, b, f"{where}[{number}]")
    elif isinstance(one, np.ndarray):
        _assert_same_array(one, other, where)
    elif hasattr(one, "detach"):
        assert one.device == other.device, f"{where}: on {one.device} and on {other.device}"
        assert one.dtype == other.dtype, f"{where}: {one.dtype} and {other.dtype}"
        _assert_same_array(_bits(one), _bits(other), where)
    elif isinstance(one, float):
        assert one.hex() == other.hex(), f"{where}: {one!r} and {other!r}"
    else:
        assert one == other, f"{where}: {one!r} and {other!r}"


def same(one: Any, other: Any) -> bool:
    """Whether `assert_same` lets them pass."""
    try:
        assert_same(one, other)
    except AssertionError:
        return False
    return True


def _bits(tensor: Any) -> np.ndarray:
    """A tensor's elements as so many bytes each: of any dtype, bfloat16 too."""
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return flat.view(f"V{tensor.element_size()}").reshape(tuple(tensor.shape))


def _assert_same_array(one: np.ndarray, other: np.ndarray, where: str) -> None:
    assert one.dtype == other.dtype, f"{where}: {one.dtype} and {other.dtype}"
    assert one.shape == other.shape, f"{where}: {one.shape} and {other.shape}"
    if one.tobytes() != other.tobytes():
        apart = np.frombuffer(one.tobytes(), f"V{one.itemsize}") != np.frombuffer(other.tobytes(), f"V{one.itemsize}")
        raise AssertionError(f"{where}: {int(apart.sum())} of {one.size} elements differ")
