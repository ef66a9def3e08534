"""What an annotation shows: scores, differences, agreement and checks, as tables and files."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from hf_localgan.annotation.agreement import Agreement
from hf_localgan.annotation.judgements import Judgements, human_scores
from hf_localgan.annotation.study import CONTROL
from hf_localgan.evaluation.writing import write_report
from hf_localgan.files import replacing
from hf_localgan.markdown import markdown_table
from hf_localgan.metrics import Interval

FILES = ("annotation.json", "annotation.md", "human_scores.parquet")


PLANNED_PEOPLE, PLANNED_QUERIES = (1, 3, 5, 10), (100, 250, 500, 1000, 2000)


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


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"


def _shown(interval: Interval, form: str = ".3f") -> str:
    return "" if math.isnan(interval.value) else f"{interval.value:{form}} {_ends(interval, form)}".rstrip()


def _ends(interval: Interval, form: str = ".3f") -> str:
    return "" if math.isnan(interval.low) else f"({interval.low:{form}} to {interval.high:{form}})"
