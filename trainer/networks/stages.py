"""First stage and pictures of StackGAN++'s and AttnGAN's generators, parameters under the same names."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from trainer.networks.blocks import GLU, UpBlock, conv3x3


class InitStage(nn.Module):
    """Condition and noise (B, inputs) → features (B, gf, base, base): INIT_STAGE_G.

    Args:
        inputs: width of condition and noise together.
        base: side of the first picture, a power of two from 8 on.
    """

    def __init__(self, inputs: int, gf: int, base: int) -> None:
        super().__init__()
        doublings = base.bit_length() - 3
        self.channels = gf << doublings
        wide = self.channels * 16 * 2
        self.fc = nn.Sequential(nn.Linear(inputs, wide, bias=False), nn.BatchNorm1d(wide), GLU())
        self.doublings = [f"upsample{number}" for number in range(1, doublings + 1)]
        for number, name in enumerate(self.doublings):
            self.add_module(name, UpBlock(self.channels >> number, self.channels >> number + 1, "glu"))

    def forward(self, code: Tensor, listen: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """code (B, inputs) → (B, gf, base, base); `listen` changes the features after every doubling."""
        x = self.fc(code).view(-1, self.channels, 4, 4)
        for name in self.doublings:
            x = self.get_submodule(name)(x)
            if listen is not None:
                x = listen(x)
        return cast(Tensor, x)


class GetImage(nn.Module):
    """Features (B, gf, s, s) → pictures (B, 3, s, s) in [-1, 1]: GET_IMAGE_G."""

    def __init__(self, gf: int) -> None:
        super().__init__()
        self.img = nn.Sequential(conv3x3(gf, 3), nn.Tanh())

    def forward(self, features: Tensor) -> Tensor:
        """features (B, gf, s, s) → (B, 3, s, s), never in bfloat16."""
        convolution, tanh = self.img
        x = convolution(features)
        return cast(Tensor, tanh(x.float() if x.dtype == torch.bfloat16 else x))
