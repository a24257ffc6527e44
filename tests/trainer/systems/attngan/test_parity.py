"""AttnGAN's networks and losses against what the original sources gave for weights and inputs by formula."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support import parity
from tests.support.plain_attngan import PlainAttnG, sentence_loss, words_loss
from tests.support.plain_stackgan_v2 import PlainV2D
from trainer.networks import losses
from trainer.networks.attention import Tokens, first
from trainer.networks.words import ImageFeatures, Sharpness, TextFeatures, damsm_loss
from trainer.systems.attngan.config import AttnGanModel
from trainer.systems.attngan.discriminator import Discriminator, GetLogits
from trainer.systems.attngan.networks import Branches, GeneratorOutput
from trainer.systems.attngan.step import pair_logits, wrong_pairs

RECORDED = parity.load("attngan")
SMALL: dict[str, Any] = {"gf": 4, "noise_dim": 5, "condition_dim": 6}
LENGTHS = torch.tensor([5, 3])
RECORDS = [f"{mode}_{fill}" for mode in ("eval", "train") for fill in ("A", "B")]


@pytest.mark.parametrize("name", ["G_NET", "G_DCGAN_R0"])
def test_generators_have_the_published_keys(name: str) -> None:
    dcgan: dict[str, Any] = {"only_last": True, "residual_blocks": 0} if "DCGAN" in name else {"residual_blocks": 3}
    with torch.device("meta"):
        network = Branches(AttnGanModel(gf=48, **dcgan), 256, 256, None)
    record = RECORDED["keys"][name]
    assert parity.keys(network) == record["keys"]
    assert sum(parameter.numel() for parameter in network.parameters()) == record["params"]


@pytest.mark.parametrize(
    "name, branch", [("D_NET64", 0), ("D_NET128", 1), ("D_NET256", 2), ("D_NET256_b_jcu_False", 2)]
)
def test_discriminators_have_the_published_keys(name: str, branch: int) -> None:
    with torch.device("meta"):
        network = Discriminator(96, 64, branch, 256, unconditional="False" not in name)
    record = RECORDED["keys"][name]
    assert parity.keys(network) == record["keys"]
    assert sum(parameter.numel() for parameter in network.parameters()) == record["params"]


def test_the_plain_step_of_the_benchmark_is_of_the_published_sizes_and_losses() -> None:
    with torch.device("meta"):
        plain: dict[str, nn.Module] = {"G_NET": PlainAttnG(48, 256, 256, 100, 100, 64, 3, 3)}
        plain |= {f"D_NET{64 << branch}": PlainV2D(96, 256, 64, branch) for branch in range(3)}
    for name, network in plain.items():
        assert sum(parameter.numel() for parameter in network.parameters()) == RECORDED["keys"][name]["params"]
    record = RECORDED["losses"]["words_loss.unit.none"]
    found = words_loss(parity.given(record["regions"]), parity.given(record["words"]), [5, 4, 2], 4.0, 5.0, 10.0)
    assert [float(one) for one in found] == pytest.approx([record["w0_f64"], record["w1_f64"]], rel=1e-6)
    record = RECORDED["losses"]["sent_loss.unit.none"]
    found = sentence_loss(parity.given(record["cnn_code"]), parity.given(record["rnn_code"]), 10.0)
    assert [float(one) for one in found] == pytest.approx([record["s0"], record["s1"]], rel=1e-5)


def generator(name: str, fill: Any) -> Branches:
    dcgan: dict[str, Any] = {"only_last": True, "residual_blocks": 0} if "DCGAN" in name else {"residual_blocks": 2}
    network = Branches(AttnGanModel(**SMALL, **dcgan), 8, 8, None)
    assert parity.keys(network) == RECORDED["networks"][name]["keys"]
    parity.fill(network, fill)
    return network


def inputs(record: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor, Tokens]:
    """Sentences, noise, the condition's noise, words."""
    noise, sentences, words = (parity.given(record["inputs"][name]) for name in ("z_code", "sent_emb", "word_embs"))
    epsilon = parity.wave(parity.EPSILON, (2, SMALL["condition_dim"]))
    return sentences, noise, epsilon, Tokens(words.transpose(1, 2), first(LENGTHS, words.shape[2]))


def assert_painted(painted: GeneratorOutput, out: dict[str, Any]) -> None:
    assert {name for name in out if name.startswith("fake")}
    for name, record in out.items():
        if name.startswith("fake"):
            parity.assert_recorded(painted.pictures[int(name[4:])], record)
        elif name.startswith("attention"):
            parity.assert_recorded(list(painted.attention.values())[int(name[-1])], record)
        else:
            parity.assert_recorded(getattr(painted, name), record)


@pytest.mark.parametrize("name", ["G_NET", "G_DCGAN_R0"])
@pytest.mark.parametrize("which", RECORDS)
def test_generators_paint_the_published_pictures(name: str, which: str) -> None:
    record = RECORDED["networks"][name]
    network = generator(name, which[-1]).train(which.startswith("train"))
    with torch.no_grad():
        painted = network(*inputs(record), shuffled=True)
    assert_painted(painted, record[which]["out"])
    if "buffers_after" in record[which]:
        parity.assert_buffers(network, record[which]["buffers_after"])


@pytest.mark.parametrize("fill", ["A", "B"])
def test_the_right_mask_paints_each_text_as_the_original_paints_it_alone(fill: str) -> None:
    record = RECORDED["networks"]["G_NET_own_mask"]
    with torch.no_grad():
        painted = generator("G_NET", fill).eval()(*inputs(record))
    assert_painted(painted, record[f"eval_{fill}"]["out"])


@pytest.mark.parametrize("branch", [0, 1, 2])
@pytest.mark.parametrize("which", RECORDS)
def test_discriminators_judge_as_the_published_ones(branch: int, which: str) -> None:
    record = RECORDED["networks"][f"D_NET{64 << branch}"]
    network = Discriminator(4, 64, branch, 8)
    assert parity.keys(network) == record["keys"]
    parity.fill(network, which[-1])  # type: ignore[arg-type]
    network.train(which.startswith("train"))
    image, sentence = (parity.given(record["inputs"][name]) for name in ("image", "sentence"))
    with torch.no_grad():
        features = network(image).features
        found = {
            "features": features,
            "cond": network.COND_DNET(features, sentence),
            "uncond": network.UNCOND_DNET(features),
            "cond_wrong": network.COND_DNET(features[:-1], sentence[1:]),
        }
    out = record[which]["out"]
    assert set(out) == set(found)
    for name, value in found.items():
        parity.assert_recorded(value if name == "features" else value.sigmoid(), out[name])
    if "buffers_after" in record[which]:
        parity.assert_buffers(network, record[which]["buffers_after"])


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("which", RECORDS)
def test_heads_judge_as_the_published_ones(conditional: bool, which: str) -> None:
    record = RECORDED["networks"]["D_GET_LOGITS_cond" if conditional else "D_GET_LOGITS_uncond"]
    if which not in record:
        pytest.skip("without a BatchNorm, training is as evaluation")
    head = GetLogits(32, 8 if conditional else None, "batch")
    assert parity.keys(head) == record["keys"]
    parity.fill(head, which[-1])  # type: ignore[arg-type]
    head.train(which.startswith("train"))
    features, sentence = (parity.given(record["inputs"][name]) for name in ("h_code", "c_code"))
    with torch.no_grad():
        found = head(features, sentence if conditional else None)
    parity.assert_recorded(found.sigmoid(), record[which]["out"]["out"])


class Stub(nn.Module):
    """An image encoder that sees the same in everything."""

    def forward(self, pictures: Tensor) -> ImageFeatures:
        return ImageFeatures(parity.wave(11, (3, 8, 17, 17)), parity.wave(12, (3, 8)))


@pytest.mark.parametrize("which", RECORDS)
def test_one_step_has_the_published_losses(which: str) -> None:
    record = RECORDED["losses"][f"step.{which}"]
    sentence, words = parity.wave(9, (3, 8)), parity.wave(10, (3, 8, 5)).transpose(1, 2)
    images = torch.arange(3)
    adversarial = torch.zeros((), dtype=torch.float64)

    def network(branch: int, unconditional: bool = True) -> Discriminator:
        made = Discriminator(4, 64, branch, 8, unconditional=unconditional)
        parity.fill(made, which[-1])  # type: ignore[arg-type]
        return made.train(which.startswith("train"))

    for branch in range(3):
        side = 64 << branch
        real, fake = parity.wave(branch, (3, 3, side, side)), parity.wave(6 + branch, (3, 3, side, side))
        for unconditional in (True, False):
            d = network(branch, unconditional)
            with torch.no_grad():
                features = d(real).features, d(fake).features
                r, w, f, plain = pair_logits(d, *features, sentence, *wrong_pairs(images, "published"))
            name = f"errD{side}" + ("" if unconditional else "_without_uncond")
            assert float(losses.matching_aware(r, w, f, "bce", plain)) == pytest.approx(record[name], rel=1e-5)
        d = network(branch)
        with torch.no_grad():
            seen = d(fake).features
            adversarial += losses.generator(d.COND_DNET(seen, sentence), "bce")
            adversarial += losses.generator(d.UNCOND_DNET(seen), "bce")
    told = TextFeatures(words, first(torch.tensor(record["lengths"]), 5), sentence)
    found = damsm_loss(Stub()(torch.zeros(())), told, None, Sharpness())
    assert float(50 * (found.w0 + found.w1)) == pytest.approx(record["LAMBDA_w"], rel=1e-5)
    assert float(50 * (found.s0 + found.s1)) == pytest.approx(record["LAMBDA_s"], rel=1e-5)
    assert float(adversarial + 50 * found.total) == pytest.approx(record["errG_without_KL"], rel=1e-5)


def test_the_kl_term_is_the_published_one() -> None:
    record = RECORDED["losses"]["KL"]
    found = losses.kl(parity.given(record["mu"]), parity.given(record["logvar"]))
    assert float(found) == pytest.approx(record["value"], rel=2e-6)
