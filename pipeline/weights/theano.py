"""Skip-Thought's files as published: parameters (.npz), word vectors (.npy of objects) and the words they belong to."""

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from pipeline.weights import WeightsError

UNKNOWN, END = "UNK", "<eos>"


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


def parameters(path: Path, directions: int) -> tuple[list[Gru], bool]:
    """The encoder's GRUs in an .npz (1 in uni_skip, 2 in bi_skip: forward, reverse), and whether it says untrained.

    Only the encoder's arrays are touched. Dimensions come from the arrays; the options pickle beside is not needed.

    Raises:
        WeightsError: missing or damaged file, a missing array, a wrong shape, values that are not finite.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            grus = [_gru(path, arrays, prefix) for prefix in ("encoder_", "encoder_r_")[:directions]]
            return grus, "untrained" in arrays.files
    except (OSError, EOFError, BadZipFile, ValueError) as error:
        raise WeightsError(f"{path}: not a readable .npz file ({error}); fetch it again") from None


def _gru(path: Path, arrays: "np.lib.npyio.NpzFile", prefix: str) -> Gru:
    found = {}
    for name in ("W", "b", "U", "Wx", "bx", "Ux"):
        if prefix + name not in arrays.files:
            raise WeightsError(f"{path}: holds no array {prefix}{name}; is it the file its name says?")
        found[name] = np.ascontiguousarray(arrays[prefix + name], np.float32)
    gru = Gru(**found)
    if gru.W.ndim != 2 or gru.Ux.ndim != 2:
        raise WeightsError(f"{path}: {prefix}W and {prefix}Ux must be matrices")
    E, D = gru.width, gru.dim
    expected = {"W": (E, 2 * D), "b": (2 * D,), "U": (D, 2 * D), "Wx": (E, D), "bx": (D,), "Ux": (D, D)}
    for name, shape in expected.items():
        if found[name].shape != shape:
            raise WeightsError(f"{path}: {prefix}{name} has shape {found[name].shape}, expected {shape}")
        if not np.isfinite(found[name]).all():
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
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from None
    if lines and not lines[-1].strip():
        lines.pop()
    try:
        rows = {line.decode("utf-8").strip(): row for row, line in enumerate(lines)}
    except UnicodeDecodeError:
        raise WeightsError(f"{path}: not UTF-8 text; fetch it again") from None
    for word in (UNKNOWN, END):
        if word not in rows:
            raise WeightsError(
                f"{path}: holds no line {word!r}, so it is not Skip-Thought's dictionary or is cut short"
            )
    return rows, len(lines)


def check_table(path: Path, vectors: np.ndarray, lines: int, width: int) -> None:
    """The word vectors in `path` must have a row for every line of the dictionary and the GRU's input width.

    Raises:
        WeightsError: they have not.
    """
    if vectors.shape != (lines, width):
        raise WeightsError(
            f"{path}: {vectors.shape[0]:,} word vectors of {vectors.shape[1]} values, expected {lines:,} (the lines of "
            f"dictionary.txt) of {width} (the GRU's input); the files are not of one release"
        )
