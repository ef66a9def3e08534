"""Paired bootstrap and permutation test of error rates between systems with several runs each."""

import itertools
import math

import numpy as np
import pytest

from hf_localgan.metrics import error_rate_difference, error_rate_permutation

TOKENS = np.array([10.0, 20.0, 30.0, 40.0])
FIRST = [np.array([2.0, 4.0, 3.0, 9.0]), np.array([4.0, 2.0, 5.0, 11.0])]  # 18 and 22 edits
SECOND = [np.array([1.0, 4.0, 3.0, 8.0])]  # 16


def test_both_forms_of_the_difference_by_hand():
    settings = {"resamples": 20}
    assert error_rate_difference(FIRST, SECOND, TOKENS, **settings).difference == pytest.approx(16 - 20)  # of 100
    relative = error_rate_difference(FIRST, SECOND, TOKENS, relative=True, **settings)
    assert relative.difference == pytest.approx(-20)  # 16 for 20 errors
    assert error_rate_permutation(FIRST, SECOND, TOKENS).difference == pytest.approx(-4)


@pytest.mark.parametrize("redraw", [False, True])
@pytest.mark.parametrize("relative", [False, True])
def test_the_interval_is_that_of_the_resampled_differences(redraw, relative):
    rng, expected = np.random.default_rng(5), []
    for _ in range(60):
        rows = rng.integers(0, 4, size=4)
        sides = []
        for system in (FIRST, SECOND):
            drawn = rng.integers(len(system), size=len(system)) if redraw else range(len(system))
            sides.append(np.mean([system[run][rows].sum() for run in drawn]))
        before, after = sides
        expected.append(100 * (after - before) / (before if relative else TOKENS[rows].sum()))
    settings = {"relative": relative, "redraw_runs": redraw, "resamples": 60, "level": 0.9, "seed": 5}
    found = error_rate_difference(FIRST, SECOND, TOKENS, **settings)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(expected, [0.05, 0.95])))
    beyond = min(sum(value <= 1e-12 for value in expected), sum(value >= -1e-12 for value in expected))
    assert found.p_value == pytest.approx(min(1, 2 * (1 + beyond) / 61))


def test_the_permutation_test_is_the_share_of_swaps_that_differ_as_much():
    rng = np.random.default_rng(0)
    a, b = ([rng.integers(0, 9, size=8).astype(float) for _ in range(3)] for _ in range(2))
    tokens = np.full(8, 12.0)
    differences = np.mean(b, axis=0) - np.mean(a, axis=0)
    signs = np.array(list(itertools.product([-1, 1], repeat=8)))
    exact = (abs(signs @ differences) >= abs(differences.sum()) - 1e-9).mean()
    found = error_rate_permutation(a, b, tokens, permutations=4000)
    assert found.p_value == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 4000))


def test_equal_systems_do_not_differ_and_the_order_of_runs_is_nothing():
    for other in (FIRST, FIRST[::-1]):
        found = error_rate_difference(FIRST, other, TOKENS, resamples=50)
        assert (found.difference, found.p_value) == (pytest.approx(0), 1)
        assert error_rate_permutation(FIRST, other, TOKENS, permutations=50).p_value == 1


def test_a_rival_without_errors_has_no_relative_difference():
    none = [np.zeros(4)]
    found = error_rate_difference(none, SECOND, TOKENS, relative=True, resamples=20)
    assert all(math.isnan(value) for value in (found.difference, found.low, found.high, found.p_value))
    assert error_rate_difference(none, SECOND, TOKENS, resamples=20).difference == pytest.approx(16)


def test_what_cannot_be_compared_is_refused():
    for test in (error_rate_difference, error_rate_permutation):
        with pytest.raises(ValueError, match="at least one run, got 2 and 0"):
            test(FIRST, [], TOKENS)
        with pytest.raises(ValueError, match="got 3 and 4"):
            test([np.zeros(3)], SECOND, TOKENS)
        with pytest.raises(ValueError, match="All references are empty"):
            test(FIRST, SECOND, np.zeros(4))
    with pytest.raises(ValueError, match="`resamples` must be at least 1, got 0"):
        error_rate_difference(FIRST, SECOND, TOKENS, resamples=0)
