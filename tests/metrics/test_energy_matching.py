"""Matching, centres and means over the pairs of a query, by hand."""

import numpy as np
import pytest

from hf_localgan.metrics import (
    bootstrap_interval,
    center_cosine,
    equal_rows,
    group_means,
    grouped_mean,
    matching_accuracy,
    other_query_responses,
    recall_at_one,
)

# ---- responses of other queries ----


def test_another_querys_pair_is_drawn_each_equally_often():
    groups = np.array([2, 0, 1, 0, 2, 2])  # out of order
    rng = np.random.default_rng(0)
    draws = 20_000
    counts = np.zeros((6, 6))
    for _ in range(draws):
        np.add.at(counts, (np.arange(6), other_query_responses(groups, rng)), 1)
    others = groups[:, None] != groups[None, :]
    assert not counts[~others].any()
    expected = draws / others.sum(axis=1)  # 3, 4, 5, 4, 3, 3 candidates
    # binomial standard deviation below sqrt(20,000 / 4); 5 of them over 22 cells: wrong once in 10^5
    deviation = np.abs(counts - expected[:, None])[others]
    assert deviation.max() < 5 * np.sqrt(draws / 4)


def test_responses_of_other_queries_need_another_query():
    with pytest.raises(ValueError, match="at least 2 queries, got 1"):
        other_query_responses([0, 0, 0], np.random.default_rng(0))


# ---- matching ----


def test_matching_counts_wins_and_half_of_the_ties():
    # pair 0: 1 < 2 wins, 1 = 1 ties: 3/4; pair 1: 2 = 2 ties, 2 > 0 loses: 1/4; mean 1/2
    found = matching_accuracy([1.0, 2.0], [[2.0, 1.0], [2.0, 0.0]], [0, 1])
    assert found.value == 0.5 and found.low == 0.25 and found.high == 0.75
    # one draw may come without an axis: a win and a loss
    assert matching_accuracy([1.0, 2.0], [1.5, 1.0], [0, 1]).value == 0.5


def test_the_mean_is_over_pairs_and_not_over_queries():
    # three wins of query 0, a loss of query 1
    assert matching_accuracy([0, 0, 0, 9], [1, 1, 1, 1], [0, 0, 0, 1]).value == 0.75


def test_copies_of_a_pair_do_not_narrow_the_interval():
    rng = np.random.default_rng(1)
    values = rng.random(60)
    single = grouped_mean(values, np.arange(60), seed=3)
    copied = grouped_mean(np.repeat(values, 20), np.repeat(np.arange(60), 20), seed=3)
    assert (copied.value, copied.low, copied.high) == pytest.approx((single.value, single.low, single.high))
    assert (single.low, single.high) == pytest.approx(tuple(vars(bootstrap_interval(values, seed=3)).values())[1:3])


def test_the_first_of_the_candidates_counts_and_a_tie_is_shared():
    true, other = [0.0, 1.0, 1.0], [[1.0, 2.0], [0.5, 3.0], [1.0, 1.0]]
    # first; beaten by 0.5; one of three lowest
    assert recall_at_one(true, other, [0, 1, 2]).value == pytest.approx((1 + 0 + 1 / 3) / 3)


def test_matching_of_equal_scores_is_chance():
    zeros = np.zeros((8, 4))
    groups = np.arange(8)
    assert matching_accuracy(zeros[:, 0], zeros, groups).value == 0.5
    assert recall_at_one(zeros[:, 0], zeros, groups).value == pytest.approx(1 / 5)


@pytest.mark.parametrize(
    ("true", "other", "groups", "told"),
    [
        ([1.0, np.nan], [1.0, 1.0], [0, 1], "`true` must be finite, but 1 of 2 are not"),
        ([1.0, 1.0], [1.0, np.inf], [0, 1], "`other` must be finite"),
        ([1.0], [1.0, 2.0], [0], r"`other` \(1, draws\)"),
        ([1.0, 1.0], [1.0, 2.0], [0, 2], "without a gap, got 0 to 2 with 2 different"),
        ([1.0, 1.0], [1.0, 2.0], [-1, 0], "without a gap"),
        ([1.0, 1.0], [1.0, 2.0], [0, 10**12], "without a gap"),
        ([1.0, 1.0], [1.0, 2.0], [0.0, 1.0], "`groups` must be whole numbers"),
        ([], [], [], "`groups` must be whole numbers"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused(true, other, groups, told):
    with pytest.raises(ValueError, match=told):
        matching_accuracy(true, other, groups)


def test_a_mean_needs_a_value_for_each_pair():
    with pytest.raises(ValueError, match=r"one entry per pair, got \(3,\) and \(2,\)"):
        grouped_mean([1, 2, 3], [0, 1])


# ---- centres ----


def test_cosine_of_centres_by_hand():
    # own: cos = 1 and 0; other: centre 0 with mean 1: 1, centre 1 with mean 0: 0
    found = center_cosine([[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [1.0, 0.0]])
    assert found.true.value == 0.5 and found.shuffled.value == 0.5


def test_the_control_is_the_average_over_all_other_queries():
    rng = np.random.default_rng(0)
    centers, means = rng.standard_normal((2, 7, 3))
    cosines = [
        [c @ m / np.linalg.norm(c) / np.linalg.norm(m) for m in means] for c in centers
    ]  # of every centre with every mean
    found = center_cosine(centers, means)
    assert found.true.value == pytest.approx(np.trace(cosines) / 7)
    assert found.shuffled.value == pytest.approx((np.sum(cosines) - np.trace(cosines)) / 42)


def test_a_centre_without_a_direction_has_the_cosine_0():
    found = center_cosine(np.zeros((3, 2)), np.ones((3, 2)))
    assert (found.true.value, found.shuffled.value) == (0, 0)


def test_centres_that_do_not_fit_are_refused():
    for centers, means in ((np.ones((1, 2)), np.ones((1, 2))), (np.ones((3, 2)), np.ones((3, 4)))):
        with pytest.raises(ValueError, match=r"must both have shape \(queries, dim\) with at least 2 queries"):
            center_cosine(centers, means)


def test_means_of_groups_out_of_order():
    np.testing.assert_array_equal(group_means(np.array([1.0, 10.0, 3.0]), [1, 0, 1]), [10, 2])
    np.testing.assert_array_equal(group_means(np.array([[1.0, 0], [9, 9], [3, 4]]), [1, 0, 1]), [[9, 9], [2, 2]])


def test_equal_rows_have_one_number_in_the_order_met():
    rows = np.array([[1.0, 2], [0, 2], [1, 2], [1, 3], [0, 2]])
    assert equal_rows(rows).tolist() == [0, 1, 0, 2, 1] == equal_rows(np.asfortranarray(rows)).tolist()
