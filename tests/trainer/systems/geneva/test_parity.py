"""Ours against GeNeVA's own sources: keys, shapes, counts, outputs in both modes."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support import parity
from trainer.systems.geneva.blocks import ConditionEncoder, ImageEncoder, SentenceEncoder
from trainer.systems.geneva.config import Networks
from trainer.systems.geneva.discriminator import Discriminator
from trainer.systems.geneva.networks import TurnGenerator

GIVEN = parity.load("geneva")
NARROW = tuple(width // 16 for width in Networks().up)
SMALL = Networks(
    up=NARROW,
    features=(4, 8, 32),
    down=tuple(width // 16 for width in Networks().down),
    auxiliary=16,
    sentence=10,
    hidden=12,
    condition_dim=6,
    noise_dim=5,
    words=300,
)
NETWORKS = ("generator", "discriminator", "image_encoder", "condition_encoder", "sentence_encoder", "rnn", "layer_norm")
BOTH = [(kind, mode) for kind in ("A", "B") for mode in ("eval", "train")]
both = pytest.mark.parametrize(("kind", "mode"), BOTH, ids=lambda one: one)


def build(name: str, n: Networks, objects: int, text: int) -> nn.Module:
    made = {
        "generator": lambda: TurnGenerator(n),
        "discriminator": lambda: Discriminator(n, objects),
        "image_encoder": lambda: ImageEncoder(n.features, objects),
        "condition_encoder": lambda: ConditionEncoder(text, n.sentence),
        "sentence_encoder": lambda: SentenceEncoder(300, text),
        "rnn": lambda: nn.GRU(n.sentence, n.hidden),
        "layer_norm": lambda: nn.LayerNorm(n.hidden),
    }
    return made[name]()


def small(name: str, kind: Any, mode: str) -> nn.Module:
    return parity.fill(build(name, SMALL, 7, 14), kind).train(mode == "train")


@pytest.mark.parametrize("name", NETWORKS)
def test_keys_shapes_and_counts_are_the_published_ones(name: str) -> None:
    full = build(name, Networks(), 58, 1024)
    given = GIVEN["keys"][name]
    assert parity.keys(full) == given["keys"]
    assert sum(p.numel() for p in full.parameters()) == given["params"]
    assert len(full.state_dict()) == given["entries"]
    if name in GIVEN["networks"]:
        assert parity.keys(build(name, SMALL, 7, 14)) == GIVEN["networks"][name]["keys"]


def record(name: str, kind: str, mode: str) -> dict[str, Any]:
    found: dict[str, Any] = GIVEN["networks"][name][f"{mode}_{kind}"]
    return found


@both
def test_the_sentence_encoder(kind: Any, mode: str) -> None:
    network = small("sentence_encoder", kind, mode)
    lengths = torch.tensor([2, 0, 5])
    found = network(parity.wave(0, (3, 5, 300)), lengths)
    parity.assert_recorded(found, record("sentence_encoder", kind, mode)["out"]["e"])
    assert lengths.tolist() == [2, 0, 5]  # the original writes a 1 into the caller's tensor where they are sorted


@both
def test_the_condition_encoder(kind: Any, mode: str) -> None:
    network = small("condition_encoder", kind, mode)
    expected = record("condition_encoder", kind, mode)
    parity.assert_recorded(network(parity.wave(0, (2, 14))), expected["out"]["u"])
    if mode == "train":
        parity.assert_buffers(network, expected["buffers_after"])


@pytest.mark.parametrize("kind", ["A", "B"])
def test_the_dialogues_gru_and_what_normalises_it(kind: Any) -> None:
    rnn, norm = small("rnn", kind, "eval"), small("layer_norm", kind, "eval")
    states, _ = rnn(torch.stack([parity.wave(turn, (2, 10)) for turn in range(3)]))
    for turn, state in enumerate(states):
        parity.assert_recorded(state, record("rnn", kind, "eval")["out"][f"h{turn}"])
    parity.assert_recorded(norm(parity.wave(0, (2, 12))), record("layer_norm", kind, "eval")["out"]["y"])


@both
def test_the_image_encoder(kind: Any, mode: str) -> None:
    network, expected = small("image_encoder", kind, mode), record("image_encoder", kind, mode)
    parity.assert_recorded(network(parity.wave(0, (2, 3, 128, 128))), expected["out"]["features"])
    if mode == "train":
        parity.assert_buffers(network, expected["buffers_after"])


def paint(network: nn.Module, n: Networks) -> Tensor:
    features = parity.wave(2, (2, n.features[-1], 16, 16))
    noise, said = parity.wave(0, (2, n.noise_dim)), parity.wave(1, (2, n.hidden))
    picture: Tensor = network(noise, said, features, parity.wave(parity.EPSILON, (2, n.condition_dim))).picture
    return picture


@both
def test_the_generator(kind: Any, mode: str) -> None:
    network, expected = small("generator", kind, mode), record("generator", kind, mode)
    parity.assert_recorded(paint(network, SMALL), expected["out"]["image"])
    if mode == "train":
        parity.assert_buffers(network, expected["buffers_after"])


def judge(network: nn.Module, n: Networks, same: bool = False) -> dict[str, Tensor]:
    pictures, before = (parity.wave(number, (2, 3, 128, 128)) for number in (0, 0 if same else 2))
    seen: list[Tensor] = []
    network.get_submodule("resdown6").register_forward_hook(lambda module, given, found: seen.append(found))
    judged = network(pictures, parity.wave(1, (2, n.hidden)), before)
    return {"out": judged.logits, "aux": judged.objects.sigmoid(), "features": seen[0]}


@both
def test_the_discriminator(kind: Any, mode: str) -> None:
    found = judge(small("discriminator", kind, mode), SMALL)
    for name, expected in record("discriminator", kind, mode)["out"].items():
        parity.assert_recorded(found[name], expected)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_equal_pictures_cancel_in_evaluation_mode_alone(mode: str) -> None:
    """In training mode each of both passes the first blocks under another power step of the spectral norms."""
    found = judge(small("discriminator", "B", mode), SMALL, same=True)
    for name, expected in record("discriminator_same_images", "B", mode)["out"].items():
        parity.assert_recorded(found[name], expected)
    spread = float(found["out"].detach().std())
    assert (spread > 0) == (mode == "train")


def test_at_the_published_width() -> None:
    full = Networks()
    with torch.no_grad():
        network = parity.fill(build("generator", full, 58, 1024), "B").eval()
        parity.assert_recorded(paint(network, full), record("generator_full_width", "B", "eval")["out"]["image"])
        network = parity.fill(build("discriminator", full, 58, 1024), "B").eval()
        for name, found in judge(network, full).items():
            parity.assert_recorded(found, record("discriminator_full_width", "B", "eval")["out"][name])
