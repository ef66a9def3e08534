import math

import pytest

from hf_localgan.metrics import nats_to_bits, perplexity


def test_perplexity_by_hand():
    # three tokens of probability 1/2, 1/4, 1/8: nll 6 log 2, over 3 tokens 2 log 2, exponential 4
    assert perplexity(math.log(2) + math.log(4) + math.log(8), 3) == pytest.approx(4)
    assert nats_to_bits(2 * math.log(2)) == pytest.approx(2)


def test_perplexity_beyond_double_precision_is_infinite():
    assert perplexity(1e6, 10) == math.inf


def test_nothing_scored_and_negative_likelihoods_are_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        perplexity(1.0, 0)
    with pytest.raises(ValueError, match="cannot be negative, got -1.0"):
        perplexity(-1.0, 3)
