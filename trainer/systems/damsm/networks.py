"""Both encoders of the DAMSM as one module: what leaves the house, and what AttnGAN is trained with."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trainer.feed.inputs import LENGTH, TOKENS, Input
from trainer.networks.attention import first
from trainer.networks.words import TextFeatures
from trainer.systems import Generator
from trainer.systems.damsm.image_encoders import ImageEncoder, InceptionEncoder, SmallEncoder
from words.text_encoder import TextEncoder


class DamsmEncoders(nn.Module, Generator):
    """A `trainer.systems.Generator` that paints nothing: `text` and `image` encoder, whose vectors can be compared.

    `settings` is plain JSON: `image_encoder` ("inception" or "small"), `side`, `width`, `dim`, `word_dim`, `words`,
    `vocabulary` (the words by number), and whatever the training adds.
    """

    inputs: tuple[Input, ...] = (TOKENS,)
    noise_dim = 0

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        self.settings = settings
        self.dims = {TOKENS.name: 1}
        self.longest = settings["words"]
        self.text = TextEncoder(len(settings["vocabulary"]), settings["word_dim"], settings["dim"])
        self.image = image_encoder(settings)

    @property
    def names(self) -> dict[int, str]:
        """None: nothing is painted."""
        return {}

    def text_features(self, ids: Tensor, lengths: Tensor, kept: Tensor | None = None) -> TextFeatures:
        """ids (B, L) and lengths (B,) → words (B, L, dim), which are there (B, L), sentence (B, dim).

        kept: (B, L, word_dim) bool, for dropout.
        """
        words, sentence = self.text(ids, lengths, kept)
        return TextFeatures(words, first(lengths, ids.shape[1]), sentence)

    def encode(self, texts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """tokens (B, L, 1) with their lengths → words (B, L, dim), sentence (B, dim)."""
        words, sentence = self.text(texts[TOKENS.name][..., 0], texts[TOKENS.name + LENGTH])
        return {"words": words, "sentence": sentence}

    def draw(
        self,
        encoded: Mapping[str, Tensor],
        noise: Tensor,
        condition_noise: Tensor | None = None,
        sides: Sequence[int] | None = None,
    ) -> dict[int, Tensor]:
        """Nothing."""
        return {}

    def paint(
        self,
        texts: Mapping[str, Tensor],
        noise: Tensor,
        condition_noise: Tensor | None = None,
        sides: Sequence[int] | None = None,
    ) -> dict[int, Tensor]:
        """Nothing, whatever the texts are: none is encoded for it."""
        return {}


def image_encoder(settings: Mapping[str, Any]) -> ImageEncoder:
    """The image encoder that these settings describe, not yet initialised."""
    if settings["image_encoder"] == "inception":
        return InceptionEncoder(settings["dim"], frozen=settings.get("inception_batchnorm") == "frozen")
    if settings["image_encoder"] != "small":
        raise ValueError(f"image_encoder is {settings['image_encoder']!r}, not inception or small")
    return SmallEncoder(settings["dim"], settings["side"], settings["width"])


def drawn_words(ids: Tensor, lengths: Tensor, most: int, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Of captions longer than `most` words so many at random, their order kept.

    ids (B, L), lengths (B,), draws (B, L) uniform → ids (B, min(L, most)) and lengths (B,).
    """
    longest = ids.shape[1]
    if longest <= most:
        return ids, lengths
    # Words that are there come before those that are not, in random order: the first `most` of them are taken.
    there = first(lengths, longest)
    order = torch.where(there, draws, 2.0).argsort(dim=1)[:, :most]
    positions = torch.where(lengths[:, None] > most, order.sort(dim=1).values, torch.arange(most, device=ids.device))
    return ids.gather(1, positions), lengths.clamp(max=most)
