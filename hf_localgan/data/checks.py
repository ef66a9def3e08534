"""Checks of pairs that were read: cells without text, splits without pairs, queries that two splits share."""

import warnings
from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from hf_localgan.data.report import VERDICTS, PairsReport, SharedQueries, SplitReport


def marks(marked: Dataset, name: str) -> np.ndarray:
    """The column `verdict` or `row` of pairs as they were marked."""
    return marked.data.column(name).to_numpy()  # of a fresh map: no rows are hidden behind an index


def count_split(marked: Dataset, rows: int) -> SplitReport:
    """Counts the verdicts of one split of `rows` rows."""
    verdict = marks(marked, "verdict")
    counts = np.bincount(verdict, minlength=len(VERDICTS))
    removed = {name: int(count) for name, count in zip(VERDICTS[3:], counts[3:], strict=True) if count}
    bad = np.unique(np.concatenate(bad_rows(verdict, marks(marked, "row"))))
    return SplitReport(rows=rows, pairs=int(counts[0]), removed=removed, bad_rows=len(bad))


def bad_rows(verdict: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the rows whose query, and of those whose response, is empty or not text."""
    return tuple(np.unique(row[verdict == VERDICTS.index(name)]) for name in ("bad query", "bad response"))


def report_bad_rows(split: str, verdict: np.ndarray, row: np.ndarray, on_bad: str, columns: Mapping | None = None):
    """Raises, or with "drop" warns, if there are bad rows; `columns` are the source's, with their types."""
    told = [
        f"{len(rows):,} {'row has' if len(rows) == 1 else 'rows have'} a {side} that is empty or not text "
        f"({_first(rows)})"
        for side, rows in zip(("query", "response"), bad_rows(verdict, row), strict=True)
        if len(rows)
    ]
    if not told:
        return
    message = f"Split `{split}`: {' and '.join(told)}; rows are counted from 0."
    if on_bad == "drop":
        warnings.warn(f"{message} Their pairs are left out.", stacklevel=4)
        return
    types = ", ".join(f"`{name}` {kind}" for name, kind in (columns or {}).items())
    raise ValueError(
        f"{message}{f' Columns as read: {types}.' if types else ''} Correct them, or leave their pairs out by "
        'on_bad="drop".'
    )


def check_sizes(report: PairsReport, keep: dict[str, np.ndarray]) -> None:
    """Raises if a split has no pair left, and says what took them out."""
    for split, kept in keep.items():
        if kept.any():
            continue
        counts = report.splits[split]
        reasons = [f"{count:,} because of {reason}" for reason, count in counts.removed.items()]
        reasons += [f"{counts.bad_rows:,} rows for cells that are empty or not text"] * bool(counts.bad_rows)
        reasons += [f"{counts.shared_dropped:,} because another split has the query"] * bool(counts.shared_dropped)
        limits = f" Limits: {report.limits}." if report.limits is not None else ""
        raise ValueError(
            f"Split `{split}` has no pair left of {counts.rows:,} rows; taken out: {'; '.join(reasons)}.{limits} Widen "
            'the limits (Chinese without spaces needs unit="characters"), or choose other splits by `splits`.'
        )


def compare_splits(
    marked: dict[str, Dataset], keep: dict[str, np.ndarray], report: PairsReport, on_shared: str
) -> None:
    """Finds queries that two splits share and reports them; "drop" takes those of training splits out of `keep`."""
    keys = {split: _query_keys(data.data.column("query")) for split, data in marked.items()}
    distinct = {split: pc.unique(keys[split].filter(pa.array(keep[split]))) for split in keys}
    for first, second in combinations(marked, 2):
        common = distinct[second].filter(pc.is_in(distinct[second], value_set=distinct[first]))
        if len(common):
            there = pc.is_in(keys[second], value_set=common).to_numpy(zero_copy_only=False) & keep[second]
            rows = np.unique(marks(marked[second], "row")[there])
            report.shared.append(SharedQueries(first, second, len(common), rows[:10].tolist()))
    shared = report.shared
    if on_shared == "drop":
        _drop_from_training(keys, distinct, keep, report)
        shared = [s for s in shared if not (_is_training(s.first) or _is_training(s.second))]
    if not shared:
        return
    told = "; ".join(
        f"{s.queries:,} queries of split `{s.second}` also stand in `{s.first}` (rows of `{s.second}`: {_first(s.rows)}"
        f"{', ...' if s.queries > len(s.rows) else ''})"
        for s in shared
    )
    told += ". Case, spacing and punctuation are ignored, rows are counted from 0."
    if on_shared == "error":
        raise ValueError(f'{told} on_shared="drop" takes them out of the training split.')
    advice = "" if on_shared == "drop" else ' on_shared="drop" takes them out of the training split.'
    warnings.warn(f"{told} Scores on them are not scores on unseen queries.{advice}", stacklevel=4)


def _drop_from_training(keys, distinct, keep, report: PairsReport) -> None:
    others = [queries for split, queries in distinct.items() if not _is_training(split)]
    for split in filter(_is_training, keys):
        if others:
            taken = pc.is_in(keys[split], value_set=pa.concat_arrays(others)).to_numpy(zero_copy_only=False)
            report.splits[split].shared_dropped = int((taken & keep[split]).sum())
            keep[split] &= ~taken


def _is_training(split: str) -> bool:
    return split.startswith("train")


def _first(rows) -> str:
    return ", ".join(str(row) for row in rows[:10]) + (", ..." if len(rows) > 10 else "")


def _query_keys(queries: pa.ChunkedArray) -> pa.Array:
    """Queries without case, spacing and punctuation; one of nothing but signs is kept as it is, without spaces."""
    coded = pa.array(queries.combine_chunks()).dictionary_encode()  # each distinct query is folded once
    folded = pa.array([None if text is None else text.casefold() for text in coded.dictionary.to_pylist()], pa.string())
    bare = pc.replace_substring_regex(folded, pattern=r"[^\pL\pN\pM]+", replacement="")
    signs = pc.replace_substring_regex(folded, pattern=r"[\s\pZ]+", replacement="")
    return pc.if_else(pc.equal(bare, ""), signs, bare).take(coded.indices)
