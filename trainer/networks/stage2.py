"""Stage 2: stage 1's picture and the text again, to 256 x 256 (paper 4.2; StackGAN's STAGE2_G and STAGE2_D)."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.config import ModelConfig
from trainer.networks.blocks import Logits, Norm, ResidualBlock, UpBlock, conv3x3, downs, same
from trainer.networks.stage1 import Painted, Stage1Generator
from trainer.networks.text import ConditioningAugmentation, sample


class Stage2Generator(nn.Module):
    """Holds stage 1's generator as `STAGE1_G`, the name in StackGAN's files. Noise enters through it only."""

    def __init__(self, model: ModelConfig, text_dim: int):
        super().__init__()
        gf = model.gf
        self.refine = model.refine
        self.STAGE1_G = Stage1Generator(model, text_dim)
        self.ca_net = ConditioningAugmentation(text_dim, model.condition_dim, model.condition_activation)
        self.encoder = nn.Sequential(
            conv3x3(3, gf),
            nn.ReLU(True),
            nn.Conv2d(gf, 2 * gf, 4, 2, 1, bias=False),
            nn.BatchNorm2d(2 * gf),
            nn.ReLU(True),
            nn.Conv2d(2 * gf, 4 * gf, 4, 2, 1, bias=False),
            nn.BatchNorm2d(4 * gf),
            nn.ReLU(True),
        )
        self.hr_joint = nn.Sequential(
            conv3x3(4 * gf + model.condition_dim, 4 * gf), nn.BatchNorm2d(4 * gf), nn.ReLU(True)
        )
        self.residual = nn.Sequential(*(ResidualBlock(4 * gf) for _ in range(model.residual_blocks)))
        self.upsample1 = UpBlock(4 * gf, 2 * gf)
        self.upsample2 = UpBlock(2 * gf, gf)
        self.upsample3 = UpBlock(gf, gf // 2)
        self.upsample4 = UpBlock(gf // 2, gf // 4)
        self.img = nn.Sequential(conv3x3(gf // 4, 3), nn.Tanh())

    def forward(
        self,
        text: Tensor,
        noise: Tensor,
        epsilon: Tensor | None = None,
        epsilon1: Tensor | None = None,
        through_stage1: bool = False,
    ) -> Painted:
        """text (B, T), noise (B, z), epsilon and epsilon1 (B, c): the draws of stage 2's and stage 1's condition.

        `through_stage1` lets gradients into stage 1; StackGAN and the paper never do.
        """
        with torch.set_grad_enabled(through_stage1 and torch.is_grad_enabled()):
            stage1 = self.STAGE1_G(text, noise, epsilon1).picture
        mu, logvar = self.ca_net(text)
        condition = sample(mu, logvar, epsilon)
        encoded = self.encoder(stage1)
        tiled = condition[:, :, None, None].expand(-1, -1, *encoded.shape[2:]).to(encoded.dtype)
        x = self.residual(self.hr_joint(torch.cat([encoded, tiled], 1)))
        x = self.upsample4(self.upsample3(self.upsample2(self.upsample1(x))))
        convolution, tanh = self.img
        x = convolution(x).to(mu.dtype)
        if self.refine:
            enlarged = F.interpolate(stage1.to(mu.dtype), scale_factor=4, mode="bilinear", align_corners=False)
            x = x + enlarged.clamp(-0.99, 0.99).atanh()
        return Painted(tanh(x), condition, mu, logvar, stage1)


class Stage2Discriminator(nn.Module):
    """pictures (B, 3, 4 s, 4 s) → features (B, df s / 8, 4, 4); logits with and without the condition."""

    def __init__(self, model: ModelConfig, norm: Norm, classes: int = 0, text_dim: int | None = None):
        super().__init__()
        features = model.df * model.size // 8
        self.encode_img = nn.Sequential(
            *downs(model.df, model.doublings + 2, norm),
            *same(4 * features, 2 * features, norm),
            *same(2 * features, features, norm),
        )
        self.get_cond_logits = Logits(features, model.condition_dim, norm)
        self.get_uncond_logits: Logits | None = Logits(features, None, norm)
        self.classify = nn.Conv2d(features, classes, 4) if classes else None
        self.embed_text = nn.Linear(text_dim, model.condition_dim) if text_dim else None

    def forward(self, pictures: Tensor) -> Tensor:
        return cast(Tensor, self.encode_img(pictures))
