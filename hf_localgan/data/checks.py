"""Checks of pairs that were read: cells without text, splits without pairs, queries that two splits share."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, IterableDataset, Value

from hf_localgan.data.query_keys import BATCH, KEY, among, joined_keys, text_keys
from hf_localgan.data.report import BAD, BEYOND_LIMITS, VERDICTS, PairsReport, SharedQueries, SplitReport
from hf_localgan.data.table_rows import QUOTES_ARE_TEXT, QUOTES_ENCLOSE
from hf_localgan.data.text_files import LINES, QUERY, RESPONSES
from hf_localgan.turns import History

SHOWN = 3  # rows that a message describes in full


def marks(marked: Dataset, name: str) -> np.ndarray:
    """The column `verdict` or `row` of pairs as they were marked."""
    return marked.data.column(name).to_numpy()  # of a fresh map: no rows are hidden behind an index


def count_split(marked: Dataset, rows: int) -> SplitReport:
    """Counts the verdicts of one split of `rows` rows."""
    verdict = marks(marked, "verdict")
    counts = np.bincount(verdict, minlength=len(VERDICTS))
    limited = zip(BEYOND_LIMITS, counts[-len(BEYOND_LIMITS) :], strict=True)
    removed = {name: int(count) for name, count in limited if count}
    bad = np.unique(np.concatenate(bad_rows(verdict, marks(marked, "row"))))
    return SplitReport(rows=rows, pairs=int(counts[0]), removed=removed, bad_rows=len(bad))


def bad_rows(verdict: np.ndarray, row: np.ndarray) -> list[np.ndarray]:
    """Numbers of the rows whose query, of those whose response is no text, and of conversations that make no pair."""
    return [np.unique(row[verdict == VERDICTS.index(name)]) for name in BAD]


def report_bad_rows(
    split: str,
    verdict: np.ndarray,
    row: np.ndarray,
    on_bad: str,
    columns: Mapping | None = None,
    reasons: Callable[[np.ndarray], list[str | None]] | None = None,
):
    """Raises, or with "drop" warns, if there are bad rows.

    Args:
        split: its name, for messages.
        verdict, row: verdict and row number of each pair, as marked.
        on_bad: `"error"` or `"drop"`.
        columns: the source's, with their types.
        reasons: returns why rows are bad, given their numbers; `None` for a row of which nothing is known.
    """
    bad = bad_rows(verdict, row)
    sides = (
        "a query that is empty or not text",
        "a response that is empty or not text",
        "a conversation that cannot be read",
    )
    faults = [
        f"{len(rows):,} {'row has' if len(rows) == 1 else 'rows have'} {side} ({_first(rows)})"
        for side, rows in zip(sides, bad, strict=True)
        if len(rows)
    ]
    if not faults:
        return
    message = f"Split `{split}`: {' and '.join(faults)}; rows are counted from 0."
    if reasons is not None:
        known = [reason for reason in reasons(np.unique(np.concatenate(bad))) if reason is not None]
        if known:
            more = f"; and {len(known) - SHOWN:,} more" if len(known) > SHOWN else ""
            message += f" {'; '.join(known[:SHOWN])}{more}."
    if on_bad == "drop":
        warnings.warn(f"{message} Their pairs are left out.", stacklevel=4)
        return
    types = ", ".join(f"`{name}` {dtype}" for name, dtype in (columns or {}).items())
    raise ValueError(
        f"{message}{f' Columns as read: {types}.' if types else ''} Correct them, or leave their pairs out by "
        'on_bad="drop".'
    )


def report_joined_lines(split: str, table: pa.Table, first: int = 0):
    """Warns of rows of a table that take up several lines of their file, joined by quotation marks.

    Args:
        split: name of the split, for the message.
        table: rows of `text_files.FEATURES`.
        first: number of the first row.
    """
    lines = pc.fill_null(table[LINES], 0).to_numpy()
    joined = np.flatnonzero(lines > 1)
    if not len(joined):
        return
    shown = [
        f"row {first + index} ({lines[index]} lines): {_beginning(table, int(index))!r}" for index in joined[:SHOWN]
    ]
    warnings.warn(
        f"Split `{split}`: {len(joined):,} {'row was' if len(joined) == 1 else 'rows were'} read from "
        f"{lines[joined].sum():,} lines that quotation marks join; {'; '.join(shown)}"
        f"{', ...' if len(joined) > SHOWN else ''}. {QUOTES_ARE_TEXT} {QUOTES_ENCLOSE}",
        stacklevel=4,
    )


def report_messages(split: str, left_out: int, replaced: int, separator: str):
    """Warns of messages that were left out, and of turns in which the separator was replaced.

    Args:
        split: its name.
        left_out: number of messages of the system and of tools.
        replaced: number of queries with a turn that holds the separator.
        separator: what stands between turns.
    """
    if left_out:
        warnings.warn(
            f"Split `{split}`: {left_out:,} messages of the system or of tools are left out: queries and responses are "
            "turns of the user and the assistant. Write what is needed into the user's turns.",
            stacklevel=4,
        )
    if replaced:
        warnings.warn(
            f"Split `{split}`: {replaced:,} queries have a turn with {separator!r} in it, which stands between turns; "
            "a space replaces it there. Choose another sign by `turn_separator` to keep the text.",
            stacklevel=4,
        )


def _beginning(table: pa.Table, index: int) -> str:
    cells = [table[QUERY][index].as_py(), *(table[RESPONSES][index].as_py() or [])]
    text = next((cell for cell in cells if cell and "\n" in cell), cells[0] or "")
    return text if len(text) <= 70 else f"{text[:67]}..."


def check_sizes(report: PairsReport, keep: dict[str, np.ndarray]) -> None:
    """Raises if a split has no pair left, and says what took them out."""
    for split, kept in keep.items():
        if kept.any():
            continue
        counts = report.splits[split]
        reasons = [f"{count:,} because of {reason}" for reason, count in counts.removed.items()]
        reasons += [f"{counts.bad_rows:,} rows for cells that are empty or not text"] * bool(counts.bad_rows)
        reasons += [f"{counts.shared_dropped:,} because another split has the query"] * bool(counts.shared_dropped)
        advice = []
        if counts.removed:
            advice.append(
                f'Limits: {report.limits}. Widen them (text without spaces between words needs unit="characters").'
            )
        if counts.bad_rows:
            advice.append("Check that `columns` names the columns that hold the texts.")
        if counts.shared_dropped:
            advice.append('With on_shared="warn" they are kept.')
        raise ValueError(
            f"Split `{split}` has no pair left of {counts.rows:,} rows; taken out: {'; '.join(reasons)}. "
            f"{' '.join(advice)} Or choose other splits by `splits`."
        )


def compare_splits(
    marked: dict[str, Dataset], keep: dict[str, np.ndarray], report: PairsReport, on_shared: str
) -> None:
    """Finds queries that two splits share and reports them; "drop" takes those of training splits out of `keep`."""
    if len(marked) < 2:
        return
    keys = {split: text_keys(data.data.column("query")) for split, data in marked.items()}
    with_turns = (split for split, data in marked.items() if data.data.column("bare").null_count < len(data))
    pairs = {split: _last_pair_keys(marked[split]) for split in with_turns}

    def is_shared(split: str, others: Sequence[str]) -> np.ndarray:
        """Which rows of a split share their query with kept rows of others, or its last turn and the response."""
        shared = among(keys[split], kept_keys(keys, others))
        return shared if split not in pairs else shared | among(pairs[split], kept_keys(pairs, others))

    def kept_keys(known: Mapping[str, pa.ChunkedArray], splits: Sequence[str]) -> pa.ChunkedArray:
        parts = ((known[split], keep[split]) for split in splits if split in known)
        kept = (part if rows.all() else part.filter(pa.array(rows)) for part, rows in parts)
        return pa.chunked_array((chunk for part in kept for chunk in part.chunks), KEY)

    for first, second in combinations(marked, 2):
        is_common = is_shared(second, [first]) & keep[second]
        if is_common.any():
            queries = len(pc.unique(keys[second].filter(pa.array(is_common))))
            rows = np.unique(marks(marked[second], "row")[is_common])
            report.shared.append(SharedQueries(first, second, queries, rows[:10].tolist()))
    shared = report.shared
    if on_shared == "drop":
        for split in filter(_is_training, keys):
            others = [other for other in keys if not _is_training(other)]
            if others:
                is_dropped = is_shared(split, others)
                report.splits[split].shared_dropped = int((is_dropped & keep[split]).sum())
                keep[split] &= ~is_dropped
        shared = [s for s in shared if not (_is_training(s.first) or _is_training(s.second))]
    if not shared:
        return
    message = "; ".join(
        f"{s.queries:,} queries of split `{s.second}` also stand in `{s.first}` (rows of `{s.second}`: {_first(s.rows)}"
        f"{', ...' if s.queries > len(s.rows) else ''})"
        for s in shared
    )
    message += ". Case, spacing, punctuation and how letters are coded are ignored, rows are counted from 0."
    if on_shared == "error":
        raise ValueError(f'{message} on_shared="drop" takes them out of the training split.')
    advice = "" if on_shared == "drop" else ' on_shared="drop" takes them out of the training split.'
    warnings.warn(f"{message} Scores on them are not scores on unseen queries.{advice}", stacklevel=4)


def _is_training(split: str) -> bool:
    return split.startswith("train")


def _first(rows: Sequence[int] | np.ndarray) -> str:
    return ", ".join(str(row) for row in rows[:10]) + (", ..." if len(rows) > 10 else "")


def _last_pair_keys(marked: Dataset) -> pa.ChunkedArray:
    """Keys of last turns of queries with their responses; null where queries have no history.

    Of a conversation that stands in two splits, in one of them without its beginning, the joined queries differ.
    """
    last, response = (text_keys(marked.data.column(name)) for name in ("bare", "response"))
    return joined_keys(last, response)


class StreamedComparison:
    """Compares the rows of a training stream with other splits as they are met; called with a batch of them.

    Queries are shared as in `compare_splits`.

    Args:
        split: name of the stream, for messages.
        others: rows of `query` and `response` of the splits that it must not share a query with, by name.
        on_shared: `"warn"` warns of the first batch with such queries, `"drop"` leaves them out, `"error"` raises.
        history: what the queries are joined of.
    """

    def __init__(self, split: str, others: Mapping[str, Dataset | IterableDataset], on_shared: str, history: History):
        self.split, self.names, self.on_shared, self.history = split, tuple(others), on_shared, history
        tables = [table for rows in others.values() for table in _text_tables(rows)]
        self.queries = pa.chunked_array((c for table in tables for c in text_keys(table["query"]).chunks), KEY)
        self.pairs = pa.chunked_array((c for table in tables for c in self._last_pairs(table).chunks), KEY)
        self._warned = False

    def __call__(self, table: pa.Table, rows: list[int]) -> pa.Table:
        is_shared = among(text_keys(table["query"]), self.queries)
        if self.history.turns:
            is_shared = is_shared | among(self._last_pairs(table), self.pairs)
        if self.on_shared == "drop" or not is_shared.any():
            return table.filter(pa.array(~is_shared))
        numbers = np.array(rows)[is_shared]
        message = (
            f"{len(numbers):,} of the pairs {rows[0]:,} to {rows[-1]:,} of split `{self.split}` ({_first(numbers)}) "
            f"have a query that also stands in {' or '.join(f'`{name}`' for name in self.names)}. Case, spacing, "
            "punctuation and how letters are coded are ignored, pairs are counted from 0."
        )
        if self.on_shared == "error":
            raise ValueError(f'{message} on_shared="drop" takes them out of the training split.')
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{message} Scores on them are not scores on unseen queries, and further ones are not told. "
                'on_shared="drop" takes them out of the training split.',
                stacklevel=3,
            )
        return table

    def _last_pairs(self, table: pa.Table) -> pa.ChunkedArray:
        """Keys of last turns with their responses; no turn holds the separator."""
        if not self.history.turns:
            return pa.chunked_array([], KEY)
        queries = table["query"].to_pylist()
        last = pa.array([query.rsplit(self.history.separator, 1)[-1] for query in queries], pa.string())
        return joined_keys(text_keys(last), text_keys(table["response"]))


def apart_from(
    stream: IterableDataset,
    split: str,
    others: Mapping[str, Dataset | IterableDataset],
    on_shared: str,
    history: History,
) -> IterableDataset:
    """A training stream that is compared with other splits, see `StreamedComparison`."""
    compared = StreamedComparison(split, others, on_shared, history)
    features = Features({name: Value("string") for name in ("query", "response")})
    rows = stream.with_format("arrow").map(compared, batched=True, with_indices=True, features=features)
    return rows.with_format(None)


def _text_tables(rows: Dataset | IterableDataset) -> Iterator[Any]:
    return rows.select_columns(["query", "response"]).with_format("arrow").iter(batch_size=BATCH)
