"""Sheets: what is written is read back, whatever a response looks like; other answers are refused."""

import openpyxl
import pytest

from hf_localgan.annotation import Question, Sheet, SheetRow, read_sheet
from hf_localgan.annotation.sheets import shown_text

QUESTIONS = [Question("relevance", "Is it relevant: yes or no?"), Question("fun", "Is it fun, too?")]
TEXTS = [
    "=1+1", "+1", "-1", "@SUM(A1)", "'quoted", "'=1", 'a "b", c; d\te', "你好 😀", "007", "1e5", "<b>&amp;", "TRUE",
    "''",
]  # fmt: skip


def sheet() -> Sheet:
    rows = [
        SheetRow(f"id{index}", text, text[::-1], {"relevance": [0, 1, None][index % 3], "fun": None})
        for index, text in enumerate(map(shown_text, TEXTS))
    ]
    return Sheet(QUESTIONS, rows)


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
def test_a_sheet_is_read_as_it_was_written(tmp_path, suffix):
    path = tmp_path / f"sheet{suffix}"
    sheet().write_csv(path) if suffix == ".csv" else sheet().write_xlsx(path)
    assert read_sheet(path) == sheet()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_spreadsheet_sees_no_formula_and_takes_only_0_and_1(tmp_path):
    sheet().write_xlsx(tmp_path / "sheet.xlsx")
    page = openpyxl.load_workbook(tmp_path / "sheet.xlsx").active
    cells = [page.cell(row, column) for row in range(2, 2 + len(TEXTS)) for column in (2, 3)]
    assert {cell.data_type for cell in cells} == {"s"} and page["B2"].value == "=1+1"
    (rule,) = page.data_validations.dataValidation
    assert rule.formula1 == '"1,0"' and str(rule.sqref) == f"D2:E{len(TEXTS) + 1}" and rule.allow_blank
    assert page.protection.sheet and page["C2"].protection.locked and not page["D2"].protection.locked
    sheet().write_csv(tmp_path / "sheet.csv")
    lines = (tmp_path / "sheet.csv").read_text(encoding="utf-8-sig").splitlines()[1:]
    assert not [line for line in lines if line.split(",")[1][:1] in tuple("=+-@")]


def test_texts_are_shown_on_one_line_and_never_empty():
    assert shown_text(" a\n b\x07\tc\x00 ") == "a b c" and shown_text(" \n") == "(no words)" == shown_text("")


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters_and_numbers_of_spreadsheets_are_understood(tmp_path, delimiter):
    heading = ["id", "query", "response", "relevance: Is it?", "fun: Is it?"]
    rows = [heading, ["a", "q, q", "r", "1", "0"], ["b", "q", "r", "1.0", ""], ["", "", "", "", ""]]
    (tmp_path / "s.csv").write_text("\r\n".join(delimiter.join(row) for row in rows), encoding="utf-8")
    assert [row.answers for row in read_sheet(tmp_path / "s.csv").rows] == [
        {"relevance": 1, "fun": 0}, {"relevance": 1, "fun": None},
    ]  # fmt: skip


HEAD = "id,query,response,relevance: Is it?\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            HEAD + "a,q,r,2\n",
            r'Row 2 of "s.csv", `relevance`: an answer must be 1 \(yes\), 0 \(no\) or empty, got \'2\'',
        ),
        (HEAD + "a,q,r,yes\n", "got 'yes'"),
        (HEAD + "a,q,r,1\n\na,q,r,1\n", "Row 4 of .* has the id a again"),
        (HEAD + ",q,r,1\n", "Row 2 of .* has no id"),
        ("id,query,response\na,q,r\n", "must begin with the columns id, query, response and a column per question"),
        ("", "got an empty file"),
    ],
)
def test_what_is_no_sheet_or_no_answer_is_refused(tmp_path, text, message):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_sheet(tmp_path / "s.csv")


def test_other_encodings_and_files_are_refused_with_advice(tmp_path):
    (tmp_path / "s.csv").write_bytes((HEAD + "a,caf\xe9,r,1\n").encode("latin-1"))
    with pytest.raises(ValueError, match="is not UTF-8.*or as XLSX"):
        read_sheet(tmp_path / "s.csv")
    (tmp_path / "s.xlsx").write_text("no workbook")
    with pytest.raises(ValueError, match="cannot be read as XLSX"):
        read_sheet(tmp_path / "s.xlsx")
    with pytest.raises(ValueError, match="There is no sheet"):
        read_sheet(tmp_path / "none.csv")
    with pytest.raises(ValueError, match=r"a .csv or .xlsx file, got \"s.txt\""):
        (tmp_path / "s.txt").write_text("")
        read_sheet(tmp_path / "s.txt")


def test_a_text_that_no_cell_holds_is_refused_and_leaves_nothing(tmp_path):
    long = Sheet(QUESTIONS, [SheetRow("a", "q", "x" * 40_000)])
    with pytest.raises(ValueError, match="holds 32767 characters.*has 40000"):
        long.write_xlsx(tmp_path / "s.xlsx")
    assert not list(tmp_path.iterdir())


def test_the_name_of_a_question_is_a_column():
    with pytest.raises(ValueError, match="must be a word other than id, query, response, got 'id'"):
        Question("id", "What?")
    with pytest.raises(ValueError, match="has no words"):
        Question("fun", " ")
