"""StackGAN's published caption vectors as a `captions` store, so that COCO can be trained on without encoder weights.

StackGAN ships `char-CNN-RNN-embeddings.pickle` (images, captions, 1024) with `filenames.pickle` for training, and
`val_captions.t7` (texts with their vectors) for painting. Both are Python 2's or Torch7's; neither is run.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.weights import WeightsError, torch7
from pipeline.weights.hashing import sha256
from pipeline.weights.unpickle import PickledArray, Unpickler

COCO_NAME = re.compile(r"COCO_\w+_0*(\d+)$")
SHARD_MIB = 64


def import_pickles(embeddings: Path, filenames: Path, out: Path, split: str, dtype: str = "float16") -> int:
    """Write the store `out` from StackGAN's two pickles; returns its rows.

    The vectors of one image lie side by side, in the file's order of captions, whose texts StackGAN does not ship:
    `text` is empty, and `caption_id` counts within the image. `image_id` is COCO's where the names are COCO's (then
    images are in the order of the pickle), else the image's position.

    Raises:
        WeightsError: a file is missing, damaged or asks for what such files do not need; the two do not fit.
    """
    names = _names(filenames)
    with _opened(embeddings) as file:
        unpickler = Unpickler(embeddings, file)
        root = unpickler.load()
        images = _images(unpickler, root)
        first = next(images, None)
        if first is None:
            raise WeightsError(f"{embeddings}: holds no vectors")
        count = root.shape[0] if isinstance(root, PickledArray) else len(root)
        if count != len(names):
            raise WeightsError(
                f"{embeddings}: vectors of {count:,} images, but {filenames.name} names {len(names):,}; "
                "take both from one download"
            )

        def captions() -> Iterator[np.ndarray]:
            yield first
            yield from images

        matches = [COCO_NAME.match(name) for name in names]
        coco = all(matches)
        ids = [int(match[1]) if match and coco else place for place, match in enumerate(matches)]
        origin = {"files": {path.name: sha256(path) for path in (embeddings, filenames)}}
        rows: dict[str, list[Any]] = {"image_id": [], "caption_id": [], "text": []}

        def numbered() -> Iterator[np.ndarray]:
            for image_id, vectors in zip(ids, captions()):
                rows["image_id"] += [image_id] * len(vectors)
                rows["caption_id"] += range(len(vectors))
                rows["text"] += [""] * len(vectors)
                yield vectors

        return _write(numbered(), rows, out, split, dtype, first.shape[1], origin, embeddings)


def import_captions_t7(path: Path, out: Path, split: str, dtype: str = "float16") -> int:
    """Write the store `out` from a `val_captions.t7`: one row a text; returns its rows.

    The file says nothing of images: `image_id` is the row.

    Raises:
        WeightsError: not such a file.
    """
    texts, vectors = read_captions_t7(path)
    count = len(texts)
    rows: dict[str, list[Any]] = {"image_id": list(range(count)), "caption_id": [0] * count, "text": texts}
    origin = {"files": {path.name: sha256(path)}}
    return _write(iter(vectors[:, None]), rows, out, split, dtype, vectors.shape[1], origin, path)


def read_captions_t7(path: Path) -> tuple[list[str], np.ndarray]:
    """Texts and vectors (n, dim) float32 of a file such as `val_captions.t7`: tables raw_txt and fea_txt.

    Raises:
        WeightsError: not such a file.
    """
    root = torch7.load(path)
    table = root if isinstance(root, dict) else {}
    features = table.get("fea_txt")
    parts = [features] if isinstance(features, np.ndarray) else torch7.as_list(features)
    texts = torch7.as_list(table.get("raw_txt"))
    try:
        vectors = np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts]).astype(np.float32)
    except (AttributeError, ValueError):
        vectors = np.zeros((0, 0), np.float32)
    if not texts or len(texts) != len(vectors) or not all(isinstance(text, str) for text in texts):
        raise WeightsError(
            f"{path}: expected the tables raw_txt and fea_txt of equal length, as StackGAN's val_captions.t7 has; "
            f"found {len(texts)} texts and {len(vectors)} vectors"
        )
    return texts, vectors


def _opened(path: Path) -> Any:
    try:
        return path.open("rb", buffering=1 << 20)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from None


def _names(path: Path) -> list[str]:
    with _opened(path) as file:
        unpickler = Unpickler(path, file)
        names = unpickler.load()
        if not isinstance(names, list | tuple) or not names:
            raise WeightsError(f"{path}: expected a list of file names")
        try:
            return [name if isinstance(name, str) else unpickler.content(name).decode("utf-8") for name in names]
        except (AttributeError, UnicodeDecodeError):
            raise WeightsError(f"{path}: expected a list of file names") from None


def _images(unpickler: Unpickler, root: Any) -> Iterator[np.ndarray]:
    """Vectors (captions, dim) image by image, from a list of arrays, an object array, or one array of 3 dimensions."""
    if isinstance(root, PickledArray) and not root.objects:
        whole = unpickler.mapped(root)
        if whole.ndim != 3:
            raise unpickler.refused(f"vectors of shape {whole.shape}, expected (images, captions, dim)")
        yield from whole
        return
    elements = root.data if isinstance(root, PickledArray) else root
    if not isinstance(elements, list):
        raise unpickler.refused("neither a list of arrays nor an array")
    shape = None
    for element in elements:
        if not isinstance(element, PickledArray):
            raise unpickler.refused("neither a list of arrays nor an array")
        vectors = unpickler.read(element)
        shape = shape or vectors.shape
        if vectors.ndim != 2 or vectors.shape[1] != shape[1]:
            raise unpickler.refused(f"an image with vectors of shape {vectors.shape} after one of {shape}")
        yield vectors


def _write(
    images: Iterator[np.ndarray],
    index: dict[str, list[Any]],
    out: Path,
    split: str,
    dtype: str,
    dim: int,
    origin: dict[str, Any],
    source: Path,
) -> int:
    """Write shards as vectors come: the store's plan needs every row first, so they pass through one memory map."""
    import tempfile

    import pyarrow as pa

    from store.writer import StoreWriter

    identity = {"name": "char-cnn-rnn", "imported": "StackGAN", "trained": True, **origin}
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out.parent) as spool:
        groups = [0]
        for vectors in images:
            if not np.isfinite(vectors).all():
                raise WeightsError(f"{source}: a vector with values that are not finite; fetch it again")
            spool.write(np.ascontiguousarray(vectors, dtype).tobytes())
            groups.append(groups[-1] + len(vectors))
        spool.flush()
        rows = groups[-1]
        whole = np.memmap(spool, dtype, "r", shape=(rows, dim))
        limit = max(1, (SHARD_MIB << 20) // (dim * whole.itemsize))
        plan, start = [], 0
        for before, after in zip(groups, [*groups[1:], None]):
            if after is None or (after - start > limit and before > start):
                plan.append((start, before - start, f"stackgan {origin} {start} {before} {dtype}"))
                start = before
        made_from = {"corpus": next(iter(origin["files"].values())), "encoder": identity, "text": {}}
        with StoreWriter(out, kind="captions", split=split, shape=(dim,), dtype=dtype, made_from=made_from) as writer:
            for number in writer.plan(plan):
                first, count, _ = plan[number]
                writer.write_shard(number, np.asarray(whole[first : first + count]))
            counts = {"texts": rows, "distinct": rows, "unknown": 0, "tokens": 0, "empty": 0, "truncated": 0}
            writer.commit(pa.table({"row": np.arange(rows), **index}), counts)
    return rows
