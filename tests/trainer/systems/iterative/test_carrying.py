"""What places take over from other places, and how they learn from where, against the sums written out."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from store import params
from tests.support.models import SMALL_ITERATIVE
from tests.support.written_out import at, dot, layer_norm, linear, softmax, two_layers
from trainer.feed.inputs import CAPTIONS, LENGTH, TURNS
from trainer.systems.iterative.carrying import Carrying
from trainer.systems.iterative.config import Networks
from trainer.systems.iterative.networks import IterativeGenerator, generator_settings
from trainer.systems.iterative.taught import carrying_loss

CHANNELS, SIDE, WIDTH = 3, 4, 5
PLACES = [(y, x) for y in range(SIDE) for x in range(SIDE)]


@pytest.mark.parametrize("pictures", [1, 2])
def test_it_is_the_sum_written_out(pictures: int) -> None:
    torch.manual_seed(0)
    module = Carrying(CHANNELS, SIDE, WIDTH, pictures).double().requires_grad_(False)
    module.going.fill_(0.7)
    x, old = torch.randn(2, 2, CHANNELS, SIDE, SIDE, dtype=torch.float64)
    listens = torch.rand(2, SIDE, SIDE, dtype=torch.float64)
    found, shares = module(x, old, listens)
    for b in range(2):
        asked = [layer_norm(module.norm_old, at(old + module.position, b, *place)) for place in PLACES]
        asking = [layer_norm(module.norm, at(x + module.position, b, *place)) for place in PLACES]
        keys = [linear(layer, [*one, *told]) for layer in module.keys for one, told in zip(asked, asking, strict=True)]
        goes = [0.7 * math.log(float(listens[b, y, x]) + 1e-3) for y, x in PLACES] + [0.0] * len(PLACES)
        values = [linear(layer, one) for layer in module.values for one in asked]
        for number, place in enumerate(PLACES):
            query = two_layers(module.query, asking[number])
            mine = softmax([dot(query, key) / math.sqrt(WIDTH) + more for key, more in zip(keys, goes)])
            assert shares[b, number].tolist() == pytest.approx(mine, rel=1e-10)
            carried = [dot(mine, channel) for channel in zip(*values, strict=True)]
            expected = [a + more for a, more in zip(at(x, b, *place), carried, strict=True)]
            assert at(found, b, *place) == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_the_loss_is_the_cross_entropy_written_out_place_by_place() -> None:
    stream = torch.Generator().manual_seed(3)
    before = torch.rand(3, 3, 8, 8, generator=stream, dtype=torch.float64)
    real = before.clone()
    real[0, :, :2, :2], real[0, :, 4:6, 2:4] = before[0, :, 4:6, 2:4], before[0, :, :2, :2]  # two places swapped
    real[1, :, :4, :2] = before[1, :, 4:, 4:6]  # moved, and little changed on the way
    real[1, :, :4, :2] += 0.01 * torch.randn(3, 4, 2, generator=stream, dtype=torch.float64)
    real[1, :, 4:, 4:6] = -1.0
    real[1, :, :2, 4:6] = before[1, :, 2:4, 2:4]  # one more of what stays where it is
    real[1, :, 6:, 6:] = -1.0  # like nothing that was there
    before[1, :, 6:, :2] = before[1, :, 4:6, 4:6]  # one more of what goes stays where it is
    real[1, :, 6:, :2] = before[1, :, 6:, :2]
    real[2] += 0.01  # changes too little
    earlier = before.clone()
    earlier[2, :, 2:4, :2] = real[2, :, :2, 6:] = 0.9  # comes back
    shares = torch.rand(3, 16, 32, generator=stream, dtype=torch.float64).softmax(2)

    def apart(one: Tensor, other: Tensor) -> float:
        return float((one - other).abs().sum()) / one.numel()

    terms, weights = [], []
    for b in range(3):
        olds, gone, news = (
            [picture[b, :, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2] for y, x in PLACES]
            for picture in (before, earlier, real)
        )
        for place, new in enumerate(news):
            far = [apart(new, old) for old in olds + gone]
            here = far[place]
            left = [apart(news[q], olds[q]) for q in range(16)] + [apart(olds[q], gone[q]) for q in range(16)]
            stays = sum(math.exp(-far[q] / 0.05) for q in range(16) if left[q] <= 0.05)
            far = [each if change > 0.05 else math.inf for each, change in zip(far, left, strict=True)]
            if here > 0.05 and min(far) < here / 2:
                right = sum(float(shares[b, place, q]) * math.exp((min(far) - far[q]) / 0.05) for q in range(32))
                terms.append(-math.log(right + 1e-3))
                weights.append(1 / (1 + stays))
    assert len(terms) == 2 + 2 + 1
    assert [weight < 0.7 for weight in weights] == [False, False, True, False, False]
    mean = sum(weight * term for weight, term in zip(weights, terms, strict=True)) / sum(weights)
    assert float(carrying_loss(shares, real, before, earlier)) == pytest.approx(mean, rel=1e-10)


def test_where_nothing_is_carried_nothing_is_lost() -> None:
    before = torch.zeros(1, 3, 8, 8)
    shares = torch.full((1, 16, 16), 1 / 16, requires_grad=True)
    for real in (before, before + 1):
        loss = carrying_loss(shares, real, before)
        loss.backward()
        assert float(loss.detach()) == 0
        assert shares.grad is not None
        assert not shares.grad.any()


def test_a_swap_is_learned_from_its_pictures_alone() -> None:
    """Eight colours in two rows; who stands at which two places of the upper one both hear."""
    torch.manual_seed(0)
    module = Carrying(16, 8, 16, 1)
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    swaps = list(itertools.combinations(range(4), 2))
    losses = []
    for step in range(150):
        chosen = [swaps[n] for n in torch.randint(len(swaps), (16,), generator=torch.Generator().manual_seed(step))]
        colours = torch.rand(16, 3, 2, 4, generator=torch.Generator().manual_seed(1000 + step)) * 2 - 1
        after, told = colours.clone(), torch.zeros(16, 4, 8, 8)
        for b, (one, other) in enumerate(chosen):
            after[b, :, 0, one], after[b, :, 0, other] = colours[b, :, 0, other], colours[b, :, 0, one]
            told[b, one], told[b, other] = 1, 1
        before, real = (picture.repeat_interleave(16, 2).repeat_interleave(8, 3) for picture in (colours, after))
        old = torch.nn.functional.avg_pool2d(before, 4)
        features = torch.cat([old, told, torch.zeros(16, 9, 8, 8)], 1)
        _, shares = module(features, torch.cat([old, torch.zeros(16, 13, 8, 8)], 1), told.amax(1))
        loss = carrying_loss(shares, real, before)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 1.2
    assert sum(losses[-20:]) / 20 < 0.3


@pytest.mark.parametrize("recent", [False, True])
@pytest.mark.parametrize("side", [8, 16, 32])
def test_a_painter_carries_where_it_is_told_to(side: int, recent: bool) -> None:
    def carried(carry: int) -> Tensor | None:
        listening = {"width": 6, "sides": [8, 16, 32]}
        given = {**SMALL_ITERATIVE["networks"], "carry": carry, "recent": recent, "attention": listening}
        networks = params.build(Networks, given, "networks")
        painter = IterativeGenerator(generator_settings(networks, {CAPTIONS.name: 4, TURNS.name: 5})).eval()
        rounds = torch.tensor([2])
        encoded = painter.encode(
            {CAPTIONS.name: torch.zeros(1, 4), TURNS.name: torch.zeros(1, 2, 5), TURNS.name + LENGTH: rounds}
        )
        white = torch.ones(1, 3, 64, 64)
        return painter.next_picture(encoded, white, white, torch.zeros(1, 3), rounds - 2, rounds - 1).carried

    assert carried(0) is None
    shares = carried(side)
    assert shares is not None
    assert shares.shape == (1, side**2, side**2 * (1 + recent))
    assert shares.sum(2)[0].tolist() == pytest.approx([1.0] * side**2, rel=1e-5)
