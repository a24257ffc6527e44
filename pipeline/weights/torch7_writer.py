"""Torch7's serialisation (.t7), written: the format is described in `torch7`, which reads it."""

import struct

import numpy as np

from pipeline.weights import reed


class NetworkWriter:
    """Just enough of Torch7's binary serialisation for one network of the COCO variant."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.objects = 0
        self.written: dict[int, int] = {}
        self.kept: list[object] = []

    def network(
        self,
        convolutions: tuple,
        maps: dict[str, reed.Map],
        projection: reed.Map,
        steps: int,
        *,
        untrained: bool,
    ) -> bytes:
        """The bytes of a .t7 file whose root is the network.

        Args:
            convolutions: three maps, weight (outputs, kernel × inputs).
            maps: by the names of `reed.GRU_MAPS`, each shared by all steps.
            projection: weight (dim, width) and bias (dim,).
            steps: columns that leave the convolutions, and so recurrent steps.
            untrained: let the network say of itself that nobody trained it.
        """
        layers = []
        for i, ((weight, bias), frame) in enumerate(zip(convolutions, (reed.ALPHABET, *map(_width, convolutions)))):
            layers.append(
                ("nn.TemporalConvolution", {
                    "weight": weight, "bias": bias, "kW": weight.shape[1] // frame, "dW": 1,
                    "inputFrameSize": frame, "outputFrameSize": len(weight),
                })
            )  # fmt: skip
            layers.append(("nn.Threshold", {"threshold": 1e-6, "val": 0, "inplace": False}))
            if i < 2:
                layers.append(("nn.TemporalMaxPooling", {"kW": 3, "dW": 3}))
        linear = {name: _linear(weight, bias) for name, (weight, bias) in maps.items()}
        recurrent: list = [("nn.Identity", {}), linear["input"], ("nn.Tanh", {})]
        for _ in range(steps - 1):
            names = iter(reed.GRU_MAPS)
            for kind in reed.GRU_STEP + ["CAddTable"]:
                fields = {"constant_scalar": -1} if kind == "MulConstant" else {}
                recurrent.append(linear[next(names)] if kind == "Linear" else (f"nn.{kind}", fields))
        recurrent.append(("nn.MulConstant", {"constant_scalar": 1 / steps, "inplace": False}))
        weight, bias = projection
        self.value(
            ("nn.gModule", {
                **({"untrained": True} if untrained else {}),
                "train": False,
                "modules": [
                    ("nn.Identity", {}),
                    ("nn.Sequential", {"modules": layers}),
                    ("nn.SplitTable", {"dimension": 2}),
                    ("nn.gModule", {"modules": recurrent}),
                    ("nn.Dropout", {"p": 0}),
                    ("nn.Linear", {"weight": weight, "bias": bias}),
                ],
            })
        )  # fmt: skip
        return b"".join(self.parts)

    def value(self, value: object) -> None:
        match value:
            case bool():
                self.parts.append(struct.pack("<ii", 5, value))
            case int() | float():
                self.parts.append(struct.pack("<id", 1, value))
            case str():
                self.parts.append(struct.pack("<i", 2) + self.string(value))
            case list():
                self.value(dict(enumerate(value, 1)))
            case dict():
                self.parts.append(struct.pack("<iii", 3, self.index(), len(value)))
                for key, item in value.items():
                    self.value(key)
                    self.value(item)
            case np.ndarray():
                if self.head(value, "torch.FloatTensor"):
                    strides = [stride // 4 for stride in value.strides]
                    longs = (*value.shape, *strides, 1)
                    self.parts.append(struct.pack(f"<i{len(longs)}q", value.ndim, *longs))
                    self.parts.append(struct.pack("<ii", 4, self.index()) + self.string("V 1"))
                    self.parts.append(self.string("torch.FloatStorage") + struct.pack("<q", value.size))
                    self.parts.append(value.astype("<f4").tobytes())
            case (str() as typename, dict() as fields):
                if self.head(value, typename):
                    self.value(fields)
            case _:
                raise TypeError(type(value))

    def head(self, value: object, typename: str) -> bool:
        """Begin a torch object; False if the file holds it already (the time steps share their maps)."""
        known = self.written.get(id(value))
        if known is not None:
            self.parts.append(struct.pack("<ii", 4, known))
            return False
        self.kept.append(value)
        self.written[id(value)] = self.objects + 1
        self.parts.append(struct.pack("<ii", 4, self.index()) + self.string("V 1") + self.string(typename))
        return True

    def index(self) -> int:
        self.objects += 1
        return self.objects

    def string(self, text: str) -> bytes:
        data = text.encode()
        return struct.pack("<i", len(data)) + data


def _linear(weight: np.ndarray, bias: np.ndarray) -> tuple[str, dict]:
    return ("nn.Sequential", {"modules": [("nn.Linear", {"weight": weight, "bias": bias})]})


def _width(convolution: reed.Map) -> int:
    return len(convolution[1])
