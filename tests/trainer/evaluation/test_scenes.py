"""The exact scorer: real pictures read without error, scores against counting by hand."""

import dataclasses
import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from trainer.evaluation import scenes
from trainer.evaluation.scenes import Reading, SceneReader
from trainer.evaluation.split import middle
from trainer.evaluation.truth import NOTHING, Truth


@pytest.fixture(scope="module")
def truth(world: Path) -> Truth:
    return Truth.load(world / "data/raw/sample/truth_val.json")


def real(world: Path, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures as they lie in the image store, and their ids."""
    from store.reader import Store

    store = Store(world / "data/images/val" / str(side))
    return store.take(np.arange(len(store))), store.column("image_id")


@pytest.mark.parametrize(
    ("rgb", "lab"),
    # Bruce Lindbloom's calculator, D65.
    [((255, 0, 0), (53.24, 80.09, 67.20)), ((0, 0, 255), (32.30, 79.19, -107.86)), ((255, 255, 255), (100, 0, 0))],
)
def test_lab(rgb, lab):
    np.testing.assert_allclose(scenes.to_lab(np.array(rgb)), lab, atol=0.02)


@pytest.mark.parametrize("side", [76, 304])
@pytest.mark.parametrize(("down", "right"), [(0.5, 0.5), (0, 0), (0, 1), (1, 0), (1, 1)])
def test_real_pictures_read_without_error_under_every_crop(world, truth, side, down, right):
    pictures, ids = real(world, side)
    kept = side * 64 // 76
    top, left = round(down * (side - kept)), round(right * (side - kept))
    reading = SceneReader(truth, 64 / 76).read(pictures[:, top : top + kept, left : left + kept])
    values = scenes.scores(reading, truth, ids)
    exact = ("colour_accuracy", "presence_f1", "object_f1", "ground_accuracy", "scene_accuracy", "rsim")
    assert {name: values[name] for name in exact} == dict.fromkeys(exact, 1.0)


def test_blurred_noisy_and_recompressed_pictures_still_read(world, truth):
    pictures, ids = real(world, 76)
    pictures = middle(pictures, 64)
    random = np.random.default_rng(0)
    worse = []
    for picture in pictures:
        file = io.BytesIO()
        small = Image.fromarray(picture).resize((32, 32), Image.Resampling.BILINEAR).resize((64, 64))
        small.save(file, "JPEG", quality=70)
        noisy = np.asarray(Image.open(file)).astype(int) + random.normal(0, 8, (64, 64, 3))
        worse.append(np.clip(noisy, 0, 255).astype(np.uint8))
    values = scenes.scores(SceneReader(truth, 64 / 76).read(np.stack(worse)), truth, ids)
    assert values["colour_accuracy"] > 0.97
    assert values["presence_f1"] > 0.97


def test_pictures_of_half_the_size_read_as_well(world, truth):
    pictures, ids = real(world, 76)
    half = middle(pictures, 64).reshape(-1, 32, 2, 32, 2, 3).mean(axis=(2, 4)).round().astype(np.uint8)
    values = scenes.scores(SceneReader(truth, 64 / 76).read(half), truth, ids)
    assert values["colour_accuracy"] > 0.99
    assert values["ground_accuracy"] == 1.0


def test_grey_pictures_hold_nothing(truth, world):
    ids = real(world, 76)[1]
    reading = SceneReader(truth, 64 / 76).read(np.full((len(ids), 64, 64, 3), 127, np.uint8))
    assert (reading.colours == NOTHING).all()
    values = scenes.scores(reading, truth, ids)
    assert values["colour_accuracy"] == values["presence_recall"] == values["rsim"] == 0.0


def test_a_speck_is_no_object_and_a_disc_is(truth):
    first = next(iter(truth.places.values()))
    x, y = ((c - 0.5) * 76 / 64 + 0.5 for c in first.centre)
    found = []
    for radius in (2, 8):
        image = Image.new("RGB", (64, 64), tuple(truth.grounds["sand"]))
        box = (64 * x - radius, 64 * y - radius, 64 * x + radius, 64 * y + radius)
        ImageDraw.Draw(image).ellipse(box, fill=tuple(truth.colours["blue"]))
        found.append(SceneReader(truth, 64 / 76).read(np.asarray(image)[None]))
    blue = list(truth.colours).index("blue")
    assert found[0].colours.tolist() == [[NOTHING] * 4]
    assert found[1].colours.tolist() == [[blue, NOTHING, NOTHING, NOTHING]]
    assert found[1].grounds.tolist() == [list(truth.grounds).index("sand")]


def made_up(tmp_path: Path, rows: list[list[int]], grounds: list[int]) -> tuple[Truth, np.ndarray]:
    """A world of four places with the objects of `rows` (colour at each place or -1)."""
    places = {
        f"p{i}": {"centre": [x, y], "half": 0.02} for i, (y, x) in enumerate(itertools.product((0.3, 0.7), (0.3, 0.7)))
    }
    colours = {f"c{i}": [i * 50, 255 - i * 50, 40] for i in range(4)}
    world = {"places": places, "colours": colours, "grounds": {"g0": [0, 0, 0], "g1": [255, 255, 255]}}
    world |= {"shapes": ["s"], "sizes": ["z"]}
    made = [
        {
            "image_id": i,
            "ground": f"g{ground}",
            "objects": [
                {"place": f"p{p}", "colour": f"c{c}", "shape": "s", "size": "z", "radius": 0.1}
                for p, c in enumerate(row)
                if c >= 0
            ],
        }
        for i, (row, ground) in enumerate(zip(rows, grounds))
    ]
    path = tmp_path / "truth_made.json"
    path.write_text(json.dumps({"world": world, "scenes": made}))
    return Truth.load(path), np.arange(len(rows))


def test_a_slot_is_right_if_all_its_places_are(tmp_path):
    truth, ids = made_up(tmp_path, [[0, 1, -1, -1], [2, -1, -1, 3]], [0, 1])
    painted = Reading(np.array([[0, 2, -1, -1], [2, -1, -1, -1]]), np.array([1, 1]))
    assert scenes.scores(painted, truth, ids)["slots"] == 6 / 8  # each place is a slot where the truth names none
    truth = dataclasses.replace(truth, slots=((0, 2), (1, 3)))
    assert scenes.slots_right(scenes.right(painted, truth, ids), truth).tolist() == [[True, False], [True, False]]
    assert scenes.scores(painted, truth, ids)["slots"] == 0.5


def test_what_is_true_after_some_rounds_and_of_a_copy_of_the_start(tmp_path):
    truth, ids = made_up(tmp_path, [[0, 1, -1, -1], [2, -1, -1, 3]], [0, 1])
    assert scenes.floors(truth, ids) == {}
    untold = dataclasses.replace(truth.scenes[0], ground=None, objects=())
    truth = dataclasses.replace(
        truth, films={0: (untold, truth.scenes[0]), 1: (truth.scenes[0], untold, truth.scenes[1])}
    )
    floors = scenes.floors(truth, ids)
    assert {who: values["slots"] for who, values in floors.items()} == {"copy_start": 3 / 8, "empty": 4 / 8}
    assert floors["copy_start"]["object_f1"] == floors["empty"]["object_f1"] == 0
    told = dataclasses.replace(truth, starts={1: 2})  # its first state is told in two rounds
    assert scenes.floors(told, ids)["copy_start"]["slots"] == (2 + 4) / 8
    still = dataclasses.replace(truth, films={0: (truth.scenes[0],) * 2, 1: truth.films[1]})
    assert scenes.floors(still, ids)["copy_start"]["object_f1"] == pytest.approx(2 * 2 / (4 + 4))
    for rounds, colours, grounds in (
        (0, [[-1] * 4, [0, 1, -1, -1]], [NOTHING, 0]),
        (1, [[0, 1, -1, -1], [-1] * 4], [0, NOTHING]),
        (5, [[0, 1, -1, -1], [2, -1, -1, 3]], [0, 1]),
    ):
        after = truth.after(rounds)
        assert after.colour_labels(ids).tolist() == colours
        assert after.ground_labels(ids).tolist() == grounds
    # A ground that nobody has told is neither right nor wrong.
    values = scenes.scores(Reading(np.array([[-1] * 4, [0, 1, -1, -1]]), np.array([1, 0])), truth.after(0), ids)
    assert values["ground_accuracy"] == values["scene_accuracy"] == values["slots"] == 1


def test_scores_counted_by_hand(tmp_path):
    truth, ids = made_up(tmp_path, [[0, 1, -1, -1], [2, -1, -1, -1]], [0, 1])
    painted = Reading(np.array([[0, 2, 3, -1], [-1, -1, -1, -1]]), np.array([0, 0]))
    values = scenes.scores(painted, truth, ids)
    assert values["colour_accuracy"] == pytest.approx(1 / 3)  # c0 right, c1 painted c2, c2 not painted
    assert values["ground_accuracy"] == 0.5
    assert values["presence_precision"] == pytest.approx(2 / 3)
    assert values["presence_recall"] == pytest.approx(2 / 3)
    assert values["object_precision"] == pytest.approx(1 / 3)
    assert values["object_f1"] == pytest.approx(1 / 3)
    assert values["presence_accuracy"] == pytest.approx(6 / 8)
    assert values["scene_accuracy"] == 0.0
    assert scenes.right(painted, truth, ids).tolist() == [
        [True, False, False, True, True],
        [False, True, True, True, False],
    ]


CENTRES = np.array([[0.3, 0.3], [0.7, 0.3], [0.3, 0.7], [0.7, 0.7]])


@pytest.mark.parametrize(
    ("wanted", "found", "expected"),
    [
        ([0, 1, -1, -1], [0, 1, -1, -1], 1.0),
        ([0, 1, -1, -1], [-1, -1, 0, 1], 1.0),  # moved down together: the relation holds
        ([0, 1, -1, -1], [1, 0, -1, -1], 0.5),  # left and right swapped, above/below still equal
        ([0, 1, -1, -1], [0, -1, -1, 1], 0.5),  # left of: right; level with: now above
        ([0, 1, -1, -1], [0, 2, -1, -1], 0.5),  # one of two found, no relation left: the recall
        ([0, 1, 2, -1], [0, 1, -1, 2], 2 / 3),  # three pairs, six relations, of which the third's x moved: 4 hold
        ([0, 0, -1, -1], [0, 0, -1, -1], 1.0),  # two of a colour keep their places
        ([0, -1, -1, -1], [-1, -1, -1, -1], 0.0),
        ([-1, -1, -1, -1], [-1, -1, -1, -1], 1.0),
        ([-1, -1, -1, -1], [0, -1, -1, -1], 0.0),
    ],
)
def test_relational_similarity_by_hand(wanted, found, expected):
    assert scenes.relational_similarity(np.array(wanted), np.array(found), CENTRES) == pytest.approx(expected)


def test_ceilings_are_what_guessing_scores_on_average(tmp_path):
    random = np.random.default_rng(1)
    rows = []
    for _ in range(150):
        count = random.integers(1, 5)
        row = np.full(4, -1)
        row[random.permutation(4)[:count]] = random.integers(0, 4, count)
        rows.append(row.tolist())
    truth, ids = made_up(tmp_path, rows, random.integers(0, 2, 150).tolist())
    told = scenes.ceilings(truth)
    wanted = truth.colour_labels(ids)
    score: dict[str, list[float]] = {"chance": [], "caption": []}
    for _ in range(25):
        blind = Reading(random.integers(0, 4, wanted.shape), random.integers(0, 2, 150))
        score["chance"].append(scenes.scores(blind, truth, ids)["colour_accuracy"])
        listens = blind.colours.copy()
        for i, row in enumerate(wanted):
            named = random.choice(np.flatnonzero(row != NOTHING))
            listens[i, named] = row[named]
        score["caption"].append(scenes.scores(Reading(listens, blind.grounds), truth, ids)["colour_accuracy"])
    for name, values in score.items():
        error = np.std(values) / np.sqrt(len(values))
        assert abs(np.mean(values) - told["colour_accuracy"][name]) < 4 * error


def test_the_world_states_the_same_ceilings(truth):
    # The world's are over all scenes that it could make, these over the 24 of this split.
    for score, best in scenes.ceilings(truth).items():
        for told, value in best.items():
            assert value == pytest.approx(truth.ceilings[score][told], abs=0.1), (score, told)
