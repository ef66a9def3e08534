"""Reads CSV, TSV, JSON lines and JSON as text: nothing is inferred, and every row is held against its lines.

Readers that infer types make dates of texts, and readers of tables join lines at a stray quotation mark, shift columns
or leave out what does not fit. Here a cell is text or it is not, and a row that does not fit says so.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import datasets
import numpy as np
import pyarrow as pa
from datasets import Features, List, Value
from datasets.builder import Key
from datasets.data_files import DataFilesDict, DataFilesList

from hf_localgan.data.json_rows import JSON_SETTINGS, json_rows, texts_at
from hf_localgan.data.rows import TableRow, decoded_lines, open_bytes, shown, unpacking_errors
from hf_localgan.data.table_rows import QUOTES_ARE_TEXT, TABLE_SETTINGS, dialect, row_fault, table_rows
from hf_localgan.turns import is_conversation

# What is read beside the texts of a row: its number of lines where these were joined by quotation marks, and what is
# wrong with it. Both are empty of most rows.
QUERY, RESPONSES, LINES, WRONG = "query", "responses", "(lines)", "(wrong)"
FEATURES = Features(
    {QUERY: Value("string"), RESPONSES: List(Value("string")), LINES: Value("int32"), WRONG: Value("string")}
)
# What is read of rows that are more than a query and responses, such as messages: the columns as JSON, the row's place,
# and the same two.
ROW, PLACE = "(row)", "(place)"
ROW_FEATURES = Features({
    ROW: Value("string"), PLACE: Value("string"), LINES: Value("int32"), WRONG: Value("string")
})  # fmt: skip
READER = "2"  # raise it when the rows that are read change, so that no older cache is used for them
BATCH = 10_000
PROBED = 1_000  # rows of JSON in which columns are looked for first
TABLES = (".csv", ".tsv")


def read_rows(path: str, suffix: str, settings: dict[str, Any]) -> Iterator[Any]:
    """The rows of one file: `TableRow`s, or objects of JSON with their lines.

    Args:
        path: local, or a URL.
        suffix: `".csv"`, `".tsv"`, `".jsonl"` or `".json"`.
        settings: those of `TABLE_SETTINGS` or `JSON_SETTINGS`.

    Raises:
        ValueError: for what cannot be read, with the file, the line and the cause.
    """
    reader: Callable = table_rows if suffix in TABLES else json_rows
    try:
        with open_bytes(path) as opened:
            yield from reader(path, suffix, decoded_lines(path, opened, settings), settings)
    except unpacking_errors() as error:
        raise ValueError(f"{path} cannot be unpacked: {error}. It is cut off or damaged.") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}.") from error


def no_text(value: Any) -> str | None:
    """Why a value is no text; `None` for texts and for what is missing."""
    if value is None:
        return None
    return half_a_character(value) if isinstance(value, str) else f"{shown(value)} is no text"


def half_a_character(text: str | None) -> str | None:
    """What is wrong with a text that holds a lone surrogate; `None` for others."""
    try:
        (text or "").encode("utf-8")
    except UnicodeEncodeError:
        return f"{text!r:.60} holds half of a character (a lone surrogate)"
    return None


@dataclass
class TextFilesConfig(datasets.BuilderConfig):
    """The files of a data set, and how they are read.

    Attributes:
        suffix: suffix of the files.
        settings: settings of the reader.
        query, response: columns, or the paths to them.
        columns: the columns of rows that are more than a query and responses, or the paths to them; then `query` and
            `response` are not read.
    """

    suffix: str = ".jsonl"
    settings: dict[str, Any] = field(default_factory=dict)
    query: str = "query"
    response: str = "response"
    columns: tuple[str, ...] = ()


class TextFiles(datasets.ArrowBasedBuilder):
    """Rows of `FEATURES`, or of `ROW_FEATURES`, in the order of the files.

    The description names the column of the responses, or those of the rows as JSON.
    """

    BUILDER_CONFIG_CLASS = TextFilesConfig

    def _info(self):
        if self.config.columns:
            return datasets.DatasetInfo(features=ROW_FEATURES, description=json.dumps(self.config.columns))
        return datasets.DatasetInfo(features=FEATURES, description=self.config.response)

    def _split_generators(self, dl_manager):
        files = {split: list(paths) for split, paths in self.config.data_files.items()}
        return [datasets.SplitGenerator(name=split, gen_kwargs={"paths": paths}) for split, paths in files.items()]

    def _generate_shards(self, paths):
        yield from paths

    def _generate_tables(self, paths):
        for shard, path in enumerate(paths):
            for number, table in enumerate(self._tables(path)):
                yield Key(shard, number), table

    def _tables(self, path: str) -> Iterator[pa.Table]:
        if self.config.columns:
            read = _read_table_rows if self.config.suffix in TABLES else _read_json_rows
        else:
            read = _read_table if self.config.suffix in TABLES else _read_json
        yield from read(path, self.config)


class _Batch:
    """Rows of `FEATURES` on their way into a table. Nearly all have one response; others are noted by their number."""

    def __init__(self, path: str, config: TextFilesConfig):
        self.path, self.config = path, config
        self.queries: list[str | None] = []
        self.responses: list[str | None] = []  # of all rows
        self.places: list[int] = []  # line or entry of each row
        self.sizes: dict[int, int] = {}
        self.lines: dict[int, int] = {}
        self.wrong: dict[int, str] = {}

    def add(self, query: Any, responses: list, place: int, wrong: str | None = None):
        """Adds a row whatever it holds; what is no text is left out and told."""
        index = len(self.queries)
        reasons = [wrong, *map(no_text, (query, *responses))]
        reason = next((reason for reason in reasons if reason is not None), None)
        if reason is not None:
            self.wrong[index] = f"{self._named(place)}: {reason}" if wrong is None else f"{self._file()}, {wrong}"
        if len(responses) != 1:
            self.sizes[index] = len(responses)
        self.queries.append(_whole(query))
        self.responses.extend(map(_whole, responses))
        self.places.append(place)

    def _named(self, place: int) -> str:
        return f"{self._file()}, {'entry' if self.config.suffix == '.json' else 'line'} {place}"

    def _file(self) -> str:
        return f'"{_file_name(self.path)}"'

    def table(self) -> pa.Table:
        """The rows; empties the batch."""
        number = len(self.queries)
        sizes = np.ones(number, np.int32)
        sizes[list(self.sizes)] = list(self.sizes.values())
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
        try:
            texts = [pa.array(texts, pa.string()) for texts in (self.queries, self.responses)]
        except UnicodeEncodeError:
            self._tell_of_surrogates(offsets)
            texts = [pa.array(map(_whole, texts), pa.string()) for texts in (self.queries, self.responses)]
        notes = [
            pa.array([noted.get(index) for index in range(number)] if noted else [None] * number, dtype)
            for noted, dtype in ((self.lines, pa.int32()), (self.wrong, pa.string()))
        ]
        columns = [texts[0], pa.ListArray.from_arrays(pa.array(offsets), texts[1]), *notes]
        for rows in (self.queries, self.responses, self.places, self.sizes, self.lines, self.wrong):
            rows.clear()
        return pa.Table.from_arrays(columns, names=FEATURES.arrow_schema.names).cast(FEATURES.arrow_schema)

    def _tell_of_surrogates(self, offsets: np.ndarray):
        for index, query in enumerate(self.queries):
            for text in (query, *self.responses[offsets[index] : offsets[index + 1]]):
                reason = half_a_character(text)
                if reason is not None:
                    self.wrong.setdefault(index, f"{self._named(self.places[index])}: {reason}")


def _whole(value: Any) -> str | None:
    return value if isinstance(value, str) and half_a_character(value) is None else None


def _named_rows(path: str, config: TextFilesConfig) -> tuple[Iterator[TableRow], list[str]]:
    """The rows of a table below its names of columns, and these; no name where the file is empty."""
    rows = read_rows(path, config.suffix, config.settings)
    names = _given_names(config.settings)
    if not names:
        header = next(rows, None)
        names = [] if header is None else list(header.cells)
    return rows, names


def _read_table(path: str, config: TextFilesConfig) -> Iterator[pa.Table]:
    rows, names = _named_rows(path, config)
    if not names:
        return
    columns = {name: index for index, name in enumerate(names)}
    query, response, width = columns[config.query], columns[config.response], len(names)
    warns = "quoting" not in config.settings  # of lines joined by quotation marks
    batch = _Batch(path, config)
    add_query, add_response, add_place = batch.queries.append, batch.responses.append, batch.places.append
    for row in rows:
        cells, line, lines = row
        if lines > 1 and warns:
            batch.lines[len(batch.queries)] = lines
        if len(cells) == width and cells[query] != config.query and cells[response] != config.response:
            add_query(cells[query])
            add_response(cells[response])
            add_place(line)
        else:
            _add_unlike(batch, row, names, query, response)
        if len(batch.queries) == BATCH:
            yield batch.table()
    if batch.queries:
        yield batch.table()


def _add_unlike(batch: _Batch, row: TableRow, names: list[str], query: int, response: int):
    """Adds a row with more or fewer cells than the header has, or with cells like the header's."""
    wrong = row_fault(row, names)
    if wrong is None and len(row.cells) <= max(query, response):
        joined = f", on {row.lines} lines that a quotation mark joins. {QUOTES_ARE_TEXT[:-1]}" * (row.lines > 1)
        wrong = f"line {row.line} has only {len(row.cells)} cells{joined}"
    if wrong is None:
        batch.add(row.cells[query], [row.cells[response]], row.line)
    else:
        batch.add(None, [], row.line, wrong)


def _read_json(path: str, config: TextFilesConfig) -> Iterator[pa.Table]:
    batch = _Batch(path, config)
    add_query, add_response, add_place = batch.queries.append, batch.responses.append, batch.places.append
    query_name, response_name = config.query, config.response
    for values, place in read_rows(path, config.suffix, config.settings):
        query, response = values.get(query_name), values.get(response_name)
        if type(query) is str and type(response) is str:
            add_query(query)
            add_response(response)
            add_place(place)
        else:
            value = _at(values, response_name)
            batch.add(_at(values, query_name), value if isinstance(value, list) else [value], place)
        if len(batch.queries) == BATCH:
            yield batch.table()
    if batch.queries:
        yield batch.table()


def _read_table_rows(path: str, config: TextFilesConfig) -> Iterator[pa.Table]:
    """Rows of `ROW_FEATURES` of a table."""
    rows, names = _named_rows(path, config)
    if not names:
        return
    places = [names.index(name) for name in config.columns]
    warns = "quoting" not in config.settings
    batch = []
    for row in rows:
        wrong = row_fault(row, names)
        if wrong is None and len(row.cells) <= max(places):
            wrong = f"line {row.line} has only {len(row.cells)} cells"
        values = {} if wrong else {names[place]: row.cells[place] for place in places}
        wrong = None if wrong is None else f'"{_file_name(path)}", {wrong}'
        lines = row.lines if row.lines > 1 and warns else None
        batch.append((json.dumps(values), _place(path, config, row.line), lines, wrong))
        if len(batch) == BATCH:
            yield _rows_table(batch)
    if batch:
        yield _rows_table(batch)


def _read_json_rows(path: str, config: TextFilesConfig) -> Iterator[pa.Table]:
    """Rows of `ROW_FEATURES` of JSON."""
    batch = []
    for values, place in read_rows(path, config.suffix, config.settings):
        chosen = {name: _at(values, name) for name in config.columns}
        batch.append((json.dumps(chosen), _place(path, config, place), None, None))
        if len(batch) == BATCH:
            yield _rows_table(batch)
    if batch:
        yield _rows_table(batch)


def _place(path: str, config: TextFilesConfig, place: int) -> str:
    return f'"{_file_name(path)}", {"entry" if config.suffix == ".json" else "line"} {place}'


def _rows_table(batch: list[tuple]) -> pa.Table:
    """The rows as a table; empties the batch."""
    columns = list(zip(*batch, strict=True))
    batch.clear()
    return pa.Table.from_arrays(
        [pa.array(column, dtype.type) for column, dtype in zip(columns, ROW_FEATURES.arrow_schema, strict=True)],
        schema=ROW_FEATURES.arrow_schema,
    )


def _given_names(settings: dict[str, Any]) -> list[str]:
    return list(settings.get("names") or settings.get("column_names") or ())


def _file_name(path: str) -> str:
    return re.split(r"[\\/]", path)[-1]


def _at(values: dict[str, Any], name: str) -> Any:
    return values[name] if name in values else texts_at(values, name.split(".")) if "." in name else None


def read_text_files(
    paths: list[str],
    suffix: str,
    settings: dict[str, Any],
    find: Callable[[Sequence[str]], tuple[str, ...]],
    *,
    streaming: bool = False,
    **options: Any,
) -> datasets.Dataset | datasets.IterableDataset | None:
    """Rows of `FEATURES` or `ROW_FEATURES`, held in files of Arrow or streamed; `None` where there are none.

    Args:
        paths: files of one split.
        suffix: suffix of all of them.
        settings: settings of the reader.
        find: returns the columns of the pairs, given all names (see `find_columns`); raises where they are missing.
        streaming: whether rows are read only when they are asked for.
        options: `cache_dir`, `download_mode`, `keep_in_memory` and `num_proc` of `datasets.load_dataset`.

    Raises:
        ValueError: for files that cannot be read, or with different columns.
    """
    accepted = (
        *(TABLE_SETTINGS if suffix in TABLES else JSON_SETTINGS),
        "cache_dir",
        "download_mode",
        "keep_in_memory",
        "num_proc",
    )
    unknown = sorted({*settings, *options} - {*accepted})
    if unknown:
        raise ValueError(
            f"Options that are not known for {suffix[1:]} files: {', '.join(f'`{name}`' for name in unknown)}. "
            f"Accepted are {', '.join(accepted)}. Or read the files yourself and pass a `Dataset`."
        )
    if suffix in TABLES:
        dialect(suffix, settings)
    columns_by_path = {path: _find(path, suffix, settings, find) for path in paths}
    read = {path: found for path, found in columns_by_path.items() if found is not None}
    if len({found.columns for found in read.values()}) > 1:
        listed = "; ".join(f"{path}: {' and '.join(found.columns)}" for path, found in read.items())
        raise ValueError(f"The files of one split must hold the same columns, got {listed}.")
    if not read:
        return None
    columns = next(iter(read.values())).columns
    as_rows = any(found.as_rows for found in read.values())
    builder = TextFiles(
        cache_dir=options.get("cache_dir"), dataset_name="text_files", hash=READER, writer_batch_size=BATCH,
        data_files=DataFilesDict({"train": DataFilesList(paths, [file_stamp(path) for path in paths])}),
        suffix=suffix, settings=settings, query=columns[0], response=columns[-1], columns=columns if as_rows else (),
    )  # fmt: skip
    if streaming:
        return builder.as_streaming_dataset(split="train")
    try:
        builder.download_and_prepare(
            download_mode=options.get("download_mode"), num_proc=options.get("num_proc"), verification_mode="no_checks"
        )
    except datasets.exceptions.DatasetGenerationError as error:
        raise as_value_error(error, paths) from error
    return builder.as_dataset(split="train", in_memory=options.get("keep_in_memory") or False)


class _Found(NamedTuple):
    """The columns of a file, and whether its rows are more than a query and responses."""

    columns: tuple[str, ...]
    as_rows: bool


def _find(path: str, suffix: str, settings: dict[str, Any], find: Callable) -> _Found | None:
    """The columns of one file, `None` where it has no rows."""
    if suffix in TABLES:
        rows = read_rows(path, suffix, settings)
        row = next(rows, None)
        if row is None or (row.line == 0 and next(rows, None) is None):
            return None
        names = _given_names(settings) or row.cells
        try:
            found = find(names)
        except ValueError as error:
            mark = next((mark for mark in ("\t", ";", ",", "|") if len(names) == 1 and mark in names[0]), None)
            hint = "" if mark is None else f' The cells may be separated otherwise: pass sep="{mark!r:.4}".'
            raise ValueError(f"{error}{hint}".replace("\"'", '"').replace("'\"", '"')) from error
        absent = next((name for name in found if name not in names), None)
        if absent is not None:
            raise ValueError(
                f'"{path}" has no `{absent}` column (found: {", ".join(f"`{name}`" for name in names)}): a cell of a '
                "table is text and has no fields. Name the columns themselves, or write JSON lines or parquet."
            )
        return _Found(found, len(found) != 2)
    seen: dict[str, None] = {}
    objects: list[dict[str, Any]] = []
    is_empty = True
    for values, _ in read_rows(path, suffix, settings):
        is_empty = False
        seen.update(dict.fromkeys(values))
        objects.append(values)
        if len(objects) == PROBED:
            try:
                return _with_text(path, find(list(seen)), objects)
            except ValueError:
                objects.clear()  # further ones may have what these lack
    return None if is_empty else _with_text(path, find(list(seen)), objects)


def _with_text(path: str, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> _Found:
    """What was found; raises if a column that is a path of names leads nowhere in all rows."""
    for name in columns:
        values = [_at(row, name) for row in rows] if "." in name else ()
        if values and all(_is_nothing(value) for value in values):
            start = name.split(".")[0]
            example = next((row[start] for row in rows if row.get(start) is not None), None)
            raise ValueError(
                f'There is no text at `{name}` in "{path}"; `{start}` holds {shown(example)}. Name the fields on the '
                "way, joined by dots; a place in a list has no name."
            )
    return _Found(columns, len(columns) != 2 or any(is_conversation(row.get(name)) for row in rows for name in columns))


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(map(_is_nothing, value)))


def as_value_error(error: datasets.exceptions.DatasetGenerationError, paths: list[str]) -> ValueError:
    """The cause of a builder's failure, as the error that is shown."""
    if isinstance(error.__cause__, ValueError):
        return error.__cause__
    return ValueError(f"{', '.join(paths)} cannot be read: {error.__cause__ or error}.")


def file_stamp(path: str) -> tuple[str, ...]:
    """A key that changes with the file: its address, or path, time of change and size."""
    if "://" in path:
        return (path,)
    status = os.stat(path)
    return (path, str(status.st_mtime_ns), str(status.st_size))
