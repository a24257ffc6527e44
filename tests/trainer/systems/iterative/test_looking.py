"""What turns see of the picture that they speak of, against the sums written out."""

import math

import pytest
import torch
from torch import Tensor

from store import params
from tests.support.models import SMALL_ITERATIVE
from tests.support.written_out import at, dot, layer_norm, linear, softmax, two_layers
from trainer.feed.inputs import CAPTIONS, TURNS
from trainer.networks.attention import Heard
from trainer.systems.iterative.config import Networks
from trainer.systems.iterative.looking import Looking
from trainer.systems.iterative.networks import IterativeGenerator, generator_settings

CHANNELS, SIDE, WIDTH, HEADS = 3, 4, 6, 2


def looking() -> Looking:
    torch.manual_seed(0)
    return Looking(CHANNELS, SIDE, WIDTH, HEADS).double().requires_grad_(False)


def said(batch: int = 2, tokens: int = 3) -> Heard:
    stream = torch.Generator().manual_seed(1)
    keys, values = torch.randn(2, batch, tokens, WIDTH, generator=stream, dtype=torch.float64)
    return Heard(keys, values, torch.ones(batch, tokens, dtype=torch.bool))


def picture(batch: int = 2) -> Tensor:
    return torch.randn(batch, CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def test_it_is_the_sum_written_out() -> None:
    module, heard, x = looking(), said(), picture()
    found = module(x, heard)
    assert torch.equal(found.there, heard.there)
    for b in range(2):
        places = []
        for y in range(SIDE):
            for z in range(SIDE):
                both = linear(module.key_value, layer_norm(module.norm, at(x + module.position, b, y, z)))
                places.append((both[:WIDTH], both[WIDTH:]))
        for t in range(3):
            key, value = heard.keys[b, t].tolist(), heard.values[b, t].tolist()
            query, seen, part = linear(module.query, key), [], WIDTH // HEADS
            for head in range(HEADS):
                mine = slice(head * part, (head + 1) * part)
                fits = [dot(query[mine], one[mine]) / math.sqrt(part) for one, _ in places]
                for c in range(part):
                    seen.append(sum(s * one[mine][c] for s, (_, one) in zip(softmax(fits), places, strict=True)))
            for name, before, layers in (("keys", key, module.to_keys), ("values", value, module.to_values)):
                expected = [a + more for a, more in zip(before, two_layers(layers, before + seen), strict=True)]
                assert getattr(found, name)[b, t].tolist() == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_what_is_seen_depends_on_every_place_and_on_no_other_token() -> None:
    module, heard, x = looking(), said(1), picture(1).requires_grad_()
    keys = heard.keys.clone().requires_grad_()
    module(x, heard._replace(keys=keys)).values[0, 1].sum().backward()
    assert x.grad is not None
    assert keys.grad is not None
    assert bool((x.grad[0].abs().sum(0) > 0).all())
    assert (keys.grad[0].abs().sum(1) > 0).tolist() == [False, True, False]


def networks(look: int) -> Networks:
    return params.build(Networks, {**SMALL_ITERATIVE["networks"], "look": look}, "networks")


def test_a_painter_looks_where_it_is_told_to() -> None:
    def count(look: int) -> int:
        painter = IterativeGenerator(generator_settings(networks(look), {CAPTIONS.name: 4, TURNS.name: 5}))
        return sum(isinstance(one, Looking) for one in painter.modules())

    assert [count(0), count(2)] == [0, 1]


@pytest.mark.parametrize("heads", [-1, 4])
def test_heads_divide_the_width(heads: int) -> None:
    with pytest.raises(ValueError, match=r"networks\.look must divide networks\.attention\.width"):
        Networks(**{**networks(0).__dict__, "look": heads})
