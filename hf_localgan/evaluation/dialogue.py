"""One generator, scored under greedy decoding, beam search and a sweep of sampling temperatures."""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pyarrow
import pyarrow.parquet
from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_localgan.decoding.answers import Decoding, answer_all
from hf_localgan.evaluation.energy.ranking import grouped_radii
from hf_localgan.evaluation.tables import cell
from hf_localgan.evaluation.writing import write_report
from hf_localgan.files import replacing
from hf_localgan.markdown import markdown_table
from hf_localgan.metrics import ScoreReport, score_references, score_responses
from hf_localgan.metrics.embedding import Vectors
from hf_localgan.metrics.report import LocalRadii
from hf_localgan.models.dbm import DbmModel
from hf_localgan.terminal import report_console, tables_that_fit

# Scores in the tables of dialogue and their headings, in this order; the JSON file holds every score.
SHOWN = {
    "dist_1": "Dist-1",
    "dist_2": "Dist-2",
    "ent_4": "Ent-4",
    "distinct_responses": "distinct",
    "mean_length": "words",
    "bleu_2": "BLEU-2",
    "relevance_mean": "Rel mean",
    "relevance_max": "Rel max",
    "local_coverage": "coverage",
    "radius_distance": "radius W1",
}

FILES = ("evaluation.json", "evaluation.md", "generations.parquet", "query_scores.parquet")


@dataclass
class Evaluation:
    """Scores and answers of one generator.

    Attributes:
        about: model, data set, split, likelihood, versions: what identifies this evaluation, ready for JSON.
        queries: texts.
        references: for each query its references.
        reports: scores by the name of the decoding.
        references_report: the references' own scores, `None` where they have none.
        answers: texts by the name of the decoding, the first answer to each query.
        decodings: in the order of the tables.
        seconds: time that the generation took, by the name of the decoding.
        tuning: what `tune_decodings` chose from what, by the name of the decoding.

    Subclasses score something else than responses of dialogue: `kind` names it, `shown` maps the scores in tables to
    their headings, and `counts` names those that are whole numbers.
    """

    kind: ClassVar[str] = "dialogue"
    shown: ClassVar[dict[str, str]] = SHOWN
    columns: ClassVar[tuple[str, str]] = ("query", "a reference")
    counts: ClassVar[frozenset[str]] = frozenset()
    samples: ClassVar[str] = "sample responses"

    about: dict[str, Any]
    queries: list[str]
    references: list[list[str]]
    reports: dict[str, ScoreReport]
    references_report: ScoreReport | None
    answers: dict[str, list[str]] = field(repr=False)
    decodings: list[Decoding] = field(repr=False)
    seconds: dict[str, float] = field(default_factory=dict)
    tuning: dict[str, dict[str, Any]] = field(default_factory=dict, kw_only=True)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: `kind`, `about`, the references' scores; and each decoding's settings, seconds and scores."""
        decodings = {
            decoding.name: {
                **_decoding_settings(decoding),
                "seconds": round(self.seconds.get(decoding.name, 0.0), 2),
                **({"tuned": self.tuning[decoding.name]} if decoding.name in self.tuning else {}),
                **self.reports[decoding.name].to_dict(),
            }
            for decoding in self.decodings
        }
        own = None if self.references_report is None else self.references_report.to_dict()
        return {"kind": self.kind, "about": self.about, "references": own, "decodings": decodings}

    def rows(self) -> list[tuple[str, ScoreReport]]:
        """The lines of the tables: each decoding, then the references."""
        own = [] if self.references_report is None else [("references", self.references_report)]
        return [*((decoding.name, self.reports[decoding.name]) for decoding in self.decodings), *own]

    def scores_table(self) -> Table:
        """Scores as one rich table, with the intervals beneath them."""
        return self.scores_tables(sys.maxsize)[0]

    def scores_tables(self, width: int) -> list[Table]:
        """Scores as rich tables of at most `width` characters in a line, with the intervals beneath them.

        Scores that one table has no room for stand in the next.
        """
        names = self._names_shown()
        rows = [(title, *(self._cell(report, name) for name in names)) for title, report in self.rows()]
        tables = tables_that_fit(("decoding", *(self.shown[name] for name in names)), rows, width)
        intervals = [score.interval for _, report in self.rows() for score in report.scores.values()]
        level = next((interval.level for interval in intervals if not math.isnan(interval.low)), None)
        beneath = "" if level is None else f", {level:.0%} intervals beneath them"
        asked = "1 query" if len(self.queries) == 1 else f"{len(self.queries)} queries"
        tables[0].title, tables[0].title_justify = f"scores of {asked}{beneath}", "left"
        return tables

    def samples_table(self, rows: int = 8) -> Table:
        """Some queries with a reference and the answers under three decodings, as a rich table."""
        names = self._decodings_shown()
        table = Table(title=self.samples, title_justify="left", expand=True)
        for column in (*self.columns, *names):
            table.add_column(column, ratio=1, overflow="fold")
        for index in self._sample_indices(rows):
            answers = (self.answers[name][index] for name in names)
            texts = (self.queries[index], self.references[index][0], *answers)
            table.add_row(*(escape(text) for text in texts))  # "[sighs]" is text, not markup
        return table

    def to_markdown(self, rows: int = 12) -> str:
        """Scores with 95 % intervals, and samples."""
        names = self._names_shown()
        columns = ("decoding", *(self.shown[name] for name in names))
        scores = [(title, *(self._cell_with_interval(report, name) for name in names)) for title, report in self.rows()]
        lines = ["## Scores", "", *markdown_table(columns, scores, "<>")]
        lines += ["", *(f"* {key}: {value}" for key, value in self.about.items()), ""]
        lines += [line for remark in self.remarks() for line in (remark, "")]
        shown = self._decodings_shown()
        answered = [
            (self.queries[index], self.references[index][0], *(self.answers[name][index] for name in shown))
            for index in self._sample_indices(rows)
        ]
        lines += [f"## {self.samples.capitalize()}", "", *markdown_table((*self.columns, *shown), answered)]
        return "\n".join(lines) + "\n"

    def remarks(self) -> list[str]:
        """Sentences below the facts, which say how the scores are to be read."""
        return []

    def print(self, console: Console | None = None):
        """All tables on the console, by default as `report_console` makes it."""
        console = console or report_console()
        console.print(Group(*self.scores_tables(console.width), self.samples_table()))

    def write(self, folder: str | Path, plots: bool = True) -> list[Path]:
        """Writes `evaluation.json`, `evaluation.md`, two parquet files and, for dialogue, `diversity_relevance.png`.

        `generations.parquet` has a row per query: `query`, `references`, and the answer under each decoding.
        `query_scores.parquet` has a row per decoding and query: `decoding`, `query` (its row in the other file) and
        the scores of single answers, whose means are scores of the whole set; null where a query has none.

        Args:
            folder: made where it is missing; files of an earlier evaluation are replaced.
            plots: draw them, too; needs matplotlib, from the `plots` extra.

        Returns:
            The paths of the files.
        """
        folder = Path(folder)
        columns = {"query": self.queries, "references": self.references, **self.answers}
        files = write_report(folder, FILES[:2], self.to_dict(), self.to_markdown())
        for name, table in zip(FILES[2:], (pyarrow.table(columns), self._query_scores()), strict=True):
            with replacing(folder / name) as path:
                pyarrow.parquet.write_table(table, path)
            files.append(folder / name)
        return files + (self._plot(folder) if plots else [])

    def _plot(self, folder: Path) -> list[Path]:
        from hf_localgan.evaluation.plots import plot_diversity_relevance

        plot_diversity_relevance(self, folder / "diversity_relevance.png")
        return [folder / "diversity_relevance.png"]

    def _query_scores(self) -> pyarrow.Table:
        tables = []
        for decoding in self.decodings:
            values = self.reports[decoding.name].per_query
            columns: dict[str, Any] = {
                "decoding": [decoding.name] * len(self.queries),
                "query": range(len(self.queries)),
            }
            columns |= {name: pyarrow.array(column, from_pandas=True) for name, column in values.items()}  # NaN is null
            tables.append(pyarrow.table(columns))
        return pyarrow.concat_tables(tables, promote_options="default")

    def _cell(self, report: ScoreReport, name: str) -> str:
        """A score, in the next line its interval."""
        return self._cell_with_interval(report, name).replace(" (", "\n").rstrip(")")

    def _cell_with_interval(self, report: ScoreReport, name: str) -> str:
        return _cell_with_interval(report, name, "{:.0f}".format if name in self.counts else _short)

    def _names_shown(self) -> list[str]:
        return [name for name in self.shown if any(name in report.scores for report in self.reports.values())]

    def _decodings_shown(self) -> list[str]:
        """Greedy, the widest beam and the middle temperature, as far as they are there."""
        samplings = [decoding for decoding in self.decodings if decoding.temperature is not None]
        searches = [decoding for decoding in self.decodings if decoding.temperature is None]
        chosen = searches[:1] + searches[1:][-1:] + samplings[len(samplings) // 2 :][:1]
        return [decoding.name for decoding in chosen]

    def _sample_indices(self, rows: int) -> list[int]:
        """Indices of evenly spaced queries, so that nobody chose them."""
        rows = min(rows, len(self.queries))
        return [index * len(self.queries) // rows for index in range(rows)]


def evaluate_generator(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    queries: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    decodings: Sequence[Decoding],
    vectors: Vectors | None = None,
    tokenization: str = "words",
    lowercase: bool = True,
    num_samples: int = 1,
    resamples: int = 1000,
    about: dict[str, Any] | None = None,
    seed: int = 0,
    max_new_tokens: int = 40,
    max_source_length: int | None = None,
    batch_size: int = 128,
    energy: tuple[DbmModel, PreTrainedTokenizerBase] | None = None,
    energy_name: str = "energy",
) -> Evaluation:
    """Answers every query under every decoding and scores the answers.

    Args:
        model: any encoder-decoder.
        tokenizer: its tokenizer.
        queries: texts.
        references: for each query at least one.
        decodings: with different names.
        vectors: word vectors for the embedding scores; without them these are left out.
        tokenization: how the metrics split text, as in `metric_tokens`.
        lowercase: ignore case in the metrics.
        num_samples: answers per query of a sampling decoding, for local coverage; all other scores see the first.
        resamples: number of bootstrap samples.
        about: what identifies the evaluation; kept in the result.
        seed: of sampling and resampling.
        max_new_tokens, max_source_length, batch_size: see `answer_queries`.
        energy: an energy with its tokenizer, for the distance between the radii of all answers and of the references.
        energy_name: its name, for the signature.

    Raises:
        ValueError: without a query, for two decodings of one name, and for a query without a reference.
    """
    scoring: dict[str, Any] = {
        "vectors": vectors, "tokenization": tokenization, "lowercase": lowercase, "resamples": resamples, "seed": seed
    }  # fmt: skip
    samples, seconds = answer_all(
        model, tokenizer, queries, decodings, num_samples=num_samples, max_new_tokens=max_new_tokens,
        max_source_length=max_source_length, batch_size=batch_size, seed=seed,
    )  # fmt: skip
    answers = {name: [texts[0] for texts in drawn] for name, drawn in samples.items()}
    if energy is not None:
        energy[0].to(model.device)  # type: ignore[arg-type]  # the stubs lose `self` in a decorator
    own_radii = None if energy is None else grouped_radii(*energy, queries, references)

    def radii(drawn: Sequence[Sequence[str]]) -> LocalRadii | None:
        if energy is None or own_radii is None:
            return None
        return LocalRadii(own_radii, grouped_radii(*energy, queries, drawn), energy_name)

    reports = {
        name: score_responses(
            answers[name],
            references,
            queries=queries,
            samples=drawn if len(drawn[0]) > 1 else None,
            radii=radii(drawn),
            **scoring,
        )  # fmt: skip
        for name, drawn in samples.items()
    }
    referred = None if own_radii is None else LocalRadii(own_radii, own_radii, energy_name)
    own = score_references(references, radii=referred, **scoring)
    return Evaluation(
        about or {}, list(queries), [*map(list, references)], reports, own, answers, list(decodings), seconds
    )


def _decoding_settings(decoding: Decoding) -> dict[str, Any]:
    """Settings of a decoding for JSON, and its temperature where the arguments of `generate` hold another or none."""
    settings = decoding.settings()
    if settings.get("temperature") == decoding.temperature:
        return {"generate": settings}
    return {"generate": settings, "temperature": decoding.temperature}


def _cell_with_interval(report: ScoreReport, name: str, form: Callable[[float], str] | None = None) -> str:
    return cell(report[name].interval, form or _short) if name in report.scores else ""


def _short(value: float) -> str:
    """At most six characters, so that a table fits on a screen: 0.0083, 5.204, 13.32."""
    if math.isnan(value):
        return ""
    return f"{value:.4f}" if abs(value) < 1 else f"{value:.3f}" if abs(value) < 10 else f"{value:.2f}"
