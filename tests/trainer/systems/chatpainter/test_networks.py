"""The networks are StackGAN's: same tensors under the same names, same numbers out."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.support import plain_stackgan as plain
from trainer.config import section
from trainer.networks import text
from trainer.networks.blocks import Logits, UpBlock, initialise, upsampled_conv3x3
from trainer.networks.text import ConditioningAugmentation, DialogueEncoder, Standardise, sample
from trainer.systems.chatpainter.config import PRESETS, ModelConfig
from trainer.systems.chatpainter.discriminator import Discriminator
from trainer.systems.chatpainter.networks import (
    ChatPainterGenerator,
    Stage1Generator,
    Stage2Generator,
    generator_settings,
)

SMALL = ModelConfig(dialogue="none", gf=4, df=3, residual_blocks=2, condition_dim=5, noise_dim=6)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def preset(name: str) -> ModelConfig:
    return section({"model": {"preset": name}}, "model", ModelConfig, PRESETS)


@pytest.mark.parametrize(
    "name, text, g1, d1, g2_own, d2",
    [
        ("paper", 1024, 10_301_248, 5_715_713, 26_290_080, 71_269_122),
        ("paper", 1024 + 2048, 10_825_536, 5_715_713, 26_814_368, 71_269_122),
        ("paper", 1024 + 4800, 11_530_048, 5_715_713, 27_518_880, 71_269_122),
        ("stackgan-coco", 1024, 20_020_832, 12_407_425, 37_130_480, 159_889_538),
        ("stackgan-coco", 1024 + 2048, 20_545_120, 12_407_425, 37_654_768, 159_889_538),
    ],
)
def test_parameter_counts(name: str, text: int, g1: int, d1: int, g2_own: int, d2: int) -> None:
    model = preset(name)
    with torch.device("meta"):
        assert count(Stage1Generator(model, text)) == g1
        assert count(Discriminator(model, 1, "batch")) == d1
        stage2 = Stage2Generator(model, text)
        assert count(stage2) == g1 + g2_own
        assert count(Discriminator(model, 2, "batch")) == d2


@pytest.mark.parametrize("size", [32, 64, 128])
def test_every_size_of_picture(size: int) -> None:
    """From 4 x 4 up and back, with as many channels a pixel as at 64; the names are StackGAN's."""
    model = replace(SMALL, size=size)
    text, noise = torch.randn(2, 7), torch.randn(2, 6)
    first, second = Stage1Generator(model, 7), Stage2Generator(model, 7)
    assert first(text, noise).picture.shape == (2, 3, size, size)
    painted = second(text, noise)
    assert painted.picture.shape == (2, 3, 4 * size, 4 * size)
    for pictures, discriminator in (
        (painted.stage1, Discriminator(model, 1, "batch")),
        (painted.picture, Discriminator(model, 2, "batch")),
    ):
        features = discriminator(pictures).features
        assert features.shape == (2, 3 * size // 8, 4, 4)
        assert discriminator.get_cond_logits(features, painted.condition).shape == (2,)
    assert [name for name, _ in first.named_children() if name.startswith("up")] == [
        f"upsample{number}" for number in range(1, {32: 3, 64: 4, 128: 5}[size] + 1)
    ]
    assert first.img[0].in_channels == 2  # gf / 2


def test_parameter_counts_of_each_part() -> None:
    with torch.device("meta"):
        model = preset("stackgan-coco")
        g1, d1 = Stage1Generator(model, 1024), Discriminator(model, 1, "batch")
        g2, d2 = Stage2Generator(model, 1024), Discriminator(model, 2, "batch")

    def parts(module: nn.Module) -> dict[str, int]:
        return {name: count(child) for name, child in module.named_children() if count(child)}

    ups1 = {"upsample1": 10_618_368, "upsample2": 2_654_976, "upsample3": 663_936, "upsample4": 166_080}
    assert parts(g1) == {"ca_net": 262_400, "fc": 5_652_480, **ups1, "img": 2_592}
    assert parts(d1) == {"encode_img": 6_200_448, "get_cond_logits": 6_206_977}
    ups2 = {"upsample1": 2_654_976, "upsample2": 663_936, "upsample3": 166_080, "upsample4": 41_568}
    own = {"encoder": 5_905_728, "hr_joint": 6_194_688, "residual": 21_239_808, **ups2, "img": 1_296}
    assert parts(g2) == {"STAGE1_G": 20_020_832, "ca_net": 262_400, **own}
    assert parts(d2) == {"encode_img": 153_670_272, "get_cond_logits": 6_206_977, "get_uncond_logits": 12_289}
    lengths = [len(module.state_dict()) for module in (g1, d1, g2, d2)]
    assert lengths == [33, 27, 103, 53]
    assert [sum("num_batches" not in k for k in m.state_dict()) for m in (g1, d1, g2, d2)] == [28, 23, 87, 45]


def test_shapes_key_by_key_at_the_published_coco_sizes() -> None:
    with torch.device("meta"):
        model = preset("stackgan-coco")
        g1, d1 = Stage1Generator(model, 1024).state_dict(), Discriminator(model, 1, "batch").state_dict()
        g2, d2 = Stage2Generator(model, 1024).state_dict(), Discriminator(model, 2, "batch").state_dict()
    expected: dict[int, dict[str, tuple[int, ...]]] = {
        0: {
            "ca_net.fc.weight": (256, 1024), "ca_net.fc.bias": (256,),
            "fc.0.weight": (24576, 228), "fc.1.running_mean": (24576,),
            "upsample1.1.weight": (768, 1536, 3, 3), "upsample1.2.weight": (768,),
            "upsample2.1.weight": (384, 768, 3, 3), "upsample3.1.weight": (192, 384, 3, 3),
            "upsample4.1.weight": (96, 192, 3, 3), "upsample4.2.running_var": (96,), "img.0.weight": (3, 96, 3, 3),
        },
        1: {
            "encode_img.0.weight": (96, 3, 4, 4), "encode_img.2.weight": (192, 96, 4, 4), "encode_img.3.bias": (192,),
            "encode_img.5.weight": (384, 192, 4, 4), "encode_img.6.running_mean": (384,),
            "encode_img.8.weight": (768, 384, 4, 4), "encode_img.9.weight": (768,),
            "get_cond_logits.outlogits.0.weight": (768, 896, 3, 3), "get_cond_logits.outlogits.1.weight": (768,),
            "get_cond_logits.outlogits.3.weight": (1, 768, 4, 4), "get_cond_logits.outlogits.3.bias": (1,),
        },
        2: {
            "STAGE1_G.fc.0.weight": (24576, 228), "ca_net.fc.weight": (256, 1024),
            "encoder.0.weight": (192, 3, 3, 3), "encoder.2.weight": (384, 192, 4, 4), "encoder.3.weight": (384,),
            "encoder.5.weight": (768, 384, 4, 4), "encoder.6.weight": (768,),
            "hr_joint.0.weight": (768, 896, 3, 3), "hr_joint.1.weight": (768,),
            "residual.1.block.0.weight": (768, 768, 3, 3), "residual.1.block.1.weight": (768,),
            "residual.1.block.3.weight": (768, 768, 3, 3), "residual.1.block.4.bias": (768,),
            "upsample1.1.weight": (384, 768, 3, 3), "upsample4.1.weight": (48, 96, 3, 3), "img.0.weight": (3, 48, 3, 3),
        },
        3: {
            "encode_img.11.weight": (1536, 768, 4, 4), "encode_img.12.weight": (1536,),
            "encode_img.14.weight": (3072, 1536, 4, 4), "encode_img.15.weight": (3072,),
            "encode_img.17.weight": (1536, 3072, 3, 3), "encode_img.18.weight": (1536,),
            "encode_img.20.weight": (768, 1536, 3, 3), "encode_img.21.weight": (768,),
            "get_cond_logits.outlogits.0.weight": (768, 896, 3, 3),
            "get_uncond_logits.outlogits.0.weight": (1, 768, 4, 4), "get_uncond_logits.outlogits.0.bias": (1,),
        },
    }  # fmt: skip
    for number, state in enumerate((g1, d1, g2, d2)):
        for name, shape in expected[number].items():
            assert tuple(state[name].shape) == shape, name


def pair(kind: str) -> tuple[nn.Module, nn.Module]:
    m, text = SMALL, 7
    ours: dict[str, Any] = {
        "g1": lambda: Stage1Generator(m, text),
        "d1": lambda: Discriminator(m, 1, "batch"),
        "g2": lambda: Stage2Generator(m, text),
        "d2": lambda: Discriminator(m, 2, "batch"),
    }
    theirs: dict[str, Any] = {
        "g1": lambda: plain.PlainStage1G(m.gf, text, m.condition_dim, m.noise_dim),
        "d1": lambda: plain.PlainStage1D(m.df, m.condition_dim),
        "g2": lambda: plain.PlainStage2G(m.gf, text, m.condition_dim, m.noise_dim, m.residual_blocks),
        "d2": lambda: plain.PlainStage2D(m.df, m.condition_dim),
    }
    torch.manual_seed(3)
    a, b = ours[kind]().double(), theirs[kind]().double()
    a.apply(initialise)
    b.load_state_dict(a.state_dict(), strict=True)  # every key, no other
    return a, b


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_generators_paint_what_stackgan_paints(mode: str) -> None:
    random = torch.Generator().manual_seed(0)
    text, noise, e, e1 = (torch.randn(4, n, generator=random, dtype=torch.float64) for n in (7, 6, 5, 5))
    ours, theirs = (module.train(mode == "train") for module in pair("g1"))
    a, (picture, mu, logvar) = ours(text, noise, e[None]), theirs(text, noise, e)
    torch.testing.assert_close((a.picture, a.mu, a.logvar), (picture, mu, logvar))
    ours, theirs = (module.train(mode == "train") for module in pair("g2"))
    b = ours(text, noise, torch.stack([e, e1]))
    assert b.picture.shape == (4, 3, 256, 256)
    torch.testing.assert_close(b.picture, theirs(text, noise, e, e1)[0])


@pytest.mark.parametrize("kind, size", [("d1", 64), ("d2", 256)])
def test_discriminators_judge_as_stackgan_judges(kind: str, size: int) -> None:
    random = torch.Generator().manual_seed(0)
    pictures = torch.rand(3, 3, size, size, generator=random, dtype=torch.float64) * 2 - 1
    condition = torch.randn(3, 5, generator=random, dtype=torch.float64)
    ours, theirs = pair(kind)
    features = ours(pictures).features
    torch.testing.assert_close(features, theirs(pictures))

    for name in ("get_cond_logits", "get_uncond_logits"):
        head, plain_head = getattr(ours, name), getattr(theirs, name)
        if head is None:
            assert plain_head is None
            continue
        given = () if "uncond" in name else (condition,)
        torch.testing.assert_close(torch.sigmoid(head(features, *given)), plain_head(features, *given))


def test_up_block_is_upsampling_then_convolution() -> None:
    random = torch.Generator().manual_seed(0)
    for h, w in ((1, 1), (4, 4), (5, 3), (8, 8), (9, 16)):
        x = torch.randn(2, 3, h, w, generator=random, dtype=torch.float64, requires_grad=True)
        weight = torch.randn(4, 3, 3, 3, generator=random, dtype=torch.float64, requires_grad=True)
        expected = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), weight, padding=1)
        got = upsampled_conv3x3(x, weight)
        torch.testing.assert_close(got, expected)
        direction = torch.randn(expected.shape, generator=random, dtype=torch.float64)
        for a, b in zip(
            torch.autograd.grad(got, (x, weight), direction), torch.autograd.grad(expected, (x, weight), direction)
        ):
            torch.testing.assert_close(a, b)


def test_up_block_runs_its_layers() -> None:
    block = UpBlock(3, 4).double()
    for side in (4, 8, 12):
        x = torch.randn(2, 3, side, side, dtype=torch.float64)
        torch.testing.assert_close(block(x), nn.Sequential(*block)(x))


def test_dialogue_encoder_equals_a_packed_bidirectional_lstm() -> None:
    torch.manual_seed(1)
    ours = DialogueEncoder(6, 5).double()
    packed = nn.LSTM(6, 5, batch_first=True, bidirectional=True).double()
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    for name in names:
        getattr(packed, name).data.copy_(getattr(ours.ahead, name))
        getattr(packed, f"{name}_reverse").data.copy_(getattr(ours.back, name))
    rounds = torch.tensor([4, 1, 7, 3])
    turns = torch.randn(4, 7, 6, dtype=torch.float64)
    sequence = nn.utils.rnn.pack_padded_sequence(turns, rounds, batch_first=True, enforce_sorted=False)
    final = packed(sequence)[1][0]
    torch.testing.assert_close(ours(turns, rounds), torch.cat([final[0], final[1]], 1))
    # What lies after the last round is never read.
    beyond = turns.clone()
    for row, n in enumerate(rounds):
        beyond[row, n:] = 1e6
    torch.testing.assert_close(ours(beyond, rounds), ours(turns, rounds))


def test_a_dialogue_without_rounds_says_nothing() -> None:
    encoder = DialogueEncoder(3, 2)
    out = encoder(torch.randn(2, 4, 3), torch.tensor([0, 2]))
    assert not out[0].any()
    assert out[1].any()


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "none"])
def test_conditioning_augmentation(activation: Any) -> None:
    torch.manual_seed(2)
    net = ConditioningAugmentation(6, 4, activation)
    text, epsilon = torch.randn(5, 6), torch.randn(5, 4)
    mu, logvar = net(text)
    raw = text.double() @ net.fc.weight.double().T + net.fc.bias.double()
    slope = {"relu": 0.0, "leaky_relu": 0.2, "none": 1.0}[activation]
    expected = torch.where(raw > 0, raw, slope * raw)
    torch.testing.assert_close(mu.double(), expected[:, :4], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(logvar.double(), expected[:, 4:], atol=1e-6, rtol=1e-5)
    drawn = sample(mu, logvar, epsilon)
    for i in range(5):
        for j in range(4):
            value = mu[i, j].item() + math.exp(logvar[i, j].item() / 2) * epsilon[i, j].item()
            assert drawn[i, j].item() == pytest.approx(value, abs=1e-5)
    assert torch.equal(sample(mu, logvar, None), mu)
    if activation == "relu":
        assert mu.min() >= 0
        assert logvar.min() >= 0  # so sigma is never below 1


def test_text_dim() -> None:
    for dialogue, dim, width in (("none", None, 1024), ("collapsed", 4800, 5824), ("recurrent", 4800, 3072)):
        with torch.device("meta"):
            model = replace(SMALL, dialogue=dialogue, lstm_hidden=1024)  # type: ignore[arg-type]
            assert ChatPainterGenerator(generator_settings(1, model, 1024, dim)).text_dim == width


def test_standardise() -> None:
    vectors = torch.randn(500, 4, dtype=torch.float64) * torch.tensor([1.0, 5.0, 0.1, 0.0]) + 3
    standardise = Standardise(4)
    standardise.fit(vectors)
    out = standardise(vectors.half()).double()
    assert out.mean(0).abs().max() < 2e-2
    torch.testing.assert_close(out[:, :3].std(0, correction=0), torch.ones(3, dtype=torch.float64), atol=1e-2, rtol=0)
    assert out[:, 3].abs().max() < 1e-2  # a dimension that never changes is centred and not blown up


@pytest.mark.parametrize("norm", ["spectral", "none"])
def test_without_batchnorm(norm: Any) -> None:
    for stage, size in ((1, 64), (2, 256)):
        discriminator = Discriminator(SMALL, stage, norm)  # type: ignore[arg-type]
        assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in discriminator.modules())
        one = torch.rand(1, 3, size, size)
        two = torch.cat([one, torch.rand(1, 3, size, size)])
        discriminator.eval()  # no power iteration between the two
        torch.testing.assert_close(discriminator(one).features[0], discriminator(two).features[0], atol=1e-5, rtol=1e-4)


def test_spectral_norm_holds() -> None:
    head = Logits(16, 3, "spectral")
    for _ in range(30):
        head(torch.randn(2, 16, 4, 4), torch.randn(2, 3))
    layers: list[Any] = [head.outlogits[0], head.outlogits[-1]]
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-2)


def test_initialise_draws_as_stackgan() -> None:
    torch.manual_seed(0)
    network: Any = Discriminator(ModelConfig(df=16, condition_dim=16), 1, "batch")
    bias = network.get_cond_logits.outlogits[-1].bias.clone()
    network.apply(initialise)
    assert torch.equal(network.get_cond_logits.outlogits[-1].bias, bias)  # convolutions keep PyTorch's
    convolution, norm = network.encode_img[8], network.encode_img[9]
    assert convolution.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert abs(convolution.weight.mean().item()) < 1e-3
    assert norm.weight.mean().item() == pytest.approx(1, abs=0.01)
    assert norm.weight.std().item() == pytest.approx(0.02, rel=0.3)
    assert not norm.bias.any()
    generator = Stage1Generator(SMALL, 7)
    generator.apply(initialise)
    assert not generator.ca_net.fc.bias.any()


def test_presets_are_known_by_name() -> None:
    assert {"paper", "stackgan-coco", "tiny", "stable"} <= set(PRESETS)


def test_refining_starts_from_stage1s_enlarged_picture() -> None:
    torch.manual_seed(0)
    network: Any = Stage2Generator(replace(SMALL, refine=True), 7)
    assert network.state_dict().keys() == Stage2Generator(SMALL, 7).state_dict().keys()
    nn.init.zeros_(network.img[0].weight)
    painted = network(torch.randn(2, 7), torch.randn(2, 6), torch.randn(2, 2, 5))
    stage1 = painted.stage1.double()
    enlarged = F.interpolate(stage1, scale_factor=4, mode="bilinear", align_corners=False)
    torch.testing.assert_close(painted.picture.double(), enlarged.clamp(-0.99, 0.99), atol=1e-5, rtol=0)


def test_lstms_run_in_float32_where_the_processor_has_none_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = DialogueEncoder(4, 3)
    turns, rounds = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([5, 2])
    expected = encoder(turns, rounds)
    monkeypatch.setattr(text, "_bfloat16_lstms", lambda: False)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encoder(turns.bfloat16().float(), rounds), encoder(turns.bfloat16(), rounds))
        assert torch.equal(encoder(turns, rounds), expected)
