"""StackGAN++ as a system: files go round, a dialogue changes nothing at first, the step is the published one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from store.errors import ChatPainterError
from tests.support.legacy import write_legacy
from tests.support.models import SMALL
from tests.support.same import assert_same, same
from tests.support.stores import write_training_stores
from trainer import generator_file
from trainer.distributed import Ranks
from trainer.feed.data import TrainingData
from trainer.feed.inputs import LENGTH, Batch
from trainer.feed.sampler import microbatches, rows_for
from trainer.networks.average import decay_average
from trainer.networks.blocks import initialise_orthogonal
from trainer.systems import published
from trainer.systems.stackgan_v2 import objective
from trainer.systems.stackgan_v2 import published as files
from trainer.systems.stackgan_v2.config import StackGanV2Config, StackGanV2Model
from trainer.systems.stackgan_v2.discriminator import Discriminator
from trainer.systems.stackgan_v2.networks import StackGanV2Generator, generator_settings, silence_dialogue
from trainer.systems.stackgan_v2.step import StackGanV2
from trainer.systems.stackgan_v2.system import STACKGAN_V2

NETWORK: dict[str, Any] = {name: value for name, value in SMALL.items() if name != "df"}
CAPTION, TURN = 12, 10


def generator(**changes: Any) -> StackGanV2Generator:
    torch.manual_seed(0)
    model = StackGanV2Model(**({**NETWORK, "condition_dim": 6} | changes))
    dialogue_dim = None if model.dialogue == "none" else TURN
    made = StackGanV2Generator(generator_settings(model, CAPTION if model.conditional else 0, dialogue_dim))
    made.network.apply(initialise_orthogonal)
    for name, buffer in made.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.add_(torch.rand(buffer.shape))
    return made.eval()


def texts(rows: int = 3) -> dict[str, torch.Tensor]:
    stream = torch.Generator().manual_seed(1)
    return {
        "captions": torch.randn(rows, CAPTION, generator=stream),
        "turns": torch.randn(rows, 4, TURN, generator=stream),
        "turns" + LENGTH: torch.tensor([4, 0, 2])[:rows],
        "dialogues": torch.randn(rows, TURN, generator=stream),
    }


def published_state(made: StackGanV2Generator) -> dict[str, torch.Tensor]:
    """As DataParallel of 2017 saved it."""
    state = made.network.state_dict()
    return {f"module.{name}": value for name, value in state.items() if "num_batches" not in name}


@pytest.mark.parametrize(
    "changes",
    [{}, {"branches": 2}, {"branches": 1, "residual_blocks": 2}, {"conditional": False}],
    ids=str,
)
def test_a_published_generator_paints_and_goes_back_to_the_bit(tmp_path: Path, changes: dict[str, Any]) -> None:
    theirs = generator(**changes)
    state = published_state(theirs)
    write_legacy(tmp_path / "netG_210000.pth", state)
    found = published.read_generator("stackgan-v2", tmp_path / "netG_210000.pth")
    generator_file.save(found, tmp_path / "g.safetensors")
    ours = generator_file.load(tmp_path / "g.safetensors")
    noise = torch.randn(3, theirs.noise_dim)
    with torch.no_grad():
        assert_same(ours.paint(texts(), noise), theirs.paint(texts(), noise))
    published.write_generator(ours, tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert list(back) == list(state)
    assert_same(back, state)
    expected = {name: changes.get(name, getattr(theirs.model, name)) for name in ("branches", "conditional", "gf")}
    assert {name: getattr(ours.model, name) for name in expected} == expected  # type: ignore[attr-defined]


@pytest.mark.parametrize("branch", [0, 1, 2])
@pytest.mark.parametrize("condition", [6, None])
def test_a_published_discriminator_judges_and_goes_back(tmp_path: Path, branch: int, condition: int | None) -> None:
    torch.manual_seed(0)
    theirs = Discriminator(2, 64, branch, condition)
    state = {f"module.{k}": v for k, v in theirs.state_dict().items() if "num_batches" not in k}
    torch.save(state, tmp_path / "netD.pth")
    ours = files.read_discriminator(tmp_path / "netD.pth")
    pictures = torch.randn(2, 3, theirs.side, theirs.side)
    told = None if condition is None else torch.randn(2, condition)
    with torch.no_grad():
        assert torch.equal(ours.eval()(pictures, told)[0], theirs.eval()(pictures, told)[0])
    files.write_discriminator(ours, tmp_path / "back.pth")
    assert_same(torch.load(tmp_path / "back.pth", weights_only=True), state)


def test_what_is_no_generator_of_theirs_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "netG.pth"
    state = published_state(generator())
    for change, words in (
        ({"module.h_net1.fc.0.weight": None}, r"lacks h_net1\.fc\.0\.weight"),
        ({"module.img_net2.img.0.weight": None}, "lacks|unknown"),
        ({"module.h_net2.jointConv.0.weight": torch.zeros(1)}, r"h_net2\.jointConv\.0\.weight is"),
        ({"module.ca_net.fc.weight": torch.zeros(())}, "not a StackGAN-v2 generator"),
        ({"module.h_net1.fc.0.weight": torch.zeros(1 << 20, 9)}, r"is float32 of shape"),  # would take 40 GB
    ):
        torch.save({k: v for k, v in {**state, **change}.items() if v is not None}, path)
        with pytest.raises(ChatPainterError, match=words) as refused:
            files.read_generator(path)
        assert "\n" not in refused.value.message
    for unfit in ({"dialogue": "recurrent"}, {"size": 32}, {"standardise": True}):
        with pytest.raises(ChatPainterError, match="has no form in StackGAN-v2's files"):
            files.write_generator(generator(**unfit), tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"dialogue": "collapsed"},
        {"dialogue": "recurrent"},
        {"dialogue": "attended", "attention": {"sides": [8, 16], "width": 5}},
        {"dialogue": "attended", "attention": {"sides": [64, 128], "width": 5, "condition": "dialogue"}},
    ],
    ids=str,
)
def test_a_dialogue_that_is_silent_at_first_paints_the_same_to_the_bit(changes: dict[str, Any]) -> None:
    """And something else as soon as it speaks."""
    from store import params

    alone = generator()
    values = params.build(StackGanV2Model, {**NETWORK, "condition_dim": 6, **changes}, "model")
    wide = StackGanV2Generator(generator_settings(values, CAPTION, TURN)).eval()
    wide.network.load_state_dict(alone.network.state_dict(), strict=False)
    noise, shaken = torch.randn(3, alone.noise_dim), torch.randn(3, alone.condition_dim)
    with torch.no_grad():
        assert not same(wide.paint(texts(), noise, shaken), alone.paint(texts(), noise, shaken))
        silence_dialogue(wide)
        assert_same(wide.paint(texts(), noise, shaken), alone.paint(texts(), noise, shaken))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Callable[[StackGanV2Config], TrainingData]:
    folders = write_training_stores(
        tmp_path_factory.mktemp("data"), images=12, caption_dim=CAPTION, turn_dim=TURN, rounds=(3, 1, 2), sizes=(38,)
    )
    return lambda config: TrainingData(STACKGAN_V2.inputs(config), *folders)


def config(**changes: Any) -> StackGanV2Config:
    values = {**SMALL, "size": 16, "branches": 2, "epochs": None, "images": 60, "batch": 6, "other_class": False}
    return STACKGAN_V2.configure({"stackgan-v2": values | changes}, "params.yaml")


def trained(
    data: Callable[[StackGanV2Config], TrainingData], steps: int = 1, **changes: Any
) -> tuple[StackGanV2, dict[str, float]]:
    settings = config(**changes)
    rows = data(settings)
    made = STACKGAN_V2.trainable(settings, rows, Ranks(0, 1, torch.device("cpu")), None)
    figures: dict[str, float] = {}
    for number in range(steps):
        batch = rows.gather(rows_for(0, 6 * number, 6, len(rows)))
        made.step(
            batch,
            6 * number,
            0,
            lambda values: figures.update({k: float(v.detach().mean()) for k, v in values.items()}),
        )
    return made, figures


def test_without_text_a_training_reads_pictures_alone(data: Any) -> None:
    made, figures = trained(data, 2, conditional=False, colour_weight=50.0)
    assert "d1_wrong" not in figures
    assert figures["kl"] == 0
    assert figures["colours"] > 0
    pictures = made.average.paint({}, torch.randn(2, 3))
    assert {side: tuple(each.shape) for side, each in pictures.items()} == {16: (2, 3, 16, 16), 32: (2, 3, 32, 32)}
    assert set(data(config(conditional=False)).stores) == {"images"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"conditional": False},
        {"dialogue": "recurrent", "d_condition": "learned"},
        {"dialogue": "attended", "attention": {"sides": [8], "width": 5}, "matching": {"side": 4}},
    ],
    ids=str,
)
def test_a_batch_in_parts_moves_by_the_mean_of_the_parts(data: Any, monkeypatch: Any, changes: dict[str, Any]) -> None:
    changes = {**changes, "accumulate": 2, "seed": 5}
    made, expected = trained(data, 0, **changes)[0], trained(data, 0, **changes)[0]
    rows = data(made.training)
    batch = rows.gather(rows_for(0, 0, 6, len(rows)))
    parts = [expected.microbatch(*part) for part in microbatches(batch, expected.training, 0, expected.ranks)]
    assert [len(part.noise) for part in parts] == [3, 3]

    def grads(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
        return [p.grad.clone() for group in optimizer.param_groups for p in group["params"] if p.grad is not None]

    heard = [expected.encode(part) for part in parts]
    with torch.no_grad():
        painted = [expected.paint(*pair) for pair in zip(heard, parts)]
    torch.stack([expected.discriminator_loss(*three)[0] / 2 for three in zip(parts, heard, painted)]).sum().backward()
    wanted = [grads(expected.d_optimizer)]
    expected.updates(expected.d_optimizer, expected.d_parameters)
    # BatchNorm's statistics are those of one painting of each part.
    statistics = {k: v.clone() for k, v in expected.generator.state_dict().items() if "running" in k}
    expected.discriminators.requires_grad_(False)
    for part in parts:
        told = expected.encode(part)
        (expected.generator_loss(part, told, expected.paint(told, part))[0] / 2).backward()
    wanted.append(grads(expected.g_optimizer))

    found: list[list[torch.Tensor]] = []
    update = made.updates

    def recording(optimizer: torch.optim.Optimizer, parameters: Any) -> torch.Tensor:
        found.append(grads(optimizer))
        return update(optimizer, parameters)

    monkeypatch.setattr(made, "updates", recording)
    made.step(batch, 0, 0, lambda _: None)
    for ours, theirs in zip(found, wanted, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert all(float(grad.abs().max()) > 0 for grad in wanted[0])
    assert_same({name: made.generator.state_dict()[name] for name in statistics}, statistics)


def test_the_published_average_takes_parameters_alone(data: Any) -> None:
    made, _ = trained(data, ema_decay=0.75)
    start = STACKGAN_V2.trainable(config(), data(config()), made.ranks, None).average.state_dict()
    now, averaged = made.generator.state_dict(), made.average.state_dict()
    for name, value in averaged.items():
        if name in dict(made.average.named_parameters()):
            torch.testing.assert_close(value, 0.75 * start[name] + 0.25 * now[name], rtol=1e-5, atol=1e-7)
        else:
            assert torch.equal(value, now[name])


def test_an_average_moves_by_its_share() -> None:
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    before = one.weight.clone()
    decay_average(one, other, 0.9)
    torch.testing.assert_close(one.weight, 0.9 * before + 0.1 * other.weight)


@pytest.mark.parametrize("through", [True, False])
def test_the_generator_learns_through_the_condition_only_where_it_may(data: Any, through: bool) -> None:
    """With its pictures held still, what is left of the adversarial gradient comes by way of mu."""
    made, _ = trained(data, g_through_condition=through, kl_weight=0.0)
    rows = data(config())
    batch = rows.gather(rows_for(0, 0, 6, len(rows)))
    part = made.microbatch(*next(microbatches(batch, made.training, 0, made.ranks)))
    told = made.encode(part)
    painted = made.paint(told, part)
    still = painted._replace(pictures={side: each.detach() for side, each in painted.pictures.items()})
    loss, _ = made.generator_loss(part, told, still)
    assert _reaches(loss, made) == through


def _reaches(loss: torch.Tensor, made: StackGanV2) -> bool:
    assert made.generator.network.ca_net is not None
    weight = made.generator.network.ca_net.fc.weight
    (found,) = torch.autograd.grad(loss, [weight], allow_unused=True, retain_graph=True)
    return found is not None and bool(found.abs().sum() > 0)


def test_a_training_starts_from_a_caption_only_generator(data: Any, tmp_path: Path) -> None:
    first, _ = trained(data, 2)
    generator_file.save(first.average, tmp_path / "g.safetensors")
    for arm in ("none", "recurrent", "attended"):
        more = {"attention": {"sides": [8], "width": 5}} if arm == "attended" else {}
        settings = config(dialogue=arm, start_from=str(tmp_path / "g.safetensors"), **more)
        rows = data(settings)
        made = STACKGAN_V2.trainable(settings, rows, first.ranks, None)
        batch, noise = rows.gather(rows_for(0, 0, 6, len(rows))), torch.randn(6, 3)
        with torch.no_grad():
            assert_same(made.average.paint(batch, noise), first.average.paint(batch, noise))
    for change, words in (({"gf": 8}, "of another model .*gf"), ({"noise_dim": 4}, "noise_dim")):
        settings = config(start_from=str(tmp_path / "g.safetensors"), **change)
        with pytest.raises(ChatPainterError, match=words):
            STACKGAN_V2.trainable(settings, data(settings), first.ranks, None)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"branches": 4}, "branches must be 1, 2 or 3"),
        ({"gf": 6}, "gf must be a multiple of 4"),
        ({"size": 128}, "size must be 16, 32 or 64"),
        ({"conditional": False, "dialogue": "recurrent"}, "conditional: false reads no text"),
        ({"conditional": False}, "no other_class"),
        ({"matching": {"side": 4}}, "matching is for dialogue: attended"),
        ({"cut_dialogues": 0.5}, "no rounds are read"),
        ({"attention": {"sides": [8]}}, "attention is for dialogue: attended"),
        ({"dialogue": "attended", "attention": {"sides": [512]}}, "at most 256 x 256"),
        ({"ema_decay": 1.0}, "ema_decay is a share"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_in_words(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ChatPainterError, match=words) as refused:
        STACKGAN_V2.configure({"stackgan-v2": values}, "there.yaml")
    assert "there.yaml" in refused.value.message
    assert "\n" not in refused.value.message


def test_the_file_of_a_generator_says_what_it_is(tmp_path: Path) -> None:
    made = generator(dialogue="recurrent")
    generator_file.save(made, tmp_path / "g.safetensors")
    again = generator_file.load(tmp_path / "g.safetensors")
    assert again.settings == json.loads(json.dumps(made.settings))
    noise = torch.randn(3, made.noise_dim)
    with torch.no_grad():
        assert_same(again.paint(Batch(texts()), noise), made.paint(Batch(texts()), noise))


@pytest.mark.parametrize(
    ("balanced", "expected"), [(False, 0.5 + 2.25 + 0.0 + 2 * (0.0 + 3.0 + 1.5)), (True, 0.5 + 1.125 + 2 * 3.0)]
)
def test_balanced_terms_weigh_high_as_much_as_low(balanced: bool, expected: float) -> None:
    """Hinge by hand: real 0.5 | 2, wrong 1.25 | -2, painted -3 | 0.5, with the text | without; weight 2."""
    real, wrong, fake = ((torch.tensor([a]), torch.tensor([b])) for a, b in ((0.5, 2.0), (1.25, -2.0), (-3.0, 0.5)))
    assert float(objective.discriminator(real, fake, wrong, 2.0, "hinge", balanced)) == pytest.approx(expected)
