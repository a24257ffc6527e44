"""Places of a picture and words of a text, as AttnGAN has them (Xu et al., 2018): who looks at whom, and the DAMSM.

Equations by their numbers in the paper; where the published code (taoxugit/AttnGAN, code/GlobalAttention.py and
code/miscc/losses.py) differs from them, it is followed, and docs/paper.md has the row.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAST = 1e-8  # norms are taken to be at least this


class WordAttention(nn.Module):
    """The words that each place looks at (eq. 2; ATT_NET): softmax over the words of place · key, unscaled.

    A word's key is also its value.

    Args:
        channels: of the picture's features, and of the context.
        dim: of a word.
    """

    def __init__(self, channels: int, dim: int):
        super().__init__()
        self.conv_context = nn.Conv2d(dim, channels, 1, bias=False)

    def forward(self, places: Tensor, words: Tensor, there: Tensor, shuffled: bool = False) -> tuple[Tensor, Tensor]:
        """places (B, channels, h, w), words (B, L, dim) zero where they are not `there` (B, L) bool.

        Args:
            shuffled: which words are there is taken from row (b h w + place) mod B of the batch instead of row b, as
                the published code does; without effect where all texts are of one length.

        Returns:
            context (B, channels, h, w) and map (B, L, h, w): each word's share of what a place looks at. A place
            whose text has no word gets zeros.
        """
        b, channels, height, width = places.shape
        keys = self.conv_context(words.transpose(1, 2)[..., None].to(places.dtype))[..., 0]  # (B, channels, L)
        scores = places.flatten(2).transpose(1, 2) @ keys  # (B, h w, L)
        heard = there[:, None]
        if shuffled:
            rows = torch.arange(b * height * width, device=places.device) % b
            heard = there[rows].view(b, height * width, -1)
        attention = scores.masked_fill(~heard, torch.finfo(scores.dtype).min).softmax(2) * heard
        attention = attention.transpose(1, 2)
        context = keys @ attention.to(keys.dtype)
        return context.view(b, channels, height, width), attention.reshape(b, -1, height, width)


class Sharpness(NamedTuple):
    """AttnGAN's gammas, and whether the pooled score is as printed."""

    focus: float = 4.0  # gamma_1: how sharply a word picks its regions
    pooling: float = 5.0  # gamma_2: how near the pooled score comes to the best word's
    scale: float = 10.0  # gamma_3: what scores are multiplied by in the cross-entropies
    root: bool = False  # the pooled score divided by gamma_2, as eq. 10 is printed; the published code does not


def picked_regions(regions: Tensor, words: Tensor, there: Tensor, focus: float) -> tuple[Tensor, Tensor]:
    """The regions that each word of each text picks of each picture (eq. 7-9).

    regions (B, D, P), words (N, L, D), there (N, L) bool → context (B, N, L, D) and attention (B, N, L, P), which sums
    to 1 over the regions. Of words that are not there both mean nothing.
    """
    alike = torch.einsum("bdp,nld->bnlp", regions, words)
    alike = alike.masked_fill(~there[None, :, :, None], torch.finfo(alike.dtype).min).softmax(2)  # over the words
    attention = (focus * alike).softmax(3)
    return torch.einsum("bnlp,bdp->bnld", attention, regions), attention


def word_scores(regions: Tensor, words: Tensor, there: Tensor, sharpness: Sharpness) -> Tensor:
    """How well each picture shows the words of each text (eq. 10): (B, N), before gamma_3.

    regions (B, D, P) or (B, D, h, w), words (N, L, D), there (N, L) bool.
    """
    context, _ = picked_regions(regions.flatten(2), words, there, sharpness.focus)
    norms = context.norm(dim=3) * words.norm(dim=2)
    cosine = (context * words).sum(3) / norms.clamp(min=LEAST)
    pooled = (sharpness.pooling * cosine).masked_fill(~there, torch.finfo(cosine.dtype).min).logsumexp(2)
    return pooled / sharpness.pooling if sharpness.root else pooled


def sentence_scores(codes: Tensor, sentences: Tensor) -> Tensor:
    """Cosine of every picture's code (B, D) and every text's vector (N, D): (B, N)."""
    return codes @ sentences.T / (codes.norm(dim=1)[:, None] * sentences.norm(dim=1)).clamp(min=LEAST)


class DamsmLosses(NamedTuple):
    """Cross-entropies (), of words (w) and sentences (s): a picture finds its text (0), a text its picture (1)."""

    w0: Tensor
    w1: Tensor
    s0: Tensor
    s1: Tensor

    @property
    def total(self) -> Tensor:
        """All four, equally."""
        return self.w0 + self.w1 + self.s0 + self.s1


class ImageFeatures(NamedTuple):
    """What an image encoder makes of pictures."""

    regions: Tensor  # (B, D, h, w)
    code: Tensor  # (B, D)


class TextFeatures(NamedTuple):
    """What a text encoder makes of texts."""

    words: Tensor  # (B, L, D)
    there: Tensor  # (B, L) bool
    sentence: Tensor  # (B, D)


def damsm_loss(
    seen: ImageFeatures,
    told: TextFeatures,
    classes: Tensor | None,
    sharpness: Sharpness,
    rank: int = 0,
    gather: Callable[[Tensor], Tensor] | None = None,
) -> DamsmLosses:
    """How badly pictures and their texts find each other among all of the batch (eq. 11-13).

    Args:
        classes: (B,), or None. Another picture or text of the same class is no wrong one, and is left out.
        rank, gather: with `gather`, which lays the same tensor of every process below each other, the pictures and
            texts of all processes are compared, and `rank` says whose rows are ours; the mean over the processes is
            then the loss of the whole batch.
    """
    gather = gather or (lambda rows: rows)
    own = rank * len(told.sentence) + torch.arange(len(told.sentence), device=told.sentence.device)
    same = None
    if classes is not None:
        every = gather(classes)
        same = classes[:, None] == every
        same[torch.arange(len(own), device=own.device), own] = False

    def both(ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
        """Our pictures among all texts (b, N) and our texts among all pictures (b, N): cross-entropies."""
        rows = [sharpness.scale * scores for scores in (ours, theirs)]
        if same is not None:
            rows = [scores.masked_fill(same, -torch.inf) for scores in rows]
        return F.cross_entropy(rows[0], own), F.cross_entropy(rows[1], own)

    words, there, sentence = gather(told.words), gather(told.there), gather(told.sentence)
    by_picture = word_scores(seen.regions, words, there, sharpness)
    alone = len(words) == len(told.words)
    by_text = by_picture if alone else word_scores(gather(seen.regions), told.words, told.there, sharpness)
    w0, w1 = both(by_picture, by_text.T)
    s0, s1 = both(sentence_scores(seen.code, sentence), sentence_scores(gather(seen.code), told.sentence).T)
    return DamsmLosses(w0, w1, s0, s1)
