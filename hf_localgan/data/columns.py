"""Finding the columns of the query and the response."""

from collections.abc import Mapping, Sequence

from hf_localgan.text import equality_key

QUERY_NAMES = ("query", "source")
RESPONSE_NAMES = ("responses", "response", "target")
ACCEPTED_COLUMNS = (
    "Accepted are `query` with `response` or `responses` (a list), or `source` with `target`; other names are mapped "
    'by `columns`, such as columns={"query": "post", "response": "reply"}, and a field inside a struct is named with a '
    'dot, such as columns={"source": "translation.en", "target": "translation.fr"}'
)


def find_columns(names: Sequence[str], split: str, columns: Mapping[str, str] | None) -> tuple[str, str]:
    """The names of the query's and the response's column.

    Args:
        names: names of all columns.
        split: name of the split, for errors.
        columns: as in `load_pairs`.

    Raises:
        ValueError: if a column is missing or occurs twice, or `columns` maps other roles.
    """
    listed = ", ".join(f"`{name}`" for name in names)
    if columns is not None:
        if not isinstance(columns, Mapping):
            raise ValueError(
                f"`columns` must map roles to names of columns, got {columns!r} ({type(columns).__name__}). "
                f"{ACCEPTED_COLUMNS}."
            )
        roles = [("query", QUERY_NAMES), ("response", RESPONSE_NAMES)]
        mapped = [[columns[key] for key in accepted if key in columns] for _, accepted in roles]
        if any(len(values) != 1 for values in mapped) or len(columns) != 2:
            raise ValueError(
                f"`columns` must map one query and one response, got {dict(columns)!r}. {ACCEPTED_COLUMNS}."
            )
        for value in (values[0] for values in mapped):
            if not isinstance(value, str):
                raise ValueError(f"`columns` must map to names of columns, got {value!r} ({type(value).__name__}).")
            if column_path(names, value)[0] not in names:
                raise ValueError(f"Split `{split}` has no `{value}` column (found: {listed}).{_alike(names, [value])}")
        chosen = mapped[0][0], mapped[1][0]
    elif "query" in names and ("responses" in names or "response" in names):
        chosen = "query", "responses" if "responses" in names else "response"
    elif "source" in names and "target" in names:
        chosen = "source", "target"
    else:
        missing = "`response` or `responses`" if "query" in names else "`target`" if "source" in names else "`query`"
        alike = _alike(names, [*QUERY_NAMES, *RESPONSE_NAMES])
        raise ValueError(f"Split `{split}` has no {missing} column (found: {listed}). {ACCEPTED_COLUMNS}.{alike}")
    for name in chosen:
        if list(names).count(column_path(names, name)[0]) > 1:
            raise ValueError(f"Split `{split}` has several `{name}` columns (found: {listed}). Name each differently.")
    return chosen


def _alike(names: Sequence[str], wanted: Sequence[str]) -> str:
    """A hint at columns whose names differ from wanted ones in what is hardly seen."""
    keys = {equality_key(name): name for name in wanted if name not in names}
    alike = [(name, keys[equality_key(name)]) for name in names if equality_key(name) in keys]
    if not alike:
        return ""
    listed = " and ".join(f"{ascii(name)} from {ascii(known)}" for name, known in alike)
    return (
        f" Of the columns {listed} differs in case, spaces, signs that are not seen or the coding of letters alone: "
        "rename it, or name it in `columns` exactly so."
    )


def column_path(names: Sequence[str], name: str) -> list[str]:
    """A column and the fields inside it that `name` leads to: a column's own name comes before one with a dot."""
    return [name] if name in names else name.split(".")
