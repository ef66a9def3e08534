"""Counts of edit scripts by hand and by enumeration, Figure 1 of the paper, extremes, temperatures for a rate."""

import math
from itertools import combinations, product

import numpy as np
import pytest

from hf_localgan.functional.payoff import (
    edit_log_probs,
    expected_edit_rate,
    hamming_log_probs,
    hamming_replacement_prob,
    hamming_temperature_for_edit_rate,
    log_edit_counts,
    log_edit_totals,
    log_substitution_counts,
    penalty_per_edit,
    temperature_for_edit_rate,
)

LOG_VOCAB_61 = 1 + math.log(61)


def exact_count(length, vocab_size, edits, substitutions, outside=0):
    """The summand of Eq. 11 in whole numbers; options multiplied over every choice of positions."""
    insertions = edits - substitutions
    if insertions < 0 or substitutions > length:
        return 0
    options = [vocab_size + 1] * outside + [vocab_size] * (length - outside)
    chosen = sum(math.prod(some) for some in combinations(options, substitutions))
    return chosen * math.comb(length + edits - 2 * substitutions, insertions) * vocab_size**insertions


def test_counts_of_one_token_by_hand():
    # m = 1, v = 3. No edit: 1. One edit: 3 substitutes, or 2 gaps * 3 tokens = 6. Two edits: a substitute (3) and an
    # insertion into the one gap left (3) = 9; or 2 insertions into 2 gaps, 3 multisets * 9 = 27.
    actual = np.exp(log_edit_counts(1, vocab_size=3))
    np.testing.assert_allclose(actual, [[1, 0], [6, 3], [27, 9]], rtol=1e-12)


def test_a_token_outside_of_the_set_has_one_substitute_more():
    # m = 1, v = 3: nothing, or any of the three.
    np.testing.assert_allclose(np.exp(log_edit_counts(1, vocab_size=3, outside=1)), [[1, 0], [6, 4], [27, 12]])


@pytest.mark.parametrize("length", [0, 1, 2, 5])
@pytest.mark.parametrize("vocab_size", [1, 2, 61])
@pytest.mark.parametrize("outside", [0, 1, 2])
@pytest.mark.parametrize("max_edits", [None, 1, 3, 13])
def test_counts_equal_those_in_whole_numbers(length, vocab_size, outside, max_edits):
    outside = min(outside, length)
    edits = range((2 * length if max_edits is None else max_edits) + 1)
    exact = [[exact_count(length, vocab_size, e, s, outside) for s in range(min(length, edits[-1]) + 1)] for e in edits]
    np.testing.assert_allclose(
        np.exp(log_edit_counts(length, vocab_size, max_edits, outside)), np.array(exact, dtype=float), rtol=1e-11
    )
    np.testing.assert_allclose(
        np.exp(log_edit_totals(length, vocab_size, max_edits, outside)), np.sum(exact, axis=1, dtype=float), rtol=1e-11
    )


def test_the_largest_counts_are_those_of_python_integers():
    # ln of whole numbers of 11,000 digits; math.log takes them.
    length, vocab_size = 1_000, 200_000
    totals = log_edit_totals(length, vocab_size)
    assert totals.shape == (2_001,) and np.isfinite(totals).all()
    for edits in (0, 1, 999, 1_700, 2_000):
        exact = sum(
            math.comb(length, s) * math.comb(length + edits - 2 * s, edits - s) for s in range(min(edits, length) + 1)
        )
        assert totals[edits] == pytest.approx(math.log(exact) + edits * math.log(vocab_size), rel=1e-12)


def test_substitutions_of_tokens_inside_and_outside_multiply():
    # The product of (1 + 2x)^2, two tokens of the set, and (1 + 3x), one outside: 1 + 7x + 16x^2 + 12x^3.
    np.testing.assert_allclose(np.exp(log_substitution_counts(3, vocab_size=2, outside=1)), [1, 7, 16, 12])


# Norouzi et al. 2016, Figure 1 (m = 20, v = 61), as an edit cost of 1 + ln v reproduces it.
FIGURE_1 = {
    0.60: (0.49, 0.608, None),
    0.70: (1.63, 0.191, [0.017, 0.004, 0.001, 0.000, 0.000]),
    0.80: (3.89, 0.018, [0.156, 0.099, 0.053, 0.025, 0.010]),
    0.85: (5.54, 0.003, [0.177, 0.163, 0.127, 0.086, 0.052]),
    0.90: (7.62, 0.000, [0.106, 0.137, 0.149, 0.141, 0.118]),
    1.00: (13.80, 0.000, [0.005, 0.012, 0.023, 0.038, 0.056]),
}


@pytest.mark.parametrize("temperature", FIGURE_1)
def test_figure_1_of_the_paper(temperature):
    mean, intact, five_to_nine = FIGURE_1[temperature]
    probs = np.exp(edit_log_probs(20, 61, temperature, LOG_VOCAB_61))
    assert probs.shape == (41,) and probs.sum() == pytest.approx(1, abs=1e-12)
    assert round(float(probs @ np.arange(41)), 2) == mean
    assert round(float(probs[0]), 3) == intact
    if five_to_nine:
        assert probs[5:10].round(3).tolist() == five_to_nine


def test_what_the_text_says_of_figure_1():
    cold, warm = (np.exp(edit_log_probs(20, 61, temperature, LOG_VOCAB_61)) for temperature in (0.6, 0.9))
    assert cold[0] > 0.6  # "more than 60 % intact"
    assert (warm[5:10] > 0.1).all()  # "5 to 9 edits, each above 0.1"


def test_the_printed_formula_replaces_everything_at_the_papers_temperature():
    assert expected_edit_rate(20, 61, 0.9, edit_cost=1.0) * 20 == pytest.approx(39.96, abs=0.005)


def test_temperature_zero_and_infinity():
    # At infinity all scripts weigh alike: m = 1, v = 3 has 1, 9 and 36 of them.
    np.testing.assert_allclose(np.exp(edit_log_probs(1, 3, math.inf, 2.0)), np.array([1, 9, 36]) / 46)
    for temperature in (0.0, 5e-324, 1e-300):
        assert np.exp(edit_log_probs(3, 5, temperature, 2.0)).tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert np.exp(edit_log_probs(0, 5, 0.9, 2.0)).tolist() == [1]
    assert expected_edit_rate(0, 5, 0.9, 2.0) == 0


def test_one_hamming_replacement_by_hand():
    # v = 5, exp(-cost / tau) = 1/2: 4 others weigh 2 against the token's own 1. Outside of the set 5 weigh 2.5.
    assert hamming_replacement_prob(5, 1.0, math.log(2)) == pytest.approx(2 / 3)
    assert hamming_replacement_prob(5, 1.0, math.log(2), outside=True) == pytest.approx(2.5 / 3.5)


@pytest.mark.parametrize(
    ("vocab_size", "temperature", "outside", "expected"),
    [(1, 0.9, False, 0), (1, math.inf, False, 0), (1, math.inf, True, 1 / 2), (200_000, math.inf, False, 1 - 5e-6),
     (200_000, 0, True, 0), (3, 1e-320, False, 0)],
)  # fmt: skip
def test_extremes_of_the_hamming_replacement(vocab_size, temperature, outside, expected):
    assert hamming_replacement_prob(vocab_size, temperature, 1.0, outside) == pytest.approx(expected, abs=1e-12)


def test_the_translation_setting_of_the_paper_replaces_four_percent():
    assert hamming_replacement_prob(80_000, 0.85, 1 + math.log(80_000)) == pytest.approx(0.04, abs=0.005)
    assert hamming_replacement_prob(80_000, 0.85, 1.0) > 0.9999  # as printed


def test_hamming_edits_equal_an_enumeration_of_positions():
    inside, other = (hamming_replacement_prob(4, 0.7, 1.5, outside) for outside in (False, True))
    probs = np.zeros(4)
    for replaced in product((False, True), repeat=3):
        each = [p if r else 1 - p for p, r in zip((inside, inside, other), replaced, strict=True)]
        probs[sum(replaced)] += math.prod(each)
    np.testing.assert_allclose(np.exp(hamming_log_probs(3, 4, 0.7, 1.5, outside=1)), probs, rtol=1e-12)
    assert np.exp(hamming_log_probs(2, 1, 0.7, 1.5)).tolist() == [1, 0, 0]


@pytest.mark.parametrize(("length", "vocab_size"), [(1, 1), (20, 61), (300, 200_000)])
@pytest.mark.parametrize("rate", [1e-6, 0.05, 0.4])
@pytest.mark.parametrize("max_edits", [None, 2])
def test_the_temperature_for_a_rate_gives_the_rate(length, vocab_size, rate, max_edits):
    rate = rate if max_edits is None else rate / length
    cost = 1 + math.log(vocab_size)
    temperature = temperature_for_edit_rate(rate, length, vocab_size, cost, max_edits)
    assert expected_edit_rate(length, vocab_size, temperature, cost, max_edits) == pytest.approx(rate, rel=1e-9)


@pytest.mark.parametrize("rate", [1e-9, 0.05, 0.9])
def test_the_hamming_temperature_for_a_rate_gives_the_rate(rate):
    temperature = hamming_temperature_for_edit_rate(rate, 61, LOG_VOCAB_61)
    assert hamming_replacement_prob(61, temperature, LOG_VOCAB_61) == pytest.approx(rate, rel=1e-9)


def test_rate_zero_is_temperature_zero():
    assert temperature_for_edit_rate(0, 20, 61, 1.0) == 0
    assert hamming_temperature_for_edit_rate(0, 61, 1.0) == 0


def test_a_tiny_temperature_is_a_large_but_finite_penalty():
    assert penalty_per_edit(0.5, 2.0) == 4
    assert penalty_per_edit(math.inf, 2.0) == 0
    assert math.isfinite(2_000 * penalty_per_edit(5e-324, 2.0)) and penalty_per_edit(5e-324, 2.0) > 1e100


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: log_edit_counts(-1, 5), "`length` must be at least 0, got -1"),
        (lambda: log_edit_totals(1, 0), "`vocab_size` must be at least 1, got 0"),
        (lambda: log_edit_totals(1, 5, max_edits=-1), "`max_edits` must be at least 0, got -1"),
        (lambda: log_edit_totals(1, 5, outside=2), "`outside` must be at most the length 1, got 2"),
        (lambda: edit_log_probs(2, 5, math.nan, 1.0), "`temperature` must be at least 0, got nan"),
        (lambda: hamming_replacement_prob(5, -1.0, 1.0), "`temperature` must be at least 0, got -1.0"),
        (lambda: hamming_replacement_prob(0, 1.0, 1.0), "`vocab_size` must be at least 1, got 0"),
        # At infinity the Hamming payoff replaces 4 of 5; Eq. 11 with m = 1, v = 3 makes (9 + 2 * 36) / 46 edits.
        (lambda: hamming_temperature_for_edit_rate(0.8, 5, 1.0), "under 0.8, .* got 0.8"),
        (lambda: hamming_temperature_for_edit_rate(0.1, 1, 1.0), "under 0, .* got 0.1"),
        (lambda: temperature_for_edit_rate(1.8, 1, 3, 1.0), "under 1.761, .* got 1.8"),
        (lambda: temperature_for_edit_rate(-0.1, 1, 3, 1.0), "at least 0 .* got -0.1"),
        (lambda: temperature_for_edit_rate(math.nan, 1, 3, 1.0), "got nan"),
        (lambda: temperature_for_edit_rate(0.1, 0, 3, 1.0), "`length` must be at least 1"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
