"""The discriminators' trunk of StackGAN++ and AttnGAN (their code/model.py), parameters under the same names."""

from typing import NamedTuple

from torch import Tensor, nn

from trainer.networks.blocks import Norm, down, downs, same


class DiscriminatorFeatures(NamedTuple):
    """What a discriminator sees in pictures."""

    features: Tensor  # (B, f, 4, 4)
    regions: Tensor | None = None  # (B, channels, side, side): what is matched with the tokens


class Trunk(nn.Module):
    """Pictures (B, 3, s, s) → features (B, f, 4, 4), f = df · base / 8; a discriminator inherits it and adds heads.

    Every further branch paints twice the side, so its trunk halves once more, and comes back to f channels by
    convolutions 3x3: D_NET64, D_NET128 and D_NET256 for a base of 64.

    Args:
        base: side of the first branch's pictures, a power of two from 16 on.
        branch: 0, 1 or 2: of which the side is base · 2^branch.
    """

    def __init__(self, df: int, base: int, branch: int, norm: Norm = "batch") -> None:
        super().__init__()
        self.df, self.side = df, base << branch
        self.features = df * base // 8
        self.img_code_s16 = nn.Sequential(*downs(df, base.bit_length() - 3, norm))
        if branch >= 1:
            self.img_code_s32 = nn.Sequential(*down(self.features, 2 * self.features, norm))
        if branch == 1:
            self.img_code_s32_1 = nn.Sequential(*same(2 * self.features, self.features, norm))
        if branch == 2:
            self.img_code_s64 = nn.Sequential(*down(2 * self.features, 4 * self.features, norm))
            self.img_code_s64_1 = nn.Sequential(*same(4 * self.features, 2 * self.features, norm))
            self.img_code_s64_2 = nn.Sequential(*same(2 * self.features, self.features, norm))
        self.trunk = [name for name, _ in self.named_children()]

    def channels(self, side: int) -> int:
        """Of the features of this side, a power of two from 4 on and less than the pictures'."""
        return self.features if side == 4 else self.df * self.side // side // 2

    def look(self, pictures: Tensor, side: int | None = None) -> DiscriminatorFeatures:
        """pictures (B, 3, s, s) → features, and those of `side` on the way, if it is asked for."""
        x, regions = pictures, None
        for name in self.trunk:
            for layer in self.get_submodule(name).children():
                x = layer(x)
                if isinstance(layer, nn.LeakyReLU) and x.shape[-1] == side:
                    regions = x
        return DiscriminatorFeatures(x, regions)
