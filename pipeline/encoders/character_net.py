"""The char-CNN-RNN's arithmetic, with everything that texts share computed once.

What it exploits, all of it exact:

- A one-hot convolution is a gather. One column after the first pooling depends on six bytes, and of those strings of
  six there are few, so columns and their products with each tap of the second convolution are made once for each.
- Past the text every input is the same, and so is every column: the convolutions run over what the text reaches, and
  one constant column stands for the rest.
- The input maps of the recurrence are one product over all columns of all texts; the hidden maps of the two gates are
  one product a step.
"""

import numpy as np
import torch
from torch.nn import functional as F

from pipeline.encoders.products import Product
from pipeline.weights.reed import ALPHABET, LENGTH, CharCnnRnnWeights, Pool

# Columns a product, and texts that recur side by side: what bounds memory, and on CPU stays in the cache.
ROWS = {"cpu": 1024, "cuda": 16_384}
TEXTS = {"cpu": 512, "cuda": 4096}


class Convolution:
    """A convolution as one product a tap: (n, channels) → (n, kernel, width), to be gathered and added."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, channels: int) -> None:
        self.kernel = weight.shape[1] // channels
        self.width = len(weight)
        self.bias = bias
        self.weight = weight

    def taps(self) -> torch.Tensor:
        """(kernel, channels, width)."""
        return self.weight.reshape(self.width, self.kernel, -1).permute(1, 2, 0)


class CharacterNet:
    """Texts as channel numbers → vectors."""

    def __init__(self, weights: CharCnnRnnWeights, device: torch.device) -> None:
        self.device = device
        self.weights = weights
        self.rows = ROWS.get(device.type, ROWS["cuda"])
        self.texts = TEXTS.get(device.type, TEXTS["cuda"])
        tensors = [(self._tensor(weight), self._tensor(bias)) for weight, bias in weights.convolutions]
        widths = [ALPHABET, *(len(weight) for weight, _ in tensors)]
        self.convolutions = [Convolution(w, b, channels) for (w, b), channels in zip(tensors, widths)]
        first, second, third = self.convolutions
        self.kernels = [convolution.kernel for convolution in self.convolutions]
        self.pools = [pool or Pool(1, 1) for pool in weights.pools]
        # A row of zeros for "nothing".
        self.letters = torch.cat([first.taps(), torch.zeros(first.kernel, 1, first.width, device=device)], 1)
        # A column after the first pooling sees this many bytes …
        self.gram = self.pools[0].width + first.kernel - 1
        # … and the stages have this many columns: after each convolution and each pooling.
        self.columns = [LENGTH]
        for kernel, pool in zip(self.kernels, self.pools):
            self.columns.append((self.columns[-1] - kernel + 1 - pool.width) // pool.stride + 1)
        self.second = Product(second.taps().permute(1, 0, 2).reshape(first.width, -1).contiguous())
        self.third = Product(third.weight.t().contiguous(), third.bias)
        names = [name for name in ("input_update", "input_reset", "input") if name in weights.maps]
        self.input = self._maps(*names)
        self.hidden = self._maps("hidden")
        self.gates = self._maps("hidden_update", "hidden_reset") if weights.recurrence == "gru" else None
        weight, bias = weights.projection
        self.projection = Product(self._tensor(weight.T), self._tensor(bias))

    def __call__(self, rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Vectors (n, dim) float32 of n ≥ 1 texts given as channels (n, 201) uint8 and numbers of bytes (n,)."""
        # How many columns of each stage the text reaches; column `reach` and all after it are the constant one.
        reach = [lengths]
        for pool, columns in zip(self.pools, self.columns[1:]):
            reach.append(np.minimum(-(-reach[-1] // pool.stride), columns))
        x = self._second(rows, *reach[1:3])
        x = self._third(x, *reach[2:4])
        x = self.input(x)
        return self._recur(x, reach[3])

    def _second(self, rows: np.ndarray, reach_first: np.ndarray, reach: np.ndarray) -> torch.Tensor:
        """Columns after the second pooling: those that texts reach, one text after the other, then the constant one."""
        pool, kernel = self.pools[0], self.kernels[1]
        starts = np.arange(self.columns[1]) * pool.stride
        grams = rows[:, starts[:, None] + np.arange(self.gram)]  # (n, columns, gram)
        # Grams as numbers: those that a text reaches, and the empty one.
        used = np.arange(self.columns[1]) < reach_first[:, None]
        found = np.concatenate([grams[used], np.full((1, self.gram), ALPHABET, np.uint8)])
        keys = np.ascontiguousarray(found).view(np.dtype((np.void, self.gram))).ravel()
        distinct, inverse = np.unique(keys, return_inverse=True)
        number = np.full(used.shape, inverse[-1])
        number[used] = inverse[:-1]
        products = self._grams(distinct.view(np.uint8).reshape(-1, self.gram))  # (grams × kernel, width)
        # Every column before pooling is a sum of `kernel` rows of products.
        text, column = self._reached(reach)
        after = self.pools[1]
        at = column[:, None] * after.stride + np.arange(after.width)  # (m, pooled)
        window = at[..., None] + np.arange(kernel)  # (m, pooled, kernel)
        pieces = number[text[:, None, None], window] * kernel + np.arange(kernel)
        constant = np.broadcast_to(inverse[-1] * kernel + np.arange(kernel), (1, after.width, kernel))
        return self._pool(products, np.concatenate([pieces, constant]), self.convolutions[1].bias)

    def _grams(self, grams: np.ndarray) -> torch.Tensor:
        """For each string of channels (g, gram): its column after the first pooling times every tap of the second."""
        pool, kernel, second = self.pools[0], self.kernels[0], self.convolutions[1]
        columns = torch.empty(len(grams), self.convolutions[0].width, device=self.device)
        letters = self.letters.reshape(-1, self.letters.shape[2])
        offsets = np.arange(kernel) * (ALPHABET + 1)
        for start in range(0, len(grams), self.rows):
            part = grams[start : start + self.rows].astype(np.int64)
            windows = np.stack([part[:, i : i + kernel] for i in range(pool.width)], 1)  # (g, pooled, kernel)
            self._sum(letters, windows + offsets, self.convolutions[0].bias, columns[start : start + self.rows])
        return self.second(columns).reshape(-1, second.width)

    def _pool(self, products: torch.Tensor, pieces: np.ndarray, bias: torch.Tensor) -> torch.Tensor:
        columns = torch.empty(len(pieces), products.shape[1], device=self.device)
        for start in range(0, len(pieces), self.rows):
            self._sum(products, pieces[start : start + self.rows], bias, columns[start : start + self.rows])
        return columns

    def _sum(self, table: torch.Tensor, pieces: np.ndarray, bias: torch.Tensor, out: torch.Tensor) -> None:
        """Write columns (m, width): of table rows named by pieces (m, pooled, kernel) the sum over kernel, plus bias,
        through the threshold, its maximum over pooled."""
        m, pooled, kernel = pieces.shape
        index = torch.from_numpy(np.ascontiguousarray(pieces.reshape(-1, kernel))).to(self.device)
        x = F.embedding_bag(index, table, mode="sum").add_(bias)
        x = torch.threshold_(x, self.weights.threshold, 0.0)
        torch.amax(x.reshape(m, pooled, -1), 1, out=out)

    def _third(self, x: torch.Tensor, reach: np.ndarray, after: np.ndarray) -> torch.Tensor:
        """Columns that enter the recurrence: those that texts reach, then the constant one."""
        kernel, pool = self.kernels[2], self.pools[2]
        starts = np.concatenate([[0], np.cumsum(reach)[:-1]])
        text, column = self._reached(after)
        at = column[:, None] * pool.stride + np.arange(pool.width)
        at = np.concatenate([at, np.full((1, pool.width), LENGTH)])  # reached by no text
        text = np.append(text, 0)
        window = at[..., None] + np.arange(kernel)  # (m, pooled, kernel)
        rows = np.where(window < reach[text][:, None, None], starts[text][:, None, None] + window, len(x) - 1)
        columns = torch.empty(len(rows), self.convolutions[2].width, device=self.device)
        for start in range(0, len(rows), self.rows):
            part = torch.from_numpy(rows[start : start + self.rows]).to(self.device)
            y = x.index_select(0, part.reshape(-1)).reshape(-1, kernel * x.shape[1])
            y = torch.threshold_(self.third(y), self.weights.threshold, 0.0)
            torch.amax(y.reshape(len(part), pool.width, -1), 1, out=columns[start : start + self.rows])
        return columns

    def _recur(self, x: torch.Tensor, reach: np.ndarray) -> np.ndarray:
        """From input halves (m, 3 or 1 × width), ragged by `reach` with the constant last, to vectors (n, dim)."""
        vectors = np.empty((len(reach), self.weights.dim), np.float32)
        starts = np.concatenate([[0], np.cumsum(reach)[:-1]])
        steps = np.arange(self.weights.steps)[:, None]
        for start in range(0, len(reach), self.texts):
            part = slice(start, start + self.texts)
            rows = np.where(steps < reach[part], starts[part] + steps, len(x) - 1)
            h = self._states(x, torch.from_numpy(rows).to(self.device))
            vectors[part] = self.projection(h).cpu().numpy()
        return vectors

    def _states(self, x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """What is read out of the recurrence, (n, width), given the rows of x at every step, (steps, n)."""
        D = self.hidden.outputs
        first = x[:, -D:].index_select(0, rows[0])
        h = _tanh_of_half(first) if self.gates else torch.relu_(first)
        total = h.clone()
        for step in rows[1:]:
            inputs = x.index_select(0, step)
            if self.gates:
                # FixedGRU: r before the hidden map, z on the new candidate
                zr = inputs[:, : 2 * D].add_(self.gates(h)).sigmoid_()
                candidate = _tanh_of_half(inputs[:, 2 * D :].add_(self.hidden(h * zr[:, D:])))
                h = torch.lerp(h, candidate, zr[:, :D])
            else:
                h = inputs.add_(self.hidden(h)).relu_()
            total += h
        return total.mul_(1 / self.weights.steps) if self.weights.average else h

    def _maps(self, *names: str) -> Product:
        # A candidate's maps are doubled, for `_tanh_of_half`.
        doubled = ("input", "hidden") if self.weights.recurrence == "gru" else ()
        maps = [(2 if name in doubled else 1, *self.weights.maps[name]) for name in names]
        weight = np.concatenate([times * weight.T for times, weight, _ in maps], 1)
        return Product(self._tensor(weight), self._tensor(np.concatenate([times * bias for times, _, bias in maps])))

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    @staticmethod
    def _reached(reach: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Text and column of every reached column, one text after the other."""
        text = np.repeat(np.arange(len(reach)), reach)
        starts = np.concatenate([[0], np.cumsum(reach)[:-1]])
        return text, np.arange(len(text)) - np.repeat(starts, reach)


def _tanh_of_half(x: torch.Tensor) -> torch.Tensor:
    """tanh(x / 2) = 2 σ(x) - 1, in place: torch's σ takes a sixth of its tanh's time."""
    return x.sigmoid_().mul_(2).sub_(1)
