"""The matching head against sums written out in float64, over ranks, with missing tokens, in bfloat16, compiled."""

import math
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from tests.support.threads import one_thread
from trainer.networks.attention import Tokens, first
from trainer.networks.matching import HIGHEST_SCALE, MatchingHead, MatchingLosses, pool, token_scores

DIMS = {"caption": 5, "turns": 3}
SIDE, CHANNELS, WIDTH = 2, 6, 4


def head(seed: int = 0, **settings: Any) -> MatchingHead:
    torch.manual_seed(seed)
    return MatchingHead(CHANNELS, SIDE, DIMS, WIDTH, **settings)


def texts(counts: list[int], captions: bool = True, longest: int = 4, seed: int = 1) -> dict[str, Tokens]:
    stream = torch.Generator().manual_seed(seed)
    b = len(counts)
    turns = torch.randn(b, longest, DIMS["turns"], generator=stream)
    caption = torch.randn(b, 1, DIMS["caption"], generator=stream)
    return {
        "caption": Tokens(caption, torch.full((b, 1), captions)),
        "turns": Tokens(turns, first(torch.tensor(counts), longest)),
    }


def features(b: int, seed: int = 2) -> Tensor:
    return torch.randn(b, CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def unit(vector: list[float]) -> list[float]:
    length = math.sqrt(sum(value * value for value in vector))
    return [value / length for value in vector]


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def log_sum_exp(values: list[float]) -> float:
    most = max(values)
    return most + math.log(sum(math.exp(value - most) for value in values))


def linear(matrix: Tensor, bias: Tensor, vector: Tensor) -> list[float]:
    return [dot(row, vector.tolist()) + shift for row, shift in zip(matrix.tolist(), bias.tolist(), strict=True)]


def by_hand(module: MatchingHead, pictures: Tensor, tokens: dict[str, Tokens]) -> tuple[float, float, list]:
    """Both losses and all token scores, one number at a time."""
    values = {name: value.double() for name, value in module.state_dict().items()}
    b = len(pictures)
    regions, words = [], []
    for picture in pictures.double():
        places = (picture + values["position"]).flatten(1).T
        regions.append(
            [unit(linear(values["project.0.weight"][:, :, 0, 0], values["project.0.bias"], p)) for p in places]
        )
    for n in range(b):
        said = []
        for kind in ("caption", "turns"):
            matrix, bias = values[f"tokens.kinds.{kind}.weight"], values[f"tokens.kinds.{kind}.bias"]
            for vector, there in zip(tokens[kind].vectors[n].double(), tokens[kind].there[n]):
                said += [unit(linear(matrix, bias, vector))] if there else []
        words.append(said)
    sharpness, scale = math.exp(float(values["focus"])), min(math.exp(float(values["scale"])), HIGHEST_SCALE)

    def score(of_picture: list[list[float]], word: list[float]) -> float:
        weights = [math.exp(sharpness * dot(region, word)) for region in of_picture]
        context = [sum(w * region[i] for w, region in zip(weights, of_picture)) / sum(weights) for i in range(WIDTH)]
        return dot(unit(context), word)

    scores = [[[score(of_picture, word) for word in words[n]] for n in range(b)] for of_picture in regions]

    def pooled_score(of_text: list[float]) -> float:
        if not of_text:
            return 0.0
        return scale * log_sum_exp([module.pooling * one for one in of_text]) / module.pooling

    pooled = [[pooled_score(scores[p][n]) for n in range(b)] for p in range(b)]
    both, single = [], []
    for n in range(b):
        if words[n]:
            among_texts, among_pictures = log_sum_exp(pooled[n]), log_sum_exp([pooled[p][n] for p in range(b)])
            both.append(among_texts + among_pictures - 2 * pooled[n][n])
        for t in range(len(words[n])):
            single.append(log_sum_exp([scale * scores[p][n][t] for p in range(b)]) - scale * scores[n][n][t])
    return sum(both) / max(len(both), 1), sum(single) / max(len(single), 1), scores


@pytest.mark.parametrize("counts", [[4, 2, 0], [1, 3, 4, 2]])
@pytest.mark.parametrize("captions", [True, False])
def test_both_losses_equal_the_sums_written_out(counts: list[int], captions: bool) -> None:
    module, tokens = head(pooling=3.0), texts(counts, captions)
    found = module(features(len(counts)), tokens)
    pooled, single, _ = by_hand(module, features(len(counts)), tokens)
    assert found.pooled.item() == pytest.approx(pooled, rel=2e-5)
    assert found.single.item() == pytest.approx(single, rel=2e-5)


@pytest.mark.parametrize("counts", [[4, 2, 0], [0, 1, 0], [0, 0, 0]])
@one_thread()
def test_comparing_only_what_is_there_changes_no_loss_and_no_gradient(counts: list[int]) -> None:
    found = {}
    for few in False, True:
        module, tokens, shown = head(few=few), texts(counts, captions=False), features(3).requires_grad_()
        losses = module(shown, tokens)
        (losses.pooled + 2 * losses.single).backward()
        assert shown.grad is not None
        gradients = {name: value.grad for name, value in module.named_parameters() if value.grad is not None}
        found[few] = [losses.pooled.detach(), losses.single.detach(), shown.grad, gradients]
    torch.testing.assert_close(found[True], found[False], rtol=1e-5, atol=1e-6)


def test_token_scores_are_cosines_with_what_each_token_picks() -> None:
    module, tokens = head(), texts([4, 4, 4])
    words, _ = module.words(tokens)
    found = token_scores(module.regions(features(3)), words, module.focus.exp())
    wanted = torch.tensor(by_hand(module, features(3), tokens)[2], dtype=torch.float64)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)


def test_a_region_that_shows_a_token_scores_one_when_it_is_picked_sharply() -> None:
    regions = torch.eye(4)[None]  # (1, 4 regions, 4): each shows another thing
    words = torch.eye(4)[None, :2]
    assert token_scores(regions, words, torch.tensor(60.0)).tolist() == [[[pytest.approx(1), pytest.approx(1)]]]
    blurred = token_scores(regions, words, torch.tensor(0.0))  # the mean of four right-angled vectors, at 60 degrees
    assert blurred.tolist() == [[[pytest.approx(0.5), pytest.approx(0.5)]]]


def test_pooling_goes_from_the_mean_like_to_the_best() -> None:
    scores = torch.tensor([[[0.1, 0.9, -0.3]]])
    there = torch.tensor([[True, True, False]])
    assert pool(scores, there, 200.0).item() == pytest.approx(0.9, abs=0.01)
    assert pool(scores, there, 5.0).item() == pytest.approx(math.log(math.exp(0.5) + math.exp(4.5)) / 5)
    assert pool(scores, ~there, 5.0).item() == pytest.approx(-0.3)


def test_what_is_not_there_changes_nothing_and_takes_no_gradient() -> None:
    module, tokens = head(), texts([2, 1, 3])
    loud = {kind: Tokens(one.vectors.clone().requires_grad_(), one.there) for kind, one in tokens.items()}
    with torch.no_grad():
        loud["turns"].vectors[~loud["turns"].there] = 1e4
    found, same = module(features(3), loud), module(features(3), tokens)
    torch.testing.assert_close(found, same)
    (found.pooled + found.single).backward()
    gradient = loud["turns"].vectors.grad
    assert gradient is not None
    assert gradient[~loud["turns"].there].eq(0).all()
    assert gradient[loud["turns"].there].ne(0).all()


@pytest.mark.parametrize("longest", [0, 4])
def test_without_any_token_both_losses_are_zero_and_nothing_is_lost(longest: int) -> None:
    module, pictures = head(), features(3).requires_grad_()
    found = module(pictures, texts([0, 0, 0], captions=False, longest=longest))
    assert [loss.item() for loss in found] == [0.0, 0.0]
    (found.pooled + found.single).backward()
    assert pictures.grad is not None
    assert pictures.grad.eq(0).all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


def test_right_pairs_lose_less_than_wrong_ones_after_a_few_steps() -> None:
    module, tokens, pictures = head(), texts([4, 3, 2, 4]), features(4)
    before = module(pictures, tokens)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.03)
    for _ in range(60):
        optimizer.zero_grad()
        found: MatchingLosses = module(pictures, tokens)
        (found.pooled + found.single).backward()
        optimizer.step()
    after, wrong = module(pictures, tokens), module(pictures.roll(1, 0), tokens)
    assert after.pooled < before.pooled < wrong.pooled
    assert after.single < before.single < wrong.single


@pytest.mark.parametrize("few", [False, True])
def test_several_ranks_have_the_mean_loss_and_gradient_of_one(few: bool) -> None:
    tokens, pictures = texts([4, 0, 2, 1, 3, 3]), features(6)
    alone = head()
    whole = alone(pictures, tokens)
    (whole.pooled + 2 * whole.single).backward()

    together = head(few=few)
    parts = [slice(0, 3), slice(3, 6)]
    mine = [{kind: Tokens(*(value[part] for value in one)) for kind, one in tokens.items()} for part in parts]
    # What a gathering that passes gradients back does, without processes: all ranks' tensors, in the order asked for.
    asked = [(*together.words(mine[rank]), together.regions(pictures[part])) for rank, part in enumerate(parts)]
    losses = []
    for rank, part in enumerate(parts):
        gathered = iter([torch.cat(values) for values in zip(*asked)])
        losses.append(together(pictures[part], mine[rank], rank, lambda _, all_ranks=gathered: next(all_ranks)))
    mean = [sum(pair) / 2 for pair in zip(*losses)]
    torch.testing.assert_close(mean, list(whole))
    (mean[0] + 2 * mean[1]).backward()
    for (name, one), two in zip(alone.named_parameters(), together.parameters()):
        torch.testing.assert_close(one.grad, two.grad, msg=name)


def test_a_scale_that_grows_is_held() -> None:
    module, tokens = head(scale=9.0), texts([4, 3])
    assert module(features(2), tokens).pooled < 2 * 2 * HIGHEST_SCALE


@pytest.mark.parametrize("few", [False, True])
def test_in_bfloat16_the_comparison_stays_in_float32(few: bool) -> None:
    module, tokens = head(few=few), texts([4, 1, 2])
    exact = module(features(3), tokens)
    with torch.autocast("cpu", torch.bfloat16):
        found = module(features(3), tokens)
    assert {loss.dtype for loss in found} == {torch.float32}
    torch.testing.assert_close(found, exact, rtol=0.03, atol=0.03)


def test_it_compiles_whole() -> None:
    module, tokens = head(), texts([4, 1, 2])
    compiled = torch.compile(module, backend="eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(tuple(compiled(features(3), tokens)), tuple(module(features(3), tokens)))


def test_a_region_may_know_its_neighbours() -> None:
    """With `hidden` a region is a 3 x 3 convolution, LeakyReLU 0.2 and a projection of its surroundings."""
    module = head(hidden=7).double()
    features = torch.randn(2, CHANNELS, SIDE, SIDE, dtype=torch.float64)
    padded = torch.nn.functional.pad(features + module.position, (1, 1, 1, 1))
    around, _, project = cast(Any, module.project)
    found = module.regions(features)
    for b in range(2):
        for y in range(SIDE):
            for x in range(SIDE):
                window = padded[b, :, y : y + 3, x : x + 3]
                seen = (around.weight * window).sum((1, 2, 3)) + around.bias
                seen = torch.where(seen > 0, seen, 0.2 * seen)
                region = project.weight[:, :, 0, 0] @ seen + project.bias
                expected = (region / region.norm()).float()
                torch.testing.assert_close(found[b, y * SIDE + x], expected, rtol=1e-5, atol=1e-6)
