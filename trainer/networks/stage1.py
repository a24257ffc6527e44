"""Stage 1: text and noise to 64 x 64, or another `size` (paper 4.1; StackGAN-Pytorch's STAGE1_G and STAGE1_D)."""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from trainer.config import ModelConfig
from trainer.networks.blocks import Logits, Norm, UpBlock, conv3x3, downs
from trainer.networks.text import ConditioningAugmentation, sample


class Painted(NamedTuple):
    """What a generator gives: the picture (B, 3, s, s) in [-1, 1], its condition, and what that was drawn from."""

    picture: Tensor
    condition: Tensor  # (B, c)
    mu: Tensor  # (B, c)
    logvar: Tensor  # (B, c)
    stage1: Tensor | None = None  # (B, 3, s, s): what stage 2 started from


class Stage1Generator(nn.Module):
    def __init__(self, model: ModelConfig, text_dim: int):
        super().__init__()
        channels = model.gf * model.size // 8
        self.channels = channels
        self.ca_net = ConditioningAugmentation(text_dim, model.condition_dim, model.condition_activation)
        self.fc = nn.Sequential(
            nn.Linear(model.noise_dim + model.condition_dim, channels * 16, bias=False),
            nn.BatchNorm1d(channels * 16),
            nn.ReLU(inplace=True),
        )
        self.doublings = [f"upsample{number}" for number in range(1, model.doublings + 1)]
        for name in self.doublings:
            self.add_module(name, UpBlock(channels, channels // 2))
            channels //= 2
        self.img = nn.Sequential(conv3x3(channels, 3), nn.Tanh())

    def forward(self, text: Tensor, noise: Tensor, epsilon: Tensor | None = None) -> Painted:
        """text (B, T), noise (B, z), epsilon (B, c) or None for the mean condition."""
        mu, logvar = self.ca_net(text)
        condition = sample(mu, logvar, epsilon)
        x = self.fc(torch.cat([noise, condition], 1)).view(-1, self.channels, 4, 4)
        for name in self.doublings:
            x = getattr(self, name)(x)
        return Painted(self.img(x).to(mu.dtype), condition, mu, logvar)


class Stage1Discriminator(nn.Module):
    """pictures (B, 3, s, s) → features (B, df s / 8, 4, 4); logits from features and condition by `get_cond_logits`."""

    def __init__(self, model: ModelConfig, norm: Norm, classes: int = 0, text_dim: int | None = None):
        super().__init__()
        features = model.df * model.size // 8
        self.encode_img = nn.Sequential(*downs(model.df, model.doublings, norm))
        self.get_cond_logits = Logits(features, model.condition_dim, norm)
        self.get_uncond_logits: Logits | None = None
        self.classify = nn.Conv2d(features, classes, 4) if classes else None
        self.embed_text = nn.Linear(text_dim, model.condition_dim) if text_dim else None

    def forward(self, pictures: Tensor) -> Tensor:
        return cast(Tensor, self.encode_img(pictures))
