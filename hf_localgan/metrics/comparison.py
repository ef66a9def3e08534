"""Two systems that answered the same queries: differences with paired p values, metric by metric."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from hf_localgan.functional.rounding import rounding_bound
from hf_localgan.markdown import markdown_table
from hf_localgan.metrics.checks import require_equal_lengths, require_level
from hf_localgan.metrics.diversity import NgramCounts
from hf_localgan.metrics.intervals import PairedTest, paired_permutation_test, swap_test
from hf_localgan.metrics.overlap import BleuStatistics
from hf_localgan.metrics.report import DIVERSITY, ScoreReport, score_responses


@dataclass(frozen=True)
class ComparisonRow:
    """One metric: both systems' values, and the paired permutation test of their difference."""

    metric: str
    a: float
    b: float
    test: PairedTest
    signature: str


@dataclass(frozen=True)
class Comparison:
    """A table of paired tests. The p values are not corrected for the number of rows."""

    rows: dict[str, ComparisonRow]
    queries: int

    def __getitem__(self, name: str) -> ComparisonRow:
        return self.rows[name]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        rows = {
            name: {"a": row.a, "b": row.b, **row.test._asdict(), "signature": row.signature}
            for name, row in self.rows.items()
        }
        return {"queries": self.queries, "test": "paired permutation, two-sided", "rows": rows}

    def to_markdown(self, names: tuple[str, str] = ("A", "B")) -> str:
        """A table of both values, the difference and the p value."""
        rows = [
            (name, f"{row.a:.4g}", f"{row.b:.4g}", f"{row.test.difference:+.4g}", f"{row.test.p_value:.4f}")
            for name, row in self.rows.items()
        ]
        return "\n".join(markdown_table(("metric", *names, "difference", "p"), rows, "<>")) + "\n"


def compare_systems(
    a: ScoreReport | Sequence[str],
    b: ScoreReport | Sequence[str],
    references: Sequence[Sequence[str]] | None = None,
    *,
    metrics: Sequence[str] | None = None,
    permutations: int = 1000,
    seed: int = 0,
    **settings: Any,
) -> Comparison:
    """Tests, for every score that both systems have, whether they differ: swaps their answers query by query.

    Args:
        a: the first system's report, or its generations.
        b: the second's, for the same queries in the same order.
        references: for generations, as in `score_responses`; reports carry what they need.
        metrics: which scores to test; all without. With `score_references` on one side, where the number of references
            differs, name those that need no references.
        permutations: random swaps; p values are at least `1 / (1 + permutations)`.
        seed: seed of the swaps.
        settings: for generations, further arguments of `score_responses`.

    Raises:
        ValueError: for different numbers of queries, different queries where both reports carry them, or a score
            computed under different settings: the message shows both signatures.
    """
    if not isinstance(a, ScoreReport):
        a = score_responses(a, references, **{"resamples": 0, **settings})
    if not isinstance(b, ScoreReport):
        b = score_responses(b, references, **{"resamples": 0, **settings})
    n = require_equal_lengths(a=a.tokens, b=b.tokens)
    if a.query_texts is not None and b.query_texts is not None and a.query_texts != b.query_texts:
        first = next(i for i in range(n) if a.query_texts[i] != b.query_texts[i])
        raise ValueError(
            f"The systems answered different queries: at {first} {a.query_texts[first]!r} and {b.query_texts[first]!r}."
        )
    if isinstance(metrics, str):
        metrics = [metrics]
    for name in () if metrics is None else metrics:
        if name not in a.scores or name not in b.scores:
            both = ", ".join(name for name in a.scores if name in b.scores)
            raise KeyError(f"No score {name!r} in both reports, which share {both}.")
    rows = {}
    for name in [name for name in a.scores if name in b.scores] if metrics is None else metrics:
        # N may differ where a metric leaves out answers that it is not defined for.
        left, right = (_without_count(report[name].signature) for report in (a, b))
        if left != right:
            raise ValueError(
                f"`{name}` was computed differently: {left} and {right}. Score both with one setting, or name other "
                "scores in `metrics`."
            )
        test = swap_test(_difference(name, a, b), n, permutations, seed)
        rows[name] = ComparisonRow(name, a[name].value, b[name].value, test, a[name].signature)
    return Comparison(rows, n)


class BootstrapTest(NamedTuple):
    """`difference` is the second system's score less the first's; `p_value` is two-sided."""

    difference: float
    low: float
    high: float
    p_value: float
    resamples: int
    seed: int


def bleu_difference(
    first: Sequence[BleuStatistics],
    second: Sequence[BleuStatistics],
    *,
    redraw_runs: bool = False,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> BootstrapTest:
    """Paired bootstrap of corpus BLEU (Koehn 2004): the second system's mean over its runs less the first's.

    Each resample draws sentences with replacement, the same for all runs. So the interval is about other sentences of
    the kind, translated by these very runs; with `redraw_runs` the runs of either side are drawn anew, too, and the
    interval is also about other seeds. With two or three runs of each that is a rough guess, and rather too narrow.

    Args:
        first: statistics of each run (one seed each) of the first system.
        second: likewise, for the same sentences in the same order; the number of runs may differ.
        resamples: number of bootstrap samples; p values are at least `2 / (1 + resamples)`.
        level: nominal coverage of the percentile interval.
        seed: seed of the resampling.

    Returns:
        The p value is twice the smaller share of resamples on either side of 0, which agrees with the interval.

    Raises:
        ValueError: for no run, or different numbers of sentences.
    """
    runs = [*first, *second]
    _check_runs(first, second)
    n = len(runs[0].lengths)
    for run in runs:
        require_equal_lengths(first=runs[0].lengths, other=run.lengths)

    def difference(sentences: np.ndarray | None, drawn: tuple[np.ndarray, np.ndarray]) -> float:
        means = []
        for system, numbers in zip((first, second), drawn, strict=True):
            scores = {run: system[run].score(sentences) for run in set(numbers.tolist())}
            means.append(sum(scores[run] for run in numbers.tolist()) / len(system))
        return means[1] - means[0]

    equal = rounding_bound(100.0, roundings=8 + len(runs))  # means over runs are added up in another order
    settings: Any = {"redraw_runs": redraw_runs, "resamples": resamples, "level": level, "seed": seed}
    return _bootstrap_test(difference, n, (len(first), len(second)), equal, **settings)


def error_rate_difference(
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
    reference_tokens: np.ndarray,
    *,
    relative: bool = False,
    redraw_runs: bool = False,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> BootstrapTest:
    """Paired bootstrap of an error rate: the second system's mean over its runs less the first's.

    As `bleu_difference`, over utterances, and with `redraw_runs` over runs, too.

    Args:
        first: edits of each utterance in each run (one seed each) of the first system, shape `(utterances,)`.
        second: likewise, for the same utterances in the same order; the number of runs may differ.
        reference_tokens: tokens of each reference, shape `(utterances,)`.
        relative: give the difference in per cent of the first system's errors, instead of in points of the rate. Where
            a resample holds no error of the first system, there is no interval.
        redraw_runs, resamples, level, seed: as in `bleu_difference`. The same seed makes the same resamples for both
            forms of the difference.

    Raises:
        ValueError: for no run, different numbers of utterances, and references without tokens.
    """
    _check_runs(first, second)
    tokens = np.asarray(reference_tokens, dtype=float)
    for run in (*first, *second):
        require_equal_lengths(edits=run, reference_tokens=tokens)
    if not tokens.sum() > 0:
        raise ValueError("All references are empty: an error rate counts edits per reference token, and has none.")
    sides = [np.asarray(runs, dtype=float) for runs in (first, second)]  # (runs, utterances)

    def difference(utterances: np.ndarray | None, drawn: tuple[np.ndarray, np.ndarray]) -> float:
        chosen = slice(None) if utterances is None else utterances
        before, after = (
            float(edits[numbers][:, chosen].sum(axis=1).mean()) for edits, numbers in zip(sides, drawn, strict=True)
        )
        if relative:
            return 100 * (after / before - 1) if before else math.nan
        return 100 * (after - before) / max(float(tokens[chosen].sum()), 1.0)

    settings: Any = {"redraw_runs": redraw_runs, "resamples": resamples, "level": level, "seed": seed}
    equal = rounding_bound(100.0, roundings=8 + len(first) + len(second))
    return _bootstrap_test(difference, len(tokens), (len(first), len(second)), equal, **settings)


def error_rate_permutation(
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
    reference_tokens: np.ndarray,
    *,
    permutations: int = 1000,
    seed: int = 0,
) -> PairedTest:
    """Paired permutation test of an error rate: swaps two systems utterance by utterance, each with its mean edits.

    Args:
        first, second, reference_tokens: as in `error_rate_difference`.
        permutations: random swaps; p values are at least `1 / (1 + permutations)`.
        seed: of the swaps.

    Returns:
        `difference` is the second system's rate less the first's, in points.

    Raises:
        ValueError: as `error_rate_difference`.
    """
    _check_runs(first, second)
    for run in (*first, *second):
        require_equal_lengths(edits=run, reference_tokens=reference_tokens)
    total = float(np.sum(reference_tokens))
    if not total > 0:
        raise ValueError("All references are empty: an error rate counts edits per reference token, and has none.")
    before, after = (np.asarray(runs, dtype=float).mean(axis=0) for runs in (first, second))
    return paired_permutation_test(
        after, before, lambda edits: 100 * float(np.sum(edits)) / total, permutations=permutations, seed=seed
    )


def _check_runs(first: Sequence[Any], second: Sequence[Any]) -> None:
    if not (len(first) and len(second)):
        raise ValueError(f"Each system needs at least one run, got {len(first)} and {len(second)}.")


def _bootstrap_test(
    difference: Callable[[np.ndarray | None, tuple[np.ndarray, np.ndarray]], float],
    n: int,
    numbers: tuple[int, int],
    equal: float,
    *,
    redraw_runs: bool,
    resamples: int,
    level: float,
    seed: int,
) -> BootstrapTest:
    """The test of a difference of means over runs.

    Args:
        difference: given the queries that are drawn (`None`: all), and the runs of either side.
        n: number of queries.
        numbers: of runs of either side.
        equal: largest difference that is rounding.
    """
    require_level(level)
    if resamples < 1:
        raise ValueError(f"`resamples` must be at least 1, got {resamples}.")
    rng = np.random.default_rng(seed)
    every = (np.arange(numbers[0]), np.arange(numbers[1]))

    def resample() -> float:
        queries = rng.integers(n, size=n)
        if not redraw_runs:
            return difference(queries, every)
        return difference(
            queries, (rng.integers(numbers[0], size=numbers[0]), rng.integers(numbers[1], size=numbers[1]))
        )

    differences = np.array([resample() for _ in range(resamples)])
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    beyond = min((differences <= equal).sum(), (differences >= -equal).sum())
    p_value = min(1.0, 2 * (1 + int(beyond)) / (1 + resamples))
    if np.isnan(differences).any():
        p_value = math.nan
    return BootstrapTest(difference(None, every), float(low), float(high), p_value, resamples, seed)


def _difference(name: str, a: ScoreReport, b: ScoreReport):
    """The difference of one score as a function of the answers on either side, indexed as `swap_test` says."""
    if name in DIVERSITY:
        n, statistic = DIVERSITY[name]
        both = [*a.tokens, *b.tokens]
        score = getattr(NgramCounts(both, n) if n else NgramCounts.of_responses(both), statistic)
    elif name.startswith("bleu"):
        order = int(name.removeprefix("bleu_"))
        score = partial(_joined_bleu(a, b).score, max_order=order)
    else:
        score = partial(_mean_of_known, np.concatenate([a.per_query[name], b.per_query[name]]))
    return lambda left, right: score(left) - score(right)


def _mean_of_known(values: np.ndarray, indices: np.ndarray) -> float:
    drawn = values[indices]
    known = drawn[~np.isnan(drawn)]
    return known.mean() if len(known) else 0.0


def _joined_bleu(a: ScoreReport, b: ScoreReport) -> BleuStatistics:
    left, right = a.bleu_statistics, b.bleu_statistics
    assert left is not None and right is not None  # both reports hold a BLEU score
    return BleuStatistics(
        np.concatenate([left.lengths, right.lengths]), np.concatenate([left.counts, right.counts]),
        np.concatenate([left.totals, right.totals]), left.smooth_method,
    )  # fmt: skip


def _without_count(signature: str) -> str:
    return "|".join(part for part in signature.split("|") if not part.startswith("N:"))
