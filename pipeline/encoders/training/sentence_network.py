"""Skip-Thought's network (Kiros et al., 2015): a sentence's vector foretells the sentence before and the one after.

The encoder is the published one, equation for equation (`encoders.prefix_tree`). A decoder is the same GRU with the
vector h among what each gate reads, as the paper has it:

    r, u = σ(x W + s U + h C); c = tanh(x Wx + r (s Ux) + h Cx); s' = u s + (1 - u) c

which is a GRU that reads the word before and the vector side by side. Its state s starts at tanh(h S + b): the paper
does not say where, but uni_skip.npz has room for just one such layer beside all that the paper names. Both decoders
share the word vectors and the layer to words. Where the sentence itself is foretold, too (the composite model of Gan et
al., 2017), a third decoder does it from the same vector, which then has to keep what was said. A word is scored by a
softmax over all, or over clusters by frequency (Grave et al., 2017), which is a probability of every word as well.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from pipeline.weights import untrained

UNIFORM = 0.1  # of all weights that are not recurrent, to either side of 0
LOUD = 4.0  # of word vectors that begin remembering: at that size words bend tanh and gates, and are told apart better
CLUSTERS = (16, 4)  # of the adaptive softmax: the most frequent sixteenth, those up to a quarter, the rest


class SentenceNetwork(nn.Module):
    """One of the two halves: `directions` 1 (uni) or 2 (bi, each of half the width).

    Args:
        words: size of the vocabulary.
        word_dim: E. dim: of the sentence's vector, and of the decoders' states.
        adaptive: score words by clusters.
        remembering: the encoder and the word vectors begin as untrained weights are drawn, whose states keep what was
            read, but the word vectors `LOUD`; not as the paper has them, which halve a state at each word.
        itself: the sentence itself is foretold, too.
    """

    def __init__(
        self,
        words: int,
        word_dim: int,
        dim: int,
        directions: int,
        adaptive: bool,
        remembering: bool = False,
        itself: bool = False,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, word_dim)
        self.encoder = nn.GRU(word_dim, dim // directions, batch_first=True, bidirectional=directions == 2)
        self.initial = nn.Linear(dim, dim)
        self.before = nn.GRU(word_dim + dim, dim, batch_first=True)
        self.after = nn.GRU(word_dim + dim, dim, batch_first=True)
        self.output: nn.Module = _Adaptive(dim, words) if adaptive else _Full(dim, words)
        self.itself = nn.GRU(word_dim + dim, dim, batch_first=True) if itself else None
        self._initialise()
        if remembering:
            self._remember(np.random.default_rng(int(torch.randint(2**31, ()))))

    def _initialise(self) -> None:
        for name, parameter in self.named_parameters():
            leaf = name.rpartition(".")[2]
            if leaf.startswith("weight_hh"):
                for gate in parameter.data.chunk(3):
                    nn.init.orthogonal_(gate)
            elif leaf.startswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.uniform_(parameter, -UNIFORM, UNIFORM)
            if leaf.startswith("bias_hh"):
                parameter.requires_grad_(False)  # the published encoder has none

    @torch.no_grad()
    def _remember(self, rng: np.random.Generator) -> None:
        self.embedding.weight.copy_(torch.from_numpy(LOUD * untrained.word_vectors(rng, *self.embedding.weight.shape)))
        weights = self.encoder.state_dict()
        for suffix in ("_l0", "_l0_reverse")[: 1 + self.encoder.bidirectional]:
            drawn = untrained.gru(rng, self.encoder.input_size, self.encoder.hidden_size)
            for name, gates, candidate in (("weight_ih", "W", "Wx"), ("weight_hh", "U", "Ux"), ("bias_ih", "b", "bx")):
                both = np.concatenate([drawn[gates], drawn[candidate]], -1).T
                weights[f"{name}{suffix}"].copy_(torch.from_numpy(both))

    def vectors(self, sentences: Tensor, lengths: Tensor) -> Tensor:
        """(n, longest) numbers of words and (n,) lengths, on the CPU → (n, dim): the states after the last words."""
        packed = pack_padded_sequence(self.embedding(sentences), lengths, batch_first=True, enforce_sorted=False)
        _, states = self.encoder(packed)
        return torch.cat(list(states), 1)

    def surprise(self, decoder: nn.GRU, vectors: Tensor, target: Tensor, lengths: Tensor) -> Tensor:
        """-ln p of every word of `target` (n, longest) and of its <eos>, given the vectors: (words,) float32."""
        words = F.pad(self.embedding(target), (0, 0, 1, 0))[:, :-1]  # the word before; nothing before the first
        repeated = vectors[:, None].expand(-1, target.shape[1], -1)
        states, _ = decoder(torch.cat([words, repeated], 2), torch.tanh(self.initial(vectors))[None])
        there = torch.arange(target.shape[1], device=target.device) < lengths.to(target.device)[:, None]
        surprise: Tensor = self.output(states[there], target[there])
        return surprise

    def forward(self, batch: Sequence[Tensor]) -> dict[str, Tensor]:
        """The summed surprise at the sentences `before`, at those `after` and, where they are foretold, at `itself`.

        Args:
            batch: the six arrays of a `SentenceBatch` in their order, lengths on the CPU.
        """
        sentences, lengths, before, before_lengths, after, after_lengths = batch
        vectors = self.vectors(sentences, lengths)
        surprise = {
            "before": self.surprise(self.before, vectors, before, before_lengths).sum(),
            "after": self.surprise(self.after, vectors, after, after_lengths).sum(),
        }
        if self.itself is not None:
            surprise["itself"] = self.surprise(self.itself, vectors, sentences, lengths).sum()
        return surprise


class _Full(nn.Module):
    def __init__(self, dim: int, words: int) -> None:
        super().__init__()
        self.layer = nn.Linear(dim, words)

    def forward(self, states: Tensor, words: Tensor) -> Tensor:
        return F.cross_entropy(self.layer(states).float(), words, reduction="none")


class _Adaptive(nn.Module):
    def __init__(self, dim: int, words: int) -> None:
        super().__init__()
        cutoffs = sorted({max(1, words // share) for share in CLUSTERS})
        self.layer = nn.AdaptiveLogSoftmaxWithLoss(dim, words, cutoffs)

    def forward(self, states: Tensor, words: Tensor) -> Tensor:
        with torch.autocast(states.device.type, enabled=False):
            logarithm: Tensor = self.layer(states.float(), words).output
            return -logarithm
