"""Query-response pairs: one contract of columns for every source, checked once, where the data comes in."""

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, IterableDataset, Value

from hf_localgan.data.checks import (
    check_sizes,
    compare_splits,
    count_split,
    marks,
    report_bad_rows,
    report_joined_lines,
    report_messages,
)
from hf_localgan.data.columns import RESPONSE_NAMES, column_path, find_columns
from hf_localgan.data.histories import note_history
from hf_localgan.data.json_rows import texts_at
from hf_localgan.data.report import VERDICTS, LengthLimits, PairsReport
from hf_localgan.data.row_pairs import RowPairs, pair_rows
from hf_localgan.data.sources import Source, open_splits
from hf_localgan.data.text_files import LINES, PLACE, QUERY, RESPONSES, ROW, WRONG
from hf_localgan.text import INVISIBLE
from hf_localgan.turns import History, is_conversation, make_history

JSON = pa.json_(pa.utf8())
# Lists written as text, as a table of Python or NumPy lists holds them: ['hello', 'hey'], ["hello"], ['a' 'b'].
WRITTEN_LIST = (
    r"""(?s)^\s*(?:(?:np\.|numpy\.)?(?:array|list|tuple|set)\(\s*)?\[\s*['"].*['"]\s*,?\s*\]"""
    r"""(?:\s*,\s*dtype=[^)]*)?\)?\s*$"""
)
# And what may be one, or a text of people: ('hello', 'hey'), {'text': 'hello'}, [1, 2], [].
WRITTEN_VALUE = r"""(?s)^\s*(?:[\[({]\s*['"].*[\])}]|\[[\s\d.,-]*\]|\[\s*None\s*\]|\{\s*\})\s*$"""
MARKED = Features({
    "query": Value("string"), "response": Value("string"), "row": Value("int64"), "verdict": Value("int8"),
    "reason": Value("string"), "bare": Value("string"), "turns": Value("int32"), "left_out": Value("int32"),
    "replaced": Value("bool"),
})  # fmt: skip


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
    marked = {split: _mark(data, split, columns, limits, on_bad, streaming, history) for split, data in opened.items()}
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
            columns=None if is_text else source.features, reasons=_reasons(data.data.table, source.data.table),
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


# Reading one split


def _mark(
    data: Dataset | IterableDataset,
    split: str,
    columns: Mapping[str, str] | None,
    limits: LengthLimits | None,
    on_bad: str,
    streaming: bool,
    history: History,
) -> Dataset | IterableDataset:
    """Rows of query, response, row in the source and verdict; of a stream only the kept queries and responses."""
    if streaming and isinstance(data, Dataset):
        data = data.to_iterable_dataset()
    names = data.column_names
    if names is None:  # a stream of unknown features
        first = next(iter(data), None)
        names = [] if first is None else list(first)
    if not names or (isinstance(data, Dataset) and not len(data)):
        raise ValueError(f"Split `{split}` has no rows.")
    if ROW in names:
        read = tuple(json.loads(data.info.description))
        plural = _is_plural(read[-1])
        data = data.select_columns([ROW, PLACE, LINES, WRONG])
    elif WRONG in names:
        read, plural = (QUERY, RESPONSES), _is_plural(data.info.description)
        data = data.select_columns([QUERY, RESPONSES, LINES, WRONG])
    else:
        read = find_columns(names, split, columns)
        plural = _is_plural(read[-1])
        # only the columns that are read, so that audio or images beside them are not touched
        data = data.select_columns(sorted({column_path(names, name)[0] for name in read}))
    mark = partial(_mark_batch, columns=read, plural=plural, limits=limits, history=history)
    if isinstance(data, Dataset):
        settings = {"batch_size": 10_000, "remove_columns": data.column_names, "features": MARKED}
        settings["desc"] = f"Reading {split} pairs"
    else:
        mark = partial(_stream_batch, mark=mark, split=split, on_bad=on_bad, separator=history.separator)
        features = Features({"query": Value("string"), "response": Value("string")})
        # a column that is written again must not be removed here
        remove = [name for name in data.column_names or names if name not in features]
        settings = {"remove_columns": remove, "features": features}
    return data.with_format("arrow").map(mark, batched=True, with_indices=True, **settings).with_format(None)


class _Batch(NamedTuple):
    """Pairs of a batch of rows; `bare` are queries without history, `given` is what was read of conversations."""

    queries: pa.Array
    bare: pa.Array
    responses: pa.Array
    rows: pa.Array
    given: RowPairs | None


def _mark_batch(
    table: pa.Table,
    rows: list[int],
    *,
    columns: tuple[str, ...],
    plural: bool,
    limits: LengthLimits | None,
    history: History,
) -> pa.Table:
    """A row per pair, with a verdict; a row without any response gets one row that says so."""
    cells = _row_cells(table, columns)
    batch = _plain_batch(table, rows, *columns) if cells is None else _row_batch(table, cells, rows, columns, history)
    queries, bare, responses, row_numbers, given = batch
    number = len(row_numbers)
    verdict = np.zeros(number, np.int8)

    def judge(where: pa.Array, name: str):
        verdict[pc.fill_null(where, False).to_numpy(False) & (verdict == 0)] = VERDICTS.index(name)

    if given is not None:
        judge(pa.array(given.wrong, pa.bool_()), "bad conversation")
    for name, texts in (("bad query", bare), ("bad response", responses)):
        judge(pc.fill_null(pc.match_substring_regex(texts, f"^{INVISIBLE}*$"), True), name)
    _refuse_written_lists(bare, row_numbers, "queries")
    _refuse_written_lists(responses, row_numbers, "responses", plural)
    if limits is not None:
        for side, texts in (("query", bare), ("response", responses)):
            low, high = getattr(limits, f"min_{side}"), getattr(limits, f"max_{side}")
            lengths = limits.lengths(texts) if low is not None or high is not None else None
            if low is not None:
                judge(pc.less(lengths, low), f"{side} too short")
            if high is not None:
                judge(pc.greater(lengths, high), f"{side} too long")
    zeros = np.zeros(number, np.int32)
    notes = {
        "reason": pa.nulls(number, pa.string()) if given is None else pa.array(given.reasons, pa.string()),
        "bare": bare if given is not None and history.turns else pa.nulls(number, pa.string()),
        "turns": pa.array(zeros if given is None else given.turns, pa.int32()),
        "left_out": pa.array(zeros if given is None else given.left_out, pa.int32()),
        "replaced": pa.array(zeros.astype(bool) if given is None else given.replaced, pa.bool_()),
    }
    marked = {"query": queries, "response": responses, "row": row_numbers, "verdict": pa.array(verdict)}
    return pa.table({**marked, **notes})


def _plain_batch(table: pa.Table, rows: list[int], query: str, response: str) -> _Batch:
    """The pairs of rows of a text and one or several texts."""
    queries, responses = _texts(table, query, lists=False), _texts(table, response, lists=True)
    row_numbers = pa.array(rows, pa.int64())
    if pa.types.is_list(responses.type):
        parents = pc.list_parent_indices(responses)
        none = pa.array(np.flatnonzero(pc.equal(pc.fill_null(pc.list_value_length(responses), 0), 0).to_numpy(False)))
        responses = pa.concat_arrays([pc.list_flatten(responses), pa.nulls(len(none), pa.string())])
        parents = pa.concat_arrays([parents.cast(pa.int64()), none.cast(pa.int64())])
        queries, row_numbers = queries.take(parents), row_numbers.take(parents)
    return _Batch(queries, queries, responses, row_numbers, None)


def _row_cells(table: pa.Table, columns: tuple[str, ...]) -> list[list[Any]] | None:
    """The cells of rows that are more than a query and responses; `None` where all are texts."""
    if ROW in table.column_names:
        return [[values.get(name) for name in columns] for values in map(json.loads, table[ROW].to_pylist())]
    paths = [column_path(table.column_names, name) for name in columns]
    if len(columns) == 2 and not any(len(path) == 1 and _may_hold_messages(table[path[0]].type) for path in paths):
        return None
    cells = []
    for parent, *fields in paths:
        dtype = table[parent].type
        values = [_from_arrow(value, dtype) for value in table[parent].to_pylist()]
        cells.append([texts_at(value, fields) for value in values] if fields else values)
    if len(columns) == 2 and not any(is_conversation(value) for values in cells for value in values):
        return None
    return [list(row) for row in zip(*cells, strict=True)]


def _may_hold_messages(dtype: pa.DataType) -> bool:
    return dtype == JSON or (_is_list(dtype) and (dtype.value_type == JSON or pa.types.is_struct(dtype.value_type)))


def _from_arrow(value: Any, dtype: pa.DataType) -> Any:
    """A value of an array as Python has it, what is held as JSON read."""
    if value is None:
        return None
    if dtype == JSON:
        return json.loads(value)
    if _is_list(dtype):
        return [_from_arrow(part, dtype.value_type) for part in value]
    if pa.types.is_struct(dtype):
        return {child.name: _from_arrow(value[child.name], child.type) for child in dtype}
    return value


def _row_batch(
    table: pa.Table, cells: list[list[Any]], rows: list[int], columns: tuple[str, ...], history: History
) -> _Batch:
    """The pairs of rows that are more than a query and responses."""
    told = [table[name].to_pylist() for name in (PLACE, WRONG)] if ROW in table.column_names else [None, None]
    read = pair_rows(cells, rows, columns, history, *told)
    texts = [pa.array(values, pa.string()) for values in (read.queries, read.bare, read.responses)]
    return _Batch(*texts, pa.array(read.rows, pa.int64()), read)


def _texts(table: pa.Table, name: str, lists: bool) -> pa.Array:
    """A column as text, or as lists of texts where it holds lists and `lists` allows; null for what is not text."""
    parent, *fields = column_path(table.column_names, name)
    column = table[parent]
    while fields and pa.types.is_struct(column.type):
        if column.type.get_field_index(fields[0]) < 0:
            names = ", ".join(f"`{parent}.{child.name}`" for child in column.type)
            raise ValueError(f"There is no `{name}` column (found: {names}).")
        parent, column = f"{parent}.{fields[0]}", pc.struct_field(column, fields.pop(0))
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    dtype = array.type
    if not fields and _is_text(dtype):
        return array.cast(pa.string())
    if not fields and lists and _is_list(dtype) and _is_text(dtype.value_type):
        return array.cast(pa.list_(pa.string()))
    values = array.to_pylist()
    if JSON in (dtype, getattr(dtype, "value_type", None)):  # how JSON lines with cells of several types are read
        values = [_from_json(value) for value in values]
    if fields:  # what remains leads through lists of objects
        values = [texts_at(value, fields) for value in values]
        if not lists and any(isinstance(value, list) for value in values):
            raise ValueError(
                f"`{name}` holds a list in each row, and a query is one text. Make one column of it first, such as by "
                "`Dataset.map`."
            )
        if all(
            value is None or value == [None] * len(value) for value in values if not isinstance(value, str)
        ) and not any(isinstance(value, str) for value in values):
            raise ValueError(f"There is no text at `{name}`; the column `{parent}` is {dtype}.")
    if lists and any(isinstance(value, list) for value in values):
        values = [value if isinstance(value, list) else [value] for value in values]
        return pa.array([[v if isinstance(v, str) else None for v in value] for value in values], pa.list_(pa.string()))
    return pa.array([value if isinstance(value, str) else None for value in values], pa.string())


def _is_plural(name: str) -> bool:
    return name.split(".")[-1] == RESPONSE_NAMES[0]


def _refuse_written_lists(texts: pa.Array, rows: pa.Array, name: str, plural: bool = False):
    """Raises for lists that stand as text in a cell.

    Args:
        texts: of queries or of responses.
        rows: number of the row of each.
        name: `"queries"` or `"responses"`.
        plural: whether a column of several responses is expected, in which a list as text is none that is meant.
            Elsewhere one text may look like a list, all do not.
    """
    written = _matches(texts, WRITTEN_LIST)
    if not (plural and written.any()):
        written |= _matches(texts, WRITTEN_VALUE)
        if written.sum() < max(2, len(texts) - texts.null_count):
            return
    first = int(np.flatnonzero(written)[0])
    raise ValueError(
        f"The {name} are lists written as text, such as {texts[first].as_py()!r:.60} in row {rows[first]} (rows "
        "counted from 0): each would be learnt as one text. Write them as lists, which JSON lines and parquet can "
        "hold, or one row for each text."
    )


def _matches(texts: pa.Array, pattern: str) -> np.ndarray:
    return pc.fill_null(pc.match_substring_regex(texts, pattern), False).to_numpy(zero_copy_only=False).copy()


def _from_json(value: str | list[str] | None) -> Any:
    if isinstance(value, list):
        return [_from_json(part) for part in value]
    return None if value is None else json.loads(value)


def _is_text(dtype: pa.DataType) -> bool:
    return dtype in (pa.string(), pa.large_string(), pa.string_view(), pa.null())


def _is_list(dtype: pa.DataType) -> bool:
    return pa.types.is_list(dtype) or pa.types.is_large_list(dtype) or pa.types.is_fixed_size_list(dtype)


def _reasons(marked: pa.Table, source: pa.Table, first: int = 0) -> Callable[[np.ndarray], list[str | None]] | None:
    """A function from the numbers of rows to what is wrong with them; `None` where nothing is known.

    Args:
        marked: rows of `MARKED`.
        source: the rows that they were made of.
        first: number of the first one.
    """
    if WRONG in source.column_names and ROW not in source.column_names:
        wrong = source[WRONG]
        return lambda rows: wrong.take(pa.array(rows - first)).to_pylist()
    known = marked.filter(pc.is_valid(marked["reason"]))
    reasons = dict(zip(known["row"].to_pylist(), known["reason"].to_pylist(), strict=True))
    return (lambda rows: [reasons.get(row) for row in rows.tolist()]) if reasons else None


def _stream_batch(
    table: pa.Table, rows: list[int], *, mark: Callable, split: str, on_bad: str, separator: str
) -> pa.Table:
    marked = mark(table, rows)
    verdict, first = marked["verdict"].to_numpy(), rows[0] if rows else 0
    report_bad_rows(split, verdict, marked["row"].to_numpy(), on_bad, reasons=_reasons(marked, table, first))
    if LINES in table.column_names:
        report_joined_lines(split, table, first)
    left_out, replaced = (int(pc.sum(marked[name]).as_py() or 0) for name in ("left_out", "replaced"))
    report_messages(split, left_out, replaced, separator)
    return marked.select(["query", "response"]).filter(pa.array(verdict == 0))
