"""Paired bootstrap of corpus BLEU between systems with several runs each."""

import itertools

import numpy as np
import pytest

from hf_localgan.metrics import bleu, bleu_difference

WORDS = "the a man woman dog runs sits near red blue house street with and".split()


def system(seed: int, quality: float, sentences: int = 120):
    """Statistics of a system that keeps each reference word with probability `quality`; references are the same."""
    of_references, of_system = np.random.default_rng(0), np.random.default_rng(seed)
    references = [list(of_references.choice(WORDS, size=8)) for _ in range(sentences)]
    said = [[w if of_system.random() < quality else of_system.choice(WORDS) for w in one] for one in references]
    return bleu([" ".join(one) for one in said], [[" ".join(one)] for one in references], tokenize="none").statistics


def test_the_difference_is_the_second_mean_less_the_first():
    first, second = [system(1, 0.7), system(2, 0.7)], [system(3, 0.8)]
    found = bleu_difference(first, second, resamples=20)
    assert found.difference == pytest.approx(second[0].score() - (first[0].score() + first[1].score()) / 2)
    assert bleu_difference(second, first, resamples=20).difference == pytest.approx(-found.difference)


def test_sentences_are_drawn_together_for_both_systems():
    # The same translations twice: every resample has a difference of 0, which no unpaired bootstrap would give.
    one = system(1, 0.7)
    found = bleu_difference([one], [one], resamples=50)
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_the_same_runs_in_another_order_do_not_differ():
    # Their means are added up in another order, so that the differences are a rounding away from 0, all to one side.
    # All resamples of a single sentence are that sentence.
    runs = [system(seed, 0.7, sentences=1) for seed in range(4)]
    found = [bleu_difference(runs, list(order), resamples=40) for order in itertools.permutations(runs)]
    assert any(one.difference for one in found) and all(one.p_value == 1 for one in found)


def test_the_interval_is_that_of_the_resampled_differences():
    a, b = system(1, 0.7), system(2, 0.75)
    rng = np.random.default_rng(5)
    expected = []
    for _ in range(40):
        rows = rng.integers(0, 120, size=120)
        expected.append(b.score(rows) - a.score(rows))
    found = bleu_difference([a], [b], resamples=40, level=0.9, seed=5)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(expected, [0.05, 0.95])))
    beyond = min(sum(one <= 0 for one in expected), sum(one >= 0 for one in expected))
    assert found.p_value == pytest.approx(2 * (1 + beyond) / 41)


def test_a_clear_difference_is_told_from_none():
    better = bleu_difference([system(1, 0.7)], [system(2, 0.9)], resamples=99)
    assert better.low > 0 and better.p_value == 2 / 100  # none of 99 on the other side of 0
    equal = bleu_difference([system(1, 0.7)], [system(2, 0.7)], resamples=99)
    assert equal.low < 0 < equal.high and equal.p_value > 0.05


def test_drawing_the_runs_too_widens_the_interval_where_seeds_differ():
    first, second = [system(seed, quality) for seed, quality in ((1, 0.6), (2, 0.8))], [system(3, 0.7)]
    fixed, drawn = (bleu_difference(first, second, redraw_runs=redraw, resamples=200) for redraw in (False, True))
    assert drawn.difference == fixed.difference
    # Half of the resamples hold one of the two first runs twice, whose scores lie far apart.
    assert drawn.high - drawn.low > 1.5 * (fixed.high - fixed.low)


def test_what_cannot_be_compared_is_refused():
    one = system(1, 0.7)
    with pytest.raises(ValueError, match="at least one run, got 1 and 0"):
        bleu_difference([one], [])
    with pytest.raises(ValueError, match="got 120 and 9"):
        bleu_difference([one], [system(2, 0.7, sentences=9)])
    with pytest.raises(ValueError, match="`resamples` must be at least 1, got 0"):
        bleu_difference([one], [one], resamples=0)
