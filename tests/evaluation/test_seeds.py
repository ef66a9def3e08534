"""How many seeds show a difference: the power of the t-test by simulation, and tables."""

import numpy as np
import pytest
from scipy import stats

from hf_localgan.evaluation.seeds import seed_power, seeds_needed, seeds_table


def test_the_power_is_that_of_simulated_trainings():
    rng, trials = np.random.default_rng(0), 20_000
    for difference, deviation, seeds in ((0.4, 0.25, 4), (0.4, 0.4, 3), (0.0, 1.0, 5)):
        first, second = rng.normal(size=(2, trials, seeds)) * deviation
        shown = stats.ttest_ind(first, second + difference, axis=1).pvalue < 0.05
        # a binomial share: 4.5 standard deviations, which chance exceeds in 7 of a million trials
        error = 4.5 * np.sqrt(shown.mean() * (1 - shown.mean()) / trials)
        assert seed_power(difference, deviation, seeds) == pytest.approx(shown.mean(), abs=error)
        # Seeds that do much alike to both systems: the differences deviate less than the systems' scores.
        common = rng.normal(size=(trials, seeds))
        shown = stats.ttest_rel(first + common, second + difference + common, axis=1).pvalue < 0.05
        error = 4.5 * np.sqrt(shown.mean() * (1 - shown.mean()) / trials)
        power = seed_power(difference, deviation * np.sqrt(2), seeds, paired=True)
        assert power == pytest.approx(shown.mean(), abs=error)
    assert seeds_needed(0.4, 0.3, paired=True) == 7 < seeds_needed(0.4, 0.3) == 10
    assert seed_power(0.0, 1.0, 5) == pytest.approx(0.05) == seed_power(0.0, 1.0, 5, paired=True)
    assert seed_power(0.4, 0.1, 12) == pytest.approx(1) == seed_power(0.4, 0.001, 50)


def test_the_fewest_seeds_reach_the_target_and_one_less_does_not():
    for deviation in (0.15, 0.25, 0.5):
        seeds = seeds_needed(0.4, deviation)
        assert seed_power(0.4, deviation, seeds) >= 0.8
        assert seeds == 2 or seed_power(0.4, deviation, seeds - 1) < 0.8
    assert seeds_needed(0.001, 1.0) is None
    table = seeds_table(0.4, (0.2, 0.3), (3, 4))
    assert table.count("\n") == 6 and "| 0.20 |" in table.replace("  ", " ")
    for wrong, message in ((dict(deviation=0.0), "above 0"), (dict(seeds=1), "at least 2"), (dict(alpha=1), "between")):
        with pytest.raises(ValueError, match=message):
            seed_power(**{"difference": 0.4, "deviation": 0.2, "seeds": 3, **wrong})
