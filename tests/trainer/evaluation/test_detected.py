"""Scores by a detector, against what GeNeVA's own sources gave and against plain loops."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import parity
from trainer.evaluation.detected import (
    Detections,
    at_places,
    detections,
    directions,
    of_kinds,
    relational_similarity,
    sample_scores,
    similarity_to_truth,
)
from trainer.evaluation.evaluated import KnownWorld
from trainer.evaluation.truth import Place, Truth

GIVEN = parity.load("geneva")["functions"]
X_AND_Z = {2: [0, 1], 3: [0, 2]}  # CoDraw's first and third coordinates count


@pytest.mark.parametrize("name", GIVEN)
def test_pairs_of_scenes_score_as_published(name: str) -> None:
    pair = GIVEN[name]
    axes = X_AND_Z[len(pair["location"][0])]
    found, wanted = (np.array([pair[key]], bool) for key in ("detected", "label"))
    here, there = (np.array([pair[key]])[:, :, axes] for key in ("location", "gt_location"))
    scores = sample_scores(found, wanted)
    for score in ("precision", "recall", "f1", "jaccard"):
        assert scores[score] == pytest.approx(pair[score], abs=1e-7)
    similar = relational_similarity(Detections(found, here), Detections(wanted, there))
    assert similar.tolist() == pytest.approx([pair["rsim"]], abs=1e-7)
    if pair["graph"]:
        common = found[0] & wanted[0]
        assert directions(here[0, common]).tolist() == pair["graph"]
        assert directions(there[0, common]).tolist() == pair["gt_graph"]


pairs = st.lists(st.tuples(st.booleans(), st.booleans(), *[st.integers(0, 4)] * 4), min_size=1, max_size=6)


@given(pairs)
def test_against_plain_loops(objects: list[tuple[bool, bool, int, int, int, int]]) -> None:
    places = [((a / 4, b / 4), (c / 4, d / 4)) for _, _, a, b, c, d in objects]
    common = [i for i, one in enumerate(objects) if one[0] and one[1]]
    same = total = 0
    for axis in (0, 1):
        for i in common:
            for j in common:
                signs = []
                for picture in (0, 1):
                    other = 0.5 if i == j else places[j][picture][axis]
                    difference = places[i][picture][axis] - other
                    signs.append((difference > 0) - (difference < 0))
                same += signs[0] == signs[1]
                total += 1
    wanted = sum(one[1] for one in objects)
    expected = same / total * len(common) / wanted if common else 0.0
    arrays = [
        Detections(np.array([[one[side] for one in objects]]), np.array([[place[side] for place in places]]))
        for side in (0, 1)
    ]
    assert relational_similarity(*arrays).tolist() == pytest.approx([expected])


def test_scores_are_means_over_pairs_and_nothing_at_all_is_nothing_right() -> None:
    found = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]], bool)
    wanted = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 0]], bool)
    scores = sample_scores(found, wanted)
    assert scores == pytest.approx({"precision": 2 / 3, "recall": 0.5, "f1": (2 / 3 + 1) / 3, "jaccard": 0.5})


def test_of_two_alike_the_first_place_counts() -> None:
    centres = np.array([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75]])
    found = at_places(np.array([[-1, 1, 1], [0, -1, -1]]), 3, centres)
    assert found.there.tolist() == [[False, True, False], [True, False, False]]
    assert found.places[0, 1].tolist() == [0.75, 0.25]
    assert found.places[1, 0].tolist() == [0.25, 0.25]


def test_the_real_picture_itself_has_every_score_at_one() -> None:
    random = np.random.default_rng(0)
    there = random.random((20, 5)) < 0.5
    there[:, 0] = True
    it = Detections(there, random.random((20, 5, 2)))
    assert relational_similarity(it, it).tolist() == [1.0] * 20
    assert set(sample_scores(there, there).values()) == {1.0}


def world() -> KnownWorld:
    places = {"left": Place((0.25, 0.5), 0.02), "right": Place((0.75, 0.5), 0.02)}
    colours, grounds = {"red": (255, 0, 0), "blue": (0, 0, 255)}, {"sand": (200, 180, 140)}
    truth = Truth(
        Path(), "", places, colours, grounds, ("circle", "square"), ("small",), (), {}, {}, {}, {}, {}, True, {}, ()
    )
    return KnownWorld(truth, "", {})


def answers(*objects: tuple[str, str] | None) -> list[int]:
    """As the classifier gives them: ground, then colour, shape and size of each place, 0 for nothing."""
    found = [0]
    for one in objects:
        found += (
            [0, 0, 0] if one is None else [("red", "blue").index(one[0]) + 1, ("circle", "square").index(one[1]) + 1, 1]
        )
    return found


def test_the_classifiers_answers_are_detections() -> None:
    both = np.array([answers(("red", "circle"), ("blue", "square")), answers(None, ("red", "circle"))])
    found = detections(world(), both)
    assert found.there.tolist() == [[True, False, False, True], [True, False, False, False]]
    assert found.places[:, 0].tolist() == [[0.25, 0.5], [0.75, 0.5]]
    # The same objects the other way round: of the two directions on each axis none agrees along x, all along y.
    swapped = detections(world(), np.array([answers(("blue", "square"), ("red", "circle"))]))
    here = detections(world(), both[:1])
    assert relational_similarity(swapped, here).tolist() == [0.5]


def sprites(
    tmp_path: Path, *scenes: list[tuple[str, float, float]], canvas: tuple[int, int] | None = (100, 50)
) -> Truth:
    """A world of two poses of a boy and a tree; scenes by sprite, x and y in pixels."""
    world = {"sprites": ["boy_0", "boy_1", "tree"], "kind_of": {"boy_0": "boy", "boy_1": "boy"}}
    entries = [
        {"image_id": number, "objects": [{"sprite": name, "x": x, "y": y} for name, x, y in scene]}
        for number, scene in enumerate(scenes)
    ]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"world": world | ({"canvas": canvas} if canvas else {}), "scenes": entries}))
    return Truth.load(path)


def test_poses_of_one_object_are_one(tmp_path: Path) -> None:
    truth = sprites(tmp_path, [("boy_1", 25, 10), ("tree", 50, 25)])
    found = of_kinds(truth, truth.targets(np.array([0])) > 0, truth.middles(np.array([0])))
    assert found.there.tolist() == [[True, True]]
    assert found.places[0] == pytest.approx(np.array([[0.25, 0.2], [0.5, 0.5]]))


def test_a_painted_scene_against_the_true_one(tmp_path: Path) -> None:
    truth = sprites(tmp_path, [("boy_0", 25, 10), ("tree", 75, 40)], [("boy_1", 60, 20)])
    ids = np.array([0, 1])
    right, middles = truth.targets(ids), np.nan_to_num(truth.middles(ids))
    assert similarity_to_truth(truth, right, middles, ids) == 1
    # Another pose of the boy is the boy; mirrored, of eight directions the four on x are wrong.
    other = right[:, [1, 0, 2]]
    assert similarity_to_truth(truth, other, middles[:, [1, 0, 2]], ids) == 1
    mirrored = np.stack([1 - middles[..., 0], middles[..., 1]], -1)
    assert similarity_to_truth(truth, right, mirrored, ids) == pytest.approx((4 / 8 + 1 / 2) / 2)
    assert similarity_to_truth(truth, right, None, ids) is None
    nowhere = sprites(tmp_path, [("tree", 1, 1)], canvas=None)
    assert similarity_to_truth(nowhere, nowhere.targets(ids[:1]), middles[:1], ids[:1]) is None
