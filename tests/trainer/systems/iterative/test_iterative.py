"""What is said of a change, which changes are trained on, and films that keep what was painted."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from store import params
from store.errors import ParamsError
from tests.support.films import write_films
from tests.support.models import SMALL_ITERATIVE
from tests.support.same import same
from tests.support.stores import write_training_stores
from trainer.distributed import Ranks
from trainer.feed.data import TrainingData
from trainer.feed.films import pictures_after
from trainer.feed.inputs import CAPTIONS, LENGTH, TURN_PICTURES, TURNS
from trainer.feed.sampler import Draws, rows_for
from trainer.systems.iterative.changes import Begun, Change, drawn_change, new_turns
from trainer.systems.iterative.config import IterativeConfig, Networks
from trainer.systems.iterative.networks import (
    IterativeGenerator,
    SeeEachOther,
    generator_settings,
    recently,
    tokens_between,
)
from trainer.systems.iterative.step import Iterative
from trainer.systems.iterative.system import ITERATIVE
from trainer.systems.iterative.taught import listening_loss

CPU = Ranks(0, 1, torch.device("cpu"))
BATCH = 6


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    embeddings, images = write_training_stores(tmp_path_factory.mktemp("data"), images=8, rounds=(3, 1, 5), sizes=(76,))
    write_films(embeddings, images)
    return TrainingData(ITERATIVE.inputs(config()), embeddings, images)


def config(**training: Any) -> IterativeConfig:
    values = {**SMALL_ITERATIVE, "batch": BATCH, "epochs": None, "images": 40, **training}
    return ITERATIVE.configure({"iterative": values}, "params.yaml")


def painter() -> IterativeGenerator:
    torch.manual_seed(0)
    networks = params.build(Networks, SMALL_ITERATIVE["networks"], "networks")
    generator = IterativeGenerator(generator_settings(networks, {CAPTIONS.name: 4, TURNS.name: 5})).eval()
    for parameter in generator.parameters():
        parameter.requires_grad_(False)
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0, parameter[0].numel() ** -0.5)
    return generator


def texts(rounds: tuple[int, ...], longest: int) -> dict[str, torch.Tensor]:
    stream = torch.Generator().manual_seed(1)
    turns = torch.randn(len(rounds), 5, 5, generator=stream)[:, :longest]
    captions = torch.randn(len(rounds), 4, generator=stream)
    return {CAPTIONS.name: captions, TURNS.name: turns, TURNS.name + LENGTH: torch.tensor(rounds)}


def test_new_turns_are_those_between_and_old_ones_those_before() -> None:
    turns = torch.arange(10.0).view(2, 5, 1)
    told = tokens_between(turns, torch.zeros(2, 4), torch.tensor([0, 2]), torch.tensor([2, 4]), ages=3)
    assert told["new"].there.int().tolist() == [[1, 1, 0, 0, 0], [0, 0, 1, 1, 0]]
    assert told["old"].there.int().tolist() == [[0, 0, 0, 0, 0], [1, 1, 0, 0, 0]]
    assert told[CAPTIONS.name].there.shape == (2, 1)
    assert torch.equal(told["new"].vectors[..., 0], turns[..., 0])
    ages = told["old"].vectors[1, :, 1:].argmax(1)
    assert ages[:4].tolist() == [2, 2, 1, 0]  # the last one said is 0 turns old; what is older is as old as the last


def test_a_dialogue_that_goes_on_keeps_its_pictures() -> None:
    generator, noise = painter(), torch.randn(2, 3, generator=torch.Generator().manual_seed(2))
    film = generator.film(texts((5, 3), 5), noise)
    assert film.shape == (2, 5, 3, 64, 64)
    assert torch.equal(film[1, 2], film[1, 4])
    for rounds in range(6):
        last = generator.paint(texts((rounds, min(3, rounds)), rounds), noise)[64]
        expected = film[:, rounds - 1] if rounds else generator.background.expand(2, -1, -1, -1)
        torch.testing.assert_close(last, expected, rtol=0, atol=2e-5)
    for one, other in zip(film[0], film[0, 1:]):
        assert not torch.allclose(one, other)


def test_changes_are_of_the_dialogues_own_pictures(data: TrainingData) -> None:
    """Which the stores tell apart by their grey: image i after t turns is 10 i + t - 1."""
    batch = data.gather(rows_for(0, 0, BATCH, len(data)))
    rounds, image = batch[TURNS.name + LENGTH], batch[TURNS.name][:, 0, 1]

    def level(pictures: torch.Tensor) -> torch.Tensor:
        return ((pictures[:, 0, 5, 5] + 1) * 127.5).round()

    seen = set()
    for images_seen in range(0, 600, BATCH):
        draws = Draws(0, images_seen, BATCH, slice(0, BATCH)).uniform("change", 3)
        change = drawn_change(batch, config(any_pair=0.5), draws)
        assert ((change.start >= 0) & (change.start < change.end) & (change.end <= rounds)).all()
        earlier = (change.start - 1).clamp(min=0), change.earlier
        for number, pictures in ((change.end, change.real), (change.start, change.before), earlier):
            expected = torch.where(number == 0, 255, 10 * image + number - 1)
            assert level(pictures).tolist() == expected.tolist()
        seen |= {(int(a), int(b)) for a, b, n in zip(change.start, change.end, rounds) if n == 5}
        neighbours = drawn_change(batch, config(any_pair=0.0), draws)
        assert (neighbours.end - neighbours.start == 1).all()
    assert seen == {(i, j) for j in range(1, 6) for i in range(j)}


def test_of_the_candidates_what_is_painted_worst_is_trained_on(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among changes of one turn; those that lead over several come as they are drawn."""
    it: Iterative = ITERATIVE.trainable(config(candidates=3, any_pair=0.5), data, CPU, None)
    batch = data.gather(rows_for(0, 0, BATCH, len(data)))
    encoded = it.average.encode(batch)
    errors: list[torch.Tensor] = []

    def error(told: dict[str, torch.Tensor], change: Change, noise: torch.Tensor) -> torch.Tensor:
        assert len(told[TURNS.name]) == len(change.start) == len(noise)
        assert (change.end - change.start == 1).all()
        ends.append(change.end)
        errors.append(torch.rand(len(noise), generator=torch.Generator().manual_seed(len(errors))))
        return errors[-1]

    monkeypatch.setattr(it, "error", error)
    ends: list[torch.Tensor] = []
    draws = Draws(0, 0, BATCH, slice(0, BATCH))
    found = it.change(batch, encoded, draws)
    drawn = draws.uniform("change", 3)
    first = drawn_change(batch, it.training, drawn)
    one_turn = (drawn[:, 1] >= 0.5).nonzero().flatten()
    assert 1 < len(one_turn) < BATCH
    assert len(ends) == 3
    assert ends[0].tolist() == first.end[one_turn].tolist()
    worst = torch.stack(errors).argmax(0)
    assert len(set(worst.tolist())) > 1
    expected = first.end.index_copy(0, one_turn, torch.stack(ends)[worst, torch.arange(len(one_turn))])
    assert found.end.tolist() == expected.tolist()
    start = first.start.index_copy(0, one_turn, (expected - 1)[one_turn])
    assert found.start.tolist() == start.tolist()
    for pictures, at in ((found.real, expected), (found.before, start), (found.earlier, (start - 1).clamp(min=0))):
        torch.testing.assert_close(pictures, pictures_after(batch, at, 64), rtol=0, atol=0)


def test_an_error_is_the_mean_distance_of_what_the_average_paints(data: TrainingData) -> None:
    it: Iterative = ITERATIVE.trainable(config(), data, CPU, None)
    batch = data.gather(rows_for(0, 0, BATCH, len(data)))
    encoded = it.average.encode(batch)
    change = drawn_change(batch, it.training, Draws(0, 0, BATCH, slice(0, BATCH)).uniform("change", 3))
    noise = torch.zeros(BATCH, 3)
    picture = it.average.next_picture(encoded, change.before, change.earlier, noise, change.start, change.end).picture
    expected = [float((one.double() - two.double()).abs().mean()) for one, two in zip(picture, change.real)]
    assert it.error(encoded, change, noise).tolist() == pytest.approx(expected, rel=1e-5)


def test_turns_that_change_nothing_are_not_matched() -> None:
    white, black = torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    white[1] = 0
    change = Change(torch.tensor([1, 0]), torch.tensor([3, 2]), black, white, black)
    begun = Begun(black, black, torch.zeros(2, dtype=torch.bool))
    told = new_turns(torch.zeros(2, 4, 5), change, begun)
    assert told.there.tolist() == [[False, True, True, False], [False] * 4]
    own = begun._replace(own=torch.ones(2, dtype=torch.bool))
    assert not new_turns(torch.zeros(2, 4, 5), change, own).there.any()


@pytest.mark.parametrize("most", [1, 3])
def test_our_own_picture_is_painted_from_a_true_one_before(data: TrainingData, most: int) -> None:
    it: Iterative = ITERATIVE.trainable(config(own_pictures=1.0, own_turns=most), data, CPU, None)
    batch = data.gather(rows_for(0, 0, BATCH, len(data)))
    draws = Draws(0, 0, BATCH, slice(0, BATCH))
    encoded = it.generator.encode(batch)
    change = drawn_change(batch, it.training, torch.tensor([[0.99, 0.99, 0.0]]).expand(BATCH, -1))
    assert change.end.tolist() == batch[TURNS.name + LENGTH].tolist()
    found = it.begun(batch, encoded, change, draws)
    assert found.own.tolist() == (change.start > 0).tolist()
    noise = [draws.normal(f"noise of own pictures {number}", 3) for number in range(most)]
    turns = (draws.uniform("turns of own pictures") * most).long() + 1
    assert len(turns.unique()) == min(most, 2)
    for row, start in enumerate(change.start.tolist()):
        one = {name: values[row : row + 1] for name, values in encoded.items()}
        mine, begin = slice(row, row + 1), max(0, start - int(turns[row]))
        earlier, expected = (
            pictures_after(batch, torch.full((BATCH,), max(0, at)), 64)[mine] for at in (begin - 1, begin)
        )
        for at in range(begin, start):
            number = torch.tensor([at])
            mine_noise = noise[most - start + at][mine]
            painted = it.average.next_picture(one, expected, earlier, mine_noise, number, number + 1).picture
            earlier, expected = expected, painted
        torch.testing.assert_close(found.before[row], expected[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(found.earlier[row], earlier[0], rtol=0, atol=1e-5)
    true = ITERATIVE.trainable(config(own_pictures=0.0), data, CPU, None).begun(batch, encoded, change, draws)
    assert true.before is change.before
    assert true.earlier is change.earlier
    assert not true.own.any()


def test_nothing_is_painted_where_a_change_starts_from_the_true_picture(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    it: Iterative = ITERATIVE.trainable(config(own_pictures=0.5, own_turns=1), data, CPU, None)
    batch = data.gather(rows_for(0, 0, BATCH, len(data)))
    change = drawn_change(batch, it.training, torch.tensor([[0.99, 0.99, 0.0]]).expand(BATCH, -1))
    paint, painted = it.average.next_picture, []

    def counted(encoded: Any, before: torch.Tensor, *others: torch.Tensor) -> Any:
        painted.append(len(before))
        return paint(encoded, before, *others)

    monkeypatch.setattr(it.average, "next_picture", counted)
    for seed in range(20):
        draws = Draws(seed, 0, BATCH, slice(0, BATCH))
        found = it.begun(batch, it.generator.encode(batch), change, draws)
        if 0 < found.own.sum() < BATCH:
            break
    assert painted[-1] == found.own.sum() < BATCH
    assert torch.equal(found.before[~found.own], change.before[~found.own])
    assert torch.equal(found.earlier[~found.own], change.earlier[~found.own])
    assert not torch.equal(found.before[found.own], change.before[found.own])


def test_changes_of_our_own_pictures_are_taught_without_a_game(data: TrainingData) -> None:
    it: Iterative = ITERATIVE.trainable(config(own_pictures=1.0), data, CPU, None)
    batch = data.gather(rows_for(0, 0, BATCH, len(data)))
    change = drawn_change(batch, it.training, torch.tensor([[0.99, 0.99, 0.0]]).expand(BATCH, -1))
    encoded = it.generator.encode(batch)
    begun = it.begun(batch, encoded, change, Draws(0, 0, BATCH, slice(0, BATCH)))
    begun = begun._replace(own=torch.ones(BATCH, dtype=torch.bool))
    told = new_turns(encoded[TURNS.name], change, begun)
    loss, _ = it.discriminator_loss(change, begun.before, begun, told)
    assert float(loss.detach()) == 0
    painted = it.generator.next_picture(
        encoded, begun.before, begun.earlier, torch.zeros(BATCH, 3), change.start, change.end
    )
    loss, figures = it.generator_loss(change, painted, begun, told)
    weights = {"l1": it.training.l1, "listening": it.training.listening, "carrying": it.training.carrying}
    torch.testing.assert_close(loss, sum(weight * figures[name] for name, weight in weights.items()))


def test_places_are_told_to_listen_where_the_picture_changes() -> None:
    stream = torch.Generator().manual_seed(3)
    before = torch.rand(2, 3, 16, 16, generator=stream, dtype=torch.float64)
    real = before.clone()
    real[0, 1, 3, 9] += 0.06  # of one colour, one pixel
    real[0, :, 12:, :2] -= 0.5
    real[1] += 0.04  # as pictures differ that show the same
    turns = 3
    shares = {
        side: torch.rand(2, 1 + 2 * turns, side, side, generator=stream, dtype=torch.float64).softmax(1)
        for side in (8, 16)
    }
    zero = torch.zeros(2, dtype=torch.long)
    found = listening_loss(shares, Change(zero, zero + 1, before, real, before), turns)

    expected = 0.0
    for side, maps in shares.items():
        cell, terms = 16 // side, []
        for b in range(2):
            for y in range(side):
                for x in range(side):
                    spot = (slice(None), slice(cell * y, cell * y + cell), slice(cell * x, cell * x + cell))
                    changes = bool(((real[b][spot] - before[b][spot]).abs() > 0.05).any())
                    listens = float(maps[b, 1:4, y, x].sum())
                    terms.append(-math.log((listens if changes else 1 - listens) + 1e-3))
        expected += sum(terms) / len(terms)
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_who_is_sure_and_wrong_still_learns_where_to_listen() -> None:
    shares = torch.zeros(1, 3, 8, 8, requires_grad=True)
    before, zero = torch.zeros(1, 3, 8, 8), torch.zeros(1, dtype=torch.long)
    listening_loss({8: shares}, Change(zero, zero + 1, before, before + 1, before), 1).backward()
    assert shares.grad is not None
    assert bool((shares.grad[:, 1] < 0).all())
    assert not shares.grad[:, [0, 2]].any()


def test_what_is_faint_is_no_change() -> None:
    """Our own pictures differ a little everywhere from those a turn earlier, true ones do not."""
    stream = torch.Generator().manual_seed(0)
    earlier = torch.rand(2, 3, 8, 8, generator=stream) - 0.5
    before = earlier.clone()
    before[:, :2, 2:4, 5] += torch.tensor([0.3, -0.05])[:, None]
    noise = 0.045 * (2 * torch.rand(before.shape, generator=stream) - 1)
    for painted in (noise, torch.zeros(())):
        change, size = recently(before + painted, earlier)
        seen = torch.zeros(8, 8, dtype=torch.bool)
        seen[2:4, 5] = True
        assert torch.equal(size[:, 0] > 0, seen.expand(2, -1, -1))
        assert not change[..., ~seen].any()
        assert torch.equal(change[..., seen], (before + painted - earlier)[..., seen])  # in all of their channels
        assert torch.equal(size[:, 0], change.abs().amax(1))


@pytest.mark.parametrize("recent", [False, True])
def test_what_changed_last_is_seen_where_networks_look_for_it(recent: bool, data: TrainingData) -> None:
    it: Iterative = ITERATIVE.trainable(
        config(networks={**SMALL_ITERATIVE["networks"], "recent": recent}), data, CPU, None
    )
    batch = data.gather(rows_for(0, 0, BATCH, len(data)))
    encoded = it.generator.eval().encode(batch)
    one, other = torch.zeros(2, BATCH, 3, 64, 64)
    other[:, :, 8:24, 8:24] = 0.5
    ends = torch.ones(BATCH, dtype=torch.long)
    noise = torch.zeros(BATCH, 3)
    first, second = (
        it.generator.next_picture(encoded, one, earlier, noise, ends, ends + 1).picture for earlier in (one, other)
    )
    assert torch.equal(first, second) is not recent
    first, second = (it.discriminator.eval()(one, one, earlier).regions for earlier in (one, other))
    assert torch.equal(first, second) is not recent


def test_a_film_remembers_the_picture_before_the_last(data: TrainingData) -> None:
    it: Iterative = ITERATIVE.trainable(
        config(networks={**SMALL_ITERATIVE["networks"], "recent": True}), data, CPU, None
    )
    batch = data.gather(rows_for(0, 0, BATCH, len(data)))
    network, noise = it.generator.eval(), torch.zeros(BATCH, 3)
    with torch.inference_mode():
        film = network.film(batch, noise)
        row = int(batch[TURNS.name + LENGTH].argmax())
        first = network.background.expand(BATCH, -1, -1, -1)
        shown = [first, first, *film.unbind(1)]
        for turn in range(int(batch[TURNS.name + LENGTH][row])):
            start = torch.full((BATCH,), turn)
            told = network.encode(batch)
            next_one = network.next_picture(told, shown[turn + 1], shown[turn], noise, start, start + 1).picture
            torch.testing.assert_close(film[row, turn], next_one[row])


@pytest.mark.parametrize("side", [8, 16])
def test_every_place_sees_every_other(side: int) -> None:
    see = SeeEachOther(4, side, 2)
    x = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(0)).requires_grad_()
    see(x)[0, :, 0, 0].sum().backward()
    assert x.grad is not None
    assert (x.grad[0].abs().sum(0) > 0).all()


def test_places_see_each_other_at_the_sides_that_are_named() -> None:
    def sides(**networks: Any) -> list[int]:
        values = {**SMALL_ITERATIVE["networks"], "widths": [2, 4, 6, 8], **networks}
        shape = params.build(Networks, values, "networks")
        modules = IterativeGenerator(generator_settings(shape, {CAPTIONS.name: 4, TURNS.name: 5})).drawer.modules()
        return [int(len(one.position) ** 0.5) for one in modules if isinstance(one, SeeEachOther)]

    assert sides() == [8]
    assert sides(see=[8, 16]) == [8, 16]
    assert sides(see=[16, 8], heads=0) == []


@pytest.mark.parametrize(("norm", "layers"), [("spectral", 0), ("group", 3)])
def test_the_discriminator_normalises_groups(norm: str, layers: int, data: TrainingData) -> None:
    it: Iterative = ITERATIVE.trainable(config(d_norm=norm), data, CPU, None)
    assert sum(isinstance(one, torch.nn.GroupNorm) for one in it.discriminator.modules()) == layers


def test_it_paints_what_it_is_shown(tmp_path: Path) -> None:
    """L1 alone, without a game: after some steps pictures are nearer to the true ones."""
    embeddings, images = write_training_stores(tmp_path, images=8, rounds=(2,), sizes=(76,))
    write_films(embeddings, images)
    settings = config(
        game=0.0, listening=0.0, matching={"pooled": 0.0, "single": 0.0, "hidden": 5}, g_lr=5e-3, own_pictures=0.0
    )
    data = TrainingData(ITERATIVE.inputs(settings), embeddings, images)
    it = ITERATIVE.trainable(settings, data, CPU, None)
    found: list[float] = []
    for step in range(40):
        batch = data.gather(rows_for(0, step * BATCH, BATCH, len(data)))
        it.step(batch, step * BATCH, 0, lambda values: found.extend([float(values["l1"])] if "l1" in values else []))
    assert sum(found[-5:]) < 0.6 * sum(found[:5])


def test_the_game_and_the_matching_teach_both_players(data: TrainingData) -> None:
    batch = data.gather(rows_for(0, 0, BATCH, len(data)))
    first, other = (ITERATIVE.trainable(config(**change), data, CPU, None) for change in ({}, {"game": 0.0}))
    for it in (first, other):
        it.step(batch, 0, 0, lambda values: None)
    assert same(first.discriminator.state_dict(), other.discriminator.state_dict())
    assert not same(first.generator.state_dict(), other.generator.state_dict())
    assert batch[TURN_PICTURES.name].dtype == torch.uint8


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"networks": {"size": 32}}, "widths: 32 x 32 takes 3 widths"),
        ({"networks": {"attention": {"tokens": "states"}}}, "earlier pictures know what is said later"),
        ({"networks": {"heads": 3}}, "heads must divide"),
        ({"networks": {"see": [4]}}, "see must name sides of features: 64, 32, 16, 8"),
        ({"networks": {"carry": 32}}, "carry must be 0 or one of networks.attention.sides, where places listen: 8, 16"),
        ({"listening": -1.0}, "a weight cannot be negative"),
        ({"own_turns": 0}, "own_turns must be at least 1"),
        ({"own_pictures": 2}, "shares, from 0 to 1"),
        ({"accumulate": 2, "batch": 8}, "accumulate must be 1"),
    ],
)
def test_what_cannot_work_is_refused(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ParamsError, match=complaint):
        ITERATIVE.configure({"iterative": values}, "params.yaml")
