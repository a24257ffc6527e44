"""Which sentences are learned from when: a function of the seed and of how many were seen, and of nothing else."""

from dataclasses import dataclass

import numpy as np

from pipeline.encoders.training.sentences import Sentences

CHUNK = 64  # batches that are sorted by length together: little padding, and still drawn at random


@dataclass(frozen=True)
class SentenceBatch:
    """n sentences with their neighbours, as numbers of words, <eos> (0) at the end of each and as padding.

    `sentences`, `before`, `after`: (n, longest) int64 each; `*_lengths`: (n,) int64, <eos> counted.
    """

    sentences: np.ndarray
    lengths: np.ndarray
    before: np.ndarray
    before_lengths: np.ndarray
    after: np.ndarray
    after_lengths: np.ndarray

    def targets(self, itself: bool) -> int:
        """Words that are foretold, <eos> among them: of the neighbours, and of the sentences `itself`, too."""
        neighbours = int(self.before_lengths.sum() + self.after_lengths.sum())
        return neighbours + int(self.lengths.sum()) if itself else neighbours


class Batches:
    """Batch number i of a training, for any i."""

    def __init__(self, data: Sentences, size: int, seed: int) -> None:
        self.data, self.seed = data, seed
        self.size = min(size, len(data.seen))
        self.each_epoch = len(data.seen) // self.size  # what is left over is left out, other sentences each time
        self._epoch = self._chunk = -1
        self._order = np.empty(0, np.int64)
        self._sorted = np.empty(0, np.int64)

    def __getitem__(self, number: int) -> SentenceBatch:
        epoch, within = divmod(number, self.each_epoch)
        chunk, place = divmod(within, CHUNK)
        if epoch != self._epoch:
            self._order = np.random.default_rng([self.seed, epoch]).permutation(len(self.data.seen))
            self._epoch, self._chunk = epoch, -1
        if chunk != self._chunk:
            last = min((chunk + 1) * CHUNK, self.each_epoch) * self.size
            drawn = self.data.seen[np.sort(self._order[chunk * CHUNK * self.size : last])]
            rng = np.random.default_rng([self.seed, epoch, chunk])
            drawn = rng.permutation(drawn)
            lengths = self.data.starts[drawn + 1] - self.data.starts[drawn]
            batches = drawn[np.argsort(lengths, kind="stable")].reshape(-1, self.size)
            self._sorted = rng.permutation(batches)
            self._chunk = chunk
        return gather(self.data, self._sorted[place])


def gather(data: Sentences, middles: np.ndarray) -> SentenceBatch:
    """The batch of these sentences (n,)."""
    parts = []
    for offset in (0, -1, 1):
        rows = middles + offset
        starts, stops = data.starts[rows], data.starts[rows + 1]
        lengths = np.asarray(stops - starts + 1)
        padded = np.zeros((len(rows), int(lengths.max())), np.int64)
        for target, start, stop in zip(padded, starts.tolist(), stops.tolist()):
            target[: stop - start] = data.tokens[start:stop]
        parts += [padded, lengths]
    return SentenceBatch(*parts)
