"""How well texts find pictures of classes that were not trained on (Reed et al., 2016, section 5)."""

import numpy as np

NEAREST = 50  # of the precision that the paper reports as AP@50


def average_precision(scores: np.ndarray, right: np.ndarray) -> float:
    """Mean over the queries of the mean precision at each right picture, pictures by falling score.

    Args:
        scores: (queries, pictures).
        right: (queries, pictures) of bool; a query without a right picture does not count.
    """
    ranked = np.take_along_axis(right, np.argsort(-scores, 1, kind="stable"), 1)
    hits = ranked.cumsum(1) / np.arange(1, ranked.shape[1] + 1)
    there = ranked.any(1)
    return float(((hits * ranked).sum(1)[there] / ranked.sum(1)[there]).mean())


def precision_of_nearest(scores: np.ndarray, right: np.ndarray, nearest: int = NEAREST) -> float:
    """The share of right ones among the `nearest` pictures of a query, the mean over queries."""
    ranked = np.take_along_axis(right, np.argsort(-scores, 1, kind="stable"), 1)
    return float(ranked[:, :nearest].mean())
