"""Truth files: the sample world's, CoDraw's, and what is refused."""

import copy
import json

import numpy as np
import pytest

from store.errors import ChatPainterError
from trainer.evaluation.truth import NOTHING, Truth

WORLD = {
    "places": {"left": {"centre": [0.25, 0.5], "half": 0.02}, "right": {"centre": [0.75, 0.5], "half": 0.02}},
    "colours": {"red": [200, 0, 0], "blue": [0, 0, 200]},
    "grounds": {"sand": [210, 190, 150], "snow": [240, 240, 240]},
    "shapes": ["circle", "square"],
    "sizes": ["small", "large"],
    "ceilings": {"colour_accuracy": {"chance": 0.5}},
}
THING = {"place": "right", "colour": "blue", "shape": "square", "size": "small", "centre": [0.7, 0.5], "radius": 0.1}
SCENES = [{"image_id": 7, "ground": "snow", "objects": [THING]}, {"image_id": 9, "ground": "sand", "objects": []}]


def write(path, world=WORLD, scenes=SCENES):
    path.write_text(json.dumps({"world": world, "scenes": scenes}))
    return path


def test_labels_and_targets(tmp_path):
    truth = Truth.load(write(tmp_path / "truth.json"))
    ids = np.array([9, 7])
    assert truth.colour_labels(ids).tolist() == [[NOTHING, NOTHING], [NOTHING, 1]]
    assert truth.ground_labels(ids).tolist() == [0, 1]
    heads = truth.heads()
    assert [head.name for head in heads] == [
        *("ground", "left: colour", "left: shape", "left: size", "right: colour", "right: shape", "right: size")
    ]
    found = truth.targets(ids)
    assert [heads[i].classes[c] for i, c in enumerate(found[1])] == [
        *("snow", "nothing", "nothing", "nothing", "blue", "square", "small")
    ]
    assert truth.ceilings == {"colour_accuracy": {"chance": 0.5}}


def test_sprites(tmp_path):
    scenes = [{"image_id": 3, "objects": [{"sprite": "s_1s", "x": 4.0}, {"sprite": "hb0_3s", "x": 9.0}]}]
    truth = Truth.load(
        write(tmp_path / "truth.json", {"canvas": [5, 4], "sprites": ["hb0_3s", "s_0s", "s_1s"]}, scenes)
    )
    assert truth.targets(np.array([3])).tolist() == [[1, 0, 1]]
    assert {head.classes for head in truth.heads()} == {("absent", "present")}
    assert not truth.places


SUN, MOVED = {"sprite": "sun", "x": 40, "y": 10}, {"sprite": "sun", "x": 80, "y": 10}
TREE = {"sprite": "tree", "x": 50, "y": 100}


def test_canvases_of_sprites(tmp_path):
    """The sun comes, then it moves and a tree comes, then the sun goes."""
    scenes = [{"image_id": 5, "objects": [TREE], "turns": [[SUN], [MOVED, TREE], [TREE]]}]
    truth = Truth.load(write(tmp_path / "truth.json", {"canvas": [100, 200], "sprites": ["sun", "tree"]}, scenes))
    ids = np.array([5])
    assert truth.targets(ids).tolist() == [[0, 1]]
    assert truth.targets_by_round(ids, 4).tolist() == [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 1]]]
    assert truth.after(1).targets(ids).tolist() == [[1, 0]]
    assert truth.at_start().targets(ids).tolist() == [[0, 0]]
    rounds = truth.words[5]["rounds"]
    assert [one["tells"] for one in rounds] == [["sun"], ["tree"], ["sun"]]
    assert [one["speaks_of"] for one in rounds] == [["sun"], ["sun", "tree"], ["sun"]]
    assert truth.located
    np.testing.assert_allclose(truth.after(2).middles(ids), [[[0.8, 0.05], [0.5, 0.5]]])
    np.testing.assert_array_equal(truth.middles(ids)[0, 0], [np.nan, np.nan])


@pytest.mark.parametrize(
    ("canvas", "thing"),
    [
        ([0, 5], TREE),
        ([100], TREE),
        ("large", TREE),
        ([100, 200], {**TREE, "x": "left"}),
        ([100, 200], {**TREE, "x": 10**400}),
    ],
)
def test_canvases_that_make_no_sense(tmp_path, canvas, thing):
    scenes = [{"image_id": 5, "objects": [thing]}]
    path = write(tmp_path / "truth.json", {"canvas": canvas, "sprites": ["tree"]}, scenes)
    with pytest.raises(ChatPainterError, match="make the world again"):
        Truth.load(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s[0]["objects"][0].update(colour="pink"), "pink"),
        (lambda s: s[0]["objects"][0].update(place="middle"), "middle"),
        (lambda s: s[0].update(ground="mud"), "mud"),
        (lambda s: s[0]["objects"].append(THING), "two objects at one place"),
        (lambda s: s[0].pop("image_id"), "image_id"),
        (lambda s: s[0]["objects"][0].pop("shape"), "shape"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path, change, says):
    scenes = copy.deepcopy(SCENES)
    change(scenes)
    path = write(tmp_path / "truth.json", scenes=scenes)
    with pytest.raises(ChatPainterError) as error:
        Truth.load(path)
    assert says in error.value.message
    assert str(path) in error.value.message
    assert "\n" not in error.value.message


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(ChatPainterError, match="make the world again"):
        Truth.load(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"world": {"places"')
    with pytest.raises(ChatPainterError, match="not a truth file"):
        Truth.load(tmp_path / "half.json")
    truth = Truth.load(write(tmp_path / "truth.json"))
    with pytest.raises(ChatPainterError, match="image_id 8"):
        truth.scene(8)
