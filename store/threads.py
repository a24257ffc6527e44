"""Work in a few threads, or in this one where the system gives no more."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def in_threads(function: Callable[[A], B], items: Iterable[A], threads: int = 4) -> Iterator[B]:
    """`map(function, items)` in threads, in order; for work that lets go of the GIL, such as hashing."""
    pool = ThreadPoolExecutor(threads)
    items = list(items)
    try:
        results = pool.map(function, items)
    except RuntimeError:  # "can't start new thread": a limit of processes, or of the container
        pool.shutdown(cancel_futures=True)
        yield from map(function, items)
        return
    with pool:
        yield from results
