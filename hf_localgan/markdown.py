"""Markdown tables that every reader shows alike: the Hub, GitHub, TensorBoard, the console."""

import re
from collections.abc import Iterable, Sequence

RULES = {"<": "---", ">": "---:", "^": ":---:"}

# Signs of Markdown that CommonMark and Python-Markdown both take literally after a backslash. An underscore inside a
# word and brackets without a link need none.
_ESCAPED = re.compile(r"[\\`*|]|\](?=[(\[])|(?<![^\W_])_|_(?![^\W_])")
# Python-Markdown, which TensorBoard uses, knows no backslash before these; every reader knows the entity.
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "~": "&#126;", "$": "&#36;"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def markdown_table(columns: Iterable[str], rows: Iterable[Sequence], align: str = "<") -> list[str]:
    """The lines of a table.

    Args:
        columns: headings, at least one.
        rows: cells of each row, one for each column; `markdown_cell` converts them.
        align: a sign for each column, `<` left, `>` right, `^` centre. The last one holds for all columns that follow:
            `"<"` is for a table of texts, `"<>"` for numbers after a name.

    Returns:
        The headings, the rule below them and a line for each row, without line breaks.

    Raises:
        ValueError: for no column, a row with another number of cells, and signs that are unknown or too many.
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
    """Text in one line that a reader of Markdown shows as it is.

    Bars, backslashes and all other signs of Markdown or HTML are escaped, so that `<unk>` stays visible. Line breaks
    and other white space become one space; control characters, which readers drop, become U+FFFD.
    """
    text = _CONTROL.sub("\ufffd", " ".join(str(value).split()))
    return _ESCAPED.sub(r"\\\g<0>", text).translate(_ENTITIES)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
