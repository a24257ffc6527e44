"""Graph convolution, layout, crops and drawn relations against loops in float64 that share nothing with ours."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.systems.sg2im.graph import Graphs, GraphTripleConv, Pooling, draw_relations, join
from trainer.systems.sg2im.layout import crop, layout

GRAPHS = Graphs(
    torch.tensor([3, 1, 2, 0, 5, 0]),
    torch.tensor([[0, 1, 1], [2, 4, 0], [1, 6, 2], [0, 0, 3], [0, 2, 1], [4, 0, 5]]),
    torch.tensor([0, 0, 0, 0, 1, 1]),
    pictures=2,
)


def through(net: torch.nn.Sequential, vector: np.ndarray) -> np.ndarray:
    """Linear layers, each with ReLU, one number at a time."""
    for layer in net:
        if isinstance(layer, torch.nn.Linear):
            weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
            vector = np.array([max(0.0, sum(w * x for w, x in zip(row, vector)) + b) for row, b in zip(weight, bias)])
    return vector


@pytest.mark.parametrize("pooling", ["avg", "sum"])
def test_graph_convolution(pooling: Pooling) -> None:
    torch.manual_seed(0)
    ours = GraphTripleConv(3, 4, 5, pooling).double()
    objects, predicates = torch.randn(6, 3).double(), torch.randn(6, 3).double()
    subject, _, object_ = GRAPHS.triples.unbind(1)
    got, said = ours(objects, predicates, subject, object_)
    candidates: dict[int, list[np.ndarray]] = {number: [] for number in range(6)}
    for number, (s, _, o) in enumerate(GRAPHS.triples.tolist()):
        made = through(ours.net1, np.concatenate([objects[s], predicates[number], objects[o]]))
        candidates[s].append(made[:5])
        candidates[o].append(made[9:])
        np.testing.assert_allclose(said[number].detach(), made[5:9], atol=1e-12)
    for number, found in candidates.items():
        pooled = sum(found, np.zeros(5)) / (max(1, len(found)) if pooling == "avg" else 1)
        np.testing.assert_allclose(got[number].detach(), through(ours.net2, pooled), atol=1e-12)
    assert got.abs().max() > 0.1


def test_an_object_in_no_triple_hears_nothing() -> None:
    ours = GraphTripleConv(3, 4, 5).double()
    none = torch.zeros(0, dtype=torch.int64)
    got, said = ours(torch.randn(2, 3).double(), torch.zeros(0, 3).double(), none, none)
    np.testing.assert_allclose(got.detach(), [through(ours.net2, np.zeros(5))] * 2, atol=1e-12)
    assert said.shape == (0, 4)


def bilinear(picture: np.ndarray, x: float, y: float) -> float:
    """The value at column x and row y (0 is the first's centre); beyond the edge there is nothing."""
    total = 0.0
    for row, column in itertools.product((math.floor(y), math.floor(y) + 1), (math.floor(x), math.floor(x) + 1)):
        if 0 <= row < picture.shape[0] and 0 <= column < picture.shape[1]:
            total += picture[row, column] * (1 - abs(x - column)) * (1 - abs(y - row))
    return total


def laid_out(vectors: np.ndarray, boxes: np.ndarray, masks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    out = np.zeros((2, vectors.shape[1], *size))
    side = masks.shape[1]
    for o, image in enumerate(GRAPHS.image.tolist()):
        x0, y0, x1, y1 = boxes[o]
        for row, column in itertools.product(range(size[0]), range(size[1])):
            x = (column / (size[1] - 1) - x0) / (x1 - x0) * (side - 1)
            y = (row / (size[0] - 1) - y0) / (y1 - y0) * (side - 1)
            out[image, :, row, column] += vectors[o] * bilinear(masks[o], x, y)
    return out


BOXES = torch.tensor(
    [[0.1, 0.2, 0.6, 0.9], [0.5, 0, 1, 0.4], [-0.2, 0.3, 0.3, 1.4], [0, 0, 1, 1], [0.8, 0.7, 0.3, 0.1], [0, 0, 1, 1]]
).double()


@pytest.mark.parametrize("masked", [True, False])
def test_layout(masked: bool) -> None:
    torch.manual_seed(1)
    vectors, masks = (
        torch.randn(6, 2).double(),
        torch.rand(6, 5, 5).double() if masked else torch.ones(6, 8, 8).double(),
    )
    got = layout(GRAPHS, vectors, BOXES, masks if masked else None, (6, 7))
    np.testing.assert_allclose(got, laid_out(vectors.numpy(), BOXES.numpy(), masks.numpy(), (6, 7)), atol=1e-12)


def test_the_whole_pictures_object_is_everywhere() -> None:
    alone = Graphs(torch.tensor([0]), torch.zeros(0, 3, dtype=torch.int64), torch.tensor([0]), 1)
    got = layout(alone, torch.tensor([[2.0, -3.0]]), torch.tensor([[0.0, 0, 1, 1]]), torch.ones(1, 16, 16), (9, 9))
    torch.testing.assert_close(got, torch.tensor([2.0, -3.0])[None, :, None, None].expand(1, 2, 9, 9))
    half = layout(alone, torch.ones(1, 1), torch.tensor([[0.0, 0, 0.5, 1]]), torch.ones(1, 16, 16), (9, 9))
    assert half[0, 0, 4].tolist() == pytest.approx([1, 1, 1, 1, 1, 0, 0, 0, 0], abs=1e-5)


def test_a_box_without_extent_takes_nothing_down() -> None:
    boxes = torch.zeros(6, 4, requires_grad=True)
    got = layout(GRAPHS, torch.ones(6, 2), boxes, torch.ones(6, 4, 4), (5, 5))
    got.sum().backward()
    assert got.isfinite().all()
    assert boxes.grad.isfinite().all()


def test_a_graph_of_nothing_lays_nothing_out() -> None:
    objects = torch.zeros(0, dtype=torch.int64)
    none = Graphs(objects, torch.zeros(0, 3, dtype=torch.int64), objects, pictures=2)
    got = layout(none, torch.zeros(0, 3), torch.zeros(0, 4), torch.zeros(0, 4, 4), (5, 6))
    assert torch.equal(got, torch.zeros(2, 3, 5, 6))


def test_crops() -> None:
    torch.manual_seed(2)
    pictures = torch.randn(2, 2, 6, 5).double()
    got = crop(pictures, BOXES, GRAPHS.image, (4, 3))
    for o, image in enumerate(GRAPHS.image.tolist()):
        x0, y0, x1, y1 = BOXES[o].tolist()
        for channel, row, column in itertools.product(range(2), range(4), range(3)):
            x, y = (x0 + (x1 - x0) * column / 2) * 4, (y0 + (y1 - y0) * row / 3) * 5
            assert float(got[o, channel, row, column]) == pytest.approx(
                bilinear(pictures[image, channel].numpy(), x, y), abs=1e-12
            )


def test_the_whole_box_is_the_picture_itself() -> None:
    pictures = torch.randn(2, 3, 8, 8)
    whole = torch.tensor([[0.0, 0, 1, 1]] * 2)
    torch.testing.assert_close(crop(pictures, whole, torch.tensor([1, 0]), 8), pictures.flip(0))


def padded(counts: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pictures of so many objects, `__image__` included, with a relation of its own number for each ordered pair."""
    triples = [
        [[s, 1 + 10 * s + o, o] for s in range(n - 1) for o in range(n - 1) if s != o]
        + [[s, 0, n - 1] for s in range(n - 1)]
        for n in counts
    ]
    most = max(map(len, triples))
    told = torch.arange(most) < torch.tensor([len(one) for one in triples])[:, None]
    rows = [one + [[0, 0, 0]] * (most - len(one)) for one in triples]
    objects = torch.tensor([[*range(1, n), 0, *[7] * (max(counts) - n)] for n in counts])
    return objects, torch.tensor(counts), torch.tensor(rows).view(len(counts), most, 3), told


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(0, 1000))
def test_one_relation_is_drawn_for_each_object(counts: list[int], seed: int) -> None:
    objects, lengths, triples, told = padded(counts)
    draws = torch.rand(len(counts), max(counts), 2, generator=torch.Generator().manual_seed(seed))
    graphs = join(objects, lengths, *draw_relations(triples.short(), told, lengths, draws))
    first = [0, *itertools.accumulate(counts)]
    assert graphs.objects.tolist() == [number for n in counts for number in (*range(1, n), 0)]
    assert graphs.image.tolist() == [image for image, n in enumerate(counts) for _ in range(n)]
    expected: Counter[tuple[int, int, int]] = Counter()
    for image, n in enumerate(counts):
        for i in range(n - 1):
            expected[first[image] + i, 0, first[image] + n - 1] += 1
            if n > 2:
                j = int(draws[image, i, 0] * (n - 2))
                j += j >= i
                s, o = (i, j) if draws[image, i, 1] < 0.5 else (j, i)
                expected[first[image] + s, 1 + 10 * s + o, first[image] + o] += 1
    assert Counter(map(tuple, graphs.triples.tolist())) == expected


def test_every_other_object_is_as_likely_and_either_way() -> None:
    _, lengths, triples, told = padded([5])
    draws = torch.rand(4000, 5, 2, generator=torch.Generator().manual_seed(0))
    many = triples.expand(4000, -1, -1), told.expand(4000, -1)
    drawn, there = draw_relations(*many, lengths.expand(4000), draws)
    pairs = Counter(map(tuple, drawn[:, 0].tolist()))  # what the first object was given
    assert len(pairs) == 6
    assert all(abs(count / 4000 - 1 / 6) < 0.03 for count in pairs.values())
    assert there.sum(1).tolist() == [8] * 4000


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5))
def test_padding_comes_and_goes(counts: list[int]) -> None:
    objects = torch.arange(len(counts) * 5).view(-1, 5)
    graphs = join(objects, torch.tensor(counts), torch.zeros(len(counts), 0, 3), torch.zeros(len(counts), 0).bool())
    rows = graphs.padded(graphs.objects[:, None] + 1)
    assert rows.shape[:2] == (len(counts), max(counts))
    for image, n in enumerate(counts):
        assert rows[image, :, 0].tolist() == [*(objects[image, :n] + 1).tolist(), *[0] * (max(counts) - n)]
