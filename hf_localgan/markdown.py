"""Tables in Markdown, which every reader shows as they were meant: the Hub, GitHub, TensorBoard, the console."""

import re
from collections.abc import Iterable, Sequence

RULES = {"<": "---", ">": "---:", "^": ":---:"}

# Signs of Markdown that CommonMark and Python-Markdown both take literally behind a backslash. An underscore inside a
# word is none, nor are brackets that no link follows.
_ESCAPED = re.compile(r"[\\`*|]|\](?=[(\[])|(?<![^\W_])_|_(?![^\W_])")
# Python-Markdown, by which TensorBoard reads, knows no backslash before these; every reader knows the entity.
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "~": "&#126;", "$": "&#36;"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def markdown_table(columns: Iterable[str], rows: Iterable[Sequence], align: str = "<") -> list[str]:
    """The lines of a table.

    Args:
        columns: headings.
        rows: cells of each row, one for each column, as `markdown_cell` takes them.
        align: a sign for each column, `<` left, `>` right, `^` centre. The last one serves all columns that follow:
            `"<"` is a table of texts, `"<>"` one of numbers behind a name.

    Returns:
        The headings, the rule below them and a line for each row, without line breaks.

    Raises:
        ValueError: for no columns, a row of another number of cells, and signs that are unknown or too many.
    """
    columns = list(columns)
    if not columns:
        raise ValueError("`columns` is empty. A table needs at least one column.")
    if not align or set(align) - set(RULES) or len(align) > len(columns):
        raise ValueError(
            f'`align` must be one to {len(columns)} of the signs "<", ">" and "^", at most one for each column, got '
            f'"{align}".'
        )
    signs = align + align[-1] * (len(columns) - len(align))
    lines = [_line(map(markdown_cell, columns)), _line(RULES[sign] for sign in signs)]
    for number, row in enumerate(rows):
        if len(row) != len(columns):
            raise ValueError(f"Row {number} has {len(row)} cells, and the table has {len(columns)} columns: {columns}.")
        lines.append(_line(map(markdown_cell, row)))
    return lines


def markdown_cell(value: object) -> str:
    """Text that a reader of Markdown shows as it is, in one line.

    Bars, backslashes and all other signs of Markdown or HTML are escaped, so that `<unk>` is seen. Line breaks and
    other white space become one space; control characters, which readers drop, become U+FFFD.
    """
    text = _CONTROL.sub("\ufffd", " ".join(str(value).split()))
    return _ESCAPED.sub(r"\\\g<0>", text).translate(_ENTITIES)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
