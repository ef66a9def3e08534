"""Query-response pairs: one contract of columns for every source, checked once, where the data comes in."""

import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, IterableDataset

from hf_localgan.data.checks import (
    check_sizes,
    compare_splits,
    count_split,
    marks,
    report_bad_rows,
    report_joined_lines,
    report_messages,
)
from hf_localgan.data.columns import find_columns
from hf_localgan.data.histories import note_history
from hf_localgan.data.marking import bad_row_reasons, mark_rows
from hf_localgan.data.query_keys import BATCH, KEY, text_keys
from hf_localgan.data.report import LengthLimits, PairsReport
from hf_localgan.data.sources import Source, open_splits
from hf_localgan.data.text_files import WRONG
from hf_localgan.turns import History, make_history


class Pairs(Mapping):
    """Pairs by split. `pairs["train"]` has a row per pair (`query`, `response`), for training.

    Attributes:
        grouped: by split, a row per distinct query (`query`, `responses`: its distinct responses over all rows, in the
            order met), for evaluation against several references. Made when first asked for; not for streamed pairs.
        report (`PairsReport`): what was read, kept and left out.
    """

    def __init__(self, splits: dict[str, Dataset | IterableDataset], report: PairsReport):
        self._splits = splits
        self.report = report
        self.grouped = GroupedPairs(splits)

    def __getitem__(self, split: str) -> Dataset | IterableDataset:
        return _pick(self._splits, split)

    def __iter__(self) -> Iterator[str]:
        return iter(self._splits)

    def __len__(self) -> int:
        return len(self._splits)

    def __repr__(self) -> str:
        sizes = ("streamed" if isinstance(v, IterableDataset) else f"{len(v):,}" for v in self._splits.values())
        return f"Pairs({', '.join(f'{split}: {size}' for split, size in zip(self._splits, sizes, strict=True))})"


class GroupedPairs(Mapping):
    """`Pairs.grouped`."""

    def __init__(self, splits: dict[str, Dataset | IterableDataset]):
        self._splits = splits
        self._grouped: dict[str, Dataset] = {}

    def __getitem__(self, split: str) -> Dataset:
        if split not in self._grouped:
            self._grouped[split] = group_pairs(_pick(self._splits, split))
        return self._grouped[split]

    def __iter__(self) -> Iterator[str]:
        return iter(self._splits)

    def __len__(self) -> int:
        return len(self._splits)


def group_pairs(pairs: Dataset) -> Dataset:
    """One row per distinct query, in the order met, with its distinct responses in the order met.

    Texts that differ in the coding of their letters alone (NFC) are one, in the form met first.

    Args:
        pairs: rows of `query`, `response`. A streamed data set is refused, for equal queries may stand anywhere in it.

    Returns:
        Rows of `query`, `responses`.
    """
    if isinstance(pairs, IterableDataset):
        raise ValueError(
            "Streamed pairs cannot be grouped by query, for equal queries may stand anywhere in the stream. Load the "
            'split that you evaluate on without streaming: load_pairs(..., splits=["test"], streaming=False).'
        )
    table = pairs.select_columns(["query", "response"]).with_format("arrow")[:]
    # Texts are equal to a reader and to every tokenizer however their letters are coded.
    for name in ("query", "response"):
        table = table.append_column(f"{name} key", pc.utf8_normalize(table[name], form="NFC"))
    # Groups come out in the order of their hashes, so the rows are numbered and sorted by number.
    table = table.append_column("row", pa.array(range(len(table))))
    distinct = table.group_by(["query key", "response key"], use_threads=False).aggregate([("row", "min")])
    grouped = table.take(distinct.sort_by("row_min")["row_min"]).group_by("query key", use_threads=False)
    grouped = grouped.aggregate([("query", "first"), ("response", "list"), ("row", "min")]).sort_by("row_min")
    return Dataset(grouped.select(["query_first", "response_list"]).rename_columns(["query", "responses"]))


def count_queries(pairs: Dataset) -> int:
    """The number of rows that `group_pairs` makes, without making them.

    Args:
        pairs: rows of `query`.
    """
    batches = pairs.select_columns(["query"]).with_format("arrow").iter(batch_size=BATCH)
    keys = [text_keys(batch["query"], partial(unicodedata.normalize, "NFC")) for batch in batches]
    return len(pc.unique(pa.chunked_array((chunk for part in keys for chunk in part.chunks), KEY)))


def load_pairs(
    source: Source,
    name: str | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    history_turns: int = 0,
    turn_separator: str | None = None,
    splits: Sequence[str] | Mapping[str, str] | None = None,
    limits: LengthLimits | None = None,
    on_bad: Literal["error", "drop"] = "error",
    on_shared: Literal["warn", "drop", "error"] = "warn",
    streaming: bool = False,
    revision: str | None = None,
    **options: Any,
) -> Pairs:
    """Reads pairs of a query and a response, or conversations, and checks them. Text is kept as it stands there.

    Args:
        source: `"smalltalk"` (the shipped corpus), the id of a data set on the Hub, a folder with files named for their
            splits (`train.jsonl`, `test_multi.parquet`, `validation-00000-of-00002.csv`, `test/0000.parquet`, ...) or
            saved by `save_to_disk`, one file, a dict of split to file or files, or a `DatasetDict`, `Dataset` or their
            streamed counterparts. Files are parquet, JSON lines, JSON, CSV or TSV.
        name: configuration of a Hub data set, or of a folder that has a folder for each.
        columns: the column of each role, such as `{"query": "post", "response": "reply"}` or `{"messages": "chat"}`. By
            default `query` with `responses` or `response`, or `source` with `target`; without these `prompt` with
            `completion`, `question` with `answer`, `input` with `output`, `instruction` with `output` (and `input`), or
            `messages`. A column of lists of texts holds several responses.
        history_turns: earlier turns of a conversation, of either speaker, that stand in front of its query; 0 for none.
        turn_separator: what stands between turns; by default `" | "`. A turn that holds it gets a space instead.
        splits: which splits to take, or a mapping of their new names to their names in the source, such as
            `{"train": "train", "test": "test_2016_flickr"}`. By default all.
        limits: lengths outside of which a pair is left out, in every split. Those of a query are of its last turn.
        on_bad: a cell in which nothing is visible or that is not text, and a row of a table with more cells than the
            header, are an error, or their pairs are dropped with a counted warning.
        on_shared: queries that two splits share (ignoring case, spacing, punctuation and how letters are coded) are
            warned of, taken out of the training split, or an error. Queries with `history_turns` are shared where all
            their turns are equal, or the last one and the response. A streamed source is not compared.
        streaming: read as an `IterableDataset`; nothing is counted or compared in advance, bad cells raise when met.
        revision: branch, tag or commit of a Hub data set.
        options: for a data set on the Hub, arguments of `datasets.load_dataset`, such as `cache_dir` or `token`. For
            files `cache_dir`, `download_mode`, `keep_in_memory` and `num_proc`; for CSV and TSV also `sep`, `quoting`
            (0 or `"minimal"`: quotation marks enclose cells; 3 or `"literal"`: they are text), `quotechar`,
            `doublequote`, `escapechar`, `skipinitialspace`, `names` (of the columns of a file without a header),
            `encoding` and `encoding_errors`; for JSON `field`, `encoding` and `encoding_errors`.

    Conversations are lists of messages (`role` and `content`, or `from` and `value`) under `messages`, or under
    `prompt` and `completion`, whose messages alone are responses. Each turn of the assistant behind one of the user
    makes a pair. Messages of the system, and calls and results of tools, are left out with a counted warning; what one
    speaker says in several messages is one turn. A conversation without a pair, with unknown roles, messages without
    text, or parts that are no text is bad as a whole. `encode_pairs` keeps `history_turns` with the tokenizer, and so
    with the model, so that chat and pipeline remember as many turns.

    Every cell of a CSV or TSV file is text, and so is every text in JSON, whatever it looks like. A row whose quotation
    marks join several lines is warned of, unless `quoting` says that they are meant.

    Raises:
        ValueError: columns that are missing, bad cells, shared queries where they are an error, a split that is empty,
            before or after filtering, a source that cannot be found, and files that are damaged or do not fit.
    """
    if on_bad not in ("error", "drop"):
        raise ValueError(f'`on_bad` must be "error" or "drop", got {on_bad!r}.')
    if on_shared not in ("warn", "drop", "error"):
        raise ValueError(f'`on_shared` must be "warn", "drop" or "error", got {on_shared!r}.')
    if limits is not None and not isinstance(limits, LengthLimits):
        raise ValueError(f"`limits` must be a `LengthLimits` or None, got {limits!r} ({type(limits).__name__}).")
    history = make_history(history_turns, turn_separator)
    find = partial(_find, columns=columns)
    opened = open_splits(source, find, name, streaming=streaming, revision=revision, **options)
    opened = _choose(opened, splits)
    marked = {
        split: mark_rows(data, split, columns, limits, on_bad, streaming, history) for split, data in opened.items()
    }
    streamed = [split for split, data in marked.items() if isinstance(data, IterableDataset)]
    if streamed:
        if len(streamed) < len(marked):
            raise ValueError(f"Streamed splits ({', '.join(streamed)}) cannot be mixed with splits held whole.")
        noted = {split: _with_history(data, history) for split, data in marked.items()}
        return Pairs(noted, PairsReport({}, limits=limits, streaming=True))
    return _checked(marked, opened, limits, on_bad, on_shared, history)


def _checked(
    marked: dict[str, Dataset],
    opened: Mapping[str, Any],
    limits: LengthLimits | None,
    on_bad: str,
    on_shared: str,
    history: History,
) -> Pairs:
    counts = {split: count_split(data, len(opened[split])) for split, data in marked.items()}
    report = PairsReport(counts, limits=limits)
    for split, data in marked.items():
        source = opened[split]
        is_text = WRONG in source.column_names  # a text file, whose rows say what is wrong with them
        report_bad_rows(
            split, marks(data, "verdict"), marks(data, "row"), on_bad,
            columns=None if is_text else source.features, reasons=bad_row_reasons(data.data.table, source.data.table),
        )  # fmt: skip
        if is_text:
            report_joined_lines(split, source.data.table)
        report_messages(
            split, int(marks(data, "left_out").sum()), int(marks(data, "replaced").sum()), history.separator
        )
        if history.turns and not marks(data, "turns").any():
            warnings.warn(
                f"Split `{split}`: no query has an earlier turn, so `history_turns={history.turns}` joins nothing. "
                "Turns are read from conversations, such as a column `messages`.",
                stacklevel=3,
            )
    keep = {split: marks(data, "verdict") == 0 for split, data in marked.items()}
    check_sizes(report, keep)
    compare_splits(marked, keep, report, on_shared)
    check_sizes(report, keep)
    pairs = {}
    for split, data in marked.items():
        data = data.select_columns(["query", "response"])
        data = data if keep[split].all() else data.select(np.flatnonzero(keep[split]))
        pairs[split] = _with_history(data, history)
        report.splits[split].pairs = len(pairs[split])
    return Pairs(pairs, report)


def _choose(
    opened: dict[str, Dataset | IterableDataset], splits: str | Sequence[str] | Mapping[str, str] | None
) -> dict[str, Dataset | IterableDataset]:
    if splits is None:
        return opened
    if isinstance(splits, str):
        splits = [splits]
    if not isinstance(splits, Iterable) or not splits:
        raise ValueError(
            f"`splits` must name at least one split, in a list or as a mapping of new names to those in the source, "
            f"got {splits!r} (found: {', '.join(opened)})."
        )
    named = splits if isinstance(splits, Mapping) else {split: split for split in splits}
    unknown = [split for split in named.values() if split not in opened]
    if unknown:
        raise ValueError(
            f"The source has no split {', '.join(f'`{s}`' for s in unknown)} (found: {', '.join(opened)})."
        )
    return {new: opened[old] for new, old in named.items()}


def _pick(splits: Mapping[str, Any], split: str):
    if split not in splits:
        raise KeyError(f"There is no split `{split}` (found: {', '.join(splits)}).")
    return splits[split]


def _with_history(data: Any, history: History) -> Any:
    """The rows, which say what their queries are joined of; those that said so before keep it."""
    return note_history(data, history) if history.turns else data


def _find(split: str, names: Sequence[str], columns: Mapping[str, str] | None) -> tuple[str, ...]:
    return find_columns(names, split, columns)
