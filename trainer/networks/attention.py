"""Places of a picture listen to what was said: attention to tokens of several kinds, be they captions, turns or words.

AttnGAN (Xu et al., 2018, section 3.1) lets places attend to the words of a caption. Here any vector is a token, a place
knows where it lies, and it may listen to none.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Tokens(NamedTuple):
    """One kind of token: B texts of at most T vectors each."""

    vectors: Tensor  # (B, T, dim); what is not there is never heard, but must be finite
    there: Tensor  # (B, T) bool


def first(counts: Tensor, longest: int) -> Tensor:
    """counts (B,) → (B, longest) bool: of each row the first `counts` are there."""
    return torch.arange(longest, device=counts.device) < counts[:, None]


def one_each(vectors: Tensor) -> Tokens:
    """Texts of one vector each (B, dim), such as captions, as tokens."""
    return Tokens(vectors[:, None], torch.ones(len(vectors), 1, dtype=torch.bool, device=vectors.device))


class TokenProjection(nn.Module):
    """Tokens of several kinds, each kind through a linear layer of its own to one `width`, side by side.

    Args:
        dims: length of each kind's vectors; their order is the order of the tokens.
    """

    def __init__(self, dims: Mapping[str, int], width: int):
        super().__init__()
        self.kinds = nn.ModuleDict({kind: nn.Linear(dim, width) for kind, dim in dims.items()})

    def forward(self, tokens: Mapping[str, Tokens]) -> Tensor:
        """Tokens of every kind → (B, T, width), T all kinds together."""
        return torch.cat([layer(tokens[kind].vectors) for kind, layer in self.kinds.items()], 1)

    def there(self, tokens: Mapping[str, Tokens]) -> Tensor:
        """Which of these are there, (B, T) bool."""
        return torch.cat([tokens[kind].there for kind in self.kinds], 1)


def by_heads(heads: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention of (B, Q, c) to (B, N, c), each of the heads over its share of the channels → (B, Q, c)."""
    split = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (queries, keys, values))
    return F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)


class PlaceAttention(nn.Module):
    """x ← x + O(Σ_t a(place, t) LayerNorm(V(t))), a = softmax over the tokens and silence of Q(x + p) · K(t) / √width.

    p is learned for every place: what is said ("at the top left") decides which places it is for. Silence is a token
    with a learned key that says nothing: a place that nothing was said about can stay as it is, whatever is said of
    others. Values are normalised, not their sum, as that would make the faintest whisper as loud as a shout.

    With `modulates` what a place heard also scales its features, as FiLM does (Perez et al., 2018): O gives twice as
    many numbers, h and s, and x ← x (1 + s) + h. What is said then depends on what is there.

    Args:
        channels: of the picture's features.
        side: of the picture's features, side x side places.
        width: of keys and values.
    """

    def __init__(self, channels: int, side: int, width: int, modulates: bool = False):
        super().__init__()
        self.modulates = modulates
        self.position = nn.Parameter(torch.empty(channels, side, side).normal_(std=0.1))
        self.query = nn.Linear(channels, width)
        self.silence = nn.Parameter(torch.zeros(width))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, 2 * channels if modulates else channels)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, channels, side, side); keys and values (B, T, width); there (B, T) bool; T may be 0.

        Returns:
            x with what each place heard added, and the attention (B, T, side, side): each token's share of what a place
            listens to, at most 1 over all tokens, the rest of it silence; 0 for tokens that are not there.
        """
        b, _, height, width = x.shape
        queries = self.query((x + self.position).flatten(2).transpose(1, 2))
        keys = torch.cat([keys, self.silence.to(keys.dtype).expand(b, 1, -1)], 1)
        scores = (queries @ keys.transpose(1, 2)).float() / math.sqrt(keys.shape[2])
        audible = F.pad(there, (0, 1), value=True)
        attention = scores.masked_fill(~audible[:, None], -torch.inf).softmax(2)[..., :-1]
        said = attention.to(values.dtype) @ self.norm(values).to(values.dtype)
        heard = self.out(said).transpose(1, 2).unflatten(2, (height, width))
        if self.modulates:
            heard, scale = heard.chunk(2, 1)
            x = x * (1 + scale)
        return x + heard, attention.transpose(1, 2).reshape(b, -1, height, width)


def waves(channels: int, side: int) -> Tensor:
    """(channels, side, side): mixtures of waves over the picture, so that places near each other are alike.

    Begin `PlaceAttention.position` with them where "at the top left" is to be found soon: independent numbers have to
    be learned place by place.
    """
    # transformers, if it loads a model before any device context, leaves linspace out of them for good.
    across = torch.linspace(-1, 1, side, device=torch.empty(0).device)
    y, x = torch.meshgrid(across, across, indexing="ij")
    phases = [math.pi / 2 * (n * z + shift) for n in (1, 2, 3) for z in (x, y) for shift in (0, 1)]
    basis = torch.stack([*(phase.sin() for phase in phases), x, y])
    return torch.einsum("cf,fhw->chw", torch.randn(channels, len(basis)) / math.sqrt(len(basis)), basis)


class Heard(NamedTuple):
    """What is said to a picture: T tokens."""

    keys: Tensor  # (B, T, width)
    values: Tensor  # (B, T, width)
    there: Tensor  # (B, T) bool


class Listening(nn.Module):
    """The sides of a network's features whose places listen to what is said.

    Args:
        channels: of the features, by side.
        dims: width of each kind of token.
        modulates: what is heard scales the features, too.
    """

    def __init__(self, channels: Mapping[int, int], dims: Mapping[str, int], width: int, modulates: bool = False):
        super().__init__()
        self.keys, self.values = TokenProjection(dims, width), TokenProjection(dims, width)
        self.places = nn.ModuleDict(
            {str(side): PlaceAttention(wide, side, width, modulates) for side, wide in channels.items()}
        )

    def hear(self, tokens: Mapping[str, Tokens]) -> Heard:
        """What is said, as every side hears it."""
        return Heard(self.keys(tokens), self.values(tokens), self.keys.there(tokens))

    def forward(self, x: Tensor, heard: Heard, maps: dict[int, Tensor]) -> Tensor:
        """x (B, channels, side, side) with what its places heard, if this side listens; the map goes into `maps`."""
        side = x.shape[-1]
        if str(side) not in self.places:
            return x
        x, maps[side] = self.places[str(side)](x, *heard)
        return x
