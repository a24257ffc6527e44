"""Weights and inputs by formula, and what published networks gave for them, to hold ours against.

The files beside this hold numbers alone: keys with their shapes, outputs, losses, small tables. They came from the
original sources, run with torch 2.15 on a CPU in float32 (`f64` says how far that lay from float64).

Fill A (waves) pins biases, BatchNorm and the last layers; fill B (hashes) has full rank: only B shows that everything
before is right, too. `fill` writes either into a network, `wave` makes inputs, `assert_recorded` holds one output
against its record.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

Fill = Literal["A", "B"]
PHASE, HASH_OFFSET = 0.37, 37
EPSILON = 50  # number of the input that stands for the first noise drawn inside a network


def load(name: str) -> dict[str, Any]:
    """The file of one system."""
    values: dict[str, Any] = json.loads((Path(__file__).parent / f"{name}.json").read_text())
    return values


def wave(number: int, shape: Sequence[int], scale: float = 1.0, shift: float = 0.0) -> Tensor:
    """Input `number`: sin(0.11 i + number) over the flat index i, rounded to float32; float64."""
    i = np.arange(int(np.prod(shape)), dtype=np.float64)
    values = (shift + scale * np.sin(0.11 * i + number)).astype(np.float32).astype(np.float64)
    return torch.from_numpy(values.reshape(tuple(shape)))


def given(record: Mapping[str, Any]) -> Tensor:
    """The input that a record describes: {"j": number, "shape": …}, perhaps with "scale"."""
    return wave(record["j"], record["shape"], record.get("scale", 1.0))


def weights(key: str, shape: Sequence[int], kind: Fill) -> Tensor:
    """The tensor with this state key, rounded to float32; float64."""
    count, crc, last = int(np.prod(shape)), zlib.crc32(key.encode("ascii")), key.rpartition(".")[2]
    i = np.arange(count, dtype=np.uint64)
    if kind == "A":
        wave = np.sin(PHASE * i.astype(np.float64) + crc % 1000)
        if key.endswith("_var"):
            values = 1 + 0.1 * wave**2
        else:
            values = (1.0 if last == "weight" and len(shape) == 1 else 0.0) + 0.05 * wave
    else:
        hashed = _hashes(i, crc)
        if key.endswith("_var"):
            values = 1 + 0.25 * hashed
        elif len(shape) >= 2:
            values = hashed * np.sqrt(6 / np.prod(shape[1:]))
        else:
            values = (1.0 if last == "weight" else 0.0) + 0.1 * hashed
    return torch.from_numpy(values.astype(np.float32).astype(np.float64).reshape(tuple(shape)))


def _hashes(i: np.ndarray, crc: int) -> np.ndarray:
    """(n,) float64 in [-1, 1)."""
    mask = np.uint64(0xFFFFFFFF)
    x = (i + np.uint64(crc) + np.uint64(HASH_OFFSET)) & mask
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = ((x ^ (x >> np.uint64(shift))) * np.uint64(factor)) & mask
    x ^= x >> np.uint64(16)
    return np.asarray(x.astype(np.float64) / 2**31 - 1)


def fill(network: nn.Module, kind: Fill, prefix: str = "") -> nn.Module:
    """Write every tensor by its key (`prefix` and the network's own), in float64; vectors of spectral norms, too."""
    network.double()
    state = network.state_dict()
    for key, tensor in state.items():
        counter = key.endswith("num_batches_tracked")
        tensor.copy_(torch.zeros_like(tensor) if counter else weights(prefix + key, tensor.shape, kind))
    for key in [key for key in state if key.endswith("weight_u")]:
        matrix = state[key[:-1] + "orig"].flatten(1)
        u = state[key] / state[key].norm()
        for _ in range(3):
            v = matrix.T @ u
            v = v / v.norm()
            u = matrix @ v
            u = u / u.norm()
        state[key].copy_(u)
        state[key[:-1] + "v"].copy_(v)
    return network


def keys(network: nn.Module) -> list[list[Any]]:
    """[key, shape] in state order, as the files have them."""
    return [[key, list(tensor.shape)] for key, tensor in network.state_dict().items()]


def assert_recorded(found: Tensor, expected: Mapping[str, Any]) -> None:
    """Hold a float64 tensor against a record: shape, first and last values, mean, deviation, sum of absolutes."""
    assert found.dtype == torch.float64
    assert list(found.shape) == expected["shape"]
    flat, off = found.detach().flatten().numpy(), float(expected["f64"])
    exact = "mean64" in expected
    ending = "64" if exact else ""
    allowed = 1e-9 if exact else 1.2 * off + 1e-9
    for name, ours in (("first", flat[:8]), ("last", flat[-8:])):
        theirs = np.array(expected[name + ending])
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=allowed, err_msg=name)
    np.testing.assert_allclose(flat.mean(), expected["mean" + ending], rtol=1e-6, atol=allowed, err_msg="mean")
    np.testing.assert_allclose(flat.std(), expected["std" + ending], rtol=1e-6, atol=allowed, err_msg="std")
    total = np.abs(flat).sum()
    np.testing.assert_allclose(total, expected["abs" + ending], rtol=1e-6, atol=allowed * flat.size, err_msg="abs")


def assert_buffers(network: nn.Module, expected: Mapping[str, float]) -> None:
    """Hold BatchNorm's statistics after one forward in training mode against a record."""
    state = network.state_dict()
    means = sum(float(value.abs().sum()) for key, value in state.items() if key.endswith("running_mean"))
    variances = sum(float(value.sum()) for key, value in state.items() if key.endswith("running_var"))
    np.testing.assert_allclose(means, expected["running_mean_abs"], rtol=2e-6, err_msg="running means")
    np.testing.assert_allclose(variances, expected["running_var_sum"], rtol=2e-6, err_msg="running variances")
