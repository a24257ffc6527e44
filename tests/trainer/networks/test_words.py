"""AttnGAN's attention and matching losses: against the published code's numbers, and loops from the equations."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support import parity
from trainer.networks.attention import first
from trainer.networks.words import (
    DamsmLosses,
    ImageFeatures,
    Sharpness,
    TextFeatures,
    WordAttention,
    damsm_loss,
    picked_regions,
    sentence_scores,
    word_scores,
)

RECORDED = parity.load("attngan")
LENGTHS = torch.tensor(RECORDED["small_config"]["lengths"])
FILLS = ["A", "B"]
FLOAT32 = {"f64": 1e-6}  # how far small functions, recorded without it, may lie from float64


def attend(record: dict[str, Any], fill: Any, there: Tensor, shuffled: bool = False) -> tuple[Tensor, Tensor]:
    network = WordAttention(4, 8)
    assert parity.keys(network) == RECORDED["networks"]["ATT_NET_legacy_mask"]["keys"]
    parity.fill(network, fill)
    places, words = (parity.given(record["inputs"][name]) for name in ("h", "words"))
    with torch.no_grad():
        return network(places, words.transpose(1, 2), there, shuffled)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("name", ["legacy_mask", "own_mask", "no_mask"])
def test_attention_gives_the_published_numbers(name: str, fill: str) -> None:
    record = RECORDED["networks"][f"ATT_NET_{name}"]
    there = first(LENGTHS if name != "no_mask" else torch.tensor([5, 5]), 5)
    context, attention = attend(record, fill, there, shuffled=name == "legacy_mask")
    parity.assert_recorded(context, record[f"eval_{fill}"]["out"]["context"])
    parity.assert_recorded(attention, record[f"eval_{fill}"]["out"]["attention"])


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shuffled", [False, True])
def test_attention_is_that_of_the_equation(shuffled: bool) -> None:
    """Every place by itself: exponentials of its products with the keys of the words that are there."""
    network, lengths = WordAttention(3, 5).double(), [4, 2, 1]
    places, words = random(3, 3, 2, 3), random(3, 4, 5, seed=1)
    there = first(torch.tensor(lengths), 4)
    words = words * there[..., None]
    with torch.no_grad():
        context, attention = network(places, words, there, shuffled)
    weight = network.conv_context.weight[..., 0, 0].detach()
    for b in range(3):
        for place in range(6):
            row, column = divmod(place, 3)
            # The published code gives row r of all places the mask of text r mod B.
            heard = lengths[(b * 6 + place) % 3 if shuffled else b]
            keys = [weight @ words[b, word] for word in range(heard)]
            weights = [math.exp(float(places[b, :, row, column] @ key)) for key in keys]
            expected = torch.zeros(3, dtype=torch.float64)
            for word in range(4):
                share = weights[word] / sum(weights) if word < heard else 0.0
                assert abs(float(attention[b, word, row, column]) - share) < 1e-12
                if word < heard:
                    expected += share * keys[word]
            torch.testing.assert_close(context[b, :, row, column], expected, atol=1e-12, rtol=0)


def test_both_masks_are_one_for_one_text_and_for_equal_lengths() -> None:
    network, places, words = WordAttention(3, 5).double(), random(3, 3, 2, 2), random(3, 4, 5, seed=1)
    for rows, lengths in ((1, [2]), (3, [3, 3, 3])):
        there = first(torch.tensor(lengths), 4)
        own, shuffled = (network(places[:rows], words[:rows], there, mode) for mode in (False, True))
        for mine, theirs in zip(own, shuffled):
            assert torch.equal(mine, theirs)


def test_a_text_without_words_says_nothing_and_its_gradient_is_finite() -> None:
    network, places = WordAttention(3, 5).double(), random(2, 3, 2, 2).requires_grad_()
    words = random(2, 4, 5, seed=1)
    context, attention = network(places, words, first(torch.tensor([0, 4]), 4))
    assert not context[0].any()
    assert not attention[0].any()
    context.sum().backward()
    assert places.grad.isfinite().all()
    assert network.conv_context.weight.grad.isfinite().all()


def published(name: str) -> tuple[DamsmLosses, dict[str, Any]]:
    """Our losses for the inputs of the record `name`, words and sentences together."""
    words, sentences = (RECORDED["losses"][f"{kind}_loss.{name}"] for kind in ("words", "sent"))
    regions, told = parity.given(words["regions"]), parity.given(words["words"]).transpose(1, 2)
    there = first(torch.tensor(words["lengths"]), told.shape[1])
    seen = ImageFeatures(regions, parity.given(sentences["cnn_code"]))
    classes = None if words["class_ids"] is None else torch.tensor(words["class_ids"])
    text = TextFeatures(told, there, parity.given(sentences["rnn_code"]))
    return damsm_loss(seen, text, classes, Sharpness(*words["gammas"])), {**words, **sentences}


@pytest.mark.parametrize("classes", ["none", "all_different", "first_and_last_equal"])
@pytest.mark.parametrize("scale", ["unit", "times3"])
def test_losses_are_the_published_ones(scale: str, classes: str) -> None:
    found, record = published(f"{scale}.{classes}")
    wanted = [record["w0_f64"], record["w1_f64"], record["s0"], record["s1"]]
    assert [float(value) for value in found] == pytest.approx(wanted, rel=1e-6)
    assert float(found.total) == pytest.approx(sum(wanted), rel=1e-6)


@pytest.mark.parametrize("scale", ["unit", "times3"])
def test_the_regions_that_words_pick_are_the_published_ones(scale: str) -> None:
    record = RECORDED["losses"][f"words_loss.{scale}.none"]
    regions, words = parity.given(record["regions"]), parity.given(record["words"]).transpose(1, 2)
    there = first(torch.tensor(record["lengths"]), 5)
    _, attention = picked_regions(regions.flatten(2), words, there, record["gammas"][0])
    for text, (length, wanted) in enumerate(zip(record["lengths"], record["attention"])):
        parity.assert_recorded(attention[text, text, :length].view(1, length, 17, 17), FLOAT32 | wanted)


def test_pairwise_attention_is_the_published_function() -> None:
    record = RECORDED["losses"]["func_attention"]
    words, regions = parity.given(record["query"]).transpose(1, 2), parity.given(record["context"])
    context, attention = picked_regions(regions.flatten(2), words, torch.ones(2, 3, dtype=torch.bool), record["gamma1"])
    own = torch.arange(2)
    parity.assert_recorded(context[own, own].transpose(1, 2), FLOAT32 | record["weighted"])
    parity.assert_recorded(attention[own, own].view(2, 3, 4, 4), FLOAT32 | record["attention"])


@pytest.mark.parametrize("root", [False, True])
def test_word_scores_are_those_of_the_equations(root: bool) -> None:
    """Eq. 7 to 10 in loops; the root that eq. 10 takes is a switch."""
    lengths, sharpness = [3, 1], Sharpness(2.0, 3.0, 1.0, root)
    regions, words = random(2, 4, 5), random(2, 3, 4, seed=1)
    found = word_scores(regions, words, first(torch.tensor(lengths), 3), sharpness)
    for picture in range(2):
        for text in range(2):
            n, total = lengths[text], 0.0
            alike = [[math.exp(float(words[text, i] @ regions[picture, :, j])) for j in range(5)] for i in range(n)]
            normal = [[alike[i][j] / sum(alike[k][j] for k in range(n)) for j in range(5)] for i in range(n)]
            for i in range(n):
                weights = [math.exp(2.0 * normal[i][j]) for j in range(5)]
                context = torch.stack([weights[j] / sum(weights) * regions[picture, :, j] for j in range(5)]).sum(0)
                cosine = float(context @ words[text, i] / (context.norm() * words[text, i].norm()))
                total += math.exp(3.0 * cosine)
            expected = math.log(total ** (1 / 3.0) if root else total)
            assert float(found[picture, text]) == pytest.approx(expected, abs=1e-12)


def test_sentence_scores_are_cosines_and_finite_for_zeros() -> None:
    codes, sentences = random(3, 4), random(2, 4, seed=1)
    expected = [[float(code @ one / (code.norm() * one.norm())) for one in sentences] for code in codes]
    torch.testing.assert_close(sentence_scores(codes, sentences), torch.tensor(expected, dtype=torch.float64))
    assert sentence_scores(torch.zeros(1, 4), torch.ones(1, 4)).item() == 0


def test_what_pads_a_text_changes_nothing() -> None:
    regions, words, lengths = random(3, 4, 2, 2), random(3, 5, 4, seed=1), torch.tensor([5, 2, 1])
    code, sentence, there = random(3, 4, seed=2), random(3, 4, seed=3), first(lengths, 5)
    other = torch.where(there[..., None], words, torch.full_like(words, 7.0))
    seen, told = ImageFeatures(regions, code), [TextFeatures(some, there, sentence) for some in (words, other)]
    losses = [damsm_loss(seen, one, None, Sharpness()) for one in told]

    assert [float(value) for value in losses[0]] == [float(value) for value in losses[1]]


def test_processes_together_have_the_loss_of_the_whole_batch() -> None:
    """The mean over two processes of two rows each is the loss, and has the gradient, of four rows."""
    seen = ImageFeatures(random(4, 3, 2, 2).requires_grad_(), random(4, 3, seed=1))
    told = TextFeatures(random(4, 3, 3, seed=2), first(torch.tensor([3, 1, 2, 3]), 3), random(4, 3, seed=3))
    classes = torch.tensor([1, 2, 2, 3])
    whole = damsm_loss(seen, told, classes, Sharpness()).total
    (wanted,) = torch.autograd.grad(whole, seen.regions)
    parts = []
    for rank in range(2):
        mine = slice(2 * rank, 2 * rank + 2)
        lookup = [(value[mine], value) for value in (*seen, *told, classes)]

        def gather(rows: Tensor, lookup: Any = lookup) -> Tensor:
            return next(value for part, value in lookup if part.shape == rows.shape and torch.equal(part, rows))

        own = ImageFeatures(*(value[mine] for value in seen)), TextFeatures(*(value[mine] for value in told))
        parts.append(damsm_loss(*own, classes[mine], Sharpness(), rank, gather).total)
    mean = torch.stack(parts).mean()
    torch.testing.assert_close(mean, whole)
    (found,) = torch.autograd.grad(mean, seen.regions)
    torch.testing.assert_close(found, wanted)
