"""What was said, matched to regions of a picture by the discriminator: a text's tokens should find their picture.

AttnGAN's matching score between words and regions (Xu et al., 2018, eq. 7-12), with two differences: regions are
features of the discriminator itself, which learns the match on real pictures only, so nothing is trained beforehand;
and beside the pooled score each token is matched alone, which goes on teaching when whole texts are long told apart.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.networks.attention import TokenProjection, Tokens

HIGHEST_SCALE = 100.0  # as in CLIP (Radford et al., 2021): beyond it one pair alone decides


class MatchingLosses(NamedTuple):
    """Two losses, each 0-dim; which pictures they teach depends on whose features were given."""

    pooled: Tensor  # a picture finds its text among all, and a text its picture: cross-entropies, added
    single: Tensor  # every token finds its picture: mean cross-entropy over the tokens


class MatchingHead(nn.Module):
    """Features (B, channels, side, side) and tokens by kind → how badly they find each other.

    All pictures and texts of the batch are compared: every pair but a row's own is a wrong one.

    Args:
        dims: length of each kind of token.
        width: of the space in which regions and tokens are compared.
        focus: log of the sharpness with which a token picks its regions (AttnGAN's gamma_1), learned from there.
        pooling: how near the pooled score comes to that of the best token (gamma_2).
        scale: log of what multiplies scores in the cross-entropies (gamma_3), learned from there.
        hidden: channels of a 3 x 3 convolution before the projection, by which a region knows what lies around it: an
            edge is a shape only together with its neighbours; 0 for none.
        few: of most texts few of their tokens are there, so only those are compared; the device is waited for, to count
            them.
    """

    def __init__(
        self,
        channels: int,
        side: int,
        dims: Mapping[str, int],
        width: int,
        *,
        focus: float = 1.6,
        pooling: float = 5.0,
        scale: float = 2.3,
        hidden: int = 0,
        few: bool = False,
    ):
        super().__init__()
        self.position = nn.Parameter(torch.empty(channels, side, side).normal_(std=0.1))
        around = [nn.Conv2d(channels, hidden, 3, padding=1), nn.LeakyReLU(0.2)] if hidden else []
        self.project = nn.Sequential(*around, nn.Conv2d(hidden or channels, width, 1))
        self.tokens = TokenProjection(dims, width)
        self.focus = nn.Parameter(torch.tensor(focus))
        self.scale = nn.Parameter(torch.tensor(scale))
        self.pooling, self.few = pooling, few

    def forward(
        self,
        features: Tensor,
        tokens: Mapping[str, Tokens],
        rank: int = 0,
        gather: Callable[[Tensor], Tensor] | None = None,
    ) -> MatchingLosses:
        """features (B, channels, side, side), tokens of the B texts, in the same order.

        With `gather`, which lays the same tensor of every process below each other (and passes gradients back), the
        pictures and texts of all processes are compared; `rank` says whose rows are ours. The mean over the processes
        is then what one process with the whole batch would have, loss and gradient.
        """
        regions = self.regions(features)
        words, there = self.words(tokens)
        if gather is None:
            scores = self.scores(regions, words, there)
            return self.losses(scores, scores, there, there, 0)
        every_word, every_there = gather(words), gather(there)
        ours = self.scores(regions, every_word, every_there)
        theirs = self.scores(gather(regions), words, there)
        return self.losses(ours, theirs, every_there, there, rank * len(regions))

    def regions(self, features: Tensor) -> Tensor:
        """(B, channels, side, side) → (B, side², width) float32 of unit length."""
        projected = self.project(features + self.position).flatten(2).transpose(1, 2)
        return F.normalize(projected.float(), dim=2)

    def words(self, tokens: Mapping[str, Tokens]) -> tuple[Tensor, Tensor]:
        """Tokens of the texts → (B, T, width) float32 of unit length, (B, T) bool: is there one?"""
        return F.normalize(self.tokens(tokens).float(), dim=2), self.tokens.there(tokens)

    def scores(self, regions: Tensor, words: Tensor, there: Tensor) -> Tensor:
        """regions (B, P, width), words (N, T, width), there (N, T) → (B, N, T); any number where no token is."""
        if not self.few:
            return token_scores(regions, words, self.focus.exp())
        columns = there.flatten().nonzero().flatten()
        some = token_scores(regions, words.flatten(0, 1).index_select(0, columns)[None], self.focus.exp())[:, 0]
        return some.new_zeros(len(regions), there.numel()).index_copy(1, columns, some).unflatten(1, there.shape)

    def losses(
        self, by_picture: Tensor, by_text: Tensor, every_there: Tensor, there: Tensor, first: int
    ) -> MatchingLosses:
        """Both losses of b rows that are rows `first` to `first` + b of N.

        by_picture (b, N, T) our pictures against all texts, by_text (N, b, T) all pictures against our texts; there
        (b, T) and every_there (N, T). A text without tokens takes no part.
        """
        scale = self.scale.exp().clamp(max=HIGHEST_SCALE)
        own = first + torch.arange(len(by_picture), device=by_picture.device)
        told = there.any(1)
        to_text = F.cross_entropy(scale * pool(by_picture, every_there, self.pooling), own, reduction="none")
        to_picture = F.cross_entropy(scale * pool(by_text, there, self.pooling).T, own, reduction="none")
        logits = scale * by_text.permute(1, 0, 2)  # (b, N, T): for cross_entropy classes come second
        single = F.cross_entropy(logits, own[:, None].expand_as(there), reduction="none")
        # Divided by what every process has on average, so that the processes' mean is the mean over all.
        share = len(there) / len(every_there)
        texts, words = every_there.any(1).sum() * share, every_there.sum() * share
        return MatchingLosses(_mean(to_text + to_picture, told, texts), _mean(single, there, words))


def token_scores(regions: Tensor, words: Tensor, sharpness: Tensor) -> Tensor:
    """How well each token is shown: cosine of the token and the regions that it picks (AttnGAN, eq. 8-9).

    regions (B, P, d) and words (N, T, d) of unit length → (B, N, T) float32.
    """
    n, t, d = words.shape
    with torch.autocast(regions.device.type, enabled=False):
        alike = regions.float() @ words.float().reshape(n * t, d).T  # (B, P, N T)
        attention = (sharpness.float() * alike).softmax(1)
        context = attention.transpose(1, 2) @ regions.float()  # (B, N T, d)
        cosine = (attention * alike).sum(1) / context.norm(dim=2).clamp(min=1e-6)
    return cosine.view(len(regions), n, t)


def pool(scores: Tensor, there: Tensor, sharpness: float) -> Tensor:
    """Token scores (B, N, T) → text scores (B, N): a soft maximum over the tokens that are there (N, T); 0 of none."""
    absent = ~there.any(1)
    counted = there | absent[:, None]
    lowest = torch.finfo(scores.dtype).min
    pooled = (sharpness * scores).masked_fill(~counted, lowest).logsumexp(2) / sharpness
    return pooled.masked_fill(absent, 0.0)


def _mean(values: Tensor, counted: Tensor, number: Tensor) -> Tensor:
    """The sum of those counted over `number`; 0 if none is."""
    return (values * counted).sum() / number.clamp(min=1)
