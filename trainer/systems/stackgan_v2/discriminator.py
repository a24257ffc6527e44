"""StackGAN++'s discriminators (StackGAN-v2, code/model.py), parameters named as in its `netD0` to `netD2`."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from trainer.networks.blocks import Norm, logit, same, spectral, tiled
from trainer.networks.matching import MatchingHead
from trainer.networks.trunk import DiscriminatorFeatures, Trunk
from trainer.systems.dialogue import Matching


class Discriminator(Trunk):
    """One branch's: pictures (B, 3, s, s) → logits (B,) that know the text, and logits that do not.

    Args:
        branch: 0, 1 or 2.
        condition_dim: width of the condition; None where no text is read: then there is one kind of logits.
        text_dim: width of the text that D's own layer makes its condition from; None where it is told G's.
        matching, token_dims: how regions and tokens are matched, and the tokens' widths; None: they are not.
    """

    def __init__(
        self,
        df: int,
        base: int,
        branch: int,
        condition_dim: int | None,
        norm: Norm = "batch",
        *,
        text_dim: int | None = None,
        matching: Matching | None = None,
        token_dims: Mapping[str, int] | None = None,
        width: int = 64,
    ) -> None:
        super().__init__(df, base, branch, norm)
        f = self.features
        self.logits = nn.Sequential(spectral(nn.Conv2d(f, 1, 4, stride=4), norm))
        self.jointConv = None
        if condition_dim is not None:
            self.jointConv = nn.Sequential(*same(f + condition_dim, f, norm))
            self.uncond_logits = nn.Sequential(spectral(nn.Conv2d(f, 1, 4, stride=4), norm))
        self.embed_text = nn.Linear(text_dim, condition_dim) if text_dim and condition_dim else None
        self.matching, self.region_side = None, None
        if matching is not None and token_dims is not None:
            self.region_side = matching.side
            self.matching = MatchingHead(
                self.channels(matching.side), matching.side, token_dims, width,
                focus=matching.focus, pooling=matching.pooling, scale=matching.scale, hidden=matching.hidden,
            )  # fmt: skip

    def forward(
        self, pictures: Tensor, condition: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, DiscriminatorFeatures]:
        """pictures (B, 3, s, s), condition (B, c) → logits with the text, those without it, and what was seen.

        Where no text is read, the one kind of logits and None.
        """
        seen = self.look(pictures, self.region_side)
        plain = cast(nn.Conv2d, self.logits[0])
        if self.jointConv is None or condition is None:
            return logit(plain, seen.features), None, seen
        joint = self.jointConv(torch.cat([tiled(condition, seen.features), seen.features], 1))
        return logit(plain, joint), logit(cast(nn.Conv2d, self.uncond_logits[0]), seen.features), seen
