"""Graphs of the sample world: of its truth, and of what is said, which tells the same."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.corpora import corpus
from pipeline.corpora.sample_words import captions, rounds
from pipeline.corpora.sample_world import NINE_PLACES, PLACES, Scene, scene
from pipeline.graphs import sample_graphs, stores
from pipeline.graphs.annotations import GraphSettings
from pipeline.graphs.relations import PREDICATES
from pipeline.graphs.sample_graphs import PlacedObject, graph, told
from store.errors import ChatPainterError
from tests.support.worlds import small_world
from trainer.feed.data import TrainingData
from trainer.feed.inputs import BOXES, MASKS, OBJECTS, TRIPLES

WORLD = sample_graphs.SAMPLE_WORLD


def said(seed: int) -> tuple[Scene, str, list[tuple[str, str]]]:
    draw = random.Random(seed)
    seen = scene(draw)
    return seen, captions(seen, draw)[0], [(one.question, one.answer) for one in rounds(seen, draw)]


def test_the_words_of_a_dialogue_tell_the_scene() -> None:
    for seed in range(300):
        seen, caption, talk = said(seed)
        ground, things = told(WORLD, caption, talk)
        assert ground == seen.ground, (seed, talk)
        found = [(one.place, one.colour, one.shape, one.size) for one in things]
        assert found == [(one.place, one.colour, one.shape, one.size) for one in seen.things], (seed, talk)
        assert all(one.centre == PLACES[one.place] for one in things)


def test_nine_places_are_told_apart() -> None:
    world = replace(WORLD, places=NINE_PLACES.places)
    for seed in range(60):
        draw = random.Random(seed)
        seen = scene(draw, (1, 9), NINE_PLACES)
        talk = [(one.question, one.answer) for one in rounds(seen, draw, 16)]
        ground, things = told(world, captions(seen, draw)[0], talk)
        assert ground == seen.ground
        found = [(one.place, one.colour, one.shape, one.size) for one in things]
        assert found == [(one.place, one.colour, one.shape, one.size) for one in seen.things], (seed, talk)


def test_words_of_another_scene_are_refused(world: Path, tmp_path: Path) -> None:
    rows = list(corpus.rows(corpus.read(world / "data/corpus/val.parquet")))
    rows[4] = replace(rows[4], rounds=rows[4].rounds[:1])
    corpus.write(rows, tmp_path / "val.parquet")
    settings = GraphSettings(least=1, words=("val",))
    with pytest.raises(ChatPainterError, match=rf"words about image {rows[4].image_id} are not those of its scene"):
        stores.prepare(tmp_path / "val.parquet", world / "data/raw/sample", "val", tmp_path / "x", settings)


def test_what_is_not_told_is_not_in_the_graph() -> None:
    ground, things = told(WORLD, "two objects, one of them a small red circle in the top left", [])
    assert ground is None
    assert [(one.place, one.kind) for one in things] == [("top left", "small red circle")]
    half = [("what color is the object at the bottom right", "it is blue"), ("is the ground snow", "no")]
    assert told(WORLD, "", half) == (None, [])
    half += [("what shape is the one in the bottom right", "a square"), ("is the ground sand", "yep")]
    half += [("is the one in the bottom right small or large", "Large.")]
    ground, (thing,) = told(WORLD, "", half)
    assert (ground, thing.kind, thing.place) == ("sand", "large blue square", "bottom right")


def test_a_graph_in_full() -> None:
    """Two objects above each other on sand."""
    things = [
        PlacedObject("top left", "red", "circle", "small", (0.25, 0.25), 0.1),
        PlacedObject("bottom left", "blue", "square", "large", (0.3, 0.7), 0.15),
    ]
    made = graph(WORLD, "sand", things)
    assert [WORLD.kinds[kind] for kind in made.objects] == [
        "small red circle",
        "large blue square",
        "sand",
        "__image__",
    ]
    expected = [(0.15, 0.15, 0.35, 0.35), (0.165, 0.565, 0.435, 0.835), (0, 0, 1, 1), (0, 0, 1, 1)]
    np.testing.assert_allclose(made.boxes, expected, atol=1e-6)
    names = [(int(s), WORLD.predicates[p], int(o)) for s, p, o in made.triples]
    assert names == [
        (0, "above", 1),
        (1, "below", 0),
        (0, "at the top left of", 2),
        (1, "at the bottom left of", 2),
        (2, "surrounding", 0),
        (2, "surrounding", 1),
        (0, "__in_image__", 3),
        (1, "__in_image__", 3),
        (2, "__in_image__", 3),
    ]
    assert made.masks[1:].all()
    circle = made.masks[0]
    assert 0.74 < circle.mean() < 0.82  # pi / 4
    assert (circle == circle[::-1]).mean() > 0.98
    assert not circle[0, 0]
    alone = graph(WORLD, None, things[:1])
    assert alone.triples.tolist() == [[0, 0, 1]]
    assert graph(WORLD, None, []).triples.shape == (0, 3)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    images = {"sizes": [76], "graphs": {"least": 1, "words": ["val"]}}
    small_world(root, images=images, world={"seed": 3, "train": 12, "val": 8, "image_size": 64})
    return root


def read(world: Path, split: str) -> tuple[TrainingData, Any]:
    data = TrainingData((OBJECTS, BOXES, MASKS, TRIPLES), world / "none", world / "data/images" / split)
    return data, data.at(np.arange(len(data)))


def test_truth_and_words_are_stores_with_one_vocabulary(world: Path) -> None:
    (train, first), (val, second) = read(world, "train"), read(world, "val")
    assert (len(train), len(val)) == (12, 8)
    val.refuse_other_encoders(train.identity, "train")
    kinds, predicates = (val.vocabulary("objects")[name] for name in ("objects", "predicates"))
    assert predicates[:7] == PREDICATES
    assert len(kinds) == 1 + 4 + 36
    for split, data, batch in (("train", train, first), ("val", val, second)):
        truth = {
            one["image_id"]: one
            for one in json.loads((world / f"data/raw/sample/truth_{split}.json").read_text())["scenes"]
        }
        for row, image_id in enumerate(data.image_ids):
            true = truth[int(image_id)]
            expected = [f"{one['size']} {one['colour']} {one['shape']}" for one in true["objects"]]
            count = int(batch["objects.length"][row])
            assert [kinds[kind] for kind in batch["objects"][row, :count]] == [*expected, true["ground"], "__image__"]
            triples = batch["triples"][row, : int(batch["triples.length"][row])].tolist()
            places = [predicates[p] for s, p, o in triples if p >= 7]
            assert places == [f"at the {one['place']} of" for one in true["objects"]]
            middles = (batch["boxes"][row, : count - 2, :2] + batch["boxes"][row, : count - 2, 2:]) / 2
            for middle, one in zip(middles.tolist(), true["objects"]):
                centre = one["centre"] if split == "train" else PLACES[one["place"]]
                low = 0.25 * 1.3 * one["radius"] if one["shape"] == "triangle" else 0.0  # a triangle's box lies higher
                assert middle == pytest.approx([centre[0], centre[1] - low], abs=1e-4)


def test_few_objects_are_left_out_as_anywhere(world: Path, tmp_path: Path) -> None:
    raw = world / "data/raw/sample"
    made = stores.prepare(world / "data/corpus/val.parquet", raw, "val", tmp_path / "x", GraphSettings(least=4))
    truth = json.loads((raw / "truth_val.json").read_text())["scenes"]
    assert made.images == sum(len(one["objects"]) >= 3 for one in truth)


def test_a_truth_of_other_pictures_is_refused(world: Path, tmp_path: Path) -> None:
    corpus.write([corpus.Row(5, "5.jpg", None, None, [], [], "")], tmp_path / "val.parquet")
    with pytest.raises(ChatPainterError, match=r"truth_val.json: no scene of image 5, which .*val.parquet has"):
        stores.prepare(
            tmp_path / "val.parquet", world / "data/raw/sample", "val", tmp_path / "x", GraphSettings(least=1)
        )


def test_a_truth_without_places_is_none(tmp_path: Path) -> None:
    assert sample_graphs.truth_of(tmp_path, "val") is None
    (tmp_path / "truth_val.json").write_text('{"world": {"sprites": []}, "scenes": []}')
    assert sample_graphs.truth_of(tmp_path, "val") is None


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.pop("scenes"),
        lambda values: values.update(world=[]),
        lambda values: values["world"].update(places=["top left"]),
        lambda values: values["world"]["places"]["top left"].pop("centre"),
        lambda values: values["world"]["sizes"].update(small="x"),
        lambda values: values["scenes"][3].pop("image_id"),
        lambda values: values["scenes"][3]["objects"][0].pop("place"),
        lambda values: values["scenes"][3]["objects"][0].update(centre=[0.5]),
        lambda values: values["scenes"].append(7),
    ],
)
def test_a_damaged_truth_ends_in_one_line(world: Path, tmp_path: Path, change: Any) -> None:
    values = json.loads((world / "data/raw/sample/truth_val.json").read_text())
    change(values)
    (tmp_path / "truth_val.json").write_text(json.dumps(values))
    with pytest.raises(ChatPainterError, match=r"truth_val.json: not a truth file .*make the world again") as caught:
        sample_graphs.truth_of(tmp_path, "val")
    assert "\n" not in caught.value.message
