"""Splits for evaluation, held out from a data set that has one split."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from datasets import Dataset

from hf_localgan.data.pairs import Pairs
from hf_localgan.data.query_keys import BATCH
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
    queries = rows.with_format("arrow")
    keys = np.concatenate([_places(batch["query"], seed) for batch in queries.iter(batch_size=BATCH)])
    ranked = np.unique(keys)
    least = 2 if len(ranked) > 2 * len(splits) else 1  # true responses are compared with those to other queries
    number = int(size) if size >= 1 else min(max(round(size * len(ranked)), least), LARGEST)
    if number * len(splits) >= len(ranked):
        raise ValueError(
            f"{len(ranked):,} different queries are too few to hold out {number:,} for each of "
            f"{' and '.join(f'`{split}`' for split in splits)}: none would be left for the training. Give more pairs, "
            "a smaller number to hold out, or files for these splits."
        )
    place = np.searchsorted(ranked[: number * len(splits)], keys)
    owner = np.where(place < number * len(splits), place // number, -1)
    parts = {name: rows.select(np.flatnonzero(owner == -1))}
    parts |= {split: rows.select(np.flatnonzero(owner == place)) for place, split in enumerate(splits)}
    old = pairs.report.splits[name]
    counts = {split: SplitReport(rows=len(parts[split]), pairs=len(parts[split])) for split in splits}
    counts[name] = SplitReport(
        old.rows - int((owner >= 0).sum()), len(parts[name]), old.removed, old.bad_rows, old.shared_dropped
    )
    counts = {split: counts[split] for split in parts}
    return Pairs(parts, PairsReport(counts, pairs.report.shared, pairs.report.limits))


def _places(queries: pa.Array | pa.ChunkedArray, seed: int) -> np.ndarray:
    """The first 16 bytes of a hash of each query and the seed, by whose order queries are taken."""
    texts = (equality_key(text) for text in queries.to_pylist())
    hashes = b"".join(hashlib.sha256(f"{seed}\n{text}".encode()).digest()[:16] for text in texts)
    return np.frombuffer(hashes, "S16")  # compared as bytes are, from the left
