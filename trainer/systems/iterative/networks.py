"""The last picture, and the turns that its places listen to, to the next picture."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from store import params
from trainer.feed.inputs import CAPTIONS, LENGTH, TURNS
from trainer.networks.attention import Listening, PlaceAttention, Tokens, by_heads, one_each, waves
from trainer.networks.blocks import ResidualBlock, UpBlock, conv3x3, conv_block, initialise
from trainer.systems import Generator
from trainer.systems.film import first_pictures, last_pictures, paint_film, start_of
from trainer.systems.iterative.carrying import Carrying
from trainer.systems.iterative.config import Networks
from trainer.systems.iterative.looking import Looking
from trainer.systems.text_reader import TextReader

LOWEST = 8  # side of the smallest features


class GeneratorOutput(NamedTuple):
    """The next picture, and what its places listened to."""

    picture: Tensor  # (B, 3, s, s) in [-1, 1]
    attention: Mapping[int, Tensor]  # by side, (B, T, side, side): each token's share of what a place listens to
    carried: Tensor | None  # (B, places, places of every picture): from which of the pictures before each takes over


def tokens_between(turns: Tensor, captions: Tensor, start: Tensor, end: Tensor, ages: int) -> dict[str, Tokens]:
    """What is said of a change that leads from the picture after `start` turns to the one after `end` turns.

    Args:
        turns: (B, T, d).
        captions: (B, dc).
        start, end: (B,) numbers of turns, start < end.
        ages: what was said ages - 1 turns before the last one, or longer ago, is of one age.

    Returns:
        `captions`; `new`, the turns to be painted; `old`, those before, which they may lean on. Each turn's vector has
        its age behind it, one of `ages` numbers being 1.
    """
    at = torch.arange(turns.shape[1], device=turns.device)
    age = (end[:, None] - 1 - at).clamp(0, ages - 1)
    vectors = torch.cat([turns, F.one_hot(age, ages).to(turns.dtype)], 2)
    said, before = at < end[:, None], at < start[:, None]
    return {CAPTIONS.name: one_each(captions), "new": Tokens(vectors, said & ~before), "old": Tokens(vectors, before)}


def to_new_turns(attention: Tensor, turns: int) -> Tensor:
    """Shares of the tokens of `tokens_between`, (B, 1 + 2 turns, s, s) → (B, s, s), of the new turns together."""
    return attention[:, 1 : 1 + turns].sum(1)


class SeeEachOther(nn.Module):
    """Places of (B, c, s, s) attend to each other: "on his left" is a place that somebody else is known from."""

    def __init__(self, channels: int, side: int, heads: int):
        super().__init__()
        self.position = nn.Parameter(torch.empty(side * side, channels).normal_(std=0.1))
        self.norm = nn.LayerNorm(channels)
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """x (B, c, s, s) → the same shape."""
        places = self.norm(x.flatten(2).transpose(1, 2) + self.position)
        seen = by_heads(self.heads, *self.query_key_value(places).chunk(3, 2))
        return x + cast(Tensor, self.out(seen)).transpose(1, 2).unflatten(2, x.shape[2:])


# Of [-1, 1], in the channel that differs most. Painted pictures differ a little everywhere, true ones nowhere.
UNCHANGED = 0.1


def recently(before: Tensor, earlier: Tensor) -> tuple[Tensor, Tensor]:
    """What changed last, (B, 3, s, s), and how much, (B, 1, s, s): "it" is there, whatever its colour was.

    Pixels that differ by no more than `UNCHANGED` did not: what is faint in our own pictures is no change, and shown as
    one it hides who is found in true pictures (docs/evidence-diary.md).
    """
    change = before - earlier
    size = change.abs().amax(1, keepdim=True)
    changed = size > UNCHANGED
    return change * changed, size * changed


class Drawer(nn.Module):
    """Previous picture, noise and tokens → the next picture: down to 8 x 8, and up again beside what was seen there.

    The whole picture is painted again. A share of each pixel that is left as it was (a fourth channel under a sigmoid)
    shut within some thousand pictures where objects should have come, and let no gradient through from then on.
    """

    def __init__(self, n: Networks, token_dims: Mapping[str, int]):
        super().__init__()
        wide = n.widths
        self.recent = n.recent
        self.enter = nn.Sequential(conv3x3(7 if n.recent else 3, wide[0]), nn.LeakyReLU(0.2))
        self.downs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, 4, 2, 1, bias=False), nn.BatchNorm2d(o), nn.LeakyReLU(0.2))
            for i, o in itertools.pairwise(wide)
        )
        self.noise = nn.Linear(n.noise_dim, wide[-1] * LOWEST * LOWEST)
        self.join = conv_block(wide[-1], wide[-1])
        self.see = SeeEachOther(wide[-1], LOWEST, n.heads) if n.heads and LOWEST in n.see else nn.Identity()
        # On the way up after places listened: where, said of somebody else, is found in finer features.
        higher = [side for side in n.see if n.heads and side != LOWEST]
        self.see_above = nn.ModuleDict({str(side): SeeEachOther(n.width(side), side, n.heads) for side in higher})
        self.look = Looking(wide[-1], LOWEST, n.attention.width, n.look) if n.look else None
        self.carry = Carrying(n.width(n.carry), n.carry, n.attention.width, 1 + n.recent) if n.carry else None
        self.carried_at = n.carry
        self.residual = ResidualBlock(wide[-1])
        self.ups = nn.ModuleList(UpBlock(i, o) for i, o in zip(wide[:0:-1], wide[-2::-1]))
        self.merges = nn.ModuleList(conv_block(2 * o, o) for o in wide[-2::-1])
        self.out = nn.Conv2d(wide[0], 3, 3, padding=1)
        listening = {side: n.width(side) for side in n.sides if side in n.attention.sides}
        self.listening = Listening(listening, token_dims, n.attention.width, n.modulate)

    def forward(self, before: Tensor, earlier: Tensor, noise: Tensor, tokens: Mapping[str, Tokens]) -> GeneratorOutput:
        """before and what was there a turn earlier (B, 3, s, s), noise (B, z), tokens of `tokens_between`."""
        heard = self.listening.hear(tokens)
        maps: dict[int, Tensor] = {}
        x = self.enter(torch.cat([before, *recently(before, earlier)], 1) if self.recent else before)
        seen = [x]
        for down in self.downs:
            x = down(x)
            seen.append(x)
        x = self.join(seen.pop() + self.noise(noise).unflatten(1, x.shape[1:]))
        if self.look is not None:
            heard = self.look(x, heard)
        old, carried = x, None
        turns = tokens["new"].vectors.shape[1]
        x = self.listening(x, heard, maps)
        if self.carry is not None and self.carried_at == LOWEST:
            x, carried = self.carry(x, old, to_new_turns(maps[LOWEST], turns))
        x = self.residual(self.see(x))
        for up, merge in zip(self.ups, self.merges):
            old = seen.pop()
            x = self.listening(merge(torch.cat([up(x), old], 1)), heard, maps)
            if self.carry is not None and self.carried_at == x.shape[-1]:
                x, carried = self.carry(x, old, to_new_turns(maps[x.shape[-1]], turns))
            if (side := str(x.shape[-1])) in self.see_above:
                x = self.see_above[side](x)
        return GeneratorOutput(self.out(x).to(before.dtype).tanh(), maps, carried)


class IterativeGenerator(TextReader, Generator):
    """A dialogue to its pictures, each painted from the one before (see `trainer.systems.Generator`).

    `settings` is plain JSON: `networks` (`Networks`), `dims` (width of captions and of turns).
    """

    background: Tensor  # (3, s, s): the picture before the first turn

    def __init__(self, settings: dict[str, Any]) -> None:
        n = params.build(Networks, settings["networks"], "networks")
        super().__init__(n, int(settings["dims"][CAPTIONS.name]), int(settings["dims"][TURNS.name]))
        self.settings, self.model, self.noise_dim = settings, n, n.noise_dim
        turn = self.dims[TURNS.name] + n.ages
        self.drawer = Drawer(n, {CAPTIONS.name: self.dims[CAPTIONS.name], "new": turn, "old": turn})
        for name, module in self.drawer.named_modules():
            # Queries times keys of weights of 0.02 are next to nothing, and so are learned late.
            if not name.startswith("carry."):
                initialise(module)
        for places in self.drawer.listening.places.values():
            position = cast(PlaceAttention, places).position
            position.data = waves(*position.shape[:2])
        self.register_buffer("background", torch.zeros(3, n.size, n.size))

    @property
    def names(self) -> dict[int, str]:
        """One side."""
        return {self.model.size: "picture"}

    def encode(self, texts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Captions (B, dc), turns (B, T, d) and lengths (B,) → the same, as places listen to them.

        Where the batch holds first pictures (B, s', s', 3), each film begins with its own, else with the background.
        """
        encoded = super().encode(texts)
        del encoded["text"]
        return encoded | first_pictures(texts, self.model.size)

    def next_picture(
        self, encoded: Mapping[str, Tensor], before: Tensor, earlier: Tensor, noise: Tensor, start: Tensor, end: Tensor
    ) -> GeneratorOutput:
        """From pictures after `start` turns (B, 3, s, s) to those after `end` turns; start, end (B,).

        Args:
            earlier: (B, 3, s, s), the pictures a turn before `before`, or `before` where start is 0.
        """
        told = tokens_between(encoded[TURNS.name], encoded[CAPTIONS.name], start, end, self.model.ages)
        painted: GeneratorOutput = self.drawer(before, earlier, noise, told)
        return painted

    def draw(
        self,
        encoded: Mapping[str, Tensor],
        noise: Tensor,
        condition_noise: Tensor | None = None,
        sides: Sequence[int] | None = None,
    ) -> dict[int, Tensor]:
        """The last picture of each dialogue, (B, 3, s, s) in [-1, 1], by its side."""
        start = start_of(encoded, self.background, len(noise))
        return {self.model.size: last_pictures(start, self.draw_film(encoded, noise))}

    def draw_film(self, encoded: Mapping[str, Tensor], noise: Tensor) -> Tensor:
        """`film` from what `encode` gave."""
        turns, rounds = encoded[TURNS.name].shape[1], encoded[TURNS.name + LENGTH]

        first = earlier = start_of(encoded, self.background, len(noise))

        def paint(number: int, before: Tensor, noise: Tensor, epsilon: Tensor | None) -> Tensor:
            nonlocal earlier
            start = torch.full_like(rounds, number)
            painted = self.next_picture(encoded, before, earlier, noise, start, start + 1).picture
            earlier = before
            return painted

        return paint_film(first, turns, rounds, noise, None, paint)

    def film(self, texts: Mapping[str, Tensor], noise: Tensor, condition_noise: Tensor | None = None) -> Tensor:
        """The pictures after every turn, (B, T, 3, s, s) in [-1, 1] (`trainer.systems.film.paint_film`).

        Args:
            texts, noise, condition_noise: as in `paint`.
        """
        return self.draw_film(self.encode(texts), noise)


def generator_settings(networks: Networks, dims: Mapping[str, int], **more: Any) -> dict[str, Any]:
    """The least that builds an IterativeGenerator, and `more` beside it."""
    return {"system": "iterative", "networks": asdict(networks), "dims": dict(dims), **more}
