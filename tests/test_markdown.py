"""Tables in Markdown, read back by the readers that people have: CommonMark with tables, and Python-Markdown."""

import random
from html.parser import HTMLParser

import markdown
import pytest
from markdown_it import MarkdownIt

from hf_localgan.markdown import markdown_cell, markdown_table

SIGNS = list("|\\`*_~<>&[](){}!#$+-.:;=\"'@/^% \t\n\r\0\x02\x03\x1b\u2028aß你1") + [
    "<unk>", "</s>", "<!--", "-->", "<b>", "</td>", "<?", "&lt;", "&#65;", "&amp;", "\\|", "\\\\|", "``", "**", "__",
    "~~", "$$", "![x](y)", "[x](y)", "<http://x.y>", "| --- |", "---", "snake_case", "_it_", "*it*", "\r\n", "http://x.y/_z_",
]  # fmt: skip


class Tables(HTMLParser):
    """Cells and alignments of the tables in HTML, and whether there was anything else."""

    def __init__(self, html: str):
        super().__init__()
        self.rows, self.aligned, self.other, self._inside = [], [], set(), False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self._inside = True
            self.rows[-1].append("")
            self.aligned.append(dict(attrs).get("style", "").removeprefix("text-align:").strip("; "))
        elif tag not in ("table", "thead", "tbody"):
            self.other.add(tag)

    def handle_endtag(self, tag):
        self._inside = self._inside and tag not in ("th", "td")

    def handle_data(self, data):
        if self._inside:
            self.rows[-1][-1] += data
        elif data.strip():
            self.other.add(data)

    def handle_comment(self, data):
        self.other.add(data)

    def handle_decl(self, decl):
        self.other.add(decl)


def by_commonmark(text: str) -> Tables:
    return Tables(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text))


def by_python_markdown(text: str) -> Tables:  # as TensorBoard reads
    return Tables(markdown.markdown(text, extensions=["tables", "fenced_code"]))


def shown(cell: str) -> str:
    one_line = " ".join(cell.split())
    return "".join("\ufffd" if ord(sign) < 32 or 127 <= ord(sign) < 160 else sign for sign in one_line)


@pytest.mark.parametrize("read", [by_commonmark, by_python_markdown])
def test_every_reader_shows_every_cell_as_it_is(read):
    rng = random.Random(0)
    for _ in range(150):
        width = rng.randint(1, 4)
        cells = [["".join(rng.choices(SIGNS, k=rng.randint(0, 8))) for _ in range(width)] for _ in range(4)]
        cells[0] = [f"x{cell}" for cell in cells[0]]
        table = read("\n".join(markdown_table(cells[0], cells[1:])))
        assert table.rows == [[shown(cell) for cell in row] for row in cells]
        assert not table.other


@pytest.mark.parametrize("read", [by_commonmark, by_python_markdown])
def test_columns_stand_as_they_are_told_to(read):
    lines = markdown_table(["a", "b", "c", "d"], [[1, 2.5, "", "x"]], "<^>")
    assert lines == ["| a | b | c | d |", "| --- | :---: | ---: | ---: |", "| 1 | 2.5 |  | x |"]
    assert [side or "left" for side in read("\n".join(lines)).aligned] == ["left", "center", "right", "right"] * 2


def test_plain_text_stays_legible_in_the_file_itself():
    for text in ("it's 3 (2 to 4), tau = 0.5: dist_2 at N:20 - 5 %!", "0.455 [0.383, 0.5] #1"):
        assert markdown_cell(text) == text
    assert markdown_cell("a | b\nc") == r"a \| b c"
    assert markdown_cell("<unk>") == "&lt;unk&gt;"


def test_a_table_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="at least one column"):
        markdown_table([], [])
    with pytest.raises(ValueError, match="Row 1 has 1 cells, and the table has 2"):
        markdown_table(["a", "b"], [["1", "2"], ["3"]])
    for align in ("", "x", "<>>"):
        with pytest.raises(ValueError, match=f'`align` must be one to 2 .* got "{align}"'):
            markdown_table(["a", "b"], [], align)
