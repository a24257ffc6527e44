"""The objectives, each a few lines on logits (paper eq. 3-6; StackGAN-Pytorch, code/miscc/utils.py).

Logits r belong to real pictures with their own text, w to real pictures with another image's text, f to painted
pictures. `bce` is the paper's log D with D = sigmoid(logit), written so that it neither overflows nor goes flat.
`lsgan` compares sigmoid(logit) with 1 and 0 by squares, as google/sg2im does.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Single = Literal["bce", "hinge", "wgan", "lsgan"]  # judge a logit for itself
Loss = Single | Literal["relativistic"]


def real(logits: Tensor, loss: Single) -> Tensor:
    """What the discriminator loses on logits that should be high."""
    if loss == "bce":
        return F.softplus(-logits).mean()
    if loss == "lsgan":
        return (logits.sigmoid() - 1).square().mean()
    return F.relu(1 - logits).mean() if loss == "hinge" else -logits.mean()


def fake(logits: Tensor, loss: Single) -> Tensor:
    """What the discriminator loses on logits that should be low."""
    if loss == "bce":
        return F.softplus(logits).mean()
    if loss == "lsgan":
        return logits.sigmoid().square().mean()
    return F.relu(1 + logits).mean() if loss == "hinge" else logits.mean()


def generator(logits: Tensor, loss: Single, saturating: bool = False) -> Tensor:
    """What the generator loses: -log D(f), or log(1 - D(f)) as printed in eq. 4 and 6 (`saturating`)."""
    if loss == "bce":
        return -F.softplus(logits).mean() if saturating else F.softplus(-logits).mean()
    return real(logits, loss) if loss == "lsgan" else -logits.mean()


def matching_aware(
    r: Tensor, w: Tensor, f: Tensor, loss: Loss, unconditional: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """The discriminator's loss over real, wrong and painted pairs; `unconditional` = logits of real and of painted.

    real + (wrong + fake) / 2, as StackGAN's stage 1; with `unconditional`, as its stage 2:
    (real + real') / 2 + (fake + wrong + fake') / 3.
    """
    if loss == "relativistic":
        return relativistic_matching(r, w, f, unconditional)
    if unconditional is None:
        return real(r, loss) + 0.5 * (fake(w, loss) + fake(f, loss))
    r2, f2 = unconditional
    return (real(r, loss) + real(r2, loss)) / 2 + (fake(f, loss) + fake(w, loss) + fake(f2, loss)) / 3


def unconditional(r: Tensor, f: Tensor, loss: Loss) -> Tensor:
    """The discriminator's loss over real and painted pictures where no logits know the text."""
    return relativistic(r, f) if loss == "relativistic" else real(r, loss) + fake(f, loss)


def relativistic(high: Tensor, *low: Tensor) -> Tensor:
    """() mean of softplus(low - high) over all `low`: how badly logits (B,) stand above their pairs' (RpGAN).

    The discriminator loses it of real logits over painted ones, the generator of painted over real (Huang et al., 2024,
    R3GAN): each painted picture is judged against a real one, so none is good enough by itself.
    """
    return torch.stack([F.softplus(each - high).mean() for each in low]).mean()


def relativistic_matching(
    r: Tensor, w: Tensor, f: Tensor, unconditional: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """The discriminator's `relativistic` loss, in which wrong pairs are further painted ones.

    (wrong + fake) / 2; with `unconditional`, logits of real and of painted: (wrong + fake + fake') / 3.
    """
    if unconditional is None:
        return relativistic(r, w, f)
    r2, f2 = unconditional
    return (2 * relativistic(r, w, f) + relativistic(r2, f2)) / 3


def kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, sigma^2) || N(0, 1)) (paper eq. 1), its mean over the batch and the dimensions as in StackGAN's code."""
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar).mean()


def gradients(logits: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """d logits_b / d inputs_b, each flattened to (B, -1); differentiable."""
    return [g.flatten(1) for g in torch.autograd.grad(logits.sum(), inputs, create_graph=True)]


def r1(logits: Tensor, pictures: Tensor) -> Tensor:
    """E |grad_x D(x)|^2 / 2, on real pictures R1 (Mescheder et al., 2018), on painted ones R2."""
    (gx,) = gradients(logits, [pictures])
    return 0.5 * gx.square().sum(1).mean()


def gradient_penalty(logits: Tensor, between: Tensor) -> Tensor:
    """E (|grad_x D(x)| - 1)^2 at points between real and painted (Gulrajani et al., 2017, eq. 3)."""
    (gx,) = gradients(logits, [between])
    return (gx.norm(dim=1) - 1).square().mean()


def matching_aware_penalty(logits: Tensor, pictures: Tensor, condition: Tensor) -> Tensor:
    """E (|grad_x D(x, e)| + |grad_e D(x, e)|)^6 on real pictures with their own text (Tao et al., 2022, eq. 2)."""
    gx, ge = gradients(logits, [pictures, condition])
    return (gx.norm(dim=1) + ge.norm(dim=1)).pow(6).mean()
