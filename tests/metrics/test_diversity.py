import math

import numpy as np
import pytest

from hf_localgan.metrics import (
    NgramCounts,
    distinct_n,
    distinct_response_share,
    entropy_n,
    mean_distinct_n,
    mean_length,
    response_distinct_n,
)

ABAB, BC, C = "a b a b".split(), "b c".split(), ["c"]


def test_dist_n_by_hand():
    # unigrams: a b a b b c c   3 distinct of 7
    # bigrams:  ab ba ab | bc   3 distinct of 4; the last response has none
    assert distinct_n([ABAB, BC, C], 1) == pytest.approx(3 / 7)
    assert distinct_n([ABAB, BC, C], 2) == pytest.approx(3 / 4)
    # trigrams: aba bab         2 of 2
    assert distinct_n([ABAB, BC, C], 3) == 1.0


def test_an_ngram_does_not_cross_from_one_response_into_the_next():
    # [a b] [a b] has the bigrams ab ab; joined it would have ba too
    assert distinct_n([["a", "b"], ["a", "b"]], 2) == pytest.approx(1 / 2)


def test_mean_dist_n_is_the_mean_of_the_responses_own_ratios():
    # abab: ab ba ab 2/3;  bc: 1/1;  c has no bigram and is left out
    np.testing.assert_allclose(response_distinct_n([ABAB, BC, C], 2), [2 / 3, 1, np.nan])
    assert mean_distinct_n([ABAB, BC, C], 2) == pytest.approx((2 / 3 + 1) / 2)


def test_ent_n_by_hand():
    # bigrams ab 2/4, ba 1/4, bc 1/4:  H = 1/2 log 2 + 2 * 1/4 log 4 = 1.5 log 2, that is 1.5 bits
    assert entropy_n([ABAB, BC, C], n=2) == pytest.approx(1.5 * math.log(2))
    assert entropy_n([ABAB, BC, C], n=2, base=2) == pytest.approx(1.5)
    # 4-grams: abab alone, p = 1
    assert entropy_n([ABAB, BC, C]) == 0.0


def test_all_responses_alike():
    # 100 times the bigrams ab bc: 2 distinct of 200, entropy log 2
    same = [["a", "b", "c"]] * 100
    assert distinct_n(same, 2) == pytest.approx(2 / 200)
    assert entropy_n(same, 2) == pytest.approx(math.log(2))
    assert distinct_response_share(same) == pytest.approx(1 / 100)


def test_nothing_to_count_scores_zero():
    for generations in ([], [[]], [["a"], []]):
        assert distinct_n(generations, 2) == 0.0
        assert mean_distinct_n(generations, 2) == 0.0
        assert entropy_n(generations, 2) == 0.0
        table = NgramCounts(generations, 2)
        assert (
            table.leave_one_out_distinct().tolist()
            == table.leave_one_out_entropy().tolist()
            == [0.0] * len(generations)
        )
    assert mean_length([]) == distinct_response_share([]) == 0.0


def test_shares_and_lengths_by_hand():
    # abab, bc, bc, [], []: 3 distinct of 5; lengths 4 2 2 0 0
    assert distinct_response_share([ABAB, BC, BC, [], []]) == pytest.approx(3 / 5)
    assert mean_length([ABAB, BC, BC, [], []]) == pytest.approx(8 / 5)


def test_long_ngrams_of_a_large_vocabulary_stay_apart():
    # 7-grams over 2,000 words: 2000 ** 7 would leave 64 bits
    generations = [[str(token) for token in range(start, start + 8)] for start in range(0, 2000, 8)]
    assert distinct_n(generations, 7) == 1.0
    assert NgramCounts(generations, 7).size == 500


def some_responses():
    rng = np.random.default_rng(0)
    drawn = [[str(token) for token in rng.integers(0, 5, size=rng.integers(0, 7))] for _ in range(30)]
    return drawn + drawn[:5]


@pytest.mark.parametrize("n", [1, 2, 4])
def test_leaving_one_out_equals_counting_the_others(n):
    generations = some_responses()
    table = NgramCounts(generations, n)
    others = [generations[:i] + generations[i + 1 :] for i in range(len(generations))]
    np.testing.assert_allclose(table.leave_one_out_distinct(), [distinct_n(one, n) for one in others])
    np.testing.assert_allclose(table.leave_one_out_entropy(), [entropy_n(one, n) for one in others], atol=1e-12)


def test_indices_count_a_repeated_response_as_often_as_it_stands_there():
    generations = some_responses()
    indices = np.array([3, 3, 0, 17, 3])
    table, chosen = NgramCounts(generations, 2), [generations[index] for index in indices]
    assert table.distinct(indices) == pytest.approx(distinct_n(chosen, 2))
    assert table.entropy(indices) == pytest.approx(entropy_n(chosen, 2))


def test_senseless_settings_are_refused():
    with pytest.raises(ValueError, match="`n` must be at least 1, got 0"):
        distinct_n([ABAB], 0)
    with pytest.raises(ValueError, match="`base` must be above 1"):
        entropy_n([ABAB], 2, base=1)
