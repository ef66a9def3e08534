"""The base measure of edits: draws and probabilities against enumeration, rates, batches, refusals."""

import math
from collections import defaultdict
from itertools import combinations, combinations_with_replacement, product

import numpy as np
import pytest

from hf_localgan.payoff.edit import EditPayoff
from hf_localgan.payoff.exact_edit import ExactEditPayoff
from hf_localgan.payoff.hamming import HammingPayoff
from hf_localgan.payoff.importance import ImportancePayoff

DRAWS = {"sample": 4_000, "draw": 40_000}
COUNTS = {0: 9, 1: 1, 2: 0, 3: 30, 4: 5}  # by token id; 2 is never drawn


def counts_of(tokens):
    """The counts of the set, and as an array by token id."""
    return {token: COUNTS[token] for token in tokens}, [COUNTS.get(token, 0) for token in range(max(tokens) + 1)]


def weight(new, old, counts):
    """Of `new` in place of `old`, and as an insertion where `old` is `None`: on average 1 over what may be drawn."""
    total, size = sum(counts.values()), len(counts)
    if old not in counts:
        return size * counts[new] / total
    return 0.0 if new == old else (size - 1) * counts[new] / (total - counts[old])


def hamming_probs(tokens, reference, temperature):
    """`base(y | y*) exp(-cost distance / tau)` of every string of the length, normalised."""
    counts, _ = counts_of(tokens)
    edit = math.exp(-(1 + math.log(len(tokens))) / temperature)
    options = [sorted({*tokens, token}) for token in reference]
    scores = {
        string: math.prod(
            1.0 if new == old else edit * weight(new, old, counts) for new, old in zip(string, reference, strict=True)
        )
        for string in product(*options)
    }
    total = sum(scores.values())
    return {string: score / total for string, score in scores.items() if score}


def edit_probs(tokens, reference, temperature, max_edits):
    """The same over all scripts of Eq. 11, each by the product of its edits' weights."""
    counts, _ = counts_of(tokens)
    edit, scores = math.exp(-(1 + math.log(len(tokens))) / temperature), defaultdict(float)
    for edits in range(max_edits + 1):
        for number in range(min(edits, len(reference)) + 1):
            for chosen in combinations(range(len(reference)), number):
                left = len(reference) - number
                for gaps in combinations_with_replacement(range(left + 1), edits - number):
                    for new in product([None, *tokens], repeat=number):
                        for inserted in product(tokens, repeat=edits - number):
                            score = edit**edits * math.prod(weight(token, None, counts) for token in inserted)
                            for place, token in zip(chosen, new, strict=True):
                                score *= 1.0 if token is None else weight(token, reference[place], counts)
                            string = written(reference, dict(zip(chosen, new, strict=True)), gaps, inserted)
                            scores[string] += score
    total = sum(scores.values())
    return {string: score / total for string, score in scores.items() if score}


def written(reference, substituted, gaps, inserted):
    """In each gap between tokens left alone: first the substituted tokens, then the inserted ones."""
    string, gap = [], 0
    for place, token in enumerate(reference):
        if place in substituted:
            string += [] if substituted[place] is None else [substituted[place]]
        else:
            string += [new for number, new in zip(gaps, inserted, strict=True) if number == gap]
            string.append(token)
            gap += 1
    return (*string, *(new for number, new in zip(gaps, inserted, strict=True) if number == gap))


HAMMING = {
    "three words": ((0, 1, 3), (1, 3), 0.9),
    "a word that is never drawn": ((0, 2, 3), (2, 0, 0), 0.7),
    "an unknown word": ((0, 1, 4), (7, 4), 1.2),
}
EDIT = {
    "three words": ((0, 1, 3), (1, 3), 0.9, 4),
    "an unknown word": ((0, 3), (7, 3), 0.8, 4),
    "a word that is never drawn, few edits": ((0, 2, 3), (2, 0, 2), 1.0, 2),
}


@pytest.mark.parametrize("how", DRAWS)
@pytest.mark.parametrize("case", HAMMING)
def test_hamming_draws_follow_the_measure(case, how, draw_many, chi_square, alpha):
    tokens, reference, temperature = HAMMING[case]
    payoff = HammingPayoff(tokens, temperature, base_measure=counts_of(tokens)[1])
    probs = hamming_probs(tokens, reference, temperature)
    assert chi_square(draw_many(payoff, list(reference), DRAWS[how], how), probs) > alpha
    for string, prob in probs.items():
        assert payoff.log_prob(string, reference) == pytest.approx(math.log(prob))
    assert payoff.log_prob([2] * len(reference), [1] * len(reference)) == -math.inf


@pytest.mark.parametrize("how", DRAWS)
@pytest.mark.parametrize("case", EDIT)
def test_edit_draws_follow_the_measure(case, how, draw_many, chi_square, alpha):
    tokens, reference, temperature, max_edits = EDIT[case]
    payoff = EditPayoff(tokens, temperature, max_edits=max_edits, base_measure=counts_of(tokens)[1])
    probs = edit_probs(tokens, reference, temperature, max_edits)
    assert chi_square(draw_many(payoff, list(reference), DRAWS[how], how), probs) > alpha
    ours = payoff.log_probs(list(probs), [reference] * len(probs))
    np.testing.assert_allclose(np.exp(ours), list(probs.values()), rtol=1e-9)


def test_the_measure_of_one_for_all_is_the_uniform_one():
    rng = np.random.default_rng(0)
    labels = [rng.integers(2, 40, size=length).tolist() for length in rng.integers(0, 12, size=300)]
    keys, tokens = np.arange(300, dtype=np.uint64), range(4, 36)
    for sampler in (HammingPayoff, EditPayoff):
        uniform, ones = sampler(tokens, 0.9), sampler(tokens, 0.9, base_measure=np.full(40, 7))
        drawn = uniform.draw(labels, keys)
        same = ones.draw(labels, keys)
        assert same.labels == drawn.labels and same.edits.tolist() == drawn.edits.tolist() and drawn.edits.any()
        np.testing.assert_allclose(
            ones.log_probs(drawn.labels, labels), uniform.log_probs(drawn.labels, labels), rtol=1e-9
        )


def test_a_rate_means_the_same_temperature_and_the_same_edits_under_any_measure():
    counts, tokens = np.arange(200) ** 2, range(4, 200)
    labels, keys = [list(range(30, 50))] * 4_000, np.arange(4_000, dtype=np.uint64)
    for sampler in (HammingPayoff, EditPayoff):
        uniform, skewed = (
            sampler.for_edit_rate(tokens=tokens, edit_rate=0.05, length=20, base_measure=measure)
            for measure in (None, counts)
        )
        assert skewed.temperature == uniform.temperature
        assert skewed.edit_rate(20) == pytest.approx(0.05) == uniform.edit_rate(20)
        assert skewed.temperature_for(0.05, 20) == uniform.temperature
        # The very same edits, by other tokens.
        first, second = uniform.draw(labels, keys), skewed.draw(labels, keys)
        assert first.edits.tolist() == second.edits.tolist() and first.labels != second.labels
        assert second.edits.mean() == pytest.approx(1.0, abs=5 * math.sqrt(1.2 / 4_000))


def test_a_batch_lends_its_own_tokens():
    tokens, keys = range(4, 1_000), np.arange(64, dtype=np.uint64)
    rng = np.random.default_rng(1)
    labels = [rng.integers(10, 40, size=12).tolist() for _ in range(64)]
    for sampler in (HammingPayoff, EditPayoff):
        payoff = sampler(tokens, 0.9, base_measure="batch")
        drawn = payoff.sample_batch(labels, keys)
        assert drawn != labels and {token for row in drawn for token in row} <= set(range(10, 40))
        order = rng.permutation(64)  # the order within the batch does not matter
        assert payoff.sample_batch([labels[row] for row in order], keys[order]) == [drawn[row] for row in order]
        # One word alone cannot be replaced by itself: any other is.
        lonely = payoff.sample_batch([[7] * 40] * 4, keys[:4])
        assert len({token for row in lonely for token in row}) > 3
        assert payoff.sample_batch([[], []], keys[:2], temperature=0.3) == [[], []]
        with pytest.raises(NotImplementedError, match="other references of its batch"):
            payoff.log_prob([10], [11])
    assert set(payoff.sample([10, 11] * 30, rng)) == {10, 11}
    reward = ImportancePayoff(payoff, lambda new, old: 0.0, 4, 0.1)
    assert {token for row in reward.sample_batch(labels, keys) for token in row} <= set(range(10, 40))
    with pytest.raises(NotImplementedError, match="log_weights"):
        ImportancePayoff(payoff, lambda new, old: 0.0, 4, 0.1, base="uniform").draw(labels, keys)


def test_wrong_measures_are_refused():
    for wrong, message in {
        "words": 'must be None \\(uniform\\), "batch", or counts',
        (0.5, 0.5, 0.1): "whole counts of at least 0",
        (3, -1, 4): "whole counts of at least 0",
        (0, 0, 5): "at least 2 tokens of the set.*, got 1",
        (2**60, 2**60, 1): "less than 2\\^53",
    }.items():
        with pytest.raises(ValueError, match=message):
            HammingPayoff(range(3), 0.9, base_measure=wrong)
    assert HammingPayoff([5], 0.9, base_measure=[1]).sample_batch([[5, 8]], np.arange(1, dtype=np.uint64))  # one only
    with pytest.raises(TypeError):
        ExactEditPayoff(range(3), 0.9, base_measure=[1, 2, 3])
