"""Each objective against its equation in float64, written out with loops and without torch's helpers."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support import plain_stackgan as plain
from trainer.networks import losses

R, W, F_ = (np.array(v) for v in ([2.0, -1.0, 0.3], [0.5, -3.0, 1.5], [-2.0, 4.0, 0.1]))
R2, F2 = np.array([0.7, -0.2, 3.0]), np.array([-1.0, 0.4, 2.5])


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def real(x: np.ndarray, loss: str) -> float:
    each = {"bce": lambda v: -math.log(sigmoid(v)), "hinge": lambda v: max(0.0, 1 - v), "wgan": lambda v: -v}[loss]
    return sum(map(each, x)) / len(x)


def fake(x: np.ndarray, loss: str) -> float:
    each = {"bce": lambda v: -math.log(1 - sigmoid(v)), "hinge": lambda v: max(0.0, 1 + v), "wgan": lambda v: v}[loss]
    return sum(map(each, x)) / len(x)


def t(x: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(x, np.float64))


@pytest.mark.parametrize("loss", ["bce", "hinge", "wgan"])
def test_discriminator(loss: Any) -> None:
    stage1 = real(R, loss) + 0.5 * (fake(W, loss) + fake(F_, loss))
    assert losses.matching_aware(t(R), t(W), t(F_), loss).item() == pytest.approx(stage1, rel=1e-12)
    stage2 = (real(R, loss) + real(R2, loss)) / 2 + (fake(F_, loss) + fake(W, loss) + fake(F2, loss)) / 3
    got = losses.matching_aware(t(R), t(W), t(F_), loss, (t(R2), t(F2))).item()
    assert got == pytest.approx(stage2, rel=1e-12)


def above(high: np.ndarray, low: np.ndarray) -> float:
    """Mean of -log sigmoid(high - low), pair by pair."""
    return sum(-math.log(sigmoid(h - v)) for h, v in zip(high, low)) / len(high)


def test_relativistic_pairs_each_painted_and_each_wrong_logit_with_its_real_one() -> None:
    assert losses.relativistic(t(R), t(F_)).item() == pytest.approx(above(R, F_), rel=1e-12)
    stage1 = (above(R, W) + above(R, F_)) / 2
    assert losses.matching_aware(t(R), t(W), t(F_), "relativistic").item() == pytest.approx(stage1, rel=1e-12)
    stage2 = (above(R, W) + above(R, F_) + above(R2, F2)) / 3
    got = losses.matching_aware(t(R), t(W), t(F_), "relativistic", (t(R2), t(F2))).item()
    assert got == pytest.approx(stage2, rel=1e-12)
    assert losses.unconditional(t(R2), t(F2), "relativistic").item() == pytest.approx(above(R2, F2), rel=1e-12)
    assert above(R, F_) != pytest.approx(above(R, F_[::-1]))  # the pairing matters
    # What both gain and lose alike is nobody's: only differences count.
    assert losses.relativistic(t(R + 50), t(F_ + 50)).item() == pytest.approx(above(R, F_), rel=1e-9)


def test_generator() -> None:
    assert losses.generator(t(F_), "bce").item() == pytest.approx(np.mean([-math.log(sigmoid(v)) for v in F_]))
    saturating = np.mean([math.log(1 - sigmoid(v)) for v in F_])  # eq. 4 and 6 as printed
    assert losses.generator(t(F_), "bce", saturating=True).item() == pytest.approx(saturating)
    for loss in ("hinge", "wgan"):
        assert losses.generator(t(F_), loss).item() == pytest.approx(-F_.mean())


def test_both_generator_losses_fall_as_the_logit_rises() -> None:
    for saturating in (False, True):
        logit = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
        losses.generator(logit, "bce", saturating).backward()
        # d/dl -log s(l) = s(l) - 1;  d/dl log(1 - s(l)) = -s(l)
        expected = -sigmoid(0.3) if saturating else sigmoid(0.3) - 1
        assert logit.grad is not None
        assert logit.grad.item() == pytest.approx(expected)


def test_bce_is_stackgans_where_that_is_finite() -> None:
    bce = torch.nn.BCELoss()
    ones, zeros = torch.ones(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    assert losses.real(t(R), "bce").item() == pytest.approx(bce(torch.sigmoid(t(R)), ones).item())
    assert losses.fake(t(R), "bce").item() == pytest.approx(bce(torch.sigmoid(t(R)), zeros).item())
    # Behind a Sigmoid a logit of 40 has no gradient left; on logits it has.
    logit = torch.tensor([40.0], requires_grad=True)
    losses.fake(logit, "bce").backward()
    assert logit.grad is not None
    assert logit.grad.item() == pytest.approx(1.0)
    assert losses.fake(torch.tensor([1e4]), "bce").isfinite()


def test_kl() -> None:
    random = np.random.default_rng(0)
    mu, logvar = random.normal(size=(4, 3)), random.normal(size=(4, 3))
    total = 0.0
    for i in range(4):
        for j in range(3):
            variance = math.exp(logvar[i, j])
            total += 0.5 * (variance + mu[i, j] ** 2 - 1 - math.log(variance))
    assert losses.kl(t(mu), t(logvar)).item() == pytest.approx(total / 12)
    assert losses.kl(torch.zeros(2, 3), torch.zeros(2, 3)).item() == 0
    # The closed form is the divergence: compare with E_q[log q - log p].
    m, s = 0.7, 0.4
    x = random.normal(m, s, 2_000_000)
    log_q = -0.5 * ((x - m) / s) ** 2 - math.log(s)
    monte_carlo = np.mean(log_q + 0.5 * x**2)
    got = losses.kl(torch.tensor([[m]]), torch.tensor([[2 * math.log(s)]])).item()
    assert got == pytest.approx(monte_carlo, abs=5e-3)


class Quadratic(torch.nn.Module):
    """D(x, e) = sum a x^2 + sum b e^2, whose gradients are 2 a x and 2 b e."""

    def __init__(self) -> None:
        super().__init__()
        random = np.random.default_rng(1)
        self.a = torch.nn.Parameter(t(random.normal(size=(3, 2, 2))))
        self.b = torch.nn.Parameter(t(random.normal(size=4)))

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        return (self.a * x**2).sum((1, 2, 3)) + (self.b * e**2).sum(1)


def test_penalties_against_written_out_gradients() -> None:
    random = np.random.default_rng(2)
    x, e, d = random.normal(size=(5, 3, 2, 2)), random.normal(size=(5, 4)), Quadratic()
    a, b = d.a.detach().numpy(), d.b.detach().numpy()
    gx = np.array([math.sqrt(((2 * a * row) ** 2).sum()) for row in x])
    ge = np.array([math.sqrt(((2 * b * row) ** 2).sum()) for row in e])
    tx, te = t(x).requires_grad_(), t(e).requires_grad_()
    assert losses.r1(d(tx, te), tx).item() == pytest.approx(np.mean(gx**2) / 2)
    assert losses.gradient_penalty(d(tx, te), tx).item() == pytest.approx(np.mean((gx - 1) ** 2))
    got = losses.matching_aware_penalty(d(tx, te), tx, te)
    assert got.item() == pytest.approx(np.mean((gx + ge) ** 6))
    # They train the discriminator: d/da E|2 a x|^2 / 2 = E 4 a x^2.
    losses.r1(d(tx, te), tx).backward()
    assert d.a.grad is not None
    np.testing.assert_allclose(d.a.grad.numpy(), np.mean(4 * a * x**2, 0), rtol=1e-10)


def test_loss_of_a_batch_is_stackgans_but_for_the_last_wrong_pair() -> None:
    """StackGAN pairs image i with condition i + 1 and leaves the last image out; ours closes the circle."""
    random = torch.Generator().manual_seed(0)
    features = torch.randn(4, 2, 4, 4, generator=random, dtype=torch.float64)
    painted = torch.randn(4, 2, 4, 4, generator=random, dtype=torch.float64)
    condition = torch.randn(4, 3, generator=random, dtype=torch.float64)

    class Net(torch.nn.Module):
        get_uncond_logits = None

        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(2 * 16 + 3, 1).double()

        def forward(self, x: Tensor) -> Tensor:
            return x

        def logits(self, features: Tensor, condition: Tensor) -> Tensor:
            return self.head(torch.cat([features.flatten(1), condition], 1)).flatten()

        def get_cond_logits(self, features: Tensor, condition: Tensor) -> Tensor:
            return torch.sigmoid(self.logits(features, condition))

    net = Net()
    theirs = plain.d_loss(net, features, painted, condition).item()
    r, f = net.logits(features, condition), net.logits(painted, condition)
    w = net.logits(features, condition.roll(-1, 0))
    ours = losses.matching_aware(r, w[:3], f, "bce").item()
    assert ours == pytest.approx(theirs)
    assert losses.matching_aware(r, w, f, "bce").item() != pytest.approx(theirs)
