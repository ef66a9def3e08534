"""Filled sheets, read back with their key."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from hf_localgan.annotation.sheets import read_sheet
from hf_localgan.annotation.study import REFERENCE, SHEETS, Study


@dataclass
class Judgements:
    """Answers by person, item and question.

    Attributes:
        study: what was asked.
        people: names of the sheets that came back.
        answers: 0, 1, or NaN for a gap, shape `(people, items, questions)`.
        repeated: the answers to repeats; NaN where nothing was asked again. Same shape.
    """

    study: Study
    people: list[str]
    answers: np.ndarray
    repeated: np.ndarray

    def of(self, source: str, question: int) -> np.ndarray:
        """Answers on what one source gave, shape `(people, queries)`; NaN where there is nothing."""
        items = self.study.items_of(source)
        return np.where(items >= 0, self.answers[:, items, question], np.nan)


def read_judgements(folder: str | Path, sheets: Sequence[str | Path] = ()) -> Judgements:
    """Reads filled sheets with the key in `folder`.

    A sheet is known by the ids in it, whatever its file is called. Rows may be in any order, and may be missing.

    Args:
        folder: what `Study.write` wrote.
        sheets: filled sheets; without, those in `folder/sheets` that hold an answer.

    Raises:
        ValueError: for a sheet with an id that the key does not have, a changed text or question, rows of two people,
            two sheets of one person, or no answer at all.
    """
    study = Study.read(folder)
    paths = [Path(path) for path in sheets] or sorted((Path(folder) / SHEETS).glob("*.[cx]*"))
    owners = {row.id: (name, row) for name, rows in study.sheets.items() for row in rows}
    shown = {row.id: row for name in study.sheets for row in study.sheet(name).rows}
    filled: dict[str, tuple[Path, Any]] = {}
    for path in paths:
        sheet = read_sheet(path)
        if sheet.questions != study.questions:
            raise ValueError(
                f'"{path.name}" asks other questions than the key: '
                f"{', '.join(question.heading for question in sheet.questions)}."
            )
        names = set()
        for row in sheet.rows:
            if row.id not in owners:
                raise ValueError(f'"{path.name}" has the id {row.id}, which the key does not know.')
            expected = shown[row.id]
            for column in ("query", "response"):
                after, before = (" ".join(getattr(sheet_row, column).split()) for sheet_row in (row, expected))
                if after != before:
                    raise ValueError(
                        f'"{path.name}": the {column} of {row.id} was changed, from {before!r} to {after!r}. Put the '
                        "text back; a spreadsheet program that changes texts leaves them alone in an XLSX."
                    )
            names.add(owners[row.id][0])
        if len(names) > 1:
            raise ValueError(f'"{path.name}" has rows of {" and ".join(sorted(names))}: keep sheets apart.')
        if not names or not (sheet.answered() or sheets):
            continue
        (name,) = names
        if name in filled:
            raise ValueError(f'{name} is filled in twice, in "{filled[name][0].name}" and "{path.name}". Name one.')
        filled[name] = (path, sheet)
    if not any(sheet.answered() for _, sheet in filled.values()):
        raise ValueError(f'No sheet for "{folder}" holds an answer.')
    people = [name for name in study.sheets if name in filled]
    answers = np.full((len(people), len(study.items), len(study.questions)), np.nan)
    repeated = answers.copy()
    for person, name in enumerate(people):
        for row in filled[name][1].rows:
            key_row = owners[row.id][1]
            answered = [row.answers.get(question.name) for question in study.questions]
            values = [math.nan if answer is None else answer for answer in answered]
            (repeated if key_row.repeat else answers)[person, key_row.item] = values
    return Judgements(study, people, answers, repeated)


def human_scores(judgements: Judgements) -> pyarrow.Table:
    """A row per query and system with the mean answer to each question, null where nobody answered."""
    study = judgements.study
    table: dict[str, list] = {name: [] for name in ("query", "references", "system", "response")}
    table |= {question.name: [] for question in study.questions}
    for system in [*study.systems, REFERENCE]:
        means = [query_means(judgements.of(system, number)) for number in range(len(study.questions))]
        for query, item in enumerate(study.items_of(system)):
            if item < 0:
                continue
            table["query"].append(study.queries[query])
            table["references"].append(study.references[query])
            table["system"].append(system)
            table["response"].append(study.items[item].response)
            for question, values in zip(study.questions, means, strict=True):
                table[question.name].append(None if math.isnan(values[query]) else float(values[query]))
    return pyarrow.table(table)


def query_means(answers: np.ndarray) -> np.ndarray:
    """Mean over people, shape `(queries,)`; NaN where nobody answered."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(answers, axis=0)
