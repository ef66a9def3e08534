"""The front of diversity and relevance: cases small enough to draw."""

import math

import numpy as np
import pytest

from hf_localgan.evaluation.adversarial.front import front_margin, front_points, front_weights

# Relevance 1.0 at diversity 0.2, 0.8 at 0.4, 0.2 at 0.6; (0.1, 0.9) and (0.3, 0.7) are dominated by the first.
RIVAL = [(0.4, 0.8), (0.1, 0.9), (0.6, 0.2), (0.2, 1.0), (0.3, 0.7)]


@pytest.mark.parametrize(
    ("diversity", "height"),
    [(0.4, 0.8), (0.3, 0.9), (0.25, 0.95), (0.5, 0.5), (0.6, 0.2), (0.2, 1.0), (0.15, 1.0), (0.1, 1.0)],
)
def test_the_margin_is_taken_from_the_line_between_undominated_points(diversity, height):
    # left of the most relevant point the front is flat: (0.1, 0.95) is worse than (0.2, 1.0) in both ways
    assert front_margin([(diversity, 1.0)], RIVAL) == pytest.approx([1.0 - height])


def test_outside_of_the_rivals_range_nothing_is_said():
    margins = front_margin([(0.09, 2.0), (0.61, 2.0), (0.4, 0.7)], RIVAL)
    assert np.isnan(margins[:2]).all() and margins[2] == pytest.approx(-0.1)


def test_a_system_lies_on_its_own_front_but_where_it_dominates_itself():
    margins = front_margin(RIVAL, RIVAL)
    assert margins == pytest.approx([0, -0.1, 0, 0, -0.2])


def test_points_above_each_other_and_points_twice_count_once():
    rival = [(0.2, 0.5), (0.2, 0.9), (0.2, 0.9), (0.4, 0.3)]
    assert front_margin([(0.2, 0.9), (0.3, 0.6)], rival) == pytest.approx([0, 0])
    assert front_margin([(0.2, 1.0), (0.3, 1.0)], [(0.2, 0.9)])[0] == pytest.approx(0.1)
    assert math.isnan(front_margin([(0.3, 1.0)], [(0.2, 0.9)])[0])


def test_weights_name_the_two_neighbours():
    weights = front_weights([0.45], RIVAL)
    assert weights == pytest.approx(np.array([[0.75, 0, 0.25, 0, 0]]))


def test_intervals_are_of_the_difference_query_by_query():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=200)  # what both systems find hard must not widen the interval
    rival = {"greedy": hard + 1.0, "temperature 1": hard + 0.5}
    found = front_points(
        {"greedy": 0.3, "beam 5": 0.05}, {"greedy": hard + 0.85, "beam 5": hard}, {"greedy": 0.2, "temperature 1": 0.4},
        rival, resamples=200,
    )  # fmt: skip
    greedy, beam = found
    assert greedy.decoding == "greedy" and greedy.relevance == pytest.approx(hard.mean() + 0.85)
    assert greedy.margin.value == pytest.approx(0.1)
    assert greedy.margin.low == pytest.approx(0.1) and greedy.margin.high == pytest.approx(0.1)
    assert math.isnan(beam.margin.value)


def test_intervals_leave_out_queries_without_references():
    known = np.array([1.0, np.nan, 2.0])
    (point,) = front_points({"greedy": 0.2}, {"greedy": known + 0.5}, {"greedy": 0.2}, {"greedy": known}, resamples=20)
    assert point.relevance == pytest.approx(2.0) and point.margin.value == pytest.approx(0.5)


def test_what_is_no_front_is_refused():
    with pytest.raises(ValueError, match="`rival` must be at least one finite pair"):
        front_margin([(0.1, 1.0)], [])
    with pytest.raises(ValueError, match="`rival` must be at least one finite pair"):
        front_margin([(0.1, 1.0)], [(0.1, math.nan)])
    with pytest.raises(ValueError, match="`front` must be at least one pair"):
        front_margin([], RIVAL)
