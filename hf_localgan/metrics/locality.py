"""How well generations cover the cluster of references around a query, and how steady training keeps them."""

from collections.abc import Sequence
from numbers import Real
from typing import NamedTuple

import numpy as np

from hf_localgan.metrics.checks import require_equal_lengths


class LocalCoverage(NamedTuple):
    """Coverage and precision of the queries with several references.

    Attributes:
        coverage: mean over those queries; NaN where there is none.
        precision: the same.
        per_query_coverage: shape `(queries,)`, NaN for queries with fewer than two references.
        per_query_precision: the same.
    """

    coverage: float
    precision: float
    per_query_coverage: np.ndarray
    per_query_precision: np.ndarray


def local_coverage(
    reference_vectors: Sequence[np.ndarray], generation_vectors: Sequence[np.ndarray], radius: float
) -> LocalCoverage:
    """How much of each query's response cluster the generations reach, and how many of them lie inside it.

    Coverage is the share of references whose nearest generation is within `radius`; precision, the mirror image, is
    the share of generations whose nearest reference is. Distances are Euclidean. Coverage grows with the number of
    generations per query: compare at an equal number only.

    Args:
        reference_vectors: for each query its references, shape `(references, dim)`.
        generation_vectors: for each query its generations, shape `(generations, dim)`; none at all scores 0 twice.
        radius: in the units of the space, at least 0.

    Raises:
        ValueError: for unequal numbers of queries, unequal dimensions or a negative radius.
    """
    queries = require_equal_lengths(reference_vectors=reference_vectors, generation_vectors=generation_vectors)
    if not isinstance(radius, Real) or not radius >= 0:
        raise ValueError(f"`radius` must be at least 0, got {radius!r}.")
    coverage, precision = np.full(queries, np.nan), np.full(queries, np.nan)
    for index, (references, generations) in enumerate(zip(reference_vectors, generation_vectors, strict=True)):
        references, generations = np.asarray(references), np.asarray(generations)
        if len(references) < 2:
            continue
        coverage[index] = precision[index] = 0.0
        if len(generations):
            near = _distances(references, generations) <= radius  # (references, generations)
            coverage[index], precision[index] = near.any(axis=1).mean(), near.any(axis=0).mean()
    scored = ~np.isnan(coverage)
    means = (float(coverage[scored].mean()), float(precision[scored].mean())) if scored.any() else (np.nan, np.nan)
    return LocalCoverage(*means, coverage, precision)


def reference_radius(reference_vectors: Sequence[np.ndarray]) -> float:
    """The median, over all references of queries with several, of the distance to the nearest other one.

    With this radius, half of the references are covered by the others of their query.

    Returns:
        NaN where no query has two references.
    """
    nearest = []
    for references in map(np.asarray, reference_vectors):
        if len(references) > 1:
            distances = _distances(references, references)
            np.fill_diagonal(distances, np.inf)
            nearest.append(distances.min(axis=1))
    return float(np.median(np.concatenate(nearest))) if nearest else float("nan")


def _distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Euclidean distances of every row of `left` to every row of `right`."""
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1]:
        raise ValueError(
            f"References and generations must be arrays of shape (count, dim) with one dim, got {left.shape} and "
            f"{right.shape}."
        )
    return np.linalg.norm(left[:, None, :] - right[None, :, :], axis=2)


class Stability(NamedTuple):
    """How steady a score stayed over training; both numbers in its own units, smaller is steadier."""

    step_deviation: float
    largest_drop: float


def stability(entropies: Sequence[float]) -> Stability:
    """Steadiness of Ent-4, or any score that should not collapse, over evaluations at equal distances.

    Args:
        entropies: the score at each evaluation, in order, at least two.

    Returns:
        The (population) standard deviation of the changes from one evaluation to the next, so that an even climb
        counts as steady, and the largest fall below the highest value so far.
    """
    values = np.asarray(entropies, dtype=float)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"`entropies` must be a list of at least two numbers, got shape {values.shape}.")
    drop = np.maximum.accumulate(values) - values
    return Stability(float(np.diff(values).std()), float(drop.max()))
