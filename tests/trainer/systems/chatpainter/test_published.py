"""StackGAN-Pytorch's own files, made as that project makes them: plain modules, state_dict, torch.save."""

from pathlib import Path
from typing import Any

import pytest
import torch

from store.errors import ChatPainterError
from tests.support import plain_stackgan as plain
from tests.support.models import small_model
from tests.support.pickles import Hostile
from trainer import generator_file
from trainer.networks.blocks import initialise
from trainer.systems.chatpainter import published
from trainer.systems.chatpainter.networks import ChatPainterGenerator, generator_settings

GF, DF, T, C, Z = 4, 4, 6, 5, 3


def file_of(kind: str, path: Path, wrapped: bool = False) -> Any:
    """A file of 2017: trained a little, without num_batches_tracked."""
    torch.manual_seed(0)
    makers: dict[str, Any] = {
        "g1": lambda: plain.PlainStage1G(GF, T, C, Z),
        "g2": lambda: plain.PlainStage2G(GF, T, C, Z, 2),
        "d1": lambda: plain.PlainStage1D(DF, C),
        "d2": lambda: plain.PlainStage2D(DF, C),
    }
    module = makers[kind]()
    module.apply(initialise)
    for name, buffer in module.named_buffers():
        if buffer.is_floating_point():
            # Means below zero, or every ReLU of an untrained network would be shut in eval mode.
            buffer.add_(torch.rand(buffer.shape), alpha=-1 if name.endswith("mean") else 1)
    state = {k: v for k, v in module.state_dict().items() if "num_batches" not in k}
    torch.save({f"module.{k}": v for k, v in state.items()} if wrapped else state, path)
    return module.eval()


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("wrapped", [False, True])
def test_their_generator_paints_here(tmp_path: Path, stage: int, wrapped: bool) -> None:
    path = tmp_path / "netG_epoch_120.pth"
    theirs = file_of(f"g{stage}", path, wrapped)
    ours = published.read_generator(path)
    assert (ours.stage, ours.model.dialogue, ours.noise_dim) == (stage, "none", Z)
    assert (ours.model.gf, ours.model.condition_dim, ours.settings["caption_dim"]) == (GF, C, T)
    captions, noise, epsilon = torch.randn(2, T), torch.randn(2, Z), torch.randn(2, C)
    with torch.inference_mode():
        draws = (epsilon,) if stage == 1 else (epsilon, epsilon)
        expected = theirs(captions, noise, *draws)[0]
        got = ours.paint({"captions": captions}, noise, epsilon)[max(ours.names)]
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-4)
    assert expected.std() > 1e-4
    # And by way of our own file.
    generator_file.save(ours, tmp_path / "generator.safetensors")
    again = generator_file.load(tmp_path / "generator.safetensors")
    with torch.inference_mode():
        assert torch.equal(again.paint({"captions": captions}, noise, epsilon)[max(ours.names)], got)


@pytest.mark.parametrize("kind", ["g1", "g2", "d1", "d2"])
def test_there_and_back(tmp_path: Path, kind: str) -> None:
    path, back = tmp_path / "net.pth", tmp_path / "back.pth"
    file_of(kind, path)
    if kind.startswith("g"):
        published.write_generator(published.read_generator(path), back)
    else:
        published.write_discriminator(published.read_discriminator(path), back)
    before, after = (torch.load(p, weights_only=True) for p in (path, back))
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_their_discriminator_judges_here(tmp_path: Path) -> None:
    path = tmp_path / "netD_epoch_last.pth"
    theirs = file_of("d2", path)
    ours = published.read_discriminator(path).eval()
    picture, condition = torch.rand(2, 3, 256, 256), torch.randn(2, C)
    with torch.inference_mode():
        features, plain_features = ours(picture).features, theirs(picture)
        torch.testing.assert_close(
            torch.sigmoid(ours.get_cond_logits(features, condition)),
            theirs.get_cond_logits(plain_features, condition),
        )


def test_what_stackgan_cannot_hold_is_refused(tmp_path: Path) -> None:
    for switches, words in (
        ({"dialogue": "recurrent"}, "dialogue: recurrent"),
        ({"dialogue": "none", "standardise": True}, "standardise"),
        ({"dialogue": "none", "condition_activation": "none"}, "condition_activation"),
    ):
        generator = ChatPainterGenerator(generator_settings(1, small_model(**switches), 6, 5))
        with pytest.raises(ChatPainterError, match=words):
            published.write_generator(generator, tmp_path / "out.pth")
    assert not list(tmp_path.iterdir())


def test_what_is_not_theirs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "netG_epoch_1.pth"
    with pytest.raises(ChatPainterError, match="cannot be read"):
        published.read_generator(path)
    hostile = Hostile(tmp_path / "ran")
    torch.save({"x": hostile}, path)
    with pytest.raises(ChatPainterError, match="not a file of tensors alone"):
        published.read_generator(path)
    assert not hostile.ran
    torch.save({"x": torch.zeros(1)}, path)
    with pytest.raises(ChatPainterError, match="not a StackGAN-Pytorch generator"):
        published.read_generator(path)
    with pytest.raises(ChatPainterError, match="not a StackGAN-Pytorch discriminator"):
        published.read_discriminator(path)
    file_of("g1", path)
    state = torch.load(path, weights_only=True)
    del state["upsample3.1.weight"]
    torch.save(state, path)
    with pytest.raises(ChatPainterError, match=r"upsample3\.1\.weight"):
        published.read_generator(path)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_state_dict_within_a_checkpoint_is_read(tmp_path: Path, wrapped: bool) -> None:
    path = tmp_path / "netG_epoch_9.pth"
    file_of("g1", path, wrapped)
    state = torch.load(path, weights_only=True)
    torch.save({"state_dict": state, "epoch": 9}, tmp_path / "checkpoint.pth")
    one, other = (published.read_generator(each).state_dict() for each in (path, tmp_path / "checkpoint.pth"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_what_is_lacking_is_named(tmp_path: Path) -> None:
    path = tmp_path / "half.pth"
    torch.save({"module.ca_net.fc.weight": torch.zeros(256, 1024), "module.ca_net.fc.bias": torch.zeros(256)}, path)
    with pytest.raises(ChatPainterError, match=r"its state_dict lacks fc\.0\.weight"):
        published.read_generator(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_damage_is_called_so_and_torchs_advice_is_not_passed_on(tmp_path: Path, legacy: bool) -> None:
    whole, path = tmp_path / "whole.pth", tmp_path / "cut.pth"
    torch.save({"a": torch.zeros(1000)}, whole, _use_new_zipfile_serialization=not legacy)
    for kept in (0, 1, 100, 900):
        path.write_bytes(whole.read_bytes()[:kept])
        with pytest.raises(ChatPainterError, match="not a file of tensors alone") as caught:
            published.read_generator(path)
        assert "weights_only" not in caught.value.message
        assert len(caught.value.message) < 300
