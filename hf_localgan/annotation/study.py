"""An annotation: which responses are judged, a blinded sheet for every person, and the key that tells systems apart."""

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hf_localgan.annotation.sheets import Question, Sheet, SheetRow, check_questions, shown_text
from hf_localgan.evaluation.runs import Run, check_comparable
from hf_localgan.version import __version__

QUESTIONS = (
    Question("relevance", "Is the response relevant to the query?"),
    Question("informativeness", "Is the response informative?"),
)
REFERENCE, CONTROL = "reference", "another query's reference"
KEY, SHEETS = "key.json", "sheets"
LATE = 2 / 3  # repeats stand behind this share of a sheet, and repeat what stood in its first half


@dataclass(frozen=True)
class System:
    """One decoding of one evaluation, by the name under which it is reported."""

    name: str
    answers: list[str] = field(repr=False)
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Item:
    """One distinct response to one query; `sources` are the systems that gave it, `reference` and the control too."""

    query: int
    response: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class KeyRow:
    """One row of a sheet: its id, the item behind it, and whether it asks for the second time."""

    id: str
    item: int
    repeat: bool = False


@dataclass
class Study:
    """Everything about an annotation but its answers.

    Attributes:
        questions: what is asked on every response.
        systems: names, in the order in which they were given; the first is compared with the others.
        about: by name of the system, facts about its evaluation.
        queries: texts of the queries that were drawn.
        references: references of each query.
        items: responses that are judged, each by everybody.
        sheets: for each person the rows of the sheet, by the name of the sheet.
        settings: how it was made.
    """

    questions: list[Question]
    systems: list[str]
    about: dict[str, Any]
    queries: list[str]
    references: list[list[str]]
    items: list[Item]
    sheets: dict[str, list[KeyRow]]
    settings: dict[str, Any]

    def sheet(self, name: str) -> Sheet:
        """An empty sheet, as its person sees it."""
        rows = []
        for row in self.sheets[name]:
            item = self.items[row.item]
            rows.append(SheetRow(row.id, shown_text(self.queries[item.query]), shown_text(item.response)))
        return Sheet(self.questions, rows)

    def items_of(self, source: str) -> np.ndarray:
        """Index of the item that a source gave to each query, -1 where it gave none. Integer, shape `(queries,)`."""
        items = np.full(len(self.queries), -1)
        for index, item in enumerate(self.items):
            if source in item.sources:
                items[item.query] = index
        return items

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "version": 1,
            "package": __version__,
            "settings": self.settings,
            "questions": [asdict(question) for question in self.questions],
            "systems": {name: self.about[name] for name in self.systems},
            "queries": [
                {"query": query, "references": references}
                for query, references in zip(self.queries, self.references, strict=True)
            ],
            "items": [asdict(item) for item in self.items],
            "sheets": {
                name: {"sha256": sheet_hash(self.sheet(name)), "rows": [asdict(row) for row in rows]}
                for name, rows in self.sheets.items()
            },
        }

    def write(self, folder: str | Path) -> list[Path]:
        """Writes `key.json` and, in `sheets/`, a CSV and an XLSX file for every person. All appear at once or not.

        Raises:
            ValueError: where the folder exists and is not empty: answers may be in it.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f'"{folder}" is there already and not empty. Sheets are never overwritten: name another.')
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            for name in self.sheets:
                sheet = self.sheet(name)
                sheet.write_csv(partial / SHEETS / f"{name}.csv")
                sheet.write_xlsx(partial / SHEETS / f"{name}.xlsx")
            text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
            (partial / KEY).write_text(text + "\n", encoding="utf-8")
            if folder.exists():
                folder.rmdir()
            os.replace(partial, folder)
            folder.chmod(0o755)  # mkdtemp makes folders that only their owner may enter
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return [folder / KEY, *sorted((folder / SHEETS).iterdir())]

    @classmethod
    def read(cls, folder: str | Path) -> "Study":
        """Reads `key.json` of a folder that `write` made.

        Raises:
            ValueError: where it is missing or something else.
        """
        path = Path(folder) / KEY
        if not path.is_file():
            raise ValueError(f'"{folder}" has no {KEY}. Make one with `hf-localgan annotate export`.')
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["version"] != 1:
                raise ValueError(f"version {stored['version']}")
            study = cls(
                questions=[Question(**question) for question in stored["questions"]],
                systems=list(stored["systems"]),
                about=stored["systems"],
                queries=[entry["query"] for entry in stored["queries"]],
                references=[entry["references"] for entry in stored["queries"]],
                items=[Item(**{**item, "sources": tuple(item["sources"])}) for item in stored["items"]],
                sheets={name: [KeyRow(**row) for row in sheet["rows"]] for name, sheet in stored["sheets"].items()},
                settings=stored["settings"],
            )
            hashes = {name: sheet["sha256"] for name, sheet in stored["sheets"].items()}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f'"{path}" is not a key that `hf-localgan annotate export` writes: {error!r}.') from error
        for name, expected in hashes.items():
            if sheet_hash(study.sheet(name)) != expected:
                raise ValueError(f'"{path}" was changed by hand: its rows of {name} do not have the hash it states.')
        return study


def sheet_hash(sheet: Sheet) -> str:
    """SHA-256 of what a sheet shows, in any order of its rows and whatever was answered."""
    rows = sorted((row.id, row.query, row.response) for row in sheet.rows)
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()


def read_systems(
    runs: Sequence[str], decodings: Sequence[str] = ("greedy",)
) -> tuple[list[str], list[list[str]], list[System]]:
    """Reads one decoding each of several evaluations of the same queries.

    Args:
        runs: folders of evaluations, or `NAME=FOLDER` for another name than the folder's.
        decodings: one for all runs, or one per run.

    Returns:
        Queries, the references of each, and the systems.

    Raises:
        ValueError: for no run, two of one name, a decoding that a run does not have, or runs of different queries.
    """
    if not runs:
        raise ValueError("Name at least one evaluation.")
    if len(decodings) not in (1, len(runs)):
        raise ValueError(
            f"Name one decoding for all evaluations or one for each, got {len(decodings)} for {len(runs)} evaluations."
        )
    chosen = list(decodings) * len(runs) if len(decodings) == 1 else list(decodings)
    systems, read = [], []
    for text, decoding in zip(runs, chosen, strict=True):
        named = "=" in text and not Path(text).is_dir()
        name, _, place = text.partition("=") if named else ("", "", text)
        folder = Path(place)
        run = Run.read(folder)
        if decoding not in run.answers or decoding not in run.decodings:
            raise ValueError(f'"{folder}" has no decoding `{decoding}`, but {", ".join(run.decodings)}.')
        about = {"folder": str(folder), "decoding": decoding, "about": run.about}
        about["generate"] = run.decodings[decoding].get("generate")
        systems.append(System(name if named else _run_name(folder), run.answers[decoding], about))
        read.append(run)
    check_comparable(read)
    _check_names([system.name for system in systems])
    return read[0].answers["query"], read[0].answers["references"], systems


def make_study(
    queries: Sequence[str],
    references: Sequence[Sequence[str]],
    systems: Sequence[System],
    *,
    query_count: int = 500,
    annotators: int = 5,
    seed: int = 0,
    questions: Sequence[Question] = QUESTIONS,
    reference_share: float = 1.0,
    control_share: float = 0.1,
    repeat_share: float = 0.05,
) -> Study:
    """Draws queries and makes a blinded sheet for every person.

    Everybody judges every item. Equal answers of several systems to a query are one item. Responses of a query stand
    together; the order of the queries, and of the responses within each, is drawn for every person. Repeats ask a
    person again what stood in the first half of the sheet, in its last third.

    Args:
        queries: texts; a text that stands there again is left out.
        references: for each query at least one.
        systems: systems with an answer to every query.
        query_count: number of queries to draw.
        annotators: number of sheets.
        seed: seed of all draws; equal arguments make equal sheets.
        questions: what is asked.
        reference_share: share of the queries of which a reference is judged, too.
        control_share: share of the queries for which a reference of another query is judged; it should be called
            irrelevant.
        repeat_share: repeats, as a share of the items.

    Raises:
        ValueError: for fewer distinct queries than asked for, a count below 1, a share outside of 0 to 1, or answers
            that are not one per query.
    """
    check_questions(questions)
    _check_names([system.name for system in systems])
    for name, count in (("query_count", query_count), ("annotators", annotators)):
        if count < 1:
            raise ValueError(f"`{name}` must be at least 1, got {count}.")
    shares = {"reference_share": reference_share, "control_share": control_share, "repeat_share": repeat_share}
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"`{name}` must be from 0 to 1, got {share}.")
    for system in systems:
        if len(system.answers) != len(queries):
            raise ValueError(f"{system.name} has {len(system.answers)} answers to {len(queries)} queries.")
    distinct = list({shown_text(query): index for index, query in reversed(list(enumerate(queries)))}.values())
    if len(distinct) < query_count:
        raise ValueError(f"`query_count` is {query_count}, but there are {len(distinct)} distinct queries. Ask fewer.")
    rng = np.random.default_rng(seed)
    drawn = [int(index) for index in rng.permutation(sorted(distinct))[:query_count]]
    reference_places = set(rng.permutation(query_count)[: round(reference_share * query_count)].tolist())
    control_places = set(rng.permutation(query_count)[: math.ceil(control_share * query_count)].tolist())
    items = []
    for place, index in enumerate(drawn):
        sources_by_text: dict[str, tuple[str, list[str]]] = {}
        for system in systems:
            sources_by_text.setdefault(shown_text(system.answers[index]), (system.answers[index], []))[1].append(
                system.name
            )
        if place in reference_places:
            reference = references[index][int(rng.integers(len(references[index])))]
            sources_by_text.setdefault(shown_text(reference), (reference, []))[1].append(REFERENCE)
        if place in control_places:
            excluded = {*sources_by_text, *map(shown_text, references[index])}
            text = _foreign_reference(rng, references, excluded)
            sources_by_text[shown_text(text)] = (text, [CONTROL])
        items += [Item(place, text, tuple(sources)) for text, sources in sources_by_text.values()]
    used: set[str] = set()
    sheets = {
        f"sheet_{number}": _sheet_rows(items, math.ceil(repeat_share * len(items)), (seed, number), used)
        for number in range(1, annotators + 1)
    }
    settings = {"queries": query_count, "annotators": annotators, "seed": seed, **shares}
    return Study(
        list(questions), [system.name for system in systems], {system.name: system.about for system in systems},
        [queries[index] for index in drawn], [list(references[index]) for index in drawn], items, sheets, settings,
    )  # fmt: skip


def _sheet_rows(items: list[Item], repeats: int, seed: tuple[int, int], used: set[str]) -> list[KeyRow]:
    rng = np.random.default_rng(seed)
    blocks: dict[int, list[int]] = {}
    for index, item in enumerate(items):
        blocks.setdefault(item.query, []).append(index)
    queries = rng.permutation(list(blocks))
    blocks_shown = [[(int(index), False) for index in rng.permutation(blocks[int(query)])] for query in queries]
    early = [index for block in blocks_shown[: max(1, len(blocks_shown) // 2)] for index, _ in block]
    again = rng.permutation(early)[:repeats]
    first_place = math.ceil(LATE * len(blocks_shown))
    for index in again:
        place = int(rng.integers(first_place, len(blocks_shown) + 1))
        blocks_shown.insert(place, [(int(index), True)])
    rows = []
    for index, repeat in (entry for block in blocks_shown for entry in block):
        while (name := f"{int(rng.integers(16**8)):08x}") in used or name.isdigit() or "e" in name:
            pass  # a spreadsheet takes 12345678 and 1234e567 for numbers
        used.add(name)
        rows.append(KeyRow(name, index, repeat))
    return rows


def _foreign_reference(rng: np.random.Generator, references: Sequence[Sequence[str]], excluded: set[str]) -> str:
    for index in rng.permutation(len(references)):
        candidates = references[int(index)]
        if candidates and not excluded & set(map(shown_text, candidates)):
            return candidates[int(rng.integers(len(candidates)))]
    raise ValueError("No query has references that this one lacks, so there is no control. Set `control_share` to 0.")


def _run_name(folder: Path) -> str:
    """The folder's own name; that of the model for `MODEL/evaluation/DATA`."""
    folder = folder.resolve()
    return folder.parents[1].name if folder.parent.name == "evaluation" else folder.name


def _check_names(names: list[str]):
    if not names:
        raise ValueError("Name at least one system.")
    for name in names:
        if name in (REFERENCE, CONTROL) or not name.strip():
            raise ValueError(f"A system cannot be called {name!r}: name it otherwise, as NAME=FOLDER.")
        if names.count(name) > 1:
            raise ValueError(f"Two systems are called {name!r}. Name them apart, as NAME=FOLDER.")
