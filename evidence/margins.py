"""What painters have above one who copies the start, and what of it they lose when the rounds are reversed.

Counted so is what was done, and not what was left alone. Several domains are taken together by the means of their
margins, seed by seed: one where little is won then weighs little.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

SCORES = ("slots", "object_f1", "scene_accuracy")
HEAD = ("seeds", "own rounds", "a copy of the start", "rounds reversed", "of the margin lost", "by seed")


class Margin(NamedTuple):
    """One training's score, a copy's of the start, and the training's with its rounds reversed."""

    score: float
    copy: float
    reversed: float


def margins(points: Sequence[Mapping[str, float]], score: str) -> list[Margin]:
    """Of the figures of several trainings, those of a score that have all three."""
    names = score, f"copy_start_{score}", f"reversed_{score}"
    return [Margin(*(point[name] for name in names)) for point in points if all(name in point for name in names)]


def together(domains: Sequence[Sequence[Margin]]) -> list[Margin]:
    """The means over domains, each a list by seed of one length."""
    return [Margin(*(fmean(values) for values in zip(*seed))) for seed in zip(*domains, strict=True)]


def lost(found: Sequence[Margin]) -> float | None:
    """The share of the margin over the copy that goes when rounds are reversed; None where there is no margin."""
    above = sum(one.score - one.copy for one in found)
    return sum(one.score - one.reversed for one in found) / above if above > 0 else None


def cells(found: Sequence[Margin]) -> list[str]:
    """A row of `HEAD`."""
    means = map(fmean, zip(*found))
    by_seed = ", ".join(_percent(lost([one])) for one in found)
    return [str(len(found)), *(f"{mean:.3f}" for mean in means), _percent(lost(found)), by_seed]


def _percent(share: float | None) -> str:
    if share is None:
        return "–"
    return "all" if share >= 1 else f"{100 * share:.1f} %"
