"""Inception Score: closed forms, both protocols, and torch-fidelity's numbers."""

import numpy as np
import pytest

from trainer.evaluation import inception_score


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.eye(classes)[labels])


def softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def test_every_class_certain_and_equally_often_scores_the_number_of_classes():
    assert inception_score.score(one_hot(np.arange(60) % 12, 12)) == pytest.approx(12)


def test_pictures_that_all_look_alike_score_one():
    logits = np.tile(np.random.default_rng(0).standard_normal(9), (50, 1))
    assert inception_score.score(softmax(logits)) == pytest.approx(1)


def test_two_kinds_of_pictures_by_hand():
    # p = (3/4, 1/4) and (1/4, 3/4), mean (1/2, 1/2): KL = 3/4 log 3/2 + 1/4 log 1/2.
    log_p = np.log(np.array([[0.75, 0.25], [0.25, 0.75]]))
    assert inception_score.score(log_p) == pytest.approx(np.exp(0.75 * np.log(1.5) + 0.25 * np.log(0.5)))


def test_reference_protocol_is_torch_fidelity_s():
    fidelity = pytest.importorskip("torch_fidelity.metric_isc")
    import torch

    logits = np.random.default_rng(1).standard_normal((137, 20)).astype(np.float32) * 3
    expected = fidelity.isc_features_to_metric(torch.from_numpy(logits), splits=10, shuffle=True, rng_seed=2020)
    mean, sd = inception_score.disjoint(softmax(logits.astype(np.float64)))
    assert mean == pytest.approx(expected["inception_score_mean"], rel=1e-9)
    assert sd == pytest.approx(expected["inception_score_std"], rel=1e-7)


def test_paper_protocol_overlaps_and_so_differs_less_between_subsets():
    random = np.random.default_rng(2)
    log_p = softmax(random.standard_normal((400, 30)) * 2)
    mean, sd = inception_score.subsets(log_p, 10, 300, seed=5)
    # The same subsets drawn here.
    again = np.random.default_rng(5)
    values = [inception_score.score(log_p[again.choice(400, 300, replace=False)]) for _ in range(10)]
    assert (mean, sd) == (pytest.approx(np.mean(values)), pytest.approx(np.std(values)))
    disjoint, spread = inception_score.disjoint(log_p)
    assert mean > disjoint  # fewer pictures a split bias the score down
    assert sd < spread
    assert inception_score.subsets(log_p, 3, 400, seed=0)[1] == pytest.approx(0, abs=1e-12)


def test_domain_score_is_the_geometric_mean_of_the_questions():
    heads = [one_hot(np.arange(24) % 6, 6), one_hot(np.zeros(24, int), 3), one_hot(np.arange(24) % 2, 2)]
    assert inception_score.domain(heads) == pytest.approx((6 * 1 * 2) ** (1 / 3))
