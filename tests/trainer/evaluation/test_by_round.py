"""Told, kept and settled of the sample world's dialogues, for painters whose pictures are known."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from trainer.evaluation.by_round import EXACT, by_round, counted
from trainer.evaluation.evaluated import Evaluated, KnownWorld
from trainer.evaluation.figures import Figures
from trainer.evaluation.split import Condition
from trainer.evaluation.truth import Truth

ROUNDS = 10


@pytest.fixture(scope="module")
def truth(world: Path) -> Truth:
    return Truth.load(world / "data/raw/sample/truth_val.json")


def exact(truth: Truth, ids: np.ndarray) -> np.ndarray:
    """(n, 1 + places): ground and colours as they are."""
    return np.concatenate([truth.ground_labels(ids)[:, None], truth.colour_labels(ids) + 1], axis=1)


def test_the_truth_painted_from_the_start_is_told_kept_and_settled(truth: Truth) -> None:
    ids = np.array(list(truth.scenes))
    right = exact(truth, ids)
    found = counted(truth, ids, np.zeros(len(ids), np.int64), [right] * (ROUNDS + 1), EXACT)
    assert (found.told_over_all, found.kept_over_all, found.settled_over_all) == (1, 1, 1)
    assert (found.told[1:] == 1).all()
    assert len(found.told) == ROUNDS + 1


def test_what_is_never_painted_is_never_told_and_what_flickers_is_not_kept(truth: Truth) -> None:
    ids = np.array(list(truth.scenes))
    wrong = exact(truth, ids) + 100
    captions = np.zeros(len(ids), np.int64)
    found = counted(truth, ids, captions, [wrong] * (ROUNDS + 1), EXACT)
    assert (found.told_over_all, found.kept_over_all) == (0, 1)
    found = counted(truth, ids, captions, [wrong + number for number in range(ROUNDS + 1)], EXACT)
    assert (found.told_over_all, found.kept_over_all) == (0, 0)


def test_a_place_that_its_round_forgets_is_lost_from_there_on(truth: Truth) -> None:
    """Everything is right until a round of the only dialogue tells a fact; from then on that fact is wrong."""
    image_id = next(iter(truth.scenes))
    facts = [head.name for head in truth.heads() if head.kind in EXACT]
    right = exact(truth, np.array([image_id]))
    rounds = truth.words[image_id]["rounds"]
    number, fact = next((n, fact) for n, one in enumerate(rounds) for fact in one["tells"] if fact in facts)
    forgotten = right.copy()
    forgotten[0, facts.index(fact)] += 1
    readings = [right if after <= number else forgotten for after in range(len(rounds) + 1)]
    found = counted(truth, np.array([image_id]), np.zeros(1, np.int64), readings, EXACT)
    assert found.told[number] == 1
    assert found.told[number + 1] < 1
    assert found.told_over_all < 1


def evaluated(truth: Truth, ids: np.ndarray, rounds: list[int]) -> tuple[Evaluated, dict[Condition, dict]]:
    right = exact(truth, ids)
    heads = truth.heads()
    sure = [np.eye(len(head.classes))[truth.targets(ids)[:, i]] for i, head in enumerate(heads)]
    arrays = {
        "64/scene/colours": right[:, 1:] - 1,
        "64/scene/grounds": right[:, 0],
        "64/domain/log_posteriors": np.concatenate(sure, axis=1),
    }
    return Evaluated(ids, arrays, arrays, {64: "stage1"}, 0), {Condition("own", number): arrays for number in rounds}


def test_figures_and_the_table_for_plots(truth: Truth, tmp_path: Path) -> None:
    ids = np.array(list(truth.scenes))
    it, probes = evaluated(truth, ids, list(range(ROUNDS + 1)))
    figures = Figures()
    by_round(figures, tmp_path, KnownWorld(truth, "x", {}), it, probes, np.zeros(len(ids), np.int64))
    shown = figures.shown()
    for name in ("told", "kept", "settled"):
        assert shown[f"stage1_{name}"] == shown[f"stage1_{name}_least"] == 1
    values = {figure.name: figure.value for figure in figures.made}
    assert values["stage1_own_4_rounds_told"] == values["stage1_own_10_rounds_classifier_kept"] == 1
    with open(tmp_path / "told_by_round.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["rounds"] for row in rows] == [str(number) for number in range(ROUNDS + 1)]
    assert rows[0]["kept"] == ""
    assert float(rows[10]["settled"]) == 1


def test_rounds_left_out_are_said(truth: Truth, tmp_path: Path) -> None:
    it, probes = evaluated(truth, np.array(list(truth.scenes)), [0, 3, 10])
    figures = Figures()
    by_round(figures, tmp_path, KnownWorld(truth, "x", {}), it, probes, np.zeros(len(it.ids), np.int64))
    assert "every number of rounds" in figures.skipped[0]["reason"]
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_counted_is_left_out(truth: Truth, tmp_path: Path) -> None:
    """Of pictures that show nothing right nothing can stay right: no figure, and a reason."""
    ids = np.array(list(truth.scenes))
    it, probes = evaluated(truth, ids, list(range(ROUNDS + 1)))
    wrong = {name: values + 1 if "scene" in name else values for name, values in it.painted.items()}
    figures = Figures()
    by_round(
        figures, tmp_path, KnownWorld(truth, "x", {}), it, dict.fromkeys(probes, wrong), np.zeros(len(ids), np.int64)
    )
    assert figures.shown()["stage1_told"] < 1
    figures.write(tmp_path / "metrics.json", {})
    nothing = {name: values + 100 if "scene" in name else values for name, values in it.painted.items()}
    figures = Figures()
    by_round(
        figures, tmp_path, KnownWorld(truth, "x", {}), it, dict.fromkeys(probes, nothing), np.zeros(len(ids), np.int64)
    )
    assert figures.shown()["stage1_told"] == 0
    assert "stage1_settled" not in figures.shown()
    assert {entry["name"] for entry in figures.skipped} == {"stage1_settled"}
    figures.write(tmp_path / "metrics.json", {})  # JSON has no NaN


def test_canvases_of_sprites_are_judged_by_the_classifier(tmp_path: Path) -> None:
    """A sun, then a tree; the painter paints the sun, forgets it when the tree comes, and paints no tree."""
    sun, tree = ({"sprite": name, "x": 1, "y": 1} for name in ("sun", "tree"))
    scenes = [{"image_id": 5, "objects": [sun, tree], "turns": [[sun], [sun, tree]]}]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"world": {"canvas": [4, 4], "sprites": ["sun", "tree"]}, "scenes": scenes}))
    truth = Truth.load(path)
    seen = [[0, 0], [1, 0], [0, 0]]  # after no round, one and two
    probes = {}
    for number, one in enumerate(seen):
        posteriors = np.concatenate([np.eye(2)[there] for there in one])[None]
        probes[Condition("own", number)] = {"64/domain/log_posteriors": posteriors}
    it = Evaluated(np.array([5]), probes[Condition("own", 2)], {}, {64: "picture"}, 0)
    figures = Figures()
    by_round(figures, tmp_path, KnownWorld(truth, "x", {}), it, probes, np.array([-1]))
    values = {figure.name: figure.value for figure in figures.made}
    assert values["picture_own_1_rounds_told"] == 1
    assert values["picture_own_2_rounds_told"] == 0
    assert values["picture_told"] == pytest.approx(1 / 3)
    assert values["picture_own_2_rounds_kept"] == 0  # of the sun, of which nobody spoke
    assert values["picture_own_2_rounds_settled"] == 0
    assert not any("classifier" in name for name in values)
