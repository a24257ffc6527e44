"""One iteration of sg2im: in which order, on what, and what is random about it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from store.errors import ChatPainterError, ParamsError, StoreError
from tests.support.models import SMALL_SG2IM
from tests.support.same import same
from tests.support.stores import KINDS, edit_manifest, write_graphs, write_training_stores
from trainer.distributed import Ranks
from trainer.feed.data import TrainingData
from trainer.feed.inputs import Batch
from trainer.feed.sampler import microbatches, rows_for
from trainer.systems.sg2im.config import Sg2imConfig
from trainer.systems.sg2im.display import MEAN
from trainer.systems.sg2im.step import Microbatch, SceneGraphGan, in_the_middle
from trainer.systems.sg2im.system import SG2IM

BATCH = 4


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    embeddings, images = write_training_stores(tmp_path_factory.mktemp("data"), images=12, sizes=(38,))
    write_graphs(images, [1000 + 7 * image for image in range(12)])
    return embeddings, images


@pytest.fixture(scope="module")
def data(stores: tuple[Path, Path]) -> TrainingData:
    return TrainingData(SG2IM.inputs(configured()), *stores)


def configured(**values: Any) -> Sg2imConfig:
    return SG2IM.configure({"sg2im": {**SMALL_SG2IM, "images": 60, "batch": BATCH, **values}}, "params.yaml")


def build(data: TrainingData, rank: int = 0, world: int = 1, **values: Any) -> SceneGraphGan:
    return SG2IM.trainable(configured(**values), data, Ranks(rank, world, torch.device("cpu")), None)


def batch(data: TrainingData, seen: int = 0, rank: int = 0, world: int = 1) -> Batch:
    return data.gather(rows_for(0, seen, BATCH, len(data), rank, world))


def part_of(gan: SceneGraphGan, rows: Batch, seen: int = 0) -> Microbatch:
    return gan.microbatch(*next(microbatches(rows, gan.training, seen, gan.ranks)))


def no_report(values: Mapping[str, Tensor]) -> None:
    pass


def bce(scores: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, target))


def test_the_generator_moves_first_and_all_see_the_same_pictures(data: TrainingData) -> None:
    """The step of scripts/train.py, written out with plain torch."""
    theirs, ours = build(data, predicate_weight=0.3), build(data, predicate_weight=0.3)
    part = part_of(theirs, batch(data))
    generator, objects, pictures = theirs.generator, theirs.object_discriminator, theirs.image_discriminator
    adams = [torch.optim.Adam(one.parameters(), lr=1e-4) for one in (generator, objects, pictures)]
    graph, kinds = part.graphs, (part.graphs.objects, part.boxes, part.graphs.image)

    found = generator.network.understand(graph, relations=True)
    fake = generator.network.refine(graph, found.vectors, part.boxes, part.masks, part.noise)
    scores, named = objects(fake, *kinds)
    loss = F.l1_loss(fake, part.pictures) + 10 * F.mse_loss(found.boxes, part.boxes)
    loss = loss + 0.1 * F.binary_cross_entropy(found.masks.sigmoid(), part.masks)
    loss = loss + 0.3 * F.cross_entropy(found.relations, graph.triples[:, 1])
    loss = loss + 0.1 * named + 0.01 * bce(scores, 1) + 0.01 * bce(pictures(fake), 1)
    loss.backward()
    adams[0].step()

    for network, adam in zip((objects, pictures), adams[1:]):
        network.zero_grad()
        more: Any = 0
        if network is objects:
            real_scores, real_named = network(part.pictures, *kinds)
            fake_scores, fake_named = network(fake.detach(), *kinds)
            more = real_named + fake_named
        else:
            real_scores, fake_scores = network(part.pictures), network(fake.detach())
        (bce(real_scores, 1) + bce(fake_scores, 0) + more).backward()
        adam.step()

    figures: dict[str, Tensor] = {}
    ours.step(batch(data), 0, 0, figures.update)
    for mine, wanted in zip(ours.networks, theirs.networks[:3]):
        others = dict(wanted.named_parameters())
        # BatchNorm takes away what a bias before it adds: its gradient is rounding, which Adam enlarges.
        told = [name for name, one in others.items() if one.grad is not None and one.grad.abs().max() > 1e-6]
        assert len(told) > len(others) / 2
        for name, value in mine.named_parameters():
            if name in told:
                torch.testing.assert_close(value, others[name], atol=5e-6, rtol=1e-4, msg=name)
        for (name, buffer), other in zip(mine.named_buffers(), wanted.buffers()):
            torch.testing.assert_close(buffer, other, atol=1e-6, rtol=1e-4, msg=name)
    for average, moved in zip(ours.average.parameters(), ours.generator.parameters()):
        assert torch.equal(average, moved)  # no average by default
    torch.testing.assert_close(figures["g_loss"], loss)
    assert not same(ours.state_dict(), build(data, predicate_weight=0.3).state_dict())


def test_microbatches_are_the_batch(data: TrainingData) -> None:
    """Whatever the number of processes, rows keep their relations and their noise."""
    whole = part_of(build(data), batch(data, 8), 8)
    halves = [part_of(build(data, rank, 2), batch(data, 8, rank, 2), 8) for rank in range(2)]
    assert torch.equal(whole.noise, torch.cat([half.noise for half in halves]))
    assert torch.equal(whole.boxes, torch.cat([half.boxes for half in halves]))
    first = len(halves[0].graphs.objects)
    moved = halves[1].graphs.triples + torch.tensor([first, 0, first])
    said = [*halves[0].graphs.triples.tolist(), *moved.tolist()]
    assert sorted(said) == sorted(whole.graphs.triples.tolist())


def test_relations_are_drawn_anew_at_every_access_and_alike_when_repeated(data: TrainingData) -> None:
    first, again, later, other = (
        part_of(build(data, seed=seed), batch(data), seen).graphs.triples
        for seed, seen in ((0, 0), (0, 0), (0, 40), (1, 0))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert not torch.equal(first, other)
    every = part_of(build(data, relations="all"), batch(data)).graphs.triples
    assert set(map(tuple, first.tolist())) < set(map(tuple, every.tolist()))
    assert len(every) == int(batch(data)["triples.length"].sum())


def test_the_truth_is_that_of_the_middle(data: TrainingData) -> None:
    rows = batch(data)
    part = part_of(build(data), rows)
    middle = rows["images"][:, 3:35, 3:35].permute(0, 3, 1, 2) / 255
    red = (middle[:, 0] - MEAN[0]) / 0.229
    torch.testing.assert_close(part.pictures[:, 0], red)
    whole = part.graphs.objects == 0
    assert whole.sum() == BATCH
    assert part.boxes[whole].tolist() == [[0, 0, 1, 1]] * BATCH
    mine = rows["boxes"][0, 0]
    expected = ((mine * 38 - 3) / 32).clamp(0, 1)
    torch.testing.assert_close(part.boxes[0], expected)
    assert torch.equal(part.masks[0], rows["masks"][0, 0].float())


def test_a_box_in_the_middle() -> None:
    boxes = torch.tensor([[0.25, 0.5, 0.75, 0.875], [0, 0, 0.125, 1]])
    assert in_the_middle(boxes, 0.75).tolist() == [[pytest.approx(1 / 6), 0.5, pytest.approx(5 / 6), 1], [0, 0, 0, 1]]


def test_batchnorm_stands_still_from_some_picture_on(data: TrainingData) -> None:
    ours = build(data, fixed_statistics_after=8)
    for step in range(4):
        before = {name: value.clone() for name, value in ours.generator.named_buffers()}
        ours.step(batch(data, step * BATCH), step * BATCH, 0, no_report)
        still = step >= 2
        assert ours.generator.training == (not still)
        assert same(before, dict(ours.generator.named_buffers())) == still
        steps = {int(state["step"]) for state in ours.g_optimizer.state.values()}
        assert steps == {step - 1 if still else step + 1}  # Adam begins anew
        assert {int(state["step"]) for state in ours.image_optimizer.state.values()} == {step + 1}


def test_several_parts_each_have_their_turn(data: TrainingData) -> None:
    figures: dict[str, list[Tensor]] = {}

    def report(values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            figures.setdefault(name, []).append(value)

    build(data, accumulate=2).step(batch(data), 0, 0, report)
    assert {len(figures[name]) for name in ("g_loss", "d_real", "d_object_real")} == {2}
    assert {len(figures[name]) for name in ("g_grad_norm", "d_grad_norm", "d_object_grad_norm")} == {1}


def test_it_learns(data: TrainingData) -> None:
    """The same few pictures, each of one grey, again and again: boxes are found and the pictures come nearer."""
    greys = torch.arange(BATCH, dtype=torch.uint8)[:, None, None, None] * 60
    rows = Batch({**batch(data), "images": greys.expand(-1, 38, 38, 3)})
    ours = build(data, relations="all", g_lr=5e-3, d_lr=1e-3, box_weight=10.0)
    found: list[dict[str, float]] = []

    def report(values: Mapping[str, Tensor]) -> None:
        found[-1].update({name: float(value.detach()) for name, value in values.items() if value.ndim == 0})

    for _ in range(40):
        found.append({})
        ours.step(rows, 0, 0, report)
    first, last = (
        {name: sum(one[name] for one in some) / 5 for name in ("boxes", "pixel", "masks")}
        for some in (found[:5], found[-5:])
    )
    assert last["boxes"] < 0.5 * first["boxes"]
    assert last["pixel"] < 0.8 * first["pixel"]
    assert last["masks"] < first["masks"]


def test_masks_of_another_side_are_refused(stores: tuple[Path, Path], data: TrainingData) -> None:
    config = configured(mask_size=8)
    with pytest.raises(ChatPainterError, match=r"mask_size is 8, but the masks in .*masks are 16 x 16; set it to 16"):
        SG2IM.trainable(config, data, Ranks(0, 1, torch.device("cpu")), None)


def test_other_names_behind_the_numbers_are_refused(tmp_path: Path, data: TrainingData) -> None:
    embeddings, images = write_training_stores(tmp_path, images=12, sizes=(38,))
    write_graphs(images, [1000 + 7 * image for image in range(12)])
    for name in ("objects", "triples", "boxes", "masks"):
        edit_manifest(images / name, lambda values: values["made_from"]["vocabulary"]["objects"].__setitem__(1, "cat"))
    other = TrainingData(SG2IM.inputs(configured()), embeddings, images)
    identity = build(data).average.settings["stores"]
    assert set(identity) == {"objects", "boxes", "masks", "triples"}
    data.refuse_other_encoders(identity, "run")
    with pytest.raises(StoreError, match=r"objects: other names .* \(objects.1: 'kind 1' there, 'cat' here"):
        other.refuse_other_encoders(identity, "run")


@pytest.mark.parametrize(
    "values, message",
    [
        ({"arch": "I3,C4-64-2"}, "expected convolutions such as C4-64-2"),
        ({"arch": "C4-0-2"}, "expected convolutions"),
        ({"crop_side": 8}, "needs pictures and crops of 10 at least"),
        ({"refinement_dims": []}, "widths of one module or more"),
        ({"side": 36, "refinement_dims": [4, 4, 4]}, "halve the side so often, and 36 cannot be"),
        ({"mask_size": 12}, "0 or a power of two"),
        ({"box_weight": -1}, "box_weight cannot be negative"),
        ({"fixed_statistics_after": 0}, "fixed_statistics_after must be at least 1"),
    ],
)
def test_settings_that_cannot_work_say_why(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        configured(**values)


def test_presets_are_the_published_numbers(data: TrainingData) -> None:
    config = SG2IM.configure({}, "params.yaml")
    assert (config.batch, config.images, config.g_lr, config.betas) == (32, 32_000_000, 1e-4, (0.9, 0.999))
    weights = [getattr(config, f"{name}_weight") for name in ("pixel", "box", "class", "object", "image", "predicate")]
    assert weights == [1, 10, 0.1, 0.01, 0.01, 0]
    large = SG2IM.configure({"sg2im": {"preset": "sg2im-128"}}, "params.yaml")
    assert large == replace(config, side=128)
    sizes = SG2IM.parameters(config, data)
    assert sizes["image discriminator"] == 659_521
    assert sizes["object discriminator"] == 1_112_057 - (184 - KINDS) * 1025
    assert sizes["generator"] == 28_158_223 - (184 - KINDS) * 128
    tiny = SG2IM.parameters(SG2IM.configure({"sg2im": {"preset": "tiny"}}, "params.yaml"), data)
    assert all(tiny[name] < sizes[name] / 5 for name in sizes)
