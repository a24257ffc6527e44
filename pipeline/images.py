"""The pictures of a corpus, every one decoded once and kept at each size in a store of its own.

Shards hold the same images at every size and follow the order of the corpus. A shard's key is made from the bytes of
its files, so that a run that was cut short, or whose files changed in part, does only what is left to do.
"""

import contextlib
import json
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.corpora import corpus as corpora
from pipeline.corpora.coco import Pictures
from pipeline.pictures import RESAMPLING, Unreadable, decode, encode_jpeg
from store.errors import ChatPainterError
from store.files import in_words, replacing, sha256_file
from store.jpeg import BLOCK, JpegWriter
from store.manifest import content_key
from store.writer import StoreWriter

# Images a task: small enough that the bar moves, large enough that sending it costs nothing.
CHUNK = 16
# Below this side a JPEG saves little and smears much.
SMALLEST_JPEG = 128
UNREADABLE = "unreadable.json"


@dataclass(frozen=True)
class ImagesSettings:
    """`images:` of params.yaml.

    Args:
        sizes: sides in pixels; StackGAN crops 64 and 256 out of 76 and 304.
        encoding: `jpeg` compresses sizes of 128 and above (304: 6.5 GB instead of 34 GB for all of COCO 2014).
        unreadable: what a truncated or foreign file does: stop the run, or be skipped and reported.
        shard_mib: decoded size of a shard of the largest size.
    """

    sizes: tuple[int, ...] = (76, 304)
    encoding: Literal["raw", "jpeg"] = "raw"
    jpeg_quality: int = 95
    unreadable: Literal["stop", "skip"] = "stop"
    shard_mib: int = 128

    def __post_init__(self) -> None:
        if (
            not self.sizes
            or len(set(self.sizes)) < len(self.sizes)
            or not all(8 <= size <= 4096 for size in self.sizes)
        ):
            raise ValueError(f"sizes must be different and between 8 and 4096, found {list(self.sizes)}")
        if not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality must be between 1 and 100, found {self.jpeg_quality}")
        if self.shard_mib < 1:
            raise ValueError(f"shard_mib must be at least 1, found {self.shard_mib}")

    @property
    def shard_images(self) -> int:
        return max(1, self.shard_mib * 2**20 // (3 * max(self.sizes) ** 2))


@dataclass(frozen=True)
class Listed:
    """An image of the corpus and its file."""

    image_id: int
    path: Path
    file_name: str


@dataclass(frozen=True)
class Made:
    """What became of a split: images kept, shards decoded now, and those left out: (file, why), by image id."""

    images: int
    shards: int
    decoded: int
    without_file: list[int]
    unreadable: dict[int, tuple[str, str]]


def make(
    corpus: Path,
    raw: Path,
    split: str,
    out: Path,
    settings: ImagesSettings,
    *,
    without_image: Literal["drop", "keep"] = "drop",
    workers: int = 1,
    started: Callable[[int], object] = lambda n: None,
    done: Callable[[int], object] = lambda n: None,
) -> Made:
    """Write the stores `{out}/{size}` of a split from its corpus; keep finished shards of an earlier run.

    Args:
        without_image: `keep`: the corpus may hold images without a file, which get no row.
        started: called with the number of images that are to be decoded, whenever that becomes known.
        done: called with the number of images decoded since the last call.

    Raises:
        ChatPainterError: a file that cannot be read (unless skipped), is missing, or no image is left.
    """
    listed, without_file = _list(corpus, raw, split, without_image)
    checksums = _checksums(listed, workers)
    known = _Unreadable(out, listed, checksums, settings.unreadable)
    decoded = 0
    with contextlib.ExitStack() as stack:
        writers = [_writer(out / str(size), split, size, settings, sha256_file(corpus)) for size in settings.sizes]
        stores = [_store(stack.enter_context(writer)) for writer in writers]
        pool = stack.enter_context(_pool(workers))
        while True:
            shards = known.without(_parts(listed, settings.shard_images))
            if not shards:
                raise ChatPainterError(f"{raw}: not one picture of split {split!r} can be read; see {known.path}")
            missing = [store.plan([[checksums[each.image_id] for each in part] for part in shards]) for store in stores]
            work = [number for number in range(len(shards)) if any(number in some for some in missing)]
            started(sum(len(shards[number]) for number in work))
            for number, arrays, problems in _decode_all(pool, work, shards, settings, workers, done):
                if problems:
                    known.add(problems)
                    break
                for store, some, pictures in zip(stores, missing, arrays):
                    if number in some:
                        store.write(number, pictures)
                decoded += 1
            else:
                break
        rows = [each for part in shards for each in part]
        for store in stores:
            store.commit(rows, len(known.found))
        known.write()
    return Made(len(rows), len(shards), decoded, without_file, known.found)


def _list(corpus: Path, raw: Path, split: str, without_image: str) -> tuple[list[Listed], list[int]]:
    """The images of a corpus that have a file, in its order, and the ids of those that have none."""
    table = corpora.read(corpus)
    pictures = Pictures(raw, split)
    listed, lacking = [], []
    for image_id, name in zip(table["image_id"].to_pylist(), table["file_name"].to_pylist()):
        if path := pictures.find(image_id, name):
            listed.append(Listed(image_id, path, pictures.name(path)))
        else:
            lacking.append(image_id)
            if without_image == "drop":
                where = ", ".join(map(str, pictures.folders))
                raise ChatPainterError(
                    f"{name or image_id}: in {corpus}, but no such file in {where}; put it there, name another --raw, "
                    f"or make the corpus again: chatpainter-prepare corpus --split {split}"
                )
    if not listed:
        raise ChatPainterError(f"{raw}: holds not one picture of {corpus}; name the dataset's folder with --raw")
    return listed, lacking


def _checksums(listed: list[Listed], workers: int) -> dict[int, str]:
    """sha256 of every file, by image id."""

    def checksum(each: Listed) -> str:
        with in_words(each.path):
            return sha256_file(each.path)

    with ThreadPoolExecutor(max(4, workers)) as threads:  # hashing lets go of the GIL
        return {each.image_id: value for each, value in zip(listed, threads.map(checksum, listed))}


def _parts(listed: list[Listed], length: int) -> list[list[Listed]]:
    return [listed[start : start + length] for start in range(0, len(listed), length)]


class _Unreadable:
    """The files that no decoder could read, noted beside the stores, so that later runs need not try them again."""

    def __init__(self, out: Path, listed: list[Listed], checksums: dict[int, str], fate: str) -> None:
        self.path = out / UNREADABLE
        self.found: dict[int, tuple[str, str]] = {}
        self._fate, self._checksums = fate, checksums
        if fate == "skip" and self.path.is_file():
            noted = _noted(self.path)
            for each in listed:
                if reason := noted.get(checksums[each.image_id]):
                    self.found[each.image_id] = (str(each.path), reason)

    def without(self, parts: list[list[Listed]]) -> list[list[Listed]]:
        """The parts without them, and without parts of which nothing is left."""
        left = ([each for each in part if each.image_id not in self.found] for part in parts)
        return [part for part in left if part]

    def add(self, problems: list[tuple[Listed, str]]) -> None:
        """Note what could not be read, or stop at the first of it."""
        if self._fate == "stop":
            each, reason = problems[0]
            raise ChatPainterError(
                f"{each.path}: image {each.image_id} cannot be read ({reason}); take the file again, "
                "or leave such images out with --unreadable skip (images.unreadable in params.yaml)"
            )
        self.found |= {each.image_id: (str(each.path), reason) for each, reason in problems}
        self.write()

    def write(self) -> None:
        entries = [
            {"image_id": image_id, "file": path, "reason": reason, "sha256": self._checksums[image_id]}
            for image_id, (path, reason) in sorted(self.found.items())
        ]
        with in_words(self.path):
            if not entries:
                self.path.unlink(missing_ok=True)
                return
            with replacing(self.path) as temporary:
                temporary.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _noted(path: Path) -> dict[str, str]:
    try:
        return {str(entry["sha256"]): str(entry["reason"]) for entry in json.loads(path.read_text(encoding="utf-8"))}
    except (ValueError, KeyError, TypeError):
        return {}  # It only spares work.


# Stores -----------------------------------------------------------------------------------------------------------


class _RawStore:
    """Pictures as they are: a row a picture."""

    def __init__(self, writer: StoreWriter) -> None:
        self._writer = writer

    def plan(self, contents: list[list[str]]) -> list[int]:
        """Say what every shard is made from; the numbers of those to write."""
        planned, first_row = [], 0
        for part in contents:
            planned.append((first_row, len(part), _key(self._writer, first_row, part)))
            first_row += len(part)
        return self._writer.plan(planned)

    def write(self, number: int, pictures: Sequence[Any]) -> None:
        self._writer.write_shard(number, np.stack(pictures))

    def commit(self, rows: list[Listed], skipped: int) -> None:
        index = {"row": np.arange(len(rows), dtype=np.int64)}
        self._writer.commit(_index(rows, index), {"images": len(rows), "unreadable": skipped})


class _JpegStore:
    """Pictures as JPEGs: a row a block of bytes."""

    def __init__(self, writer: JpegWriter) -> None:
        self._writer = writer
        self._keys: list[str] = []

    def plan(self, contents: list[list[str]]) -> list[int]:
        positions = np.cumsum([0, *map(len, contents)])
        self._keys = [_key(self._writer, int(first), part) for first, part in zip(positions, contents)]
        return list(range(self._writer.keep(self._keys), len(contents)))

    def write(self, number: int, pictures: Sequence[Any]) -> None:
        self._writer.append(pictures, self._keys[number])

    def commit(self, rows: list[Listed], skipped: int) -> None:
        first, blocks = self._writer.runs()
        index = {"row": first, "blocks": blocks}
        self._writer.commit(_index(rows, index), {"images": len(rows), "unreadable": skipped})


def _writer(path: Path, split: str, size: int, settings: ImagesSettings, corpus: str) -> StoreWriter:
    made_from = {"corpus": corpus, "size": size, "resampling": RESAMPLING.name.lower(), "encoding": "raw"}
    common: dict[str, Any] = {"kind": "images", "split": split, "dataset": "images", "dtype": "uint8"}
    if _is_jpeg(size, settings):
        made_from |= {"encoding": "jpeg", "quality": settings.jpeg_quality}
        return JpegWriter(path, shape=(BLOCK,), made_from=made_from, **common)
    return StoreWriter(path, shape=(size, size, 3), made_from=made_from, **common)


def _store(writer: StoreWriter) -> _RawStore | _JpegStore:
    return _JpegStore(writer) if isinstance(writer, JpegWriter) else _RawStore(writer)


def _is_jpeg(size: int, settings: ImagesSettings) -> bool:
    return settings.encoding == "jpeg" and size >= SMALLEST_JPEG


def _key(writer: StoreWriter, first_row: int, contents: list[str]) -> str:
    return content_key(writer.made_from, writer.dtype, writer.shape, first_row, contents)


def _index(rows: list[Listed], columns: dict[str, np.ndarray]) -> Any:
    import pyarrow as pa

    names = {"image_id": [each.image_id for each in rows], "file_name": [each.file_name for each in rows]}
    kinds = [("image_id", pa.int64()), ("file_name", pa.string())]
    return pa.table(columns | names, schema=pa.schema([(name, pa.int64()) for name in columns] + kinds))


# Decoding ---------------------------------------------------------------------------------------------------------


def _decode_all(
    pool: Executor | None,
    work: list[int],
    shards: list[list[Listed]],
    settings: ImagesSettings,
    workers: int,
    done: Callable[[int], object],
) -> Iterator[tuple[int, list[list[Any]], list[tuple[Listed, str]]]]:
    """Decode shards in order: (its number, the pictures of each size, what could not be read)."""
    chunks = [(number, part) for number in work for part in _parts(shards[number], CHUNK)]
    pictures: list[list[Any]] = [[] for _ in settings.sizes]
    problems: list[tuple[Listed, str]] = []
    for position, ((number, part), results) in enumerate(zip(chunks, _in_order(pool, chunks, settings, workers))):
        for each, result in zip(part, results):
            if isinstance(result, str):
                problems.append((each, result))
                continue
            for some, picture in zip(pictures, result):
                some.append(picture)
        done(len(part))
        if position + 1 == len(chunks) or chunks[position + 1][0] != number:
            yield number, pictures, problems
            pictures, problems = [[] for _ in settings.sizes], []


def _in_order(
    pool: Executor | None, chunks: list[tuple[int, list[Listed]]], settings: ImagesSettings, workers: int
) -> Iterator[list[Any]]:
    """The results of all chunks in order, a few of them ahead of their time and never more."""
    if pool is None:
        for _, part in chunks:
            yield _decode_some([each.path for each in part], settings)
        return
    ahead: deque[Future] = deque()
    rest = iter(chunks)
    try:
        while True:
            while len(ahead) < 3 * workers and (chunk := next(rest, None)):
                ahead.append(pool.submit(_decode_some, [each.path for each in chunk[1]], settings))
            if not ahead:
                return
            yield ahead.popleft().result()
    except BrokenProcessPool:
        raise ChatPainterError(
            "a process that decodes pictures was killed, out of memory?; run the same command again (finished shards "
            "are kept), with a smaller --workers"
        ) from None
    finally:
        for future in ahead:
            future.cancel()


def _decode_some(paths: list[Path], settings: ImagesSettings) -> list[list[Any] | str]:
    """Each picture at every size, an array or a JPEG's bytes; or why it could not be read."""
    results: list[list[Any] | str] = []
    for path in paths:
        try:
            arrays = decode(path, settings.sizes)
        except Unreadable as problem:
            results.append(str(problem))
            continue
        results.append(
            [
                encode_jpeg(array, settings.jpeg_quality) if _is_jpeg(size, settings) else array
                for size, array in zip(settings.sizes, arrays)
            ]
        )
    return results


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[Executor | None]:
    """Processes that decode; None for one worker, which needs none."""
    if workers == 1:
        yield None
        return
    # Arrow's threads are running by now: a forked process could inherit a lock that nobody will ever open.
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The run that started it says what Ctrl-C means.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A run killed outright cannot tell its workers, and they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
