"""What the radius `F(q, r) - F(q, rc)` of responses measures, and how well generations keep the references' radii."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from hf_localgan.functional.rounding import rounding_bound
from hf_localgan.metrics.checks import require_equal_lengths


def radius_distance(
    reference_radii: Sequence[np.ndarray | Sequence[float]], generation_radii: Sequence[np.ndarray | Sequence[float]]
) -> np.ndarray:
    """Wasserstein distance between the radii of each query's references and of its generations, nats.

    It is the mean distance that the one distribution of radii must be moved to become the other: 0 where generations
    lie as far from the centre as the references do, and spread as they do. Free energies of one query serve as well as
    radii, for its centre is the same for both. Few references and few generations are never equal, even of one
    distribution: compare at equal numbers, and with the references' own distance.

    Args:
        reference_radii: for each query those of its references, nats, shape `(references,)`; NaN are left out.
        generation_radii: for each query those of its generations, shape `(generations,)`.

    Returns:
        Shape `(queries,)`, nats; NaN where a query has no reference or no generation with a radius.

    Raises:
        ValueError: for unequal numbers of queries, and radii that are infinite.
    """
    from scipy.stats import wasserstein_distance

    queries = require_equal_lengths(reference_radii=reference_radii, generation_radii=generation_radii)
    distances = np.full(queries, np.nan)
    for index, sides in enumerate(zip(reference_radii, generation_radii, strict=True)):
        references, generations = (np.asarray(values, dtype=np.float64).ravel() for values in sides)
        references, generations = references[~np.isnan(references)], generations[~np.isnan(generations)]
        if np.isinf(references).any() or np.isinf(generations).any():
            raise ValueError(f"Radii must be finite, got infinity for query {index}. Has the energy diverged?")
        if len(references) and len(generations):
            distances[index] = wasserstein_distance(references, generations)
    return distances


def radius_percentiles(
    radii: np.ndarray | Sequence[float], reference_radii: np.ndarray | Sequence[float]
) -> np.ndarray:
    """Share of the references' radii that lie below each radius, 0 to 1, equal ones counting one half.

    Args:
        radii: shape `(answers,)`, nats; NaN stays NaN.
        reference_radii: those of all references, shape `(references,)`; NaN are left out.

    Raises:
        ValueError: without a reference.
    """
    references = np.asarray(reference_radii, dtype=np.float64)
    references = np.sort(references[~np.isnan(references)])
    if not len(references):
        raise ValueError("`reference_radii` has no radius to compare with.")
    values = np.asarray(radii, dtype=np.float64)
    below, upto = np.searchsorted(references, values, "left"), np.searchsorted(references, values, "right")
    return np.where(np.isnan(values), np.nan, (below + upto) / (2 * len(references)))


def mean_information(utterances: Sequence[Sequence[int]], counts: Mapping[int, int]) -> np.ndarray:
    """Informativeness of utterances: the mean of `-ln p` of their tokens by unigram frequency, nats a token.

    Args:
        utterances: tokens of each; an utterance without any has NaN.
        counts: how often each token was counted in a corpus. One is added to each, and one for all tokens not in it.

    Returns:
        Shape `(utterances,)`.
    """
    total = sum(counts.values()) + len(counts) + 1
    information = [
        np.mean([-np.log((counts.get(t, 0) + 1) / total) for t in tokens] or [np.nan]) for tokens in utterances
    ]
    return np.array(information, dtype=np.float64)


def rank_correlation(radii: np.ndarray | Sequence[float], values: np.ndarray | Sequence[float]) -> float:
    """Spearman's correlation over the entries that both have; NaN where one of them is constant up to rounding."""
    from scipy.stats import spearmanr

    radii, values = np.asarray(radii, dtype=np.float64), np.asarray(values, dtype=np.float64)
    kept = ~np.isnan(radii) & ~np.isnan(values)
    for column in (radii[kept], values[kept]):
        if len(column) < 2 or np.ptp(column) <= rounding_bound(float(np.abs(column).max()), torch.float32):
            return float("nan")
    return float(spearmanr(radii[kept], values[kept]).statistic)


def commonest(utterances: Sequence[Sequence[int]], number: int, least: int = 2) -> list[tuple[tuple[int, ...], int]]:
    """The commonest utterances that are not empty, at most `number` of those met at least `least` times, and how often.

    Where two are equally common, the one that was met first is the first.
    """
    counted = Counter(tuple(utterance) for utterance in utterances if len(utterance))
    return [(utterance, count) for utterance, count in counted.most_common(number) if count >= least]
