"""Rows of CSV and TSV files, held against the lines of the file."""

import csv
from collections.abc import Iterator
from typing import Any

from hf_localgan.data.rows import TableRow

QUOTING = {
    "minimal": csv.QUOTE_MINIMAL, "literal": csv.QUOTE_NONE, "all": csv.QUOTE_ALL, "nonnumeric": csv.QUOTE_NONNUMERIC,
}  # fmt: skip
TABLE_SETTINGS = (
    "sep", "delimiter", "quoting", "quotechar", "doublequote", "escapechar", "skipinitialspace", "names",
    "column_names", "encoding", "encoding_errors",
)  # fmt: skip
QUOTES_ARE_TEXT = 'If the quotation marks are text and enclose no cells, pass quoting=3 (or "literal").'
QUOTES_ENCLOSE = 'If such cells are meant, pass quoting=0 (or "minimal").'


def dialect(suffix: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `csv.reader` that settings of `load_pairs` stand for.

    Raises:
        ValueError: for what is not known or does not fit together.
    """
    quoting = settings.get("quoting", csv.QUOTE_MINIMAL)
    quoting = QUOTING.get(quoting, quoting) if isinstance(quoting, str) else quoting
    if isinstance(quoting, bool) or quoting not in QUOTING.values():
        names = ", ".join(f'"{name}" or {int(number)}' for name, number in QUOTING.items())
        raise ValueError(f"`quoting` must be {names}, got {settings['quoting']!r}.")
    if quoting == csv.QUOTE_NONNUMERIC:
        quoting = csv.QUOTE_MINIMAL  # it would make numbers of cells; what is enclosed is read alike
    for name in ("sep", "delimiter", "quotechar", "escapechar"):
        value = settings.get(name)
        if value is not None and (not isinstance(value, str) or len(value) != 1):
            raise ValueError(f"`{name}` must be one character, got {value!r}.")
    if settings.get("sep") and settings.get("delimiter") and settings["sep"] != settings["delimiter"]:
        raise ValueError("`sep` and `delimiter` are two names of one setting; give one of them.")
    delimiter = settings.get("sep") or settings.get("delimiter") or ("\t" if suffix == ".tsv" else ",")
    for name in ("names", "column_names"):
        value = settings.get(name)
        if value is not None and (isinstance(value, str) or not all(isinstance(name, str) for name in value)):
            raise ValueError(f"`{name}` must be a list of the columns' names, got {value!r}.")
    chosen = {
        "delimiter": delimiter, "quoting": quoting, "quotechar": settings.get("quotechar") or '"',
        "doublequote": settings.get("doublequote", True), "escapechar": settings.get("escapechar"),
        "skipinitialspace": settings.get("skipinitialspace", False), "strict": True,
    }  # fmt: skip
    try:
        csv.reader([], **chosen)
    except (TypeError, ValueError) as error:
        raise ValueError(f"The settings of the table do not fit together: {error}.") from error
    return chosen


def table_rows(path: str, suffix: str, lines: Iterator[str], settings: dict[str, Any]) -> Iterator[TableRow]:
    """The rows of a table; the first is its header, on line 0, unless `names` name the columns.

    Args:
        path: for messages.
        suffix: `".csv"` or `".tsv"`.
        lines: of the file, with their ends.
        settings: those of `TABLE_SETTINGS`.

    Raises:
        ValueError: for quotation marks that enclose no cell, with the lines.
    """
    reader = csv.reader(lines, **dialect(suffix, settings))
    begin = 1
    has_header = not (settings.get("names") or settings.get("column_names"))
    try:
        for cells in reader:
            line, begin = begin, reader.line_num + 1
            if cells:  # else an empty line
                yield TableRow(cells, 0 if has_header else line, begin - line)
                has_header = False
    except csv.Error as error:
        raise ValueError(_broken_table(path, begin, reader.line_num, error)) from error


def row_fault(row: TableRow, names: list[str]) -> str | None:
    """What is wrong with a row: more cells than the header has, but for empty ones, or those of the header again.

    Returns:
        `None` if neither is the case.
    """
    if any(row.cells[len(names) :]):
        return f"line {row.line} has {len(row.cells)} cells, the header names {len(names)}"
    if [row.cells[0].removeprefix("\ufeff"), *row.cells[1:]] == names:
        return f"line {row.line} holds the names of the columns, as where files with headers are joined"
    return None


def _broken_table(path: str, begin: int, end: int, error: csv.Error) -> str:
    cause, advice = str(error), QUOTES_ARE_TEXT
    if "unexpected end of data" in cause:
        cause = "a quotation mark is opened there and never closed"
    elif "expected after" in cause:
        cause = "there is text after a closing quotation mark"
        advice = f'{QUOTES_ARE_TEXT} If a backslash stands before marks that are text, pass escapechar="\\\\".'
    elif "field larger" in cause:
        cause = f"a cell is longer than {csv.field_size_limit():,} characters, as if a quotation mark was never closed"
    place = f"line {begin}" if end <= begin else f"lines {begin} to {end}"
    return f'"{path}", {place}: {cause}. {advice}'
