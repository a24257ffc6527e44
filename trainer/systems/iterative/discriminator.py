"""Is a change of a picture real, and does it show what was said?"""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from trainer.feed.inputs import TURNS
from trainer.networks.blocks import Logits, down, initialise, spectral
from trainer.networks.matching import MatchingHead
from trainer.systems.dialogue import Matching
from trainer.systems.iterative.config import DNorm, Networks


class DiscriminatorOutput(NamedTuple):
    """What the discriminator sees in B changes."""

    logits: Tensor  # (B,)
    regions: Tensor  # (B, c, side, side): what is matched with the turns


class Discriminator(nn.Module):
    """Pictures with those before them → logits, and regions to be matched with the turns that lie between.

    Args:
        turn_dim: width of a turn's vector.
    """

    def __init__(self, n: Networks, matching: Matching, turn_dim: int, norm: DNorm):
        super().__init__()
        self.recent = n.recent
        halvings, until = n.size.bit_length() - 3, (n.size // matching.side).bit_length() - 1
        layers: list[nn.Module] = [spectral(nn.Conv2d(12 if n.recent else 9, n.df, 4, 2, 1), norm), nn.LeakyReLU(0.2)]
        for wider in range(halvings - 1):
            layers += down(n.df << wider, n.df << wider + 1, norm)
        # The first halving is two layers, every further one three.
        self.until_regions = nn.Sequential(*layers[: 3 * until - 1])
        self.after_regions = nn.Sequential(*layers[3 * until - 1 :])
        self.score = Logits(n.df << (halvings - 1), None, norm)
        self.matching = MatchingHead(
            n.df << (until - 1),
            matching.side,
            {TURNS.name: turn_dim},
            n.attention.width,
            focus=matching.focus,
            pooling=matching.pooling,
            scale=matching.scale,
            hidden=matching.hidden,
            few=True,  # most changes are of one turn
        )
        self.apply(initialise)

    def forward(self, pictures: Tensor, before: Tensor, earlier: Tensor) -> DiscriminatorOutput:
        """pictures, those before them, and what was there a turn before those, (B, 3, s, s)."""
        seen = [pictures, before, pictures - before, *([before - earlier] if self.recent else [])]
        regions = self.until_regions(torch.cat(seen, 1))
        return DiscriminatorOutput(cast(Tensor, self.score(self.after_regions(regions))), regions)
