"""The edit distance of strings: how many shortest edit scripts there are, and how many strings at each distance."""

import math
from functools import lru_cache

import numpy as np

from hf_localgan.functional.payoff import log_softmax_edits, penalty_where

_CHUNK = 256  # sentences of similar numbers of edits that share one band of the alignment table
_MOST_STATES = 50_000


def fewest_scripts(
    references: np.ndarray,
    candidates: np.ndarray,
    reference_lengths: np.ndarray,
    lengths: np.ndarray,
    drawable: np.ndarray,
    edits: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Number of edits of the shortest scripts that make each candidate of its reference, and how many those are.

    A script is one of Eq. 11: tokens left alone, and between two of them first substitutions (by another token or
    nothing), then insertions.

    Args:
        references: token ids, all references one after another.
        candidates: token ids, all candidates one after another.
        reference_lengths: shape `(batch,)`.
        lengths: lengths of the candidates, shape `(batch,)`.
        drawable: which of `candidates` may be drawn; others match or are not made at all.
        edits: at least the distance, for example the edits of any script; shape `(batch,)`. Time grows with it.

    Returns:
        Distances (infinity if no script makes the candidate) and counts, float64, shape `(batch,)`. Counts are exact up
        to `2 ** 53`.
    """
    distances, counts = np.empty(len(edits)), np.empty(len(edits))
    costs = np.where(drawable, 1, np.inf).astype(np.float32)
    reference_ends, ends = np.cumsum(reference_lengths), np.cumsum(lengths)
    order = np.argsort(edits, kind="stable")
    for first in range(0, len(order), _CHUNK):
        rows = order[first : first + _CHUNK]
        rows = rows[np.argsort(-(reference_lengths + lengths)[rows], kind="stable")]
        distances[rows], counts[rows] = _fewest_scripts_of_chunk(
            _columns(references, reference_ends[rows], reference_lengths[rows], -1),
            _columns(candidates, ends[rows], lengths[rows], -2),
            _columns(costs, ends[rows], lengths[rows], np.inf),
            reference_lengths[rows],
            lengths[rows],
            edits[rows],
        )
    return distances, counts


def _fewest_scripts_of_chunk(references, candidates, costs, reference_lengths, lengths, edits):
    """`fewest_scripts`, by antidiagonals of a band of the alignment table, for rows by falling total length.

    Row `x` of the tables is the diagonal where `x` tokens more are made than read. An alignment of `e` edits that ends
    on `x = delta` stays between `(delta - e) / 2` and `(delta + e) / 2`. Step `k` computes the cells of `k` tokens read
    and made, in every other row; the rows between still hold those of `k - 1`, and the cells themselves `k - 2`.

    Args:
        references, candidates, costs: one column for each row of the batch; tokens count from 1.
    """
    delta, total = lengths - reference_lengths, lengths + reference_lengths
    low, high = int(((edits - delta) // 2).max()), int(((edits + delta) // 2).max())
    last, last_made = len(references) - 1, len(candidates) - 1
    references = references[::-1]
    # Distances and counts of scripts that since the last token left alone only substituted, and of all scripts.
    substituting = np.full((low + high + 3, len(total)), np.inf, np.float32), np.zeros((low + high + 3, len(total)))
    substituting[0][low + 1], substituting[1][low + 1] = 0, 1
    ending = substituting[0].copy(), substituting[1].copy()
    distances, counts = np.empty(len(total)), np.empty(len(total))
    live = np.searchsorted(-total, -np.arange(total[0] + 2), side="right").tolist()  # rows with at least k tokens
    with np.errstate(over="ignore"):
        for k in range(int(total[0]) + 1):
            first, end = max(-low, -k, k - 2 * last), min(high, k, 2 * last_made - k)
            first, end = first + (k - first) % 2, end - (k - end) % 2
            if 0 < k and first <= end:
                cells, number = np.s_[low + 1 + first : low + 2 + end : 2, : live[k]], (end - first) // 2 + 1
                above = np.s_[low + 2 + first : low + 3 + end : 2, : live[k]]
                below = np.s_[low + first : low + 1 + end : 2, : live[k]]
                read, made = last - (k - first) // 2, (k + first) // 2
                cost = costs[made : made + number, : live[k]]
                same = references[read : read + number, : live[k]] == candidates[made : made + number, : live[k]]
                kept_or_replaced = (
                    np.where(same, ending[0][cells], substituting[0][cells] + cost),
                    np.where(same, ending[1][cells], substituting[1][cells]),
                )
                reached = _fewer(*kept_or_replaced, substituting[0][above] + 1, substituting[1][above])
                substituting[0][cells], substituting[1][cells] = reached
                ending[0][cells], ending[1][cells] = _fewer(*reached, ending[0][below] + cost, ending[1][below])
            done = np.arange(live[k + 1], live[k])
            distances[done], counts[done] = (table[low + 1 + delta[done], done] for table in ending)
    return distances, counts


def _fewer(distances, counts, other_distances, other_counts):
    """The smaller distances, and how many ways there are to them."""
    smallest = np.minimum(distances, other_distances)
    ways = np.where(distances == smallest, counts, 0) + np.where(other_distances == smallest, other_counts, 0)
    return smallest, ways


def _columns(values: np.ndarray, ends: np.ndarray, lengths: np.ndarray, fill: float) -> np.ndarray:
    """Ragged rows, the ends of which in `values` are given, as columns from place 1 on; shape `(1 + time, batch)`."""
    table = np.full((1 + int(lengths.max()), len(lengths)), fill, dtype=values.dtype)
    column = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(column)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    table[1 + place, column] = values[place + np.repeat(ends - lengths, lengths)]
    return table


@lru_cache(maxsize=1024)
def log_string_counts(pattern: tuple[int, ...], vocab_size: int, max_distance: int) -> np.ndarray:
    """Logarithm of the number of strings at each edit distance from a reference.

    Reads strings token by token through the automaton whose states are columns of the Levenshtein table, cut off beyond
    `max_distance`, and adds up how many strings lead to each state. Tokens of the set that are not in the reference
    lead to the same states, so they are one transition.

    Args:
        pattern: the reference: equal numbers for equal tokens, from 0 for tokens of the set, negative for others.
        vocab_size: `v`, tokens that may be drawn.
        max_distance: the largest distance counted.

    Returns:
        Nats, float64, shape `(max_distance + 1,)`; read-only.

    Raises:
        ValueError: if more than 50,000 states are needed at some length.
    """
    length, beyond = len(pattern), max_distance + 1
    # Prefixes of a reference that can be near a string of the same length as theirs, more or less `max_distance`.
    first, columns = 0, np.minimum(np.arange(min(length, max_distance) + 1), beyond)[None]
    strings = np.ones(1)  # times v ** -(smallest distance in the column), which keeps them in range
    totals = np.zeros(max_distance + 1)  # times v ** -distance
    for made in range(length + max_distance + 1):
        if first + columns.shape[1] == length + 1:
            least, whole = columns.min(axis=1), columns[:, -1]
            near = whole <= max_distance
            np.add.at(totals, whole[near], (strings * float(vocab_size) ** (least - whole))[near])
        following = max(0, made + 1 - max_distance), min(length, made + 1 + max_distance)
        if following[0] > length or not len(columns):
            break
        columns, strings = _read_token(columns, strings, first, following, pattern, vocab_size, beyond)
        first = following[0]
        if len(columns) > _MOST_STATES:
            raise ValueError(
                f"Strings at distances up to {max_distance} from a reference of {length} tokens need more than "
                f"{_MOST_STATES:,} states to be counted. Fewer tokens, repeated ones, or a smaller distance need less."
            )
    with np.errstate(divide="ignore"):
        log_counts = np.log(totals) + np.arange(max_distance + 1) * math.log(vocab_size)
    log_counts.flags.writeable = False
    return log_counts


def _read_token(columns, strings, first, following, pattern, vocab_size, beyond):
    """The columns after one token more, for prefixes of `following[0]` to `following[1]` tokens, each column once."""
    prefixes = np.arange(following[0], following[1] + 1)
    padded = np.full((len(columns), len(prefixes) + 1), beyond)  # from one prefix before on
    start = first - following[0] + 1
    padded[:, start : start + columns.shape[1]] = columns[:, : padded.shape[1] - start]
    least = columns.min(axis=1)
    last = np.array([-math.inf, *pattern])[prefixes]  # tokens of the prefixes
    known = sorted(set(pattern[max(0, following[0] - 1) : following[1]]))
    others = vocab_size - sum(token >= 0 for token in known)
    parts = []
    for token, number in [*((token, 1) for token in known), *([(math.inf, others)] if others else [])]:
        drawn = 1 if token >= 0 else beyond
        new = np.minimum(padded[:, 1:] + drawn, padded[:, :-1] + drawn * (last != token))
        new = np.minimum(np.minimum.accumulate(new - prefixes, axis=1) + prefixes, beyond)
        near = (smallest := new.min(axis=1)) < beyond
        parts.append((new[near], (strings * number * float(vocab_size) ** (least - smallest))[near]))
    columns, strings = (np.concatenate(part) for part in zip(*parts, strict=True))
    return _merge_columns(columns, strings)


def _merge_columns(columns: np.ndarray, strings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Equal columns as one, with the sum of their strings."""
    if not len(columns):
        return columns, strings
    factors = np.random.default_rng(0).integers(2**64, size=columns.shape[1], dtype=np.uint64)
    hashes = columns.astype(np.uint64) @ factors  # modulo 2 ** 64
    _, index, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    if (columns[index][inverse] != columns).any():  # different columns of one hash: never seen
        _, index, inverse = np.unique(columns, axis=0, return_index=True, return_inverse=True)
    return columns[index], np.bincount(inverse.ravel(), weights=strings)


def temperature_for_distance(distance: float, log_counts: np.ndarray, edit_cost: float) -> float:
    """The temperature at which the mean edit distance from a reference is `distance`, by bisection.

    Args:
        distance: from 0 to what an infinite temperature gives.
        log_counts: of the strings at distance 0, 1, ..., see `log_string_counts`.
        edit_cost: reward lost with each edit.

    Raises:
        ValueError: if no temperature reaches it.
    """
    distances = np.arange(len(log_counts))

    def mean(penalty: float) -> float:
        return float(np.exp(log_softmax_edits(log_counts, penalty)) @ distances)

    if not 0 <= distance < mean(0.0):
        raise ValueError(
            f"The mean distance (edit rate times length) must be at least 0 and under {mean(0.0):.4g}, which "
            f"an infinite temperature reaches, got {distance:.4g}."
        )
    if not distance:
        return 0.0
    return edit_cost / penalty_where(mean, distance)
