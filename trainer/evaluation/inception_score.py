"""Inception Score (Salimans et al., 2016): exp E_x KL(p(y|x) ‖ p(y)), in the protocols that papers mix up.

`reference` is torch-fidelity's: shuffle with seed 2020, cut into ten disjoint splits. `paper` is ChatPainter's own
sentence, "10 random splits of 30k images each" out of 40k: ten random subsets, which must overlap. The two differ
by more than the spread that either states, so a figure without its protocol means nothing.
"""

from collections.abc import Sequence

import numpy as np


def score(log_posteriors: np.ndarray) -> float:
    """exp of the mean KL divergence of (n, classes) log posteriors from their mean."""
    log_p = log_posteriors.astype(np.float64)
    p = np.exp(log_p)
    mean = p.mean(axis=0, keepdims=True)
    # A class that a picture cannot have contributes nothing: 0 · log 0 = 0.
    ratio = np.where(p > 0, log_p, 0.0) - np.log(np.where(mean > 0, mean, 1.0))
    return float(np.exp((p * ratio).sum(axis=1).mean()))


def disjoint(log_posteriors: np.ndarray, splits: int = 10, seed: int = 2020) -> tuple[float, float]:
    """Protocol `reference`: mean and sd (ddof 0) over `splits` disjoint parts after a shuffle."""
    n = len(log_posteriors)
    assert n >= splits
    order = np.random.RandomState(seed).permutation(n)
    shuffled = log_posteriors[order]
    values = [score(shuffled[i * n // splits : (i + 1) * n // splits]) for i in range(splits)]
    return float(np.mean(values)), float(np.std(values))


def subsets(log_posteriors: np.ndarray, count: int, size: int, seed: int) -> tuple[float, float]:
    """Protocol `paper`: mean and sd (ddof 0) over `count` random subsets of `size` pictures, each without repeats.

    The sd measures the choice of subset alone, neither training nor noise.
    """
    assert size <= len(log_posteriors)
    random = np.random.default_rng(seed)
    values = [score(log_posteriors[random.choice(len(log_posteriors), size, replace=False)]) for _ in range(count)]
    return float(np.mean(values)), float(np.std(values))


def domain(log_posteriors: Sequence[np.ndarray]) -> float:
    """Inception Score by a classifier of several questions: the geometric mean of the questions' scores.

    Between 1 (every picture gets the same answers) and the geometric mean of the numbers of classes.
    """
    return float(np.exp(np.mean([np.log(score(head)) for head in log_posteriors])))
