"""One iteration: who learns from what, and that it is StackGAN's iteration where it claims to be."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support import plain_stackgan as plain
from tests.support.models import small_model
from tests.support.sums import SumsInAnyOrder
from trainer.distributed import Ranks
from trainer.feed.augment import augment
from trainer.feed.inputs import Batch, stored_side
from trainer.feed.labels import Labels
from trainer.feed.pairs import mismatched_rows
from trainer.feed.sampler import microbatches
from trainer.networks import average
from trainer.networks.diffaugment import cutout, diffaugment, translate
from trainer.optimising import set_learning_rates
from trainer.systems.chatpainter.config import (
    Auxiliary,
    ModelConfig,
    Penalties,
    Stage1Config,
    Stage2Config,
    StageSettings,
)
from trainer.systems.chatpainter.networks import ChatPainterGenerator, generator_settings
from trainer.systems.chatpainter.step import Gan, Microbatch, TextEncoding
from trainer.systems.chatpainter.system import discriminator

MODEL: ModelConfig = small_model(dialogue="recurrent", standardise=True)
TRAINING = {kind: make(batch=6, channels_last=False) for kind, make in ((1, Stage1Config), (2, Stage2Config))}
CPU = torch.device("cpu")


def make(stage: Any = 1, model: ModelConfig = MODEL, labels: Labels | None = None, **switches: Any) -> Gan:
    training = replace(TRAINING[stage], **switches)
    torch.manual_seed(5)
    generator = ChatPainterGenerator(generator_settings(stage, model, 7, 5))
    opponent = discriminator(generator, StageSettings(stage, model, training), labels.classes if labels else 0)
    return Gan(generator, opponent, training, Ranks(0, 1, CPU), labels)


def batch(size: int = 6, stage: int = 1, seed: int = 0, model: ModelConfig = MODEL) -> Batch:
    random = torch.Generator().manual_seed(seed)
    side = stored_side(model.sides[stage - 1])
    return Batch(
        {
            "images": torch.randint(0, 256, (size, side, side, 3), dtype=torch.uint8, generator=random),
            "captions": torch.randn(size, 7, generator=random).half(),
            "turns": torch.randn(size, 4, 5, generator=random).half(),
            "turns.length": torch.randint(1, 5, (size,), generator=random),
            "image_id": torch.arange(size) + 100,
        }
    )


def steps(gan: Gan, stage: int = 1, count: int = 1) -> list[dict[str, Tensor]]:
    seen: list[dict[str, Tensor]] = []
    for i in range(count):
        size = gan.training.batch
        one = batch(size, stage, i, gan.generator.model)
        gan.step(one, i * size, 0, lambda values: seen.append(dict(values)))
    return seen


def silent(values: object) -> None:
    """Reports nothing."""


def painted_by(gan: Gan, one: Batch) -> tuple[Microbatch, TextEncoding, Any]:
    """One part with its draws, what the networks are told, and its picture."""
    part = gan.microbatch(*next(microbatches(one, gan.training, 0, gan.ranks)))
    told = gan.encode(part)
    return part, told, gan.paint(told, part)


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def moved(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


# ------------------------------------------------------------------------------------------------ wrong pairs


def test_wrong_pairs_show_another_image() -> None:
    for ids in ([1, 2, 3, 4], [1, 1, 2, 2], [1, 1, 1, 2], [3, 1, 3, 1, 3], [9, 9, 9, 9, 9, 1], list(range(50)) * 2):
        image_ids = torch.tensor(ids)
        for number in (1, 3):
            rows, found = mismatched_rows(image_ids, number)
            assert found.all()
            assert (image_ids[rows] != image_ids[:, None]).all()
    rows, found = mismatched_rows(torch.tensor([4, 4, 4]))
    assert not found.any()
    # Where all images differ the next row is taken, as StackGAN does.
    assert mismatched_rows(torch.arange(5))[0].tolist() == [[1], [2], [3], [4], [0]]
    assert mismatched_rows(torch.arange(4), 9)[0].tolist() == [[1, 2, 3, 1], [2, 3, 0, 2], [3, 0, 1, 3], [0, 1, 2, 0]]
    # One other image only: it stands for all that were asked for.
    assert mismatched_rows(torch.tensor([1, 1, 2]), 2)[0].tolist() == [[2, 2], [2, 2], [0, 1]]


def test_of_several_mismatched_texts_the_one_that_fits_best_is_taken() -> None:
    gan = make(wrong_candidates=3)
    others, _ = mismatched_rows(torch.arange(6), 3)
    condition = torch.randn(6, gan.generator.condition_dim)
    real = gan.discriminator(torch.randn(6, 3, 64, 64)).features
    chosen = gan.hardest_negative(others, real, condition)
    score = gan.discriminator.get_cond_logits
    logits = torch.stack([score(real, condition[others[:, k]]) for k in range(3)], 1)
    assert chosen.tolist() == [int(others[row, logits[row].argmax()]) for row in range(6)]
    assert len({(logits[row].argmax().item()) for row in range(6)}) > 1


def test_wrong_pairs_carry_caption_and_dialogue_of_the_same_other_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every condition that the discriminator meets is the whole condition of one row."""
    gan = make()
    met: list[Tensor] = []
    head = gan.discriminator.get_cond_logits
    monkeypatch.setattr(head, "forward", _recording(head.forward, met))
    own: list[Tensor] = []
    encode = gan.generator.encode

    def recording_text(texts: Any) -> dict[str, Tensor]:
        encoded = encode(texts)
        own.append(gan.generator.stage1.ca_net(encoded["text"])[0].detach())
        return encoded

    monkeypatch.setattr(gan.generator, "encode", recording_text)
    one = Batch({**batch(), "image_id": torch.tensor([1, 1, 2, 3, 3, 3])})
    gan.step(one, 0, 0, silent)
    real, wrong, fake, last = met
    assert torch.equal(real, own[0])
    assert torch.equal(fake, own[0])
    assert torch.equal(last, own[0])
    assert torch.equal(wrong, own[0][[2, 2, 3, 0, 0, 0]])


def _recording(function: Any, met: list[Tensor]) -> Any:
    def wrapped(features: Tensor, condition: Tensor) -> Tensor:
        assert not condition.requires_grad  # the discriminator sends nothing back into the text
        met.append(condition)
        return function(features, condition)

    return wrapped


# --------------------------------------------------------------------------------- against the plain iteration


@pytest.mark.parametrize("stage", [1, 2])
def test_an_iteration_is_stackgans(stage: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both networks' weights after one iteration, in float64, beside the plain trainer's."""
    b, size = 3, 64 if stage == 1 else 256
    model = small_model(dialogue="recurrent")
    moving: dict[str, Any] = {"stage1_batchnorm": "moving"} if stage == 2 else {}
    gan = make(stage, model, batch=b, crop="centre", **moving)
    for module in (gan.generator, gan.discriminator, gan.average):
        module.double()
    text_dim = 7 + 2 * 3
    if stage == 1:
        netg: Any = plain.PlainStage1G(4, text_dim, 4, 3).double()
        netd: Any = plain.PlainStage1D(2, 4).double()
    else:
        netg = plain.PlainStage2G(4, text_dim, 4, 3, 1).double()
        netd = plain.PlainStage2D(2, 4).double()
    netg.load_state_dict(gan.generator.network.state_dict())
    netd.load_state_dict(gan.discriminator.state_dict())
    dialogue = plain.PlainDialogue(5, 3).double()
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        ours = gan.generator.dialogue_encoder
        assert ours is not None
        getattr(dialogue.lstm, name).data.copy_(getattr(ours.ahead, name).data)
        getattr(dialogue.lstm, f"{name}_reverse").data.copy_(getattr(ours.back, name).data)
    dialogue.requires_grad_(stage == 1)

    one = batch(b, stage)
    one = Batch({**one, "captions": one["captions"].double(), "turns": one["turns"].double()})
    monkeypatch.setattr(ChatPainterGenerator, "encode", _encode_double)
    # StackGAN leaves the last image without a mismatched pair; ours gives it the first one's text.
    monkeypatch.setattr(plain, "d_loss", _closed_circle)
    part = gan.microbatch(*next(microbatches(one, gan.training, 0, gan.ranks)))
    noise, epsilon = part.noise.double(), part.epsilon.double()
    fixed = part._replace(pictures=part.pictures.double(), noise=noise, epsilon=epsilon)
    monkeypatch.setattr(gan, "microbatch", lambda *_: fixed)
    numbers = iter([*epsilon, noise])
    monkeypatch.setattr(torch, "randn", lambda *_, **__: next(numbers))
    g_trained = [p for p in [*netg.parameters(), *dialogue.parameters()] if p.requires_grad]
    # Plain gradient descent, where a weight's change is its gradient: Adam would hide the size.
    g_sgd, d_sgd = torch.optim.SGD(g_trained, lr=0.1), torch.optim.SGD(netd.parameters(), lr=0.1)
    for name, parameters in (("g_optimizer", gan.g_parameters), ("d_optimizer", gan.d_parameters)):
        groups = [{"params": parameters, "initial_lr": 0.1}]
        monkeypatch.setattr(gan, name, torch.optim.SGD(groups, lr=0.1, fused=True))
    real = augment(one["images"], size).double()

    gan.step(one, 0, 0, silent)
    turns, lengths = one["turns"], one["turns.length"]
    plain.step(netg, netd, dialogue, g_sgd, d_sgd, real, one["captions"], turns, lengths, 3, 4)
    monkeypatch.undo()

    for name, value in netd.state_dict().items():
        torch.testing.assert_close(gan.discriminator.state_dict()[name], value, msg=name)
    for name, value in netg.state_dict().items():
        torch.testing.assert_close(gan.generator.network.state_dict()[name], value, msg=name)
    ours = gan.generator.dialogue_encoder
    assert ours is not None
    torch.testing.assert_close(ours.ahead.weight_ih_l0, dialogue.lstm.weight_ih_l0)
    torch.testing.assert_close(ours.back.weight_hh_l0, dialogue.lstm.weight_hh_l0_reverse)


def _encode_double(self: ChatPainterGenerator, texts: Any) -> dict[str, Tensor]:
    assert self.dialogue_encoder is not None
    return {"text": torch.cat([texts["captions"], self.dialogue_encoder(texts["turns"], texts["turns.length"])], 1)}


def _closed_circle(netd: Any, real: Tensor, fake: Tensor, mu: Tensor) -> Tensor:
    bce, cond = nn.BCELoss(), mu.detach()
    ones, zeros = real.new_ones(len(real)), real.new_zeros(len(real))
    r, f = netd(real), netd(fake.detach())
    good = bce(netd.get_cond_logits(r, cond), ones)
    wrong = bce(netd.get_cond_logits(r, cond.roll(-1, 0)), zeros)
    bad = bce(netd.get_cond_logits(f, cond), zeros)
    if netd.get_uncond_logits is None:
        return good + 0.5 * (wrong + bad)
    u, v = bce(netd.get_uncond_logits(r), ones), bce(netd.get_uncond_logits(f), zeros)
    return (good + u) / 2 + (bad + wrong + v) / 3


# ------------------------------------------------------------------------------------------- who learns


def test_stage1_trains_text_through_the_picture_and_kl() -> None:
    gan = make()
    before_g, before_d = snapshot(gan.generator), snapshot(gan.discriminator)
    steps(gan)
    names = moved(gan.generator, before_g)
    for part in (
        "dialogue_encoder.ahead.weight_hh_l0",
        "dialogue_encoder.back.weight_ih_l0",
        "stage1.ca_net.fc.weight",
    ):
        assert part in names
    assert not any(name.startswith("standardise") for name in names)
    assert moved(gan.discriminator, before_d)


@pytest.mark.parametrize("road", ["picture", "divergence"])
def test_gradient_reaches_the_text_by_both_roads(road: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gan = make(kl_weight=0.0 if road == "picture" else 2.0)
    if road == "divergence":
        # What D says of the picture is cut off: only the KL divergence is left.
        monkeypatch.setattr(gan, "augmented", lambda pictures, part, which: pictures.detach().requires_grad_())
    one = batch()
    part, told, painted = painted_by(gan, one)
    gan.generator_loss(part, told, painted)[0].backward()
    encoder: Any = gan.generator.dialogue_encoder
    assert encoder is not None
    assert encoder.ahead.weight_ih_l0.grad is not None
    assert encoder.ahead.weight_ih_l0.grad.abs().sum() > 0


def test_each_networks_loss_leaves_the_other_alone() -> None:
    gan = make(d_norm="none")
    one = batch()
    part, told, painted = painted_by(gan, one)
    gan.discriminator.requires_grad_(False)
    gan.generator_loss(part, told, painted)[0].backward()
    assert all(p.grad is None for p in gan.discriminator.parameters())
    gan.discriminator.requires_grad_(True)
    gan.generator.zero_grad()
    gan.discriminator_loss(*painted_by(gan, one), penalised=False)[0].backward()
    assert all(p.grad is None for p in gan.generator.parameters())
    assert all(p.grad is not None for p in gan.discriminator.parameters())


@pytest.mark.parametrize("mode, still", [("frozen", True), ("moving", False)])
def test_stage2_keeps_stage1_and_the_dialogue_encoder(mode: str, still: bool) -> None:
    gan = make(2, batch=2, stage1_batchnorm=mode)
    before = snapshot(gan.generator)
    steps(gan, 2)
    names = moved(gan.generator, before)
    assert "stage2.ca_net.fc.weight" in names
    assert "stage2.encoder.0.weight" in names
    assert not any(name.startswith(("dialogue_encoder", "standardise")) for name in names)
    first = {name for name in names if ".STAGE1_G." in name}
    statistics = {name for name in first if "running" in name or "num_batches" in name}
    assert first == statistics  # no weight of stage 1 moves either way
    assert (not statistics) == still


def test_finetuning_moves_stage1_at_its_own_rate() -> None:
    gan = make(2, batch=2, finetune_stage1=1e-5, g_lr=1e-3)
    before = snapshot(gan.generator)
    steps(gan, 2)
    first, own = "stage2.STAGE1_G.img.0.weight", "stage2.img.0.weight"
    change = {name: (gan.generator.state_dict()[name] - before[name]).abs().max().item() for name in (first, own)}
    assert change[first] == pytest.approx(1e-5, rel=1e-2)  # Adam's first step is the learning rate
    assert change[own] == pytest.approx(1e-3, rel=1e-2)
    assert not any("dialogue_encoder" in name for name in moved(gan.generator, before))


# ------------------------------------------------------------------------------------------- the average, the rates


def test_average_holds_weights_and_buffers() -> None:
    gan = make(ema_half_life=12)
    before = snapshot(gan.average)
    steps(gan)
    # 6 pictures seen: the ramp allows a half-life of 0.05 * 6 only.
    beta = 0.5 ** (6 / 0.3)
    now = gan.generator.state_dict()
    for name, value in gan.average.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, beta * before[name] + (1 - beta) * now[name], msg=name)
    before = snapshot(gan.average)
    average.update_average(gan.average, gan.generator, 12, 10_000, 6)
    for name, value in gan.average.state_dict().items():
        if value.is_floating_point():
            expected = 0.5 * 2**0.5 * before[name] + (1 - 0.5 * 2**0.5) * now[name]  # 6 of 12 pictures: 2^-1/2
            torch.testing.assert_close(value, expected, msg=name)
    gan = make(ema_half_life=0)
    steps(gan)
    now = gan.generator.state_dict()
    assert all(torch.equal(v, now[k]) for k, v in gan.average.state_dict().items() if v.is_floating_point())


def test_learning_rates_halve() -> None:
    gan = make(halve_every_epochs=50, g_lr=2e-4, d_lr=4e-4)
    for epoch, halvings in ((0, 0), (49, 0), (50, 1), (99, 1), (100, 2), (799, 15)):
        set_learning_rates(gan.training, epoch, gan.g_optimizer, gan.d_optimizer)
        assert gan.g_optimizer.param_groups[0]["lr"] == pytest.approx(2e-4 * 0.5**halvings)
        assert gan.d_optimizer.param_groups[0]["lr"] == pytest.approx(4e-4 * 0.5**halvings)


def test_gradients_that_are_not_finite_are_left_out() -> None:
    gan = make(d_norm="none")
    one = batch()
    gan.step(one, 0, 0, silent)
    before_g, before_d = snapshot(gan.generator), snapshot(gan.discriminator)
    broken = Batch({**one, "captions": torch.full_like(one["captions"], float("nan"))})
    gan.step(broken, 6, 0, silent)
    weights = {name for name, _ in gan.generator.named_parameters()}
    assert not moved(gan.generator, before_g) & weights
    assert not moved(gan.discriminator, before_d)
    assert gan.updates.nonfinite.item() == 2
    assert gan.updates.streak.item() == 2


# ------------------------------------------------------------------------------------------- switches


SWITCHES: list[tuple[dict[str, Any], dict[str, Any]]] = [  # a switch, and what it is compared with
    ({"loss": "hinge", "d_norm": "spectral"}, {"d_norm": "spectral"}),
    ({"d_norm": "spectral"}, {}),
    ({"loss": "wgan", "d_norm": "none"}, {"d_norm": "none"}),
    ({"d_norm": "none", "penalties": Penalties(gradient_penalty=1e4)}, {"d_norm": "none"}),
    ({"penalties": Penalties(r1=1e6, every=2)}, {}),
    ({"loss": "relativistic", "d_norm": "none"}, {"d_norm": "none"}),
    ({"d_norm": "none", "penalties": Penalties(r2=1e6)}, {"d_norm": "none"}),
    ({"d_norm": "none", "penalties": Penalties(matching_aware=1e9)}, {"d_norm": "none"}),
    ({"generator_loss": "saturating"}, {}),
    ({"d_condition": "sample"}, {}),
    ({"d_condition": "learned"}, {}),
    ({"wrong_candidates": 3}, {}),
    ({"kl_weight": 20.0}, {}),
    ({"diffaugment": True}, {}),
    ({"flip": False}, {}),
    ({"crop": "centre"}, {}),
    ({"g_lr": 1e-3}, {}),
    ({"d_lr": 1e-3}, {}),
    ({"betas": (0.0, 0.9)}, {}),
    ({"precision": "bfloat16"}, {}),
    ({"accumulate": 3}, {}),
    ({"seed": 1}, {}),
    (
        {"precision": "bfloat16", "loss": "hinge", "d_norm": "spectral", "penalties": Penalties(r1=1.0)},
        {"precision": "bfloat16", "loss": "hinge", "d_norm": "spectral"},
    ),
]


@pytest.mark.parametrize(("switches", "without"), SWITCHES, ids=lambda each: "-".join(each) or "as it stands")
@pytest.mark.parametrize("stage", [1, 2])
def test_every_switch_trains_and_changes_the_step(
    stage: int, switches: dict[str, Any], without: dict[str, Any]
) -> None:
    size = {"batch": 6, "seed": 7}

    def trained(chosen: dict[str, Any]) -> tuple[Gan, list[dict[str, Tensor]]]:
        gan = make(stage, **{**size, **chosen})
        return gan, steps(gan, stage, count=2)

    gan, figures = trained(switches)
    assert all(torch.isfinite(value).all() for each in figures for value in each.values())
    before = make(stage, **{**size, **switches})
    assert moved(gan.generator, snapshot(before.generator))
    assert moved(gan.discriminator, snapshot(before.discriminator))
    if "penalties" in switches:
        assert any("penalty" in each for each in figures)
    other, _ = trained(without)
    for network in ("generator", "discriminator"):
        ours, theirs = getattr(gan, network), getattr(other, network)
        assert ours.state_dict().keys() != theirs.state_dict().keys() or moved(ours, snapshot(theirs)), network


def test_compiled_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graphs are captured whole, penalties stay out of them, and no key changes its name."""
    switches: dict[str, Any] = {"penalties": Penalties(r1=1.0)}
    eager = make(**switches)
    steps(eager, count=2)
    compiled = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, **how: compiled(self, backend="aot_eager", **how))
    gan = make(**switches, compile=True)
    steps(gan, count=2)
    assert gan.generator.state_dict().keys() == eager.generator.state_dict().keys()
    for ours, theirs in ((gan.generator, eager.generator), (gan.discriminator, eager.discriminator)):
        for name, value in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], value, atol=2e-5, rtol=1e-3, msg=name)


def test_condition_of_the_discriminator() -> None:
    for choice in ("mu", "sample"):
        gan = make(d_condition=choice)
        _, told, painted = painted_by(gan, batch())
        condition = gan.condition(told.text, painted)
        assert torch.equal(condition, painted.mu if choice == "mu" else painted.condition)
        assert not condition.requires_grad


def test_a_learned_condition_trains_its_layer_and_the_dialogue_through_the_discriminator() -> None:
    gan = make(d_condition="learned", kl_weight=0.0)
    one = batch()
    part, told, painted = painted_by(gan, one)
    with SumsInAnyOrder() as found:
        gan.discriminator_loss(part, told, painted, penalised=False)[0].backward(retain_graph=True)
    assert not found.places
    encoder: Any = gan.generator.dialogue_encoder
    embed: Any = gan.discriminator.embed_text
    assert encoder is not None
    assert embed is not None
    assert embed.weight.grad is not None
    assert encoder.back.weight_hh_l0.grad is not None
    assert all(p.grad is None for p in gan.generator.stage1.parameters())
    before = encoder.back.weight_hh_l0.grad.clone()
    taught = embed.weight.grad.clone()
    gan.discriminator.requires_grad_(False)
    gan.generator_loss(part, told, painted)[0].backward()
    # The generator's own gradient comes on top, and none reaches the layer a second time.
    assert not torch.equal(encoder.back.weight_hh_l0.grad, before)
    assert torch.equal(embed.weight.grad, taught)


def test_penalties_come_every_so_many_iterations_at_so_many_times_their_weight() -> None:
    gan = make(d_norm="none", penalties=Penalties(r1=1.0, every=3))
    figures = steps(gan, count=6)
    assert sum("penalty" in each for each in figures) == 2

    def d_gradients(every: int) -> list[Tensor]:
        # A fresh discriminator is nearly flat, so the weight is large.
        gan = make(d_norm="none", penalties=Penalties(r1=1e8, every=every))
        one = batch()
        with torch.no_grad():
            part, told, painted = painted_by(gan, one)
        gan.discriminator_loss(part, told, painted, penalised=True)[0].backward()
        return [p.grad.clone() for p in gan.discriminator.parameters() if p.grad is not None]

    one, two, three = ([g.double() for g in d_gradients(every)] for every in (1, 2, 3))
    assert any((b - a).abs().max() > 1e-3 for a, b in zip(one, two))
    for a, b, c in zip(one, two, three):
        torch.testing.assert_close(c - a, 2 * (b - a), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("stage", [1, 2])
def test_relativistic_players_lose_by_pairs_of_the_same_text(stage: int) -> None:
    gan = make(stage, loss="relativistic", d_norm="none", d_condition="mu")
    part, told, painted = painted_by(gan, batch(stage=stage))
    see, score, plain = gan.discriminator, gan.discriminator.get_cond_logits, gan.discriminator.get_uncond_logits
    real, fake = see(part.pictures).features, see(painted.picture).features
    mu = painted.mu
    neighbours = mismatched_rows(part.texts["image_id"], 1)[0][:, 0]
    assert score is not None

    def above(high: Tensor, low: Tensor) -> float:
        return -(high.double() - low.double()).sigmoid().log().mean().item()

    pairs = [above(score(real, mu), score(fake, mu)), above(score(real, mu), score(real, mu[neighbours]))]
    plainly = [] if plain is None else [above(plain(real), plain(fake))]
    d_loss, _ = gan.discriminator_loss(part, told, painted, penalised=False)
    assert d_loss.item() == pytest.approx(sum(pairs + plainly) / (2 + len(plainly)), rel=1e-5)
    expected = above(score(fake, mu), score(real, mu)) + (0 if plain is None else above(plain(fake), plain(real)))
    _, figures = gan.generator_loss(part, told, painted)
    assert figures["g_loss"].item() == pytest.approx(expected, rel=1e-5)


def test_r2_is_the_squared_gradient_on_painted_pictures() -> None:
    gan = make(d_norm="none", penalties=Penalties(r2=3.0))
    part, _, painted = painted_by(gan, batch())
    pictures = painted.picture.detach().requires_grad_()
    assert gan.discriminator.get_cond_logits is not None
    logits = gan.discriminator.get_cond_logits(gan.discriminator(pictures).features, painted.mu.detach())
    (slope,) = torch.autograd.grad(logits.sum(), pictures)
    expected = 1.5 * slope.double().square().sum((1, 2, 3)).mean().item()
    assert gan.penalty(part, painted, painted.mu).item() == pytest.approx(expected, rel=1e-5)


def test_accumulated_gradients_are_the_mean_of_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make(d_norm="none", batch=6, accumulate=2)
    one = batch()
    grads: list[list[Tensor]] = []
    for half in microbatches(one, whole.training, 0, whole.ranks):
        part = whole.microbatch(*half)
        with torch.no_grad():
            told = whole.encode(part)
            painted = whole.paint(told, part)
        (whole.discriminator_loss(part, told, painted, penalised=False)[0] / 2).backward()
        grads.append([p.grad.clone() for p in whole.d_parameters if p.grad is not None])
        whole.discriminator.zero_grad()
    seen: list[list[Tensor]] = []
    update = whole.updates

    def recording(optimizer: Any, parameters: Any) -> Tensor:
        seen.append([p.grad.clone() for p in parameters if p.grad is not None])
        return update(optimizer, parameters)

    monkeypatch.setattr(whole, "updates", recording)
    before = snapshot(whole.generator)
    whole.step(one, 0, 0, silent)
    for a, b, total in zip(*grads, seen[0]):
        torch.testing.assert_close(a + b, total, atol=1e-6, rtol=1e-4)
    # Painting the parts again for the generator's step counts their statistics once.
    name = "stage1.fc.1.num_batches_tracked"
    assert whole.generator.state_dict()[name] - before[name] == 4
    once, again = copy.deepcopy(before), whole.generator.state_dict()
    assert not torch.equal(once["stage1.fc.1.running_mean"], again["stage1.fc.1.running_mean"])


def test_unmoved_statistics_of_the_second_painting() -> None:
    gan = make()
    part, told, painted = painted_by(gan, batch())
    before = {name: value for name, value in snapshot(gan.generator).items() if "running" in name}
    with average.unmoved_statistics(gan.generator):
        second = gan.paint(told, part).picture
    assert torch.equal(painted.picture, second)
    assert all(torch.equal(gan.generator.state_dict()[name], value) for name, value in before.items())
    gan.paint(told, part)
    assert any(not torch.equal(gan.generator.state_dict()[name], value) for name, value in before.items())


def test_auxiliary_recognition_trains_both() -> None:
    labels = Labels(torch.arange(6) + 100, torch.eye(6)[:, :4])
    assert labels(torch.tensor([103, 100])).tolist() == [[0, 0, 0, 1], [1, 0, 0, 0]]

    def trained(weight: float) -> dict[str, Tensor]:
        gan = make(labels=labels, auxiliary=Auxiliary(weight=weight, instances="x.json"), d_norm="spectral")
        before = snapshot(gan.discriminator)
        steps(gan)
        assert "classify.weight" in moved(gan.discriminator, before)
        return snapshot(gan.generator)

    assert not torch.equal(trained(1e-9)["stage1.img.0.weight"], trained(10.0)["stage1.img.0.weight"])


# ------------------------------------------------------------------------------------------- DiffAugment


def test_translate_moves_whole_pictures() -> None:
    pictures = torch.rand(16, 3, 16, 16) + 1
    out = translate(pictures, torch.rand(16, 2, generator=torch.Generator().manual_seed(0)))
    shifts = set()
    for before, after in zip(pictures, out):
        found = None
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                expected = torch.zeros_like(before)
                expected[:, max(0, -dy) : 16 - max(0, dy), max(0, -dx) : 16 - max(0, dx)] = before[
                    :, max(0, dy) : 16 - max(0, -dy), max(0, dx) : 16 - max(0, -dx)
                ]
                if torch.equal(expected, after):
                    found = dy, dx
        assert found is not None
        shifts.add(found)
    assert len(shifts) > 4


def test_a_dialogue_that_is_cut_is_shown_the_picture_of_its_last_turn() -> None:
    """Pictures of turns are grey: the first ones 255, after turn t of image i 10 i + t."""
    gan = make(cut_dialogues=0.7, turn_pictures=True, crop="centre", flip=False)
    one, side = batch(), 76
    levels = (10 * torch.arange(6)[:, None] + torch.arange(4)).to(torch.uint8)
    turns = levels[:, :, None, None, None].expand(-1, -1, side, side, 3)
    firsts = torch.full((6, side, side, 3), 255, dtype=torch.uint8)
    texts = Batch({**one, "turn_pictures": turns, "first_pictures": firsts})
    seen = set()
    for images_seen in range(0, 120, 6):
        ((rows, draws),) = microbatches(texts, gan.training, images_seen, gan.ranks)
        part = gan.microbatch(rows, draws)
        rounds = part.texts["turns.length"]
        level = ((part.pictures[:, 0] + 1) * 127.5).round().flatten(1)
        assert (level == level[:, :1]).all()
        assert level[:, 0].tolist() == [255 if n == 0 else 10 * i + n - 1 for i, n in enumerate(rounds.tolist())]
        seen |= {int(n) for n in rounds - one["turns.length"]}
    assert {0, -1, -2} <= seen


def test_cutout_blanks_one_square_and_nothing_else() -> None:
    pictures = torch.rand(32, 3, 16, 16) + 1
    out = cutout(pictures, torch.rand(32, 2, generator=torch.Generator().manual_seed(0)))
    blank = (out == 0).all(1)
    assert torch.equal(out[:, 0][~blank], pictures[:, 0][~blank])
    areas = blank.flatten(1).sum(1)
    assert areas.max() == 64
    assert areas.min() >= 16
    for mask in blank:
        ys, xs = mask.nonzero(as_tuple=True)
        assert mask.sum() == (ys.max() - ys.min() + 1) * (xs.max() - xs.min() + 1)


def test_diffaugment_passes_gradients_and_keeps_colours() -> None:
    pictures = torch.full((2, 3, 16, 16), 0.5, requires_grad=True)
    out = diffaugment(pictures, torch.rand(2, 4, generator=torch.Generator().manual_seed(1)))
    assert set(out.unique().tolist()) == {0.0, 0.5}
    out.sum().backward()
    assert pictures.grad is not None
    assert pictures.grad.sum() == (out > 0).sum()
