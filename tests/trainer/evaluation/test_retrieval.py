"""R-precision by hand."""

import numpy as np
import pytest

from trainer.evaluation.retrieval import candidates, folds, r_precision


def test_candidates_are_others_and_differ():
    chosen = candidates(30, 12, seed=4)
    assert chosen.shape == (30, 12)
    assert chosen.min() >= 0
    assert chosen.max() < 30
    for i, row in enumerate(chosen):
        assert i not in row
        assert len(set(row.tolist())) == 12
    assert {*range(30)} - {0} == {*candidates(30, 29, seed=0)[0].tolist()}


def test_own_text_must_be_the_most_similar():
    texts = np.eye(3)
    pictures = np.array([[0.9, 0.1, 0.0], [0.5, 0.4, 0.1], [0.2, 0.4, 0.4]])
    others = np.array([[1, 2], [0, 2], [0, 1]])
    assert r_precision(pictures, texts, others).tolist() == [1.0, 0.0, 0.5]  # right, wrong, one of two equals


def test_a_text_that_says_the_same_is_no_mistake():
    texts = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert r_precision(np.array([[1.0, 0.0]]), texts, np.array([[1, 2]])).tolist() == [1.0]


def test_pictures_that_say_nothing_score_chance():
    texts = np.random.default_rng(0).permutation(np.eye(40))
    hits = r_precision(np.zeros((40, 40)), texts, candidates(40, 9, seed=1))
    assert hits.mean() == pytest.approx(0.1)


def test_folds():
    mean, sd = folds(np.array([1.0, 1, 0, 0]), 2)
    assert (mean, sd) == (0.5, 0.5)
