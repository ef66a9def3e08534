"""Finding the columns of the query and the response, or of a conversation."""

from collections.abc import Mapping, Sequence

from hf_localgan.text import equality_key

QUERY_NAMES = ("query", "source", "prompt", "question", "instruction", "input")
RESPONSE_NAMES = ("responses", "response", "target", "completion", "answer", "output")
CONVERSATION_NAMES = ("messages", "conversations", "conversation")
OWN_FORMS = (("query", "responses"), ("query", "response"), ("source", "target"))  # read first, in this order
OTHER_FORMS = (
    ("prompt", "completion"), ("question", "answer"), ("instruction", "output"), ("instruction", "response"),
    ("input", "output"), *((name,) for name in CONVERSATION_NAMES),
)  # fmt: skip
INSTRUCTION = "instruction"
ADDITIONS = ("input", "context")  # what an instruction is to be done to
ALONE = ("source", "target")  # names that mean a pair together alone, for each has other meanings
PARTNERS = {
    "query": "`response` or `responses`", "source": "`target`", "prompt": "`completion`", "question": "`answer`",
    INSTRUCTION: "`output`", "input": "`output`",
}  # fmt: skip
ACCEPTED_COLUMNS = (
    "Accepted are `query` with `response` or `responses` (a list), `source` with `target`, `prompt` with `completion`, "
    "`question` with `answer`, `input` with `output`, `instruction` with `output` (and `input`), or `messages`, a list "
    "of objects with `role` and `content`; other names are mapped by `columns`, such as "
    'columns={"query": "post", "response": "reply"} or columns={"messages": "chat"}, and a field inside a struct is '
    'named with a dot, such as columns={"source": "translation.en", "target": "translation.fr"}'
)


def find_columns(names: Sequence[str], split: str, columns: Mapping[str, str] | None) -> tuple[str, ...]:
    """The names of the columns that pairs are made of.

    Args:
        names: names of all columns.
        split: name of the split, for errors.
        columns: as in `load_pairs`.

    Returns:
        Query and response; instruction, what it is to be done to, and response; or a conversation alone.

    Raises:
        ValueError: if a column is missing or occurs twice, columns can be read in two ways, or `columns` maps other
            roles.
    """
    listed = ", ".join(f"`{name}`" for name in names)
    if columns is not None:
        chosen = _mapped(columns)
        for name in chosen:
            if column_path(names, name)[0] not in names:
                raise ValueError(f"Split `{split}` has no `{name}` column (found: {listed}).{_alike(names, [name])}")
    else:
        readings = _readings(names)
        if len(readings) > 1:
            shown = " or ".join(" with ".join(f"`{name}`" for name in reading) for reading in readings)
            raise ValueError(
                f"Split `{split}` can be read in several ways: {shown} (found: {listed}). Name the columns that are "
                f"meant: columns={_example(readings[0])} or columns={_example(readings[1])}."
            )
        if not readings:
            query = next((name for name in sorted(QUERY_NAMES, key=ALONE.__contains__) if name in names), None)
            missing = "`query`" if query is None else PARTNERS[query]
            alike = _alike(names, [*QUERY_NAMES, *RESPONSE_NAMES, *CONVERSATION_NAMES])
            raise ValueError(f"Split `{split}` has no {missing} column (found: {listed}). {ACCEPTED_COLUMNS}.{alike}")
        chosen = readings[0]
    for name in chosen:
        if list(names).count(column_path(names, name)[0]) > 1:
            raise ValueError(f"Split `{split}` has several `{name}` columns (found: {listed}). Name each differently.")
    return chosen


def holds_text(names: Sequence[str]) -> bool:
    """Whether columns of these names are meant as pairs of text or as conversations."""
    if any(name in names for name in CONVERSATION_NAMES):
        return True
    return any(name in names for name in QUERY_NAMES) and any(name in names for name in RESPONSE_NAMES)


def _mapped(columns: Mapping[str, str]) -> tuple[str, ...]:
    """The names that `columns` maps roles to."""
    if not isinstance(columns, Mapping):
        raise ValueError(
            f"`columns` must map roles to names of columns, got {columns!r} ({type(columns).__name__}). "
            f"{ACCEPTED_COLUMNS}."
        )
    roles = dict(columns)
    added = [roles.pop(role) for role in ADDITIONS if INSTRUCTION in columns and role in roles][:1]
    if len(roles) == 1 and next(iter(roles)) in CONVERSATION_NAMES:
        chosen = tuple(roles.values())
    else:
        mapped = [[roles[role] for role in accepted if role in roles] for accepted in (QUERY_NAMES, RESPONSE_NAMES)]
        if any(len(values) != 1 for values in mapped) or len(roles) != 2:
            raise ValueError(
                f"`columns` must map one query and one response, or `messages` alone, got {dict(columns)!r}. "
                f"{ACCEPTED_COLUMNS}."
            )
        chosen = (mapped[0][0], *added, mapped[1][0])
    for value in chosen:
        if not isinstance(value, str):
            raise ValueError(f"`columns` must map to names of columns, got {value!r} ({type(value).__name__}).")
    return chosen


def _readings(names: Sequence[str]) -> list[tuple[str, ...]]:
    """The ways in which columns of these names can be read."""
    for form in OWN_FORMS:
        if all(name in names for name in form):
            return [form]
    forms: list[tuple[str, ...]] = [form for form in OTHER_FORMS if all(name in names for name in form)]
    if any(form[0] == INSTRUCTION for form in forms):
        forms = [form for form in forms if form[0] != "input"]  # it belongs to the instruction
    if not forms:
        sides = [
            [name for name in accepted if name in names and name not in ALONE]
            for accepted in (QUERY_NAMES, RESPONSE_NAMES)
        ]
        if INSTRUCTION in sides[0]:
            sides[0] = [name for name in sides[0] if name != "input"]
        forms = [(sides[0][0], sides[1][0])] if all(len(side) == 1 for side in sides) else []
    return [_with_addition(form, names) for form in forms]


def _with_addition(form: tuple[str, ...], names: Sequence[str]) -> tuple[str, ...]:
    added = [name for name in ADDITIONS if name in names][:1] if form[0] == INSTRUCTION else []
    return (form[0], *added, *form[1:])


def _example(reading: tuple[str, ...]) -> str:
    pairs = ", ".join(f'"{name}": "{name}"' for name in reading)
    return f"{{{pairs}}}"


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
