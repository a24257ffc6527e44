"""A discriminator for each side (D_NET64, D_NET128, D_NET256), parameters named as in AttnGAN's `netD`."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from trainer.networks.blocks import Norm, logit, same, spectral, tiled
from trainer.networks.matching import MatchingHead
from trainer.networks.trunk import DiscriminatorFeatures, Trunk
from trainer.systems.dialogue import Matching


class GetLogits(nn.Module):
    """Features (B, f, 4, 4) and perhaps a sentence to logits (B,): D_GET_LOGITS without its Sigmoid.

    `trainer.networks.blocks.Logits` under the names of AttnGAN's files.

    Args:
        sentence_dim: None where the logits are told no text.
    """

    def __init__(self, features: int, sentence_dim: int | None, norm: Norm) -> None:
        super().__init__()
        self.jointConv = None if sentence_dim is None else nn.Sequential(*same(features + sentence_dim, features, norm))
        self.outlogits = nn.Sequential(spectral(nn.Conv2d(features, 1, 4, stride=4), norm))

    def forward(self, features: Tensor, sentence: Tensor | None = None) -> Tensor:
        """features (B, f, 4, 4), sentence (B, d) or None → logits (B,), never in bfloat16."""
        if self.jointConv is not None and sentence is not None:
            features = self.jointConv(torch.cat([features, tiled(sentence, features)], 1))
        return logit(cast(nn.Conv2d, self.outlogits[0]), features)


class Discriminator(Trunk):
    """Of pictures of one side: is it real, and does it show what the sentence says?

    The condition is the sentence itself, never the generator's.

    Args:
        unconditional: whether there are logits without a text.
        matching, token_dims: how regions and tokens are matched, and the tokens' widths; None: they are not.
    """

    def __init__(
        self,
        df: int,
        base: int,
        branch: int,
        sentence_dim: int,
        norm: Norm = "batch",
        *,
        unconditional: bool = True,
        matching: Matching | None = None,
        token_dims: Mapping[str, int] | None = None,
        width: int = 64,
    ) -> None:
        super().__init__(df, base, branch, norm)
        self.UNCOND_DNET = GetLogits(self.features, None, norm) if unconditional else None
        self.COND_DNET = GetLogits(self.features, sentence_dim, norm)
        self.matching, self.region_side = None, None
        if matching is not None and token_dims is not None:
            self.region_side = matching.side
            about = {name: getattr(matching, name) for name in ("focus", "pooling", "scale", "hidden")}
            self.matching = MatchingHead(self.channels(matching.side), matching.side, token_dims, width, **about)

    def forward(self, pictures: Tensor) -> DiscriminatorFeatures:
        """(B, 3, s, s) → what is seen in them."""
        return self.look(pictures, self.region_side)
