"""N-grams that two sequences have in common, counted for many pairs at once."""

from collections.abc import Sequence

import numpy as np

from hf_localgan.payoff.keys import mix
from hf_localgan.payoff.rows import flatten_rows, row_lengths

# A sort key, from the highest bit: the pair within its chunk, the hash of the n-gram, which of the two sequences.
_PAIR_BITS = 10
_PAIR_SHIFT = np.uint64(64 - _PAIR_BITS)
_HASH_MASK = np.uint64(2 ** (64 - _PAIR_BITS) - 2)
_CHUNK_TOKENS = 2**14  # what is sorted at once stays in cache
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def clipped_matches(
    candidates: Sequence[Sequence[int]], references: Sequence[Sequence[int]], max_order: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How many n-grams each candidate shares with its reference, each counted as often as in the rarer of the two.

    N-grams are compared by 53 bits of a hash: two different ones of a pair pass for equal once in 2^53 comparisons.
    Time grows in proportion to the number of tokens.

    Args:
        candidates: token ids of at least 0, one row for each pair.
        references: likewise.
        max_order: longest n-gram.

    Returns:
        Matches by order, int64, shape `(pairs, max_order)`; then the lengths of the candidates and of the references,
        int64, shape `(pairs,)`.
    """
    lengths = np.stack([row_lengths(candidates), row_lengths(references)])  # (2, pairs)
    rows = [flatten_rows(side) for side in (candidates, references)]
    ends = np.concatenate([np.zeros((2, 1), dtype=np.int64), lengths.cumsum(axis=1)], axis=1)
    matches = np.empty((len(candidates), max_order), dtype=np.int64)
    first, total = 0, ends.sum(axis=0)
    while first < len(matches):
        last = int(np.searchsorted(total, total[first] + _CHUNK_TOKENS, side="right")) - 1
        last = min(max(last, first + 1), first + 2**_PAIR_BITS, len(matches))
        tokens = np.concatenate([side[of[first] : of[last]] for side, of in zip(rows, ends, strict=True)])
        matches[first:last] = _count(tokens, lengths[:, first:last], max_order)
        first = last
    return matches, *lengths


def _count(tokens: np.ndarray, lengths: np.ndarray, max_order: int) -> np.ndarray:
    """Clipped matches of one chunk, shape `(pairs, max_order)`.

    Args:
        tokens: of all candidates, then of all references, shape `(lengths.sum(),)`.
        lengths: lengths of candidates and references, shape `(2, pairs)`.
    """
    pairs = lengths.shape[1]
    place = (np.arange(pairs, dtype=np.uint64) << _PAIR_SHIFT) | np.arange(2, dtype=np.uint64)[:, None]  # (2, pairs)
    place = place.ravel().repeat(lengths.ravel())
    left = lengths.cumsum().repeat(lengths.ravel()) - np.arange(len(tokens))  # tokens from here to the row's end
    token_hash = mix(tokens.astype(np.uint64) + _MULTIPLIER)
    ngram_hash = token_hash
    matches = np.zeros((pairs, max_order), dtype=np.int64)
    for order in range(1, max_order + 1):
        if order > 1:
            ngram_hash = mix(ngram_hash[:-1] * _MULTIPLIER + token_hash[order - 1 :])
        size = len(ngram_hash)
        keys = ((ngram_hash & _HASH_MASK) | place[:size])[left[:size] >= order]
        if not len(keys):
            break
        keys.sort()
        ngrams = keys >> np.uint64(1)
        starts = np.flatnonzero(np.concatenate([[True], ngrams[1:] != ngrams[:-1]]))  # of runs of one n-gram
        in_reference = np.add.reduceat((keys & np.uint64(1)).astype(np.int64), starts)
        in_candidate = np.diff(starts, append=len(keys)) - in_reference
        shared = np.minimum(in_candidate, in_reference)
        pair = (keys[starts] >> _PAIR_SHIFT).astype(np.int64)
        matches[:, order - 1] = np.bincount(pair, weights=shared, minlength=pairs)
    return matches
