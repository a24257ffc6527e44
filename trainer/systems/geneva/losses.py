"""GeNeVA-GAN's objectives at one turn, over the dialogues that have not ended (its `losses.py` and `recurrent_gan`)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.networks.losses import gradients


def over(values: Tensor, live: Tensor) -> Tensor:
    """The mean of values (B,) over the rows that are live (B,) bool; 0 where none is."""
    return (values * live).sum() / live.sum().clamp(min=1)


def discriminator(real: Tensor, wrong: Tensor, fake: Tensor, weights: tuple[float, float]) -> Tensor:
    """Hinge of each row's logits (B,): real pictures, another dialogue's, painted ones; the last two weighted."""
    return F.relu(1 - real) + weights[0] * F.relu(1 + wrong) + weights[1] * F.relu(1 + fake)


def objects(logits: Tensor, there: Tensor) -> Tensor:
    """How badly each row's objects are named (B,): logits and 0 or 1 (B, N), the mean over objects."""
    return F.binary_cross_entropy_with_logits(logits, there.to(logits.dtype), reduction="none").mean(1)


def divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, sigma^2) || N(0, 1)) of each row (B,), the mean over the dimensions."""
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar).mean(1)


def squared_gradient(logits: Tensor, pictures: Tensor) -> Tensor:
    """|d logit / d picture|^2 of each row (B,), summed over pixels and channels: R1 without its 1/2; differentiable."""
    (gradient,) = gradients(logits, [pictures])
    return gradient.square().sum(1)


def new_objects(first: Tensor, there: Tensor) -> Tensor:
    """Objects before the first turn (B, N) and after each (B, T, N), 0 or 1 → those that a turn brought, (B, T, N)."""
    before = torch.cat([first[:, None], there], 1)[:, :-1]
    return (there - before).clamp(min=0)
