"""Counts of shortest edit scripts and of strings at each distance, against enumeration."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein

from hf_localgan.functional.edit_distance import fewest_scripts, log_string_counts, temperature_for_distance

# References, tokens that may be drawn, largest number of edits.
CASES = [
    ((0, 1), (0, 1, 2), 4),
    ((0, 1, 1), (0, 1), 4),
    ((9, 1, 9), (0, 1), 3),  # 9 may be kept, not drawn
    ((0, 9, 8), (0, 1), 3),
    ((1, 1, 1), (1,), 5),
    ((), (0, 1), 3),
    ((9,), (0, 1), 2),
]


def scripts_by_string(reference, tokens, max_edits):
    """For each string, how many scripts of Eq. 11 make it with each number of edits; every script is carried out."""
    strings = {}
    for substituted in itertools.product([False, True], repeat=len(reference)):
        options = [
            [None, *(token for token in tokens if token != old)] if chosen else [old]
            for old, chosen in zip(reference, substituted, strict=True)
        ]
        gaps = len(reference) - sum(substituted) + 1
        for new in itertools.product(*options):
            for number in range(max_edits - sum(substituted) + 1):
                for places in itertools.combinations_with_replacement(range(gaps), number):
                    for inserted in itertools.product(tokens, repeat=number):
                        string, gap, rest = [], 0, list(inserted)
                        for token, chosen in [*zip(new, substituted, strict=True), (None, False)]:
                            if not chosen:  # the gap ends here: after its substitutions come its insertions
                                string += [rest.pop() for _ in range(places.count(gap))]
                                gap += 1
                            string += [] if token is None else [token]
                        strings.setdefault(tuple(string), Counter())[sum(substituted) + number] += 1
    return strings


def fewest(references, candidates, tokens, edits):
    flat = [np.array(list(itertools.chain(*rows)), dtype=np.int64) for rows in (references, candidates)]
    lengths = [np.array([len(row) for row in rows]) for rows in (references, candidates)]
    return fewest_scripts(*flat, *lengths, np.isin(flat[1], tokens), np.array(edits))


def test_scripts_by_hand():
    # 0 -> 00: insert before or after it: 2 scripts. 001 -> 01: either 0 becomes nothing: 2 scripts.
    # 01 -> 10: both replaced (1), or 0 deleted and inserted behind (1), or 1 deleted and inserted in front (1).
    references, candidates = [[0], [0, 0, 1], [0, 1], [5]], [[0, 0], [0, 1], [1, 0], [5]]
    distances, counts = fewest(references, candidates, [0, 1], [1, 1, 2, 0])
    assert distances.tolist() == [1, 1, 2, 0]
    assert counts.tolist() == [2, 2, 3, 1]


@pytest.mark.parametrize("reference, tokens, max_edits", CASES)
@pytest.mark.parametrize("slack", [0, 2])
def test_shortest_scripts_are_those_of_enumeration(reference, tokens, max_edits, slack):
    scripts = scripts_by_string(reference, tokens, max_edits)
    shortest = [min(counts) for counts in scripts.values()]
    bounds = [edits + slack for edits in shortest]
    distances, counts = fewest([reference] * len(scripts), list(scripts), tokens, bounds)
    assert distances.tolist() == shortest
    assert counts.tolist() == [of[edits] for of, edits in zip(scripts.values(), shortest, strict=True)]


def test_distance_is_levenshteins_in_batches_of_different_lengths():
    rng = np.random.default_rng(0)
    references = [rng.integers(4, size=rng.integers(0, 30)).tolist() for _ in range(600)]
    candidates = [rng.integers(4, size=rng.integers(0, 30)).tolist() for _ in range(600)]
    expected = [Levenshtein.distance(*pair) for pair in zip(references, candidates, strict=True)]
    distances, counts = fewest(references, candidates, range(4), expected)
    assert distances.tolist() == expected
    assert (counts >= 1).all()
    alone = [fewest([references[row]], [candidates[row]], range(4), [expected[row] + 3]) for row in range(20)]
    assert [count.item() for _, count in alone] == counts[:20].tolist()


def test_a_token_outside_of_the_set_is_matched_or_the_string_is_out_of_reach():
    # Levenshtein would replace 0 by 9 and 9 by 0. Nothing draws a 9: 0 goes, and comes back behind (2 edits, 1 script),
    # which is as near. In the second, 5 substitutions would do for Levenshtein; keeping 9 costs 4 + 4.
    references, candidates = [[0, 9], [9, 0, 1, 2, 3], [0]], [[9, 0], [4, 4, 4, 4, 9], [9]]
    distances, counts = fewest(references, candidates, range(5), [2, 8, 2])
    assert distances.tolist() == [2, 8, math.inf]
    assert Levenshtein.distance(references[1], candidates[1]) == 5
    assert counts[:2].tolist() == [1, 1]


def test_counts_too_large_for_a_float_are_infinite():
    # a^1200 -> a^600: choose which half goes, C(1200, 600) > 1e308 scripts.
    distances, counts = fewest([[0] * 1200], [[0] * 600], [0], [600])
    assert distances.tolist() == [600]
    assert np.isposinf(counts).all()


@pytest.mark.parametrize("reference, tokens, max_distance", CASES)
def test_string_counts_are_those_of_enumeration(reference, tokens, max_distance):
    # The distance of a string is the fewest edits among its scripts.
    scripts = scripts_by_string(reference, tokens, max_distance)
    expected = Counter(min(counts) for counts in scripts.values())
    names = {token: place for place, token in enumerate(tokens)}
    pattern = tuple(names.get(token, -token) for token in reference)
    counts = np.exp(log_string_counts(pattern, len(tokens), max_distance))
    np.testing.assert_allclose(counts, [expected[distance] for distance in range(max_distance + 1)], rtol=1e-12)


def test_strings_one_edit_away_have_a_closed_form():
    # m (v - 1) substitutions, one deletion for each run of equal tokens, and (m + 1) v - m insertions: putting a copy
    # before or after a token is the same.
    length, vocab_size = 200, 8000
    expected = length * (vocab_size - 1) + length + (length + 1) * vocab_size - length
    counts = log_string_counts(tuple(range(length)), vocab_size, 1)
    np.testing.assert_allclose(counts, [0, math.log(expected)], rtol=1e-13)


def test_too_many_states_are_refused():
    with pytest.raises(ValueError, match="reference of 20 tokens need more than 50,000 states"):
        log_string_counts(tuple(range(20)), 61, 40)


def test_temperature_by_hand():
    # One string at distance 0, two at distance 1, mean 1/2: 2 exp(-3 / tau) = 1.
    log_counts = np.log([1, 2])
    assert temperature_for_distance(0.5, log_counts, edit_cost=3.0) == pytest.approx(3 / math.log(2))
    assert temperature_for_distance(0.0, log_counts, edit_cost=3.0) == 0
    with pytest.raises(ValueError, match="under 0.6667.*got 0.7"):
        temperature_for_distance(0.7, log_counts, edit_cost=3.0)
