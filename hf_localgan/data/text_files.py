"""Reads CSV, TSV, JSON lines and JSON as text: nothing is inferred, and every row is held against its lines.

Readers that infer types make dates of texts, and readers of tables join lines at a stray quotation mark, shift columns
or leave out what does not fit. Here a cell is text or it is not, and a row that does not fit says so.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import datasets
import pyarrow as pa
from datasets import Features, List, Value
from datasets.builder import Key
from datasets.data_files import DataFilesDict, DataFilesList

from hf_localgan.data.json_rows import JSON_SETTINGS, json_rows, texts_at
from hf_localgan.data.rows import Row, decoded_lines, open_bytes, shown, unpacking_errors
from hf_localgan.data.table_rows import HEADER, QUOTES_ARE_TEXT, TABLE_SETTINGS, dialect, table_rows

# What is read beside the texts of a row: its number of lines where these were joined by quotation marks, and what is
# wrong with it. Both are empty of most rows.
QUERY, RESPONSES, LINES, WRONG = "query", "responses", "(lines)", "(wrong)"
FEATURES = Features(
    {QUERY: Value("string"), RESPONSES: List(Value("string")), LINES: Value("int32"), WRONG: Value("string")}
)
READER = "1"  # raise it when the rows that are read change, so that no older cache is used for them
BATCH = 10_000
PROBED = 1_000  # rows of JSON in which columns are looked for first
TABLES = (".csv", ".tsv")


def read_rows(path: str, suffix: str, settings: dict[str, Any]) -> Iterator[Row]:
    """The rows of one file.

    Args:
        path: local, or a URL.
        suffix: `".csv"`, `".tsv"`, `".jsonl"` or `".json"`.
        settings: those of `TABLE_SETTINGS` or `JSON_SETTINGS`.

    Raises:
        ValueError: for what cannot be read, with the file, the line and the cause.
    """
    reader = table_rows if suffix in TABLES else json_rows
    try:
        with open_bytes(path) as opened:
            yield from reader(path, suffix, decoded_lines(path, opened, settings), settings)
    except unpacking_errors() as error:
        raise ValueError(f"{path} cannot be unpacked: {error}. It is cut off or damaged.") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}.") from error


def _text(value: Any) -> tuple[str | None, str | None]:
    """The text, or why there is none."""
    if not isinstance(value, str):
        return None, None if value is None else f"{shown(value)} is no text"
    if value.isascii():
        return value, None
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return None, f"{value!r:.60} holds half of a character (a lone surrogate)"
    return value, None


@dataclass
class TextFilesConfig(datasets.BuilderConfig):
    """The files of a data set, and how they are read.

    Attributes:
        suffix: suffix of the files.
        settings: settings of the reader.
        query, response: columns, or the paths to them.
    """

    suffix: str = ".jsonl"
    settings: dict[str, Any] = field(default_factory=dict)
    query: str = "query"
    response: str = "response"


class TextFiles(datasets.ArrowBasedBuilder):
    """Rows of `FEATURES`, in the order of the files; the description names the column of the responses."""

    BUILDER_CONFIG_CLASS = TextFilesConfig

    def _info(self):
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
        config, batch = self.config, []
        warns = config.suffix in TABLES and "quoting" not in config.settings  # of lines joined by quotation marks
        for row in data_rows(path, config.suffix, config.settings):
            batch.append(_read(path, row, config, warns))
            if len(batch) == BATCH:
                yield _table(batch)
                batch = []
        if batch:
            yield _table(batch)


def data_rows(path: str, suffix: str, settings: dict[str, Any]) -> Iterator[Row]:
    """The rows of a file without the header."""
    return (row for row in read_rows(path, suffix, settings) if row.line or suffix not in TABLES)


def _table(batch: list[tuple]) -> pa.Table:
    cells = zip(*batch, strict=True)
    columns = [pa.array(column, field.type) for column, field in zip(cells, FEATURES.arrow_schema, strict=True)]
    return pa.Table.from_arrays(columns, schema=FEATURES.arrow_schema)


def _read(path: str, row: Row, config: TextFilesConfig, warns: bool) -> tuple:
    lines = row.lines if warns and row.lines > 1 else None
    values, wrong = row.values, row.wrong
    if wrong is None and config.suffix in TABLES and not (config.query in values and config.response in values):
        joined = f", on {row.lines} lines that a quotation mark joins. {QUOTES_ARE_TEXT[:-1]}" * (row.lines > 1)
        wrong = f"line {row.line} has only {len(values)} cells{joined}"
    if wrong is not None:
        return None, [], lines, f'"{_file_name(path)}", {wrong}'
    query, wrong = _text(_at(values, config.query))
    value = _at(values, config.response)
    responses = []
    for cell in value if isinstance(value, list) else [value]:
        response, reason = _text(cell)
        responses.append(response)
        wrong = wrong or reason
    if wrong is not None:
        place = "entry" if config.suffix == ".json" else "line"
        wrong = f'"{_file_name(path)}", {place} {row.line}: {wrong}'
    return query, responses, lines, wrong


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
    """Rows of `FEATURES`, held in files of Arrow or streamed; `None` where there are none.

    Args:
        paths: files of one split.
        suffix: suffix of all of them.
        settings: settings of the reader.
        find: returns the query's and the response's column, given all names; raises where they are missing.
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
    read = {path: columns for path, columns in columns_by_path.items() if columns is not None}
    if len(set(read.values())) > 1:
        listed = "; ".join(f"{path}: {' and '.join(columns)}" for path, columns in read.items())
        raise ValueError(f"The files of one split must hold the same columns, got {listed}.")
    columns = next(iter(read.values()), None)
    if columns is None:
        return None
    builder = TextFiles(
        cache_dir=options.get("cache_dir"), dataset_name="text_files", hash=READER,
        data_files=DataFilesDict({"train": DataFilesList(paths, [file_stamp(path) for path in paths])}),
        suffix=suffix, settings=settings, query=columns[0], response=columns[1],
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


def _find(path: str, suffix: str, settings: dict[str, Any], find: Callable) -> tuple[str, ...] | None:
    """The columns of one file, `None` where it has no rows."""
    names: list[str] = list(settings.get("names") or settings.get("column_names") or ())
    if suffix in TABLES:
        rows = read_rows(path, suffix, settings)
        row = next(rows, None)
        if row is None or (row.line == 0 and next(rows, None) is None):
            return None
        names = names or row.values[HEADER]
        try:
            return find(names)
        except ValueError as error:
            mark = next((mark for mark in ("\t", ";", ",", "|") if len(names) == 1 and mark in names[0]), None)
            hint = "" if mark is None else f' The cells may be separated otherwise: pass sep="{mark!r:.4}".'
            raise ValueError(f"{error}{hint}".replace("\"'", '"').replace("'\"", '"')) from error
    seen: dict[str, None] = {}
    number = -1
    for number, row in enumerate(read_rows(path, suffix, settings)):
        seen.update(dict.fromkeys(row.values))
        if number + 1 == PROBED:
            try:
                return find(list(seen))
            except ValueError:
                pass  # further rows may have what these lack
    if number < 0:
        return None
    return find(list(seen))


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
