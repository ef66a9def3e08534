import math

import numpy as np
import pytest

from hf_localgan.metrics import (
    NgramCounts,
    bootstrap_interval,
    bootstrap_statistic,
    group_jackknife_interval,
    jackknife_interval,
    paired_bootstrap,
    paired_permutation_test,
    score_responses,
    subsample_interval,
)


def leave_one_out_means(values):
    return (values.sum() - values) / (len(values) - 1)


def test_the_jackknife_of_a_mean_is_the_textbook_standard_error():
    # values 1 2 3 6: mean 3, s^2 = (4 + 1 + 0 + 9) / 3, standard error sqrt(s^2 / 4) = sqrt(14 / 12)
    values = np.array([1.0, 2.0, 3.0, 6.0])
    actual = jackknife_interval(3.0, leave_one_out_means(values))
    half = 3.182446 * math.sqrt(14 / 12)  # t with 3 degrees of freedom at 97.5 %
    assert (actual.low, actual.high) == pytest.approx((3 - half, 3 + half), abs=1e-5)
    assert (actual.value, actual.method, actual.seed) == (3.0, "jackknife", None)


def test_groups_of_one_with_students_t_are_the_delete_one_jackknife():
    # t with 3 degrees of freedom at 97.5 % is 3.182
    values = np.array([1.0, 2.0, 3.0, 6.0])
    actual = group_jackknife_interval(lambda indices: values[indices].mean(), 4)
    assert actual.high - 3 == pytest.approx(3.182446 * math.sqrt(14 / 12))


@pytest.mark.parametrize("degrees, level, quantile", [(1, 0.95, 12.7062), (2, 0.95, 4.3027), (10, 0.99, 3.1693)])
def test_intervals_of_few_values_take_students_t_from_the_table(degrees, level, quantile):
    values = np.arange(degrees + 1.0)
    half = quantile * values.std(ddof=1) / math.sqrt(len(values))
    jackknife = jackknife_interval(values.mean(), leave_one_out_means(values), level=level)
    groups = group_jackknife_interval(lambda indices: values[indices].mean(), len(values), level=level)
    for actual in (jackknife, groups):
        assert actual.high - values.mean() == pytest.approx(half, rel=1e-4)


def test_the_interval_of_a_share_ends_where_shares_end():
    # Dist-1 of three responses of which two are alike is 2/3, without each in turn 1, 1 and 1/2
    table = NgramCounts([["a"], ["a"], ["b"]], 1)
    free = jackknife_interval(table.distinct(), table.leave_one_out_distinct())
    assert free.low < 0 and free.high > 1
    for actual in (
        jackknife_interval(table.distinct(), table.leave_one_out_distinct(), bounds=(0, 1)),
        group_jackknife_interval(table.distinct, 3, bounds=(0, 1)),
    ):
        assert (actual.low, actual.high) == (0, 1)
    few = subsample_interval(table.distinct, 3, 0.7, bounds=(0.6, 0.7))
    assert 0.6 <= few.low <= few.high <= 0.7
    for name, score in score_responses(["a a", "a", "b b b"], [["a"], ["b"], ["b"]]).scores.items():
        assert score.interval.low >= 0 and (name.startswith(("ent", "bleu", "mean_l")) or score.interval.high <= 1)


@pytest.mark.parametrize("fraction", [0.3, 0.5, 0.9])
def test_subsampling_is_rescaled_to_the_full_sample_for_a_mean(fraction):
    # the half width of a mean's interval is 1.96 s / sqrt(n); 2,000 subsamples place its quantiles within some 7 %
    values = np.random.default_rng(0).normal(size=400)
    actual = subsample_interval(lambda indices: values[indices].mean(), 400, fraction, resamples=2000)
    assert (actual.high - actual.low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.1)
    assert (actual.high + actual.low) / 2 == pytest.approx(values.mean(), abs=0.02)


def test_subsampling_lies_about_the_full_samples_score_and_not_the_subsamples():
    # Dist-1 of 200 responses of one token from 50: subsamples of half the size score nearly twice as high
    rng = np.random.default_rng(0)
    table = NgramCounts([[str(token)] for token in rng.integers(0, 50, size=200)], 1)
    actual = subsample_interval(table.distinct, 200, 0.5)
    assert actual.low <= table.distinct() <= actual.high
    assert table.distinct(np.arange(100)) > actual.high


def test_the_bootstrap_covers_a_mean():
    # 300 samples of 60: coverage of a 95 % interval has standard error sqrt(.95 * .05 / 300) = .0126; bounds at 3 of
    # them, and .02 lower, as percentile intervals of 60 values hold the mean about 1 to 2 % too rarely
    rng = np.random.default_rng(0)
    samples = [rng.normal(size=60) for _ in range(300)]
    found = [bootstrap_interval(sample, resamples=200) for sample in samples]
    assert 0.89 <= np.mean([one.low <= 0 <= one.high for one in found]) <= 0.99


def test_one_seed_one_interval():
    values = np.random.default_rng(0).normal(size=30)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values) != bootstrap_interval(values, seed=1)
    wide, narrow = bootstrap_interval(values, level=0.99), bootstrap_interval(values, level=0.8)
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize(("n", "resamples"), [(3, 1000), (30, 1000), (1000, 300), (200_000, 3)])
def test_a_bootstrap_of_a_statistic_over_indices_equals_that_of_the_mean(n, resamples):
    # to the last bit, whether the means are drawn all at once or not
    values = np.random.default_rng(0).normal(size=n)
    drawn = bootstrap_statistic(lambda indices: values[indices].mean(), n, resamples)
    assert drawn == bootstrap_interval(values, resamples=resamples)


def test_queries_without_a_value_are_left_out():
    actual = bootstrap_interval([1.0, math.nan, 2.0, 3.0])
    assert actual == bootstrap_interval([1.0, 2.0, 3.0]) and actual.value == 2.0


def test_where_no_interval_can_be_formed_the_ends_are_nan():
    for actual in (bootstrap_interval([1.0]), bootstrap_interval([1.0, 2.0], resamples=0), bootstrap_interval([])):
        assert math.isnan(actual.low) and math.isnan(actual.high) and actual.method == "none"


def test_the_paired_bootstrap_is_that_of_the_differences():
    # b is a less exactly 1 for every query: no spread at all
    a = np.random.default_rng(0).normal(size=50)
    actual = paired_bootstrap(a, a - 1)
    assert (actual.low, actual.value, actual.high) == pytest.approx((1, 1, 1))


def test_permutation_p_value_by_hand():
    # two queries, differences 1 and 1; of the four swaps two (none, both) reach |mean| 1: p near 1/2
    actual = paired_permutation_test([1.0, 1.0], [0.0, 0.0], permutations=4000)
    assert actual.difference == 1.0
    assert actual.p_value == pytest.approx(0.5, abs=0.03)  # standard error .008


def test_a_p_value_is_never_zero_and_equal_systems_have_one():
    a = np.arange(20.0) + 100
    assert paired_permutation_test(a, a * 0, permutations=99).p_value == pytest.approx(1 / 100)
    assert paired_permutation_test(a, a).p_value == 1.0


def test_false_positives_of_the_permutation_test_are_as_many_as_its_level_says():
    # 400 pairs of equal systems: the share with p <= .05 has standard error sqrt(.05 * .95 / 400) = .0109, bounds at 3
    rng = np.random.default_rng(0)
    tests = [paired_permutation_test(*rng.normal(size=(2, 30)), permutations=99, seed=i) for i in range(400)]
    assert 0.017 <= np.mean([test.p_value <= 0.05 for test in tests]) <= 0.083


def test_false_positives_hold_for_dist_2_with_repeating_answers_too():
    # as above, with 200 pairs: standard error .0154
    def distinct_2(answers):
        return NgramCounts(list(answers), 2).distinct()

    rng = np.random.default_rng(0)
    stock = [[str(token) for token in rng.integers(0, 12, size=4)] for _ in range(25)]
    found = []
    for seed in range(200):
        a, b = ([stock[index] for index in rng.zipf(1.5, size=20) % 25] for _ in range(2))
        found.append(paired_permutation_test(a, b, distinct_2, permutations=39, seed=seed).p_value <= 0.05)
    assert 0.004 <= np.mean(found) <= 0.096


def test_a_real_difference_in_diversity_is_found():
    rng = np.random.default_rng(0)
    varied = [[str(token) for token in rng.integers(0, 50, size=4)] for _ in range(40)]
    dull = [varied[index % 5] for index in range(40)]
    result = paired_permutation_test(
        varied, dull, lambda answers: NgramCounts(list(answers), 2).distinct(), permutations=199
    )
    assert result.difference > 0 and result.p_value == pytest.approx(1 / 200)


def test_unequal_numbers_and_senseless_settings_are_refused():
    with pytest.raises(ValueError, match="got 2 and 3"):
        paired_permutation_test([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="got 2 and 3"):
        paired_bootstrap([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="`level` must lie between 0 and 1, for example 0.95, got 95"):
        bootstrap_interval([1, 2], level=95)
    with pytest.raises(ValueError, match="`fraction` must lie between 0 and 1, got 1"):
        subsample_interval(len, 10, fraction=1)
    with pytest.raises(ValueError, match="`permutations` must be at least 1"):
        paired_permutation_test([1], [1], permutations=0)
