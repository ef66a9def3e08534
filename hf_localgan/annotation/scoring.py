"""Filled sheets, read back with their key and turned into scores, tests, agreement and checks of every person."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from hf_localgan.annotation.agreement import Agreement, cohen_kappa, measure_agreement
from hf_localgan.annotation.extra import annotation_module
from hf_localgan.annotation.power import measured_variance, queries_needed, smallest_difference
from hf_localgan.annotation.sheets import read_sheet
from hf_localgan.annotation.study import CONTROL, REFERENCE, SHEETS, Study
from hf_localgan.evaluation.writing import write_report
from hf_localgan.files import replacing
from hf_localgan.markdown import markdown_table
from hf_localgan.metrics import Interval, bootstrap_interval, paired_permutation_test

FILES = ("annotation.json", "annotation.md", "human_scores.parquet")
PLANNED_PEOPLE, PLANNED_QUERIES = (1, 3, 5, 10), (100, 250, 500, 1000, 2000)


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


@dataclass(frozen=True)
class HumanScore:
    """Share of yes of one source for one question, mean over queries of the mean over people.

    Attributes:
        interval: by bootstrap over queries: other queries, these people.
        people_interval: queries and people both drawn anew.
        queries: number of queries with an answer.
    """

    source: str
    question: str
    interval: Interval
    people_interval: Interval
    queries: int


@dataclass(frozen=True)
class Difference:
    """The first system's score less the second's.

    Attributes:
        interval: by bootstrap over queries.
        people_interval: queries and people both drawn anew.
        p_value: two-sided, both systems' answers swapped query by query.
        holm: the same, corrected by Holm's method for all comparisons of the question.
        queries: number of queries with answers for both systems.
    """

    first: str
    second: str
    question: str
    interval: Interval
    people_interval: Interval
    p_value: float
    holm: float
    queries: int


@dataclass(frozen=True)
class PersonCheck:
    """Checks of one person's answers to one question.

    Attributes:
        answered: share of the rows that have an answer.
        yes: share of yes.
        repeats: share of the repeats with the same answer as before, NaN without a repeat.
        repeated: number of such repeats.
        reference: share of yes on references.
        control: share of yes on references of other queries.
        kappa: mean of Cohen's kappa with the others.
    """

    person: str
    question: str
    answered: float
    yes: float
    repeats: float
    repeated: int
    reference: float
    control: float
    kappa: float


@dataclass
class AnnotationReport:
    """What an annotation shows. `to_markdown` says how each number is computed."""

    judgements: Judgements
    scores: list[HumanScore]
    differences: list[Difference]
    agreements: dict[str, dict[str, Agreement]]
    checks: list[PersonCheck]
    plans: list[dict[str, Any]]
    settings: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """For JSON, see `write_report`."""
        return {
            "study": self.judgements.study.settings,
            "systems": self.judgements.study.about,
            "people": self.judgements.people,
            "settings": self.settings,
            "scores": [asdict(score) for score in self.scores],
            "differences": [asdict(difference) for difference in self.differences],
            "agreement": {
                question: {source: asdict(value) for source, value in values.items()}
                for question, values in self.agreements.items()
            },
            "people_checks": [asdict(check) for check in self.checks],
            "plans": self.plans,
        }

    def to_markdown(self) -> str:
        """Scores, differences, agreement, checks and the table for the next annotation."""
        study = self.judgements.study
        gaps = int(np.isnan(self.judgements.answers).sum())
        lines = [
            "# Human judgement", "",
            f"{len(study.queries)} queries, {len(study.items)} distinct responses, {len(self.judgements.people)} "
            f"people, {gaps} gaps of {self.judgements.answers.size} answers.", "",
            *(f"* {question.name}: {question.text}" for question in study.questions),
        ]  # fmt: skip
        lines += self._scores() + self._differences() + self._agreement() + self._checks() + self._plans()
        return "\n".join(lines) + "\n"

    def write(self, folder: str | Path) -> list[Path]:
        """Writes `annotation.json`, `annotation.md`, and `human_scores.parquet`.

        The last has a row per query and system: `query`, `references`, `system`, `response`, and the mean answer to
        each question. `hf-localgan metrics-against-people` reads it.
        """
        files = write_report(folder, FILES[:2], self.to_dict(), self.to_markdown())
        table = Path(folder) / FILES[2]
        with replacing(table) as path:
            pyarrow.parquet.write_table(human_scores(self.judgements), path)
        return [*files, table]

    def _scores(self) -> list[str]:
        rows = []
        for source in dict.fromkeys(score.source for score in self.scores):
            scores = [score for score in self.scores if score.source == source]
            cells = [f"{_shown(score.interval)} {_ends(score.people_interval)}" for score in scores]
            rows.append([source, *cells, max(score.queries for score in scores)])
        columns = ["system", *(question.name for question in self.judgements.study.questions), "queries"]
        return [
            "", "## Scores", "",
            "Share of yes: mean over queries of the mean over people. In parentheses the 95 % interval by bootstrap "
            "over queries, then with the people drawn anew, too.", "", *markdown_table(columns, rows, "<>"),
        ]  # fmt: skip

    def _differences(self) -> list[str]:
        if not self.differences:
            return []
        rows = [
            [
                row.question, f"{row.first} less {row.second}", _shown(row.interval, "+.3f"),
                _ends(row.people_interval, "+.3f"), f"{row.p_value:.4f}", f"{row.holm:.4f}",
            ]
            for row in self.differences
        ]  # fmt: skip
        columns = ["question", "first less second", "difference", "people drawn anew", "p", "Holm"]
        return [
            "", "## Differences", "",
            f"Paired permutation tests over queries ({self.settings['permutations']} permutations), two-sided; `Holm` "
            "is corrected for all comparisons of the question.", "", *markdown_table(columns, rows, "<<>"),
        ]  # fmt: skip

    def _agreement(self) -> list[str]:
        rows = [
            [
                question, source, _number(value.yes), _shown(value.raw), _number(value.fleiss), _number(value.cohen),
                _number(value.krippendorff), value.items, value.complete,
            ]
            for question, values in self.agreements.items()
            for source, value in values.items()
        ]  # fmt: skip
        columns = ["question", "responses of", "yes", "raw", "Fleiss", "Cohen, mean", "Krippendorff", "items"]
        return [
            "", "## Agreement", "",
            "Raw: share of equal pairs of answers. The coefficients take chance away, and are low at high agreement "
            "where nearly all answers are the same; an empty cell is not defined.", "",
            *markdown_table([*columns, "complete"], rows, "<<>"),
        ]  # fmt: skip

    def _checks(self) -> list[str]:
        rows = [
            [
                check.person, check.question, _number(check.answered), _number(check.yes),
                f"{_number(check.repeats)} of {check.repeated}" if check.repeated else "", _number(check.reference),
                _number(check.control), _number(check.kappa),
            ]
            for check in self.checks
        ]  # fmt: skip
        columns = ["person", "question", "answered", "yes", "repeats", "references", "control", "kappa with the others"]
        return [
            "", "## People", "",
            f"Repeats: share of equal answers to what was asked twice. Control: share of yes for {CONTROL}, which "
            "should be near 0 for relevance.", "", *markdown_table(columns, rows, "<<>"),
        ]  # fmt: skip

    def _plans(self) -> list[str]:
        if not self.plans:
            return []
        needed = [
            [
                plan["question"], f"{plan['first']} less {plan['second']}", f"{plan['difference']:+.3f}",
                *("more than ten million" if count is None else count for count in plan["queries_needed"].values()),
            ]
            for plan in self.plans
        ]  # fmt: skip
        smallest = []
        for question in dict.fromkeys(plan["question"] for plan in self.plans):
            plans = [plan for plan in self.plans if plan["question"] == question]
            for count in PLANNED_PEOPLE:
                grid = [[plan["smallest"][count][queries] for queries in PLANNED_QUERIES] for plan in plans]
                smallest.append([question, count, *(f"{value:.3f}" for value in np.median(grid, axis=0))])
        people = [f"{count} people" for count in PLANNED_PEOPLE]
        queries = [f"{count} queries" for count in PLANNED_QUERIES]
        return [
            "", "## The next annotation", "",
            "Queries with which a difference as large as the one measured is significant at .05, without correction, "
            "in 80 % of annotations, by the number of people; from the variances measured here.", "",
            *markdown_table(["question", "first less second", "difference", *people], needed, "<<>"), "",
            "The smallest difference that is seen in 80 %, by queries, for the median of the variances:", "",
            *markdown_table(["question", "people", *queries], smallest, "<>"),
        ]  # fmt: skip


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


def score_judgements(
    judgements: Judgements,
    *,
    against: str | None = None,
    all_pairs: bool = False,
    resamples: int = 1000,
    permutations: int = 9999,
    seed: int = 0,
) -> AnnotationReport:
    """Scores, tests, agreement and checks of one annotation.

    Args:
        judgements: the answers.
        against: the system that is compared with every other; the first without.
        all_pairs: compare all pairs of systems instead.
        resamples: bootstrap samples behind every interval.
        permutations: random swaps of every test; p values are at least `1 / (1 + permutations)`.
        seed: seed of both.

    Raises:
        ValueError: for a system in `against` that was not judged.
    """
    study = judgements.study
    systems = study.systems
    first = systems[0] if against is None else against
    if first not in systems:
        raise ValueError(f"`against` must be one of {', '.join(systems)}, got {first!r}.")
    pairs = list(combinations(systems, 2)) if all_pairs else [(first, name) for name in systems if name != first]
    present = [*systems, *(name for name in (REFERENCE, CONTROL) if (study.items_of(name) >= 0).any())]
    drawing = {"resamples": resamples, "seed": seed}
    scores, differences, plans = [], [], []
    for number, question in enumerate(study.questions):
        answers = {source: judgements.of(source, number) for source in present}
        scores += [
            HumanScore(
                source, question.name, bootstrap_interval(_query_means(values), **drawing),
                two_way_interval(values, **drawing), int((~np.isnan(values)).any(axis=0).sum()),
            )
            for source, values in answers.items()
        ]  # fmt: skip
        differences += compare_answers(answers, pairs, question.name, permutations=permutations, **drawing)
        planned = (_plan(answers[pair[0]], answers[pair[1]], *pair, question.name) for pair in pairs)
        plans += [plan for plan in planned if plan is not None]
    agreements = {
        question.name: {
            "all": measure_agreement(judgements.answers[:, :, number], **drawing),
            **{source: measure_agreement(judgements.of(source, number), **drawing) for source in present},
        }
        for number, question in enumerate(study.questions)
    }
    settings = {"against": None if all_pairs else first, "permutations": permutations, **drawing}
    scores.sort(key=lambda score: present.index(score.source))
    return AnnotationReport(judgements, scores, differences, agreements, _people(judgements), plans, settings)


def compare_answers(
    answers: dict[str, np.ndarray],
    pairs: Sequence[tuple[str, str]],
    question: str,
    *,
    resamples: int = 1000,
    permutations: int = 9999,
    seed: int = 0,
) -> list[Difference]:
    """Paired tests of pairs of systems on one question, corrected together by Holm's method (Holm 1979).

    Args:
        answers: by system, 0, 1 or NaN, shape `(people, queries)`, the same people and queries throughout.
        pairs: names of systems.
        question: name of the question.
        resamples: bootstrap samples behind the intervals.
        permutations: random swaps.
        seed: seed of both.
    """
    rows = []
    for first, second in pairs:
        # People who judged one of the two only would bring their own leniency into the difference.
        difference = answers[first] - answers[second]
        answered = ~np.isnan(difference)
        left, right = (_query_means(np.where(answered, answers[name], np.nan)) for name in (first, second))
        judged = answered.any(axis=0)
        p_value = math.nan
        if judged.any():
            p_value = paired_permutation_test(left[judged], right[judged], permutations=permutations, seed=seed).p_value
        interval = bootstrap_interval(left - right, resamples=resamples, seed=seed)
        people = two_way_interval(difference, resamples=resamples, seed=seed)
        rows.append((first, second, interval, people, p_value, int(judged.sum())))
    p_values = np.array([row[4] for row in rows])
    corrected = np.full(len(rows), np.nan)
    tested = ~np.isnan(p_values)
    if tested.any():
        multipletests = annotation_module("statsmodels.stats.multitest").multipletests
        corrected[tested] = multipletests(p_values[tested], method="holm")[1]
    return [
        Difference(first, second, question, interval, people, p_value, float(holm), queries)
        for (first, second, interval, people, p_value, queries), holm in zip(rows, corrected, strict=True)
    ]


def two_way_interval(answers: np.ndarray, *, resamples: int = 1000, level: float = 0.95, seed: int = 0) -> Interval:
    """Percentile bootstrap of the mean over queries of the mean over people, both drawn anew.

    With few people this is a rough guess: below about five it covers rather less than `level`.

    Args:
        answers: values, NaN for a gap, shape `(people, queries)`.
        resamples: number of bootstrap samples.
        level: nominal coverage.
        seed: seed of the resampling.

    Returns:
        No ends (NaN) with fewer than two people.
    """
    people, queries = answers.shape
    point = _query_means(answers)
    value = float(point[~np.isnan(point)].mean()) if (~np.isnan(point)).any() else math.nan
    if people < 2 or queries < 2 or resamples < 2 or math.isnan(value):
        return Interval(value, math.nan, math.nan, level, "none", 0, None)
    rng = np.random.default_rng(seed)
    answered = ~np.isnan(answers)
    filled = np.where(answered, answers, 0.0)
    means = np.empty(resamples)
    for index in range(resamples):
        weights = np.bincount(rng.integers(people, size=people), minlength=people)[None, :]
        counts = (weights @ answered)[0]  # (queries,)
        sums = (weights @ filled)[0]
        drawn = rng.integers(queries, size=(queries,))
        drawn = drawn[counts[drawn] > 0]
        means[index] = (sums[drawn] / counts[drawn]).mean() if len(drawn) else np.nan
    low, high = np.nanquantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), level, "bootstrap", resamples, seed)


def human_scores(judgements: Judgements) -> pyarrow.Table:
    """A row per query and system with the mean answer to each question, null where nobody answered."""
    study = judgements.study
    table: dict[str, list] = {name: [] for name in ("query", "references", "system", "response")}
    table |= {question.name: [] for question in study.questions}
    for system in [*study.systems, REFERENCE]:
        means = [_query_means(judgements.of(system, number)) for number in range(len(study.questions))]
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


def _plan(
    first: np.ndarray, second: np.ndarray, first_name: str, second_name: str, question: str
) -> dict[str, Any] | None:
    try:
        variance = measured_variance(first, second)
    except ValueError:  # one person, or hardly a query in common: there is nothing to plan from
        return None
    known = ~np.isnan(first - second)
    means = _query_means(np.where(known, first - second, np.nan))
    difference = float(means[~np.isnan(means)].mean())
    return {
        "question": question, "first": first_name, "second": second_name, "difference": difference,
        "variance_between": variance.between, "variance_within": variance.within,
        "queries_needed": {count: queries_needed(difference, variance, count) for count in PLANNED_PEOPLE},
        "smallest": {
            count: {queries: smallest_difference(variance, queries, count) for queries in PLANNED_QUERIES}
            for count in PLANNED_PEOPLE
        },
    }  # fmt: skip


def _people(judgements: Judgements) -> list[PersonCheck]:
    checks = []
    for number, question in enumerate(judgements.study.questions):
        answers, again = judgements.answers[:, :, number], judgements.repeated[:, :, number]
        references, controls = judgements.of(REFERENCE, number), judgements.of(CONTROL, number)
        for person, name in enumerate(judgements.people):
            known = ~np.isnan(answers[person])
            twice = known & ~np.isnan(again[person])
            kappas = [cohen_kappa(answers[person], row) for index, row in enumerate(answers) if index != person]
            checks.append(
                PersonCheck(
                    name, question.name, float(known.mean()), _mean(answers[person]),
                    float((answers[person] == again[person])[twice].mean()) if twice.any() else math.nan,
                    int(twice.sum()), _mean(references[person]), _mean(controls[person]), _mean(np.array(kappas)),
                )
            )  # fmt: skip
    return checks


def _query_means(answers: np.ndarray) -> np.ndarray:
    """Mean over people, shape `(queries,)`; NaN where nobody answered."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(answers, axis=0)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"


def _shown(interval: Interval, form: str = ".3f") -> str:
    return "" if math.isnan(interval.value) else f"{interval.value:{form}} {_ends(interval, form)}".rstrip()


def _ends(interval: Interval, form: str = ".3f") -> str:
    return "" if math.isnan(interval.low) else f"({interval.low:{form}} to {interval.high:{form}})"
