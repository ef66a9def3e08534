"""How much a set of generations repeats itself: distinct n-grams, their entropy, and distinct responses.

Dist-n and Ent-n depend on how many generations are scored: compare at an equal number only.
"""

import math
from collections.abc import Sequence

import numpy as np

from hf_localgan.metrics.checks import require_order, require_token_lists

Tokens = Sequence[str]


class NgramCounts:
    """The n-grams of a list of generations as integers, so that subsets of the generations are counted in microseconds.

    Every statistic takes `indices`, the generations to count (repeats count as often as they stand there); without,
    all of them. Nothing to count gives 0.

    Attributes:
        ids: which distinct n-gram each occurrence is. Integer, shape `(occurrences,)`.
        owner: which generation each occurrence stands in. Shape `(occurrences,)`.
        size: the number of distinct n-grams.
        generations: the number of generations, those too short for an n-gram included.
    """

    def __init__(self, generations: Sequence[Tokens], n: int):
        require_order(n)
        require_token_lists("generations", generations)
        lengths = np.fromiter((len(tokens) for tokens in generations), dtype=np.int64, count=len(generations))
        vocabulary: dict[str, int] = {}
        numbers = [vocabulary.setdefault(token, len(vocabulary)) for tokens in generations for token in tokens]
        occurrences = np.array(numbers, dtype=np.int64)
        owner = np.repeat(np.arange(len(lengths)), lengths)
        remaining = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(occurrences))  # tokens from here to the end
        starts = np.flatnonzero(remaining >= n)
        ids = occurrences[starts]
        for offset in range(1, n):
            # Made dense at every step: products of vocabulary sizes would leave 64 bits.
            ids = np.unique(ids * len(vocabulary) + occurrences[starts + offset], return_inverse=True)[1]
        self.ids = ids
        self.owner = owner[starts]
        self.size = int(ids.max()) + 1 if len(ids) else 0
        self.generations = len(lengths)

    @classmethod
    def of_responses(cls, generations: Sequence[Tokens]) -> "NgramCounts":
        """Counts whole responses: each generation is one token, so that `distinct` is the share of distinct ones."""
        require_token_lists("generations", generations)
        return cls([[" ".join(tokens)] for tokens in generations], 1)

    def counts(self, indices: np.ndarray | None = None) -> np.ndarray:
        """Occurrences of each distinct n-gram, shape `(size,)`."""
        if indices is None:
            return np.bincount(self.ids, minlength=self.size)
        weights = np.bincount(indices, minlength=self.generations)
        return np.bincount(self.ids, weights=weights[self.owner], minlength=self.size)

    def distinct(self, indices: np.ndarray | None = None) -> float:
        """Distinct n-grams over all n-grams."""
        counts = self.counts(indices)
        total = counts.sum()
        return float(np.count_nonzero(counts) / total) if total else 0.0

    def entropy(self, indices: np.ndarray | None = None, base: float = math.e) -> float:
        """Entropy of the n-grams' relative frequencies, `log W - (1 / W) sum c log c` with `W = sum c`."""
        counts = self.counts(indices)
        total = counts.sum()
        return float(max(0.0, np.log(total) - _c_log_c(counts).sum() / total) / math.log(base)) if total else 0.0

    def leave_one_out_distinct(self) -> np.ndarray:
        """`distinct` without each generation in turn, exactly and in one pass. Shape `(generations,)`."""
        counts, owner, ids, own = self._per_generation()
        lost = np.bincount(owner, weights=counts[ids] == own, minlength=self.generations)  # n-grams only it has
        return _ratio(self.size - lost, self._remaining())

    def leave_one_out_entropy(self, base: float = math.e) -> np.ndarray:
        """`entropy` without each generation in turn, exactly and in one pass. Shape `(generations,)`."""
        counts, owner, ids, own = self._per_generation()
        change = _c_log_c(counts[ids]) - _c_log_c(counts[ids] - own)
        c_log_c = _c_log_c(counts).sum() - np.bincount(owner, weights=change, minlength=self.generations)
        total = self._remaining()
        entropy = np.log(np.maximum(total, 1)) - _ratio(c_log_c, total)
        return np.maximum(entropy, 0) / math.log(base)

    def _per_generation(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Counts overall, then for each n-gram that a generation has: generation, n-gram, how often it has it."""
        keys, own = np.unique(self.owner * max(self.size, 1) + self.ids, return_counts=True)
        return self.counts(), keys // max(self.size, 1), keys % max(self.size, 1), own

    def _remaining(self) -> np.ndarray:
        return len(self.ids) - np.bincount(self.owner, minlength=self.generations)


def _c_log_c(counts: np.ndarray) -> np.ndarray:
    return counts * np.log(np.maximum(counts, 1))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.where(denominator > 0, numerator / np.maximum(denominator, 1), 0.0)


def distinct_n(generations: Sequence[Tokens], n: int) -> float:
    """Dist-n (Li et al. 2016): distinct n-grams over all n-grams, counted over the whole set of generations.

    Args:
        generations: the tokens of each generation. Those shorter than `n` contribute none; the empty set scores 0.
        n: tokens per n-gram, at least 1.

    Returns:
        A share in [0, 1]. It falls as more generations are scored.
    """
    return NgramCounts(generations, n).distinct()


def response_distinct_n(generations: Sequence[Tokens], n: int) -> np.ndarray:
    """Each generation's own ratio of distinct n-grams, shape `(generations,)`; NaN for those shorter than `n`."""
    table = NgramCounts(generations, n)
    _, owner, _, _ = table._per_generation()
    distinct = np.bincount(owner, minlength=table.generations)
    total = np.bincount(table.owner, minlength=table.generations)
    return np.where(total > 0, distinct / np.maximum(total, 1), np.nan)


def mean_distinct_n(generations: Sequence[Tokens], n: int) -> float:
    """The mean over generations of each one's own ratio of distinct n-grams. It sees repetition within a response only.

    Generations shorter than `n` have no ratio and are left out; 0 when none is left.
    """
    ratios = response_distinct_n(generations, n)
    ratios = ratios[~np.isnan(ratios)]
    return float(ratios.mean()) if len(ratios) else 0.0


def entropy_n(generations: Sequence[Tokens], n: int = 4, base: float = math.e) -> float:
    """Ent-n (Zhang et al. 2018): `-sum p log p` over the n-grams of the whole set of generations.

    Args:
        generations: the tokens of each generation. Those shorter than `n` contribute none; the empty set scores 0.
        n: tokens per n-gram.
        base: base of the logarithm: `math.e` for nats, 2 for bits.

    Returns:
        At most the logarithm of the number of n-grams, hence of how much is scored.
    """
    if not base > 1:
        raise ValueError(f"`base` must be above 1 (`math.e` for nats, 2 for bits), got {base}.")
    return NgramCounts(generations, n).entropy(base=base)


def distinct_response_share(generations: Sequence[Tokens]) -> float:
    """Distinct responses over all responses; empty ones count as one response. 0 for an empty list."""
    return NgramCounts.of_responses(generations).distinct()


def mean_length(generations: Sequence[Tokens]) -> float:
    """Mean number of tokens; 0 for an empty list."""
    require_token_lists("generations", generations)
    return float(np.mean([len(tokens) for tokens in generations])) if len(generations) else 0.0
