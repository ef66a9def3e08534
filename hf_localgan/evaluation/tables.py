"""Numbers in the tables of reports."""

import math
from collections.abc import Sequence

import numpy as np

from hf_localgan.metrics.intervals import Interval


def cell(interval: Interval) -> str:
    """`0.652 (0.641 to 0.663)`, or the value alone."""
    if math.isnan(interval.low):
        return number(interval.value)
    return f"{number(interval.value)} ({number(interval.low)} to {number(interval.high)})"


def number(value: float) -> str:
    """Three decimals below 1, four digits above; empty for NaN."""
    if math.isnan(value):
        return ""
    return f"{round(value, 3) + 0.0:.3f}" if abs(value) < 1 else f"{value:.4g}"  # `+ 0.0`: no minus before a zero


def spread(values: Sequence[float | None], form: str = ".3g") -> str:
    """Mean, smallest and largest of the known values: `0.25 (0.2 to 0.3)`; empty where none is known."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean = f"{sum(known) / len(known):{form}}"
    return mean if len(known) == 1 else f"{mean} ({min(known):{form}} to {max(known):{form}})"


def summary(values: np.ndarray) -> dict[str, float | int]:
    """Count, mean, (population) standard deviation and five quantiles of the numbers that are not NaN."""
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if not len(known):
        return {"count": 0}
    quantiles = np.quantile(known, [0, 0.05, 0.5, 0.95, 1])
    names = ("lowest", "quantile_05", "median", "quantile_95", "highest")
    return {"count": len(known), "mean": known.mean(), "std": known.std(), **dict(zip(names, quantiles, strict=True))}
