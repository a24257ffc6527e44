"""R-precision (Xu et al., 2018): is a painted picture closer to its own text than to 99 others'?

The similarity is a dot product, so that one function serves both judges: CLIP (unit vectors of picture and text) and,
on the small worlds, the domain classifier (log posteriors of the picture, one-hot facts of the scene: the dot product
is the log likelihood of the facts). Neither was used in training.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from trainer.evaluation.figures import Figures


def candidates(count: int, others: int, seed: int) -> np.ndarray:
    """(count, others) int64: for each of `count` pictures, `others` different pictures that are not itself."""
    assert 0 < others < count
    random = np.random.default_rng(seed)
    chosen = np.stack([random.choice(count - 1, others, replace=False) for _ in range(count)])
    return chosen + (chosen >= np.arange(count)[:, None])


def r_precision(pictures: np.ndarray, texts: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n,) float64: 1 where the picture's own text is the most similar, 0 where another is, 1/k among k equals.

    Args:
        pictures, texts: (n, d); text i is picture i's own.
        others: (n, k) indices of the other texts. One that equals the picture's own text says the same and is left out.
    """
    result = np.empty(len(pictures))
    for i, (picture, own, rows) in enumerate(zip(pictures, texts, others)):
        rest = texts[rows]
        rest = rest[(rest != own).any(axis=1)]
        mine, theirs = own.astype(np.float64) @ picture, rest.astype(np.float64) @ picture
        result[i] = 0.0 if (theirs > mine).any() else 1.0 / (1 + (theirs == mine).sum())
    return result


def folds(hits: np.ndarray, count: int = 10) -> tuple[float, float]:
    """Mean and sd (ddof 0) over `count` folds of neighbouring pictures, as AttnGAN states it."""
    values = [part.mean() for part in np.array_split(hits, min(count, len(hits)))]
    return float(hits.mean()), float(np.std(values))


def r_precision_figure(
    figures: "Figures",
    name: str,
    pictures: np.ndarray,
    texts: np.ndarray,
    seed: int,
    about: dict[str, Any],
    protocol: str = "{}; the judge was not used in training",
) -> None:
    """Add R-precision over 99 other texts, or as many as there are, with its deviation over ten folds.

    Args:
        pictures, texts: as in `r_precision`.
        protocol: around `{}`, in which candidates and folds are named.
    """
    others = min(99, len(pictures) - 1)
    value, spread = folds(r_precision(pictures, texts, candidates(len(pictures), others, seed)))
    protocol = protocol.format(f"1 of {others + 1}, 10 folds")
    figures.add(name, value, protocol, len(pictures), spread=spread, **about)
