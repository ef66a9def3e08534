"""Numbers in the tables of reports."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from hf_localgan.metrics.intervals import Interval


def cell(interval: Interval, form: Callable[[float], str] | None = None) -> str:
    """`0.652 (0.641 to 0.663)`, or the value alone where there is no interval.

    Args:
        interval: of a score.
        form: writes a number, by default as `number`.
    """
    form = form or number
    return with_range(
        form(interval.value), *(form(end) for end in (interval.low, interval.high) if not math.isnan(end))
    )


def with_range(value: str, *ends: str) -> str:
    """`0.3 (0.2 to 0.4)`; the value alone without ends, and where all three are written alike, which tells nothing.

    Args:
        value: as it is written.
        ends: the lower and the upper end, as they are written.
    """
    return value if not ends or {*ends} == {value} else f"{value} ({' to '.join(ends)})"


def number(value: float) -> str:
    """Three decimals below 1, four digits above; empty for NaN."""
    if math.isnan(value):
        return ""
    return f"{round(value, 3) + 0.0:.3f}" if abs(value) < 1 else f"{value:.4g}"  # `+ 0.0`: no minus before a zero


def spread(values: Sequence[float | None], form: str = ".3g") -> str:
    """Mean, smallest and largest of the known values: `0.25 (0.2 to 0.3)`; empty where none is known.

    The mean alone stands where they do not differ in the digits that are shown.
    """
    known = [value for value in values if value is not None and not math.isnan(value)]
    if not known:
        return ""
    return with_range(*(f"{value:{form}}" for value in (sum(known) / len(known), min(known), max(known))))


def summary(values: np.ndarray) -> dict[str, float | int]:
    """Count, mean, (population) standard deviation and five quantiles of the numbers that are not NaN."""
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if not len(known):
        return {"count": 0}
    quantiles = np.quantile(known, [0, 0.05, 0.5, 0.95, 1])
    names = ("lowest", "quantile_05", "median", "quantile_95", "highest")
    return {"count": len(known), "mean": known.mean(), "std": known.std(), **dict(zip(names, quantiles, strict=True))}
