"""Scene graphs as tensors, and convolution over them (Johnson et al., 2018, section 3; google/sg2im, graph.py)."""

import itertools
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

Pooling = Literal["avg", "sum"]

IMAGE = 0
"""Class of the object `__image__`, which every graph ends with: the whole picture."""
IN_IMAGE = 0
"""Predicate `__in_image__`, which ties every other object of a graph to its `__image__`."""


class Graphs(NamedTuple):
    """Graphs of b pictures side by side. o: their objects; t: their triples."""

    objects: Tensor  # (o,) int64, classes
    triples: Tensor  # (t, 3) int64: subject (a row of `objects`), predicate, object (a row of `objects`)
    image: Tensor  # (o,) int64, which picture an object belongs to, ascending
    pictures: int  # b

    @property
    def slots(self) -> Tensor:
        """(o,) an object's place among those of its picture, from 0 on."""
        first = torch.searchsorted(self.image, self.image)
        return torch.arange(len(self.image), device=self.image.device) - first

    def padded(self, rows: Tensor) -> Tensor:
        """(o, …) one row an object → (b, most objects of a picture, …), zeros behind each picture's last."""
        slots = self.slots
        most = int(slots.max()) + 1 if len(slots) else 0
        out = rows.new_zeros(self.pictures, most, *rows.shape[1:])
        return out.index_put((self.image, slots), rows)


def join(objects: Tensor, lengths: Tensor, triples: Tensor, told: Tensor) -> Graphs:
    """Graphs of padded rows side by side.

    Args:
        objects: (b, n) classes, of which the first `lengths` (b,) are real; `__image__` is the last of them.
        triples: (b, m, 3) subject, predicate, object, both ends by their row within the picture.
        told: (b, m) bool, which of them are real.
    """
    real = torch.arange(objects.shape[1], device=objects.device) < lengths[:, None]
    first = lengths.cumsum(0) - lengths
    said = triples.long() + first[:, None, None] * triples.new_tensor([1, 0, 1], dtype=torch.int64)
    return Graphs(objects[real].long(), said[told], real.nonzero()[:, 0], len(objects))


def draw_relations(triples: Tensor, told: Tensor, lengths: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """One relation for each object, as sg2im draws them: with any other object, either of them the subject.

    Args:
        triples, told: as `join` reads them, with a relation for every ordered pair of a picture's own objects.
        lengths: (b,) objects, `__image__` included.
        draws: (b, n, 2) uniform in [0, 1): of each object which other one, and in which direction.

    Returns:
        (b, 2 n, 3) and (b, 2 n): the drawn relations (none where there is no other object), then `__in_image__`.
    """
    b, n = draws.shape[:2]
    each, own = torch.arange(n, device=triples.device), (lengths - 1)[:, None]  # the last object is __image__
    table = triples.new_zeros(b, n + 1, n + 1, dtype=torch.int64)
    # What is not told goes to a place that no pair has.
    subject, predicate, object_ = torch.where(told[:, :, None], triples.long(), n).unbind(2)
    row = torch.arange(b, device=triples.device)[:, None]
    table[row, subject, object_] = torch.where(told, predicate, 0)
    other = (draws[:, :, 0] * (own - 1).clamp(min=1)).long()
    other = other + (other >= each)
    forth = draws[:, :, 1] < 0.5
    mine, other = each.expand(b, n), other.clamp(max=n)
    subject, object_ = torch.where(forth, mine, other), torch.where(forth, other, mine)
    drawn = torch.stack([subject, table[row, subject, object_], object_], 2)
    belongs = torch.stack([mine, torch.full_like(mine, IN_IMAGE), own.expand(b, n)], 2)
    there = each < own
    return torch.cat([drawn, belongs], 1), torch.cat([there & (own > 1), there], 1)


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers of these widths, each followed by ReLU, the last one too: (n, first) → (n, last)."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class GraphTripleConv(nn.Module):
    """One layer: every triple makes a new predicate and a candidate for each of its ends; objects pool theirs."""

    def __init__(self, inputs: int, outputs: int, hidden: int, pooling: Pooling = "avg") -> None:
        super().__init__()
        self.hidden, self.pooling = hidden, pooling
        self.net1 = mlp(3 * inputs, hidden, 2 * hidden + outputs)
        self.net2 = mlp(hidden, hidden, outputs)
        self.apply(_initialise)

    def forward(self, objects: Tensor, predicates: Tensor, subject: Tensor, object_: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors of objects (o, inputs) and triples (t, inputs), rows of both ends (t,) → (o, outputs), (t, outputs).

        An object that is in no triple pools nothing: zeros enter `net2`.
        """
        first, second = objects.index_select(0, subject), objects.index_select(0, object_)
        made = self.net1(torch.cat([first, predicates, second], 1))
        as_subject, predicates, as_object = made.split(
            [self.hidden, made.shape[1] - 2 * self.hidden, self.hidden], dim=1
        )
        pooled = made.new_zeros(len(objects), self.hidden)
        pooled = pooled.index_add(0, subject, as_subject).index_add(0, object_, as_object)
        if self.pooling == "avg":
            ends = torch.cat([subject, object_])
            pooled = pooled / ends.bincount(minlength=len(objects)).clamp(min=1).to(pooled.dtype)[:, None]
        return self.net2(pooled), predicates


class GraphTripleConvNet(nn.Module):
    """Layers one after the other, none skipped."""

    def __init__(self, width: int, layers: int, hidden: int, pooling: Pooling = "avg") -> None:
        super().__init__()
        self.gconvs = nn.ModuleList(GraphTripleConv(width, width, hidden, pooling) for _ in range(layers))

    def forward(self, objects: Tensor, predicates: Tensor, subject: Tensor, object_: Tensor) -> tuple[Tensor, Tensor]:
        """As `GraphTripleConv`, the width unchanged."""
        for layer in self.gconvs:
            objects, predicates = layer(objects, predicates, subject, object_)
        return objects, predicates


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.kaiming_normal_(module.weight)
