"""Told, kept and settled against counting one fact after the other, and on dialogues small enough to count by eye."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.evaluation.rounds import facts_told, over_rounds


def test_a_dialogue_of_two_rounds_counted_by_eye() -> None:
    # Two facts; the caption tells the first, round 1 speaks of both and tells neither, round 2 tells the second.
    found = over_rounds(
        readings=np.array([[[1, 8], [1, 9], [2, 9]]]),
        truth=np.array([[1, 9]]),
        told=np.array([[[True, False], [False, False], [False, True]]]),
        spoken_of=np.array([[[True, True], [False, True]]]),
        rounds=np.array([2]),
    )
    np.testing.assert_array_equal(found.told, [1, 1, 0.5])  # the first was painted over in round 2
    np.testing.assert_array_equal(found.kept, [np.nan, 0])  # nothing to keep in round 1; then the first fact was lost
    np.testing.assert_array_equal(found.settled, [1, 0])
    assert found.told_over_all == 0.75
    assert found.kept_over_all == 0
    assert found.settled_over_all == 0.5


def by_hand(
    readings: np.ndarray, truth: np.ndarray, told: np.ndarray, spoken_of: np.ndarray, rounds: np.ndarray
) -> dict[str, list[list[int]]]:
    n, painted, k = readings.shape
    counts = {name: [[0, 0] for _ in range(painted)] for name in ("told", "kept", "settled")}
    for i in range(n):
        for r in range(int(rounds[i]) + 1):
            for fact in range(k):
                before = any(told[i, s, fact] for s in range(r))
                if before or told[i, r, fact]:
                    counts["told"][r][0] += readings[i, r, fact] == truth[i, fact]
                    counts["told"][r][1] += 1
                if r and not spoken_of[i, r - 1, fact]:
                    counts["kept"][r][0] += readings[i, r, fact] == readings[i, r - 1, fact]
                    counts["kept"][r][1] += 1
                if r and before and readings[i, r - 1, fact] == truth[i, fact]:
                    counts["settled"][r][0] += readings[i, r, fact] == truth[i, fact]
                    counts["settled"][r][1] += 1
    return counts


@given(seed=st.integers(0, 10_000), n=st.integers(1, 5), longest=st.integers(0, 4), k=st.integers(1, 4))
def test_the_shares_are_what_counting_gives(seed: int, n: int, longest: int, k: int) -> None:
    draw = np.random.default_rng(seed)
    readings, truth = draw.integers(0, 2, (n, longest + 1, k)), draw.integers(0, 2, (n, k))
    told, spoken_of = draw.random((n, longest + 1, k)) < 0.3, draw.random((n, longest, k)) < 0.5
    rounds = draw.integers(0, longest + 1, n)
    found = over_rounds(readings, truth, told, spoken_of, rounds)
    for name, counts in by_hand(readings, truth, told, spoken_of, rounds).items():
        each = [good / of if of else math.nan for good, of in (counts if name == "told" else counts[1:])]
        np.testing.assert_allclose(getattr(found, name), each)
        good, of = (sum(column) for column in zip(*counts))
        np.testing.assert_allclose(getattr(found, f"{name}_over_all"), good / of if of else math.nan)


def test_a_round_that_changes_what_an_earlier_one_said_counted_by_eye() -> None:
    # One fact: round 1 tells 5, round 2 makes it 6, round 3 speaks of something else.
    about: dict[str, Any] = {
        "truth": np.array([[[0], [5], [6], [6]]]),
        "told": np.array([[[False], [True], [True], [False]]]),
        "spoken_of": np.array([[[True], [True], [False]]]),
        "rounds": np.array([3]),
    }
    obedient = over_rounds(np.array([[[0], [5], [6], [6]]]), **about)
    np.testing.assert_array_equal(obedient.told, [np.nan, 1, 1, 1])
    np.testing.assert_array_equal(obedient.settled, [np.nan, np.nan, 1])  # round 2 changed what was settled
    stubborn = over_rounds(np.array([[[0], [5], [5], [5]]]), **about)
    np.testing.assert_array_equal(stubborn.told, [np.nan, 1, 0, 0])
    assert (stubborn.kept_over_all, obedient.kept_over_all) == (1, 1)
    np.testing.assert_array_equal(stubborn.settled, [np.nan, np.nan, np.nan])


def test_a_painter_that_changes_nothing_keeps_all_and_one_that_is_right_is_told() -> None:
    draw = np.random.default_rng(0)
    truth, told = draw.integers(0, 6, (20, 4)), draw.random((20, 11, 4)) < 0.2
    spoken_of, rounds = told[:, 1:], np.full(20, 10)
    still = np.repeat(draw.integers(0, 6, (20, 1, 4)), 11, axis=1)
    assert over_rounds(still, truth, told, spoken_of, rounds).kept_over_all == 1
    so_far = np.logical_or.accumulate(told, axis=1)
    obedient = np.where(so_far, truth[:, None], -1)
    found = over_rounds(obedient, truth, told, spoken_of, rounds)
    assert (found.told_over_all, found.kept_over_all, found.settled_over_all) == (1, 1, 1)


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="readings"):
        over_rounds(np.zeros((2, 3, 4)), np.zeros((2, 4)), np.zeros((2, 2, 4)), np.zeros((2, 2, 4)), np.ones(2))


def test_what_was_said_is_read_from_the_truth_file() -> None:
    scenes: list[dict[str, Any]] = [
        {
            "captions": [{"tells": ["a: colour", "a: shape"]}, {"tells": ["b: colour"]}],
            "rounds": [{"tells": ["ground"], "speaks_of": ["ground"]}, {"tells": [], "speaks_of": ["a", "b"]}],
        },
        {"captions": [{"tells": []}], "rounds": [{"tells": ["b: colour"], "speaks_of": ["b"]}]},
    ]
    found = facts_told(scenes, [1, 0], ["ground", "a: colour", "b: colour"])
    assert found.rounds.tolist() == [2, 1]
    assert found.told.astype(int).tolist() == [
        [[0, 0, 1], [1, 0, 0], [0, 0, 0]],
        [[0, 0, 0], [0, 0, 1], [0, 0, 0]],
    ]
    assert found.spoken_of.astype(int).tolist() == [[[1, 0, 0], [0, 1, 1]], [[0, 0, 1], [0, 0, 0]]]
    with pytest.raises(KeyError):
        facts_told([{"image_id": 1}], [0], ["ground"])
