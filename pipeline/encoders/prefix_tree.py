"""A GRU over many token sequences."""

from collections import defaultdict

import numpy as np
import torch

from pipeline.weights.theano import Gru


class Direction:
    """One GRU of Skip-Thought with its word vectors, reading sequences forwards or in reverse."""

    def __init__(self, gru: Gru, vectors: np.ndarray, reverse: bool, device: torch.device) -> None:
        self.dim = gru.dim
        self.vectors = vectors
        self.reverse = reverse
        self.device = device
        self.input = torch.from_numpy(np.concatenate([gru.W, gru.Wx], 1)).to(device)
        self.bias = torch.from_numpy(np.concatenate([gru.b, gru.bx])).to(device)
        self.hidden = torch.from_numpy(np.concatenate([gru.U, gru.Ux], 1)).to(device)

    def last_states(self, sequences: list[list[int]]) -> np.ndarray:
        """The state after the last token of every sequence, (n, D) float32."""
        distinct: dict[tuple[int, ...], int] = {}
        which = [distinct.setdefault(tuple(sequence), len(distinct)) for sequence in sequences]
        by_length = defaultdict(list)
        for sequence, position in distinct.items():
            by_length[len(sequence)].append((position, sequence))
        states = np.empty((len(distinct), self.dim), np.float32)
        for length, group in by_length.items():
            rows = np.array([sequence for _, sequence in group])
            if self.reverse:
                rows = rows[:, ::-1]
            h = torch.zeros(len(group), self.dim, device=self.device)
            for t in range(length):
                x = torch.from_numpy(np.ascontiguousarray(self.vectors[rows[:, t]])).to(self.device)
                h = self.step(h, x @ self.input + self.bias)
            states[[position for position, _ in group]] = h.cpu().numpy()
        return states[which]

    def step(self, h: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """One step of the GRU: states (n, D), inputs times input weights (n, 3D) → new states (n, D)."""
        D = self.dim
        p = h @ self.hidden
        r = torch.sigmoid(p[:, :D] + x[:, :D])
        u = torch.sigmoid(p[:, D : 2 * D] + x[:, D : 2 * D])
        c = torch.tanh(p[:, 2 * D :] * r + x[:, 2 * D :])
        return u * h + (1 - u) * c
