import math

import numpy as np
import pytest

from hf_localgan.metrics import local_coverage, reference_radius, stability


def test_coverage_and_precision_by_hand():
    # references 0, 1, 5; generations 0.5, 9, 20, 30.  Within 1: 0 and 1 are near 0.5, 5 is near nothing
    references, generations = [[[0.0], [1.0], [5.0]]], [[[0.5], [9.0], [20.0], [30.0]]]
    actual = local_coverage(references, generations, radius=1)
    assert actual.coverage == pytest.approx(2 / 3) and actual.precision == pytest.approx(1 / 4)


def test_queries_with_one_reference_are_left_out_and_no_generation_covers_nothing():
    references = [np.zeros((1, 2)), np.zeros((2, 2)), np.zeros((3, 2))]
    generations = [np.zeros((1, 2)), np.zeros((0, 2)), np.zeros((1, 2))]
    actual = local_coverage(references, generations, radius=0)
    np.testing.assert_equal(actual.per_query_coverage, [np.nan, 0, 1])
    np.testing.assert_equal(actual.per_query_precision, [np.nan, 0, 1])
    assert actual.coverage == actual.precision == 0.5


def test_without_several_references_anywhere_there_is_no_value():
    actual = local_coverage([np.zeros((1, 2))], [np.zeros((1, 2))], radius=1)
    assert math.isnan(actual.coverage) and math.isnan(actual.precision)
    assert math.isnan(reference_radius([np.zeros((1, 2))]))


def test_the_default_radius_covers_half_of_the_references_by_their_fellows():
    # nearest others: 0 -> 1 (1), 1 -> 0 (1), 5 -> 1 (4); and 0 -> 3 (3), 3 -> 0 (3).  Of 1 1 3 3 4 the median is 3
    assert reference_radius([[[0.0], [1.0], [5.0]], [[0.0], [3.0]], [[7.0]]]) == 3


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="got 1 and 2"):
        local_coverage([np.zeros((2, 2))], [np.zeros((1, 2))] * 2, radius=1)
    with pytest.raises(ValueError, match=r"\(2, 2\) and \(1, 3\)"):
        local_coverage([np.zeros((2, 2))], [np.zeros((1, 3))], radius=1)
    with pytest.raises(ValueError, match="`radius` must be at least 0, got -1"):
        local_coverage([np.zeros((2, 2))], [np.zeros((1, 2))], radius=-1)


def test_stability_by_hand():
    # changes 1, -1/2, 3/2: mean 2/3, squared deviations 1/9 49/36 25/36 = 78/36, over 3: 26/36
    # running maximum 1 2 2 3, falls 0 0 1/2 0
    actual = stability([1, 2, 1.5, 3])
    assert actual.step_deviation == pytest.approx(math.sqrt(26 / 36))
    assert actual.largest_drop == pytest.approx(0.5)


def test_an_even_climb_is_steady():
    assert stability([1, 2, 3]) == (0, 0)
    with pytest.raises(ValueError, match="at least two numbers"):
        stability([1])
