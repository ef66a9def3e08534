"""Two systems that answered the same queries: differences with paired p values, metric by metric."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from hf_localgan.functional.rounding import rounding_bound
from hf_localgan.markdown import markdown_table
from hf_localgan.metrics.checks import require_equal_lengths, require_level
from hf_localgan.metrics.diversity import NgramCounts
from hf_localgan.metrics.intervals import PairedTest, swap_test
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
    if not (first and second):
        raise ValueError(f"Each system needs at least one run, got {len(first)} and {len(second)}.")
    require_level(level)
    if resamples < 1:
        raise ValueError(f"`resamples` must be at least 1, got {resamples}.")
    n = len(runs[0].lengths)
    for run in runs:
        require_equal_lengths(first=runs[0].lengths, other=run.lengths)
    rng = np.random.default_rng(seed)

    def mean_difference(sentences: np.ndarray | None, redraw: bool) -> float:
        means = []
        for system in (first, second):
            drawn = rng.integers(len(system), size=len(system)) if redraw else range(len(system))
            scores = {run: system[run].score(sentences) for run in set(map(int, drawn))}
            means.append(sum(scores[int(run)] for run in drawn) / len(system))
        return means[1] - means[0]

    differences = np.array([mean_difference(rng.integers(n, size=n), redraw_runs) for _ in range(resamples)])
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    equal = rounding_bound(100.0, roundings=8 + len(runs))  # means over runs are added up in another order
    beyond = min((differences <= equal).sum(), (differences >= -equal).sum())
    p_value = min(1.0, 2 * (1 + int(beyond)) / (1 + resamples))
    return BootstrapTest(mean_difference(None, False), float(low), float(high), p_value, resamples, seed)


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
