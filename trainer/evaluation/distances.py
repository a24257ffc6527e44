"""How far painted pictures lie from real ones in a feature space: Fréchet distance, KID, precision and recall.

The mathematics in float64, each the definition that torch-fidelity 0.4 computes (`metric_fid.py`, `metric_kid.py`,
`metric_prc.py`; tested equal to it), so that the figures do not depend on an optional package while the reference
networks come from it. FID alone needs no more than moments, and those add up over batches and processes.
"""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Moments:
    """Count, mean and co-moment of features seen so far; batches and processes add up (Chan et al., 1979)."""

    dim: int
    count: int = 0
    mean: np.ndarray = field(init=False)  # (d,)
    comoment: np.ndarray = field(init=False)  # (d, d): sum of (x - mean)(x - mean)ᵀ

    def __post_init__(self) -> None:
        self.mean = np.zeros(self.dim)
        self.comoment = np.zeros((self.dim, self.dim))

    def add(self, features: np.ndarray) -> None:
        """Take in features (n, d)."""
        if not len(features):
            return
        other = Moments(self.dim)
        other.count = len(features)
        other.mean = features.mean(axis=0, dtype=np.float64)
        centred = features.astype(np.float64) - other.mean
        other.comoment = centred.T @ centred
        self.merge(other)

    def merge(self, other: "Moments") -> None:
        """Take in what another process saw."""
        total = self.count + other.count
        if not total:
            return
        apart = other.mean - self.mean
        self.comoment += other.comoment + np.outer(apart, apart) * (self.count * other.count / total)
        self.mean = self.mean + apart * (other.count / total)
        self.count = total

    @property
    def covariance(self) -> np.ndarray:
        """(d, d), unbiased."""
        return self.comoment / (self.count - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """FID (Heusel et al., 2017): |μa - μb|² + tr(Σa + Σb - 2 (Σa Σb)^½).

    The trace of the root is the sum of the roots of the eigenvalues of Σa^½ Σb Σa^½, which is symmetric and
    positive semi-definite: no complex square root, and singular covariances (fewer pictures than dimensions) are fine.
    """
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    inner = np.linalg.eigvalsh(root @ b.covariance @ root)
    apart = a.mean - b.mean
    trace = np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.sqrt(np.clip(inner, 0, None)).sum()
    return float(apart @ apart + trace)


def kernel_distance(
    painted: np.ndarray, real: np.ndarray, subsets: int = 100, size: int = 1000, seed: int = 2020
) -> tuple[float, float]:
    """KID (Bińkowski et al., 2018): unbiased MMD² with kernel (x·y/d + 1)³; mean and sd over random subsets.

    Args:
        painted, real: (n, d), (m, d); both must have at least `size` rows.
    """
    assert min(len(painted), len(real)) >= size > 1
    random = np.random.RandomState(seed)
    distances = np.empty(subsets)
    for i in range(subsets):
        x = painted[random.choice(len(painted), size, replace=False)].astype(np.float64)
        y = real[random.choice(len(real), size, replace=False)].astype(np.float64)
        xx, yy, xy = (_polynomial(a, b) for a, b in ((x, x), (y, y), (x, y)))
        within = (xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)) / (size * (size - 1))
        distances[i] = within - 2 * xy.mean()
    return float(distances.mean()), float(distances.std())


def precision_recall(painted: np.ndarray, real: np.ndarray, neighbours: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al., 2019).

    precision: the share of painted pictures that lie within some real picture's distance to its `neighbours`-th
    neighbour; recall: the other way round.
    """
    assert min(len(painted), len(real)) > neighbours
    return _covered(painted, real, neighbours), _covered(real, painted, neighbours)


def _covered(points: np.ndarray, by: np.ndarray, neighbours: int, rows: int = 2048) -> float:
    import torch

    a, b = torch.from_numpy(np.ascontiguousarray(points)), torch.from_numpy(np.ascontiguousarray(by))
    reach = torch.cat([torch.cdist(part, b).kthvalue(neighbours + 1).values for part in b.split(rows)])
    hits = sum(int((torch.cdist(part, b) <= reach).any(dim=1).sum()) for part in a.split(rows))
    return hits / len(points)


def _polynomial(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3
