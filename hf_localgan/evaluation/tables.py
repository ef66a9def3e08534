"""Markdown tables, and numbers in them."""


def markdown_row(*cells: str) -> str:
    """One line of a table; bars are escaped and line breaks become spaces."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def markdown_heading(*cells: str) -> list[str]:
    """The two lines above a table whose first column is text and whose others are numbers."""
    return [markdown_row(*cells), "| --- " + "| ---: " * (len(cells) - 1) + "|"]


def spread(values: list[float | None], form: str = ".3g") -> str:
    """Mean, smallest and largest of what is known: `0.25 (0.2 to 0.3)`; nothing where nothing is."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean = f"{sum(known) / len(known):{form}}"
    return mean if len(known) == 1 else f"{mean} ({min(known):{form}} to {max(known):{form}})"
