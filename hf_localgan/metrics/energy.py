"""What an energy over a query and a response says about data: plain numbers from energies and vectors.

Energies and free energies `F` are in nats, lower is likelier. A *pair* is a query with one of its responses. `groups`
says which query a pair belongs to: whole numbers from 0 to `queries - 1`, shape `(pairs,)`. Pairs of one query are not
independent of each other, so every interval is a bootstrap over queries, which are drawn with all of their pairs.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from hf_localgan.metrics.directions import longest, unit_vectors
from hf_localgan.metrics.intervals import Interval, bootstrap_interval, bootstrap_statistic

# ---- matching ----


def other_query_responses(groups: Sequence[int] | np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each pair the index of a random pair of another query, all of them equally likely. Shape `(pairs,)`.

    Args:
        groups: the query of each pair.
        rng: generator of the draws.

    Raises:
        ValueError: if all pairs belong to one query.
    """
    groups, queries = check_groups(groups)
    if queries < 2:
        raise ValueError("Responses of other queries need at least 2 queries, got 1.")
    order = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups)
    starts = np.cumsum(sizes) - sizes
    pairs = len(groups)
    drawn = (rng.random(pairs) * (pairs - sizes[groups])).astype(np.int64)  # among those of other queries
    drawn = np.minimum(drawn, pairs - sizes[groups] - 1)  # `random()` times a large number may round up
    return order[drawn + sizes[groups] * (drawn >= starts[groups])]  # steps over the pairs of its own


def matching_accuracy(
    true: Sequence[float] | np.ndarray,
    other: Sequence[float] | np.ndarray,
    groups: Sequence[int] | np.ndarray,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """How often the true response has a lower score than another query's; ties count one half. Chance is 0.5.

    Args:
        true: score of each pair, such as `F(q, r) - F(bq, r)`, shape `(pairs,)`.
        other: score of each pair's query with responses of other queries, shape `(pairs,)` or `(pairs, draws)`.
        groups: the query of each pair.
        resamples, level, seed: settings of the bootstrap over queries.

    Raises:
        ValueError: for scores that are not finite, and numbers that do not fit together.
    """
    true, other, groups = _check_scores(true, other, groups)
    wins = (true[:, None] < other) + 0.5 * (true[:, None] == other)
    return grouped_mean(wins.mean(axis=1), groups, resamples=resamples, level=level, seed=seed)


def recall_at_one(
    true: Sequence[float] | np.ndarray,
    other: Sequence[float] | np.ndarray,
    groups: Sequence[int] | np.ndarray,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """How often the true response has the lowest score of `1 + draws` candidates. Chance is `1 / (1 + draws)`.

    A tie of `n` lowest scores with the true one among them counts `1 / n`. Arguments as in `matching_accuracy`.
    """
    true, other, groups = _check_scores(true, other, groups)
    lowest = true[:, None] <= other
    hit = lowest.all(axis=1) / (1 + (true[:, None] == other).sum(axis=1))
    return grouped_mean(hit, groups, resamples=resamples, level=level, seed=seed)


def grouped_mean(
    values: Sequence[float] | np.ndarray,
    groups: Sequence[int] | np.ndarray,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean over pairs, with an interval by the bootstrap over queries.

    Args:
        values: one number for each pair, shape `(pairs,)`.
        groups: the query of each pair.
    """
    groups, queries = check_groups(groups)
    values = np.asarray(values, dtype=np.float64)
    if values.shape != groups.shape:
        raise ValueError(f"`values` and `groups` must have one entry per pair, got {values.shape} and {groups.shape}.")
    sums, counts = np.bincount(groups, values, queries), np.bincount(groups, minlength=queries)
    return bootstrap_statistic(
        lambda indices: sums[indices].sum() / counts[indices].sum(),
        queries,
        resamples=resamples,
        level=level,
        seed=seed,
    )


# ---- the centre ----


class CenterCosine(NamedTuple):
    """Mean cosine of each query's centre with its own responses' mean, and with those of all other queries."""

    true: Interval
    shuffled: Interval


def center_cosine(
    centers: np.ndarray, means: np.ndarray, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> CenterCosine:
    """Cosine of `rc(q)` with the mean of the true responses, and the control: with the means of other queries.

    The control is exact, an average over all `queries - 1` other queries. A vector of zeros, up to
    rounding in float32, has the cosine 0.

    Args:
        centers: shape `(queries, dim)`, standardised, so that the cosine is one of deviations from the mean response.
        means: means of each query's true responses, the same shape and scale.
        resamples, level, seed: settings of the bootstrap over queries.
    """
    centers, means = np.asarray(centers, dtype=np.float64), np.asarray(means, dtype=np.float64)
    if centers.ndim != 2 or centers.shape != means.shape or len(centers) < 2:
        raise ValueError(
            "`centers` and `means` must both have shape (queries, dim) with at least 2 queries, got "
            f"{centers.shape} and {means.shape}."
        )
    centers, means = (unit_vectors(rows, longest(rows), torch.float32) for rows in (centers, means))
    true = (centers * means).sum(axis=1)
    shuffled = (centers @ means.sum(axis=0) - true) / (len(means) - 1)
    interval = partial(bootstrap_interval, resamples=resamples, level=level, seed=seed)
    return CenterCosine(interval(true), interval(shuffled))


def group_means(values: np.ndarray, groups: Sequence[int] | np.ndarray) -> np.ndarray:
    """Mean over the pairs of each query, shape `(queries,)` or `(queries, dim)`."""
    groups, queries = check_groups(groups)
    values = np.asarray(values, dtype=np.float64)
    sums = np.zeros((queries, *values.shape[1:]))
    np.add.at(sums, groups, values)
    counts = np.bincount(groups, minlength=queries)
    return sums / counts.reshape(-1, *[1] * (values.ndim - 1))


def equal_rows(vectors: np.ndarray) -> np.ndarray:
    """Numbers the different rows in the order met: `groups` for pairs of which only the queries' vectors are known.

    Args:
        vectors: shape `(pairs, dim)`.

    Returns:
        Shape `(pairs,)`; rows have the same number where they are equal to the last bit.
    """
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in np.ascontiguousarray(vectors)], int)


# ---- checks ----


def check_groups(groups: Sequence[int] | np.ndarray) -> tuple[np.ndarray, int]:
    """`groups` as an array, and the number of queries.

    Raises:
        ValueError: unless these are whole numbers from 0 on, none left out.
    """
    groups = np.asarray(groups)
    if groups.ndim != 1 or not len(groups) or not np.issubdtype(groups.dtype, np.integer):
        raise ValueError(f"`groups` must be whole numbers, one per pair, got {groups.dtype} of shape {groups.shape}.")
    within = groups.min() >= 0 and groups.max() < len(groups)
    counts = np.bincount(groups) if within else np.zeros(1)
    if not counts.all():
        raise ValueError(
            f"`groups` must number the queries from 0 without a gap, got {groups.min()} to {groups.max()} with "
            f"{len(np.unique(groups))} different ones. `numpy.unique(keys, return_inverse=True)[1]` makes such numbers."
        )
    return groups, len(counts)


def _check_scores(true, other, groups) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    groups, _ = check_groups(groups)
    true, other = np.asarray(true, dtype=np.float64), np.asarray(other, dtype=np.float64)
    other = other[:, None] if other.ndim == 1 else other
    if true.shape != groups.shape or other.ndim != 2 or len(other) != len(true) or not other.shape[1]:
        raise ValueError(
            f"`true` must have shape ({len(groups)},) and `other` ({len(groups)}, draws), as `groups` has an entry per "
            f"pair; got {true.shape} and {other.shape}."
        )
    require_finite(true=true, other=other)
    return true, other, groups


def require_finite(**named: np.ndarray) -> None:
    """Refuses NaN and infinity in arrays that are given by their argument names."""
    for name, values in named.items():
        bad = int((~np.isfinite(values)).sum())
        if bad:
            raise ValueError(f"`{name}` must be finite, but {bad} of {values.size} are not. Has the model diverged?")
