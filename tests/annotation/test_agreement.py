"""Agreement: published and hand-made examples, gaps, and what is not defined."""

import math
from itertools import permutations

import numpy as np
import pytest

from hf_localgan.annotation import (
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    mean_cohen_kappa,
    measure_agreement,
    raw_agreement,
)

GAP = np.nan


def test_fleiss_and_raw_agreement_by_hand():
    # Four responses, three people. Equal pairs: 3 of 3, 1 of 3, 3 of 3, 1 of 3, mean 2/3.
    # Six of twelve answers are yes: 1/2 of pairs are equal by chance. (2/3 - 1/2) / (1 - 1/2) = 1/3
    answers = np.array([[1, 1, 0, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    assert raw_agreement(answers).tolist() == pytest.approx([1, 1 / 3, 1, 1 / 3])
    assert fleiss_kappa(answers) == pytest.approx(1 / 3)


def test_cohen_by_hand():
    # 20 both yes, 15 both no, 5 and 10 mixed: agreement .7, by chance .5 * .6 + .5 * .4 = .5, kappa .2 / .5
    first = np.repeat([1, 1, 0, 0], [20, 5, 10, 15]).astype(float)
    second = np.repeat([1, 0, 1, 0], [20, 5, 10, 15]).astype(float)
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    # A third person who equals the first: kappas .4, 1 and .4
    assert mean_cohen_kappa(np.stack([first, second, first])) == pytest.approx(0.6)


def test_krippendorff_of_a_published_example():
    # Krippendorff 2011, Computing Krippendorff's Alpha-Reliability, section A: 0.095
    answers = np.array([[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]])
    assert krippendorff_alpha(answers) == pytest.approx(0.095, abs=5e-4)


def coincidence_alpha(answers: np.ndarray) -> float:
    """Alpha from its coincidence matrix, pair by pair."""
    pairs = np.zeros((2, 2))
    for item in answers.T:
        given = item[~np.isnan(item)].astype(int)
        for one, other in permutations(given, 2):
            pairs[one, other] += 1 / (len(given) - 1)
    n_c, n = pairs.sum(axis=0), pairs.sum()
    return 1 - (n - 1) * 2 * pairs[0, 1] / (2 * n_c[0] * n_c[1])


def test_krippendorff_with_gaps():
    rng = np.random.default_rng(0)
    answers = (rng.random((4, 60)) < 0.6).astype(float)
    answers[:, :30] = answers[0, :30]
    answers[rng.random(answers.shape) < 0.3] = GAP
    assert krippendorff_alpha(answers) == pytest.approx(coincidence_alpha(answers))


def test_a_gap_leaves_its_item_out_of_fleiss_and_its_pair_out_of_the_others():
    answers = np.array([[1, 1, 0, 1, 0], [1, 1, 0, 0, GAP], [1, 0, 0, 0, GAP]])
    assert fleiss_kappa(answers) == pytest.approx(1 / 3)
    assert raw_agreement(answers)[:4].tolist() == pytest.approx([1, 1 / 3, 1, 1 / 3])
    found = measure_agreement(answers, resamples=10)
    assert (found.items, found.complete) == (4, 4) and found.raw.value == pytest.approx(2 / 3)
    assert found.yes == pytest.approx(6 / 13)


@pytest.mark.parametrize("answers", [[[1, 1, 1], [1, 1, 1]], [[1, 0, 1]], [[1, GAP], [GAP, 0]]])
def test_no_coefficient_where_chance_is_everything_or_nobody_can_agree(answers):
    answers = np.array(answers, dtype=float)
    for coefficient in (fleiss_kappa, mean_cohen_kappa, krippendorff_alpha):
        assert math.isnan(coefficient(answers))


def test_agreement_estimates_the_intraclass_correlation_and_sees_nothing_in_noise(simulated):
    rng = np.random.default_rng(1)
    (answers,) = simulated(rng, [0.7], 0.5, people=5, queries=4000)
    for coefficient in (fleiss_kappa, mean_cohen_kappa, krippendorff_alpha):
        assert coefficient(answers) == pytest.approx(0.5, abs=0.05)  # four standard errors
        assert coefficient((rng.random((5, 4000)) < 0.7).astype(float)) == pytest.approx(0, abs=0.02)


def test_other_values_are_refused():
    with pytest.raises(ValueError, match="0, 1 or NaN for a gap, got 2"):
        raw_agreement(np.array([[0, 2], [1, 1]]))
