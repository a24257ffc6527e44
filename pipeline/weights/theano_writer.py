"""Skip-Thought's files as published, written: `theano` and `tables` read them."""

import io
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np


def write_dictionary(path: Path, words: Iterable[str]) -> None:
    """One word a line."""
    path.write_bytes("".join(word + "\n" for word in words).encode("utf-8"))


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
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
