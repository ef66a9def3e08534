"""Which tokens edits bring in: a base measure over the token set, by whole counts."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

BaseMeasure = Sequence[int] | np.ndarray | Literal["batch"] | None
_LARGEST_TOTAL = 2**53  # random numbers have as many bits


class TokenMeasure:
    """Draws tokens of a set in proportion to whole counts, which is exact: nothing is rounded but the random numbers.

    Args:
        counts: of each token of the set, by its place in the sorted set; int64, shape `(v,)`, at least two of them
            above 0.
    """

    def __init__(self, counts: np.ndarray):
        self.counts, self.ends = counts, np.cumsum(counts)
        self.total = int(self.ends[-1])

    def tokens(self, chance: np.ndarray) -> np.ndarray:
        """Places of tokens `a` with probability `c(a) / C`, by uniform numbers of [0, 1); the same shape."""
        return np.searchsorted(self.ends, (chance * self.total).astype(np.int64), side="right")

    def others(self, chance: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Places of tokens `a` other than the given `b`, with probability `c(a) / (C - c(b))`.

        Args:
            chance: uniform numbers of [0, 1), shape `(n,)`.
            places: of the tokens not to draw, -1 for those outside of the set, shape `(n,)`.
        """
        own = np.where(places >= 0, self.counts[places], 0)
        number = (chance * (self.total - own)).astype(np.int64)
        number += own * ((places >= 0) & (number >= self.ends[places] - own))  # leaves out the numbers of `b`
        return np.searchsorted(self.ends, number, side="right")

    def log_weights(self, places: np.ndarray) -> np.ndarray:
        """`ln v c(a) / C`: weight of drawing `a` among all, 1 on average over the set; `-inf` for a count of 0."""
        with np.errstate(divide="ignore"):
            return np.log(self.counts[places] * (len(self.counts) / self.total))

    def log_factors(self, places: np.ndarray) -> np.ndarray:
        """What turns `log_weights` into the weight of `a` as a substitute of `b`, `ln (v - 1) c(a) / (C - c(b))`.

        Args:
            places: of `b`; 0 is returned for -1, tokens outside of the set, which any of `v` may replace.
        """
        size = len(self.counts)
        left = 1.0 - self.counts[places] / self.total
        return np.where(places >= 0, np.log((size - 1) / size) - np.log(left), 0.0)


def check_measure(measure: BaseMeasure, tokens: np.ndarray) -> TokenMeasure | Literal["batch"] | None:
    """The measure of a sampler: `None` for the uniform one, `"batch"`, or the counts of the set's tokens.

    Args:
        measure: what the sampler was given.
        tokens: the set, sorted, shape `(v,)`.

    Raises:
        ValueError: for counts that are no whole numbers of at least 0, too large, or 0 for all tokens of the set but
            one.
    """
    if measure is None or len(tokens) == 1:  # nothing to choose
        return None
    if isinstance(measure, str):
        if measure != "batch":
            raise ValueError(
                f'`base_measure` must be None (uniform), "batch", or counts by token id, got {measure!r}. Counts of '
                "the training labels (`numpy.bincount`) are the unigram distribution."
            )
        return "batch"
    counts = np.asarray(measure)
    if counts.ndim != 1 or counts.dtype.kind not in "ui" or (counts.size and counts.min() < 0):
        raise ValueError(
            "`base_measure` must be whole counts of at least 0, the count of token i at place i, as `numpy.bincount` "
            f"of the training labels has them, got {counts.dtype} of shape {counts.shape}."
        )
    inside = _counts_of(counts, tokens)
    if (inside > 0).sum() < 2:
        raise ValueError(
            "`base_measure` must have counts above 0 for at least 2 tokens of the set, so that each can be replaced by "
            f"another, got {int((inside > 0).sum())}."
        )
    if inside.sum(dtype=np.float64) >= _LARGEST_TOTAL:
        raise ValueError(f"The counts of `base_measure` must sum to less than 2^53, got {inside.sum(dtype=float):.3g}.")
    return TokenMeasure(inside)


def batch_measure(places: np.ndarray, size: int) -> TokenMeasure | None:
    """The measure of the tokens of one call of `draw`; uniform, `None`, where fewer than two different ones are there.

    Args:
        places: of the tokens of all its references in the set, -1 for those outside; shape `(tokens,)`.
        size: `v`, tokens of the set.
    """
    counts = np.bincount(places[places >= 0], minlength=size)
    return TokenMeasure(counts) if (counts > 0).sum() > 1 else None


def _counts_of(counts: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    inside = np.zeros(len(tokens), np.int64)
    known = tokens < len(counts)
    inside[known] = counts[tokens[known]]
    return inside
