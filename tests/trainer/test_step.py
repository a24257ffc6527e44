"""One iteration: who learns from what, and that it is StackGAN's iteration where it claims to be."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support import plain_stackgan as plain
from trainer.batches import Batch, augment
from trainer.config import Auxiliary, ModelConfig, Penalties, StageConfig
from trainer.diffaugment import cutout, diffaugment, translate
from trainer.generator import Generator, settings
from trainer.loop import build_discriminator
from trainer.step import Labels, Players, Step, wrong_rows

MODEL = ModelConfig(
    dialogue="recurrent", gf=4, df=2, residual_blocks=1, condition_dim=4, noise_dim=3, lstm_hidden=3, standardise=True
)
TRAINING = StageConfig(batch=6, channels_last=False)
CPU = torch.device("cpu")


def make(stage: int = 1, model: ModelConfig = MODEL, classes: int = 0, **switches: Any) -> Players:
    training = replace(TRAINING, **switches)
    torch.manual_seed(5)
    generator = Generator(settings(stage, model, 7, 5))
    return Players(generator, build_discriminator(generator, training, classes), training, CPU)


def batch(size: int = 6, stage: int = 1, seed: int = 0) -> Batch:
    random = torch.Generator().manual_seed(seed)
    side = 76 if stage == 1 else 304
    return Batch(
        images=torch.randint(0, 256, (size, side, side, 3), dtype=torch.uint8, generator=random),
        captions=torch.randn(size, 7, generator=random).half(),
        dialogues=torch.randn(size, 4, 5, generator=random).half(),
        rounds=torch.randint(1, 5, (size,), generator=random),
        image_ids=torch.arange(size) + 100,
    )


def steps(players: Players, stage: int = 1, count: int = 1, labels: Labels | None = None) -> list[dict[str, Tensor]]:
    seen: list[dict[str, Tensor]] = []
    step = Step(players, lambda values: seen.append(dict(values)), labels=labels)
    for i in range(count):
        step(batch(players.training.batch, stage, i), i * players.training.batch, 0)
    return seen


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def moved(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


# ------------------------------------------------------------------------------------------------ wrong pairs


def test_wrong_pairs_show_another_image() -> None:
    for ids in ([1, 2, 3, 4], [1, 1, 2, 2], [1, 1, 1, 2], [3, 1, 3, 1, 3], [9, 9, 9, 9, 9, 1], list(range(50)) * 2):
        image_ids = torch.tensor(ids)
        for number in (1, 3):
            rows, found = wrong_rows(image_ids, number)
            assert found.all()
            assert (image_ids[rows] != image_ids[:, None]).all()
    rows, found = wrong_rows(torch.tensor([4, 4, 4]))
    assert not found.any()
    # Where all images differ the next row is taken, as StackGAN does.
    assert wrong_rows(torch.arange(5))[0].tolist() == [[1], [2], [3], [4], [0]]
    assert wrong_rows(torch.arange(4), 9)[0].tolist() == [[1, 2, 3, 1], [2, 3, 0, 2], [3, 0, 1, 3], [0, 1, 2, 0]]
    # One other image only: it stands for all that were asked for.
    assert wrong_rows(torch.tensor([1, 1, 2]), 2)[0].tolist() == [[2, 2], [2, 2], [0, 1]]


def test_of_several_wrong_texts_the_one_that_fits_best_is_taken() -> None:
    players = make(wrong_candidates=3)
    step = Step(players, lambda values: None)
    others, _ = wrong_rows(torch.arange(6), 3)
    condition = torch.randn(6, players.generator.condition_dim)
    real = players.discriminator(torch.randn(6, 3, 64, 64))
    chosen = step.hardest(others, real, condition)
    judge = players.discriminator.get_cond_logits
    logits = torch.stack([judge(real, condition[others[:, k]]) for k in range(3)], 1)
    assert chosen.tolist() == [int(others[row, logits[row].argmax()]) for row in range(6)]
    assert len({(logits[row].argmax().item()) for row in range(6)}) > 1


def test_wrong_pairs_carry_caption_and_dialogue_of_the_same_other_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every condition that the discriminator meets is the whole condition of one row."""
    players = make()
    met: list[Tensor] = []
    head = players.discriminator.get_cond_logits
    monkeypatch.setattr(head, "forward", _recording(head.forward, met))
    own: list[Tensor] = []
    encode = players.generator.encode_text

    def recording_text(*inputs: Any) -> Tensor:
        text = encode(*inputs)
        own.append(players.generator.stage1.ca_net(text)[0].detach())
        return text

    monkeypatch.setattr(players.generator, "encode_text", recording_text)
    one = replace(batch(), image_ids=torch.tensor([1, 1, 2, 3, 3, 3]))
    Step(players, lambda values: None)(one, 0, 0)
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
    model = ModelConfig(
        dialogue="recurrent", gf=4, df=2, residual_blocks=1, condition_dim=4, noise_dim=3, lstm_hidden=3
    )
    players = make(stage, model, batch=b, crop="centre", stage1_batchnorm="moving")
    for module in (players.generator, players.discriminator, players.average):
        module.double()
    text_dim = 7 + 2 * 3
    if stage == 1:
        netg: Any = plain.PlainStage1G(4, text_dim, 4, 3).double()
        netd: Any = plain.PlainStage1D(2, 4).double()
    else:
        netg = plain.PlainStage2G(4, text_dim, 4, 3, 1).double()
        netd = plain.PlainStage2D(2, 4).double()
    netg.load_state_dict(players.generator.painter.state_dict())
    netd.load_state_dict(players.discriminator.state_dict())
    dialogue = plain.PlainDialogue(5, 3).double()
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        ours = players.generator.dialogue_encoder
        assert ours is not None
        getattr(dialogue.lstm, name).data.copy_(getattr(ours.ahead, name).data)
        getattr(dialogue.lstm, f"{name}_reverse").data.copy_(getattr(ours.back, name).data)
    dialogue.requires_grad_(stage == 1)

    one = batch(b, stage)
    one = replace(one, captions=one.captions.double(), dialogues=one.dialogues.double())  # type: ignore[union-attr]
    monkeypatch.setattr(Generator, "encode_text", _encode_double)
    # StackGAN leaves the last image without a wrong pair; ours gives it the first one's text.
    monkeypatch.setattr(plain, "d_loss", _closed_circle)
    step = Step(players, lambda values: None)
    draws = step.draw(one, 0, 0)
    noise, epsilon, epsilon1 = draws.noise.double(), draws.epsilon.double(), draws.epsilon1.double()
    fixed = draws._replace(pictures=draws.pictures.double(), noise=noise, epsilon=epsilon, epsilon1=epsilon1)
    monkeypatch.setattr(step, "draw", lambda *_: fixed)
    numbers = iter([epsilon, epsilon1, noise] if stage == 2 else [epsilon, noise])
    monkeypatch.setattr(torch, "randn", lambda *_, **__: next(numbers))
    g_trained = [p for p in [*netg.parameters(), *dialogue.parameters()] if p.requires_grad]
    # Plain gradient descent, where a weight's change is its gradient: Adam would hide the size.
    g_sgd, d_sgd = torch.optim.SGD(g_trained, lr=0.1), torch.optim.SGD(netd.parameters(), lr=0.1)
    monkeypatch.setattr(players, "g_optimizer", torch.optim.SGD(players.g_parameters, lr=0.1, fused=True))
    monkeypatch.setattr(players, "d_optimizer", torch.optim.SGD(players.d_parameters, lr=0.1, fused=True))
    monkeypatch.setattr(players, "set_learning_rates", lambda epoch: None)
    real = augment(one.images, size).double()

    step(one, 0, 0)
    plain.step(netg, netd, dialogue, g_sgd, d_sgd, real, one.captions, one.dialogues, one.rounds, 3, 4)
    monkeypatch.undo()

    for name, value in netd.state_dict().items():
        torch.testing.assert_close(players.discriminator.state_dict()[name], value, msg=name)
    for name, value in netg.state_dict().items():
        torch.testing.assert_close(players.generator.painter.state_dict()[name], value, msg=name)
    ours = players.generator.dialogue_encoder
    assert ours is not None
    torch.testing.assert_close(ours.ahead.weight_ih_l0, dialogue.lstm.weight_ih_l0)
    torch.testing.assert_close(ours.back.weight_hh_l0, dialogue.lstm.weight_hh_l0_reverse)


def _encode_double(self: Generator, captions: Tensor, dialogues: Tensor, rounds: Tensor) -> Tensor:
    assert self.dialogue_encoder is not None
    return torch.cat([captions, self.dialogue_encoder(dialogues, rounds)], 1)


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
    players = make()
    before_g, before_d = snapshot(players.generator), snapshot(players.discriminator)
    steps(players)
    names = moved(players.generator, before_g)
    for part in (
        "dialogue_encoder.ahead.weight_hh_l0",
        "dialogue_encoder.back.weight_ih_l0",
        "stage1.ca_net.fc.weight",
    ):
        assert part in names
    assert not any(name.startswith("standardise") for name in names)
    assert moved(players.discriminator, before_d)


@pytest.mark.parametrize("kl_weight", [0.0, 2.0])
def test_gradient_reaches_the_text_by_both_roads(kl_weight: float) -> None:
    players = make(kl_weight=kl_weight)
    step = Step(players, lambda values: None)
    one = batch()
    draw = step.draw(one, 0, 0)
    text = step.encode(one)
    painted = step.paint(text, draw)
    if kl_weight:
        (painted.mu.square().mean() + 0 * painted.picture.mean()).backward()
    else:
        step.convince(one, draw, text, painted)
    encoder = players.generator.dialogue_encoder
    assert encoder is not None
    assert encoder.ahead.weight_ih_l0.grad is not None
    assert encoder.ahead.weight_ih_l0.grad.abs().sum() > 0


def test_the_generators_step_leaves_the_discriminator_alone() -> None:
    players = make(d_norm="none")
    step = Step(players, lambda values: None)
    one = batch()
    draw = step.draw(one, 0, 0)
    text = step.encode(one)
    painted = step.paint(text, draw)
    players.discriminator.requires_grad_(False)
    step.convince(one, draw, text, painted)
    assert all(p.grad is None for p in players.discriminator.parameters())
    players.discriminator.requires_grad_(True)
    players.generator.zero_grad()
    text = step.encode(one)
    step.discriminate(one, draw, text, step.paint(text, draw))
    assert all(p.grad is None for p in players.generator.parameters())
    assert all(p.grad is not None for p in players.discriminator.parameters())


@pytest.mark.parametrize("mode, still", [("frozen", True), ("moving", False)])
def test_stage2_keeps_stage1_and_the_dialogue_encoder(mode: str, still: bool) -> None:
    players = make(2, batch=2, stage1_batchnorm=mode)
    before = snapshot(players.generator)
    steps(players, 2)
    names = moved(players.generator, before)
    assert "stage2.ca_net.fc.weight" in names
    assert "stage2.encoder.0.weight" in names
    assert not any(name.startswith(("dialogue_encoder", "standardise")) for name in names)
    first = {name for name in names if ".STAGE1_G." in name}
    statistics = {name for name in first if "running" in name or "num_batches" in name}
    assert first == statistics  # no weight of stage 1 moves either way
    assert (not statistics) == still


def test_finetuning_moves_stage1_at_its_own_rate() -> None:
    players = make(2, batch=2, finetune_stage1=1e-5, g_lr=1e-3)
    before = snapshot(players.generator)
    steps(players, 2)
    first, own = "stage2.STAGE1_G.img.0.weight", "stage2.img.0.weight"
    change = {name: (players.generator.state_dict()[name] - before[name]).abs().max().item() for name in (first, own)}
    assert change[first] == pytest.approx(1e-5, rel=1e-2)  # Adam's first step is the learning rate
    assert change[own] == pytest.approx(1e-3, rel=1e-2)
    assert not any("dialogue_encoder" in name for name in moved(players.generator, before))


# ------------------------------------------------------------------------------------------- the average, the rates


def test_average_holds_weights_and_buffers() -> None:
    players = make(ema_half_life=12)
    before = snapshot(players.average)
    steps(players)
    # 6 pictures seen: the ramp allows a half-life of 0.05 * 6 only.
    beta = 0.5 ** (6 / 0.3)
    now = players.generator.state_dict()
    for name, value in players.average.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, beta * before[name] + (1 - beta) * now[name], msg=name)
    before = snapshot(players.average)
    players.update_average(10_000)
    for name, value in players.average.state_dict().items():
        if value.is_floating_point():
            expected = 0.5 * 2**0.5 * before[name] + (1 - 0.5 * 2**0.5) * now[name]  # 6 of 12 pictures: 2^-1/2
            torch.testing.assert_close(value, expected, msg=name)
    players = make(ema_half_life=0)
    steps(players)
    now = players.generator.state_dict()
    assert all(torch.equal(v, now[k]) for k, v in players.average.state_dict().items() if v.is_floating_point())


def test_learning_rates_halve() -> None:
    players = make(halve_every_epochs=50, g_lr=2e-4, d_lr=4e-4)
    for epoch, halvings in ((0, 0), (49, 0), (50, 1), (99, 1), (100, 2), (799, 15)):
        players.set_learning_rates(epoch)
        assert players.g_optimizer.param_groups[0]["lr"] == pytest.approx(2e-4 * 0.5**halvings)
        assert players.d_optimizer.param_groups[0]["lr"] == pytest.approx(4e-4 * 0.5**halvings)


def test_gradients_that_are_not_finite_are_left_out() -> None:
    players = make(d_norm="none")
    step = Step(players, lambda values: None)
    one = batch()
    step(one, 0, 0)
    before_g, before_d = snapshot(players.generator), snapshot(players.discriminator)
    broken = replace(one, captions=torch.full_like(one.captions, float("nan")))
    step(broken, 6, 0)
    weights = {name for name, _ in players.generator.named_parameters()}
    assert not moved(players.generator, before_g) & weights
    assert not moved(players.discriminator, before_d)
    assert step.nonfinite.item() == 2
    assert step.streak.item() == 2


# ------------------------------------------------------------------------------------------- switches


@pytest.mark.parametrize(
    "switches",
    [
        {"loss": "hinge", "d_norm": "spectral"},
        {"loss": "wgan", "d_norm": "none", "penalties": Penalties(gradient_penalty=10)},
        {"penalties": Penalties(r1=1.0, every=2)},
        {"loss": "hinge", "d_norm": "none", "penalties": Penalties(matching_aware=2.0)},
        {"generator_loss": "saturating"},
        {"d_condition": "sample"},
        {"d_condition": "learned"},
        {"d_condition": "learned", "accumulate": 2},
        {"diffaugment": True, "flip": False, "crop": "centre"},
        {"precision": "bfloat16", "channels_last": True},
        {"accumulate": 3},
        {
            "precision": "bfloat16",
            "loss": "hinge",
            "d_norm": "spectral",
            "penalties": Penalties(r1=1.0),
            "accumulate": 2,
        },
    ],
)
@pytest.mark.parametrize("stage", [1, 2])
def test_every_switch_trains(stage: int, switches: dict[str, Any]) -> None:
    players = make(stage, **{"batch": 6 if stage == 1 else 3 * switches.get("accumulate", 1), **switches})
    before_g, before_d = snapshot(players.generator), snapshot(players.discriminator)
    figures = steps(players, stage, count=1)
    assert moved(players.generator, before_g)
    assert moved(players.discriminator, before_d)
    assert all(torch.isfinite(value).all() for each in figures for value in each.values())
    if "penalties" in switches:
        assert any("penalty" in each for each in figures)


def test_compiled_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graphs are captured whole, penalties stay out of them, and no key changes its name."""
    switches: dict[str, Any] = {"penalties": Penalties(r1=1.0)}
    eager = make(**switches)
    steps(eager, count=2)
    compiled = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, **how: compiled(self, backend="aot_eager", **how))
    players = make(**switches, compile=True)
    steps(players, count=2)
    assert players.generator.state_dict().keys() == eager.generator.state_dict().keys()
    for ours, theirs in ((players.generator, eager.generator), (players.discriminator, eager.discriminator)):
        for name, value in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], value, atol=2e-5, rtol=1e-3, msg=name)


def test_condition_of_the_discriminator() -> None:
    for choice in ("mu", "sample"):
        step = Step(make(d_condition=choice), lambda values: None)
        one = batch()
        text = step.encode(one)
        painted = step.paint(text, step.draw(one, 0, 0))
        condition = step.condition(text, painted)
        assert torch.equal(condition, painted.mu if choice == "mu" else painted.condition)
        assert not condition.requires_grad


def test_a_learned_condition_trains_its_layer_and_the_dialogue_through_the_discriminator() -> None:
    players = make(d_condition="learned", kl_weight=0.0)
    step = Step(players, lambda values: None)
    one = batch()
    draw = step.draw(one, 0, 0)
    text = step.encode(one)
    painted = step.paint(text, draw)
    step.discriminate(one, draw, text, painted)
    encoder, embed = players.generator.dialogue_encoder, players.discriminator.embed_text
    assert encoder is not None
    assert embed is not None
    assert embed.weight.grad is not None
    assert encoder.back.weight_hh_l0.grad is not None
    assert all(p.grad is None for p in players.generator.stage1.parameters())
    before = encoder.back.weight_hh_l0.grad.clone()
    players.discriminator.requires_grad_(False)
    step.convince(one, draw, text, painted)
    # The generator's own gradient comes on top, and none reaches the layer a second time.
    assert not torch.equal(encoder.back.weight_hh_l0.grad, before)


def test_penalties_come_every_so_many_iterations_at_so_many_times_their_weight() -> None:
    players = make(d_norm="none", penalties=Penalties(r1=1.0, every=3))
    figures = steps(players, count=6)
    assert sum("penalty" in each for each in figures) == 2

    def d_gradients(every: int) -> list[Tensor]:
        # A fresh discriminator is nearly flat, so the weight is large.
        players = make(d_norm="none", penalties=Penalties(r1=1e8, every=every))
        step = Step(players, lambda values: None)
        one = batch()
        draw = step.draw(one, 0, 0)
        with torch.no_grad():
            text = step.encode(one)
            painted = step.paint(text, draw)
        step.discriminate(one, draw, text, painted)
        return [p.grad.clone() for p in players.discriminator.parameters() if p.grad is not None]

    one, two, three = ([g.double() for g in d_gradients(every)] for every in (1, 2, 3))
    assert any((b - a).abs().max() > 1e-3 for a, b in zip(one, two))
    for a, b, c in zip(one, two, three):
        torch.testing.assert_close(c - a, 2 * (b - a), rtol=1e-3, atol=1e-5)


def test_accumulated_gradients_are_the_mean_of_the_parts() -> None:
    whole = make(d_norm="none", batch=6, accumulate=2)
    step = Step(whole, lambda values: None)
    one = batch()
    grads: list[list[Tensor]] = []
    for number, part in enumerate((one[:3], one[3:])):
        draw = step.draw(part, 0, number)
        with torch.no_grad():
            text = step.encode(part)
            painted = step.paint(text, draw)
        step.discriminate(part, draw, text, painted)
        grads.append([p.grad.clone() for p in whole.d_parameters if p.grad is not None])
        whole.discriminator.zero_grad()
    seen: list[list[Tensor]] = []
    update = step.update

    def recording(optimizer: Any, parameters: Any, who: str) -> None:
        seen.append([p.grad.clone() for p in parameters if p.grad is not None])
        update(optimizer, parameters, who)

    step.update = recording  # type: ignore[method-assign]
    before = snapshot(whole.generator)
    step(one, 0, 0)
    for a, b, total in zip(*grads, seen[0]):
        torch.testing.assert_close(a + b, total, atol=1e-6, rtol=1e-4)
    # Painting the parts again for the generator's step counts their statistics once.
    name = "stage1.fc.1.num_batches_tracked"
    assert whole.generator.state_dict()[name] - before[name] == 4
    once, again = copy.deepcopy(before), whole.generator.state_dict()
    assert not torch.equal(once["stage1.fc.1.running_mean"], again["stage1.fc.1.running_mean"])


def test_unmoved_statistics_of_the_second_painting() -> None:
    from trainer.step import unmoved_statistics

    players = make()
    step = Step(players, lambda values: None)
    one = batch()
    draw = step.draw(one, 0, 0)
    text = step.encode(one)
    first = step.paint(text, draw).picture
    before = {k: v for k, v in snapshot(players.generator).items() if "running" in k}
    with unmoved_statistics(players.generator):
        second = step.paint(text, draw).picture
    assert torch.equal(first, second)
    assert not {k for k in moved(players.generator, before | snapshot(players.generator)) if "running" in k}
    assert all(torch.equal(players.generator.state_dict()[k], v) for k, v in before.items())
    step.paint(text, draw)
    assert any(not torch.equal(players.generator.state_dict()[k], v) for k, v in before.items())


def test_auxiliary_recognition_trains_both() -> None:
    labels = Labels(torch.arange(6) + 100, torch.eye(6)[:, :4])
    assert labels(torch.tensor([103, 100])).tolist() == [[0, 0, 0, 1], [1, 0, 0, 0]]

    def run(weight: float) -> tuple[dict[str, Tensor], Players]:
        players = make(classes=4, auxiliary=Auxiliary(weight=weight, instances="x.json"), d_norm="spectral")
        before = snapshot(players.discriminator)
        steps(players, labels=labels)
        assert "classify.weight" in moved(players.discriminator, before)
        return snapshot(players.generator), players

    little, _ = run(1e-9)
    much, _ = run(10.0)
    assert not torch.equal(little["stage1.img.0.weight"], much["stage1.img.0.weight"])


# ------------------------------------------------------------------------------------------- DiffAugment


def test_translate_moves_whole_pictures() -> None:
    pictures = torch.rand(16, 3, 16, 16) + 1
    out = translate(pictures, torch.Generator().manual_seed(0))
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


def test_cutout_blanks_one_square_and_nothing_else() -> None:
    pictures = torch.rand(32, 3, 16, 16) + 1
    out = cutout(pictures, torch.Generator().manual_seed(0))
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
    out = diffaugment(pictures, torch.Generator().manual_seed(1))
    assert set(out.unique().tolist()) == {0.0, 0.5}
    out.sum().backward()
    assert pictures.grad is not None
    assert pictures.grad.sum() == (out > 0).sum()
