"""Sheets that people fill in: one row per response, one column per question; as CSV and as XLSX."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_localgan.annotation.extra import annotation_module
from hf_localgan.files import replacing

TEXT_COLUMNS = ("id", "query", "response")
EMPTY = "(no words)"  # stands for an answer without text, so that nobody takes it for a fault of the sheet
LONGEST = 32_767  # characters that a cell of XLSX holds
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff\ud800-\udfff]")
_FORMULA = ("=", "+", "-", "@", "'")  # a spreadsheet that opens a CSV takes what begins so for a formula


@dataclass(frozen=True)
class Question:
    """A yes-or-no question: the name of its column, and its words."""

    name: str
    text: str

    def __post_init__(self):
        if not re.fullmatch(r"\w+", self.name) or self.name in TEXT_COLUMNS:
            raise ValueError(
                f"The name of a question must be a word other than {', '.join(TEXT_COLUMNS)}, got {self.name!r}."
            )
        if not self.text.strip():
            raise ValueError(f"The question `{self.name}` has no words.")

    @property
    def heading(self) -> str:
        """The heading of its column."""
        return f"{self.name}: {shown_text(self.text)}"

    @classmethod
    def from_heading(cls, heading: str) -> "Question":
        """The question above a column."""
        name, _, text = heading.partition(":")
        return cls(name.strip(), text.strip() or name.strip())


@dataclass
class SheetRow:
    """One response to judge.

    Attributes:
        id: unique in the whole annotation.
        query: the query as shown.
        response: the response as shown.
        answers: 0, 1 or `None`, by the name of the question.
    """

    id: str
    query: str
    response: str
    answers: dict[str, int | None] = field(default_factory=dict)


@dataclass
class Sheet:
    """The rows that one person judges, in the order of judging."""

    questions: list[Question]
    rows: list[SheetRow]

    def answered(self) -> int:
        """The number of answers that were given."""
        return sum(row.answers.get(question.name) is not None for row in self.rows for question in self.questions)

    def write_csv(self, path: str | Path):
        """Writes UTF-8 with a byte order mark, which spreadsheets want; what they would take for a formula is quoted.

        The file takes its name once it is whole.
        """
        with replacing(path) as temporary, open(temporary, "w", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*TEXT_COLUMNS, *(question.heading for question in self.questions)])
            for row in self.rows:
                values = (row.answers.get(question.name) for question in self.questions)
                answers = ("" if value is None else str(value) for value in values)
                writer.writerow([row.id, _quoted(row.query), _quoted(row.response), *answers])

    def write_xlsx(self, path: str | Path):
        """Writes a workbook: texts are locked and never formulas, answers take 0 and 1 only.

        Raises:
            ValueError: for a text that no cell can hold.
        """
        openpyxl = annotation_module("openpyxl")
        from openpyxl.styles import Alignment, Font, Protection
        from openpyxl.worksheet.datavalidation import DataValidation

        book = openpyxl.Workbook()
        page = book.active
        page.title = "sheet"
        wrapped, unlocked = Alignment(wrap_text=True, vertical="top"), Protection(locked=False)
        for column, heading in enumerate([*TEXT_COLUMNS, *(question.heading for question in self.questions)], start=1):
            cell = page.cell(1, column, heading)
            cell.font, cell.alignment = Font(bold=True), wrapped
        for number, row in enumerate(self.rows, start=2):
            for column, text in enumerate((row.id, row.query, row.response), start=1):
                if len(text) > LONGEST:
                    raise ValueError(
                        f"A cell of XLSX holds {LONGEST} characters, and the text {text[:40]!r} has {len(text)}. "
                        "Leave this query out."
                    )
                cell = page.cell(number, column, text)
                cell.data_type, cell.alignment = "s", wrapped  # "=1+1" is a response, no formula
            for column, question in enumerate(self.questions, start=len(TEXT_COLUMNS) + 1):
                cell = page.cell(number, column, row.answers.get(question.name))
                cell.protection = unlocked
        end = len(TEXT_COLUMNS) + len(self.questions)
        allowed = DataValidation("list", formula1='"1,0"', allow_blank=True, showErrorMessage=True)
        allowed.error, allowed.errorTitle = "1 for yes, 0 for no, empty where you cannot say", "An answer"
        letter = openpyxl.utils.get_column_letter
        if self.rows:
            allowed.add(f"{letter(len(TEXT_COLUMNS) + 1)}2:{letter(end)}{len(self.rows) + 1}")
            page.add_data_validation(allowed)
        for column, width in enumerate([12, 50, 50, *[18] * len(self.questions)], start=1):
            page.column_dimensions[letter(column)].width = width
        page.freeze_panes = "A2"
        page.protection.sheet = True  # without a password: against slips, not against intent
        page.protection.formatColumns = page.protection.formatRows = False
        with replacing(path) as temporary:
            book.save(temporary)


def read_sheet(path: str | Path) -> Sheet:
    """Reads a sheet, filled in or not, as CSV (commas, semicolons or tabs) or XLSX.

    Raises:
        ValueError: for a file that is no sheet, a row without an id, an id that occurs twice, or an answer other than
            0, 1 and nothing; with the number of the row.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f'There is no sheet "{path}".')
    if path.suffix.lower() not in (".csv", ".xlsx"):
        raise ValueError(f'A sheet is a .csv or .xlsx file, got "{path.name}".')
    table = _xlsx_rows(path) if path.suffix.lower() == ".xlsx" else _csv_rows(path)
    if not table or tuple(table[0][: len(TEXT_COLUMNS)]) != TEXT_COLUMNS or len(table[0]) == len(TEXT_COLUMNS):
        raise ValueError(
            f'"{path.name}" must begin with the columns {", ".join(TEXT_COLUMNS)} and a column per question, got '
            f"{', '.join(map(str, table[0])) if table else 'an empty file'}."
        )
    headings = [str(cell) for cell in table[0][len(TEXT_COLUMNS) :] if cell not in (None, "")]
    questions = [Question.from_heading(heading) for heading in headings]
    rows: list[SheetRow] = []
    ids: set[str] = set()
    for number, cells in enumerate(table[1:], start=2):
        cells = ["" if cell is None else cell for cell in cells]
        if not any(str(cell).strip() for cell in cells):
            continue
        cells += [""] * (len(TEXT_COLUMNS) + len(questions) - len(cells))
        name, query, response = (str(cell).strip() for cell in cells[: len(TEXT_COLUMNS)])
        if not name or name in ids:
            raise ValueError(f'Row {number} of "{path.name}" has {f"the id {name} again" if name else "no id"}.')
        ids.add(name)
        answers = {
            question.name: _answer(cell, f'Row {number} of "{path.name}", `{question.name}`')
            for question, cell in zip(questions, cells[len(TEXT_COLUMNS) :], strict=False)
        }
        rows.append(SheetRow(name, query, response, answers))
    return Sheet(questions, rows)


def shown_text(text: str) -> str:
    """A text as people see it: on one line, without control characters, `(no words)` where nothing is left."""
    return " ".join(_CONTROL.sub(" ", text).split()) or EMPTY


def _answer(cell: Any, place: str) -> int | None:
    text = str(cell).strip()
    if text == "":
        return None
    if text in ("0", "1", "0.0", "1.0") and not isinstance(cell, bool):
        return int(float(text))
    raise ValueError(f"{place}: an answer must be 1 (yes), 0 (no) or empty, got {text!r}.")


def _quoted(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _unquoted(text: str) -> str:
    return text[1:] if text[:1] == "'" and text[1:].startswith(_FORMULA) else text


def _csv_rows(path: Path) -> list[list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f'"{path.name}" is not UTF-8: {error}. Save it as "CSV UTF-8" or as XLSX in the spreadsheet program.'
        ) from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=lambda mark: first.startswith(f"id{mark}") or first.startswith(f'"id"{mark}'))
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    return [[_unquoted(cell) if column in (1, 2) else cell for column, cell in enumerate(row)] for row in rows]


def _xlsx_rows(path: Path) -> list[list]:
    openpyxl = annotation_module("openpyxl")
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # zip, XML and key errors of all kinds
        raise ValueError(f'"{path.name}" cannot be read as XLSX: {error}.') from error
    try:
        return [list(row) for row in book.worksheets[0].iter_rows(values_only=True)]
    finally:
        book.close()


def check_questions(questions: Sequence[Question]):
    """Refuses an annotation without a question, or with two of one name.

    Raises:
        ValueError: naming the fault.
    """
    names = [question.name for question in questions]
    if not names:
        raise ValueError("Ask at least one question.")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"Two questions are named `{twice}`.")
