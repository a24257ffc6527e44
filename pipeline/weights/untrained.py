"""Untrained encoder weights in the published formats: for the sample world, and for trials without the published files.

Nobody trained these, and every store made from them says so. They are drawn such that a vector keeps what its text
said, as far as chance can: orthogonal recurrences with long memory, inputs scaled to stay in tanh's linear part, so
that a linear map can read words, and roughly their order, out of the last state.
"""

import io
import json
import os
import shutil
import struct
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from pipeline import tokens
from pipeline.texts import TextSettings, collapse, turn
from pipeline.weights import published, reed, theano
from pipeline.weights.hashing import write_atomically

if TYPE_CHECKING:
    from pipeline.encoders import EncoderSettings

T7_NAME = "coco_untrained.t7"
NOTE = """These weights were made by `chatpainter-prepare weights`. Nobody trained them.
They have the formats of the published files, so that everything runs without those; vectors made with them
are good for trying the road and for the sample world, not for results on real pictures.
"""


@dataclass(frozen=True)
class UntrainedSettings:
    """Section `untrained` of params.yaml. `none` makes no weights: where the published ones are at hand."""

    size: Literal["small", "published", "none"] = "small"
    seed: int = 11


@dataclass(frozen=True)
class Sizes:
    """Widths of the networks; everything else is as published."""

    words: int  # E
    uni: int  # D of uni_skip; bi_skip has half of it each way
    convolutions: tuple[int, int, int]
    captions: int


SIZES = {
    "small": Sizes(words=64, uni=256, convolutions=(128, 256, 256), captions=256),
    "published": Sizes(words=620, uni=2400, convolutions=(384, 512, 512), captions=1024),
}


def make(
    out: Path,
    settings: UntrainedSettings,
    corpora: list[Path],
    text: TextSettings,
    encoders: "EncoderSettings",
) -> list[Path]:
    """Write untrained weights for both encoders into the folder `out`, replacing what it held.

    The dictionary holds every word of the corpora (Parquet files of `chatpainter-prepare corpus`) under the
    settings given, in both its own and its lower case, and UNK and <eos>. The same arguments give the same bytes.

    Returns:
        The files written.
    """
    out = Path(out)
    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    (temporary / "README.txt").write_text(NOTE)
    if settings.size != "none":
        sizes = SIZES[settings.size]
        words = vocabulary(corpora, text, encoders.skip_thought.tokenizer)
        _skip_thought(temporary, words, sizes, settings.seed)
        (temporary / T7_NAME).write_bytes(char_cnn_rnn(sizes, settings.seed))
        marker = {"trained": False, "made_by": "chatpainter-prepare weights", **asdict(settings), "words": len(words)}
        write_atomically(temporary / published.MARKER, json.dumps(marker, indent=1).encode() + b"\n")
    shutil.rmtree(out, ignore_errors=True)
    os.replace(temporary, out)
    return sorted(out.iterdir())


def vocabulary(corpora: list[Path], text: TextSettings, tokenizer: tokens.Name) -> list[str]:
    """Every word of the corpora's captions and dialogues, sorted."""
    tokenize = tokens.tokenizer(tokenizer)
    distinct: set[str] = set()
    for line in _texts(corpora, text):
        distinct.update((line, line.lower()))
    return sorted({word for line in distinct for word in tokenize(line)})


def _texts(corpora: list[Path], settings: TextSettings) -> Iterator[str]:
    import pyarrow.parquet as pq

    for corpus in corpora:
        for batch in pq.ParquetFile(corpus).iter_batches(
            batch_size=512, columns=["captions", "rounds", "visdial_caption"]
        ):
            for row in batch.to_pylist():
                yield from (caption["text"] for caption in row["captions"] or [])
                yield row["visdial_caption"] or ""
                rounds = [(each["question"], each["answer"] or "") for each in row["rounds"] or []]
                yield from (turn(question, answer, settings) for question, answer in rounds)
                yield collapse(rounds, row["visdial_caption"] or "", settings)


# --- Skip-Thought ------------------------------------------------------------------------------------------------


def _skip_thought(out: Path, words: list[str], sizes: Sizes, seed: int) -> None:
    lines = [theano.END, theano.UNKNOWN, *(word for word in words if word not in (theano.END, theano.UNKNOWN))]
    (out / "dictionary.txt").write_bytes("".join(line + "\n" for line in lines).encode("utf-8"))
    for which, (name, prefixes, dim) in enumerate(
        (("uni", ("",), sizes.uni), ("bi", ("", "r_"), sizes.uni // 2)),
    ):
        rng = np.random.default_rng([seed, which])
        vectors = rng.standard_normal((len(lines), sizes.words), np.float32) / np.float32(np.sqrt(sizes.words))
        arrays: dict[str, np.ndarray] = {}
        for prefix in prefixes:
            for key, value in _gru(rng, sizes.words, dim).items():
                arrays[f"encoder_{prefix}{key}"] = value
        arrays["untrained"] = np.ones((), np.int8)
        _write_npz(out / f"{name}_skip.npz", arrays)
        with (out / f"{name[0]}table.npy").open("wb") as file:
            write_object_table(file, vectors, native=range(2, len(lines), 50))


KERNEL = 4  # characters under each convolution, as published

MEMORY = 0.93  # the update gate where nothing pushes it: the share of a state that one step keeps
INPUT = 0.5  # typical size of what a word adds before tanh
RECURRENT = 0.9


def _gru(rng: np.random.Generator, width: int, dim: int) -> dict[str, np.ndarray]:
    f4 = np.float32
    gates = np.concatenate([_orthogonal(rng, dim, dim), _orthogonal(rng, dim, dim)], 1)
    return {
        "W": (0.1 * rng.standard_normal((width, 2 * dim))).astype(f4),
        "b": np.concatenate([np.full(dim, 2.0), np.full(dim, np.log(MEMORY / (1 - MEMORY)))]).astype(f4),
        "U": (0.1 * gates).astype(f4),
        "Wx": (INPUT * rng.standard_normal((width, dim))).astype(f4),
        "bx": np.zeros(dim, f4),
        "Ux": (RECURRENT * _orthogonal(rng, dim, dim)).astype(f4),
    }


def _orthogonal(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r))
    return q if rows >= columns else q.T


def _write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """np.savez writes the time of day into the archive; this does not, so that equal arrays are equal bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(array) if array.ndim else array)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())


def write_object_table(file: io.BufferedWriter, vectors: np.ndarray, native: Iterable[int]) -> None:
    """`vectors` (n, E) float32 as Python 2 pickled Skip-Thought's tables: an array a word, (1, E) or, `native`, (E,).

    Pickle protocol 2 by hand, since Python 3 would write other instructions.
    """
    flat = set(native)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (len(vectors),)})
    file.write(header.getvalue())

    def integer(value: int) -> bytes:
        return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value) if value < 65536 else (
            b"J" + struct.pack("<i", value)
        )  # fmt: skip

    def put(key: int) -> bytes:
        return b"q" + bytes([key]) if key < 256 else b"r" + struct.pack("<I", key)

    file.write(b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03")
    file.write(b"(K\x01" + integer(len(vectors)) + b"\x85")
    file.write(b"cnumpy\ndtype\nq\x04U\x02O8K\x00K\x01\x87Rq\x05(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb")
    file.write(b"\x89]q\x06")
    f4 = b"h\x04U\x02f4K\x00K\x01\x87Rq\x07(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    length = vectors.shape[1]
    size = struct.pack("<I", 4 * length)
    for start in range(0, len(vectors), 1000):
        file.write(b"(")
        for row in range(start, min(start + 1000, len(vectors))):
            shape = integer(length) + b"\x85" if row in flat else b"K\x01" + integer(length) + b"\x86"
            dtype, f4 = f4, b"h\x07"
            file.write(b"h\x01h\x02K\x00\x85U\x01b\x87R" + put(row + 8) + b"(K\x01" + shape + dtype + b"\x89T" + size)
            file.write(vectors[row].astype("<f4").tobytes() + b"tb")
        file.write(b"e")
    file.write(b"tb.")


# --- char-CNN-RNN ------------------------------------------------------------------------------------------------


def char_cnn_rnn(sizes: Sizes, seed: int) -> bytes:
    """A .t7 file of the COCO variant: 18 steps of FixedGRU, mean over the steps; bare gModule as COCO's is."""
    rng = np.random.default_rng([seed, 2])
    c1, c2, c3 = sizes.convolutions

    def convolution(inputs: int, outputs: int, gain: float, bias: float) -> reed.Map:
        weight = rng.standard_normal((outputs, KERNEL * inputs)) * gain / np.sqrt(KERNEL * inputs)
        return weight.astype(np.float32), np.full(outputs, bias, np.float32)

    # Of the 70 channels one is active, hence the root. Negative biases let each filter answer to few strings only.
    convolutions = (
        convolution(reed.ALPHABET, c1, 1.5 * float(np.sqrt(reed.ALPHABET)), -1.0),
        convolution(c1, c2, 1.0, -0.3),
        convolution(c2, c3, 1.0, 0.0),
    )

    def square(gain: float, bias: float = 0.0) -> reed.Map:
        return (gain * _orthogonal(rng, c3, c3)).astype(np.float32), np.full(c3, bias, np.float32)

    maps = {
        "input": square(0.5),
        "hidden": square(0.5),
        "input_update": square(0.1),
        "hidden_update": square(0.1),
        "input_reset": square(0.1, 1.0),
        "hidden_reset": square(0.1),
    }
    # Published vectors have about 0.14 a value.
    projection = (6 * _orthogonal(rng, sizes.captions, c3)).astype(np.float32), np.zeros(sizes.captions, np.float32)
    return _Torch7Writer().network(convolutions, maps, projection, steps=18)


class _Torch7Writer:
    """Just enough of Torch7's serialisation for one network."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.objects = 0
        self.written: dict[int, int] = {}
        self.kept: list[object] = []

    def network(self, convolutions: tuple, maps: dict[str, reed.Map], projection: reed.Map, steps: int) -> bytes:
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
                "untrained": True,
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
