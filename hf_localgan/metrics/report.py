"""Every score of a set of generations in one call, with intervals and signatures, and the references' own scores."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from hf_localgan.markdown import markdown_table
from hf_localgan.metrics import diversity, embedding, intervals
from hf_localgan.metrics.checks import (
    require_count,
    require_equal_lengths,
    require_level,
    require_reference_lists,
    require_texts,
    require_vectors,
    warn_of_script,
)
from hf_localgan.metrics.embedding import Vectors, WordTable, utterance_vectors
from hf_localgan.metrics.intervals import Interval
from hf_localgan.metrics.locality import local_coverage, reference_radius
from hf_localgan.metrics.overlap import BleuStatistics, bleu
from hf_localgan.metrics.radius import radius_distance
from hf_localgan.metrics.signature import Signature, references_setting
from hf_localgan.metrics.tokens import metric_tokens

Tokens = Sequence[str]
DIVERSITY = {  # name: (n-gram order, 0 for whole responses; which statistic)
    "dist_1": (1, "distinct"),
    "dist_2": (2, "distinct"),
    "ent_4": (4, "entropy"),
    "distinct_responses": (0, "distinct"),
}


class LocalRadii(NamedTuple):
    """How far answers lie from the centres of their queries' responses, for each query.

    Attributes:
        references: radii of its references, nats, shape `(references,)`; NaN where no word has a vector.
        generations: radii of its generations, shape `(samples,)`; not read where references are scored.
        energy: name of the energy that measured them.
    """

    references: Sequence[np.ndarray]
    generations: Sequence[np.ndarray]
    energy: str


@dataclass(frozen=True)
class Score:
    """One metric's value with its interval, and the signature that says how it was computed."""

    interval: Interval
    signature: str

    @property
    def value(self) -> float:
        return self.interval.value


@dataclass
class ScoreReport:
    """The scores of one system.

    Attributes:
        scores: by name. `dist_1`, `dist_2`, `ent_4` (nats), `distinct_responses`, `mean_dist_2`, `mean_length`; with
            references `bleu_2`, `bleu_4` (0 to 100); with vectors too `average_first`, `average_mean`, `average_max`,
            likewise `greedy`, `extrema`, `relevance`, and, where queries have several references, `local_coverage`
            and `local_precision`; with radii `radius_distance` (nats).
        queries: number of queries.
        notes: facts about the scoring that are no scores, such as the share of tokens with a vector.
        per_query: the values whose means some scores are, shape `(queries,)`, NaN where a query has none.
        tokens: the generations' tokens.
        bleu_statistics: per query; rows of zeros for queries without references.
        query_texts: the queries, where they were given.
    """

    scores: dict[str, Score]
    queries: int
    notes: dict[str, Any] = field(default_factory=dict)
    per_query: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    tokens: list[Tokens] = field(default_factory=list, repr=False)
    bleu_statistics: BleuStatistics | None = field(default=None, repr=False)
    query_texts: list[str] | None = field(default=None, repr=False)

    def __getitem__(self, name: str) -> Score:
        if name not in self.scores:
            raise KeyError(f"No score {name!r} in this report, which has {', '.join(self.scores)}.")
        return self.scores[name]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: `queries`, `notes`, and under `scores` each value, interval and signature; NaN becomes `None`."""
        scores = {
            name: {**_without_nan(vars(score.interval)), "signature": score.signature}
            for name, score in self.scores.items()
        }
        return {"queries": self.queries, "notes": _without_nan(self.notes), "scores": scores}

    def to_markdown(self) -> str:
        """A table of value, interval and signature."""
        rows = []
        for name, score in self.scores.items():
            low, high = score.interval.low, score.interval.high
            interval = "" if math.isnan(low) else f"{low:.4g} to {high:.4g} ({score.interval.level:.0%})"
            rows.append((name, f"{score.value:.4g}", interval, score.signature))
        return "\n".join(markdown_table(("metric", "value", "interval", "signature"), rows, "<><")) + "\n"


def score_responses(
    generations: Sequence[str],
    references: Sequence[Sequence[str]] | None = None,
    *,
    queries: Sequence[str] | None = None,
    samples: Sequence[Sequence[str]] | None = None,
    vectors: Vectors | None = None,
    radius: float | None = None,
    radii: LocalRadii | None = None,
    tokenization: str = "words",
    lowercase: bool = True,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> ScoreReport:
    """Scores one generation per query by every metric that the arguments allow.

    Args:
        generations: one per query; strings, or lists of tokens with `tokenization="none"`.
        references: for each query at least one. Without, only diversity is scored.
        queries: the queries themselves, kept so that `compare_systems` can check that two systems answered the same.
        samples: for each query several generations, for local coverage; without, `generations` stand for one each.
        vectors: word vectors, for the embedding scores and local coverage.
        radius: radius of local coverage; by default `reference_radius` of these references.
        radii: those of an energy, for the Wasserstein distance between references and samples.
        tokenization: as in `metric_tokens`, for all metrics. BLEU gets these tokens with sacrebleu's tokenizer `none`.
        lowercase: lower-case everything first.
        resamples: number of bootstrap samples; 0 leaves its intervals out.
        level: nominal coverage of the intervals.
        seed: seed of the bootstrap.

    Raises:
        ValueError: for unequal numbers of queries, no query at all, or a query without references.
    """
    require_texts("generations", generations)
    _check_space(vectors, radius)
    for name, values in (("queries", queries), ("samples", samples)):
        if values is not None:
            require_texts(name, values)
    if references is not None:
        require_equal_lengths(generations=generations, references=references)
        require_reference_lists(references)
    for index, texts in enumerate(() if samples is None else samples):
        require_texts(f"samples[{index}]", texts)
    for name, other in (("queries", queries), ("samples", samples)):
        if other is not None:
            require_equal_lengths(**{"generations": generations, name: other})
    scorer = _Scorer(tokenization, lowercase, resamples, level, seed)
    scorer.check_script([*generations, *(text for texts in references or () for text in texts)])
    tokens = scorer.tokens(generations)
    report = scorer.diversity(tokens)
    report.query_texts = list(queries) if queries is not None else None
    if references is not None:
        referred = [scorer.tokens(texts) for texts in references]
        sampled = (
            [[generation] for generation in tokens] if samples is None else [scorer.tokens(texts) for texts in samples]
        )
        scorer.overlap(report, tokens, referred)
        if vectors is not None:
            scorer.relevance(report, tokens, referred, sampled, WordTable.of(vectors), radius)
    if radii is not None:
        require_equal_lengths(generations=generations, radii=radii.references)
        scorer.radii(report, radii)
    return report


def score_references(
    references: Sequence[Sequence[str]],
    *,
    vectors: Vectors | None = None,
    radius: float | None = None,
    radii: LocalRadii | None = None,
    **settings: Any,
) -> ScoreReport:
    """The references' own scores: what a system would reach that answers like one more person.

    Of each query's references one is drawn with the seed to stand as the generation, and scored against the others.
    Queries with one reference count for diversity only; where all are such, diversity is all there is. A system scored
    against all references has one more to match than the references have here, which favours the system's maxima.

    Args:
        references: for each query at least one.
        vectors: as in `score_responses`.
        radius: as there; the default is the radius of the full sets of references, the same as a system's.
        radii: the references' radii; the one that is drawn is compared with the others.
        settings: `tokenization`, `lowercase`, `resamples`, `level` and `seed` of `score_responses`.
    """
    require_reference_lists(references)
    _check_space(vectors, radius)
    known = [field.name for field in fields(_Scorer)]
    if unknown := [name for name in settings if name not in known]:
        raise TypeError(f"There is no setting `{unknown[0]}`. Settings are {', '.join(known)}.")
    seed = settings.get("seed", 0)
    require_count("seed", seed, least=0)
    rng = np.random.default_rng(seed)
    chosen = [int(rng.integers(len(texts))) for texts in references]
    generations = [texts[index] for texts, index in zip(references, chosen, strict=True)]
    others = [[*texts[:index], *texts[index + 1 :]] for texts, index in zip(references, chosen, strict=True)]

    scorer = _Scorer(
        **{"tokenization": "words", "lowercase": True, "resamples": 1000, "level": 0.95, "seed": 0, **settings}
    )
    scorer.check_script([text for texts in references for text in texts])
    tokens = scorer.tokens(generations)
    report = scorer.diversity(tokens)
    report.notes["references"] = f"one reference per query, drawn with seed {seed}, against the others"
    remaining = [scorer.tokens(texts) for texts in others]
    if any(remaining):
        scorer.overlap(report, tokens, remaining)
        if vectors is not None:
            words = WordTable.of(vectors)
            if radius is None:
                radius = reference_radius([utterance_vectors(scorer.tokens(texts), words) for texts in references])
            scorer.relevance(report, tokens, remaining, [[generation] for generation in tokens], words, radius)
    if radii is not None:
        require_equal_lengths(references=references, radii=radii.references)
        drawn = list(zip(map(np.asarray, radii.references), chosen, strict=True))
        own = [values[index : index + 1] for values, index in drawn]
        scorer.radii(report, LocalRadii([np.delete(values, index) for values, index in drawn], own, radii.energy))
    return report


def _check_space(vectors: Vectors | None, radius: float | None) -> None:
    if vectors is not None:
        require_vectors(vectors)
    if radius is not None and (not isinstance(radius, Real) or not radius >= 0):
        raise ValueError(f"`radius` must be a number of at least 0, got {radius!r}.")


@dataclass(frozen=True)
class _Scorer:
    """The settings shared by all metrics of one report, and one method per family of metrics."""

    tokenization: str
    lowercase: bool
    resamples: int
    level: float
    seed: int

    def __post_init__(self):
        require_level(self.level)
        require_count("resamples", self.resamples, least=0)
        require_count("seed", self.seed, least=0)

    def check_script(self, texts: Sequence[str]) -> None:
        if self.tokenization == "none" or not all(isinstance(text, str) for text in texts):
            return  # what is no text is refused where it is cut
        warn_of_script(self.tokenization, texts, 'Choose tokenization="characters", or "jieba" for Chinese.')

    def tokens(self, texts: Sequence[str]) -> list[Tokens]:
        return [metric_tokens(text, self.tokenization, self.lowercase) for text in texts]

    def signature(self, metric: str, count: int, **settings: Any) -> str:
        case = "lower" if self.lowercase else "mixed"
        before = {"n": settings.pop("n")} if "n" in settings else {}
        return str(Signature(metric, {**before, "tok": self.tokenization, "case": case, **settings, "N": count}))

    def mean(self, report: ScoreReport, name: str, values: np.ndarray, metric: str, **settings: Any) -> None:
        """Enters the mean over queries with its bootstrap interval; NaN values are left out and not counted in N."""
        report.per_query[name] = values
        interval = intervals.bootstrap_interval(values, resamples=self.resamples, level=self.level, seed=self.seed)
        signature = self.signature(metric, int((~np.isnan(values)).sum()), **settings)
        report.scores[name] = Score(interval, signature)

    def diversity(self, tokens: list[Tokens]) -> ScoreReport:
        if not tokens:
            raise ValueError("`generations` is empty: there is nothing to score.")
        report = ScoreReport({}, len(tokens), tokens=tokens)
        for name, (n, statistic) in DIVERSITY.items():
            table = diversity.NgramCounts(tokens, n) if n else diversity.NgramCounts.of_responses(tokens)
            value, left_out = getattr(table, statistic)(), getattr(table, f"leave_one_out_{statistic}")()
            bounds = (0.0, math.inf if statistic == "entropy" else 1.0)
            interval = intervals.jackknife_interval(value, left_out, level=self.level, bounds=bounds)
            order = {"n": n} if n else {"unit": "response"}
            log = {"log": "e"} if statistic == "entropy" else {}
            report.scores[name] = Score(interval, self.signature(statistic, len(tokens), **order, **log))
        self.mean(report, "mean_dist_2", diversity.response_distinct_n(tokens, 2), "mean_distinct", n=2)
        lengths = np.array([len(generation) for generation in tokens], dtype=float)
        self.mean(report, "mean_length", lengths, "mean_length")
        return report

    def overlap(self, report: ScoreReport, tokens: list[Tokens], references: list[list[Tokens]]) -> None:
        scored = [index for index, utterances in enumerate(references) if utterances]
        texts = [" ".join(tokens[index]) for index in scored]
        referred = [[" ".join(reference) for reference in references[index]] for index in scored]
        result = bleu(texts, referred, tokenize="none")
        report.bleu_statistics = result.statistics.spread(np.array(scored), len(tokens))
        for order in (2, 4):
            statistic = partial(result.statistics.score, max_order=order)
            interval = intervals.bootstrap_statistic(statistic, len(scored), self.resamples, self.level, self.seed)
            signature = self.signature(f"bleu-{order}", len(scored), refs=references_setting(referred))
            signature += f"|sacrebleu|{result.signature}"
            report.scores[f"bleu_{order}"] = Score(interval, signature)

    def relevance(
        self,
        report: ScoreReport,
        tokens: list[Tokens],
        references: list[list[Tokens]],
        samples: list[list[Tokens]],
        words: WordTable,
        radius: float | None,
    ) -> None:
        scored = np.flatnonzero([len(utterances) > 0 for utterances in references])
        refs = references_setting([references[index] for index in scored])
        values = embedding.embedding_scores(
            [tokens[index] for index in scored], [references[index] for index in scored], words
        )
        for name, measured in values.items():
            metric, pool = name.rsplit("_", 1)
            spread = np.full(len(tokens), np.nan)
            spread[scored] = measured
            self.mean(report, name, spread, f"embedding-{metric}", refs=refs, pool=pool, vectors=words.name)
        report.notes["vector_coverage_generations"] = embedding.vector_coverage(tokens, words)
        report.notes["vector_coverage_references"] = embedding.vector_coverage(
            [reference for utterances in references for reference in utterances], words
        )
        self.locality(report, references, samples, words, radius)

    def locality(
        self,
        report: ScoreReport,
        references: list[list[Tokens]],
        samples: list[list[Tokens]],
        words: WordTable,
        radius: float | None,
    ) -> None:
        """Local coverage among mean word vectors; nothing where no query has two references."""
        reference_vectors = [utterance_vectors(utterances, words) for utterances in references]
        chosen = "given" if radius is not None else "median-nearest-reference"
        radius = reference_radius(reference_vectors) if radius is None else radius
        if not any(len(utterances) > 1 for utterances in reference_vectors):
            return
        result = local_coverage(
            reference_vectors, [utterance_vectors(utterances, words) for utterances in samples], radius
        )
        several = references_setting([utterances for utterances in reference_vectors if len(utterances) > 1])
        settings = dict(refs=several, samples=references_setting(samples), radius=float(radius), chosen=chosen)
        settings["vectors"] = words.name
        self.mean(report, "local_coverage", result.per_query_coverage, "local-coverage", **settings)
        self.mean(report, "local_precision", result.per_query_precision, "local-precision", **settings)

    def radii(self, report: ScoreReport, radii: LocalRadii) -> None:
        """Wasserstein distance of radii; nothing where no query has both references and generations."""
        distances = radius_distance(radii.references, radii.generations)
        if np.isnan(distances).all():
            return
        # What was asked for, whatever came of it: a system whose answers lack a radius here and there can be compared.
        counts = [int((~np.isnan(side)).sum()) for side in radii.references]
        refs = references_setting([range(count) for count in counts if count])
        samples = references_setting([range(len(side)) for side in radii.generations])
        settings = dict(refs=refs, samples=samples, energy=radii.energy)
        self.mean(report, "radius_distance", distances, "radius-wasserstein", **settings)


def _without_nan(values: dict[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in values.items()}
