"""What reports show on a terminal of any width, and where there is none."""

import io
import sys

import pytest
from rich.console import Console
from transformers.utils import logging

from hf_localgan.terminal import UNLIMITED, Report, progress_shown, report_console, tables_that_fit

COLUMNS = ["decoding", *(f"score {number}" for number in range(9))]
ROWS = [
    [name, *(f"0.{number}{row}\n0.10{number} to 0.2{row}{number}" for number in range(9))]
    for row, name in enumerate(["greedy", "temperature 0.5", "references"])
]


def shown(width, *renderables) -> str:
    console = Console(width=width, file=io.StringIO())
    for renderable in renderables:
        console.print(renderable)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [30, 40, 60, 79, 80, 81, 120, 200])
def test_no_column_and_no_digit_of_a_wide_table_is_lost(width):
    tables = tables_that_fit(COLUMNS, ROWS, width)
    said = shown(width, *tables)
    words = [word for line in said.splitlines() for word in line.split()]
    for row in ROWS:
        for cell in row[1:]:
            for line in cell.splitlines():
                assert line in said, (width, line)
    assert words.count("score") == 9 and words.count("greedy") == len(tables) and "…" not in said
    assert all(len(line) <= width for line in said.splitlines())
    assert (len(tables) == 1) == (width == 200)


def test_output_that_is_no_terminal_is_not_squeezed(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert report_console(io.StringIO()).width == UNLIMITED > 80
    monkeypatch.setenv("COLUMNS", "70")  # the user says how much room there is
    assert report_console(io.StringIO()).width == 70


def test_words_in_tables_of_reports_are_broken_not_cut():
    columns = ["system", *(f"Log-likelihood{number}" for number in range(8))]
    lines = ["|".join(["", *cells, ""]) for cells in (columns, ["---"] * 9, ["GaussianModel", *"12345678"])]
    said = shown(80, Report("\n".join(lines)))
    assert "…" not in said and "..." not in said
    assert shown(200, Report("\n".join(lines))).count("Log-likelihood") == 8


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_is_shown_on_a_terminal_and_hidden_again(is_terminal, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    logging.disable_progress_bar()
    try:
        with progress_shown():
            assert logging.is_progress_bar_enabled() == is_terminal
        assert not logging.is_progress_bar_enabled()
        logging.enable_progress_bar()
        with progress_shown():
            assert logging.is_progress_bar_enabled()
        assert logging.is_progress_bar_enabled()  # who has not hidden it keeps it
    finally:
        logging.enable_progress_bar()
