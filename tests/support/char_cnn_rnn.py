"""Reed's networks as he published them: a small one of each shape, and its .t7 as training on a GPU left it."""

import itertools

import numpy as np

from tests.support.torch7 import Function, Obj, Storage, Torch7, View, tensor

GRU_NAMES = ["i2h_update", "h2h_update", "i2h", "i2h_reset", "h2h_reset", "h2h"]


def random_net(rng, variant="coco", widths=(12, 16, 10), dim=14):
    """A small network of one of the published shapes, as references.char_cnn_rnn takes it."""
    long = variant in ("coco", "icml-birds", "last")
    pools = [(3, 3), (3, 3), None if long else (3, 2)]
    convolutions, inputs = [], 70
    for width, pool in zip(widths, pools):
        weight = rng.standard_normal((width, 4 * inputs)) * (1.0 if inputs == 70 else 1.4 / np.sqrt(4 * inputs))
        convolutions.append((weight.astype(np.float32), (0.1 * rng.standard_normal(width)).astype(np.float32), pool))
        inputs = width

    def linear(rows, columns):
        weight = rng.standard_normal((rows, columns)) / np.sqrt(columns)
        return weight.astype(np.float32), (0.1 * rng.standard_normal(rows)).astype(np.float32)

    names = GRU_NAMES if long else ["i2h", "h2h"]
    return {
        "convolutions": convolutions,
        "recurrence": "gru" if long else "rnn",
        "steps": 18 if long else 8,
        "average": variant != "last",
        "maps": {name: linear(inputs, inputs) for name in names},
        "linear": linear(dim, inputs),
    }


def char_cnn_rnn_t7(net, root="bare", kind="Cuda", package="cudnn", different_step=None):
    """A .t7 as saved after training on a GPU: every parameter a view into one flat storage, each time step's modules
    objects of their own, output buffers, nngraph's nodes with their cycles, and a function."""
    flat: list[np.ndarray] = []
    views = {}

    def place(name, values):
        views[name] = (sum(v.size for v in flat), values.shape)
        flat.append(np.ascontiguousarray(values))

    for i, (weight, bias, _) in enumerate(net["convolutions"]):
        place(("conv", i, "weight"), weight)
        place(("conv", i, "bias"), bias)
    for name, (weight, bias) in net["maps"].items():
        place((name, "weight"), weight)
        place((name, "bias"), bias)
    place(("linear", "weight"), net["linear"][0])
    place(("linear", "bias"), net["linear"][1])
    if different_step:
        place(("other", "weight"), net["maps"][different_step][0] + 1e-3)
    storage = Storage(np.concatenate([v.ravel() for v in flat]).astype(np.float32), kind)
    gradients = Storage(np.zeros(storage.values.size, np.float32), kind)

    def parameters(*key):
        result = {}
        for part in ("weight", "bias"):
            offset, shape = views[(*key, part)]
            result[part] = View(storage, shape, offset, kind)
            result["grad" + part.capitalize()] = View(gradients, shape, offset, kind)
        return result

    def module(typename, **fields):
        return Obj(typename, output=tensor(np.zeros((2, 3), np.float32), kind), train=False, **fields)

    layers = []
    for i, (weight, _, pool) in enumerate(net["convolutions"]):
        inputs = weight.shape[1] // 4
        layers.append(
            module(
                "nn.TemporalConvolution",
                **parameters("conv", i),
                kW=4,
                dW=1,
                inputFrameSize=inputs,
                outputFrameSize=len(weight),
            )
        )
        layers.append(module("nn.Threshold", threshold=1e-6, val=0, inplace=False))
        if pool:
            layers.append(module("nn.TemporalMaxPooling", kW=pool[0], dW=pool[1]))

    uses = dict.fromkeys(net["maps"], 0)

    def gate(name):
        uses[name] += 1
        fields = parameters(name)
        if name == different_step and uses[name] == 3:
            fields["weight"] = View(storage, views["other", "weight"][1], views["other", "weight"][0], kind)
        return module("nn.Sequential", modules=[module("nn.Linear", **fields)])

    def n(name, **fields):
        return module(f"nn.{name}", **fields)

    def pointwise(name):
        return module(f"{package}.{name}")

    gru = net["recurrence"] == "gru"
    inner = [n("Identity"), gate("i2h"), pointwise("Tanh" if gru else "ReLU")]
    for _ in range(net["steps"] - 1):
        if gru:
            inner += [
                n("Identity"),
                gate("i2h_update"),
                gate("h2h_update"),
                n("CAddTable"),
                pointwise("Sigmoid"),
                gate("i2h"),
            ]
            inner += [
                gate("i2h_reset"),
                gate("h2h_reset"),
                n("CAddTable"),
                pointwise("Sigmoid"),
                n("CMulTable"),
                gate("h2h"),
            ]
            inner += [n("CAddTable"), pointwise("Tanh"), n("CMulTable"), n("MulConstant", constant_scalar=-1)]
            inner += [n("AddConstant", constant_scalar=1), n("CMulTable"), n("CAddTable")]
        else:
            inner += [n("Identity"), gate("i2h"), gate("h2h"), n("CAddTable"), pointwise("ReLU")]
        if net["average"]:
            inner.append(n("CAddTable"))
    if net["average"]:
        inner.append(n("MulConstant", constant_scalar=1 / net["steps"], inplace=False))

    nodes = [Obj("nngraph.Node", id=i, children=[], data={"module": m}, visited=False) for i, m in enumerate(inner, 1)]
    for before, after in itertools.pairwise(nodes):
        before.fields["children"].append(after)
        after.fields["data"]["mapindex"] = [before.fields["data"]]
        before.fields["children"].append(nodes[0])  # a cycle
    graph = Obj("graph.Graph", nodes=nodes, edges=[])
    recurrent = module(
        "nn.gModule", modules=inner, fg=graph, bg=graph, forwardnodes=nodes, verbose=False, nInputs=net["steps"]
    )
    net_obj = module(
        "nn.gModule",
        forwardnodes=[Obj("nngraph.Node", id=1, data={"module": recurrent})],
        accGradParameters=Function(),
        modules=[
            n("Identity"),
            module("nn.Sequential", modules=layers),
            n("SplitTable", dimension=2),
            recurrent,
            n("Dropout", p=0),
            module("nn.Linear", **parameters("linear")),
        ],
    )
    if root == "protos":
        return Torch7.bytes(
            {"protos": {"enc_doc": net_obj, "enc_image": n("Linear")}, "opt": {"emb_dim": 1024}, "i": 7}
        )
    return Torch7.bytes(net_obj)
