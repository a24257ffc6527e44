"""Writers of the published weight formats, byte by byte, independent of the project's own."""

import io
import itertools
import struct
import sys

import numpy as np

# --- Skip-Thought --------------------------------------------------------------------------------------------------


def gru_arrays(rng, E, D, prefixes=("",), scale=1.0):
    arrays = {}
    for prefix in prefixes:
        for key, shape in {
            "W": (E, 2 * D),
            "b": (2 * D,),
            "U": (D, 2 * D),
            "Wx": (E, D),
            "bx": (D,),
            "Ux": (D, D),
        }.items():
            values = rng.standard_normal(shape) * scale / np.sqrt(shape[0] if len(shape) > 1 else 4)
            arrays[f"encoder_{prefix}{key}"] = values.astype(np.float32)
    return arrays


def write_npz(path, arrays):
    """As training saved them: with the decoder's arrays and a list of errors among them."""
    decoder = {"decoder_W": np.zeros((3, 3), np.float32), "ff_logit_b": np.zeros(7, np.float32)}
    np.savez(path, history_errs=np.array([]), Wemb=np.zeros((5, 3), np.float32), **arrays, **decoder)


def python2_object_array(vectors, flat=(), function=b"cnumpy.core.multiarray\n_reconstruct\n"):
    """The bytes of np.save under Python 2: an object array of arrays (1, E), or (E,) for rows in `flat`.

    cPickle, protocol 2, memoises what has more than one reference: the names, arrays and dtypes, not the data.
    """
    header = f"{{'descr': '|O', 'fortran_order': False, 'shape': ({len(vectors)},), }}"
    header += " " * (-(len(header) + 11) % 16) + "\n"
    out = io.BytesIO()
    out.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
    memo = iter(range(1, 1 << 30))

    def put():
        n = next(memo)
        return b"q" + struct.pack("<B", n) if n < 256 else b"r" + struct.pack("<I", n)

    def number(n):
        return (
            b"K" + struct.pack("<B", n)
            if n < 256
            else b"M" + struct.pack("<H", n)
            if n < 65536
            else b"J" + struct.pack("<i", n)
        )

    first = b"\x80\x02" + function + put() + b"cnumpy\nndarray\n" + put()
    out.write(first + b"K\x00\x85U\x01b\x87R" + put())
    out.write(b"(K\x01" + number(len(vectors)) + b"\x85cnumpy\ndtype\n")
    out.write(put())
    out.write(b"U\x02O8K\x00K\x01\x87R" + put() + b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb\x89]" + put())
    dtype = None
    for start in range(0, len(vectors), 1000):  # cPickle appends in batches of 1000
        out.write(b"(")
        for i in range(start, min(start + 1000, len(vectors))):
            out.write(b"h\x01h\x02K\x00\x85U\x01b\x87R" + put() + b"(K\x01")
            E = vectors.shape[1]
            out.write(number(E) + b"\x85" if i in flat else b"K\x01" + number(E) + b"\x86")
            if dtype is None:
                out.write(b"h\x04U\x02f4K\x00K\x01\x87R")
                key = next(memo)
                out.write(b"q" + bytes([key]) + b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb")
                dtype = b"h" + bytes([key])
            else:
                out.write(dtype)
            data = vectors[i].astype("<f4").tobytes()
            out.write(
                b"\x89"
                + (b"U" + bytes([len(data)]) if len(data) < 256 else b"T" + struct.pack("<i", len(data)))
                + data
                + b"tb"
            )
        out.write(b"e")
    out.write(b"tb.")
    return out.getvalue()


# --- Torch7 --------------------------------------------------------------------------------------------------------


class Obj:
    """A Torch object to be written: class name and fields."""

    def __init__(self, typename, **fields):
        self.typename, self.fields = typename, fields


class View:
    """A tensor into a flat storage that others share."""

    def __init__(self, storage, shape, offset, kind="Float"):
        self.storage, self.shape, self.offset, self.kind = storage, shape, offset, kind


class Function:
    """A Lua function: bytecode that no reader may run."""


class Storage:
    def __init__(self, values, kind="Float"):
        self.values, self.kind = np.asarray(values), kind


class Torch7:
    """A writer after torch7's File.lua."""

    def __init__(self):
        self.out = io.BytesIO()
        self.index = {}
        self.kept = []

    @classmethod
    def bytes(cls, value):
        writer = cls()
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(50_000)
        try:
            writer.write(value)
        finally:
            sys.setrecursionlimit(limit)
        return writer.out.getvalue()

    def pack(self, form, *values):
        self.out.write(struct.pack("<" + form, *values))

    def string(self, text):
        data = text if isinstance(text, bytes) else text.encode()
        self.pack("i", len(data))
        self.out.write(data)

    def known(self, value, kind):
        self.pack("i", kind)
        if id(value) in self.index:
            self.pack("i", self.index[id(value)])
            return True
        self.kept.append(value)
        self.index[id(value)] = len(self.index) + 1
        self.pack("i", self.index[id(value)])
        return False

    def write(self, value):
        if value is None:
            self.pack("i", 0)
        elif isinstance(value, bool):
            self.pack("ii", 5, value)
        elif isinstance(value, int | float):
            self.pack("id", 1, value)
        elif isinstance(value, str | bytes):
            self.pack("i", 2)
            self.string(value)
        elif isinstance(value, Function):
            if not self.known(value, 8):
                self.string(b"\x1bLJ\x01\x00not to be run")
                self.write({})
        elif isinstance(value, list):
            self.write_table(value, dict(enumerate(value, 1)))
        elif isinstance(value, dict):
            self.write_table(value, value)
        elif isinstance(value, Storage):
            if not self.known(value, 4):
                self.string("V 1")
                self.string(f"torch.{value.kind}Storage")
                self.pack("q", value.values.size)
                self.out.write(value.values.tobytes())
        elif isinstance(value, View):
            if not self.known(value, 4):
                self.string("V 1")
                self.string(f"torch.{value.kind}Tensor")
                strides = [int(np.prod(value.shape[i + 1 :])) for i in range(len(value.shape))]
                self.pack("i", len(value.shape))
                self.pack(f"{2 * len(value.shape) + 1}q", *value.shape, *strides, value.offset + 1)
                self.write(value.storage)
        elif isinstance(value, Obj):
            if not self.known(value, 4):
                self.string("V 1")
                self.string(value.typename)
                self.write(value.fields)
        else:
            raise TypeError(type(value))

    def write_table(self, key, table):
        if not self.known(key, 3):
            self.pack("i", len(table))
            for name, value in table.items():
                self.write(name)
                self.write(value)


def tensor(values, kind="Float"):
    values = np.asarray(values)
    return View(Storage(values.ravel(), kind), values.shape, 0, kind)


# --- char-CNN-RNN --------------------------------------------------------------------------------------------------

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
    flat, views = [], {}

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
