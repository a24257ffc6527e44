"""Paired tests: tables of Student's t, enumeration, scipy."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence import statistics


@pytest.mark.parametrize(
    ("p", "freedom", "t"),
    # From any printed table of the t distribution.
    [(0.975, 1, 12.706), (0.975, 2, 4.303), (0.975, 4, 2.776), (0.95, 3, 2.353), (0.975, 9, 2.262), (0.995, 30, 2.750)],
)
def test_quantiles_of_student_s_table(p, freedom, t):
    assert statistics.student_quantile(p, freedom) == pytest.approx(t, abs=5e-4)
    assert statistics.student_cdf(t, freedom) == pytest.approx(p, abs=1e-4)
    assert statistics.student_cdf(-t, freedom) == pytest.approx(1 - p, abs=1e-4)


@settings(deadline=None)
@given(t=st.floats(-50, 50), freedom=st.integers(1, 40))
def test_student_is_scipy_s(t, freedom):
    scipy = pytest.importorskip("scipy.stats")
    assert statistics.student_cdf(t, freedom) == pytest.approx(scipy.t.cdf(t, freedom), abs=1e-12)


def test_over_seeds_is_scipy_s_paired_test():
    scipy = pytest.importorskip("scipy.stats")
    a, b = [0.51, 0.57, 0.49, 0.60], [0.40, 0.45, 0.47, 0.39]
    found, expected = statistics.over_seeds(a, b), scipy.ttest_rel(a, b)
    assert found.p_t == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert found.p_sign_flip == 2 / 2**4  # the least that four seeds can give: all differences have one sign


def test_sign_flips_are_all_enumerated():
    differences = np.array([0.3, -0.1, 0.2, 0.05, -0.02])
    extreme = [
        abs(sum(s * d for s, d in zip(signs, differences))) >= abs(differences.sum()) - 1e-12
        for signs in itertools.product((1, -1), repeat=5)
    ]
    assert statistics.exact_sign_flip(differences) == pytest.approx(sum(extreme) / 32)


def test_equal_arms_and_single_seeds():
    same = statistics.over_seeds([0.5, 0.6], [0.5, 0.6])
    assert (same.difference, same.p_t, same.p_sign_flip) == (0.0, 1.0, 1.0)
    one = statistics.over_seeds([0.5], [0.4])
    assert (one.p_t, one.p_sign_flip) == (None, 1.0)
    assert (one.low, one.high) == (None, None), "one pair says nothing of the next"


def test_over_scenes_finds_a_difference_and_none():
    random = np.random.default_rng(0)
    base = random.random(200)
    better = statistics.over_scenes(base + 0.1 + 0.2 * random.standard_normal(200), base, draws=2000)
    assert better.p_sign_flip < 0.01
    assert 0 < better.low < better.difference < better.high
    equal = statistics.over_scenes(base + 0.2 * random.standard_normal(200), base, draws=2000)
    assert equal.p_sign_flip > 0.05
    assert equal.low < 0 < equal.high
    assert statistics.over_scenes(base, base, draws=100).p_sign_flip == 1.0
