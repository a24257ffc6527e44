"""Which rows come next, and every other random number: pure functions of (seed, images seen).

Nothing here remembers anything, so a run that starts again at the same number of images continues with the same batch.
"""

import functools
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from trainer.config import Training
from trainer.distributed import Ranks
from trainer.feed.inputs import Batch


class Rows(NamedTuple):
    """What one process reads in one step; b: its share of the batch."""

    images: np.ndarray  # (b,) int64: positions in TrainingData
    numbers: np.ndarray  # (b,) uint64: uniform random; modulo an image's captions it says which one is read
    mismatched: np.ndarray  # (b,) int64: for each image another one, uniformly, for systems that draw wrong pairs
    again: np.ndarray | None = None  # (b,) int64: a further one, for those whose first is of the image's own class


def rows_for(seed: int, images_seen: int, batch: int, n: int, rank: int = 0, world: int = 1) -> Rows:
    """What process `rank` of `world` reads in the step that starts after `images_seen` images; a pure function.

    Every epoch is a new permutation of the n images cut into whole batches of `batch` (all processes together);
    the rest of fewer than `batch` is left out, as StackGAN-Pytorch does, so that one batch never holds an image twice
    and a mismatched pair is always another image's. The processes' pieces laid side by side are the batch of a
    single process, whatever their number.

    Raises:
        ValueError: the batch is larger than the data, or does not divide among the processes, or images_seen by it.
    """
    if not 0 < batch <= n:
        raise ValueError(f"batch {batch} of {n} images")
    if batch % world:
        raise ValueError(f"batch {batch} is not a multiple of {world} processes")
    step, rest = divmod(images_seen, batch)
    if rest:
        raise ValueError(f"{images_seen} images seen is not a multiple of the batch {batch}")
    epoch, place = divmod(step, n // batch)
    local = batch // world
    mine = slice(rank * local, (rank + 1) * local)
    images = _permutation(seed, epoch, n)[place * batch : (place + 1) * batch][mine]
    numbers = _raw(batch, seed, images_seen, "captions")[mine]
    others = [
        (images + 1 + (_raw(batch, seed, images_seen, purpose)[mine] % np.uint64(max(1, n - 1))).astype(np.int64)) % n
        for purpose in ("mismatched", "mismatched again")
    ]
    return Rows(images, numbers, *others)


def images_per_epoch(n: int, batch: int) -> int:
    """Images seen in one epoch of `rows_for`."""
    return n // batch * batch


class Draws:
    """Random numbers of some rows of one step's batch: pure functions of (seed, images seen, purpose, row).

    They are drawn for the whole batch, of which each process and each part of it keeps its own rows: the same numbers
    on one process, two and eight, and in one part or several. Never saved, always derived.

    Args:
        images_seen: before the step.
        batch: rows of all processes together.
        rows: which of them these are.
        device: where the numbers are made and stay; processors and GPUs make different ones.
    """

    def __init__(
        self, seed: int, images_seen: int, batch: int, rows: slice, device: str | torch.device = "cpu"
    ) -> None:
        self._key = seed, images_seen
        self._batch, self._rows, self._device = batch, rows, torch.device(device)

    def normal(self, purpose: str, *shape: int) -> torch.Tensor:
        """(b, *shape) float32, standard normal."""
        return torch.randn(self._batch, *shape, generator=self._stream(purpose), device=self._device)[self._rows]

    def uniform(self, purpose: str, *shape: int) -> torch.Tensor:
        """(b, *shape) float32 in [0, 1)."""
        return torch.rand(self._batch, *shape, generator=self._stream(purpose), device=self._device)[self._rows]

    def _stream(self, purpose: str) -> torch.Generator:
        words = np.random.SeedSequence([*self._key, zlib.crc32(purpose.encode())])
        return torch.Generator(self._device).manual_seed(int(words.generate_state(1, np.uint64)[0] >> 1))


def microbatches(batch: Batch, training: Training, images_seen: int, ranks: Ranks) -> Iterator[tuple[Batch, Draws]]:
    """One process's share of a batch in `accumulate` equal parts, each with its rows' draws.

    Args:
        images_seen: before the step.
    """
    size = batch.size // training.accumulate
    for start in range(0, batch.size, size):
        first = ranks.rank * batch.size + start
        rows = slice(first, first + size)
        yield (
            batch.rows(slice(start, start + size)),
            Draws(training.seed, images_seen, training.batch, rows, ranks.device),
        )


@functools.lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    # Sorting raw Philox words keeps the order the same over numpy versions, which promise that of words alone.
    order = np.argsort(_raw(n, seed, epoch, "epoch"), kind="stable")
    order.flags.writeable = False
    return order


def _raw(n: int, seed: int, counter: int, purpose: str) -> np.ndarray:
    """(n,) uniform uint64."""
    words = np.random.SeedSequence([seed, counter, zlib.crc32(purpose.encode())])
    return np.asarray(np.random.Philox(words).random_raw(n))
