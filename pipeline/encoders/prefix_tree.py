"""GRUs over many token sequences at once, each state that sequences share computed once.

A GRU's state depends on the tokens so far and on nothing else, so sequences that begin alike share their first
states. The sequences form a prefix tree; it is walked level by level. At each level the recurrent half `h U` of the
next step is one matrix product over the nodes that have children, and the input half `x W + b` is looked up, having
been computed once for each distinct word. The reverse direction walks the tree of the reversed sequences.

Sequences that share nothing cost what length-sorted batches without padding cost: a level holds exactly the sequences
that are still running.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch

from pipeline.encoders.products import Product
from pipeline.weights.theano import Gru, Vectors

# One walk holds two levels of states and its words' input halves: at 2400 values a state and 16,384 sequences
# and words, 0.3 GB + 0.5 GB, whatever the number of sequences asked for.
MOST_SEQUENCES = 16_384
MOST_WORDS = 16_384
BLOCK = {"cpu": 256, "cuda": 16_384}  # nodes a product: on CPU the gates then find the product in the cache


@dataclass(frozen=True)
class Level:
    """The nodes one token deeper. Nodes are ordered by parent, so a block of parents has a block of children."""

    parents: np.ndarray  # (m,) of each node: its parent, counted among the previous level's nodes with children
    words: np.ndarray  # (m,) of each node: its token
    inner: np.ndarray  # (k,) the nodes that have children
    ends: np.ndarray  # (e,) the nodes at which sequences end …
    sequences: np.ndarray  # (e,) … and which sequences


class Sequences:
    """Distinct non-empty token sequences, flat: tokens counted from 0 among the `words` that occur."""

    def __init__(self, sequences: Sequence[tuple[int, ...]]) -> None:
        self.lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
        tokens = np.fromiter(chain.from_iterable(sequences), np.int64, int(self.lengths.sum()))
        self.words, self.tokens = np.unique(tokens, return_inverse=True)
        self.starts = np.concatenate([[0], np.cumsum(self.lengths)[:-1]])

    def levels(self, reverse: bool) -> Iterator[Level]:
        """The prefix tree (of the reversed sequences, if `reverse`), from the first tokens down."""
        running = np.arange(len(self.lengths))
        above = np.zeros(len(running), np.int64)  # of each running sequence: its node, among those with children
        depth = 0
        while len(running):
            at = self.starts[running] + (self.lengths[running] - 1 - depth if reverse else depth)
            keys, node = np.unique(above * len(self.words) + self.tokens[at], return_inverse=True)
            depth += 1
            on = self.lengths[running] > depth
            inner, above = np.unique(node[on], return_inverse=True)
            yield Level(*np.divmod(keys, len(self.words)), inner, node[~on], running[~on])
            running = running[on]


def distinct(sequences: Sequence[Sequence[int]]) -> tuple[list[tuple[int, ...]], np.ndarray]:
    """The distinct ones among `sequences`, sorted, and for each of `sequences` its place among them."""
    tuples = [tuple(sequence) for sequence in sequences]
    ordered = sorted(set(tuples))
    place = {sequence: i for i, sequence in enumerate(ordered)}
    return ordered, np.fromiter((place[sequence] for sequence in tuples), np.int64, len(tuples))


def pieces(ordered: list[tuple[int, ...]]) -> Iterator[slice]:
    """Neighbouring sequences (which share most) in pieces that bound the memory of one walk."""
    start = 0
    words: set[int] = set()
    for i, sequence in enumerate(ordered):
        words.update(sequence)
        if i > start and (len(words) > MOST_WORDS or i - start == MOST_SEQUENCES):
            yield slice(start, i)
            start, words = i, set(sequence)
    if start < len(ordered):
        yield slice(start, len(ordered))


def to_unit_length(vectors: np.ndarray) -> None:
    """Divide every row (n, d) by its norm, in place; zeros stay."""
    rows = torch.from_numpy(vectors)
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    rows.div_(norms.where(norms > 0, torch.ones(())))


class Direction:
    """One GRU of Skip-Thought with its word vectors, reading sequences forwards or in reverse."""

    def __init__(self, gru: Gru, vectors: Vectors, reverse: bool, device: torch.device) -> None:
        self.dim = gru.dim
        self.vectors = vectors
        self.reverse = reverse
        self.device = device
        self.block = BLOCK.get(device.type, BLOCK["cuda"])

        def product(*arrays: np.ndarray, bias: np.ndarray | None = None) -> Product:
            weight = torch.from_numpy(np.concatenate(arrays, 1)).to(device)
            return Product(weight, None if bias is None else torch.from_numpy(bias).to(device))

        # Columns [r | u | candidate]; the candidate's twice as large, since tanh(a) = 2 σ(2a) - 1 and torch's σ takes a
        # sixth of its tanh's time.
        self.input = product(gru.W, 2 * gru.Wx, bias=np.concatenate([gru.b, 2 * gru.bx]))
        self.hidden = product(gru.U, 2 * gru.Ux)

    def last_states(self, sequences: Sequences, out: np.ndarray) -> None:
        """Write the state after the last token of every sequence into `out` (n, D) float32."""
        inputs = self._inputs(sequences.words)
        states = torch.zeros(1, self.dim, device=self.device)  # of the nodes with children one level up: the root
        for depth, level in enumerate(sequences.levels(self.reverse)):
            states = self._level(states, level, inputs, first=depth == 0)
            if len(level.ends):
                torch.from_numpy(out)[torch.from_numpy(level.sequences)] = states[self._index(level.ends)].cpu()
            if len(level.inner) < len(states):
                states = states[self._index(level.inner)]

    def _inputs(self, words: np.ndarray) -> torch.Tensor:
        """Input half of a step for each word, (words, 3D)."""
        inputs = torch.empty(len(words), 3 * self.dim, device=self.device)
        for start in range(0, len(words), 4096):
            vectors = np.ascontiguousarray(self.vectors[words[start : start + 4096]])
            inputs[start : start + 4096] = self.input(torch.from_numpy(vectors).to(self.device))
        return inputs

    def _level(self, above: torch.Tensor, level: Level, inputs: torch.Tensor, first: bool) -> torch.Tensor:
        """States of a level's nodes (m, D) from those of their parents (k, D)."""
        states = torch.empty(len(level.words), self.dim, device=self.device)
        words = self._index(level.words)
        parents = self._index(level.parents)
        for start in range(0, len(above), self.block):
            stop = min(start + self.block, len(above))
            begin, end = np.searchsorted(level.parents, (start, stop))
            x = inputs.index_select(0, words[begin:end])
            h = above[start:stop]
            p = None if first else self.hidden(h)  # the root's state is zero
            if end - begin != stop - start:  # some parent has several children
                mine = parents[begin:end] - start
                h = h.index_select(0, mine)
                p = None if p is None else p.index_select(0, mine)
            self._step(h, p, x, states[begin:end])
        return states

    def _step(self, h: torch.Tensor, p: torch.Tensor | None, x: torch.Tensor, out: torch.Tensor) -> None:
        """One GRU step from states h (n, D), with p = h @ hidden (n, 3D) and input halves x (n, 3D), x being used up.

        r, u = σ(p + x); c = tanh(r p + x); h' = u h + (1 - u) c, as skipthoughts.py's gru_layer.
        """
        D = self.dim
        gates, candidate = x[:, : 2 * D], x[:, 2 * D :]
        if p is not None:
            gates += p[:, : 2 * D]
        gates.sigmoid_()
        if p is not None:
            candidate.addcmul_(gates[:, :D], p[:, 2 * D :])
        candidate.sigmoid_().mul_(2).sub_(1)
        torch.lerp(candidate, h, gates[:, D:], out=out)

    def _index(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)
