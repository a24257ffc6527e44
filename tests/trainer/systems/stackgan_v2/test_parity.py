"""StackGAN++'s networks and losses against numbers that the published code gave (tests/support/parity)."""

from typing import Any

import pytest
import torch

from tests.support import parity
from tests.support.plain_stackgan_v2 import PlainV2D, PlainV2G
from trainer.networks import losses
from trainer.systems.stackgan_v2 import objective
from trainer.systems.stackgan_v2.config import PRESETS, StackGanV2Config, StackGanV2Model
from trainer.systems.stackgan_v2.discriminator import Discriminator
from trainer.systems.stackgan_v2.networks import Network

RECORDED = parity.load("stackganpp")
SMALL = RECORDED["small_config"]
SIDES = (64, 128, 256)
SIZES: dict[str, Any] = {
    "gf": SMALL["GF_DIM"],
    "residual_blocks": SMALL["R_NUM"],
    "condition_dim": SMALL["EMBEDDING_DIM"],
    "noise_dim": SMALL["Z_DIM"],
}
MODES = [(mode, fill) for mode in ("eval", "train") for fill in ("A", "B")]


def generator(conditional: bool) -> Network:
    return Network(StackGanV2Model(**SIZES, conditional=conditional), SMALL["DIMENSION"] if conditional else 0)


def discriminator(branch: int, conditional: bool) -> Discriminator:
    return Discriminator(SMALL["DF_DIM"], 64, branch, SMALL["EMBEDDING_DIM"] if conditional else None)


@pytest.mark.parametrize("preset", ["birds", "coco"])
def test_published_sizes_have_the_published_keys(preset: str) -> None:
    config = StackGanV2Config(**PRESETS[preset]["stackgan-v2"])
    with torch.device("meta"):
        networks: dict[str, Any] = {"G_NET": Network(config.model, 1024)}
        for branch, side in enumerate(SIDES):
            networks[f"D_NET{side}"] = Discriminator(config.df, config.size, branch, config.condition_dim)
    for name, network in networks.items():
        expected = RECORDED["keys"][name]
        assert parity.keys(network) == expected["keys"]
        assert sum(p.numel() for p in network.parameters()) == expected["params"]


def test_the_plain_step_of_the_benchmark_is_of_the_published_sizes() -> None:
    with torch.device("meta"):
        plain: dict[str, torch.nn.Module] = {"G_NET": PlainV2G(64, 1024, 128, 100, 64, 3, 2)}
        plain |= {f"D_NET{side}": PlainV2D(64, 128, 64, branch) for branch, side in enumerate(SIDES)}
    for name, network in plain.items():
        assert sum(p.numel() for p in network.parameters()) == RECORDED["keys"][name]["params"]


@pytest.mark.parametrize("branches", [1, 2])
def test_fewer_branches_have_the_first_keys(branches: int) -> None:
    """One branch is the first one of three: what follows is left out."""
    with torch.device("meta"):
        few = Network(StackGanV2Model(**SIZES, branches=branches), SMALL["DIMENSION"])
    left_out = tuple(f"{part}{number}." for part in ("h_net", "img_net") for number in range(branches + 1, 4))
    every = RECORDED["networks"]["G_NET"]["keys"]
    assert parity.keys(few) == [[key, shape] for key, shape in every if not key.startswith(left_out)]


@pytest.mark.parametrize("conditional", [True, False], ids=["text", "no text"])
@pytest.mark.parametrize(("mode", "fill"), MODES)
def test_generator_paints_the_published_numbers(conditional: bool, mode: str, fill: Any) -> None:
    record = RECORDED["networks"]["G_NET" if conditional else "G_NET_uncond"]
    network = generator(conditional)
    assert parity.keys(network) == record["keys"]
    parity.fill(network, fill).train(mode == "train")
    noise, text, epsilon = parity.given(record["inputs"]["z_code"]), None, None
    if conditional:
        text = parity.given(record["inputs"]["text_embedding"])
        epsilon = parity.wave(parity.EPSILON, (len(noise), SMALL["EMBEDDING_DIM"]))
    with torch.no_grad():
        painted = network(text, noise, epsilon)
    expected = record[f"{mode}_{fill}"]
    assert list(painted.pictures) == list(SIDES)
    for side, pictures in painted.pictures.items():
        parity.assert_recorded(pictures, expected["out"][f"fake{side}"])
    if conditional:
        parity.assert_recorded(painted.mu, expected["out"]["mu"])
        parity.assert_recorded(painted.logvar, expected["out"]["logvar"])
    if mode == "train":
        parity.assert_buffers(network, expected["buffers_after"])


@pytest.mark.parametrize("conditional", [True, False], ids=["text", "no text"])
@pytest.mark.parametrize("branch", [0, 1, 2])
@pytest.mark.parametrize(("mode", "fill"), MODES)
def test_discriminators_judge_with_the_published_numbers(branch: int, conditional: bool, mode: str, fill: Any) -> None:
    record = RECORDED["networks"][f"D_NET{SIDES[branch]}" + ("" if conditional else "_uncond")]
    network = discriminator(branch, conditional)
    assert parity.keys(network) == record["keys"]
    parity.fill(network, fill).train(mode == "train")
    condition = parity.given(record["inputs"]["condition"]) if conditional else None
    with torch.no_grad():
        told, plain, _ = network(parity.given(record["inputs"]["image"]), condition)
    expected = record[f"{mode}_{fill}"]
    parity.assert_recorded(told.sigmoid(), expected["out"]["cond" if conditional else "logits"])
    if plain is not None:
        parity.assert_recorded(plain.sigmoid(), expected["out"]["uncond"])
    if mode == "train":
        parity.assert_buffers(network, expected["buffers_after"])


STEPS = [name for name in RECORDED["losses"] if name.startswith("step.")]


@pytest.mark.parametrize("name", STEPS)
def test_losses_and_gradients_are_the_published_ones(name: str) -> None:
    expected = RECORDED["losses"][name]
    batch, weight = expected["batch"], expected["UNCOND_LOSS"]
    mu = parity.wave(9, (batch, SMALL["EMBEDDING_DIM"])).requires_grad_()
    logvar = parity.wave(10, (batch, SMALL["EMBEDDING_DIM"]))
    shapes = [(batch, 3, side, side) for side in SIDES]
    fakes = [parity.wave(6 + i, shape, 0.5 + 0.2 * i, 0.1 * i).requires_grad_() for i, shape in enumerate(shapes)]

    def fresh(branch: int) -> Discriminator:
        network = discriminator(branch, conditional=True)
        parity.fill(network, expected["fill"]).train(expected["D_mode"] == "train")
        return network

    for branch, shape in enumerate(shapes):
        judge, seen = fresh(branch), (parity.wave(branch, shape), parity.wave(3 + branch, shape), fakes[branch])
        with torch.no_grad():
            real, wrong, fake = (judge(pictures, mu)[:2] for pictures in seen)
        loss = objective.discriminator(real, fake, wrong, weight, "bce")
        assert float(loss) == pytest.approx(expected[f"errD{SIDES[branch]}"], rel=3e-6)
    total = sum(objective.generator(fresh(i)(fake, mu)[:2], weight, "bce") for i, fake in enumerate(fakes))
    divergence = 2 * losses.kl(mu, logvar)
    total = total + divergence
    assert float(divergence.detach()) == pytest.approx(expected["kl_x2"], rel=1e-6)
    assert float(total.detach()) == pytest.approx(expected["errG_total_color0"], rel=3e-6)
    total = total + 50 * objective.colour_consistency(fakes)
    assert float(total.detach()) == pytest.approx(expected["errG_total_color50"], rel=3e-6)
    if "grad_abs_mu" in expected:
        of_mu, *of_fakes = torch.autograd.grad(total, [mu, *fakes])
        assert float(of_mu.abs().sum()) == pytest.approx(expected["grad_abs_mu"], rel=1e-5)
        for found, theirs in zip(of_fakes, expected["grad_abs_fake"]):
            assert float(found.abs().sum()) == pytest.approx(theirs, rel=1e-5)


def test_the_divergence_is_the_published_one() -> None:
    record = RECORDED["losses"]["KL"]
    found = losses.kl(parity.given(record["mu"]), parity.given(record["logvar"]))
    assert float(found) == pytest.approx(record["value"], rel=1e-6)


def test_colours_are_the_published_ones() -> None:
    record = RECORDED["losses"]["mean_covariance"]
    mean, covariance = objective.colours(parity.given(record["img"]))
    assert mean.flatten().tolist() == pytest.approx(record["mean"], rel=1e-5)
    assert covariance.flatten().tolist() == pytest.approx(record["covariance"], rel=1e-5)
