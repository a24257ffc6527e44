"""StackGAN's published caption vectors as a `captions` store, so that COCO can be trained on without encoder weights.

StackGAN ships `char-CNN-RNN-embeddings.pickle` (images, captions, 1024) with `filenames.pickle` for training, and
`val_captions.t7` (texts with their vectors) for painting. Both are Python 2's or Torch7's; neither is run.
"""

import contextlib
import itertools
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.weights import WeightsError, torch7
from pipeline.weights.hashing import sha256
from pipeline.weights.pickled import PickledArray
from pipeline.weights.unpickle import Unpickler
from store.files import in_words
from store.manifest import Manifest
from store.writer import StoreWriter

# COCO_train2014_000000581921, or 000000581921 as since 2017; perhaps in a folder, perhaps with an ending.
COCO_NAME = re.compile(r"(?:.*[/\\])?(?:COCO_\w+_)?(\d{12})(?:\.\w+)?", re.DOTALL)
SHARD_MIB = 64
VECTORS = "an array (captions, dim) of floating-point numbers"


def import_pickles(embeddings: Path, filenames: Path, out: Path, split: str, dtype: str = "float16") -> Manifest:
    """Write the store `out` from StackGAN's two pickles.

    The vectors of one image lie side by side, in the file's order of captions, whose texts StackGAN does not ship:
    `text` is empty, and `caption_id` counts within the image. `image_id` is COCO's where the names are COCO's (then
    images are in the order of the pickle), else the image's position, which the manifest says:
    made_from.encoder.image_ids is "COCO" or "positions".

    Raises:
        WeightsError: a file is missing, damaged or asks for what such files do not need; the two do not fit; some names
            are COCO's and others are not, or two name one image.
        StoreError: the store cannot be written.
    """
    ids, numbering = image_ids(file_names(filenames), filenames)
    with _opened(embeddings) as file:
        count, images = _images(Unpickler(embeddings, file))
        if count != len(ids):
            raise WeightsError(
                f"{embeddings}: vectors of {count:,} images, but {filenames.name} names {len(ids):,}; "
                "take both from one download"
            )
        index: dict[str, list[Any]] = {"image_id": [], "caption_id": [], "text": []}

        def noted() -> Iterator[np.ndarray]:
            for image_id, vectors in zip(ids, images):
                index["image_id"] += [image_id] * len(vectors)
                index["caption_id"] += range(len(vectors))
                index["text"] += [""] * len(vectors)
                yield vectors

        return _write(noted(), index, out, split, dtype, numbering, (embeddings, filenames))


def image_ids(names: list[str], where: Path) -> tuple[list[int], str]:
    """COCO's ids and "COCO" where all names are COCO's; positions and "positions" where none is.

    Raises:
        WeightsError: some are and some are not, or an id stands there twice: `where` says in which file.
    """
    matches = [COCO_NAME.fullmatch(name) for name in names]
    found = [int(match[1]) for match in matches if match]
    if not found:
        return list(range(len(names))), "positions"
    if len(found) < len(names):
        place = next(place for place, match in enumerate(matches) if not match)
        raise WeightsError(
            f"{where}: name {place} is {names[place][:100]!r}, which has no COCO id in it as {len(found):,} of the "
            f"{len(names):,} names have; take it and its vectors out of both files"
        )
    if len(set(found)) < len(found):
        twice = next(image_id for image_id, count in Counter(found).items() if count > 1)
        raise WeightsError(f"{where}: names image {twice} more than once; each image may have one entry")
    return found, "COCO"


def import_captions_t7(path: Path, out: Path, split: str, dtype: str = "float16") -> Manifest:
    """Write the store `out` from a `val_captions.t7`: one row a text.

    The file says nothing of images: `image_id` is the row.

    Raises:
        WeightsError: not such a file.
        StoreError: the store cannot be written.
    """
    texts, vectors = read_captions_t7(path)
    count = len(texts)
    index: dict[str, list[Any]] = {"image_id": list(range(count)), "caption_id": [0] * count, "text": texts}
    return _write(iter(vectors[:, None]), index, out, split, dtype, "positions", (path,))


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


def file_names(path: Path) -> list[str]:
    """The list of names in a `filenames.pickle`.

    Raises:
        WeightsError: the file is missing, damaged, asks for what a list does not need, or holds no names.
    """
    with _opened(path) as file:
        unpickler = Unpickler(path, file)
        names = unpickler.load()
        if isinstance(names, PickledArray):
            names = unpickler.read(names).tolist() if not names.objects else names.data
        if not isinstance(names, list | tuple) or not names:
            raise WeightsError(f"{path}: expected a list of file names")
        try:
            return [name if isinstance(name, str) else unpickler.content(name).decode("utf-8") for name in names]
        except (TypeError, ValueError):
            raise WeightsError(f"{path}: expected a list of file names") from None


def class_numbers(path: Path) -> list[int]:
    """The list of whole numbers in a `class_info.pickle`.

    Raises:
        WeightsError: as `file_names`.
    """
    with _opened(path) as file:
        unpickler = Unpickler(path, file)
        numbers = unpickler.load()
        if isinstance(numbers, PickledArray) and not numbers.objects:
            numbers = unpickler.read(numbers).tolist()
        if not isinstance(numbers, list | tuple) or not all(type(number) is int for number in numbers):
            raise WeightsError(f"{path}: expected a list of classes, a whole number a picture")
        return list(numbers)


def _images(unpickler: Unpickler) -> tuple[int, Iterator[np.ndarray]]:
    """How many images, and the vectors (captions, dim) of each: a list of arrays, an object array, or one array."""
    root = unpickler.load()
    if isinstance(root, PickledArray) and not root.objects:
        whole = unpickler.mapped(root)
        if whole.ndim != 3 or whole.dtype.kind != "f" or 0 in whole.shape:
            raise unpickler.refused(f"{whole.dtype} of shape {whole.shape}", f"expected {VECTORS} of every image")
        return len(whole), iter(whole)
    elements = root.data if isinstance(root, PickledArray) else root
    if not isinstance(elements, list) or not elements:
        raise unpickler.refused("neither a list of arrays nor an array", f"expected {VECTORS} of every image")
    return len(elements), _each(unpickler, elements)


def _each(unpickler: Unpickler, elements: list[Any]) -> Iterator[np.ndarray]:
    first: tuple[int, ...] = ()
    for place, element in enumerate(elements):
        if not isinstance(element, PickledArray):
            raise unpickler.refused(f"image {place} has no array", f"expected {VECTORS} of every image")
        vectors = unpickler.read(element)
        first = first or vectors.shape
        if vectors.ndim != 2 or vectors.dtype.kind != "f" or 0 in vectors.shape or vectors.shape[1] != first[-1]:
            raise unpickler.refused(
                f"image {place} has {vectors.dtype} of shape {vectors.shape}, after one of shape {first}",
                f"expected {VECTORS} of every image, dim the same",
            )
        yield vectors


def _write(
    images: Iterator[np.ndarray],
    index: dict[str, list[Any]],
    out: Path,
    split: str,
    dtype: str,
    numbering: str,
    sources: tuple[Path, ...],
) -> Manifest:
    """Write shards as vectors come: the store's plan needs every row first, so they pass through one memory map."""
    import pyarrow as pa

    files = {path.name: sha256(path) for path in sources}
    identity = {"name": "char-cnn-rnn", "imported": "StackGAN", "trained": True, "image_ids": numbering, "files": files}
    made_from = {"corpus": next(iter(files.values())), "encoder": identity, "text": {}}
    with in_words(out), contextlib.ExitStack() as stack:
        out.parent.mkdir(parents=True, exist_ok=True)
        spool = stack.enter_context(tempfile.TemporaryFile(dir=out.parent))
        groups, dim = [0], 0
        for vectors in images:
            spool.write(_as_dtype(vectors, dtype, sources[0]).tobytes())
            groups.append(groups[-1] + len(vectors))
            dim = vectors.shape[1]
        spool.flush()
        rows = groups[-1]
        whole = np.memmap(spool, dtype, "r", shape=(rows, dim))
        plan = [
            (first, stop - first, f"stackgan {files} {first} {stop} {dtype}")
            for first, stop in _cut(groups, max(1, (SHARD_MIB << 20) // (dim * whole.itemsize)))
        ]
        writer = stack.enter_context(
            StoreWriter(out, kind="captions", split=split, shape=(dim,), dtype=dtype, made_from=made_from)
        )
        for number in writer.plan(plan):
            first, count, _ = plan[number]
            writer.write_shard(number, np.asarray(whole[first : first + count]))
        counts = {"texts": rows, "distinct": rows, "unknown": 0, "tokens": 0, "empty": 0, "truncated": 0}
        return writer.commit(pa.table({"row": np.arange(rows), **index}), counts)


def _cut(groups: list[int], limit: int) -> Iterator[tuple[int, int]]:
    """(first row, row after the last) of shards of at most `limit` rows, one group's rows in one shard."""
    start = 0
    for before, after in itertools.pairwise(groups):
        if after - start > limit and before > start:
            yield start, before
            start = before
    yield start, groups[-1]


def _as_dtype(vectors: np.ndarray, dtype: str, source: Path) -> np.ndarray:
    if not np.isfinite(vectors).all():
        raise WeightsError(f"{source}: a vector with values that are not finite; fetch it again")
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(vectors, dtype)
    if not np.isfinite(stored).all():
        raise WeightsError(f"{source}: a vector with a value that {dtype} cannot hold; import it with --dtype float32")
    return stored
