"""Paired tests against tables of Student's t, its density integrated here, and enumeration."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence import statistics


def two_sided(t: float, freedom: int) -> float:
    """P(|T| > t) of Student's t: its density, integrated by Simpson's rule over the angle atan(t / √freedom)."""
    constant = math.gamma((freedom + 1) / 2) / (math.sqrt(math.pi) * math.gamma(freedom / 2))
    angles = np.linspace(math.atan(t / math.sqrt(freedom)), math.pi / 2, 4001)
    # With t = √n tan(a) the density (1 + t²/n)^(-(n+1)/2) dt is cos(a)^(n-1) √n da.
    values = np.cos(angles) ** (freedom - 1)
    width = angles[1] - angles[0]
    return float(
        2 * constant * width / 3 * (values[0] + 4 * values[1::2].sum() + 2 * values[2:-1:2].sum() + values[-1])
    )


@pytest.mark.parametrize(
    ("freedom", "t"),
    # The 0.975 quantile, from any printed table of the t distribution.
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (19, 2.093)],
)
def test_the_interval_is_that_of_student_s_table(freedom, t):
    differences = np.arange(freedom + 1.0)
    found = statistics.over_seeds(differences.tolist(), [0.0] * (freedom + 1))
    mean, error = differences.mean(), differences.std(ddof=1) / math.sqrt(freedom + 1)
    assert found.low == pytest.approx(mean - t * error, abs=5e-4 * error)
    assert found.high == pytest.approx(mean + t * error, abs=5e-4 * error)
    assert two_sided(t, freedom) == pytest.approx(0.05, abs=5e-5)  # the table agrees with the integral below


@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=12).filter(lambda found: len(set(found)) > 1))
def test_p_is_the_density_beyond_t(differences):
    found = statistics.over_seeds([each / 1000 for each in differences], [0.0] * len(differences))
    n = len(differences)
    t = abs(np.mean(differences)) / (np.std(differences, ddof=1) / math.sqrt(n))
    assert found.p_t == pytest.approx(two_sided(float(t), n - 1), abs=1e-9)


def test_four_seeds_counted_by_hand():
    # Differences 1, 2, 3, 4: mean 2.5, sd √(5/3), error √(5/12), t = 3.873 with three degrees of freedom.
    found = statistics.over_seeds([2.0, 4.0, 6.0, 8.0], [1.0, 2.0, 3.0, 4.0])
    assert (found.pairs, found.difference) == (4, 2.5)
    assert found.deviation == pytest.approx(math.sqrt(5 / 3))
    assert found.p_t == pytest.approx(0.0305, abs=5e-5)
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
