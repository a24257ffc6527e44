"""What people ask of a picture painted anew after every round: is what was said so far in it, and does the rest stay?

A picture is read as a row of facts (the colour at each place, say); it is painted after the caption alone and after
every round, from the same noise. Three shares, for each round and over all of them:

- told: of the facts told so far, those that the picture shows, as they are by then.
- kept: of the facts that the round did not speak of, those that read as they did before it.
- settled: of the facts told before the round, right then, and not changed by it, those still right after it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


@dataclass(frozen=True)
class Rounds:
    """Shares after each of R rounds; NaN where nothing was there to count. `told[0]` is of the caption alone."""

    told: np.ndarray  # (R + 1,)
    kept: np.ndarray  # (R,)
    settled: np.ndarray  # (R,)
    told_over_all: float
    kept_over_all: float
    settled_over_all: float


class FactsTold(NamedTuple):
    """What n dialogues of at most R rounds tell and speak of, by k facts."""

    told: np.ndarray  # (n, R + 1, k) bool: by the caption (at 0) and by each round
    spoken_of: np.ndarray  # (n, R, k) bool: a fact of a place that the round speaks of, stated or not
    rounds: np.ndarray  # (n,) int64


def facts_told(scenes: Sequence[Mapping[str, Any]], captions: Sequence[int], facts: Sequence[str]) -> FactsTold:
    """Read it from scenes of a truth file (`captions`, `rounds`; each with `tells`, a round with `speaks_of`).

    Args:
        scenes: entries of the file's list `scenes`, n of them.
        captions: (n,) which of its captions each scene is painted from, in the order of the file; -1: of none.
        facts: names of facts as the file has them, "ground" or "top left: colour"; others are passed over.

    Raises:
        KeyError: a scene does not say what its captions and rounds tell.
    """
    column = {fact: number for number, fact in enumerate(facts)}
    place = np.array([fact.partition(":")[0] for fact in facts])
    rounds = np.array([len(scene["rounds"]) for scene in scenes], dtype=np.int64)
    longest = int(rounds.max(initial=0))
    told = np.zeros((len(scenes), longest + 1, len(facts)), dtype=bool)
    spoken_of = np.zeros((len(scenes), longest, len(facts)), dtype=bool)
    for row, (scene, caption) in enumerate(zip(scenes, captions, strict=True)):
        first = {"tells": ()} if caption < 0 else scene["captions"][caption]
        for number, words in enumerate((first, *scene["rounds"])):
            told[row, number, [column[fact] for fact in words["tells"] if fact in column]] = True
        for number, words in enumerate(scene["rounds"]):
            spoken_of[row, number] = np.isin(place, words["speaks_of"])
    return FactsTold(told, spoken_of, rounds)


def over_rounds(
    readings: np.ndarray, truth: np.ndarray, told: np.ndarray, spoken_of: np.ndarray, rounds: np.ndarray
) -> Rounds:
    """Count told, kept and settled over n dialogues of at most R rounds about k facts.

    Args:
        readings: (n, R + 1, k) what each picture shows, the first painted from the caption alone; any dtype.
        truth: (n, k) what is right; (n, R + 1, k) where a round may change what earlier ones said.
        told: (n, R + 1, k) bool, the facts that the caption (at 0) and each round state.
        spoken_of: (n, R, k) bool, the facts that each round speaks of, stated or not.
        rounds: (n,) how many rounds each dialogue has; what stands after them is not counted.
    """
    n, painted, k = readings.shape
    if truth.ndim == 2:
        truth = np.repeat(truth[:, None], painted, axis=1)
    if truth.shape != readings.shape or told.shape != (n, painted, k) or spoken_of.shape != (n, painted - 1, k):
        raise ValueError(f"{readings.shape} readings, {truth.shape} truth, {told.shape} told, {spoken_of.shape} spoken")
    there = np.arange(painted) <= np.asarray(rounds)[:, None]  # (n, R + 1): is there a picture?
    so_far = np.logical_or.accumulate(told, axis=1) & there[..., None]
    right = readings == truth
    same = readings[:, 1:] == readings[:, :-1]
    unspoken = ~spoken_of & there[:, 1:, None]
    fixed = so_far[:, :-1] & right[:, :-1] & there[:, 1:, None] & (truth[:, 1:] == truth[:, :-1])
    told_each, told_all = _shares(right, so_far)
    kept_each, kept_all = _shares(same, unspoken)
    settled_each, settled_all = _shares(right[:, 1:], fixed)
    return Rounds(told_each, kept_each, settled_each, told_all, kept_all, settled_all)


def _shares(good: np.ndarray, counted: np.ndarray) -> tuple[np.ndarray, float]:
    """Of the counted (n, r, k), the share that is good: after each round, and over all."""
    hits, total = (good & counted).sum(axis=(0, 2)), counted.sum(axis=(0, 2))
    each = np.divide(hits, total, out=np.full(len(total), np.nan), where=total > 0)
    return each, float(hits.sum() / total.sum()) if total.sum() else float("nan")
