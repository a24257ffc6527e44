"""AttnGAN's generator (code/model.py), with turns beside its words, and what paints with it.

Parameters of `Branches` bear the names of AttnGAN's `netG`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from store import params
from trainer.feed.inputs import CAPTIONS, LENGTH, TURNS, WORDS
from trainer.networks.attention import Tokens, first
from trainer.networks.blocks import ResidualBlock, UpBlock
from trainer.networks.stages import GetImage, InitStage
from trainer.networks.text import ConditioningAugmentation, sample
from trainer.networks.words import WordAttention
from trainer.systems import Generator
from trainer.systems.attngan.config import AttnGanModel
from trainer.systems.text_reader import TextReader


class GeneratorOutput(NamedTuple):
    """What the generator gives."""

    pictures: dict[int, Tensor]  # by side, smallest first, (B, 3, s, s) in [-1, 1]
    mu: Tensor  # (B, c)
    logvar: Tensor  # (B, c)
    attention: dict[int, Tensor]  # by side, (B, L, s, s), and T turns after the words where they are attended


class NextStage(nn.Module):
    """Features (B, gf, s, s) → (B, gf, 2s, 2s), of what each place heard (NEXT_STAGE_G).

    Args:
        word_dim, turn_dim: of a word, and of a turn where places listen to turns too: a second attention, whose context
            is added through a gate that begins at zero, so that a generator without it goes on as it was.
    """

    turns_gate: nn.Parameter | None

    def __init__(self, gf: int, word_dim: int, residual_blocks: int, turn_dim: int | None = None) -> None:
        super().__init__()
        self.att = WordAttention(gf, word_dim)
        self.residual = nn.Sequential(*(ResidualBlock(2 * gf, "glu") for _ in range(residual_blocks)))
        self.upsample = UpBlock(2 * gf, gf, "glu")
        self.att_turns = None if turn_dim is None else WordAttention(gf, turn_dim)
        self.turns_gate = None if turn_dim is None else nn.Parameter(torch.zeros(()))

    def forward(self, h: Tensor, words: Tokens, turns: Tokens | None, shuffled: bool = False) -> tuple[Tensor, Tensor]:
        """h (B, gf, s, s) → (B, gf, 2s, 2s), and shares of what each place listens to (B, L + T, s, s).

        `shuffled` as in `WordAttention`, of the words alone. Shares of the turns are weighed by the gate's size.
        """
        context, shares = self.att(h, *words, shuffled)
        if self.att_turns is not None and self.turns_gate is not None and turns is not None:
            said, heard = self.att_turns(h, *turns)
            context = context + self.turns_gate * said
            weight = self.turns_gate.detach().abs()
            shares = torch.cat([shares, weight * heard], 1) / (1 + weight)
        return self.upsample(self.residual(torch.cat([h, context], 1))), shares


class Branches(nn.Module):
    """Text, words and noise to pictures of every side (G_NET), or of the last one alone (G_DCGAN)."""

    def __init__(self, model: AttnGanModel, text_dim: int, word_dim: int, turn_dim: int | None) -> None:
        super().__init__()
        self.sides = tuple(model.size << number for number in range(model.branches))
        self.only_last = model.only_last
        self.ca_net = ConditioningAugmentation(text_dim, model.condition_dim, "glu")
        for number in range(1, model.branches + 1):
            stage: nn.Module
            if number == 1:
                stage = InitStage(model.condition_dim + model.noise_dim, model.gf, model.size)
            else:
                stage = NextStage(model.gf, word_dim, model.residual_blocks, turn_dim)
            self.add_module(f"h_net{number}", stage)
            if not model.only_last:
                self.add_module(f"img_net{number}", GetImage(model.gf))
        if model.only_last:
            self.img_net = GetImage(model.gf)

    def forward(
        self,
        text: Tensor,
        noise: Tensor,
        epsilon: Tensor | None,
        words: Tokens,
        turns: Tokens | None = None,
        *,
        shuffled: bool = False,
        largest: int | None = None,
    ) -> GeneratorOutput:
        """text (B, T), noise (B, z), epsilon (B, c) or None for the mean condition.

        Args:
            shuffled: as in `WordAttention`.
            largest: side after which no branch is asked for.
        """
        mu, logvar = self.ca_net(text)
        condition = sample(mu, logvar, epsilon)
        h = self.get_submodule("h_net1")(torch.cat([condition, noise], 1))
        pictures, maps = {}, {}
        for number, side in enumerate(self.sides, 1):
            if number > 1:
                h, maps[side // 2] = self.get_submodule(f"h_net{number}")(h, words, turns, shuffled)
            if not self.only_last:
                pictures[side] = self.get_submodule(f"img_net{number}")(h)
            elif side == self.sides[-1]:
                pictures[side] = self.img_net(h)
            if side == largest:
                break
        return GeneratorOutput({side: picture.to(mu.dtype) for side, picture in pictures.items()}, mu, logvar, maps)


class AttnGanGenerator(TextReader, Generator):
    """Everything from text vectors and noise to pictures: a `trainer.systems.Generator`.

    `settings` is plain JSON: `model` (AttnGanModel), `caption_dim`, `word_dim`, `dialogue_dim`, and whatever the
    training adds (stores' identities, training configuration, images seen).
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        model = params.build(AttnGanModel, settings["model"], "model")
        super().__init__(model, settings["caption_dim"], settings["dialogue_dim"])
        self.settings, self.model = settings, model
        self.inputs = (*self.inputs, WORDS)
        self.dims[WORDS.name] = settings["word_dim"]
        self.noise_dim, self.condition_dim = model.noise_dim, model.condition_dim
        turn_dim = None if self.token_dims is None else self.token_dims[TURNS.name]
        self.network = Branches(model, self.text_dim, settings["word_dim"], turn_dim)

    @property
    def names(self) -> dict[int, str]:
        """What the pictures of each side are called, smallest first."""
        return {side: f"branch{self.network.sides.index(side) + 1}" for side in self.model.sides}

    def encode(self, texts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Inputs by name → text (B, T), captions (B, dc), words (B, L, dw), and the turns where they are attended."""
        encoded = super().encode(texts)
        captions = texts[CAPTIONS.name]
        captions = self.standardise["captions"](captions) if self.model.standardise else captions.float()
        words, lengths = texts[WORDS.name].float(), texts[WORDS.name + LENGTH]
        words = words.masked_fill(~first(lengths, words.shape[1])[..., None], 0.0)
        return {**encoded, CAPTIONS.name: captions, WORDS.name: words, WORDS.name + LENGTH: lengths}

    def heard(self, encoded: Mapping[str, Tensor]) -> tuple[Tokens, Tokens | None]:
        """Words, and turns where places listen to them, of what `encode` gave."""
        words = encoded[WORDS.name]
        tokens = self.tokens(encoded)
        turns = None if tokens is None else tokens[TURNS.name]
        return Tokens(words, first(encoded[WORDS.name + LENGTH], words.shape[1])), turns

    def draw(
        self,
        encoded: Mapping[str, Tensor],
        noise: Tensor,
        condition_noise: Tensor | None = None,
        sides: Sequence[int] | None = None,
    ) -> dict[int, Tensor]:
        """`paint` from what `encode` gave."""
        words, turns = self.heard(encoded)
        largest = None if sides is None else max(sides)
        return cast(
            GeneratorOutput, self.network(encoded["text"], noise, condition_noise, words, turns, largest=largest)
        ).pictures

    @property
    def listens_to(self) -> tuple[str, ...]:
        """Inputs whose vectors are what places listen to, in the order of `listen`."""
        if self.model.branches == 1:
            return ()
        return (WORDS.name,) if self.token_dims is None else (WORDS.name, TURNS.name)

    def listen(self, encoded: Mapping[str, Tensor], noise: Tensor) -> dict[int, Tensor]:
        """Which token each place listens to while the mean condition is painted, by side, (B, L + T, side, side).

        Words first, then turns, which are weighed against words by the size of their gate.
        """
        words, turns = self.heard(encoded)
        return cast(GeneratorOutput, self.network(encoded["text"], noise, None, words, turns)).attention


def generator_settings(
    model: AttnGanModel, caption_dim: int, word_dim: int, dialogue_dim: int | None, **more: Any
) -> dict[str, Any]:
    """The least that builds an AttnGanGenerator, and `more` beside it."""
    dims = {"caption_dim": caption_dim, "word_dim": word_dim, "dialogue_dim": dialogue_dim}
    return {"system": "attngan", "model": asdict(model), **dims, **more}
