"""Losses and both halves of a turn against GeNeVA's own sources, and R1 against a derivative by hand."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support import parity
from tests.trainer.systems.geneva.test_parity import SMALL
from trainer.distributed import Ranks
from trainer.systems.geneva import losses
from trainer.systems.geneva.config import GenevaConfig
from trainer.systems.geneva.dialogues import Turn
from trainer.systems.geneva.discriminator import Discriminator
from trainer.systems.geneva.networks import GenevaGenerator, generator_settings
from trainer.systems.geneva.step import Geneva

GIVEN = parity.load("geneva")["losses"]
OBJECTS = 7
MASKED = [name for name in GIVEN if name.startswith("masked.")]
STEPS = [(kind, mode) for kind in ("A", "B") for mode in ("eval", "train")]


def assert_close(found: Tensor, expected: Any, relative: float = 1e-6) -> None:
    assert math.isclose(float(found.detach()), expected, rel_tol=relative, abs_tol=1e-9)


@pytest.mark.parametrize("name", MASKED)
def test_losses_leave_out_dialogues_that_have_ended(name: str) -> None:
    given = GIVEN[name]
    real, fake, wrong = (parity.wave(number, (4,), scale=1.5) for number in (0, 1, 2))
    of_real, of_fake = (parity.wave(number, (4, OBJECTS), 0.4, 0.5).logit() for number in (3, 4))
    there = (parity.wave(5, (4, OBJECTS)) > 0).double()
    live = ~torch.tensor(given["ended"])
    named = losses.over(losses.objects(of_real, there) + losses.objects(of_fake, there), live)
    assert_close(given["aux_reg"] * named, given["aux_term"])
    game = losses.over(losses.discriminator(real, wrong, fake, (given["wrong_fake_ratio"],) * 2), live)
    assert_close(game + given["aux_reg"] * named, given["d_loss"])
    divergence = losses.over(losses.divergence(parity.wave(6, (4, 6)), parity.wave(7, (4, 6))), live)
    painted = losses.over(-fake + given["aux_reg"] * losses.objects(of_fake, there), live)
    assert_close(painted + given["kl_weight"] * divergence, given["g_loss"])


def test_the_divergence() -> None:
    every = losses.divergence(parity.wave(6, (4, 6)), parity.wave(7, (4, 6)))
    assert_close(every.mean(), GIVEN["KL"]["value"])


def test_new_objects_are_those_that_a_turn_brought() -> None:
    first = torch.tensor([[1.0, 0, 0]])
    there = torch.tensor([[[1.0, 1, 0], [0, 1, 0], [1, 1, 1]]])
    assert losses.new_objects(first, there).tolist() == [[[0, 1, 0], [0, 0, 0], [1, 0, 1]]]


def test_no_dialogue_that_goes_on_costs_nothing() -> None:
    assert float(losses.over(torch.ones(3), torch.zeros(3, dtype=torch.bool))) == 0


def trainable(kind: Any, mode: str) -> Geneva:
    """The small networks under formula weights, in float64."""
    settings = generator_settings(SMALL, {"turn_words": 300}, OBJECTS, stores={})
    config = GenevaConfig(networks=SMALL, batch=3)
    it = Geneva(GenevaGenerator(settings), Discriminator(SMALL, OBJECTS), config, Ranks(0, 1, torch.device("cpu")))
    parity.fill(it.generator.generator, kind).train(mode == "train")
    parity.fill(it.discriminator, kind).train(mode == "train")
    return it


def turn(live: Tensor) -> Turn:
    real, before = (parity.wave(number, (3, 3, 128, 128)) for number in (0, 2))
    new = parity.wave(5, (3, OBJECTS)) > 0
    there = new | (parity.wave(6, (3, OBJECTS)) > 0)
    return Turn(live, real, before, there.double(), new.double())


def norm(network: torch.nn.Module) -> Tensor:
    return torch.nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])


@pytest.mark.parametrize(("kind", "mode"), STEPS)
def test_a_turn_is_the_originals(kind: Any, mode: str) -> None:
    """Which also says in what order its discriminator looks: in training mode each look moves the spectral norms."""
    given, it = GIVEN[f"step.{mode}_{kind}"], trainable(kind, mode)
    now = turn(~torch.tensor(given["ended"]))
    said, features = parity.wave(1, (3, SMALL.hidden)), parity.wave(4, (3, 32, 16, 16))
    epsilon = parity.wave(parity.EPSILON, (3, SMALL.condition_dim))
    painted = it.generator.generator(parity.wave(3, (3, SMALL.noise_dim)), said, features, epsilon)
    loss, figures = it.discriminator_loss(now, said, painted.picture.detach(), now.before, None)
    assert_close(loss - it.training.r1 * figures["r1"], given["d_loss_without_gp"])
    assert_close(it.training.r1 * figures["r1"], GIVEN[f"gradient_penalty.{mode}_{kind}"]["mean_times_10"], 1e-5)
    assert_close(it.training.auxiliary * figures["d_objects"], given["aux_term"])
    real, fake = (torch.tensor(given[name], dtype=torch.float64) for name in ("d_real", "d_fake"))
    assert_close(figures["d_real"], float(losses.over(real, now.live)), 2e-6)
    assert_close(figures["d_fake"], float(losses.over(fake, now.live)), 2e-6)
    loss.backward()
    assert_close(norm(it.discriminator), given["d_grad_norm_with_gp"], 1e-5)

    parity.fill(it.discriminator, kind).zero_grad()
    it.generator.zero_grad()
    loss, _ = it.generator_loss(now, said, painted, now.before)
    assert_close(loss, given["g_loss"])
    loss.backward()
    assert_close(norm(it.generator.generator), given["g_grad_norm"], 1e-5)


@pytest.mark.parametrize(("kind", "mode"), STEPS)
def test_r1_is_of_the_logit_and_the_new_picture_alone(kind: Any, mode: str) -> None:
    given, it = GIVEN[f"gradient_penalty.{mode}_{kind}"], trainable(kind, mode)
    pictures = parity.wave(0, (3, 3, 128, 128)).requires_grad_()
    before = parity.wave(2, (3, 3, 128, 128)).requires_grad_()
    logits = it.discriminator(pictures, parity.wave(1, (3, SMALL.hidden)), before).logits
    found = losses.squared_gradient(logits, pictures)
    torch.testing.assert_close(found, torch.tensor(given["per_sample"], dtype=torch.float64), rtol=1e-5, atol=0)


def test_r1_against_differences() -> None:
    """Along one direction a central difference of the logit is the gradient's component, in float64."""
    it = trainable("B", "eval")
    pictures = parity.wave(0, (2, 3, 128, 128)).requires_grad_()
    said, before = parity.wave(1, (2, SMALL.hidden)), parity.wave(2, (2, 3, 128, 128))
    it.discriminator.requires_grad_(False)
    (gradient,) = torch.autograd.grad(it.discriminator(pictures, said, before).logits.sum(), [pictures])
    step = gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None] * 1e-4
    with torch.no_grad():
        ahead, back = (it.discriminator(pictures + sign * step, said, before).logits for sign in (1, -1))
    slope = (ahead - back) / 2e-4
    expected = losses.squared_gradient(it.discriminator(pictures, said, before).logits, pictures)
    torch.testing.assert_close(slope.square(), expected, rtol=1e-3, atol=0)
