"""Power: its numbers against simulated annotations, and the three ways to ask for it against each other."""

import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from hf_localgan.annotation import (
    DifferenceVariance,
    detection_power,
    measured_variance,
    planned_variance,
    power_table,
    queries_needed,
    smallest_difference,
)


@pytest.mark.parametrize(("rates", "kappa", "people"), [((0.784, 0.738), 0.734, 5), ((0.536, 0.45), 0.561, 3)])
def test_power_is_how_often_a_paired_test_sees_the_difference(simulated, rates, kappa, people):
    rng = np.random.default_rng(0)
    seen, runs = 0, 400
    for _ in range(runs):
        first, second = simulated(rng, rates, kappa, people, queries=500)
        seen += ttest_1samp((first - second).mean(axis=0), 0).pvalue < 0.05
    expected = detection_power(rates[0] - rates[1], planned_variance(*rates, kappa), 500, people)
    assert seen / runs == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / runs))


def test_the_papers_500_queries_and_five_people_cannot_tell_its_two_best_systems_apart_in_relevance():
    assert detection_power(0.784 - 0.768, planned_variance(0.784, 0.768, 0.734), 500, 5) < 0.15
    assert detection_power(0.536 - 0.45, planned_variance(0.536, 0.45, 0.561), 500, 5) > 0.9


def test_measured_variance_gives_the_planned_one_back(simulated):
    first, second = simulated(np.random.default_rng(1), (0.7, 0.6), 0.6, people=4, queries=20_000)
    first[0, :5000] = np.nan  # gaps change neither
    found, planned = measured_variance(first, second), planned_variance(0.7, 0.6, 0.6)
    assert found.between == pytest.approx(planned.between, rel=0.05)
    assert found.within == pytest.approx(planned.within, rel=0.05)


def test_identical_systems_have_no_variance_and_no_power():
    answers = (np.random.default_rng(0).random((3, 20)) < 0.5).astype(float)
    variance = measured_variance(answers, answers)
    assert variance == DifferenceVariance(0, 0)
    assert detection_power(0, variance, 100, 3) == 0 and queries_needed(0, variance, 3) is None


def test_queries_power_and_smallest_difference_agree():
    variance = planned_variance(0.784, 0.738, 0.734)
    needed = queries_needed(0.046, variance, 5)
    assert detection_power(0.046, variance, needed, 5) >= 0.8 > detection_power(0.046, variance, needed - 1, 5)
    assert smallest_difference(variance, needed, 5) == pytest.approx(0.046, rel=1e-3)
    assert queries_needed(-0.046, variance, 5) == needed
    assert queries_needed(0.046, variance, 5, alpha=0.05 / 6) > needed > queries_needed(0.046, variance, 50)
    assert detection_power(0, variance, 500, 5) == pytest.approx(0.05)
    assert queries_needed(1e-5, variance, 5) is None and "more than ten million" in power_table(
        1e-5, variance, [9], [1]
    )


def test_more_people_cannot_replace_queries():
    variance = planned_variance(0.784, 0.768, 0.734)
    assert detection_power(0.016, variance, 500, 10_000) < 0.15


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: planned_variance(0, 0.5, 0.5), "`rate` is a share of yes and must lie between 0 and 1, got 0"),
        (lambda: planned_variance(0.5, 0.5, 1.5), "`kappa` must be from 0 to 1, got 1.5"),
        (lambda: detection_power(0.1, DifferenceVariance(1, 1), 0, 1), "`queries` must be at least 1, got 0"),
        (lambda: measured_variance(np.ones((1, 9)), np.ones((1, 9))), "0 queries were judged by two people"),
        (lambda: queries_needed(0.1, DifferenceVariance(1, 1), 1, target=0.01), "`target` must lie between `alpha`"),
    ],
)
def test_what_cannot_be_planned_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
