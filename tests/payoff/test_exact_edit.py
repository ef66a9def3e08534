"""Draws of the exact edit payoff against enumeration of all strings, and what it says of them."""

import itertools
import math
from functools import cache

import numpy as np
import pytest

import hf_localgan.payoff.exact_edit as exact_edit
from hf_localgan.payoff.edit import EditPayoff, log_script_counts
from hf_localgan.payoff.exact_edit import ExactEditPayoff
from hf_localgan.payoff.keys import derive_keys

DRAWS = {"sample": 1_500, "draw": 20_000}
# Tokens that may be drawn, reference, temperature, largest distance.
CASES = [
    (range(3), [0, 1], 0.6, 4),
    (range(3), [0, 1, 2], 0.9, 3),
    (range(4), [0, 1, 1], 0.9, 3),
    (range(2), [1, 1, 1], 0.8, None),
    ([2, 5], [9, 2, 9], 1.2, 3),  # 9 may be kept, not drawn
    ([3], [7, 3], 2.0, None),
    (range(5), [3], math.inf, None),
]


def brute_force_distance(candidate, reference, tokens):
    """Levenshtein's table, where a token that is not drawn costs infinity unless it is matched."""
    row = [0.0]
    for token in candidate:
        row.append(row[-1] + (1 if token in tokens else math.inf))
    for read, old in enumerate(reference, start=1):
        above, row = row, [float(read)]
        for made, token in enumerate(candidate, start=1):
            drawn = 1 if token in tokens else math.inf
            row.append(min(above[made] + 1, row[-1] + drawn, above[made - 1] + (0 if token == old else drawn)))
    return row[-1]


@cache
def distances_from(reference, tokens, most):
    """`{string: distance}` of every string up to the largest distance."""
    words, longest = sorted({*tokens, *reference}), len(reference) + most
    strings = itertools.chain(*(itertools.product(words, repeat=length) for length in range(longest + 1)))
    distances = {string: brute_force_distance(string, reference, tokens) for string in strings}
    return {string: int(distance) for string, distance in distances.items() if distance <= most}


def enumerate_payoff(payoff, reference):
    """Distance and probability of every string under Eq. 4."""
    most = 2 * len(reference) if payoff.max_edits is None else payoff.max_edits
    distances = distances_from(tuple(reference), frozenset(payoff.tokens.tolist()), most)
    weights = {d: math.exp(-payoff.edit_cost * d / payoff.temperature) for d in range(most + 1)}
    total = sum(weights[distance] for distance in distances.values())
    return distances, {string: weights[distance] / total for string, distance in distances.items()}


def keys(number, seed=0):
    return derive_keys(np.uint64(seed), np.arange(number))


@pytest.mark.parametrize("how", DRAWS)
@pytest.mark.parametrize("tokens, reference, temperature, max_edits", CASES)
def test_draws_follow_the_enumerated_distribution(
    tokens, reference, temperature, max_edits, how, draw_many, chi_square, alpha
):
    payoff = ExactEditPayoff(tokens, temperature, max_edits=max_edits)
    assert chi_square(draw_many(payoff, reference, DRAWS[how], how), enumerate_payoff(payoff, reference)[1]) > alpha


def test_draws_of_equation_11_would_fail_that_test(draw_many, chi_square):
    payoff = ExactEditPayoff(range(3), 0.9, max_edits=3)
    draws = draw_many(EditPayoff(range(3), 0.9, max_edits=3), [0, 1, 2], DRAWS["draw"], "draw")
    assert chi_square(draws, enumerate_payoff(payoff, [0, 1, 2])[1]) < 1e-20


@pytest.mark.parametrize("tokens, reference, temperature, max_edits", CASES)
def test_log_prob_is_that_of_enumeration_and_sums_to_one(tokens, reference, temperature, max_edits):
    payoff = ExactEditPayoff(tokens, temperature, max_edits=max_edits)
    _, probs = enumerate_payoff(payoff, reference)
    some = dict(itertools.islice(probs.items(), 0, None, 1 + len(probs) // 300))
    log_probs = [payoff.log_prob(string, reference) for string in some]
    np.testing.assert_allclose(log_probs, np.log(list(some.values())), rtol=1e-10)
    if len(some) == len(probs):
        assert math.fsum(map(math.exp, log_probs)) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("tokens, reference, temperature, max_edits", CASES)
def test_distance_probs_are_those_of_enumeration(tokens, reference, temperature, max_edits):
    payoff = ExactEditPayoff(tokens, temperature, max_edits=max_edits)
    expected = np.zeros(1 + (2 * len(reference) if max_edits is None else max_edits))
    distances, probs = enumerate_payoff(payoff, reference)
    for string, distance in distances.items():
        expected[distance] += probs[string]
    np.testing.assert_allclose(payoff.distance_probs(reference), expected, rtol=1e-10, atol=1e-12)


def test_log_prob_by_hand():
    # v = 1, y* = 0, up to 2 edits: "" and 00 are at distance 1, 000 at 2. exp(-cost / tau) = 1/2.
    # Z = 1 + 2/2 + 1/4 = 9/4.
    payoff = ExactEditPayoff([0], 1 / math.log(2), edit_cost="unit")
    for string, prob in (([0], 4 / 9), ([], 2 / 9), ([0, 0], 2 / 9), ([0, 0, 0], 1 / 9)):
        assert math.exp(payoff.log_prob(string, [0])) == pytest.approx(prob)
    assert payoff.log_prob([0, 0, 0, 0], [0]) == -math.inf
    assert payoff.log_prob([5], [0]) == -math.inf  # 5 is not drawn


def test_log_weights_are_log_probs_up_to_a_constant_of_the_reference():
    payoff = ExactEditPayoff([0, 1], 0.9, max_edits=3)
    candidates = [[1, 9, 1], [1, 1], [9, 0], [], [0, 0, 0, 0], [5]]
    weights = payoff.log_weights(candidates, [[1, 9, 1]] * 6)
    # 9 may be kept, not drawn: 1 9 1 -> 9 0 is a deletion and a substitution; 0000 is four edits away; nothing makes 5.
    cost = (1 + math.log(2)) / 0.9
    np.testing.assert_allclose(weights, [0, -cost, -2 * cost, -3 * cost, -math.inf, -math.inf])
    log_probs = [payoff.log_prob(candidate, [1, 9, 1]) for candidate in candidates]
    np.testing.assert_allclose(log_probs, weights - payoff.log_normalizer([1, 9, 1]))
    twice = payoff.log_weights(candidates, [[1, 9, 1]] * 6, temperature=1.8)
    np.testing.assert_allclose(twice, weights / 2)
    assert payoff.log_weights([[0], [1]], [[1], [1]], temperature=0).tolist() == [-math.inf, 0]
    assert payoff.log_weights([[0], [5]], [[1], [1]], temperature=math.inf).tolist() == [0, -math.inf]


def test_log_weights_have_no_longest_reference():
    payoff = ExactEditPayoff(range(61), 0.9)
    cost = (1 + math.log(61)) / 0.9
    weights = payoff.log_weights([range(20), [60, *range(2, 40)]], [range(20), range(40)])
    np.testing.assert_allclose(weights, [0, -2 * cost])
    assert payoff.log_weights([], []).shape == (0,)


def test_edits_are_distances_and_never_beyond_the_largest():
    payoff = ExactEditPayoff([0, 1, 2], 1.5, max_edits=2)
    references = [[0, 7, 1, 2, 2], [], [1], [7]] * 200
    draws = payoff.draw(references, keys(800))
    expected = [brute_force_distance(*pair, {0, 1, 2}) for pair in zip(draws.labels, references, strict=True)]
    assert draws.edits.tolist() == expected
    assert set(expected) == {0, 1, 2}
    assert draws.effective_sample_size is None


def test_acceptance_is_a_probability_and_comes_to_the_formula_of_all_scripts():
    # Given a string, Eq. 11 draws one of its k shortest scripts, of d edits each, with probability
    # k exp(-d c) / sum_e n_e exp(-e c). Accepting those with 1 / k leaves exp(-d c) / sum_e n_e exp(-e c).
    payoff = ExactEditPayoff([0, 1], 0.9, max_edits=4)
    reference, candidates = [1, 9, 1], [[1, 9, 1], [1, 1], [9, 0], [1, 1, 9, 1, 1], [0, 9, 1, 0], [0, 0, 0]]
    cost = payoff.edit_cost / payoff.temperature
    for candidate in candidates:
        weights = np.exp(log_script_counts(candidate, reference, payoff, 4) - cost * np.arange(5))
        chances = [
            payoff._acceptance([reference], exact_edit.Draws([candidate], np.array([edits]))).item() if weight else 0.0
            for edits, weight in enumerate(weights)
        ]
        assert all(0 <= chance <= 1 for chance in chances)
        distance = brute_force_distance(candidate, reference, {0, 1})
        assert np.dot(chances, weights) == pytest.approx(math.exp(-cost * distance), rel=1e-12)


@pytest.mark.parametrize(
    "vocab_size, reference, max_edits, temperature, rate",
    [(3, [0, 1], 4, 0.6, 0.93), (3, [0, 1], 4, 0.9, 0.75), (4, [0, 1, 1], 3, 0.9, 0.73), (5, [0, 1], 3, 0.6, 0.97)],
)
def test_acceptance_rates(vocab_size, reference, max_edits, temperature, rate):
    payoff = ExactEditPayoff(range(vocab_size), temperature, max_edits=max_edits)
    assert payoff.acceptance_rate(reference) == pytest.approx(rate, abs=0.005)
    estimate, error = payoff.estimate_acceptance_rate(reference, np.random.default_rng(0), 5000)
    assert error < 0.007
    assert estimate == pytest.approx(payoff.acceptance_rate(reference), abs=4 * error)


def test_estimated_normalizer_is_near_the_exact_one():
    payoff, reference = ExactEditPayoff(range(61), 0.9), [5, 3, 8, 8, 100]
    estimate, error = payoff.estimate_log_normalizer(reference, np.random.default_rng(1), 10_000)
    assert error < 0.005
    assert estimate == pytest.approx(payoff.log_normalizer(reference), abs=4 * error)


def test_a_long_reference_has_an_estimated_normalizer_only():
    payoff = ExactEditPayoff(range(61), 0.9)
    with pytest.raises(ValueError, match="reference of 20 tokens.*estimate_log_normalizer"):
        payoff.log_prob(range(20), range(20))
    estimate, error = payoff.estimate_log_normalizer(range(20), np.random.default_rng(0), 2000)
    assert math.isfinite(estimate) and 0 < error < 0.03


def test_a_long_reference_at_a_low_temperature_has_an_exact_normalizer():
    # Z = 1 + n_1 w + ..., with n_1 = m (v - 1) + m + (m + 1) v - m as all tokens differ; w = exp(-10 cost) makes the
    # rest small: n_2 < n_1 ** 2.
    payoff = ExactEditPayoff(range(8000), 0.1)
    first = (80 * 7999 + 80 + 81 * 8000 - 80) * math.exp(-10 * payoff.edit_cost)
    assert payoff.log_normalizer(list(range(80))) == pytest.approx(first, rel=1e-9)


def test_at_temperature_0_all_probability_is_on_the_reference():
    payoff = ExactEditPayoff(range(5), 0.0)
    assert payoff.log_prob([1, 2, 9], [1, 2, 9]) == 0
    assert payoff.log_prob([1], [1, 2, 9]) == -math.inf
    assert payoff.distance_probs([1, 2]).tolist() == [1, 0, 0, 0, 0]
    assert payoff.log_normalizer(list(range(200))) == 0
    assert payoff.acceptance_rate([1, 2, 9]) == 1
    assert ExactEditPayoff(range(5), 0.9).distance_probs([1, 2], temperature=0).tolist() == [1, 0, 0, 0, 0]


def test_an_empty_reference_is_edited_where_a_number_of_edits_is_given():
    draws = ExactEditPayoff(range(5), math.inf, max_edits=2).sample_batch([[]] * 500, keys(500))
    assert set(map(len, draws)) == {0, 1, 2}


def test_long_references_and_large_vocabularies_do_not_overflow():
    payoff = ExactEditPayoff(range(200_000), 0.7)
    references = np.arange(4000).reshape(4, 1000)
    draws = payoff.draw(references, keys(4))
    assert 0 < draws.edits.sum() < 100
    assert all(type(token) is int for token in draws.labels[0])
    assert math.isfinite(ExactEditPayoff(range(200_000), 0.3).log_prob(references[0][1:], references[0]))


def test_an_infinite_temperature_is_not_stuck():
    # Even if all scripts weigh alike, nearly half of them are shortest ones of their string.
    payoff = ExactEditPayoff(range(61), math.inf)
    rate, _ = payoff.estimate_acceptance_rate(range(20), np.random.default_rng(0), 1000)
    assert rate > 0.3
    assert payoff.draw([list(range(20))] * 8, keys(8)).edits.min() > 30


def test_giving_up_says_why(monkeypatch):
    monkeypatch.setattr(exact_edit, "_MOST_ATTEMPTS", 1)
    payoff = ExactEditPayoff([0, 1], math.inf)
    with pytest.raises(RuntimeError, match="reference of 12 tokens was accepted in 1 attempts.*`max_edits`"):
        payoff.draw([[0] * 12] * 50, keys(50))
    rng = np.random.default_rng(0)
    with pytest.raises(RuntimeError, match="reference of 12 tokens"):
        for _ in range(50):
            payoff.sample([0] * 12, rng)


def test_temperature_for_an_edit_rate():
    payoff = ExactEditPayoff.for_edit_rate(tokens=range(10, 71), edit_rate=0.2, length=8)
    assert payoff.distance_probs(range(20, 28)) @ np.arange(17) == pytest.approx(1.6, rel=1e-9)
    # Eq. 11 makes more edits at the same temperature, so it needs a lower one.
    assert EditPayoff.for_edit_rate(tokens=range(61), edit_rate=0.2, length=8).temperature < payoff.temperature
    assert ExactEditPayoff.for_edit_rate(tokens=range(61), edit_rate=0, length=8).temperature == 0


def test_the_edit_rate_of_a_reference_too_long_to_count_for_is_that_of_draws():
    payoff = ExactEditPayoff.for_edit_rate(tokens=range(61), edit_rate=0.2, length=20)
    draws = payoff.draw([list(range(30, 50))] * 4000, np.arange(10**6, 10**6 + 4000, dtype=np.uint64))
    # The standard deviation of a distance is about 3: 5 standard errors of the means of 2,048 and 4,000 draws are 0.4.
    assert draws.edits.mean() == pytest.approx(4.0, abs=0.4)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"edit_rate": 3.0, "length": 5}, "`edit_rate` must be .* under 1.998, .* got 3.0"),
        ({"edit_rate": -0.1, "length": 5}, "`edit_rate` must be at least 0 .* got -0.1"),
        ({"edit_rate": 3.0, "length": 20}, "`edit_rate` must be .* got 3.0"),
        ({"edit_rate": 0.1, "length": 0}, "`length` must be a whole number of at least 1, got 0"),
    ],
)
def test_edit_rates_out_of_reach_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ExactEditPayoff.for_edit_rate(tokens=range(61), **arguments)


def test_an_estimate_takes_two_draws():
    with pytest.raises(ValueError, match="`num_samples` must be at least 2, got 1"):
        ExactEditPayoff([1], 1.0).estimate_acceptance_rate([1], np.random.default_rng(0), 1)


def test_an_estimate_without_accepted_draws_is_refused(monkeypatch):
    payoff = ExactEditPayoff([0, 1], 1.0)
    monkeypatch.setattr(payoff, "estimate_acceptance_rate", lambda *args, **options: (0.0, 0.0))
    with pytest.raises(ValueError, match="None of 100 draws"):
        payoff.estimate_log_normalizer([0], np.random.default_rng(0), 100)
