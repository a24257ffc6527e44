"""Either stage's discriminator (StackGAN-Pytorch's STAGE1_D, STAGE2_D), parameters named as in its `netD`."""

from collections.abc import Mapping

from torch import Tensor, nn

from trainer.networks.blocks import Logits, Norm, downs, same
from trainer.networks.matching import MatchingHead
from trainer.networks.trunk import DiscriminatorFeatures
from trainer.systems.chatpainter.config import Matching, ModelConfig, Stage


class Discriminator(nn.Module):
    """Either stage's: pictures (B, 3, s, s) → features (B, f, 4, 4); logits from features, with and without condition.

    f is 8 df for pictures of 64 and 256 (STAGE1_D, STAGE2_D). Stage 1 has no unconditional logits, unless it has no
    others.

    Args:
        conditional: whether there are logits with a condition.
        classes: object categories to name (paper section 6), 0 for none.
        text_dim: width of the text that D's own layer makes its condition from; None where it is told G's.
        matching, token_dims: how regions and tokens are matched, and the tokens' widths; None: they are not.
    """

    def __init__(
        self,
        model: ModelConfig,
        stage: Stage,
        norm: Norm,
        classes: int = 0,
        text_dim: int | None = None,
        *,
        conditional: bool = True,
        matching: Matching | None = None,
        token_dims: Mapping[str, int] | None = None,
    ):
        super().__init__()
        features = model.df * model.size // 8
        trunk = downs(model.df, model.doublings + (2 if stage == 2 else 0), norm)
        if stage == 2:
            trunk += [*same(4 * features, 2 * features, norm), *same(2 * features, features, norm)]
        self.encode_img = nn.Sequential(*trunk)
        self.get_cond_logits = Logits(features, model.condition_dim, norm) if conditional else None
        self.get_uncond_logits = Logits(features, None, norm) if stage == 2 or not conditional else None
        self.classify = nn.Conv2d(features, classes, 4) if classes else None
        self.embed_text = nn.Linear(text_dim, model.condition_dim) if text_dim else None
        self.matching, self.until_regions = None, len(self.encode_img)
        if matching is not None and token_dims is not None:
            halvings = (model.sides[stage - 1] // matching.side).bit_length() - 1
            # The first halving is two layers, every further one three: convolution, norm, LeakyReLU.
            self.until_regions = 3 * halvings - 1
            wide = model.df << (halvings - 1)
            self.matching = MatchingHead(
                wide,
                matching.side,
                token_dims,
                model.attention.width,
                focus=matching.focus,
                pooling=matching.pooling,
                scale=matching.scale,
                hidden=matching.hidden,
            )

    def forward(self, pictures: Tensor) -> DiscriminatorFeatures:
        """(B, 3, s, s) → what is seen in them."""
        return self.look(pictures)

    def look(self, pictures: Tensor) -> DiscriminatorFeatures:
        """The same, never compiled: `Module.compile` replaces calls of the module alone."""
        regions = self.encode_img[: self.until_regions](pictures)
        features = self.encode_img[self.until_regions :](regions)
        return DiscriminatorFeatures(features, None if self.matching is None else regions)
