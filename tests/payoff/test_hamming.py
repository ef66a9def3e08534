"""The Hamming payoff against brute force, its keyed draw against a plain loop, extremes."""

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from hf_localgan.payoff.hamming import HammingPayoff
from hf_localgan.payoff.keys import derive_keys, random_bits, uniforms

DRAWS = {"sample": 8_000, "draw": 40_000}


def exact_probs(reference, tokens, weight):
    """`weight ** distance`, normalised over all strings of the length that only hold drawable or original tokens."""
    options = [sorted({*tokens, token}) for token in reference]
    scores = {
        string: weight ** sum(a != b for a, b in zip(string, reference, strict=True)) for string in product(*options)
    }
    total = sum(scores.values())
    return {string: score / total for string, score in scores.items()}


CASES = {
    "two words": ([0, 1], [1, 0], 0.8),
    "a repeated word": ([4, 5, 7], [4, 4, 5, 4], 0.7),
    "one word": ([2, 3, 4, 5, 6], [3], 1.5),
    "an unknown word": ([2, 3, 4], [3, 1, 4], 0.9),
    "only unknown words": ([2, 3], [0, 9], 0.6),
    "nothing to choose": ([5], [5, 8], 1.0),
    "hot": ([0, 1, 2], [2, 2], math.inf),
}


@pytest.mark.parametrize("how", DRAWS)
@pytest.mark.parametrize("case", CASES)
def test_draws_agree_with_brute_force(case, how, draw_many, chi_square, alpha):
    tokens, reference, temperature = CASES[case]
    payoff = HammingPayoff(tokens, temperature)
    weight = math.exp(-(1 + math.log(len(tokens))) / temperature)
    drawn = draw_many(payoff, reference, DRAWS[how], how)
    assert chi_square(drawn, exact_probs(reference, tokens, weight)) > alpha


@pytest.mark.parametrize("case", CASES)
def test_log_prob_is_that_of_brute_force(case):
    tokens, reference, temperature = CASES[case]
    payoff = HammingPayoff(tokens, temperature)
    weight = math.exp(-(1 + math.log(len(tokens))) / temperature)
    for string, prob in exact_probs(reference, tokens, weight).items():
        assert payoff.log_prob(string, reference) == pytest.approx(math.log(prob))
    assert payoff.log_prob([*reference, 0], reference) == -math.inf
    assert payoff.log_prob([99] * len(reference), reference) == -math.inf


def test_the_vectorised_draw_equals_a_plain_loop_with_the_same_hash():
    tokens, temperature, rng = [4, 5, 6, 9, 11], 0.9, np.random.default_rng(3)
    payoff = HammingPayoff(tokens, temperature)
    labels = [rng.integers(2, 13, size=length).tolist() for length in rng.integers(0, 9, size=300)]
    keys = rng.integers(2**63, size=300).astype(np.uint64)
    drawn = payoff.draw(labels, keys)
    weight = math.exp(-(1 + math.log(5)) / temperature)
    for row, (reference, key) in enumerate(zip(labels, derive_keys(keys, 7), strict=True)):
        expected = list(reference)
        for position, token in enumerate(reference):
            others = [other for other in tokens if other != token]
            prob = len(others) * weight / (1 + len(others) * weight)
            key_of_row = np.array([key])
            if int(random_bits(key_of_row, np.array([position]))[0]) < prob * 2.0**64:
                choice = float(uniforms(key_of_row, np.array([2**40 + position]))[0])
                expected[position] = others[int(choice * len(others))]
        assert drawn.labels[row] == expected
        assert drawn.edits[row] == sum(a != b for a, b in zip(expected, reference, strict=True))


def test_edit_probs_are_binomial_and_those_of_the_draws(alpha):
    payoff = HammingPayoff(range(4, 12), 0.8)
    weight = 7 * math.exp(-(1 + math.log(8)) / 0.8)
    expected = stats.binom.pmf(np.arange(6), 5, weight / (1 + weight))
    np.testing.assert_allclose(payoff.edit_probs(5), expected)
    edits = payoff.draw([[4, 5, 6, 7, 8]] * 20_000, np.arange(20_000, dtype=np.uint64)).edits
    counts = np.bincount(edits, minlength=6)
    assert stats.chisquare(counts, expected * 20_000, sum_check=False).pvalue > alpha
    assert payoff.edit_probs(5, outside=2) @ np.arange(6) > expected @ np.arange(6)
    assert payoff.edit_probs(5, temperature=0).tolist() == [1, 0, 0, 0, 0, 0]
    assert payoff.edit_probs(0).tolist() == [1]


def test_a_huge_temperature_replaces_nearly_all_of_a_long_reference_in_a_large_vocabulary():
    payoff = HammingPayoff(range(200_000), 1e12, "unit")
    reference = np.arange(1_000).tolist()
    drawn = payoff.draw([reference], np.array([1], dtype=np.uint64))
    assert drawn.edits[0] >= 999 and max(drawn.labels[0]) > 190_000  # each stays with probability 1 / 200,000
    assert payoff.edit_probs(1_000).sum() == pytest.approx(1)
    assert math.isfinite(payoff.log_prob(drawn.labels[0], reference))


def test_the_sampler_for_a_rate_replaces_that_many_tokens():
    payoff = HammingPayoff.for_edit_rate(tokens=range(4, 8_004), edit_rate=0.05)
    assert payoff.edit_probs(20) @ np.arange(21) == pytest.approx(1.0)
    unit = HammingPayoff.for_edit_rate(tokens=range(4, 8_004), edit_rate=0.05, length=9, edit_cost="unit")
    assert unit.edit_probs(20) == pytest.approx(payoff.edit_probs(20))
    assert unit.temperature == pytest.approx(payoff.temperature / (1 + math.log(8_000)))
    with pytest.raises(ValueError, match="under 0.75, .* got 0.8"):
        HammingPayoff.for_edit_rate(tokens=range(4), edit_rate=0.8)


def test_tokens_beyond_the_set_stay_and_nothing_is_checked_at_temperature_0():
    payoff = HammingPayoff(range(4, 7), 1e-3)
    assert payoff.sample_batch([[900, 4]], np.arange(1, dtype=np.uint64)) == [[900, 4]]
    assert math.isfinite(HammingPayoff(range(4, 7), 0.9).log_prob([900, 4], [900, 5]))
    assert payoff.sample_batch([[-100, 4]], np.arange(1, dtype=np.uint64), temperature=0) == [[-100, 4]]
