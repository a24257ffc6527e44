"""What a text encoder is trained against: a vector a picture, from a store, a Parquet file or numpy's .npy."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.weights import WeightsError, npy
from store.errors import ChatPainterError, one_line
from store.files import sha256_file
from store.manifest import MANIFEST
from store.reader import Store

if TYPE_CHECKING:
    import pyarrow as pa


def read(path: Path, corpus: "pa.Table") -> np.ndarray:
    """The features (pictures, d) float32 of a corpus' pictures, in its order.

    Args:
        path: a store whose index has image_id; a .parquet with the columns image_id and features (lists of numbers);
            or a .npy (pictures, d) in the order of the corpus.

    Raises:
        ChatPainterError: it is none of these, lacks a picture, or holds values that are not finite.
    """
    image_ids = corpus["image_id"].to_numpy()
    if path.is_dir():
        found = _by_id(path, *_of_store(path), image_ids)
    elif path.suffix == ".parquet":
        found = _by_id(path, *_of_parquet(path), image_ids)
    elif path.suffix == ".npy":
        found = _of_npy(path)
        if found.ndim != 2 or len(found) != len(image_ids):
            raise ChatPainterError(
                f"{path}: has shape {found.shape}, expected a row for each of {len(image_ids):,} pictures"
            )
    else:
        raise ChatPainterError(f"{path}: pictures' features are a store's folder, a .parquet or a .npy")
    if not np.isfinite(found).all():
        raise ChatPainterError(f"{path}: holds values that are not finite")
    return np.ascontiguousarray(found, np.float32)


def checksum(path: Path) -> str:
    """sha256 of the file, or of the store's manifest, which holds those of its shards."""
    return sha256_file(path / MANIFEST if path.is_dir() else path)


def _of_store(path: Path) -> tuple[np.ndarray, np.ndarray]:
    store = Store(path)
    if len(store.shape) != 1 or (store.lengths != 1).any():
        raise ChatPainterError(f"{path}: its rows have shape {store.shape}; expected one vector a picture")
    return store.column("image_id"), store.slice(0, len(store)).astype(np.float32)


def _of_parquet(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["image_id", "features"])
        rows = np.stack(table["features"].to_numpy()).astype(np.float32)
        return table["image_id"].to_numpy(), rows
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        raise ChatPainterError(
            f"{path}: not pictures' features ({one_line(error)}); expected the columns image_id and features, lists "
            "of one length"
        ) from None


def _of_npy(path: Path) -> np.ndarray:
    try:
        with path.open("rb") as file:
            shape, fortran, dtype = npy.read_header(path, file)
            data = file.read()
    except OSError as error:
        raise ChatPainterError(f"{path}: cannot be read ({error.strerror})") from None
    if dtype.kind not in "fiu" or len(data) != int(np.prod(shape)) * dtype.itemsize:
        raise WeightsError(f"{path}: {len(data):,} bytes of {dtype} for shape {shape}; expected numbers")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C").astype(np.float32)


def _by_id(path: Path, ids: np.ndarray, rows: np.ndarray, image_ids: np.ndarray) -> np.ndarray:
    place = {image_id: row for row, image_id in enumerate(ids.tolist())}
    missing = [image_id for image_id in image_ids.tolist() if image_id not in place]
    if missing:
        raise ChatPainterError(
            f"{path}: has no features of {len(missing):,} pictures of the corpus (image {missing[0]})"
        )
    return rows[[place[image_id] for image_id in image_ids.tolist()]]
