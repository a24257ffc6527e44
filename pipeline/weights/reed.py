"""Reed's char-CNN-RNN out of a .t7 file: which variant the file holds, and its weights.

Published by reedscot/cvpr2016 and reedscot/icml2016 as nngraph modules. The variants differ in widths, in a third
pooling, in the number of recurrent steps and in the recurrence; all of it is read from the file.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.weights import WeightsError, torch7
from pipeline.weights.torch7 import TorchObject

ALPHABET = 70
LENGTH = 201
MOST = 1 << 20  # of anything that is counted
KERNEL = 4  # characters under each convolution, as published
MOST_THRESHOLD = 1.0  # published: 1e-6; a network whose activations all fall below says nothing

# nngraph sorts a graph's modules topologically, always in this order: one time step of FixedGRU.lua, step 2 onwards.
GATE = ["Linear", "Linear", "CAddTable", "Sigmoid"]
GRU_STEP = [
    *("Identity", *GATE, "Linear", *GATE, "CMulTable", "Linear", "CAddTable", "Tanh"),
    *("CMulTable", "MulConstant", "AddConstant", "CMulTable", "CAddTable"),
]
GRU_MAPS = ("input_update", "hidden_update", "input", "input_reset", "hidden_reset", "hidden")
RNN_MAPS = ("input", "hidden")

Map = tuple[np.ndarray, np.ndarray]  # weight (out, in), bias (out,)


@dataclass(frozen=True)
class Pool:
    """Temporal max pooling: `width` columns, every `stride`."""

    width: int
    stride: int


@dataclass(frozen=True)
class CharCnnRnnWeights:
    """Everything that one char-CNN-RNN file says. Arrays are float32 and own their memory."""

    convolutions: tuple[Map, Map, Map]  # weight (out, kernel × in), column kernel-major as TemporalConvolution's
    pools: tuple[Pool | None, Pool | None, Pool | None]
    threshold: float  # activations at or below it become 0
    recurrence: Literal["gru", "rnn"]
    steps: int
    average: bool  # mean over the steps, else the last one
    maps: dict[str, Map]  # names of GRU_MAPS or RNN_MAPS
    projection: Map
    untrained: bool

    @property
    def dim(self) -> int:
        """Length of the vector that one text becomes."""
        return len(self.projection[1])

    @property
    def variant(self) -> str:
        """Such as "gru18-mean-512": recurrence and steps, what is read out, width."""
        return f"{self.recurrence}{self.steps}-{'mean' if self.average else 'last'}-{self.projection[0].shape[1]}"


def load(path: Path) -> CharCnnRnnWeights:
    """The network in `path`: the file's root itself (COCO) or its `protos.enc_doc` (birds, flowers).

    Raises:
        WeightsError: not a Torch7 file, not a char-CNN-RNN, or its time steps do not share their weights.
    """
    root = torch7.load(path)
    net = root
    if isinstance(root, dict):
        protos = root.get("protos")
        net = protos.get("enc_doc") if isinstance(protos, dict) else None
    try:
        return _network(net)
    except (_Unexpected, LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        said = str(error) if isinstance(error, _Unexpected) else f"{type(error).__name__}: {error}"
        raise WeightsError(f"{path}: not a char-CNN-RNN as published by Reed et al. ({said})") from None


class _Unexpected(Exception):
    pass


def _network(net: Any) -> CharCnnRnnWeights:
    if not isinstance(net, TorchObject) or net.name != "gModule":
        raise _Unexpected("the file holds neither an nn.gModule nor protos.enc_doc")
    outer = net.list("modules")
    names = [module.name for module in outer]
    if names != ["Identity", "Sequential", "SplitTable", "gModule", "Dropout", "Linear"]:
        raise _Unexpected(f"modules are {', '.join(names[:12])}")
    convolutions, pools, threshold = _convolutions(outer[1].list("modules"))
    maps, recurrence, steps, average = _recurrence(outer[3].list("modules"))
    weights = CharCnnRnnWeights(
        convolutions, pools, threshold, recurrence, steps, average, maps, _map(outer[5]),
        untrained=bool(net.fields.get("untrained")),
    )  # fmt: skip
    _check_widths(weights)
    return weights


def _convolutions(modules: list[TorchObject]) -> tuple[Any, Any, float]:
    convolutions: list[Map] = []
    pools: list[Pool | None] = []
    thresholds = set()
    for module in modules:
        if module.name == "TemporalConvolution":
            if _whole(module, "dW", 1) != 1:
                raise _Unexpected("a convolution with a stride")
            weight, bias = _map(module)
            kernel, inputs = _whole(module, "kW", KERNEL), _whole(module, "inputFrameSize", weight.shape[1] // KERNEL)
            if weight.shape != (_whole(module, "outputFrameSize", len(bias)), kernel * inputs):
                raise _Unexpected(
                    f"a convolution of shape {weight.shape} for {inputs} channels and a width of {kernel}"
                )
            convolutions.append((weight, bias))
            pools.append(None)
        elif module.name == "TemporalMaxPooling":
            pools[-1] = Pool(_whole(module, "kW"), _whole(module, "dW"))
        elif module.name in ("Threshold", "ReLU"):
            if module.fields.get("val", 0) != 0:
                raise _Unexpected("a threshold with another value than 0")
            threshold = float(module.fields.get("threshold", 1e-6 if module.name == "Threshold" else 0))
            if not abs(threshold) <= MOST_THRESHOLD:
                raise _Unexpected(f"a threshold of {threshold}")
            thresholds.add(threshold)
        else:
            raise _Unexpected(f"{module.typename} among the convolutions")
    if len(convolutions) != 3 or len(thresholds) != 1:
        raise _Unexpected(f"{len(convolutions)} convolutions with thresholds {sorted(thresholds)}")
    return tuple(convolutions), tuple(pools), thresholds.pop()


def _recurrence(modules: list[TorchObject]) -> tuple[dict[str, Map], Literal["gru", "rnn"], int, bool]:
    kinds = ["Linear" if _linear(module) is not None else module.name for module in modules]
    linears = [linear for linear in map(_linear, modules) if linear is not None]
    steps = kinds.count("Identity")
    average = bool(kinds) and kinds[-1] == "MulConstant"
    if not 1 <= steps <= LENGTH:
        raise _Unexpected(f"{steps} recurrent steps")
    names: tuple[str, ...]
    kind: Literal["gru", "rnn"]
    if kinds.count("Sigmoid"):
        block = GRU_STEP + ["CAddTable"] * average
        expected = ["Identity", "Linear", "Tanh"] + block * (steps - 1) + ["MulConstant"] * average
        if kinds != expected:
            raise _Unexpected("the GRU's modules are not in nngraph's order")
        names, kind = GRU_MAPS, "gru"
    else:
        names, kind = RNN_MAPS, "rnn"
        if kinds.count("ReLU") != steps or len(linears) != 2 * steps - 1:
            raise _Unexpected(f"{steps} steps with {kinds.count('ReLU')} ReLUs and {len(linears)} maps")
    constants = [module for module in modules if module.name in ("MulConstant", "AddConstant")]
    if average:
        _constant(constants.pop(), 1 / steps)
    for module in constants:  # 1 - update gate
        _constant(module, -1 if module.name == "MulConstant" else 1)
    maps = {"input": _map(linears[0])}
    for i, linear in enumerate(linears[1:]):
        name = names[i % len(names)]
        first = maps.setdefault(name, _map(linear) if name not in maps else maps[name])
        weight, bias = linear.fields["weight"], linear.fields["bias"]
        if not (np.array_equal(weight, first[0]) and np.array_equal(bias, first[1])):
            raise _Unexpected(f"map {name} differs between time steps (step {2 + i // len(names)})")
    return {name: maps[name] for name in names}, kind, steps, average


def _constant(module: TorchObject, expected: float) -> None:
    found = module.fields.get("constant_scalar", expected)
    if isinstance(found, bool) or not abs(found / expected - 1) <= 1e-6:
        raise _Unexpected(f"{module.typename} by {found}, not by {expected:.6g}")


def _whole(module: TorchObject, field: str, default: int | None = None) -> int:
    """A field that counts something: a whole number from 1."""
    value = module.fields.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= MOST or value != int(value):
        raise _Unexpected(f"{module.typename} with {field} of {value!r:.40}")
    return int(value)


def _linear(module: TorchObject) -> TorchObject | None:
    """The nn.Linear that `module` is or, alone in an nn.Sequential, holds."""
    if module.name == "Sequential" and len(module.list("modules")) == 1:
        module = module.list("modules")[0]
    return module if module.name == "Linear" else None


def _map(module: TorchObject) -> Map:
    weight, bias = module.fields["weight"], module.fields["bias"]
    arrays = isinstance(weight, np.ndarray) and isinstance(bias, np.ndarray)
    if not arrays or (weight.ndim, bias.ndim, weight.dtype.kind, bias.dtype.kind) != (2, 1, "f", "f"):
        raise _Unexpected(f"{module.typename} without weight and bias")
    weight, bias = np.array(weight, np.float32, order="C"), np.array(bias, np.float32)
    if len(weight) != len(bias) or not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise _Unexpected(
            f"{module.typename} with weight {weight.shape} and bias {bias.shape}, or with values not finite"
        )
    return weight, bias


def _check_widths(weights: CharCnnRnnWeights) -> None:
    width, columns = ALPHABET, LENGTH
    for (weight, _), pool in zip(weights.convolutions, weights.pools):
        kernel, rest = divmod(weight.shape[1], width)
        if rest or kernel < 1:
            raise _Unexpected(f"a convolution of {weight.shape[1]} columns over {width} channels")
        columns = columns - kernel + 1
        if pool:
            columns = (columns - pool.width) // pool.stride + 1
        width = len(weight)
    if columns != weights.steps:
        raise _Unexpected(f"{columns} columns leave the convolutions, but there are {weights.steps} recurrent steps")
    for name, (weight, _) in weights.maps.items():
        if weight.shape != (width, width):
            raise _Unexpected(f"map {name} has shape {weight.shape}, not {(width, width)}")
    if weights.projection[0].shape[1] != width:
        raise _Unexpected(f"the projection reads {weights.projection[0].shape[1]} values, not {width}")
