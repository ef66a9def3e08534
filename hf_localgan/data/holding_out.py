"""Splits for evaluation, held out from a data set that has one split."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, IterableDataset, Value

from hf_localgan.data.histories import note_history, noted_history
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
        pairs: with one split. A stream is read once to rank its queries and once for each new split, which is loaded;
            the rest stays a stream. The same queries are taken as from a split that is loaded.
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
    keys = np.concatenate([_places(batch["query"], seed) for batch in _tables(rows)])
    ranked = np.unique(keys)
    least = 2 if len(ranked) > 2 * len(splits) else 1  # true responses are compared with those to other queries
    number = int(size) if size >= 1 else min(max(round(size * len(ranked)), least), LARGEST)
    if number * len(splits) >= len(ranked):
        raise ValueError(
            f"{len(ranked):,} different queries are too few to hold out {number:,} for each of "
            f"{' and '.join(f'`{split}`' for split in splits)}: none would be left for the training. Give more pairs, "
            "a smaller number to hold out, or files for these splits."
        )
    taken = _Taken(ranked[: number * len(splits)], number, seed)
    if isinstance(rows, IterableDataset):
        parts: dict[str, Dataset | IterableDataset] = {name: taken.stream(rows, -1)}
        parts |= {split: held_whole(taken.stream(rows, place)) for place, split in enumerate(splits)}
        return Pairs(parts, pairs.report)
    owner = taken.owners(keys)
    parts = {name: rows.select(np.flatnonzero(owner == -1))}
    parts |= {split: rows.select(np.flatnonzero(owner == place)) for place, split in enumerate(splits)}
    old = pairs.report.splits[name]
    sizes = {split: int((owner == place).sum()) for place, split in enumerate(splits)}
    counts = {split: SplitReport(rows=size, pairs=size) for split, size in sizes.items()}
    counts[name] = SplitReport(
        old.rows - int((owner >= 0).sum()), int((owner == -1).sum()), old.removed, old.bad_rows, old.shared_dropped
    )
    counts = {split: counts[split] for split in parts}
    return Pairs(parts, PairsReport(counts, pairs.report.shared, pairs.report.limits))


def held_whole(rows: IterableDataset) -> Dataset:
    """A streamed split as one that is loaded."""
    return note_history(Dataset.from_list(list(rows)), noted_history(rows))


@dataclass
class _Taken:
    """The queries that are held out.

    Attributes:
        keys: of all of them, ranked.
        number: of queries of each split.
        seed: of the ranking.
    """

    keys: np.ndarray
    number: int
    seed: int

    def owners(self, keys: np.ndarray) -> np.ndarray:
        """The number of the split that each query is taken for; -1 for queries that stay."""
        place = np.searchsorted(self.keys, keys)
        is_taken = self.keys[np.minimum(place, len(self.keys) - 1)] == keys
        return np.where(is_taken, place // self.number, -1)

    def stream(self, rows: IterableDataset, owner: int) -> IterableDataset:
        """The rows of a stream that one split has."""
        features = Features({name: Value("string") for name in ("query", "response")})
        picked = rows.with_format("arrow").map(partial(self._of, owner=owner), batched=True, features=features)
        return picked.with_format(None)

    def _of(self, table: pa.Table, owner: int) -> pa.Table:
        return table.filter(pa.array(self.owners(_places(table["query"], self.seed)) == owner))


def _tables(rows: Dataset | IterableDataset) -> Iterator[Any]:
    return rows.select_columns(["query"]).with_format("arrow").iter(batch_size=BATCH)


def _places(queries: pa.Array | pa.ChunkedArray, seed: int) -> np.ndarray:
    """The first 16 bytes of a hash of each query and the seed, by whose order queries are taken."""
    texts = (equality_key(text) for text in queries.to_pylist())
    hashes = b"".join(hashlib.sha256(f"{seed}\n{text}".encode()).digest()[:16] for text in texts)
    return np.frombuffer(hashes, "S16")  # compared as bytes are, from the left
