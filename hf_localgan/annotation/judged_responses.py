"""Responses of several systems with people's scores of them, read from files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet


@dataclass
class JudgedResponses:
    """Responses of several systems to the same contexts, with people's scores.

    Attributes:
        contexts: what each response answers, an id or a text.
        references: references of each context.
        systems: names.
        responses: shape `(systems, contexts)`, as nested lists.
        human: scores by name, shape `(systems, contexts)`.
        left_out: contexts that were dropped, with the reason.
    """

    contexts: list[str]
    references: list[list[str]]
    systems: list[str]
    responses: list[list[str]]
    human: dict[str, np.ndarray]
    left_out: dict[str, int]


def read_judged_responses(
    path: str | Path, contexts: str | Path | None = None, human: Sequence[str] | None = None
) -> JudgedResponses:
    """Reads parquet files of judged responses.

    Args:
        path: a row per response, with the columns `system`, `response`, the context as `id` or `query`, the people's
            scores as numbers, and, without `contexts`, `references` (a list of texts).
        contexts: a row per context, with `id` (or `query`) and `references`.
        human: names of the people's scores; without, every column of floating-point numbers.

    Returns:
        The contexts that every system answered and that have a reference and all scores; the others are counted.

    Raises:
        ValueError: for a missing file or column, a score that is no number, a system that answers a context twice, or
            where no context is left.
    """
    table = _read(path)
    key = "query" if "query" in table.column_names and "id" not in table.column_names else "id"
    _require(table, path, "system", "response", key)
    if contexts is not None:
        own = _read(contexts)
        _require(own, contexts, key, "references")
        references = dict(zip(own[key].to_pylist(), own["references"].to_pylist(), strict=True))
    else:
        _require(table, path, "references")
        references = dict(zip(table[key].to_pylist(), table["references"].to_pylist(), strict=True))
    if human is None:
        human = [column.name for column in table.schema if pyarrow.types.is_floating(column.type)]
        if not human:
            raise ValueError(f'"{path}" has no column of floating-point numbers. Name the people\'s scores.')
    _require(table, path, *human)
    for name in human:
        dtype = table.schema.field(name).type
        if not (pyarrow.types.is_floating(dtype) or pyarrow.types.is_integer(dtype)):
            raise ValueError(f'`{name}` of "{path}" must hold numbers, not {dtype}.')
    rows: dict[tuple[str, Any], dict[str, Any]] = {}
    for row in table.select([key, "system", "response", *human]).to_pylist():
        system_and_context = (row["system"], row[key])
        if system_and_context in rows:
            raise ValueError(f'"{path}" has two responses of {row["system"]} to {str(row[key])[:60]!r}.')
        rows[system_and_context] = row
    systems = list(dict.fromkeys(system for system, _ in rows))
    kept, left_out = [], {"without a reference": 0, "not answered or not judged for every system": 0}
    for context in dict.fromkeys(context for _, context in rows):
        answers = [rows.get((system, context)) for system in systems]
        if not references.get(context):
            left_out["without a reference"] += 1
        elif any(row is None or row["response"] is None or any(row[name] is None for name in human) for row in answers):
            left_out["not answered or not judged for every system"] += 1
        else:
            kept.append(context)
    if not kept:
        raise ValueError(f'"{path}" has no context that every system answered, with references and scores.')
    scores = {
        name: np.array([[rows[system, context][name] for context in kept] for system in systems], dtype=float)
        for name in human
    }
    return JudgedResponses(
        [str(context) for context in kept], [list(references[context]) for context in kept], systems,
        [[rows[system, context]["response"] for context in kept] for system in systems], scores, left_out,
    )  # fmt: skip


def _read(path: str | Path) -> pyarrow.Table:
    path = Path(path)
    if not path.is_file():
        raise ValueError(f'There is no file "{path}".')
    try:
        return pyarrow.parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise ValueError(f'"{path}" cannot be read as parquet: {error}') from error


def _require(table: pyarrow.Table, path: str | Path, *names: str):
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise ValueError(
            f'"{path}" has no column {", ".join(f"`{name}`" for name in missing)} (found: '
            f"{', '.join(f'`{name}`' for name in table.column_names)})."
        )
