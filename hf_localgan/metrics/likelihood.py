"""Perplexity and its relatives, from a summed negative log-likelihood."""

import math


def perplexity(total_nll: float, tokens: int) -> float:
    """`exp(total_nll / tokens)`: the perplexity of the whole set, each token weighing the same.

    Not the mean of sentence perplexities, and not the exponential of a mean over batches of unequal size. The
    end-of-sequence token counts as a token, padding does not. Comparable between models only where the tokenizer is
    the same.

    Args:
        total_nll: negative log-likelihood summed over all tokens, in nats.
        tokens: number of tokens that were summed.

    Returns:
        At least 1 for a proper model; `inf` where the exponential leaves double precision.

    Raises:
        ValueError: if `tokens < 1` or `total_nll` is negative.
    """
    if tokens < 1:
        raise ValueError(f"`tokens` must be at least 1, got {tokens}: nothing was scored.")
    if total_nll < 0:
        raise ValueError(f"`total_nll` is a sum of negative log-probabilities and cannot be negative, got {total_nll}.")
    try:
        return math.exp(total_nll / tokens)
    except OverflowError:
        return math.inf


def nats_to_bits(nats: float) -> float:
    """An entropy or likelihood in bits instead of nats: `nats / log 2`."""
    return nats / math.log(2)
