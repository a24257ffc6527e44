"""Attention of places to tokens against sums written out in float64: any number of tokens, bfloat16, compiled."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.networks.attention import PlaceAttention, TokenProjection, Tokens, first, one_each, waves

CHANNELS, SIDE, WIDTH = 5, 3, 4


def place_attention(seed: int = 0, modulates: bool = False) -> PlaceAttention:
    torch.manual_seed(seed)
    module = PlaceAttention(CHANNELS, SIDE, WIDTH, modulates)
    for parameter in module.parameters():  # silence and biases begin at 0, where a mistake in them would not show
        torch.nn.init.normal_(parameter)
    return module


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_hand(module: PlaceAttention, x: Tensor, keys: Tensor, values: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """One place after the other, one token after the other."""
    w = {name: value.double() for name, value in module.state_dict().items()}
    x, keys, values = x.double(), keys.double(), values.double()
    out, attention = x.clone(), torch.zeros(len(x), keys.shape[1], SIDE, SIDE, dtype=torch.float64)
    for b in range(len(x)):
        for row in range(SIDE):
            for column in range(SIDE):
                place = x[b, :, row, column] + w["position"][:, row, column]
                query = [
                    sum(w["query.weight"][i, c] * place[c] for c in range(CHANNELS)) + w["query.bias"][i]
                    for i in range(WIDTH)
                ]
                weights: dict[int | None, Any] = {}
                weights[None] = math.exp(sum(q * s for q, s in zip(query, w["silence"])) / math.sqrt(WIDTH))
                for t in range(keys.shape[1]):
                    if there[b, t]:
                        weights[t] = math.exp(sum(q * k for q, k in zip(query, keys[b, t])) / math.sqrt(WIDTH))
                said = torch.zeros(WIDTH, dtype=torch.float64)
                for t, weight in weights.items():
                    if t is not None:
                        value = values[b, t]
                        normal = (value - value.mean()) / torch.sqrt(((value - value.mean()) ** 2).mean() + 1e-5)
                        attention[b, t, row, column] = weight / sum(weights.values())
                        said += attention[b, t, row, column] * (normal * w["norm.weight"] + w["norm.bias"])
                heard = [
                    sum(w["out.weight"][c, i] * said[i] for i in range(WIDTH)) + w["out.bias"][c]
                    for c in range(len(w["out.bias"]))
                ]
                for c in range(CHANNELS):
                    scale = 1 + heard[CHANNELS + c] if module.modulates else 1
                    out[b, c, row, column] = out[b, c, row, column] * scale + heard[c]
    return out, attention


@pytest.mark.parametrize("modulates", [False, True])
@pytest.mark.parametrize("longest", [0, 1, 6])
def test_it_is_the_sum_written_out(longest: int, modulates: bool) -> None:
    module = place_attention(modulates=modulates)
    there = torch.rand(3, longest, generator=torch.Generator().manual_seed(4)) < 0.6
    inputs = draw(3, CHANNELS, SIDE, SIDE), draw(3, longest, WIDTH, seed=2), draw(3, longest, WIDTH, seed=3), there
    x, attention = module(*inputs)
    wanted, weights = by_hand(module, *inputs)
    torch.testing.assert_close(x.double(), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(attention.double(), weights, rtol=1e-5, atol=1e-6)


def test_what_is_not_there_is_not_heard_and_learns_nothing() -> None:
    module, there = place_attention(), first(torch.tensor([2, 0, 4]), 4)
    x = draw(3, CHANNELS, SIDE, SIDE)
    keys, values = draw(3, 4, WIDTH, seed=2).requires_grad_(), draw(3, 4, WIDTH, seed=3).requires_grad_()
    quiet, attention = module(x, keys, values, there)
    assert attention.sum(1).max() < 1
    assert attention[~there].eq(0).all()
    loud, _ = module(
        x,
        keys.detach().masked_fill(~there[..., None], 1e4),
        values.detach().masked_fill(~there[..., None], -1e4),
        there,
    )
    assert torch.equal(quiet, loud)
    quiet.square().sum().backward()
    for gradient in (keys.grad, values.grad):
        assert gradient is not None
        assert gradient[~there].eq(0).all()
        assert gradient[there].ne(0).any(1).all()


@pytest.mark.parametrize("longest", [0, 4])
def test_where_nothing_was_said_every_place_gets_the_same_constant(longest: int) -> None:
    module, x = place_attention(), draw(2, CHANNELS, SIDE, SIDE).requires_grad_()
    nothing = draw(2, longest, WIDTH), draw(2, longest, WIDTH), torch.zeros(2, longest, dtype=torch.bool)
    out, attention = module(x, *nothing)
    assert attention.shape == (2, longest, SIDE, SIDE)
    torch.testing.assert_close(out - x, module.out.bias[None, :, None, None].expand_as(x))
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


def test_a_place_listens_to_the_token_whose_key_answers_its_position() -> None:
    module = PlaceAttention(CHANNELS, SIDE, WIDTH)
    with torch.no_grad():
        module.query.weight.copy_(torch.eye(WIDTH, CHANNELS))
        module.query.bias.zero_()
        module.position.zero_()
        module.position[0, 0, 2], module.position[1, 2, 1] = 20.0, 20.0
    keys = torch.eye(WIDTH)[None, :2] * 20
    _, attention = module(torch.zeros(1, CHANNELS, SIDE, SIDE), keys, keys, torch.ones(1, 2, dtype=torch.bool))
    assert attention[0, 0, 0, 2] > 0.99
    assert attention[0, 1, 2, 1] > 0.99
    torch.testing.assert_close(
        attention[0, :, 1, 1], torch.full((2,), 1 / 3)
    )  # nobody spoke to it: silence counts as one


def test_the_order_of_tokens_does_not_matter() -> None:
    module, x, keys, values = (
        place_attention(),
        draw(2, CHANNELS, SIDE, SIDE),
        draw(2, 5, WIDTH),
        draw(2, 5, WIDTH, seed=3),
    )
    there, order = first(torch.tensor([5, 3]), 5), torch.tensor([3, 0, 4, 1, 2])
    one, a = module(x, keys, values, there)
    two, b = module(x, keys[:, order], values[:, order], there[:, order])
    torch.testing.assert_close(one, two)
    torch.testing.assert_close(a[:, order], b)


def test_each_kind_of_token_has_its_own_layer_and_they_stand_side_by_side() -> None:
    torch.manual_seed(0)
    module = TokenProjection({"caption": 3, "turns": 2}, WIDTH)
    caption, turns = draw(2, 3), draw(2, 4, 2)
    tokens = {"turns": Tokens(turns, first(torch.tensor([4, 1]), 4)), "caption": one_each(caption)}
    found = module(tokens).double()
    assert found.shape == (2, 5, WIDTH)
    for name, columns, vectors in (("caption", slice(0, 1), caption[:, None]), ("turns", slice(1, 5), turns)):
        layer: Any = module.kinds[name]
        wanted = torch.einsum("btd,wd->btw", vectors.double(), layer.weight.double()) + layer.bias.double()
        torch.testing.assert_close(found[:, columns], wanted, rtol=1e-5, atol=1e-6)
    assert module.there(tokens).tolist() == [[True] * 5, [True, True, False, False, False]]


def test_bfloat16_is_near_float32_and_the_picture_keeps_its_precision() -> None:
    module, there = place_attention(), first(torch.tensor([6, 2, 0]), 6)
    inputs = draw(3, CHANNELS, SIDE, SIDE), draw(3, 6, WIDTH, seed=2), draw(3, 6, WIDTH, seed=3), there
    exact, weights = module(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        x, attention = module(*inputs)
    assert attention.dtype == torch.float32
    torch.testing.assert_close(attention, weights, rtol=0.05, atol=0.03)
    torch.testing.assert_close(x.float(), exact, rtol=0.05, atol=0.1)


def test_channels_last_and_compiled_are_the_same() -> None:
    module, there = place_attention(), first(torch.tensor([6, 2, 0]), 6)
    x, *rest = draw(3, CHANNELS, SIDE, SIDE), draw(3, 6, WIDTH, seed=2), draw(3, 6, WIDTH, seed=3), there
    plain = module(x, *rest)
    torch.testing.assert_close(module(x.contiguous(memory_format=torch.channels_last), *rest), plain)
    compiled = torch.compile(module, backend="eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(compiled(x, *rest), plain)


def test_waves_are_made_where_linspace_is_left_out_of_device_contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils import _device

    known = _device._device_constructors()
    monkeypatch.setattr(_device, "_device_constructors", lambda: known - {torch.linspace})
    with torch.device("meta"):
        assert torch.linspace(0, 1, 2).device.type == "cpu"
        assert waves(4, 2).device.type == "meta"


def test_waves_are_alike_where_places_are_near() -> None:
    torch.manual_seed(5)
    places = torch.nn.functional.normalize(waves(64, 8), dim=0)
    alike = torch.einsum("chw,cyx->hwyx", places, places)
    near = torch.stack([alike[y, x, y, x + 1] for y in range(8) for x in range(7)])
    assert near.min() > 0.5
    for y, x in ((0, 0), (3, 4), (7, 2)):
        # Nowhere else is as alike as the place itself.
        others = alike[y, x].flatten().topk(2).values
        assert others[0] == alike[y, x, y, x]
        assert others[1] < 0.98
    assert alike[0, 0, 7, 7] < near.min()
