"""Many pictures decoded by several processes, in order, and never more than a few ahead of whoever takes them."""

import contextlib
import multiprocessing
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.pictures.decode import Unreadable, decode, encode_jpeg
from store.errors import ChatPainterError

# Pictures a task: small enough that a progress bar moves, large enough that sending it costs nothing.
CHUNK = 16
# Tasks under way for each process: it never waits, and memory stays bounded.
AHEAD = 3


@dataclass(frozen=True)
class Recipe:
    """What is made of a picture: for each size the quality of its JPEG, or None where it stays an array."""

    sizes: tuple[int, ...]
    qualities: tuple[int | None, ...]


@dataclass(frozen=True)
class Failed:
    """A picture that could not be read, and why."""

    reason: str


# A picture at every size of the recipe: (size, size, 3) uint8 or the bytes of a JPEG.
Result = list[np.ndarray | bytes] | Failed


@contextlib.contextmanager
def processes(workers: int) -> Iterator[Executor | None]:
    """Processes that decode; None for one worker, which needs none."""
    if workers == 1:
        yield None
        return
    # Arrow's threads may be running by now: a forked process could inherit a lock that nobody will ever open.
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def decode_all(
    pool: Executor | None, workers: int, paths: Sequence[Path], recipe: Recipe
) -> Generator[Result, None, None]:
    """The pictures of `paths`, one after another in their order.

    Raises:
        ChatPainterError: a process was killed.
    """
    chunks: Iterator[Sequence[Path]] = (paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK))
    if pool is None:
        for chunk in chunks:
            yield from _decode_some(chunk, recipe)
        return
    under_way: deque[Future[list[Result]]] = deque()
    try:
        while True:
            while len(under_way) < AHEAD * workers and (chunk := next(chunks, ())):
                under_way.append(pool.submit(_decode_some, chunk, recipe))
            if not under_way:
                return
            yield from under_way.popleft().result()
    except BrokenProcessPool:
        raise ChatPainterError(
            "a process that decodes pictures was killed, out of memory?; run the same command again (finished shards "
            "are kept), with fewer --workers"
        ) from None
    finally:
        for future in under_way:
            future.cancel()


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Say what to do where the system lets nobody start more threads or processes.

    Raises:
        ChatPainterError: in place of what Python says then.
    """
    try:
        yield
    except (RuntimeError, BlockingIOError) as error:
        if isinstance(error, BlockingIOError) or "start new thread" in str(error):
            raise ChatPainterError(
                "the system lets this user start no more threads or processes; run the same command again (finished "
                "shards are kept) with fewer --workers, or with a higher limit (ulimit -u)"
            ) from None
        raise


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without Pillow's warnings of damaged EXIF blocks, of which COCO has its share, and of more than 89 million pixels
    (a picture of more than twice as many is not decoded)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def _decode_some(paths: Sequence[Path], recipe: Recipe) -> list[Result]:
    with quietly():
        return [_decode_one(path, recipe) for path in paths]


def _decode_one(path: Path, recipe: Recipe) -> Result:
    try:
        arrays = decode(path, recipe.sizes)
    except Unreadable as problem:
        return Failed(str(problem))
    return [
        array if quality is None else encode_jpeg(array, quality) for array, quality in zip(arrays, recipe.qualities)
    ]


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The run that started it says what Ctrl-C means.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A run killed outright cannot tell its workers, and they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
