"""GeNeVA-GAN's networks for painting, and what paints whole dialogues with them.

Parameters below `generator.`, `rnn.`, `layer_norm.`, `image_encoder.`, `condition_encoder.` and `sentence_encoder.`
bear the names of the published snapshots.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from store import params
from trainer.feed.inputs import CAPTIONS, LENGTH, TURNS, Input
from trainer.networks.average import unmoved_statistics
from trainer.networks.blocks import conv3x3
from trainer.networks.text import ConditioningAugmentation, sample
from trainer.systems import Generator
from trainer.systems.film import first_pictures, last_pictures, paint_film, start_of
from trainer.systems.geneva.blocks import ConditionEncoder, ImageEncoder, ResUpBlock, SentenceEncoder
from trainer.systems.geneva.config import Networks

TURN_WORDS = Input("turn_words", "turn_words", "a dialogue in words")
WORDS = ".words"
"""Ends the name of the tensor (b, T) that says how many words each turn has: `turn_words.words`."""


def text_inputs(networks: Networks) -> tuple[Input, ...]:
    """What is read of a text: the caption, whether or not the GRU hears it, and turns; or turns as words alone."""
    return (TURN_WORDS,) if networks.words else (CAPTIONS, TURNS)


class GeneratorOutput(NamedTuple):
    """One turn's picture, and the condition that it was drawn under."""

    picture: Tensor  # (B, 3, s, s) in [-1, 1]
    mu: Tensor  # (B, c)
    logvar: Tensor  # (B, c)


class TurnGenerator(nn.Module):
    """Noise, what was said so far, and the previous picture's features → the next picture."""

    def __init__(self, networks: Networks):
        super().__init__()
        n = networks
        self.channels, self.before = n.up[0], n.before_features
        self.fc1 = nn.Linear(n.noise_dim + n.condition_dim, 16 * n.up[0])
        self.doublings = [f"resup{number}" for number in range(1, n.doublings + 1)]
        for number, name in enumerate(self.doublings):
            inputs = n.up[number] + (n.features[-1] if number == self.before else 0)
            self.add_module(name, ResUpBlock(inputs, n.up[number + 1], n.hidden, n.start))
        self.bn = nn.BatchNorm2d(n.up[-1])
        self.conv = conv3x3(n.up[-1], 3)
        self.condition_projector = ConditioningAugmentation(n.hidden, n.condition_dim, "relu")
        # Unused: features are laid beside each other. The published files hold it.
        self.gate = nn.Sequential(
            nn.Linear(n.hidden, n.features[-1]), nn.LeakyReLU(), nn.Linear(n.features[-1], n.features[-1])
        )

    def forward(self, noise: Tensor, y: Tensor, features: Tensor, epsilon: Tensor | None = None) -> GeneratorOutput:
        """noise (B, z), y (B, h), features of the previous picture (B, f, s', s'), epsilon (B, c); None: the mean."""
        mu, logvar = self.condition_projector(y)
        x = self.fc1(torch.cat([noise, sample(mu, logvar, epsilon)], 1)).view(-1, self.channels, 4, 4)
        for number, name in enumerate(self.doublings):
            x = torch.cat([x, features], 1) if number == self.before else x
            x = getattr(self, name)(x, y)
        x = self.conv(F.leaky_relu(self.bn(x)))
        return GeneratorOutput(x.to(mu.dtype).tanh(), mu, logvar)


class GenevaGenerator(nn.Module, Generator):
    """A dialogue to its pictures, each painted from the one before (see `trainer.systems.Generator`).

    `settings` is plain JSON: `networks` (`Networks`), `dims` (width of each input), `objects` (how many D knows).
    """

    background: Tensor  # (3, s, s): the picture before the first turn

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        self.settings = settings
        n = self.model = params.build(Networks, settings["networks"], "networks")
        self.noise_dim, self.condition_dim = n.noise_dim, n.condition_dim
        self.inputs = text_inputs(n)
        self.dims = {one.name: int(settings["dims"][one.name]) for one in self.inputs}
        self.generator = TurnGenerator(n)
        self.image_encoder = ImageEncoder(n.features, settings["objects"])
        self.sentence_encoder = SentenceEncoder(n.words, n.sentence) if n.words else None
        self.condition_encoder = ConditionEncoder(n.sentence if n.words else self.dims[TURNS.name], n.sentence)
        self.rnn = nn.GRU(n.sentence, n.hidden)
        self.layer_norm = nn.LayerNorm(n.hidden)
        self.caption_encoder = ConditionEncoder(self.dims[CAPTIONS.name], n.sentence) if n.caption == "first" else None
        self.register_buffer("background", torch.zeros(3, n.size, n.size))

    @property
    def names(self) -> dict[int, str]:
        """One side."""
        return {self.model.size: "picture"}

    def turns(self, texts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """A vector a turn (B, T, d), and how many turns there are (B,); of words through the sentence encoder."""
        if self.sentence_encoder is None:
            return texts[TURNS.name].float(), texts[TURNS.name + LENGTH]
        words, counts = texts[TURN_WORDS.name].float(), texts[TURN_WORDS.name + WORDS]
        vectors = self.sentence_encoder(words.flatten(0, 1), counts.flatten())
        return vectors.unflatten(0, counts.shape), texts[TURN_WORDS.name + LENGTH]

    def said(self, turns: Tensor, captions: Tensor | None = None) -> Tensor:
        """turns (B, T, d), captions (B, dc) where they are read → what was said up to each turn (B, T, h).

        What stands after a dialogue's last turn means nothing.
        """
        state = turns.new_zeros(1, len(turns), self.model.hidden)
        if self.caption_encoder is not None:
            assert captions is not None
            _, state = self.rnn(self.caption_encoder(captions.float())[None], state)
        if not turns.shape[1]:
            return turns.new_zeros(len(turns), 0, self.model.hidden)
        # BatchNorm sees one turn of all dialogues at a time, as the original's does.
        heard = torch.stack([self.condition_encoder(turn) for turn in turns.unbind(1)])
        states, _ = self.rnn(heard, state)
        said: Tensor = self.layer_norm(states.transpose(0, 1))
        return said

    def next_picture(
        self, before: Tensor, said: Tensor, noise: Tensor, epsilon: Tensor | None = None
    ) -> GeneratorOutput:
        """One turn: previous pictures (B, 3, s, s), what was said up to it (B, h), noise (B, z), epsilon (B, c)."""
        painted: GeneratorOutput = self.generator(noise, said, self.image_encoder(before), epsilon)
        return painted

    def encode(self, texts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Turns (B, T, d) and lengths (B,), captions (B, dc) where they are read → what was said up to each turn.

        Where the batch holds first pictures (B, s', s', 3), each film begins with its own, else with the background.
        """
        with self.statistics():
            turns, rounds = self.turns(texts)
            encoded = {"said": self.said(turns, texts.get(CAPTIONS.name)), TURNS.name + LENGTH: rounds}
        return encoded | first_pictures(texts, self.model.size)

    def draw(
        self,
        encoded: Mapping[str, Tensor],
        noise: Tensor,
        condition_noise: Tensor | None = None,
        sides: Sequence[int] | None = None,
    ) -> dict[int, Tensor]:
        """The last picture of each dialogue, (B, 3, s, s) in [-1, 1], by its side."""
        start = start_of(encoded, self.background, len(noise))
        return {self.model.size: last_pictures(start, self.draw_film(encoded, noise, condition_noise))}

    def draw_film(self, encoded: Mapping[str, Tensor], noise: Tensor, condition_noise: Tensor | None = None) -> Tensor:
        """`film` from what `encode` gave."""
        said, start = encoded["said"], start_of(encoded, self.background, len(noise))

        def paint(number: int, before: Tensor, noise: Tensor, epsilon: Tensor | None) -> Tensor:
            return self.next_picture(before, said[:, number], noise, epsilon).picture

        with self.statistics():
            return paint_film(start, said.shape[1], encoded[TURNS.name + LENGTH], noise, condition_noise, paint)

    def film(self, texts: Mapping[str, Tensor], noise: Tensor, condition_noise: Tensor | None = None) -> Tensor:
        """The pictures after every turn, (B, T, 3, s, s) in [-1, 1] (`trainer.systems.film.paint_film`).

        Args:
            texts, noise, condition_noise: as in `paint`.
        """
        return self.draw_film(self.encode(texts), noise, condition_noise)

    @contextmanager
    def statistics(self) -> Iterator[None]:
        """BatchNorm's running statistics, or those of the batch where `networks.statistics` says so, unmoved."""
        norms = [m for m in self.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
        if self.model.statistics == "running" or self.training:
            yield
            return
        with unmoved_statistics(self):
            for norm in norms:
                norm.train()
            try:
                yield
            finally:
                for norm in norms:
                    norm.eval()


def generator_settings(networks: Networks, dims: Mapping[str, int], objects: int, **more: Any) -> dict[str, Any]:
    """The least that builds a GenevaGenerator, and `more` beside it."""
    return {"system": "geneva", "networks": asdict(networks), "dims": dict(dims), "objects": objects, **more}
