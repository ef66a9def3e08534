"""Speeds of several rounds as they stand in the results, and the tables they stand in."""

import statistics
from collections.abc import Iterable, Sequence

from hf_localgan.markdown import markdown_table


def spread(values: Sequence[float], form: str) -> str:
    """Median, smallest and largest: `3.1 (2.9 to 3.4)`."""
    middle, low, high = (format(value, form) for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"


def number_table(columns: Iterable[str], rows: Iterable[Sequence], align: str = "<>") -> str:
    """A Markdown table; by default of a name with numbers behind it."""
    return "\n".join(markdown_table(columns, rows, align))
