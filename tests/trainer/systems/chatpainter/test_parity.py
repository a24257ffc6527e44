"""Without dialogue ChatPainter is StackGAN: against numbers that StackGAN-Pytorch gave (tests/support/parity)."""

from typing import Any

import pytest
import torch

from tests.support import parity
from trainer.networks import losses
from trainer.systems.chatpainter.config import PRESETS, ModelConfig, Stage
from trainer.systems.chatpainter.discriminator import Discriminator
from trainer.systems.chatpainter.networks import Stage1Generator, Stage2Generator

RECORDED = parity.load("stackgan")
SMALL = RECORDED["small_config"]
MODEL = ModelConfig(
    dialogue="none",
    gf=SMALL["GF_DIM"],
    df=SMALL["DF_DIM"],
    residual_blocks=SMALL["R_NUM"],
    condition_dim=SMALL["CONDITION_DIM"],
    noise_dim=SMALL["Z_DIM"],
)
STAGES: list[Stage] = [1, 2]
RECORDS = [(stage, mode, fill) for stage in STAGES for mode in ("eval", "train") for fill in ("A", "B")]


def generator(stage: Stage, model: ModelConfig = MODEL, text_dim: int = SMALL["DIMENSION"]) -> torch.nn.Module:
    return (Stage1Generator if stage == 1 else Stage2Generator)(model, text_dim)


@pytest.mark.parametrize("stage", STAGES)
def test_published_sizes_have_the_published_keys(stage: Stage) -> None:
    model = ModelConfig(**PRESETS["stackgan-coco"]["model"])
    with torch.device("meta"):
        made = {
            f"STAGE{stage}_G": generator(stage, model, 1024),
            f"STAGE{stage}_D": Discriminator(model, stage, "batch"),
        }
    for name, network in made.items():
        assert parity.keys(network) == RECORDED["keys"][name]["keys"]


@pytest.mark.parametrize(("stage", "mode", "fill"), RECORDS)
def test_generators_paint_the_published_numbers(stage: Stage, mode: str, fill: Any) -> None:
    record = RECORDED["networks"][f"STAGE{stage}_G"]
    network = parity.fill(generator(stage), fill).train(mode == "train")
    assert parity.keys(network) == record["keys"]
    text, noise = (parity.given(record["inputs"][name]) for name in ("text_embedding", "noise"))
    # Stage 1's condition is drawn first, also inside stage 2.
    shape = (len(noise), MODEL.condition_dim)
    drawn = [parity.wave(parity.EPSILON + number, shape) for number in reversed(range(stage))]
    with torch.no_grad():
        painted = network(text, noise, torch.stack(drawn))
    expected = record[f"{mode}_{fill}"]
    parity.assert_recorded(painted.picture, expected["out"]["fake_img"])
    parity.assert_recorded(painted.mu, expected["out"]["mu"])
    parity.assert_recorded(painted.logvar, expected["out"]["logvar"])
    if stage == 2:
        parity.assert_recorded(painted.stage1, expected["out"]["stage1_img"])
    if mode == "train":
        parity.assert_buffers(network, expected["buffers_after"])


@pytest.mark.parametrize(("stage", "mode", "fill"), RECORDS)
def test_discriminators_judge_with_the_published_numbers(stage: Stage, mode: str, fill: Any) -> None:
    record = RECORDED["networks"][f"STAGE{stage}_D"]
    network = Discriminator(MODEL, stage, "batch")
    parity.fill(network, fill).train(mode == "train")
    assert parity.keys(network) == record["keys"]
    picture, condition = (parity.given(record["inputs"][name]) for name in ("image", "condition"))
    expected, told = record[f"{mode}_{fill}"], network.get_cond_logits
    assert told is not None
    with torch.no_grad():
        features = network.look(picture).features
        found = {"features": features, "cond": told(features, condition).sigmoid()}
        if network.get_uncond_logits is not None:
            found["uncond"] = network.get_uncond_logits(features).sigmoid()
        found["cond_wrong"] = told(features[:-1], condition[1:]).sigmoid()
    assert list(found) == list(expected["out"])
    for name, value in found.items():
        parity.assert_recorded(value, expected["out"][name])
    if mode == "train":
        parity.assert_buffers(network, expected["buffers_after"])


@pytest.mark.parametrize(("stage", "mode", "fill"), RECORDS)
def test_losses_are_the_published_ones(stage: Stage, mode: str, fill: Any) -> None:
    """Their wrong pairs are B - 1, row i with the text of row i + 1."""
    expected = RECORDED["losses"][f"STAGE{stage}_D.{mode}_{fill}"]
    batch, side = expected["batch"], MODEL.sides[stage - 1]
    real, fake = (parity.wave(number, (batch, 3, side, side)) for number in (0, 1))
    condition = parity.wave(2, (batch, MODEL.condition_dim))

    def fresh() -> Discriminator:
        network = Discriminator(MODEL, stage, "batch")
        parity.fill(network, fill).train(mode == "train")
        return network

    judge = fresh()
    with torch.no_grad():
        told, plain = judge.get_cond_logits, judge.get_uncond_logits
        assert told is not None
        seen, painted = judge.look(real).features, judge.look(fake).features
        r, w, f = told(seen, condition), told(seen[:-1], condition[1:]), told(painted, condition)
        unconditional = None if plain is None else (plain(seen), plain(painted))
        loss = losses.matching_aware(r, w, f, "bce", unconditional)
        assert float(loss) == pytest.approx(expected["errD"], rel=3e-6)
        judge = fresh()
        told, plain = judge.get_cond_logits, judge.get_uncond_logits
        assert told is not None
        painted = judge.look(fake).features
        loss = losses.generator(told(painted, condition), "bce")
        if plain is not None:
            loss = loss + losses.generator(plain(painted), "bce")
        assert float(loss) == pytest.approx(expected["errG_without_KL"], rel=3e-6)


def test_the_divergence_is_the_published_one() -> None:
    record = RECORDED["losses"]["KL"]
    found = losses.kl(parity.given(record["mu"]), parity.given(record["logvar"]))
    assert float(found) == pytest.approx(record["value"], rel=1e-6)
