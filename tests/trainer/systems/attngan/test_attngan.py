"""AttnGAN with dialogue: identical at the start, published files to the bit, wrong pairs, refusals."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from store.errors import ChatPainterError, ParamsError
from tests.support.legacy import write_legacy
from tests.support.same import assert_same
from trainer import generator_file, tensor_file
from trainer.feed.inputs import CAPTIONS, COLLAPSED, LENGTH, TURNS, WORDS, Batch
from trainer.systems.attngan import published
from trainer.systems.attngan.config import AttnGanModel
from trainer.systems.attngan.discriminator import Discriminator
from trainer.systems.attngan.networks import AttnGanGenerator, generator_settings
from trainer.systems.attngan.step import wrong_pairs
from trainer.systems.attngan.system import ATTNGAN
from trainer.systems.attngan.widening import begin_with, silence_dialogue

SMALL: dict[str, Any] = {"size": 16, "branches": 3, "gf": 4, "residual_blocks": 2, "condition_dim": 5, "noise_dim": 3}


def generator(dialogue: str = "none", **changes: Any) -> AttnGanGenerator:
    torch.manual_seed(0)
    model = AttnGanModel(**{**SMALL, "dialogue": dialogue, "lstm_hidden": 2, **changes})
    made = AttnGanGenerator(generator_settings(model, 8, 8, None if dialogue == "none" else 7))
    silence_dialogue(made)
    return made.eval()


def texts() -> Batch:
    stream = torch.Generator().manual_seed(1)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=stream)

    words, turns = torch.tensor([4, 2]), torch.tensor([3, 1])
    return Batch(
        {
            CAPTIONS.name: random(2, 8),
            WORDS.name: random(2, 4, 8),
            WORDS.name + LENGTH: words,
            TURNS.name: random(2, 3, 7),
            TURNS.name + LENGTH: turns,
            COLLAPSED.name: random(2, 7),
        }
    )


@pytest.mark.parametrize("dialogue", ["attended", "collapsed", "recurrent"])
def test_dialogue_changes_no_picture_until_it_has_been_learned(tmp_path: Path, dialogue: str) -> None:
    """A generator without dialogue, taken over: bit-equal under attention, whose gates are zero."""
    before = generator()
    for parameter in before.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0, 0.3)
    generator_file.save(before, tmp_path / "before.safetensors")
    after = generator(dialogue)
    begin_with(after, tmp_path / "before.safetensors")
    noise = torch.randn(2, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    before.network.double(), after.eval().network.double()
    with torch.no_grad():
        old, new = before.paint(texts(), noise), after.paint(texts(), noise)
        if dialogue == "attended":
            assert_same(new, old)
        for side, picture in new.items():
            # Columns of zeros may change the order in which a matrix product is summed.
            torch.testing.assert_close(picture, old[side], atol=1e-9, rtol=0)
        for name, parameter in after.named_parameters():
            if name.endswith("turns_gate"):
                parameter.fill_(0.5)
            if name.endswith("ca_net.fc.weight"):
                parameter[:, 8:] = 0.5
        heard = after.paint(texts(), noise)
    assert any(float((heard[side] - old[side]).abs().max()) > 1e-3 for side in old)


def test_a_gate_of_zero_learns() -> None:
    made = generator("attended")
    for parameter in made.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0, 0.3)
    painted = made.paint(texts(), torch.randn(2, 3))
    torch.stack([picture.square().sum() for picture in painted.values()]).sum().backward()
    gates = [parameter for name, parameter in made.named_parameters() if name.endswith("turns_gate")]
    assert len(gates) == 2
    assert all(gate.grad is not None and gate.grad != 0 for gate in gates)


def test_shares_of_words_and_turns_are_at_most_one() -> None:
    made = generator("attended")
    with torch.no_grad():
        maps = made.listen(made.encode(texts()), torch.randn(2, 3))
        assert {side: tuple(found.shape) for side, found in maps.items()} == {16: (2, 7, 16, 16), 32: (2, 7, 32, 32)}
        for found in maps.values():
            torch.testing.assert_close(found[:, :4].sum(1), torch.ones_like(found[:, 0]))  # gates are shut
            assert not found[:, 4:].any()
        made.network.get_parameter("h_net2.turns_gate").fill_(-1.0)
        found = made.listen(made.encode(texts()), torch.randn(2, 3))[16]
    torch.testing.assert_close(found[:, :4].sum(1), torch.full_like(found[:, 0], 0.5))
    torch.testing.assert_close(found.sum(1), torch.ones_like(found[:, 0]))
    assert not found[1, 2:4].any()  # words that pad
    assert not found[1, 5:].any()  # turns that pad


@pytest.mark.parametrize("dcgan", [False, True])
@pytest.mark.parametrize("legacy", [False, True])
def test_published_generators_come_in_and_go_out_to_the_bit(tmp_path: Path, dcgan: bool, legacy: bool) -> None:
    changes: dict[str, Any] = {"only_last": True, "residual_blocks": 0} if dcgan else {}
    network = generator(**changes).network
    state = {name: value for name, value in network.state_dict().items() if "num_batches" not in name}
    path = tmp_path / "netG_epoch_600.pth"
    if legacy:
        write_legacy(path, state)
    else:
        torch.save(state, path)
    found = published.read_generator(path)
    assert found.model == AttnGanModel(**{**SMALL, **changes})
    assert found.dims == {"captions": 8, "words": 8}
    published.write_generator(found, tmp_path / "again.pth")
    again = torch.load(tmp_path / "again.pth", weights_only=True)
    assert list(again) == list(state)
    assert_same(dict(again), state)
    generator_file.save(found, tmp_path / "generator.safetensors")
    assert list(generator_file.load(tmp_path / "generator.safetensors").names) == ([64] if dcgan else [16, 32, 64])


@pytest.mark.parametrize("branch, unconditional", [(0, True), (1, True), (2, True), (2, False)])
def test_published_discriminators_come_in_and_go_out_to_the_bit(
    tmp_path: Path, branch: int, unconditional: bool
) -> None:
    network = Discriminator(2, 64, branch, 8, unconditional=unconditional)
    published.write_discriminator(network, tmp_path / "netD.pth")
    found = published.read_discriminator(tmp_path / "netD.pth")
    assert (found.side, found.UNCOND_DNET is not None) == (64 << branch, unconditional)
    published.write_discriminator(found, tmp_path / "again.pth")
    before, after = (tensor_file.read_state(tmp_path / name).tensors for name in ("netD.pth", "again.pth"))
    assert list(before) == list(after)
    assert_same(before, after)


def test_what_has_no_published_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ChatPainterError, match="dialogue: attended has no form in AttnGAN's files"):
        published.write_generator(generator("attended"), tmp_path / "netG.pth")
    torch.save({"x": torch.zeros(1)}, tmp_path / "netG.pth")
    with pytest.raises(ChatPainterError, match=r"not AttnGAN's generator \(its state_dict lacks"):
        published.read_generator(tmp_path / "netG.pth")


def test_a_generator_of_other_sizes_is_refused(tmp_path: Path) -> None:
    generator_file.save(generator(gf=6), tmp_path / "before.safetensors")
    with pytest.raises(ChatPainterError, match="has other sizes than section attngan asks for"):
        begin_with(generator("attended"), tmp_path / "before.safetensors")


def test_wrong_pairs_are_another_image_s_or_as_published() -> None:
    ids = torch.tensor([5, 5, 7, 9])
    pictures, others = wrong_pairs(ids, "cyclic")
    assert pictures.tolist() == [0, 1, 2, 3]
    assert others.tolist() == [2, 2, 3, 0]
    pictures, others = wrong_pairs(ids, "published")
    assert (pictures.tolist(), others.tolist()) == ([0, 1, 2], [1, 2, 3])


def test_bad_configurations_are_refused_in_one_line() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"size": 48}, "size must be 16, 32 or 64"),
        ({"branches": 4}, "branches must be 1, 2 or 3"),
        ({"dialogue": "attended", "branches": 1, "matching": {"side": 8}}, "needs a second branch"),
        ({"crop_side": 300}, "crop_side must be a multiple of 256"),
        ({"cut_dialogues": 0.5}, "no rounds are read that could be cut"),
        ({"d_condition": "text"}, "dialogue is none"),
        ({"matching": {"side": 4}}, "matching is for dialogue: attended"),
    ]
    for values, message in cases:
        with pytest.raises(ParamsError, match=message):
            ATTNGAN.configure({"attngan": values}, "params.yaml")
