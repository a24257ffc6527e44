"""The attended arm: places listen to turns, the discriminator matches turns to regions, dialogues may end early."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from store.errors import ParamsError
from tests.support.models import small_model
from tests.support.runs import figures, run_of
from tests.support.same import assert_same
from tests.support.stores import write_training_stores
from trainer import distributed, generator_file, loop
from trainer.checkpoints import Checkpoints, load
from trainer.feed.inputs import Batch, stored_side
from trainer.feed.sampler import microbatches
from trainer.logs.attention import attend
from trainer.systems.chatpainter.config import (
    Attention,
    Matching,
    ModelConfig,
    Stage1Config,
    Stage2Config,
    StageSettings,
)
from trainer.systems.chatpainter.networks import ChatPainterGenerator, generator_settings
from trainer.systems.chatpainter.step import Gan
from trainer.systems.chatpainter.system import discriminator
from trainer.systems.text_reader import cut_dialogues

MODEL: ModelConfig = small_model(
    dialogue="attended", size=32, df=4, standardise=True, refine=True, attention=Attention(sides=(8, 16), width=6)
)
LEARNING: dict[str, Any] = {
    "loss": "hinge",
    "d_norm": "group",
    "d_condition": "none",
    "crop": "centre",
    "cut_dialogues": 0.5,
}
TRAINING: dict[int, Any] = {
    1: Stage1Config(batch=6, channels_last=False, **LEARNING),
    2: Stage2Config(batch=6, channels_last=False, keep_stage1=1.0, **LEARNING),
}


def generator_of(stage: Any = 1, model: ModelConfig = MODEL) -> ChatPainterGenerator:
    """Untrained, with weights large enough that words move its pictures."""
    torch.manual_seed(2)
    generator = ChatPainterGenerator(generator_settings(stage, model, 7, 5))
    for module in generator.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, 0, 0.2)
    return generator.eval()


def texts(size: int = 4, longest: int = 5, seed: int = 0) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {
        "captions": torch.randn(size, 7, generator=random),
        "turns": torch.randn(size, longest, 5, generator=random),
        "turns.length": torch.arange(size) % (longest + 1),
    }


def gan_of(stage: Any = 1, model: ModelConfig = MODEL, **switches: Any) -> Gan:
    training = replace(TRAINING[stage], **switches)
    torch.manual_seed(5)
    generator = ChatPainterGenerator(generator_settings(stage, model, 7, 5))
    opponent = discriminator(generator, StageSettings(stage, model, training))
    return Gan(generator, opponent, training, distributed.Ranks(0, 1, torch.device("cpu")))


def batch(gan: Gan, seed: int = 0, size: int = 6) -> Batch:
    random = torch.Generator().manual_seed(seed)
    side = stored_side(max(gan.generator.names))
    pictures = torch.randint(0, 256, (size, side, side, 3), dtype=torch.uint8, generator=random)
    return Batch({**texts(size, seed=seed), "images": pictures, "image_id": torch.arange(size)})


def stepped(gan: Gan, count: int = 1) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    for i in range(count):
        gan.step(batch(gan, i), i * gan.training.batch, 0, seen.update)
    return seen


# ------------------------------------------------------------------------------------------------ what is painted


def test_without_sides_places_listen_to_nothing() -> None:
    deaf = generator_of(1, replace(MODEL, attention=Attention(sides=(), width=6)))
    assert not [name for name, _ in deaf.named_parameters() if "listening" in name]
    assert deaf.listens_to == ()
    said, noise = texts(), torch.randn(4, deaf.noise_dim)
    otherwise = {**said, "turns": said["turns"] + 1}
    # Conditioning Augmentation reads the caption alone here, so the turns reach the picture nowhere.
    assert_same(deaf.paint(said, noise)[32], deaf.paint(otherwise, noise)[32])
    figures = stepped(gan_of(1, replace(MODEL, attention=Attention(sides=(), width=6))))
    assert torch.isfinite(figures["d_matching"])
    assert torch.isfinite(figures["g_matching_single"])


@pytest.mark.parametrize("tokens", ["turns", "states"])
@pytest.mark.parametrize("condition", ["caption", "dialogue"])
@pytest.mark.parametrize("stage", [1, 2])
def test_rows_depend_on_their_own_rounds_alone(stage: int, condition: Any, tokens: Any) -> None:
    attention = replace(MODEL.attention, condition=condition, tokens=tokens)
    generator = generator_of(stage, replace(MODEL, attention=attention))
    given, noise = texts(), torch.randn(4, generator.noise_dim)
    with torch.inference_mode():
        whole = generator.paint(given, noise)
        assert list(whole) == [32, 128][:stage]
        for row in range(4):
            rounds = int(given["turns.length"][row])
            alone = {name: tensor[row : row + 1] for name, tensor in given.items()}
            for turns in (max(1, rounds), 5):  # padded to another length
                told = {**alone, "turns": alone["turns"][:, :turns]}
                for side, pictures in generator.paint(told, noise[row : row + 1]).items():
                    torch.testing.assert_close(pictures[0], whole[side][row], rtol=1e-4, atol=1e-5)
        beyond = {
            **given,
            "turns": given["turns"] + 1e6 * (torch.arange(5) >= given["turns.length"][:, None])[..., None],
        }
        torch.testing.assert_close(generator.paint(beyond, noise)[32], whole[32])
        other = generator.paint({**given, "turns": given["turns"].flip(0)}, noise)
        assert torch.equal(other[32][0], whole[32][0])  # said nothing: nothing to change
        assert not torch.equal(other[32][3], whole[32][3])


def test_shares_of_what_places_listen_to() -> None:
    generator = generator_of(2)
    given, noise = texts(), torch.randn(4, generator.noise_dim)
    with torch.inference_mode():
        maps = generator.listen(generator.encode(given), noise)
    # Stage 1 listens at 8 and 16; stage 2 at its own features of 8 x 8, whose map takes the place of the first.
    assert {side: tuple(shares.shape) for side, shares in maps.items()} == {8: (4, 6, 8, 8), 16: (4, 6, 16, 16)}
    for shares in maps.values():
        assert shares.min() >= 0
        assert shares.sum(1).max() <= 1 + 1e-5
        for row, rounds in enumerate(given["turns.length"].tolist()):
            assert not shares[row, 1 + rounds :].any()
            assert (shares[row, : 1 + rounds] > 0).all()


def test_what_is_listened_to_is_named() -> None:
    generator = generator_of(1)
    assert generator.listens_to == ("captions", "turns")
    given, noise = texts(), torch.randn(4, generator.noise_dim)
    with torch.inference_mode():
        maps = generator.listen(generator.encode(given), noise)
    for row, heard in enumerate(attend(generator, given, noise)):
        rounds = int(given["turns.length"][row])
        assert heard.tokens == ("caption", *(f"round {number}" for number in range(1, rounds + 1)))
        for side, shares in heard.maps.items():
            assert (shares == maps[side][row, : 1 + rounds].numpy()).all()


def test_a_file_of_it_paints_the_same(tmp_path: Path) -> None:
    generator = generator_of(2)
    generator_file.save(generator, tmp_path / "generator.safetensors")
    again = generator_file.load(tmp_path / "generator.safetensors")
    given, noise = texts(), torch.randn(4, generator.noise_dim)
    with torch.inference_mode():
        for side, pictures in generator.paint(given, noise).items():
            assert torch.equal(again.paint(given, noise)[side], pictures)


# --------------------------------------------------------------------------------------------------- how it learns


def test_dialogues_end_early_as_often_as_asked_after_few_rounds_rather_than_many() -> None:
    rounds = torch.full((30_000,), 4)
    given = Batch({"turns": torch.zeros(30_000, 4, 1), "turns.length": rounds})
    cut = cut_dialogues(given, 0.6, torch.rand(30_000, 2, generator=torch.Generator().manual_seed(0)))["turns.length"]
    share = torch.bincount(cut, minlength=5) / 30_000
    at_most = 0.6 * (torch.arange(1, 6) / 5).sqrt()
    expected = torch.cat([at_most[:1], at_most.diff()]) + torch.tensor([0, 0, 0, 0, 0.4])
    torch.testing.assert_close(share, expected, atol=0.01, rtol=0)
    assert torch.equal(cut_dialogues(given, 0.0, torch.rand(30_000, 2))["turns.length"], rounds)


@pytest.mark.parametrize("stage", [1, 2])
def test_both_networks_learn_from_what_was_said(stage: int) -> None:
    gan = gan_of(stage, cut_dialogues=0.0)
    part = gan.microbatch(*next(microbatches(batch(gan), gan.training, 0, gan.ranks)))
    told = gan.encode(part)
    painted = gan.paint(told, part)
    loss, found = gan.discriminator_loss(part, told, painted, penalised=False)
    assert {"d_matching", "d_matching_single", "d_real", "d_fake"} <= set(found)
    assert "d_wrong" not in found
    loss.backward(retain_graph=True)
    head = gan.discriminator.matching
    assert head is not None
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.tokens.parameters())
    assert all(p.grad is None for p in gan.generator.network.parameters())
    before = [p.grad.clone() for p in gan.d_parameters if p.grad is not None]
    gan.discriminator.requires_grad_(False)
    loss, found = gan.generator_loss(part, told, painted)
    assert {"g_matching", "g_matching_single"} <= set(found)
    assert ("moved" in found) == (stage == 2)
    loss.backward()
    listening = gan.generator.network.listening
    assert listening is not None
    for name, parameter in listening.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert_same([p.grad for p in gan.d_parameters if p.grad is not None], before)


SWITCHES: list[dict[str, Any]] = [
    {"matching": Matching(pooled=0.0)},
    {"matching": Matching(single=0.0)},
    {"matching": Matching(hidden=0)},
    {"matching": Matching(side=4)},
    {"cut_dialogues": 0.0},
    {"d_norm": "spectral"},
    {"d_norm": "batch"},
    {"d_condition": "learned"},
    {"d_condition": "mu"},
    {"loss": "bce"},
    {"loss": "bce", "generator_loss": "saturating"},
    {"precision": "bfloat16"},
    {"accumulate": 2},
    {"diffaugment": True},
]


@pytest.mark.parametrize("switches", SWITCHES, ids=lambda each: "-".join(map(str, each.values())))
@pytest.mark.parametrize("stage", [1, 2])
def test_every_switch_trains_and_changes_the_step(stage: int, switches: dict[str, Any]) -> None:
    gan, other = gan_of(stage, **switches), gan_of(stage)
    before = {name: value.clone() for name, value in gan.generator.network.named_parameters()}
    found = stepped(gan, 2)
    assert all(torch.isfinite(value).all() for value in found.values())
    assert any(not torch.equal(value, before[name]) for name, value in gan.generator.network.named_parameters())
    stepped(other, 2)
    ours, theirs = gan.generator.state_dict(), other.generator.state_dict()
    assert any(not torch.equal(value, theirs[name]) for name, value in ours.items())


def test_penalties_and_compiling_go_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.systems.chatpainter.config import Penalties

    eager = gan_of(penalties=Penalties(r1=1.0))
    assert stepped(eager, 2)["penalty"] > 0
    compiled = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, **how: compiled(self, backend="aot_eager", **how))
    gan = gan_of(penalties=Penalties(r1=1.0), compile=True)
    stepped(gan, 2)
    for name, value in eager.generator.state_dict().items():
        torch.testing.assert_close(gan.generator.state_dict()[name], value, atol=2e-5, rtol=1e-3, msg=name)


def matched(out: Path) -> None:
    """One process's share of the pairs of a batch: losses and the gradients that the processes average."""
    ranks = distributed.start("cpu")
    torch.manual_seed(3)
    gan = gan_of(cut_dialogues=0.0, d_norm="none")
    gan.ranks = ranks
    whole = batch(gan)
    size = 6 // ranks.world
    share = whole.rows(slice(ranks.rank * size, (ranks.rank + 1) * size))
    part = gan.microbatch(*next(microbatches(share, gan.training, 0, ranks)))
    found: dict[str, Tensor] = {}
    gan.matching_loss(gan.discriminator(part.pictures), gan.encode(part), found, "d")
    sum(found.values(), torch.zeros(())).backward()
    distributed.average_gradients(gan.d_parameters)
    gradients = {n: p.grad for n, p in gan.discriminator.named_parameters() if p.grad is not None}
    mean = {name: distributed.sum_over_ranks(value.detach()[None]) / ranks.world for name, value in found.items()}
    torch.save({"losses": mean, "gradients": gradients}, out / f"{ranks.rank}.pt")
    distributed.stop()


def test_pairs_are_those_of_all_processes(tmp_path: Path, launch: Any) -> None:
    """Two processes compare their pictures with the texts of both: losses and gradients are those of one."""
    for world in (1, 2):
        (tmp_path / str(world)).mkdir()
        assert launch(matched, world, tmp_path / str(world)).wait() == [0] * world
    one = torch.load(tmp_path / "1/0.pt", weights_only=True)
    for rank in (0, 1):
        two = torch.load(tmp_path / f"2/{rank}.pt", weights_only=True)
        for name, value in one["losses"].items():
            torch.testing.assert_close(two["losses"][name], value, rtol=1e-5, atol=1e-6)
        assert two["gradients"].keys() == one["gradients"].keys()
        for name, value in one["gradients"].items():
            torch.testing.assert_close(two["gradients"][name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_both_stages_train_and_continue_to_the_bit(tmp_path: Path) -> None:
    for split, seed in (("train", 0), ("val", 1)):
        write_training_stores(tmp_path / "data", split, images=14, sizes=(38, 152), rounds=(3, 1, 2), seed=seed)
    short: dict[str, Any] = {
        "epochs": None,
        "images": 24,
        "batch": 6,
        "log_every": 6,
        "grid_every": 24,
        "checkpoint_every": 12,
    }
    for stage, kind in ((1, Stage1Config), (2, Stage2Config)):
        stage2: dict[str, Any] = {"keep_stage1": 1.0} if stage == 2 else {}
        training = kind(**short, **LEARNING, **stage2)
        start = tmp_path / "straight1" if stage == 2 else None
        about: dict[str, Any] = {"held_out": "val", "start": start}
        straight, halves = tmp_path / f"straight{stage}", tmp_path / f"halves{stage}"
        assert loop.train(run_of(tmp_path / "data", straight, MODEL, training, **about))
        assert loop.train(run_of(tmp_path / "data", halves, MODEL, training, **about, stop_at=12))
        assert loop.train(run_of(tmp_path / "data", halves, MODEL, training, **about))
        states = [load(Checkpoints(folder / "checkpoints").latest() or "") for folder in (straight, halves)]
        assert_same(states[0], states[1])
        assert figures(straight) == figures(halves)
        assert {"d_matching", "g_matching", "d_matching_single", "g_matching_single"} <= set(figures(straight)[0])


# ------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"model": {"attention": {"width": 9}}}, "attention is for dialogue: attended; dialogue is recurrent"),
        ({"model": {"dialogue": "attended", "attention": {"sides": [12]}}}, "powers of two from 8 on"),
        ({"model": {"dialogue": "attended", "attention": {"sides": [128]}}}, "at most 64 x 64"),
        ({"stage1": {"matching": {"pooled": 2}}}, "matching is for model.dialogue: attended; it is recurrent"),
        ({"stage1": {"d_condition": "none"}}, "leaves the text to matching, which recurrent dialogues do not have"),
        ({"model": {"dialogue": "none"}, "stage1": {"cut_dialogues": 0.5}}, "no rounds are read that could be cut"),
        ({"stage1": {"cut_dialogues": 1.5}}, "cut_dialogues is a share, from 0 to 1"),
        ({"stage1": {"turn_pictures": True}}, "turn_pictures: is of dialogues that are cut"),
        ({"model": {"dialogue": "attended"}, "stage1": {"matching": {"side": 64}}}, "not smaller than the picture"),
        ({"stage1": {"keep_stage1": 1.0}}, "unknown key 'keep_stage1'"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(sections: dict[str, Any], says: str) -> None:
    with pytest.raises(ParamsError) as caught:
        StageSettings.of(sections, 1)
    assert says in caught.value.message
    assert "\n" not in caught.value.message
