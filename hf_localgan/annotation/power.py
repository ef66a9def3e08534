"""How many queries and people a difference between two systems needs to be seen.

Two systems answer the same `N` queries, `K` people answer a yes-or-no question on each response. `d` is the mean over
queries of the difference of the two shares of yes. With `V_b` the variance of a query's expected difference between
queries and `V_w` the variance between people within a query,

    Var(d) = (V_b + V_w / K) / N

More people shrink the second part only. A person who says yes more often than others does so for both systems, and so
drops out. A person's liking for one system does not; it is no part of this.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hf_localgan.annotation.extra import annotation_module
from hf_localgan.markdown import markdown_table

LARGEST = 10_000_000  # queries; no study asks more


@dataclass(frozen=True)
class DifferenceVariance:
    """The variance of the difference of two systems on one query: `between + within / people`, in squared shares."""

    between: float
    within: float

    def of_mean(self, queries: int, people: int) -> float:
        """Variance of the mean difference over so many queries, each judged by so many people."""
        for name, value in (("queries", queries), ("people", people)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}.")
        return (self.between + self.within / people) / queries


def planned_variance(rate: float, other_rate: float, kappa: float, correlation: float = 0.0) -> DifferenceVariance:
    """The variances to expect before anyone has answered.

    The answers on one response are exchangeable with an intraclass correlation of `kappa`, which Fleiss' kappa
    estimates (Fleiss and Cuzick 1979). Of the variance `p (1 - p)` of an answer the share `kappa` lies between
    responses, the rest between people.

    Args:
        rate: share of yes for the first system, in (0, 1).
        other_rate: likewise for the second.
        kappa: agreement of the people, from 0 to 1.
        correlation: correlation of the two systems' expected shares over queries, from -1 to 1. Above 0 where some
            queries are easier for both; 0 is the careful choice.

    Raises:
        ValueError: for a value outside of these ranges.
    """
    for name, value in (("rate", rate), ("other_rate", other_rate)):
        if not 0 < value < 1:
            raise ValueError(f"`{name}` is a share of yes and must lie between 0 and 1, got {value}.")
    if not 0 <= kappa <= 1:
        raise ValueError(f"`kappa` must be from 0 to 1, got {kappa}.")
    if not -1 <= correlation <= 1:
        raise ValueError(f"`correlation` must be from -1 to 1, got {correlation}.")
    first, second = rate * (1 - rate), other_rate * (1 - other_rate)
    between = kappa * (first + second - 2 * correlation * math.sqrt(first * second))
    return DifferenceVariance(between, (1 - kappa) * (first + second))


def measured_variance(first: np.ndarray, second: np.ndarray) -> DifferenceVariance:
    """The two variances as a finished annotation shows them, without bias (one-way analysis of variance).

    Args:
        first: answers on the first system's responses, 0, 1 or NaN for a gap, shape `(people, queries)`.
        second: likewise for the second system, the same people and queries.

    Returns:
        `within` is the mean over queries of the variance between people of their own difference. `between` is at
        least 0.

    Raises:
        ValueError: for unequal shapes, or fewer than two queries that two people have judged for both systems.
    """
    if first.shape != second.shape:
        raise ValueError(f"`first` and `second` must have equal shapes, got {first.shape} and {second.shape}.")
    difference = first - second
    people = (~np.isnan(difference)).sum(axis=0)
    several = people > 1
    if several.sum() < 2:
        raise ValueError(
            f"{int(several.sum())} queries were judged by two people for both systems; at least 2 are needed. "
            "With one person the two variances cannot be told apart."
        )
    difference, people = difference[:, several], people[several]
    within = float(np.nanvar(difference, axis=0, ddof=1).mean())
    variance_of_means = float(np.nanmean(difference, axis=0).var(ddof=1))
    return DifferenceVariance(max(0.0, variance_of_means - within * float((1 / people).mean())), within)


def detection_power(
    difference: float, variance: DifferenceVariance, queries: int, people: int, alpha: float = 0.05
) -> float:
    """Probability that a two-sided test at level `alpha` calls the difference significant, by the normal law.

    Args:
        difference: the true difference of the shares of yes.
        variance: variance of the difference on one query.
        queries: number of queries.
        people: number of people who judge each response.
        alpha: level of the test. For the strictest step of Holm's method over `m` comparisons: `alpha / m`.

    Raises:
        ValueError: for fewer than one query or person, or a level outside of (0, 1).
    """
    if not 0 < alpha < 1:
        raise ValueError(f"`alpha` must lie between 0 and 1, got {alpha}.")
    error = math.sqrt(variance.of_mean(queries, people))
    if error == 0:
        return float(difference != 0)
    normal_power = annotation_module("statsmodels.stats.power").normal_power
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(normal_power(abs(difference) / error, 1, alpha, alternative="two-sided"))


def queries_needed(
    difference: float, variance: DifferenceVariance, people: int, *, target: float = 0.8, alpha: float = 0.05
) -> int | None:
    """The fewest queries with which a difference is seen with probability `target`; `None` for more than ten million.

    Arguments as in `detection_power`.
    """
    _check_target(target, alpha)
    if detection_power(difference, variance, LARGEST, people, alpha) < target:
        return None
    low, high = 0, LARGEST  # too few, enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (
            (low, middle) if detection_power(difference, variance, middle, people, alpha) >= target else (middle, high)
        )
    return high


def smallest_difference(
    variance: DifferenceVariance, queries: int, people: int, *, target: float = 0.8, alpha: float = 0.05
) -> float:
    """The smallest true difference that so many queries and people show with probability `target`.

    Arguments as in `detection_power`.
    """
    _check_target(target, alpha)
    from scipy.optimize import brentq

    error = math.sqrt(variance.of_mean(queries, people))
    if error == 0:
        return 0.0
    return (
        float(brentq(lambda size: detection_power(size * error, variance, queries, people, alpha) - target, 0, 100))
        * error
    )


def power_table(
    difference: float,
    variance: DifferenceVariance,
    queries: Sequence[int],
    people: Sequence[int],
    *,
    target: float = 0.8,
    alpha: float = 0.05,
) -> str:
    """Markdown: a row per number of people, with the probability to see the difference by the number of queries, the
    queries needed, and the smallest difference that the largest number of queries shows.

    Arguments as in `detection_power` and `queries_needed`.
    """
    most = max(queries)
    columns = ["people", *(f"{count} queries" for count in queries), f"queries for {target:.0%}"]
    columns.append(f"smallest difference, {most} queries")
    rows = []
    for count in people:
        powers = (f"{detection_power(difference, variance, number, count, alpha):.2f}" for number in queries)
        needed = queries_needed(difference, variance, count, target=target, alpha=alpha)
        smallest = smallest_difference(variance, most, count, target=target, alpha=alpha)
        rows.append([count, *powers, "more than ten million" if needed is None else needed, f"{smallest:.3f}"])
    title = f"Probability to see a difference of {abs(difference):.3f} at level {alpha:.4g}, two-sided:"
    return "\n".join([title, "", *markdown_table(columns, rows, ">")]) + "\n"


def _check_target(target: float, alpha: float):
    if not alpha < target < 1:
        raise ValueError(f"`target` must lie between `alpha` ({alpha}) and 1, for example 0.8, got {target}.")
