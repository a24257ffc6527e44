"""StackGAN++'s losses (StackGAN-v2, code/trainer.py), each a few lines on logits and pictures."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.networks import losses

BranchLogits = tuple[Tensor, Tensor | None]  # with the text, and without


def discriminator(
    real: BranchLogits,
    fake: BranchLogits,
    wrong: BranchLogits | None,
    weight: float,
    loss: losses.Single,
    balanced: bool = False,
) -> Tensor:
    """What one branch's discriminator loses.

    A wrong picture is a real one, of another image: only logits that know the text should be low. Without text (no
    wrong pictures) real + fake; with text and `weight` 0 real + (wrong + fake) / 2.

    Args:
        balanced: what should be high weighs as much as what should be low. Published terms weigh 1 each: under hinge,
            two low ones against one, logits rest at -1 for all pictures alike.
    """
    if wrong is None:
        return losses.real(real[0], loss) + losses.fake(fake[0], loss)
    if not weight or real[1] is None or wrong[1] is None or fake[1] is None:
        return losses.real(real[0], loss) + 0.5 * (losses.fake(wrong[0], loss) + losses.fake(fake[0], loss))
    share = 0.5 if balanced else 1.0
    told = losses.real(real[0], loss) + share * (losses.fake(wrong[0], loss) + losses.fake(fake[0], loss))
    plain = share * (losses.real(real[1], loss) + losses.real(wrong[1], loss)) + losses.fake(fake[1], loss)
    return told + weight * plain


def generator(fake: BranchLogits, weight: float, loss: losses.Single) -> Tensor:
    """What the generator loses to one branch's discriminator."""
    plain = 0.0 if fake[1] is None or not weight else weight * losses.generator(fake[1], loss)
    return losses.generator(fake[0], loss) + plain


def colours(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures (B, 3, s, s) → mean colour (B, 3), and covariance of the channels over the pixels (B, 3, 3)."""
    pixels = pictures.float().flatten(2) if pictures.dtype == torch.bfloat16 else pictures.flatten(2)
    mean = pixels.mean(2)
    centred = pixels - mean[..., None]
    return mean, centred @ centred.transpose(1, 2) / pixels.shape[2]


def colour_consistency(pictures: list[Tensor]) -> Tensor:
    """How far every branch's colours are from those of the branch before, which does not follow; smallest first."""
    total = pictures[0].new_zeros(())
    for before, after in itertools.pairwise(pictures):
        (mean, covariance), (mean_before, covariance_before) = colours(after), colours(before.detach())
        total = total + F.mse_loss(mean, mean_before) + 5 * F.mse_loss(covariance, covariance_before)
    return total
