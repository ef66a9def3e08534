"""Reports on a terminal, and in a file or a pipe, without cut words or lost columns."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Markdown, TableElement
from rich.table import Table
from rich.text import Text

UNLIMITED = 200  # characters in a line where no terminal limits it
GAP = 2  # characters between two columns


@contextmanager
def progress_shown() -> Iterator[None]:
    """Shows the bars of transformers on a terminal, also where a command hides those of reading weights.

    Where standard error is no terminal, nothing changes.
    """
    from transformers.utils import logging

    if not sys.stderr.isatty() or logging.is_progress_bar_enabled():
        yield
        return
    logging.enable_progress_bar()
    try:
        yield
    finally:
        logging.disable_progress_bar()


def report_console(file: TextIO | None = None) -> Console:
    """A console as wide as the terminal, or as the variable `COLUMNS` says; elsewhere of `UNLIMITED` characters.

    Rich takes 80 where the output is no terminal, such as a file of logs, in which long words are then cut.

    Args:
        file: where it writes, by default standard output.
    """
    console = Console(file=file)
    limited = console.is_terminal or console.is_jupyter or "COLUMNS" in os.environ
    return console if limited else Console(file=file or sys.stdout, width=UNLIMITED)


class WholeTable(TableElement):
    """A table of Markdown whose words are broken where they do not fit, not cut."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for part in super().__rich_console__(console, options):
            for column in part.columns if isinstance(part, Table) else ():
                column.overflow = "fold"
            yield part


class Report(Markdown):
    """Markdown on a console, with all that its tables hold."""

    elements = {**Markdown.elements, "table_open": WholeTable}


def tables_that_fit(
    columns: Sequence[str], rows: Iterable[Sequence[str]], width: int, first_width: int = 11
) -> list[Table]:
    """A table as several ones below each other, each with the first column, where it is wider than the console.

    Args:
        columns: headings; they may be broken between words.
        rows: cells of each row. A cell may hold several lines, which are not broken.
        width: characters in a line of the console.
        first_width: characters of the first column, whose cells may be broken between words.
    """
    rows = [list(row) for row in rows]
    first = max([first_width, *(_longest_word(row[0]) for row in rows), _longest_word(columns[0])])
    whole = max(cell_len(row[0]) for row in [list(columns), *rows])
    widths = [
        max([_longest_word(name), *(cell_len(line) for row in rows for line in row[index].splitlines())])
        for index, name in enumerate(columns)
    ]
    starts, used = [1], first + 1  # a space behind the last column
    for index in range(1, len(columns)):
        used += GAP + widths[index]
        if used > width and index > starts[-1]:
            starts.append(index)
            used = first + 1 + GAP + widths[index]
    tables = []
    for start, end in pairwise([*starts, len(columns)]):
        table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
        room = width - 1 - sum(GAP + widths[index] for index in range(start, end))
        table.add_column(columns[0], width=max(first, min(whole, room)), overflow="fold")
        for index in range(start, end):
            table.add_column(columns[index], justify="right", width=widths[index], overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in (row[0], *row[start:end])))
        tables.append(table)
    return tables


def _longest_word(text: str) -> int:
    return max((cell_len(word) for word in text.split()), default=0)
