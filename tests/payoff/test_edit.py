"""Eq. 11 against an enumeration of its edit scripts, its keyed draw against a plain loop, extremes."""

import math
from collections import defaultdict
from functools import cache
from itertools import combinations, combinations_with_replacement, product

import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein
from scipy import stats

from hf_localgan.payoff.edit import EditPayoff, log_script_counts
from hf_localgan.payoff.hamming import HammingPayoff
from hf_localgan.payoff.keys import derive_keys, random_bits, uniforms

DRAWS = {"sample": 3_000, "draw": 40_000}


def scripts(reference, tokens, edits):
    """The string of every edit script with this many edits, script by script."""
    length = len(reference)
    for number in range(min(edits, length) + 1):
        for chosen in combinations(range(length), number):
            options = [[None, *(t for t in tokens if t != reference[position])] for position in chosen]
            for gaps in combinations_with_replacement(range(length - number + 1), edits - number):
                for new in product(*options):
                    for inserted in product(tokens, repeat=edits - number):
                        yield apply(reference, dict(zip(chosen, new, strict=True)), gaps, inserted)


def apply(reference, substituted, gaps, inserted):
    """In each gap between tokens left alone: first the substituted tokens, then the inserted ones."""
    insertions = defaultdict(list)
    for gap, token in zip(gaps, inserted, strict=True):
        insertions[gap].append(token)
    string, gap = [], 0
    for position, token in enumerate(reference):
        if position in substituted:
            string += [] if substituted[position] is None else [substituted[position]]
        else:
            string += [*insertions[gap], token]
            gap += 1
    return (*string, *insertions[gap])


@cache
def script_counts(reference, tokens, max_edits):
    """`{string: number of scripts by number of edits}`."""
    counts = defaultdict(lambda: np.zeros(max_edits + 1))
    for edits in range(max_edits + 1):
        for string in scripts(reference, tokens, edits):
            counts[string][edits] += 1
    return dict(counts)


def enumerated_probs(reference, tokens, temperature, max_edits):
    """Of every string: each script weighs `exp(-cost / temperature)` for each of its edits."""
    weights = np.exp(-(1 + math.log(len(tokens))) / temperature * np.arange(max_edits + 1))
    scores = {string: counts @ weights for string, counts in script_counts(reference, tokens, max_edits).items()}
    total = sum(scores.values())
    return {string: score / total for string, score in scores.items()}


# tokens, reference, temperature, max_edits
CASES = {
    "two words": ((0, 1), (1, 0), 0.9, None),
    "two words, cold": ((0, 1, 2), (0, 1), 0.6, None),
    "a repeated word": ((4, 5), (4, 4, 5), 0.8, 4),
    "one word": ((2, 3, 4), (3,), 1.5, None),
    "an unknown word": ((2, 3), (3, 1, 3), 0.9, 4),
    "unknown words, hot": ((2, 3), (9, 1, 2), 5.0, 3),
    "only unknown words": ((2, 3), (9, 9), 0.9, None),
    "one word to draw": ((7,), (7, 7, 8), 2.0, None),
    "few edits": ((0, 1, 2, 3), (1, 2, 1), 1.2, 1),
    "hot": ((0, 1), (0, 1), math.inf, None),
    "no word, edits all the same": ((0, 1), (), 1.0, 2),
}


@pytest.mark.parametrize("how", DRAWS)
@pytest.mark.parametrize("case", CASES)
def test_draws_agree_with_an_enumeration_of_all_edit_scripts(case, how, draw_many, chi_square, alpha):
    tokens, reference, temperature, max_edits = CASES[case]
    probs = enumerated_probs(reference, tokens, temperature, 2 * len(reference) if max_edits is None else max_edits)
    payoff = EditPayoff(tokens, temperature, max_edits=max_edits)
    assert chi_square(draw_many(payoff, list(reference), DRAWS[how], how), probs) > alpha


@pytest.mark.parametrize("case", CASES)
def test_log_prob_is_that_of_the_enumeration_and_sums_to_one(case):
    tokens, reference, temperature, max_edits = CASES[case]
    probs = enumerated_probs(reference, tokens, temperature, 2 * len(reference) if max_edits is None else max_edits)
    payoff = EditPayoff(tokens, temperature, max_edits=max_edits)
    some = list(probs)[:: max(1, len(probs) // 50)]
    for string in some:
        assert payoff.log_prob(string, reference) == pytest.approx(math.log(probs[string]))
    together = payoff.log_probs(list(probs), [reference] * len(probs))
    np.testing.assert_allclose(np.exp(together), list(probs.values()))
    assert np.exp(together).sum() == pytest.approx(1)
    assert payoff.log_prob([*reference, 99], reference) == -math.inf


def test_scripts_are_counted_by_number_of_edits():
    # From "0" to "0 0" with v = 2. One edit: an insertion before or after the token, 2 scripts. No two edits, for what
    # a substitute becomes is no 0. Three: the token becomes nothing, and two are inserted, 1 script.
    payoff = EditPayoff([0, 1], 1.0)
    np.testing.assert_allclose(np.exp(log_script_counts([0, 0], [0], payoff, 3)), [0, 2, 0, 1])
    # From "0" to "1": substituted, 1. Or deleted and 1 inserted: substitutes come first in a gap, 1 order.
    np.testing.assert_allclose(np.exp(log_script_counts([1], [0], payoff, 2)), [0, 1, 1])
    assert np.isneginf(log_script_counts([5], [0], payoff, 2)).all()


def test_counts_beyond_float64_are_added_in_log_space(monkeypatch):
    payoff, rng = EditPayoff(range(2, 6), 0.9), np.random.default_rng(0)
    pairs = [(rng.integers(1, 6, size=5).tolist(), rng.integers(1, 6, size=4).tolist()) for _ in range(20)]
    expected = [payoff.log_prob(*pair) for pair in pairs]
    monkeypatch.setattr("hf_localgan.functional.edit_scripts._LINEAR_TOKENS", 0)
    np.testing.assert_allclose([payoff.log_prob(*pair) for pair in pairs], expected)


# Total variation of Eq. 11 and exp(-cost * Levenshtein / tau) over the same strings
TOTAL_VARIATIONS = [
    (3, (0, 1), 4, 0.057, 0.150),
    (3, (0, 1, 2), 4, 0.083, 0.189),
    (4, (0, 1, 1), 3, 0.066, 0.159),
    (5, (0, 1), 3, 0.026, 0.094),
]


@pytest.mark.parametrize(("vocab_size", "reference", "max_edits", "cold", "warm"), TOTAL_VARIATIONS)
def test_total_variation_between_eq_11_and_the_exact_distribution(vocab_size, reference, max_edits, cold, warm):
    for temperature, expected in ((0.6, cold), (0.9, warm)):
        payoff = EditPayoff(range(vocab_size), temperature, max_edits=max_edits)
        strings = list(script_counts(reference, tuple(range(vocab_size)), max_edits))
        distances = np.array([Levenshtein.distance(string, reference) for string in strings])
        exact = np.exp(-payoff.edit_cost * distances / temperature)
        ours = np.exp(payoff.log_probs(strings, [reference] * len(strings)))
        assert round(float(np.abs(exact / exact.sum() - ours).sum() / 2), 3) == expected


def plain_draw(payoff, reference, key, probs):
    """One keyed draw, step by step: `probs` of the numbers of edits."""
    key = derive_keys(np.array([key], dtype=np.uint64), 11)
    tokens = payoff.tokens.tolist()
    length, inside = len(reference), [token in tokens for token in reference]

    def number(kind, place, choices=None):
        chance = float(uniforms(key, np.array([kind * 2**40 + place]))[0])
        return chance if choices is None else int(chance * choices)

    def by_probs(chance, weights):
        return int(np.searchsorted(np.cumsum(weights) / np.sum(weights), chance, side="right"))

    def smallest(kind, places, count):
        return sorted(places, key=lambda place: int(random_bits(key, np.array([kind * 2**40 + place]))[0]))[:count]

    edits = by_probs(number(0, 0), probs)
    ways = defaultdict(lambda: defaultdict(int))  # by substitutions and how many of those are of unknown words
    for chosen in (some for count in range(min(edits, length) + 1) for some in combinations(range(length), count)):
        outside = sum(not inside[place] for place in chosen)
        rest = edits - len(chosen)
        options = len(tokens) ** (len(chosen) - outside) * (len(tokens) + 1) ** outside
        ways[len(chosen)][outside] += options * math.comb(length - len(chosen) + rest, rest) * len(tokens) ** rest
    count = by_probs(number(1, 0), [sum(ways[count].values()) for count in sorted(ways)])
    outside = by_probs(number(2, 0), [ways[count][some] for some in range(max(ways[count]) + 1)])
    chosen = smallest(3, [place for place in range(length) if inside[place]], count - outside)
    chosen += smallest(3, [place for place in range(length) if not inside[place]], outside)
    slots = length + edits - 2 * count
    inserted = smallest(4, range(slots), edits - count)
    gaps = sorted(slot - sum(other < slot for other in inserted) for slot in inserted)
    substituted = {}
    for place in chosen:
        others = [token for token in tokens if token != reference[place]]
        choice = number(5, place, len(others) + 1)
        substituted[place] = others[choice] if choice < len(others) else None
    marked = apply(reference, {place: "x" for place in chosen}, gaps, ["new"] * len(gaps))
    new = [tokens[number(6, place, len(tokens))] for place, token in enumerate(marked) if token == "new"]
    return list(apply(reference, substituted, gaps, new)), edits


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("temperature", [0.7, 1.0, 3.0])
def test_the_vectorised_draw_equals_a_plain_loop_with_the_same_hash(temperature, outside):
    rng = np.random.default_rng(3)
    payoff = EditPayoff([4, 5, 6, 9, 11], temperature)
    words = np.arange(2, 13) if outside else payoff.tokens
    labels = [rng.choice(words, size=length).tolist() for length in rng.integers(0, 7, size=150)]
    keys = rng.integers(2**63, size=150).astype(np.uint64)
    drawn = payoff.draw(labels, keys)
    for row, (reference, key) in enumerate(zip(labels, keys, strict=True)):
        unknown = sum(token not in payoff.tokens for token in reference)
        expected, edits = plain_draw(payoff, reference, key, payoff.edit_probs(len(reference), outside=unknown))
        assert drawn.labels[row] == expected and drawn.edits[row] == edits


def test_figure_1_of_the_paper_from_draws():
    # v = 61, m = 20, tau = 0.9: 7.62 edits on average, and 5 to 9 edits with .106 .137 .149 .141 .118.
    payoff = EditPayoff(range(4, 65), temperature=0.9)
    edits = payoff.draw([list(range(4, 24))] * 20_000, np.arange(20_000, dtype=np.uint64)).edits
    share = np.bincount(edits, minlength=41) / 20_000
    # Five standard errors of a share of 0.15 and of the mean.
    np.testing.assert_allclose(share[5:10], [0.106, 0.137, 0.149, 0.141, 0.118], atol=5 * math.sqrt(0.13 / 20_000))
    assert edits.mean() == pytest.approx(7.618, abs=5 * edits.std() / math.sqrt(20_000))
    assert payoff.edit_probs(20) @ np.arange(41) == pytest.approx(7.618, abs=5e-4)


def test_draws_of_successive_keys_are_independent(alpha):
    edits = EditPayoff(range(4, 20), 0.8).draw([[4, 5, 6, 7]] * 40_000, np.arange(40_000, dtype=np.uint64)).edits
    table = np.histogram2d(edits[:-1:2], edits[1::2], bins=[0, 1, 2, 3, 9])[0]
    assert stats.chi2_contingency(table).pvalue > alpha


def test_hamming_and_edit_draws_of_one_key_are_independent(alpha):
    keys, labels = np.arange(40_000, dtype=np.uint64), [[4, 5, 6, 7]] * 40_000
    first, second = (kind(range(4, 20), 0.9).draw(labels, keys).edits for kind in (HammingPayoff, EditPayoff))
    assert stats.chi2_contingency(np.histogram2d(first, second, bins=[0, 1, 2, 9])[0]).pvalue > alpha


def test_edit_probs_of_another_temperature_than_the_samplers():
    cold, hot = EditPayoff(range(4, 20), 0.0), EditPayoff(range(4, 20), 0.9)
    np.testing.assert_array_equal(cold.edit_probs(6, temperature=0.9), hot.edit_probs(6))
    assert cold.edit_probs(2).tolist() == hot.edit_probs(2, temperature=0).tolist() == [1, 0, 0, 0, 0]


def test_a_huge_temperature_edits_a_long_reference_in_a_large_vocabulary():
    payoff = EditPayoff(range(200_000), 1e12, "unit")
    reference = np.arange(1_000).tolist()
    drawn = payoff.draw([reference, [5]], np.arange(2, dtype=np.uint64))
    # Counts grow by v with each edit: nearly all of the probability is on the largest numbers.
    assert drawn.edits[0] >= 1_990 and 900 < len(drawn.labels[0]) <= 3_000 and drawn.edits[1] == 2
    assert payoff.edit_probs(1_000).sum() == pytest.approx(1)
    assert len(payoff.sample(reference, np.random.default_rng(0))) > 900


def test_tables_are_computed_once_for_each_length_and_dropped_when_they_grow_large(monkeypatch):
    monkeypatch.setattr("hf_localgan.payoff.edit._CACHED_NUMBERS", 100)
    payoff = EditPayoff(range(4, 20), 0.9)
    first = payoff._log_counts(5, 0)
    assert payoff._log_counts(5, 0) is first
    before = payoff.edit_probs(5)
    for length in range(1, 20):
        payoff.edit_probs(length)
        assert sum(len(table) for tables in payoff._tables.values() for table in tables) <= 100
    np.testing.assert_array_equal(payoff.edit_probs(5), before)


def test_the_sampler_for_a_rate_makes_that_many_edits():
    payoff = EditPayoff.for_edit_rate(tokens=range(4, 8_004), edit_rate=0.05, length=20)
    assert payoff.edit_probs(20) @ np.arange(41) == pytest.approx(1.0)
    capped = EditPayoff.for_edit_rate(tokens=range(4, 8_004), edit_rate=0.05, length=20, edit_cost=3.0, max_edits=4)
    assert capped.max_edits == 4 and capped.edit_probs(20) @ np.arange(5) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="`edit_rate` must be .* got 2.0"):
        EditPayoff.for_edit_rate(tokens=range(4), edit_rate=2.0, length=20)
