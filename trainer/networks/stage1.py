"""Stage 1: text and noise to 64 x 64 (paper 4.1; StackGAN-Pytorch's STAGE1_G and STAGE1_D)."""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from trainer.config import ModelConfig
from trainer.networks.blocks import Logits, Norm, UpBlock, conv3x3, down
from trainer.networks.text import ConditioningAugmentation, sample


class Painted(NamedTuple):
    """What a generator gives: the picture (B, 3, s, s) in [-1, 1], its condition, and what that was drawn from."""

    picture: Tensor
    condition: Tensor  # (B, c)
    mu: Tensor  # (B, c)
    logvar: Tensor  # (B, c)
    stage1: Tensor | None = None  # (B, 3, 64, 64): what stage 2 started from


class Stage1Generator(nn.Module):
    def __init__(self, model: ModelConfig, text_dim: int):
        super().__init__()
        channels = 8 * model.gf
        self.channels = channels
        self.ca_net = ConditioningAugmentation(text_dim, model.condition_dim, model.condition_activation)
        self.fc = nn.Sequential(
            nn.Linear(model.noise_dim + model.condition_dim, channels * 16, bias=False),
            nn.BatchNorm1d(channels * 16),
            nn.ReLU(inplace=True),
        )
        self.upsample1 = UpBlock(channels, channels // 2)
        self.upsample2 = UpBlock(channels // 2, channels // 4)
        self.upsample3 = UpBlock(channels // 4, channels // 8)
        self.upsample4 = UpBlock(channels // 8, channels // 16)
        self.img = nn.Sequential(conv3x3(channels // 16, 3), nn.Tanh())

    def forward(self, text: Tensor, noise: Tensor, epsilon: Tensor | None = None) -> Painted:
        """text (B, T), noise (B, z), epsilon (B, c) or None for the mean condition."""
        mu, logvar = self.ca_net(text)
        condition = sample(mu, logvar, epsilon)
        x = self.fc(torch.cat([noise, condition], 1)).view(-1, self.channels, 4, 4)
        x = self.upsample4(self.upsample3(self.upsample2(self.upsample1(x))))
        return Painted(self.img(x).to(mu.dtype), condition, mu, logvar)


class Stage1Discriminator(nn.Module):
    """pictures (B, 3, 64, 64) → features (B, 8 df, 4, 4); logits from features and condition by `get_cond_logits`."""

    def __init__(self, model: ModelConfig, norm: Norm, classes: int = 0, text_dim: int | None = None):
        super().__init__()
        df = model.df
        self.encode_img = nn.Sequential(
            *down(3, df, norm, first=True),
            *down(df, 2 * df, norm),
            *down(2 * df, 4 * df, norm),
            *down(4 * df, 8 * df, norm),
        )
        self.get_cond_logits = Logits(df, model.condition_dim, norm)
        self.get_uncond_logits: Logits | None = None
        self.classify = nn.Conv2d(8 * df, classes, 4) if classes else None
        self.embed_text = nn.Linear(text_dim, model.condition_dim) if text_dim else None

    def forward(self, pictures: Tensor) -> Tensor:
        return cast(Tensor, self.encode_img(pictures))
