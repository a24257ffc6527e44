"""Skip-Thought's five files, byte by byte as their author saved them with NumPy under Python 2."""

import io
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# Words that str.splitlines() would tear apart, two lines that are one word once stripped, and words beyond ASCII.
PLAIN_WORDS = (
    "<eos> UNK is it sunny ? yes . no , a the dog cat park do n't it's color in what red blue of man's cannot can not "
    "stop ' bench two people A"
)
WORDS = PLAIN_WORDS.split()
WORDS += ["a\x85b", "c\u2028d", "two\u00a0", "\u00e9t\u00e9", "\u30c6\u30b9\u30c8", "dog ", "\U0001f600"]


@dataclass
class SkipThoughtFiles:
    """A folder with the five files, and what is in them: both encoders' arrays, the tables, a word's row."""

    folder: Path
    uni: dict[str, np.ndarray]
    bi: dict[str, np.ndarray]
    rows: dict[str, int]
    utable: np.ndarray
    btable: np.ndarray


def write_skip_thought(folder: Path) -> SkipThoughtFiles:
    """The five files at widths E 8, uni 24, bi 12 each way."""
    rng = np.random.default_rng(3)
    E, D = 8, 24
    uni = gru_arrays(rng, E, D, scale=1.5)
    bi = gru_arrays(rng, E, D // 2, ("", "r_"), scale=1.5)
    write_npz(folder / "uni_skip.npz", uni)
    write_npz(folder / "bi_skip.npz", bi)
    tables = {}
    for name in ("utable", "btable"):
        tables[name] = rng.standard_normal((len(WORDS), E)).astype(np.float32)
        (folder / f"{name}.npy").write_bytes(python2_object_array(tables[name], flat={2, 5, len(WORDS) - 1}))
    (folder / "dictionary.txt").write_bytes("".join(word + "\n" for word in WORDS).encode())
    (folder / "WEIGHTS.json").write_text(json.dumps({"trained": True}))
    rows = {word.strip(): row for row, word in enumerate(WORDS)}
    return SkipThoughtFiles(folder=folder, uni=uni, bi=bi, rows=rows, **tables)


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


def write_npz(path: Path, arrays: dict[str, Any]) -> None:
    """As training saved them: with the decoder's arrays and a list of errors among them."""
    decoder: dict[str, Any] = {"decoder_W": np.zeros((3, 3), np.float32), "ff_logit_b": np.zeros(7, np.float32)}
    others: dict[str, Any] = {"history_errs": np.array([]), "Wemb": np.zeros((5, 3), np.float32)}
    np.savez(path, **others, **arrays, **decoder)


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
