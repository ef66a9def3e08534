"""Whether one system's front of diversity and relevance lies on or above another's.

Temperature buys diversity for relevance, so that two systems are not told apart by one decoding of each. A system is
better where it is more relevant than its rival *at equal diversity*, for some decoding of the rival.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hf_localgan.evaluation.runs import Run
from hf_localgan.functional.rounding import rounding_bound
from hf_localgan.metrics import Interval, bootstrap_interval
from hf_localgan.metrics.intervals import no_interval

Point = tuple[float, float]  # diversity, relevance
# Margins up to this bound are rounding: they are means over queries of sums of three cosines.
EQUAL = rounding_bound(3.0, roundings=64)


class FrontPoint(NamedTuple):
    """One decoding of a system against the rival's front.

    Attributes:
        decoding: its name.
        diversity: Dist-2.
        relevance: Rel, mean over references.
        margin: relevance less that of the rival's front at this diversity; NaN outside the rival's range. Its interval
            is over queries, whose answers by both systems are resampled together at fixed diversities.
    """

    decoding: str
    diversity: float
    relevance: float
    margin: Interval


def front_weights(diversities: Sequence[float] | np.ndarray, rival: Sequence[Point]) -> np.ndarray:
    """Weights of the rival's points in the rival's front at given diversities, shape `(diversities, points)`.

    The front is the straight lines between those points that no other point dominates, that is, exceeds in one
    coordinate and reaches in the other. To the left of the most relevant point it goes on at that point's relevance,
    as far as the rival's least diverse point: who accepts less diversity need not lose relevance. Rows of diversities
    outside the rival's range are NaN; the others sum to 1.

    Args:
        diversities: Dist-2 of the points that are compared, shape `(diversities,)`.
        rival: the rival's points, in any order.

    Raises:
        ValueError: without a point, or with one that is not finite.
    """
    points = np.asarray(rival, dtype=float).reshape(-1, 2)
    if not len(points) or not np.isfinite(points).all():
        raise ValueError(f"`rival` must be at least one finite pair of diversity and relevance, got {rival!r}.")
    kept: list[int] = []
    for index in np.lexsort((points[:, 1], points[:, 0]))[::-1]:  # the most diverse first
        if not kept or points[index, 1] > points[kept[-1], 1]:
            kept.append(int(index))
    kept.reverse()
    across = points[kept, 0]
    weights = np.zeros((len(diversities), len(points)))
    for row, diversity in enumerate(diversities):
        if not points[:, 0].min() <= diversity <= across[-1]:
            weights[row] = np.nan
        elif diversity <= across[0]:
            weights[row, kept[0]] = 1.0
        else:
            after = int(np.searchsorted(across, diversity))
            share = (diversity - across[after - 1]) / (across[after] - across[after - 1])
            weights[row, kept[after - 1]], weights[row, kept[after]] = 1 - share, share
    return weights


def front_margin(front: Sequence[Point], rival: Sequence[Point]) -> np.ndarray:
    """Relevance of each point less that of the rival's front at the same diversity, shape `(points,)`.

    `front_weights` defines the front. NaN for points that are less diverse than all of the rival's, or more diverse:
    there the rival has no front to compare with. The system lies on or above the rival's front where no margin is below
    0 by more than `EQUAL`, the bound of rounding.

    Args:
        front: pairs of diversity (Dist-2) and relevance of the system, one for each decoding.
        rival: those of the rival, whose number may differ.

    Raises:
        ValueError: if either has no point, or the rival has one that is not finite.
    """
    points = np.asarray(front, dtype=float).reshape(-1, 2)
    if not len(points):
        raise ValueError("`front` must be at least one pair of diversity and relevance, got none.")
    weights = front_weights(points[:, 0], rival)
    return points[:, 1] - weights @ np.asarray(rival, dtype=float).reshape(-1, 2)[:, 1]


def front_points(
    diversity: Mapping[str, float],
    relevance: Mapping[str, np.ndarray],
    rival_diversity: Mapping[str, float],
    rival_relevance: Mapping[str, np.ndarray],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> list[FrontPoint]:
    """The margins of every decoding of a system, with intervals over queries.

    Args:
        diversity: Dist-2 by the name of the decoding.
        relevance: relevance of each query's answer, shape `(queries,)`, NaN where it has none, by the same names.
        rival_diversity, rival_relevance: the rival's, for the same queries in the same order.
        resamples: number of bootstrap samples.
        seed: of the resampling.

    Raises:
        ValueError: if the rival has no decoding.
    """
    names = list(rival_diversity)
    relevances = np.stack([rival_relevance[name] for name in names])  # (points, queries)
    rival = [(rival_diversity[name], float(np.nanmean(row))) for name, row in zip(names, relevances, strict=True)]
    points = []
    for (name, across), weights in zip(diversity.items(), front_weights([*diversity.values()], rival), strict=True):
        if np.isnan(weights).any():
            margin = no_interval(np.nan)
        else:
            margin = bootstrap_interval(relevance[name] - weights @ relevances, resamples=resamples, seed=seed)
        points.append(FrontPoint(name, across, float(np.nanmean(relevance[name])), margin))
    return points


def run_front(run: Run, rival: Run, *, resamples: int = 1000) -> list[FrontPoint] | None:
    """The margins of every decoding of an evaluation over the front of all decodings of a rival's.

    Args:
        run, rival: evaluations of the same queries.
        resamples: number of bootstrap samples.

    Returns:
        A point for each decoding of `run`; `None` where a decoding of either has no relevance.
    """
    if any("relevance_mean" not in entry["scores"] for side in (run, rival) for entry in side.decodings.values()):
        return None
    diversity, rival_diversity = (
        {name: side.interval(name, "dist_2").value for name in side.decodings} for side in (run, rival)
    )
    relevance, rival_relevance = (
        {name: query_scores(side, name, "relevance_mean") for name in side.decodings} for side in (run, rival)
    )
    return front_points(diversity, relevance, rival_diversity, rival_relevance, resamples=resamples)


def query_scores(run: Run, decoding: str, metric: str) -> np.ndarray:
    """One score of each query's answers, shape `(queries,)`, NaN where there is none.

    Raises:
        KeyError: for a score that is not kept for each query.
    """
    rows = sorted((row for row in run.query_scores if row["decoding"] == decoding), key=lambda row: row["query"])
    return np.array([np.nan if row[metric] is None else row[metric] for row in rows], dtype=float)
