"""Reading one split: a row per pair, with a verdict on it and what else is to be told of it."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, IterableDataset, Value

from hf_localgan.data.checks import report_bad_rows, report_joined_lines, report_messages
from hf_localgan.data.columns import RESPONSE_NAMES, column_path, find_columns
from hf_localgan.data.json_rows import texts_at
from hf_localgan.data.report import VERDICTS, LengthLimits
from hf_localgan.data.row_pairs import RowPairs, pair_rows
from hf_localgan.data.text_files import BATCH, LINES, PLACE, QUERY, RESPONSES, ROW, WRONG
from hf_localgan.text import INVISIBLE
from hf_localgan.turns import History, is_conversation

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


def mark_rows(
    data: Dataset | IterableDataset,
    split: str,
    columns: Mapping[str, str] | None,
    limits: LengthLimits | None,
    on_bad: str,
    streaming: bool,
    history: History,
) -> Dataset | IterableDataset:
    """Rows of `MARKED`; of a stream only the kept queries and responses.

    Args:
        data: a split as `open_splits` returns it.
        split: its name, for messages.
        columns, limits, on_bad, streaming: as in `load_pairs`.
        history: how many earlier turns are joined to a query.

    Raises:
        ValueError: for a split without rows, columns that are missing, and bad rows of a stream when they are met.
    """
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
        settings = {"batch_size": BATCH, "remove_columns": data.column_names, "features": MARKED}
        settings["writer_batch_size"] = BATCH  # few pieces: each takes memory where the file is mapped
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
    queries, bare, responses = (pa.array(values, pa.string()) for values in (read.queries, read.bare, read.responses))
    return _Batch(queries, bare, responses, pa.array(read.rows, pa.int64()), read)


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


def bad_row_reasons(
    marked: pa.Table, source: pa.Table, first: int = 0
) -> Callable[[np.ndarray], list[str | None]] | None:
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
    report_bad_rows(split, verdict, marked["row"].to_numpy(), on_bad, reasons=bad_row_reasons(marked, table, first))
    if LINES in table.column_names:
        report_joined_lines(split, table, first)
    left_out, replaced = (int(pc.sum(marked[name]).as_py() or 0) for name in ("left_out", "replaced"))
    report_messages(split, left_out, replaced, separator)
    return marked.select(["query", "response"]).filter(pa.array(verdict == 0))
