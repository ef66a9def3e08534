"""The page: every answer is in the file before it is called saved, and nobody else can read or write the sheet."""

import http.client
import json
import os
import re
from urllib.parse import urlsplit

import pytest

from hf_localgan.annotation import SheetFile, read_sheet, serve_sheet


@pytest.fixture
def path(study, tmp_path):
    study.sheet("sheet_1").write_csv(tmp_path / "sheet_1.csv")
    return tmp_path / "sheet_1.csv"


@pytest.fixture
def served(path):
    server = serve_sheet(path, port=0, block=False)
    yield server
    server.close()


def ask(server, method="GET", path="/", body=None, **headers):
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=10)
    given = {"X-Annotation-Token": server.token, **{name.replace("_", "-"): value for name, value in headers.items()}}
    connection.request(method, path, body if body is None or isinstance(body, bytes) else json.dumps(body), given)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text, answer.headers


def test_an_answer_is_in_the_file_before_it_is_called_saved(served, path):
    status, text, _ = ask(served, path="/sheet")
    shown = json.loads(text)
    row = shown["rows"][3]["id"]
    assert status == 200 and [question["name"] for question in shown["questions"]] == ["relevance", "informativeness"]
    for value, expected in ((1, 1), (0, 0), (None, None), (0, 0)):
        status, _, _ = ask(served, "POST", "/answer", {"id": row, "question": "relevance", "value": value})
        assert status == 200 and read_sheet(path).rows[3].answers["relevance"] == expected
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    served.close()
    again = serve_sheet(path, port=0, block=False)
    try:
        assert json.loads(ask(again, path="/sheet")[1])["rows"][3]["answers"] == {
            "relevance": 0, "informativeness": None,
        }  # fmt: skip
    finally:
        again.close()


@pytest.mark.parametrize(
    "body",
    [
        {"id": "none", "question": "relevance", "value": 1},
        {"id": "ROW", "question": "none", "value": 1},
        {"id": "ROW", "question": "relevance", "value": 2},
        {"id": "ROW", "question": "relevance", "value": True},
        {"id": "ROW", "question": "relevance", "value": "1"},
        {"id": "ROW", "question": "relevance"},
        {"id": ["ROW"], "question": "relevance", "value": 1},
        [],
        b"{",
        b"\xff",
    ],
)
def test_a_wrong_answer_changes_nothing(served, path, body):
    before = path.read_bytes()
    if isinstance(body, dict) and body["id"] == "ROW":
        body = {**body, "id": served.file.sheet.rows[0].id}
    assert ask(served, "POST", "/answer", body)[0] == 400
    assert path.read_bytes() == before


def test_only_the_page_itself_reads_and_writes(served, path):
    body = {"id": served.file.sheet.rows[0].id, "question": "relevance", "value": 1}
    before = path.read_bytes()
    assert ask(served, path="/sheet", X_Annotation_Token="guess")[0] == 403
    assert ask(served, "POST", "/answer", body, X_Annotation_Token="guess")[0] == 403
    for name in ("evil.example", "evil.example:80"):
        assert ask(served, Host=name)[0] == ask(served, "POST", "/answer", body, Host=name)[0] == 403
    assert ask(served, path="/key.json")[0] == ask(served, path="/../key.json")[0] == 404
    assert ask(served, "POST", "/answer", b"x" * 70_000)[0] == 413
    assert path.read_bytes() == before
    status, text, headers = ask(served)
    assert status == 200 and served.token in text and "default-src 'none'" in headers["Content-Security-Policy"]
    assert "http://" not in text and "https://" not in text
    assert served.server_address[0] == "127.0.0.1"


def test_a_failed_write_is_no_answer(path, monkeypatch):
    file = SheetFile(path)
    row = file.sheet.rows[0].id
    file.answer(row, "relevance", 1)
    before = path.read_bytes()

    def full(*args):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("hf_localgan.annotation.sheets.csv.writer", full)
        with pytest.raises(OSError, match="disk full"):
            file.answer(row, "relevance", 0)
    assert path.read_bytes() == before and file.sheet.rows[0].answers["relevance"] == 1
    assert file.answer(row, "relevance", 0) == 1


def test_a_sheet_that_another_program_changed_is_not_overwritten(path):
    file = SheetFile(path)
    other = SheetFile(path)
    other.answer(other.sheet.rows[0].id, "relevance", 1)
    with pytest.raises(ValueError, match="was changed by another program"):
        file.answer(file.sheet.rows[1].id, "relevance", 1)
    assert read_sheet(path).answered() == 1
    os.remove(path)
    with pytest.raises(ValueError, match="was changed by another program"):
        other.answer(other.sheet.rows[1].id, "relevance", 1)


def test_what_cannot_be_served_is_refused(study, path, served):
    study.sheet("sheet_1").write_xlsx(path.with_suffix(".xlsx"))
    with pytest.raises(ValueError, match="writes .csv sheets only"):
        SheetFile(path.with_suffix(".xlsx"))
    with pytest.raises(OSError, match="Nothing can be served at `127.0.0.1`.*Choose another port"):
        serve_sheet(path, port=served.server_address[1], block=False)


@pytest.mark.browser
def test_keys_answer_save_and_go_on_where_a_person_stopped(browser, served, path, study):
    asked, said = [], []
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(served.url)
    total = 2 * len(study.sheets["sheet_1"])

    def count(number):
        page.locator("#count", has_text=re.compile(f"^{number} of {total} answers$")).wait_for()

    count(0)
    rows = read_sheet(path).rows
    assert page.inner_text("#query") == rows[0].query and page.inner_text("#response") == rows[0].response
    for number, key in enumerate("101", start=1):
        page.keyboard.press(key)
        count(number)
        assert read_sheet(path).answered() == number  # saved before it is shown
    assert [row.answers for row in read_sheet(path).rows[:2]] == [
        {"relevance": 1, "informativeness": 0}, {"relevance": 1, "informativeness": None},
    ]  # fmt: skip
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#query") == rows[0].query and "yes" not in page.inner_text("[aria-current]")
    page.keyboard.press("1")  # the second question of the first row, changed
    count(3)
    page.keyboard.press("x")
    page.reload()
    count(3)
    assert page.inner_text("#response") == rows[1].response
    page.click("#no")
    count(4)
    assert [row.answers for row in read_sheet(path).rows[:2]] == [
        {"relevance": 1, "informativeness": 1}, {"relevance": 1, "informativeness": 0},
    ]  # fmt: skip
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert said == [] and {urlsplit(url).netloc for url in asked} == {urlsplit(served.url).netloc}
    path.write_text(path.read_text(encoding="utf-8-sig") + "\n", encoding="utf-8")  # another program
    page.keyboard.press("1")
    page.wait_for_selector("#fault:visible")
    assert "changed by another program" in page.inner_text("#fault") and read_sheet(path).answered() == 4
    page.close()
