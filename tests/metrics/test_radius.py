"""Distances of radii by hand, what a radius says of answers, and the score in a report."""

import math

import numpy as np
import pytest

from hf_localgan.metrics import compare_systems, score_references, score_responses
from hf_localgan.metrics.radius import (
    commonest,
    mean_information,
    radius_distance,
    radius_percentiles,
    rank_correlation,
)
from hf_localgan.metrics.report import LocalRadii


def test_distances_by_hand():
    # Sorted pairs 1 to 2 and 3 to 6: (1 + 3) / 2. One generation against two references: (|5 - 1| + |5 - 9|) / 2.
    distances = radius_distance([[3.0, 1.0], [1.0, 9.0], [np.nan], [4.0]], [[2.0, 6.0], [5.0, np.nan], [1.0], []])
    np.testing.assert_allclose(distances, [2.0, 4.0, np.nan, np.nan])
    shifted = radius_distance([np.array([3.0, 1.0]) + 70], [np.array([2.0, 6.0]) + 70])  # the centre cancels
    np.testing.assert_allclose(shifted, [2.0])
    with pytest.raises(ValueError, match="infinity for query 0. Has the energy diverged"):
        radius_distance([[np.inf]], [[1.0]])


def test_equal_distributions_come_close_as_samples_grow():
    rng = np.random.default_rng(0)
    means = [radius_distance(rng.normal(size=(40, n)), rng.normal(size=(40, n))).mean() for n in (5, 500)]
    assert means[0] > 0.3 and means[1] < 0.1  # five and five of one distribution are not equal


def test_percentiles_information_and_correlation_by_hand():
    np.testing.assert_allclose(radius_percentiles([0.0, 2.0, 9.0, np.nan], [1, 2, 2, 3, np.nan]), [0, 0.5, 1, np.nan])
    # Ten tokens were counted of three kinds; one is added to each, and one for all others: 14.
    counts = {1: 6, 2: 3, 3: 1}
    found = mean_information([[1, 1], [2, 9], []], counts)
    np.testing.assert_allclose(found, [-math.log(7 / 14), -(math.log(4 / 14) + math.log(1 / 14)) / 2, np.nan])
    assert rank_correlation([1.0, 2.0, 3.0, np.nan], [5.0, 4.0, 1.0, 0.0]) == pytest.approx(-1.0)
    assert math.isnan(rank_correlation([1.0, 1.0], [1.0, 2.0]))
    assert commonest([[1, 2], [3], [1, 2], [], [], []], 5) == [((1, 2), 2)]


def test_the_distance_in_a_report_has_an_interval_and_a_signature():
    texts = [["a b", "c d"], ["e f", "g h"]]
    radii = LocalRadii([np.array([1.0, 3.0]), np.array([2.0, 2.0])], [np.array([4.0]), np.array([2.0])], "tiny")
    report = score_responses(["a b", "e f"], texts, radii=radii)
    assert report["radius_distance"].value == pytest.approx((2 + 0) / 2)
    assert report["radius_distance"].interval.low <= 1.0 <= report["radius_distance"].interval.high
    signature = report["radius_distance"].signature
    assert signature.startswith("radius-wasserstein|") and "refs:2|samples:1|energy:tiny|N:2" in signature
    np.testing.assert_allclose(report.per_query["radius_distance"], [2.0, 0.0])
    own = score_references(texts, radii=radii)  # one reference of each query against its other one
    np.testing.assert_allclose(own.per_query["radius_distance"], [2.0, 0.0])
    unknown = radii._replace(generations=[np.array([np.nan]), np.array([])])
    assert "radius_distance" not in score_responses(["a b", "e f"], texts, radii=unknown).scores


def test_answers_without_a_radius_leave_a_system_comparable():
    texts = [["a b", "c d"], ["e f", "g h"]]
    generated = [np.array([4.0, 1.0]), np.array([2.0, 2.0])]
    radii = LocalRadii([np.array([1.0, 3.0]), np.array([2.0, 2.0])], generated, "tiny")
    whole = score_responses(["a b", "e f"], texts, radii=radii)
    for generations in ([np.array([4.0, np.nan]), np.array([2.0, 2.0])], [np.full(2, np.nan), np.array([2.0, 2.0])]):
        lacking = score_responses(["a b", "e f"], texts, radii=radii._replace(generations=generations))
        assert "|refs:2|samples:2|" in lacking["radius_distance"].signature
        assert "radius_distance" in compare_systems(whole, lacking, permutations=10).rows
