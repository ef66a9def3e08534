"""Splits for evaluation, held out from a data set that has one split."""

import hashlib
from collections.abc import Sequence

import numpy as np
from datasets import Dataset

from hf_localgan.data.pairs import Pairs
from hf_localgan.data.report import PairsReport, SplitReport
from hf_localgan.text import equality_key

LARGEST = 1000  # queries that a share puts into a split: enough to score, however large the data set is


def hold_out(pairs: Pairs, splits: Sequence[str], size: float, seed: int) -> Pairs:
    """Takes pairs out of the only split for splits that are missing.

    A query stands in one split with all its responses; queries that differ in case, spacing or punctuation alone are
    one. Which queries are taken follows from their text and the seed, not from their places: with more rows in the
    file, or in another order, most are the same.

    Args:
        pairs: with one split, held in memory.
        splits: names of those that are made.
        size: below 1 the share of the different queries that each gets, at least two queries where there are enough,
            and at most `LARGEST`; from 1 on the number of queries.
        seed: another one takes other queries.

    Returns:
        The split without what was taken, and the new ones. The order of the rows stays.

    Raises:
        ValueError: if no query would be left for the training.
    """
    ((name, rows),) = pairs.items()
    assert isinstance(rows, Dataset)
    keys = [equality_key(query) for query in rows["query"]]
    ranked = sorted(set(keys), key=lambda key: hashlib.sha256(f"{seed}\n{key}".encode()).digest())
    least = 2 if len(ranked) > 2 * len(splits) else 1  # true responses are compared with those to other queries
    number = int(size) if size >= 1 else min(max(round(size * len(ranked)), least), LARGEST)
    if number * len(splits) >= len(ranked):
        raise ValueError(
            f"{len(ranked):,} different queries are too few to hold out {number:,} for each of "
            f"{' and '.join(f'`{split}`' for split in splits)}: none would be left for the training. Give more pairs, "
            "a smaller number to hold out, or files for these splits."
        )
    split_of = {key: place // number for place, key in enumerate(ranked[: number * len(splits)])}
    owner = np.array([split_of.get(key, -1) for key in keys])
    parts = {name: rows.select(np.flatnonzero(owner == -1))}
    parts |= {split: rows.select(np.flatnonzero(owner == place)) for place, split in enumerate(splits)}
    old = pairs.report.splits[name]
    counts = {split: SplitReport(rows=len(parts[split]), pairs=len(parts[split])) for split in splits}
    counts[name] = SplitReport(
        old.rows - int((owner >= 0).sum()), len(parts[name]), old.removed, old.bad_rows, old.shared_dropped
    )
    counts = {split: counts[split] for split in parts}
    return Pairs(parts, PairsReport(counts, pairs.report.shared, pairs.report.limits))
