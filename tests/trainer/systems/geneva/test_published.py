"""Snapshots of GeNeVA come in and go out with the same keys and bits."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from store import params
from store.errors import ChatPainterError
from tests.support.models import SMALL_GENEVA
from trainer import generator_file
from trainer.feed.inputs import LENGTH
from trainer.systems.geneva import published
from trainer.systems.geneva.config import Networks
from trainer.systems.geneva.discriminator import Discriminator
from trainer.systems.geneva.networks import TURN_WORDS, WORDS, GenevaGenerator, generator_settings

NETWORKS = params.build(Networks, {**SMALL_GENEVA, "words": 9, "start": "published"}, "networks")
OBJECTS = 4
CFG = argparse.Namespace(dataset="codraw", batch_size=32, gp_reg=10.0, load_snapshot=None, disc_sn=True)


def networks() -> tuple[GenevaGenerator, Discriminator]:
    """The same every time; the discriminator has looked at pictures, so that its norms are near the largest."""
    torch.manual_seed(0)
    generator = GenevaGenerator(generator_settings(NETWORKS, {TURN_WORDS.name: 9}, OBJECTS))
    discriminator = Discriminator(NETWORKS, OBJECTS)
    with torch.no_grad():
        for _ in range(5):
            discriminator(torch.randn(2, 3, 64, 64), torch.randn(2, NETWORKS.hidden), torch.zeros(2, 3, 64, 64))
    return generator, discriminator.eval()


def snapshot(path: Path, old_norms: bool = True) -> dict[str, Any]:
    """A file as GeNeVA's trainer writes it, with spectral norms as torch 0.4.1 keeps them."""
    generator, discriminator = networks()
    values: dict[str, Any] = {"epoch": 3, "iteration": 1200, "cfg": CFG}
    for name in published.MODULES:
        state = {f"module.{key}": value.clone() for key, value in generator.get_submodule(name).state_dict().items()}
        values[f"{name}_state_dict"] = {
            key: torch.tensor(1201) if key.endswith("tracked") else value for key, value in state.items()
        }
    state = discriminator.state_dict()
    for key in [key for key in state if old_norms and key.endswith("_orig")]:
        base, weight = key.removesuffix("_orig"), state[key]
        u, v = state[f"{base}_u"], state.pop(f"{base}_v")
        state[base] = weight / (u @ weight.flatten(1) @ v)
    values["discriminator_state_dict"] = {f"module.{key}": value for key, value in state.items()}
    for name in ("generator", "discriminator", "rnn", "feature_encoders", "sentence_encoder"):
        values[f"{name}_optimizer_state_dict"] = {"state": {}, "param_groups": [{"lr": 1e-4}]}
    torch.save(values, path)
    return values


def words(rows: int = 2) -> dict[str, torch.Tensor]:
    stream = torch.Generator().manual_seed(1)
    return {
        TURN_WORDS.name: torch.randn(rows, 3, 4, 9, generator=stream),
        TURN_WORDS.name + WORDS: torch.tensor([[4, 1, 0], [2, 3, 4]])[:rows],
        TURN_WORDS.name + LENGTH: torch.tensor([2, 3])[:rows],
    }


def test_a_snapshot_goes_back_with_the_same_keys_and_bits(tmp_path: Path) -> None:
    given = snapshot(tmp_path / "snapshot_1200.pth")
    read = published.read_generator(tmp_path / "snapshot_1200.pth")
    generator_file.save(read, tmp_path / "generator.safetensors")
    loaded = generator_file.load(tmp_path / "generator.safetensors")
    published.write_generator(loaded, tmp_path / "back.pth")
    with torch.serialization.safe_globals([argparse.Namespace]):
        back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert {name: back[name] for name in ("epoch", "iteration", "cfg")} == {"epoch": 3, "iteration": 1200, "cfg": CFG}
    for module in published.MODULES:
        before, after = given[f"{module}_state_dict"], back[f"{module}_state_dict"]
        assert list(after) == list(before)
        for name, value in before.items():
            assert torch.equal(after[name], value)
            assert after[name].dtype == value.dtype
    assert read.model == NETWORKS


@pytest.mark.parametrize("old", [True, False])
def test_the_discriminator_judges_as_it_did(tmp_path: Path, old: bool) -> None:
    snapshot(tmp_path / "snapshot_1200.pth", old)
    _, mine = networks()
    read = published.read_discriminator(tmp_path / "snapshot_1200.pth")
    stream = torch.Generator().manual_seed(2)
    pictures, before = torch.randn(2, 2, 3, 64, 64, generator=stream)
    said = torch.randn(2, NETWORKS.hidden, generator=stream)
    for found, expected in zip(read(pictures, said, before), mine(pictures, said, before)):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_words_paint_a_film_and_its_last_picture(tmp_path: Path) -> None:
    snapshot(tmp_path / "snapshot_1200.pth")
    read = published.read_generator(tmp_path / "snapshot_1200.pth")
    noise = torch.randn(2, NETWORKS.noise_dim, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        film = read.film(words(), noise)
        last = read.paint(words(), noise)[64]
    assert film.shape == (2, 3, 3, 64, 64)
    assert torch.equal(last[0], film[0, 1])
    assert torch.equal(last[1], film[1, 2])


def test_batch_statistics_are_those_of_training_mode_and_stay_as_they_were(tmp_path: Path) -> None:
    snapshot(tmp_path / "snapshot_1200.pth")
    read = published.read_generator(tmp_path / "snapshot_1200.pth", statistics="batch")
    before = {name: value.clone() for name, value in read.state_dict().items()}
    noise = torch.randn(2, NETWORKS.noise_dim, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        painted = read.film(words(), noise)
        running = published.read_generator(tmp_path / "snapshot_1200.pth").film(words(), noise)
        assert not torch.allclose(painted, running)
        for name, value in read.state_dict().items():
            if not name.endswith("tracked"):
                assert torch.equal(value, before[name]), name
        assert not any(module.training for module in read.modules())
        torch.testing.assert_close(read.train().film(words(), noise), painted)


def test_the_background_is_seen_as_the_published_weights_saw_it(tmp_path: Path) -> None:
    snapshot(tmp_path / "snapshot_1200.pth")
    Image.fromarray(np.full((240, 320, 3), (255, 128, 0), np.uint8)).save(tmp_path / "background.png")
    read = published.read_generator(tmp_path / "snapshot_1200.pth", background=str(tmp_path / "background.png"))
    expected = torch.tensor([-1.0, 128 / 127.5 - 1, 1.0])
    torch.testing.assert_close(read.background, expected[:, None, None].expand(3, 64, 64))
    nothing = {**words(), TURN_WORDS.name + LENGTH: torch.tensor([0, 0])}
    assert torch.equal(read.paint(nothing, torch.zeros(2, NETWORKS.noise_dim))[64][0], read.background)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda values: values.pop("generator_state_dict"), "lacks generator_state_dict"),
        (lambda values: values["rnn_state_dict"].pop("module.bias_hh_l0"), "lacks bias_hh_l0"),
        (lambda values: values.update(layer_norm_state_dict=None), "expected a state_dict"),
        (lambda values: values["generator_state_dict"].update({"module.conv.weight": torch.ones(2)}), "conv.weight"),
    ],
)
def test_what_is_no_snapshot_is_refused_in_one_line(tmp_path: Path, change: Any, complaint: str) -> None:
    values = snapshot(tmp_path / "snapshot_1200.pth")
    change(values)
    torch.save(values, tmp_path / "changed.pth")
    with pytest.raises(ChatPainterError, match=complaint) as refused:
        published.read_generator(tmp_path / "changed.pth")
    assert "\n" not in refused.value.message
    assert "changed.pth" in refused.value.message


def test_what_a_snapshot_cannot_hold_is_not_written(tmp_path: Path) -> None:
    vectors = params.build(Networks, SMALL_GENEVA, "networks")
    generator = GenevaGenerator(generator_settings(vectors, {"captions": 4, "turns": 5}, OBJECTS))
    with pytest.raises(ChatPainterError, match="reads a vector a turn"):
        published.write_generator(generator, tmp_path / "no.pth")
    assert not (tmp_path / "no.pth").exists()
