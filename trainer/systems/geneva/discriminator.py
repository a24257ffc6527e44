"""GeNeVA-GAN's discriminator: is the picture real, and does it differ from the one before as the turn says?"""

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

from trainer.systems.geneva.blocks import ResDownBlock
from trainer.systems.geneva.config import Networks


class DiscriminatorOutput(NamedTuple):
    """What the discriminator says of B pictures."""

    logits: Tensor  # (B,)
    objects: Tensor | None  # (B, N) logits: is each object new in the picture?


class Discriminator(nn.Module):
    """Parameters are named as in the published snapshots (DiscriminatorAddResidual, `subtract`, projection).

    Both pictures go through the first blocks, their features are subtracted, and the rest sees the difference alone.

    Args:
        objects: how many the object head names; 0: there is none.
    """

    def __init__(self, networks: Networks, objects: int):
        super().__init__()
        n = networks
        wide = n.down[-1]
        names = [f"resdown{number}" for number in range(1, len(n.down) + 1)]
        for number, (name, inputs, outputs) in enumerate(zip(names, (3, *n.down), n.down)):
            block = ResDownBlock(inputs, outputs, first=number == 0, halve=number < n.doublings)
            self.add_module(name, block)
        self.apart, self.together = names[: len(n.features)], names[len(n.features) :]
        self.linear = spectral_norm(nn.Linear(wide, 1))
        self.condition_projector = nn.Sequential(nn.Linear(n.hidden, wide), nn.ReLU(), nn.Linear(wide, wide))
        self.aux_objective = None
        if objects:
            hidden = nn.Linear(wide, n.auxiliary)
            self.aux_objective = nn.Sequential(hidden, nn.ReLU(), nn.Linear(n.auxiliary, objects))

    def forward(self, pictures: Tensor, y: Tensor, before: Tensor) -> DiscriminatorOutput:
        """pictures and those before them (B, 3, s, s), what was said up to the turn y (B, h)."""
        return self.judge(self.difference(pictures, before), y)

    def difference(self, pictures: Tensor, before: Tensor) -> Tensor:
        """(B, 3, s, s) each → the difference of their features, (B, d, s', s').

        The previous picture goes first: in training mode each pass takes a power step of the spectral norms.
        """
        old, new = before, pictures
        for name in self.apart:
            old = getattr(self, name)(old)
        for name in self.apart:
            new = getattr(self, name)(new)
        return new - old

    def judge(self, difference: Tensor, y: Tensor) -> DiscriminatorOutput:
        """What is said of a difference (B, d, s', s') under y (B, h)."""
        for name in self.together:
            difference = getattr(self, name)(difference)
        # The heads in float32: a bfloat16 has 8 bits, and the losses compare logits with 1 and with each other.
        with torch.autocast(difference.device.type, enabled=False):
            seen = F.leaky_relu(difference).to(y.dtype).sum((2, 3))
            logits = self.linear(seen)[:, 0] + (self.condition_projector(y) * seen).sum(1)
            objects = None if self.aux_objective is None else cast(Tensor, self.aux_objective(seen))
        return DiscriminatorOutput(logits, objects)
