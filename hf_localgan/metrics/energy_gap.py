"""Theorem 1 of LocalGAN, measured: the gap between a cluster's energy and its centre's.

`F(q, R_q)` is the mean of `F(q, r)` over the responses `R_q`; the gap is its distance from `F(q, rc)`, in nats. Pairs
and `groups` are as in `metrics.energy`.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hf_localgan.functional.rounding import rounding_bound
from hf_localgan.metrics.energy import check_groups, group_means, require_finite
from hf_localgan.metrics.intervals import Interval, bootstrap_interval

FreeEnergy = Callable[[Tensor, Tensor], Tensor]  # queries and responses to nats, shape (batch,)


class GapBySize(NamedTuple):
    """The gap as a function of the number of responses.

    Attributes:
        sizes: numbers of responses `n`.
        queries: number of queries that have at least so many.
        gap: mean over them of `|F(q, S) - F(q, rc)|`, averaged over subsets `S` of `n` responses, nats.
        change: the same less what these very queries have with one response; 0 where the gap is flat.
    """

    sizes: list[int]
    queries: list[int]
    gap: list[Interval]
    change: list[Interval]


def gap_by_size(
    energies: Sequence[float] | np.ndarray,
    center_energies: Sequence[float] | np.ndarray,
    groups: Sequence[int] | np.ndarray,
    *,
    sizes: Sequence[int] | None = None,
    least_queries: int = 10,
    subsets: int = 100,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> GapBySize:
    """`|F(q, R_q) - F(q, rc)|` against `|R_q|` (LocalGAN, Theorem 1), `F(q, R_q)` being the mean over `R_q`.

    Subsets of each query's responses stand for smaller clusters, so that every size is measured on the same queries.
    Without the bars the average over all subsets of one size is the same number for every size, since a mean of means
    is the mean; so the gap is flat unless responses lie on both sides of the centre's energy, where the bars make it
    fall with the size.

    Args:
        energies: `F(q, r)` of each pair, nats, shape `(pairs,)`.
        center_energies: `F(q, rc)` of each query, nats, shape `(queries,)`.
        groups: the query of each pair.
        sizes: numbers of responses; by default 1 to 10, then twice as many each time, while at least `least_queries`
            queries (or all of them) have so many.
        subsets: of each size and query; all of them where there are no more, else so many random ones.
        resamples, level, seed: settings of the bootstrap over queries, and of the subsets.
    """
    groups, queries = check_groups(groups)
    energies, center_energies = np.asarray(energies, np.float64), np.asarray(center_energies, np.float64)
    if energies.shape != groups.shape or center_energies.shape != (queries,):
        raise ValueError(
            f"`energies` must have shape ({len(groups)},), one for each pair, and `center_energies` ({queries},), one "
            f"for each query, got {energies.shape} and {center_energies.shape}."
        )
    require_finite(energies=energies, center_energies=center_energies)
    order = np.argsort(groups, kind="stable")
    clusters = np.split(energies[order] - center_energies[groups[order]], np.cumsum(np.bincount(groups))[:-1])
    counts = np.array([len(cluster) for cluster in clusters])
    if sizes is None:
        sizes = _default_sizes(counts, min(least_queries, queries))
    if not len(sizes) or min(sizes) < 1 or max(sizes) > counts.max():
        raise ValueError(f"`sizes` must be some of 1 to {counts.max()}, the most responses of a query, got {sizes}.")
    rng = np.random.default_rng(seed)
    single = np.array([np.abs(cluster).mean() for cluster in clusters])
    interval = partial(bootstrap_interval, resamples=resamples, level=level, seed=seed)
    result = GapBySize(list(map(int, sizes)), [], [], [])
    for size in result.sizes:
        chosen = np.flatnonzero(counts >= size)
        gaps = np.array([_mean_absolute_mean(clusters[index], size, subsets, rng) for index in chosen])
        result.queries.append(len(chosen))
        result.gap.append(interval(gaps))
        result.change.append(interval(gaps - single[chosen]))
    return result


def _default_sizes(counts: np.ndarray, least_queries: int) -> list[int]:
    most = int(np.sort(counts)[-least_queries])  # so many queries have at least this number
    sizes = list(range(1, min(most, 10) + 1))
    while sizes[-1] * 2 <= most and most > 10:
        sizes.append(sizes[-1] * 2)
    return sizes


def _mean_absolute_mean(values: np.ndarray, size: int, subsets: int, rng: np.random.Generator) -> float:
    """Mean over subsets of `size` of the absolute value of the subset's mean."""
    number = len(values)
    if size in (1, number):
        return float(np.abs(values if size == 1 else values.mean()).mean())
    if math.comb(number, size) <= subsets:
        chosen = np.array(list(combinations(range(number), size)))
        return float(np.abs(values[chosen].mean(axis=1)).mean())
    means = values[rng.permuted(np.tile(np.arange(number), (subsets, 1)), axis=1)[:, :size]].mean(axis=1)
    # The mean of all subsets' means is known. What the drawn ones miss of it is taken out, as far as signs agree.
    return float(np.abs(means).mean() - np.sign(means).mean() * (means.mean() - values.mean()))


def cluster_spread(responses: np.ndarray, groups: Sequence[int] | np.ndarray) -> np.ndarray:
    """Trace of the (unbiased) covariance of each query's responses, shape `(queries,)`; NaN for a single response.

    Args:
        responses: standardised vectors of the pairs' responses, shape `(pairs, dim)`; the trace of all responses
            together is then `dim`.
    """
    groups, queries = check_groups(groups)
    deviations = np.asarray(responses, dtype=np.float64) - group_means(responses, groups)[groups]
    squares = np.bincount(groups, (deviations**2).sum(axis=1), queries)
    counts = np.bincount(groups, minlength=queries)
    return np.where(counts > 1, squares / np.maximum(counts - 1, 1), np.nan)


class SecondOrderGap(NamedTuple):
    """Second-order expansion of the gap around the centre, for each query, nats, shape `(queries,)`.

    Attributes:
        spread: `tr(Hess F(rc) Sigma) / 2`, `Sigma` the covariance of the query's responses (divided by their number).
        offset: `(m - rc)' Hess F(rc) (m - rc) / 2`, `m` the mean of the responses.
        slope: `grad F(rc)' (m - rc)`; 0 where the centre is stationary.
    """

    spread: np.ndarray
    offset: np.ndarray
    slope: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """The mean of `F(q, r) - F(q, rc)` over the responses, exact where `F` is quadratic in `r`."""
        return self.spread + self.offset + self.slope


def second_order_gap(
    free_energy: FreeEnergy,
    queries: Tensor,
    centers: Tensor,
    responses: Tensor,
    groups: Sequence[int] | np.ndarray,
    *,
    step: float = 1e-3,
    batch_size: int = 4096,
) -> SecondOrderGap:
    """What curvature at the centre and the spread of a cluster say about its gap (LocalGAN, Theorem 1).

    `tr(H Sigma)` is the mean over responses of `(r - m)' H (r - m)`, so no Hessian is ever formed.

    Args:
        free_energy: the same for any batch; its gradient for the response is taken. Double precision is needed.
        queries, centers: a row for each query, standardised, float64, shapes `(queries, query_size)`, `(queries, dim)`.
        responses: vectors of each pair, standardised, float64, shape `(pairs, dim)`.
        groups: the query of each pair.
        step, batch_size: as in `directional_curvature`.
    """
    groups, number = check_groups(groups)
    if len(queries) != number or len(centers) != number or len(responses) != len(groups):
        raise ValueError(
            f"There must be a query and a centre for each of {number} queries and a response for each of "
            f"{len(groups)} pairs, got {len(queries)}, {len(centers)} and {len(responses)}."
        )
    index = torch.as_tensor(groups, device=responses.device)
    means = torch.as_tensor(group_means(responses.cpu().numpy(), groups)).to(responses)

    def curvature(rows: Tensor, directions: Tensor) -> np.ndarray:
        parts = zip(rows.split(batch_size), directions.split(batch_size), strict=True)
        curvatures = [directional_curvature(free_energy, queries[r], centers[r], d, step=step) for r, d in parts]
        return torch.cat(curvatures).cpu().numpy()

    indices = torch.arange(number, device=responses.device)
    around = curvature(index, responses - means[index])
    slopes = [
        (_gradient(free_energy, queries[rows], centers[rows]) * (means - centers)[rows]).sum(dim=1)
        for rows in indices.split(batch_size)
    ]
    return SecondOrderGap(
        group_means(around, groups) / 2, curvature(indices, means - centers) / 2, torch.cat(slopes).cpu().numpy()
    )


def directional_curvature(
    free_energy: FreeEnergy, query: Tensor, response: Tensor, direction: Tensor, *, step: float = 1e-3
) -> Tensor:
    """`d' Hess F(q, r) d` for the response, nats, shape `(batch,)`.

    The central difference of two gradients, each by automatic differentiation. Differentiating twice would hold the
    hidden units' means fixed: the gradient of a mean-field free energy is right at its fixed point without unrolling,
    the second derivative is not. Exact for a quadratic energy, else up to `step ** 2`.

    Args:
        free_energy: as in `second_order_gap`.
        query, response: float64, shapes `(batch, query_size)` and `(batch, dim)`.
        direction: `d`, shape `(batch, dim)`.
        step: distance of the two gradients' places from the response.

    Raises:
        ValueError: in less than double precision, where the difference of gradients is noise.
    """
    if response.dtype != torch.float64:
        raise ValueError(f"Second derivatives need vectors and a model in float64, got {response.dtype}.")
    length = direction.norm(dim=1, keepdim=True)
    unit = direction / length.clamp(min=1e-300)
    ahead, behind = (_gradient(free_energy, query, response + sign * step * unit) for sign in (1, -1))
    return ((ahead - behind) * unit).sum(dim=1) / (2 * step) * length.squeeze(1) ** 2


def _gradient(free_energy: FreeEnergy, query: Tensor, response: Tensor) -> Tensor:
    with torch.enable_grad():
        response = response.detach().requires_grad_()
        return torch.autograd.grad(free_energy(query, response).sum(), response)[0]


class GapBySpread(NamedTuple):
    """The gap in groups of queries of growing spread; lists have an entry per group.

    Attributes:
        spread: mean trace of the responses' covariance.
        queries: number of queries in each group.
        gap: mean of `|F(q, R_q) - F(q, rc)|`, nats.
        predicted: mean of what `second_order_gap` says, nats.
        rank_correlation: Spearman's, of gap and spread over all queries; NaN where one of them is constant up to
            rounding.
    """

    spread: list[float]
    queries: list[int]
    gap: list[Interval]
    predicted: list[float]
    rank_correlation: float


def gap_by_spread(
    gaps: np.ndarray,
    spreads: np.ndarray,
    predicted: np.ndarray,
    *,
    bins: int = 5,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> GapBySpread:
    """The gap against the spread of the cluster, in `bins` groups of as many queries each.

    Args:
        gaps: `|F(q, R_q) - F(q, rc)|` with all responses of each query, nats, shape `(queries,)`.
        spreads: what `cluster_spread` gave; queries whose spread is NaN are left out.
        predicted: prediction for each query, nats; NaN where it was not computed.
        bins: largest number of groups; fewer where there are fewer queries.
    """
    from scipy.stats import spearmanr

    gaps, spreads, predicted = (np.asarray(values, dtype=np.float64) for values in (gaps, spreads, predicted))
    if not gaps.shape == spreads.shape == predicted.shape:
        raise ValueError(
            "`gaps`, `spreads` and `predicted` must have one entry per query each, got "
            f"{gaps.shape}, {spreads.shape} and {predicted.shape}."
        )
    known = np.flatnonzero(~np.isnan(spreads))
    varied = len(known) > 1 and _varies(gaps[known]) and _varies(spreads[known])
    correlation = float(spearmanr(gaps[known], spreads[known]).statistic) if varied else math.nan
    result = GapBySpread([], [], [], [], correlation)
    for members in np.array_split(known[np.argsort(spreads[known], kind="stable")], max(1, min(bins, len(known)))):
        if not len(members):
            continue
        expected = predicted[members][~np.isnan(predicted[members])]
        result.spread.append(float(spreads[members].mean()))
        result.queries.append(len(members))
        result.gap.append(bootstrap_interval(gaps[members], resamples=resamples, level=level, seed=seed))
        result.predicted.append(float(expected.mean()) if len(expected) else math.nan)
    return result


def _varies(values: np.ndarray) -> bool:
    """Whether there is more than rounding between the values, which come from energies and vectors in float32."""
    return bool(np.ptp(values) > rounding_bound(float(np.abs(values).max()), torch.float32))
