"""Distances between distributions: closed forms, brute force, and torch-fidelity's numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.evaluation.distances import Moments, frechet_distance, kernel_distance, precision_recall


def moments(features: np.ndarray) -> Moments:
    result = Moments(features.shape[1])
    result.add(features)
    return result


@given(cuts=st.lists(st.integers(0, 60), max_size=5), seed=st.integers(0, 99))
def test_moments_do_not_depend_on_how_the_features_arrive(cuts, seed):
    features = np.random.default_rng(seed).standard_normal((60, 4)).astype(np.float32) * 3 + 100
    whole = Moments(4)
    for number, part in enumerate(np.split(features, sorted(cuts))):
        if number % 2:
            whole.merge(moments(part))
        else:
            whole.add(part)
    assert whole.count == 60
    np.testing.assert_allclose(whole.mean, features.mean(axis=0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(
        whole.covariance, np.cov(features.astype(np.float64), rowvar=False), rtol=1e-8, atol=1e-9
    )


def test_frechet_distance_of_gaussians_in_closed_form():
    a, b = Moments(3), Moments(3)
    a.count = b.count = 2  # covariance = comoment
    a.mean, b.mean = np.array([0.0, 1.0, 2.0]), np.array([3.0, 1.0, -2.0])
    a.comoment, b.comoment = np.diag([4.0, 1.0, 0.0]), np.diag([1.0, 9.0, 0.0])
    # |d|² + Σ (σa - σb)²
    assert frechet_distance(a, b) == pytest.approx(9 + 16 + (2 - 1) ** 2 + (1 - 3) ** 2)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_with_covariances_that_do_not_commute():
    random = np.random.default_rng(0)
    a, b = (moments(random.standard_normal((40, 5)) @ random.standard_normal((5, 5))) for _ in range(2))
    # The trace of the root by the general eigenvalues of the product: another road to the same number.
    roots = np.sqrt(np.linalg.eigvals(a.covariance @ b.covariance).astype(complex)).real.sum()
    expected = ((a.mean - b.mean) ** 2).sum() + np.trace(a.covariance) + np.trace(b.covariance) - 2 * roots
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_with_fewer_pictures_than_dimensions():
    random = np.random.default_rng(3)
    a, b = moments(random.standard_normal((9, 30))), moments(random.standard_normal((9, 30)) + 1)
    value = frechet_distance(a, b)
    assert np.isfinite(value)
    assert value > 0
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-5)


def test_frechet_distance_is_torch_fidelity_s():
    fid = pytest.importorskip("torch_fidelity.metric_fid")
    random = np.random.default_rng(4)
    features = [random.standard_normal((80, 12)), random.standard_normal((90, 12)) * 1.3 + 0.4]
    statistics = [fid.fid_features_to_statistics(torch.from_numpy(f)) for f in features]
    expected = fid.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(*map(moments, features)) == pytest.approx(expected, rel=1e-9)


def test_kernel_distance_by_four_loops():
    random = np.random.default_rng(5)
    x, y = random.standard_normal((6, 3)), random.standard_normal((6, 3)) + 0.5
    k = lambda a, b: (a @ b / 3 + 1) ** 3  # noqa: E731
    within = sum(k(z[i], z[j]) for z in (x, y) for i in range(6) for j in range(6) if i != j) / 30
    across = sum(k(a, b) for a in x for b in y) / 36
    mean, sd = kernel_distance(x, y, subsets=4, size=6)
    assert mean == pytest.approx(within - 2 * across)
    assert sd == pytest.approx(0, abs=1e-9)


def test_kernel_distance_is_torch_fidelity_s():
    kid = pytest.importorskip("torch_fidelity.metric_kid")
    random = np.random.default_rng(6)
    x, y = random.standard_normal((70, 8)), random.standard_normal((60, 8)) * 1.2
    expected = kid.kid_features_to_metric(
        torch.from_numpy(x), torch.from_numpy(y), kid_subsets=9, kid_subset_size=40, rng_seed=2020, verbose=False
    )
    mean, sd = kernel_distance(x, y, subsets=9, size=40)
    assert mean == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-9)
    assert sd == pytest.approx(expected["kernel_inception_distance_std"], rel=1e-9)


def test_kernel_distance_of_one_distribution_is_around_zero():
    random = np.random.default_rng(7)
    mean, sd = kernel_distance(random.standard_normal((500, 4)), random.standard_normal((500, 4)), 20, 100)
    assert abs(mean) < sd


def test_precision_and_recall_of_a_collapsed_painter():
    real = np.array([[0.0], [1.0], [2.0], [3.0], [100.0], [101.0], [102.0], [103.0]])
    painted = np.array([[0.1], [1.1], [2.1], [2.9]])  # only one of the two kinds
    assert precision_recall(painted, real, neighbours=2) == (1.0, 0.5)
    far = painted + 1000
    assert precision_recall(far, real, neighbours=2) == (0.0, 0.0)


def test_precision_and_recall_are_torch_fidelity_s():
    prc = pytest.importorskip("torch_fidelity.metric_prc")
    random = np.random.default_rng(8)
    x, y = random.standard_normal((90, 5)), random.standard_normal((110, 5)) * 1.5 + 0.5
    expected = prc.calculate_precision_recall_full(torch.from_numpy(x), torch.from_numpy(y), neighborhood=3)
    assert precision_recall(x, y) == pytest.approx(expected, abs=1e-6)
