"""Draws of a sampler, and the chi-square test of draws against probabilities that a test has worked out by itself."""

from collections import Counter

import numpy as np
import pytest
from scipy import stats


@pytest.fixture(scope="session")
def alpha() -> float:
    """Chance that a correct sampler fails one statistical test, had its seed not been fixed."""
    return 1e-4


@pytest.fixture(scope="session")
def chi_square():
    """`chi_square(drawn, probs)`: p-value of the strings drawn, under `{string as a tuple: probability}`.

    Strings of few expected draws are pooled, from the rarest on.
    """

    def p_value(drawn, probs: dict[tuple, float]) -> float:
        counts = Counter(map(tuple, drawn))
        assert set(counts) <= set(probs)
        assert min(probs.values()) > 0 and sum(probs.values()) == pytest.approx(1)
        expected, observed, pooled = [], [], np.zeros(2)
        for string in sorted(probs, key=probs.get):
            pooled += probs[string] * len(drawn), counts[string]
            if pooled[0] >= 10:
                expected.append(pooled[0])
                observed.append(pooled[1])
                pooled = np.zeros(2)
        expected[-1] += pooled[0]
        observed[-1] += pooled[1]
        assert len(expected) > 1
        return stats.chisquare(observed, expected, sum_check=False).pvalue

    return p_value


@pytest.fixture(scope="session")
def draw_many():
    """`draw_many(payoff, reference, number, how)`: strings drawn by one generator ("sample") or by keys ("draw")."""

    def draws(payoff, reference, number: int, how: str) -> list[list[int]]:
        if how == "sample":
            rng = np.random.default_rng(0)
            return [payoff.sample(reference, rng) for _ in range(number)]
        return payoff.sample_batch([reference] * number, np.arange(number, dtype=np.uint64))

    return draws
