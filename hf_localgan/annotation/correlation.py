"""Agreement of metrics with people's scores of the same responses, by response and by system."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from hf_localgan.evaluation.plots import new_figure, save_figure
from hf_localgan.evaluation.tables import with_range
from hf_localgan.evaluation.writing import write_report
from hf_localgan.markdown import markdown_table
from hf_localgan.metrics import (
    metric_tokens,
    reference_radius,
    score_responses,
    sentence_bleu,
    utterance_vectors,
    word_error_rate,
)
from hf_localgan.metrics.embedding import Vectors, WordTable

FILES = ("metrics_against_people.json", "metrics_against_people.md", "metrics_against_people.png")
METHODS = ("pearson", "spearman", "kendall")
LOWER_IS_BETTER = ("word_error_rate_min",)
ALIKE = 90.0  # percent of equal characters from which on a reference counts as the response itself
DRAWN_SHARE = 0.5  # of a system's responses that stand among the references, from which it is people's own


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


@dataclass(frozen=True)
class Correlation:
    """Agreement of one metric with one score of people.

    Attributes:
        metric: its name.
        human: name of the people's score.
        level: `response` or `system`.
        systems: `generators`, or `all` with those that draw from the references.
        method: `pearson`, `spearman` or `kendall` (tau-b).
        value: the correlation; NaN where either side is constant.
        low: lower end of the 95 % interval: by bootstrap over contexts by response, over systems by system.
        high: upper end.
        count: responses or systems.
    """

    metric: str
    human: str
    level: str
    systems: str
    method: str
    value: float
    low: float
    high: float
    count: int


@dataclass
class MetricWorth:
    """All correlations, and each system's means.

    Attributes:
        correlations: one per metric, score, level, set of systems and method.
        values: by system, each metric and each people's score.
        drawn: systems whose responses stand among the references.
        contexts: number of contexts that were used.
        notes: settings and what was left out.
    """

    correlations: list[Correlation]
    values: dict[str, dict[str, float]]
    drawn: list[str]
    contexts: int
    notes: dict[str, Any]

    def find(self, metric: str, human: str, level: str, method: str, systems: str = "generators") -> Correlation | None:
        """One correlation; `None` where the metric has no value at that level."""
        key = (metric, human, level, systems, method)
        for entry in self.correlations:
            if (
                entry.metric,
                entry.human,
                entry.level,
                entry.systems,
                entry.method,
            ) == key:
                return entry
        return None

    @property
    def human(self) -> list[str]:
        """Names of the people's scores."""
        return list(dict.fromkeys(correlation.human for correlation in self.correlations))

    def ranking(self, human: str) -> list[str]:
        """Metrics by rank agreement with people over generators (Kendall's tau by system), best first.

        The sign of a metric that is better when lower is turned. Ties go by Spearman's correlation by response.
        """

        def worth(metric: str) -> tuple[float, float]:
            sign = -1 if metric in LOWER_IS_BETTER else 1
            pair = [self.find(metric, human, "system", "kendall"), self.find(metric, human, "response", "spearman")]
            values = [-2.0 if entry is None or math.isnan(entry.value) else sign * entry.value for entry in pair]
            return -values[0], -values[1]

        metrics = dict.fromkeys(entry.metric for entry in self.correlations if entry.human == human)
        return sorted(metrics, key=worth)

    def leading(self, human: str) -> list[str]:
        """Metrics that a page of results may lead with, best first.

        Those whose intervals lie above 0 (below, where lower is better) at both levels: Kendall's tau by system and
        Spearman's correlation by response. A metric of whole sets of responses has no value by response, and does
        not lead.
        """
        chosen = []
        for metric in self.ranking(human):
            pair = [self.find(metric, human, "system", "kendall"), self.find(metric, human, "response", "spearman")]
            if metric in LOWER_IS_BETTER:
                clear = all(entry is not None and entry.high < 0 for entry in pair)
            else:
                clear = all(entry is not None and entry.low > 0 for entry in pair)
            chosen += [metric] if clear else []
        return chosen

    def to_dict(self) -> dict[str, Any]:
        """For JSON, see `write_report`."""
        return {
            "contexts": self.contexts, "drawn_from_references": self.drawn, "notes": self.notes,
            "leading": {human: self.leading(human) for human in self.human}, "systems": self.values,
            "correlations": [asdict(correlation) for correlation in self.correlations],
        }  # fmt: skip

    def to_markdown(self) -> str:
        """A table per people's score, the metric that ranks generators most as people do first."""
        generators = len(self.values) - len(self.drawn)
        lines = [
            "# Metrics against people", "",
            f"{self.contexts} contexts, {generators} generators"
            + (f", and {', '.join(self.drawn)}, who draw from the references" if self.drawn else "")
            + ". In parentheses 95 % intervals, by bootstrap over contexts (by response) and over systems (by "
            "system). Ordered by Kendall's tau by system.",
        ]  # fmt: skip
        for human in self.human:
            lead = self.leading(human)
            lines += ["", f"## {human}", ""]
            lines += [
                f"Both intervals lie above 0 (below, where lower is better) for {', '.join(lead)}."
                if lead
                else "No metric has both intervals above 0."
            ]
            lines += ["", *self.table(human)]
        return "\n".join(lines) + "\n"

    def table(self, human: str) -> list[str]:
        """Lines of the table of one people's score."""
        columns = [
            ("response", "spearman", "generators", "by response: Spearman", True),
            ("response", "pearson", "generators", "Pearson", False),
            ("response", "kendall", "generators", "Kendall", False),
            ("system", "kendall", "generators", "by system: Kendall", True),
            ("system", "spearman", "generators", "Spearman", False),
            ("system", "pearson", "generators", "Pearson", False),
        ]
        if self.drawn:
            columns.append(("system", "kendall", "all", f"Kendall with {', '.join(self.drawn)}", False))
        rows = []
        for metric in self.ranking(human):
            cells = [
                _cell(self.find(metric, human, level, method, systems), with_ends)
                for level, method, systems, _, with_ends in columns
            ]
            rows.append([metric, *cells])
        return markdown_table(["metric", *(heading for *_, heading, _ in columns)], rows, "<>")

    def write(self, folder: str | Path, plots: bool = True) -> list[Path]:
        """Writes `metrics_against_people.json`, `.md` and, with matplotlib, `.png`."""
        files = write_report(folder, FILES[:2], self.to_dict(), self.to_markdown())
        if plots:
            files.append(Path(folder) / FILES[2])
            self.plot(files[-1])
        return files

    def plot(self, path: str | Path, human: str | None = None):
        """A panel per level: every metric's correlation with one people's score, with its interval.

        Args:
            path: where the picture goes.
            human: name of the score; the first without.
        """
        human = self.human[0] if human is None else human
        metrics = self.ranking(human)[::-1]
        figure, axes = new_figure(columns=2)
        figure.set_size_inches(11, 1.2 + 0.26 * len(metrics))
        panels = (("response", "spearman", "Spearman, by response"), ("system", "kendall", "Kendall, by system"))
        for axis, (level, method, title) in zip(axes, panels, strict=True):
            for height, metric in enumerate(metrics):
                correlation = self.find(metric, human, level, method)
                if correlation is None or math.isnan(correlation.value):
                    continue
                axis.plot(correlation.value, height, "o", color="C0")
                if not math.isnan(correlation.low):
                    axis.plot([correlation.low, correlation.high], [height, height], color="C0")
            axis.axvline(0, color="grey", linewidth=0.8)
            axis.set_yticks(range(len(metrics)), metrics if level == "response" else [])
            axis.set_ylim(-0.7, len(metrics) - 0.3)
            axis.set_xlabel(f"{title}, with {human}")
            axis.grid(alpha=0.3)
        save_figure(figure, path)


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


def correlate_metrics(
    judged: JudgedResponses,
    *,
    vectors: Vectors | None = None,
    tokenization: str = "words",
    lowercase: bool = True,
    drawn: Sequence[str] | None = None,
    resamples: int = 200,
    seed: int = 0,
) -> MetricWorth:
    """Scores every response and every system by all metrics of responses, and correlates them with people's scores.

    By response: BLEU of the sentence, the smallest word error rate over the references, length, the response's own
    distinct bigrams, and with vectors the embedding scores, local coverage and precision. By system: the value that
    `score_responses` gives the whole set, Dist-n and Ent-n too, and people's mean. Every set has the same contexts.

    Some systems draw their responses from the references, such as people beside machines: there the reference that
    is the response itself is left out, and contexts with no other reference are dropped for all systems. The other
    systems are the generators.

    Args:
        judged: responses and scores.
        vectors: word vectors, for the embedding scores.
        tokenization: how the metrics cut texts, as in `metric_tokens`.
        lowercase: whether the metrics ignore case.
        drawn: systems that draw from the references; without, those of which at least half of the responses stand
            there.
        resamples: bootstrap samples behind every interval.
        seed: seed of the bootstrap.

    Raises:
        ValueError: for fewer than three generators, an unknown system in `drawn`, or where no context is left.
    """
    unknown = next((name for name in drawn or () if name not in judged.systems), None)
    if unknown is not None:
        raise ValueError(f"`drawn` must be among {', '.join(judged.systems)}, got {unknown!r}.")
    drawn = _drawn_systems(judged) if drawn is None else list(drawn)
    if len(judged.systems) - len(drawn) < 3:
        besides = f" besides {', '.join(drawn)}, who draw from the references" if drawn else ""
        raise ValueError(
            f"A correlation over systems needs at least 3, got {len(judged.systems) - len(drawn)}{besides}. If one of "
            "these is a generator, name those that are none."
        )
    references = _own_references_left_out(judged, drawn)
    kept = [index for index in range(len(judged.contexts)) if all(contexts[index] for contexts in references)]
    if not kept:
        raise ValueError("No context has a reference besides the judged responses themselves.")
    words = WordTable.of(vectors) if vectors is not None else None
    radius = _radius(judged, kept, words, tokenization, lowercase)
    response_scores: dict[str, list[np.ndarray]] = {}
    system_scores: dict[str, list[float]] = {}
    for responses, contexts in zip(judged.responses, references, strict=True):
        answers = [responses[index] for index in kept]
        referred = [contexts[index] for index in kept]
        report = score_responses(
            answers, referred, vectors=words, radius=radius, tokenization=tokenization, lowercase=lowercase,
            resamples=0,
        )  # fmt: skip
        own = {**report.per_query, **_sentence_scores(answers, referred, tokenization, lowercase)}
        whole = {name: score.value for name, score in report.scores.items()}
        whole["word_error_rate_min"] = float(own["word_error_rate_min"].mean())
        for name, scores in own.items():
            response_scores.setdefault(name, []).append(scores)
        for name, value in whole.items():
            system_scores.setdefault(name, []).append(value)
    human = {name: scores[:, kept] for name, scores in judged.human.items()}
    generators = [index for index, name in enumerate(judged.systems) if name not in drawn]
    correlations = []
    for name, people in human.items():
        for metric, rows in response_scores.items():
            measured = _correlate_responses(np.stack(rows)[generators], people[generators], resamples, seed)
            correlations += [Correlation(metric, name, "response", "generators", *numbers) for numbers in measured]
        sets = {"generators": generators, **({"all": list(range(len(judged.systems)))} if drawn else {})}
        for set_name, members in sets.items():
            means = people[members].mean(axis=1)
            for metric, totals in system_scores.items():
                measured = _correlate_systems(np.array(totals)[members], means, resamples, seed)
                correlations += [Correlation(metric, name, "system", set_name, *numbers) for numbers in measured]
    values = {
        system: {
            **{name: float(people[index].mean()) for name, people in human.items()},
            **{metric: float(totals[index]) for metric, totals in system_scores.items()},
        }
        for index, system in enumerate(judged.systems)
    }
    left_out = {**judged.left_out, "with no reference but the judged response": len(judged.contexts) - len(kept)}
    notes = {
        "tokenization": tokenization, "lowercase": lowercase, "resamples": resamples, "seed": seed,
        "vectors": None if words is None else words.name, "contexts_left_out": left_out,
    }  # fmt: skip
    return MetricWorth(correlations, values, drawn, len(kept), notes)


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


def _drawn_systems(judged: JudgedResponses) -> list[str]:
    """Systems of which `DRAWN_SHARE` of the responses stand among the references, letter by letter."""
    letters = [{_letters(reference) for reference in references} for references in judged.references]

    def share(answers: list[str]) -> float:
        return float(
            np.mean([_letters(answer) in references for answer, references in zip(answers, letters, strict=True)])
        )

    return [
        name for name, answers in zip(judged.systems, judged.responses, strict=True) if share(answers) >= DRAWN_SHARE
    ]


def _own_references_left_out(judged: JudgedResponses, drawn: Sequence[str]) -> list[list[list[str]]]:
    """The references of each system; for one in `drawn` without those that are the response itself, or nearly."""
    from rapidfuzz import fuzz

    def without_own(answer: str, references: list[str]) -> list[str]:
        own = _letters(answer)
        return [reference for reference in references if fuzz.ratio(own, _letters(reference)) < ALIKE]

    return [
        [without_own(answer, references) for answer, references in zip(answers, judged.references, strict=True)]
        if name in drawn
        else judged.references
        for name, answers in zip(judged.systems, judged.responses, strict=True)
    ]


def _letters(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())


def _radius(
    judged: JudgedResponses, kept: list[int], words: WordTable | None, tokenization: str, lowercase: bool
) -> float | None:
    if words is None:
        return None
    vectors = [
        utterance_vectors([metric_tokens(text, tokenization, lowercase) for text in judged.references[index]], words)
        for index in kept
    ]
    return reference_radius(vectors) if any(len(rows) > 1 for rows in vectors) else None


def _sentence_scores(
    answers: list[str], references: list[list[str]], tokenization: str, lowercase: bool
) -> dict[str, np.ndarray]:
    def cut(text: str) -> str:
        return " ".join(metric_tokens(text, tokenization, lowercase))

    texts = [cut(text) for text in answers]
    referred = [[cut(text) for text in context] for context in references]
    scores = {f"bleu_{order}": sentence_bleu(texts, referred, tokenize="none", max_order=order) for order in (2, 4)}
    owners = np.repeat(np.arange(len(texts)), [len(context) for context in referred])
    rates = word_error_rate([texts[owner] for owner in owners], [text for context in referred for text in context])
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    scores["word_error_rate_min"] = np.minimum.reduceat(rates.edits / np.maximum(rates.reference_tokens, 1), starts)
    return scores


def _correlate_responses(metric: np.ndarray, human: np.ndarray, resamples: int, seed: int) -> list[tuple]:
    """Method, value, interval and count; arguments of shape `(systems, contexts)`. Whole contexts are drawn."""
    contexts = metric.shape[1]
    value = _correlations(metric.ravel(), human.ravel())
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        indices = rng.integers(contexts, size=contexts)
        drawn.append(_correlations(metric[:, indices].ravel(), human[:, indices].ravel()))
    return _interval_rows(value, np.array(drawn), int((~np.isnan(metric)).sum()))


def _correlate_systems(metric: np.ndarray, human: np.ndarray, resamples: int, seed: int) -> list[tuple]:
    """As `_correlate_responses` for one value per system. Draws with fewer than three systems are left out."""
    systems = len(metric)
    value = _correlations(metric, human)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(systems, size=(10 * resamples, systems))  # cheap, and the ends are ragged with fewer
    drawn = drawn[[len(np.unique(draw)) > 2 for draw in drawn]]
    return _interval_rows(value, _correlate_rows(metric[drawn], human[drawn]), systems)


def _correlate_rows(metric: np.ndarray, human: np.ndarray) -> np.ndarray:
    """As `_correlations` of each row on its own, all at once; arguments `(draws, systems)`, result `(draws, 3)`.

    Each coefficient is the cosine of two vectors: of deviations from the mean, of those of the ranks, and, for tau-b,
    of the signs of all differences between two systems.
    """
    from scipy.stats import rankdata

    def cosine(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):  # a constant row has no correlation
            return (left * right).sum(axis=1) / np.sqrt((left**2).sum(axis=1) * (right**2).sum(axis=1))

    def centred(values: np.ndarray) -> np.ndarray:
        deviations = values - values.mean(axis=1, keepdims=True)
        return np.where(np.ptp(values, axis=1, keepdims=True) > 0, deviations, 0.0)

    def signs(values: np.ndarray) -> np.ndarray:
        return np.sign(values[:, :, None] - values[:, None, :]).reshape(len(values), -1)

    forms = (centred, lambda values: centred(rankdata(values, axis=1)), signs)
    return np.stack([cosine(form(metric), form(human)) for form in forms], axis=1)


def _interval_rows(value: np.ndarray, drawn: np.ndarray, count: int) -> list[tuple]:
    ends = np.full((2, len(METHODS)), np.nan)
    if len(drawn):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a constant metric has no interval
            ends = np.nanquantile(drawn, [0.025, 0.975], axis=0)
    return [
        (method, float(value[index]), float(ends[0, index]), float(ends[1, index]), count)
        for index, method in enumerate(METHODS)
    ]


def _correlations(metric: np.ndarray, human: np.ndarray) -> np.ndarray:
    """Pearson, Spearman and Kendall's tau-b; NaN where either side is constant. Rows without a value are left out."""
    from scipy.stats import kendalltau, pearsonr, spearmanr

    known = ~np.isnan(metric)
    metric, human = metric[known], human[known]
    if len(metric) < 2 or np.ptp(metric) == 0 or np.ptp(human) == 0:
        return np.full(len(METHODS), np.nan)
    return np.array([function(metric, human).statistic for function in (pearsonr, spearmanr, kendalltau)])


def _cell(entry: Correlation | None, with_ends: bool) -> str:
    if entry is None or math.isnan(entry.value):
        return ""
    ends = (entry.low, entry.high) if with_ends and not math.isnan(entry.low) else ()
    return with_range(f"{entry.value:.2f}", *(f"{end:.2f}" for end in ends))
