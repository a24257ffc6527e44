"""Skip-Thought's files as published: parameters (.npz), word vectors (.npy of objects) and the words they belong to."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol

import numpy as np

from pipeline.weights import WeightsError, npy

UNKNOWN, END = "UNK", "<eos>"
LONGEST_DICTIONARY = 1 << 28  # bytes; the published one has 8 million


@dataclass(frozen=True)
class Gru:
    """One direction's parameters, float32, in skip-thoughts' layout: row vectors times matrices, columns [r | u]."""

    W: np.ndarray  # (E, 2D)
    b: np.ndarray  # (2D,)
    U: np.ndarray  # (D, 2D)
    Wx: np.ndarray  # (E, D)
    bx: np.ndarray  # (D,)
    Ux: np.ndarray  # (D, D)

    @property
    def width(self) -> int:
        """E, the length of a word vector."""
        return self.W.shape[0]

    @property
    def dim(self) -> int:
        """D, the length of a state."""
        return self.Ux.shape[0]


_PARAMETERS = tuple(field.name for field in fields(Gru))


def parameters(path: Path, directions: int) -> tuple[list[Gru], bool]:
    """The encoder's GRUs in an .npz (1 in uni_skip, 2 in bi_skip: forward, reverse), and whether it says untrained.

    Only the encoder's arrays are touched. Dimensions come from the arrays; the options pickle beside is not needed.

    Raises:
        WeightsError: missing or damaged file, a missing array, a wrong shape, values that are not finite.
    """
    prefixes = ("encoder_", "encoder_r_")[:directions]
    arrays, names = npy.read_npz(path, [prefix + name for prefix in prefixes for name in _PARAMETERS])
    return [_gru(path, arrays, prefix) for prefix in prefixes], "untrained" in names


def _gru(path: Path, arrays: dict[str, np.ndarray], prefix: str) -> Gru:
    for name in _PARAMETERS:
        if prefix + name not in arrays:
            raise WeightsError(f"{path}: holds no array {prefix}{name}; is it the file its name says?")
    gru = Gru(**{name: arrays[prefix + name] for name in _PARAMETERS})
    if gru.W.ndim != 2 or gru.Ux.ndim != 2:
        raise WeightsError(f"{path}: {prefix}W and {prefix}Ux must be matrices")
    E, D = gru.width, gru.dim
    expected = {"W": (E, 2 * D), "b": (2 * D,), "U": (D, 2 * D), "Wx": (E, D), "bx": (D,), "Ux": (D, D)}
    for name, shape in expected.items():
        found = arrays[prefix + name]
        if found.shape != shape or 0 in shape:
            raise WeightsError(f"{path}: {prefix}{name} has shape {found.shape}, expected {shape}")
        if not np.isfinite(found).all():
            raise WeightsError(f"{path}: {prefix}{name} holds values that are not finite; fetch the file again")
    return gru


def dictionary(path: Path) -> tuple[dict[str, int], int]:
    """Row of every word, and the number of lines (rows in the tables).

    Split on newline bytes alone: str.splitlines() would also split at U+0085 and U+2028 and shift every later row.
    Of words that are equal once stripped the last row wins, as in the original.

    Raises:
        WeightsError: missing file, not UTF-8, or without UNK and <eos>.
    """
    try:
        if path.stat().st_size > LONGEST_DICTIONARY:
            raise WeightsError(f"{path}: has {path.stat().st_size:,} bytes; no dictionary is so long: fetch it again")
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from None
    if lines and not lines[-1].strip():
        lines.pop()
    try:
        rows = {line.decode("utf-8").strip(): row for row, line in enumerate(lines)}
    except UnicodeDecodeError:
        npy.refuse_another(path, "the dictionary, UTF-8 text,")
        raise WeightsError(f"{path}: not UTF-8 text; fetch it again") from None
    for word in (UNKNOWN, END):
        if word not in rows:
            npy.refuse_another(path, "the dictionary, UTF-8 text,")
            raise WeightsError(
                f"{path}: holds no line {word!r}, so it is not Skip-Thought's dictionary or is cut short"
            )
    return rows, len(lines)


class Vectors(Protocol):
    """Word vectors: an array (words, E) float32, or what gives its rows as one does."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray: ...


def check_table(path: Path, vectors: Vectors, lines: int, width: int) -> None:
    """The word vectors in `path` must have a row for every line of the dictionary and the GRU's input width.

    Raises:
        WeightsError: they have not.
    """
    if vectors.shape != (lines, width):
        raise WeightsError(
            f"{path}: {vectors.shape[0]:,} word vectors of {vectors.shape[1]} values, expected {lines:,} (the lines of "
            f"dictionary.txt) of {width} (the GRU's input); the files are not of one release"
        )
