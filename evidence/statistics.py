"""Is one arm better than another? Paired tests over training seeds and over scenes.

Seeds are few, so both a t test (which assumes normal differences) and the exact sign-flip test (which assumes nothing,
and with n seeds cannot give less than 2 / 2^n) are stated. Scenes are many, but all of an arm's pictures of them come
from the same few trainings: the test over scenes speaks of these networks, not of training again.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Comparison:
    """Paired differences a - b: their mean, its two-sided p values and a 95 % interval (None of a single pair)."""

    pairs: int
    difference: float
    deviation: float  # sd of the differences, ddof 1
    low: float | None
    high: float | None
    p_t: float | None
    p_sign_flip: float

    def as_dict(self) -> dict[str, float | int | None]:
        return asdict(self)


def mean_and_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sd (ddof 1; 0 of a single value)."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def over_seeds(a: Sequence[float], b: Sequence[float]) -> Comparison:
    """Paired t test and exact sign-flip test over n pairs; the interval is Student's."""
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    n = len(differences)
    mean, deviation = mean_and_sd(differences.tolist())
    error = deviation / math.sqrt(n)
    low = high = p = None
    if n > 1:
        student = stats.t(n - 1)
        reach = student.ppf(0.975) * error
        low, high = float(mean - reach), float(mean + reach)
        p = float(2 * student.sf(abs(mean) / error)) if error > 0 else (0.0 if mean else 1.0)
    return Comparison(n, mean, deviation, low, high, p, exact_sign_flip(differences))


def over_scenes(a: np.ndarray, b: np.ndarray, draws: int = 10_000, seed: int = 0) -> Comparison:
    """Sign-flip test over scenes (random flips) and a bootstrap interval; a, b: (scenes,) scores, seeds averaged."""
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    n = len(differences)
    random = np.random.default_rng(seed)
    mean, deviation = mean_and_sd(differences.tolist())
    means = np.empty(draws)
    again = np.empty(draws)
    for i in range(draws):
        means[i] = np.mean(np.where(random.random(n) < 0.5, differences, -differences))
        again[i] = np.mean(differences[random.integers(0, n, n)])
    # The observed arrangement is one of those possible: p is never 0.
    p = (1 + int((np.abs(means) >= abs(mean) - 1e-12).sum())) / (draws + 1)
    low, high = np.quantile(again, (0.025, 0.975))
    return Comparison(n, mean, deviation, float(low), float(high), None, p)


def exact_sign_flip(differences: np.ndarray) -> float:
    """Two-sided p over all 2^n ways to flip the signs of n differences (n ≤ 20)."""
    assert len(differences) <= 20
    flips = np.array(list(itertools.product((1.0, -1.0), repeat=len(differences))))
    means = np.abs(flips @ differences)
    return float((means >= abs(differences.sum()) - 1e-12).mean())
