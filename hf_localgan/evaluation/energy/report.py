"""The report on an energy model: numbers, tables, files."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from hf_localgan.evaluation.energy.meaning import RadiusMeaning, SafeAnswer
from hf_localgan.evaluation.tables import cell, number, summary
from hf_localgan.evaluation.writing import plain, write_report
from hf_localgan.markdown import markdown_table
from hf_localgan.metrics.energy import CenterCosine
from hf_localgan.metrics.energy_gap import GapBySize, GapBySpread, SecondOrderGap
from hf_localgan.metrics.intervals import Interval
from hf_localgan.terminal import Report, report_console

Show = Callable[[Interval], str]

FILES = ("energy.json", "energy.md")
SHOWN_ANSWERS = 5  # safe answers in the table
PLOTS = ("energy_histograms.png", "energy_gap.png", "energy_clusters.png")


class Matching(NamedTuple):
    """How well true responses are told from those to other queries.

    Attributes:
        difference: share of comparisons that the true response wins by `F(q, r) - F(bq, r)`; chance is 0.5.
        energy: the same by `F(q, r)` alone, which is low for short and common responses to any query.
        recall_at_1: share of pairs whose true response is the first of `candidates` by the difference.
        candidates: number of responses that are compared, the true one included.
    """

    difference: Interval
    energy: Interval
    recall_at_1: Interval
    candidates: int


class Gap(NamedTuple):
    """Theorem 1, measured; energies in nats.

    Attributes:
        by_size: `|F(q, R_q) - F(q, rc)|` against the number of responses.
        by_spread: the same against the trace of their covariance; `None` where no query has two responses.
        signed: mean of `F(q, R_q) - F(q, rc)` over all queries.
        measured: the same over the queries of `second_order`.
        second_order: the gap that curvature predicts, for some queries with several responses.
        gaps, spreads, predicted: gap, spread and predicted gap of each query, shape `(queries,)`; NaN where a query has
            none.
    """

    by_size: GapBySize
    by_spread: GapBySpread | None
    signed: Interval
    measured: Interval | None
    second_order: SecondOrderGap | None
    gaps: np.ndarray
    spreads: np.ndarray
    predicted: np.ndarray


class Likelihood(NamedTuple):
    """Log-density of standardised pairs, nats per pair.

    Attributes:
        test: mean over the test pairs.
        train: mean over as many training pairs.
        dimensions: number of dimensions of a pair, for nats per dimension.
        bound: `-F~ - ln Z` on the test pairs, where `test` uses a better estimate of `F`. This and all that follows is
            `None` for a normal distribution.
        log_partition, log_partition_error: `ln Z` and its standard error, which every value above shares.
        effective_sample_size, chains: sizes of the annealed importance sampling; `None` where all states were
            enumerated.
        advantage: mean difference to the better normal distribution over the test pairs; `None` without one.
    """

    test: Interval
    train: float
    dimensions: int
    bound: float | None = None
    log_partition: float | None = None
    log_partition_error: float | None = None
    effective_sample_size: float | None = None
    chains: int | None = None
    advantage: Interval | None = None


class Radii(NamedTuple):
    """`F(q, r) - F(q, rc)` of each test pair, nats, shape `(pairs,)`.

    Attributes:
        true: radii of the true responses.
        other: radii of responses to other queries.
        shuffled: radii of vectors whose dimensions are from different responses.
        noise: radii of standard normal vectors.
    """

    true: np.ndarray
    other: np.ndarray
    shuffled: np.ndarray
    noise: np.ndarray


class ClusterPlane(NamedTuple):
    """One query's responses in the plane of their two principal axes about the centre, which is at the origin.

    Attributes:
        title: the query.
        responses, others: projections of its own and of other queries' responses, shapes `(responses, 2)`.
        ticks: coordinates of the grid, shape `(grid,)`.
        radii: `F(q, r) - F(q, rc)` in the plane, nats, shape `(grid, grid)`; rows follow the second axis.
        share: share of the responses' squared distance from the centre that lies in the plane.
    """

    title: str
    responses: np.ndarray
    others: np.ndarray
    ticks: np.ndarray
    radii: np.ndarray
    share: float


@dataclass
class EnergyReport:
    """The measurements of `evaluate_energy`. Intervals are 95 % intervals over queries; energies are in nats.

    Attributes:
        about: model, data, sizes: what identifies this report, ready for JSON.
        matching: by name of the system: the model, its rivals, normal distributions.
        center: cosine of the centre with the mean of the true responses and its shuffled control, by name.
        positive_center: share of queries with `F(q, rc) > 0`.
        center_energy: `F(q, rc)` of each query, shape `(queries,)`.
        gap: Theorem 1, measured.
        likelihood: by name of the system.
        reconstruction: mean squared errors per dimension; steps and residual of the mean field.
        radii: radii of true and other responses.
        clusters: surroundings of some queries' responses, for the plots.
        meaning: what the radius says of length, information and safe answers; `None` for vectors without tokens.
        words: names the words of an answer by its tokens; by default the tokens' numbers are shown.
    """

    about: dict[str, Any]
    matching: dict[str, Matching]
    center: dict[str, CenterCosine]
    positive_center: Interval
    center_energy: np.ndarray = field(repr=False)
    gap: Gap = field(repr=False)
    likelihood: dict[str, Likelihood]
    reconstruction: dict[str, float]
    radii: Radii = field(repr=False)
    clusters: list[ClusterPlane] = field(repr=False)
    meaning: RadiusMeaning | None = None
    words: Callable[[Sequence[int]], str] = field(default=lambda tokens: " ".join(map(str, tokens)), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: all numbers, but means and quantiles in place of those of single pairs and queries."""
        gap: dict[str, Any] = self.gap._asdict()
        for name in ("gaps", "spreads", "predicted"):
            gap[name] = summary(gap[name])
        if self.gap.second_order is not None:
            parts = {**self.gap.second_order._asdict(), "total": self.gap.second_order.total}
            gap["second_order"] = {name: summary(values) for name, values in parts.items()}
        likelihood = {
            name: {**values._asdict(), "test_per_dimension": values.test.value / values.dimensions}
            for name, values in self.likelihood.items()
        }
        return plain(
            {
                "kind": "energy",
                "about": self.about,
                "matching": self.matching,
                "center_cosine": self.center,
                "positive_center": self.positive_center,
                "center_energy": summary(self.center_energy),
                "gap": gap,
                "likelihood": likelihood,
                "reconstruction": self.reconstruction,
                "radii": {name: summary(values) for name, values in self.radii._asdict().items()},
                "radius_meaning": self._meaning_facts(),
            }
        )

    def to_markdown(self, intervals: bool = True) -> str:
        """Tables, with 95 % intervals over queries or without."""
        show = cell if intervals else _value
        parts = (
            self._matching(show), self._centers(show), self._gap(show), self._likelihood(show), self._meaning(),
            self._rest(),
        )  # fmt: skip
        return "\n".join(line for part in parts for line in part)

    def print(self, console: Console | None = None):
        """The tables on the console, without intervals, so that they fit."""
        (console or report_console()).print(Report(self.to_markdown(intervals=False)))

    def write(self, folder: str | Path, plots: bool = True) -> list[Path]:
        """Writes `energy.json`, `energy.md` and three plots, as far as there is something to plot.

        Args:
            folder: made where it is missing; files of an earlier report are replaced.
            plots: draw them, too; needs matplotlib, from the `plots` extra.

        Returns:
            The paths of the files.
        """
        folder = Path(folder)
        files = write_report(folder, FILES, self.to_dict(), self.to_markdown())
        if plots:
            from hf_localgan.evaluation.energy import plots as energy_plots

            draw = (energy_plots.plot_radii, energy_plots.plot_gap, energy_plots.plot_clusters)
            for function, name in zip(draw, PLOTS, strict=True):
                if function is not energy_plots.plot_clusters or self.clusters:
                    function(self, folder / name)
                    files.append(folder / name)
        return files

    # ---- tables ----

    def _matching(self, show: Show) -> list[str]:
        candidates = next(iter(self.matching.values())).candidates
        columns = ("by", "F(q, r) - F(bq, r)", "F(q, r)", f"first of {candidates}")
        rows = [
            (name, *map(show, (scores.difference, scores.energy, scores.recall_at_1)))
            for name, scores in self.matching.items()
        ]
        rows.append(("chance", "0.5", "0.5", f"{1 / candidates:.3g}"))
        return ["## Matching", "", *markdown_table(columns, rows, "<>"), ""]

    def _centers(self, show: Show) -> list[str]:
        columns = ("centre", "cosine with the true responses' mean", "shuffled")
        rows = [(name, show(cosine.true), show(cosine.shuffled)) for name, cosine in self.center.items()]
        low, middle, high = np.quantile(self.center_energy, [0, 0.5, 1])
        return [
            "## Centres",
            "",
            *markdown_table(columns, rows, "<>"),
            "",
            f"F(q, rc) > 0 for {show(self.positive_center)} of the queries; it goes from {low:.4g} to {high:.4g} nats, "
            f"median {middle:.4g}.",
            "",
        ]

    def _gap(self, show: Show) -> list[str]:
        gap, size = self.gap, self.gap.by_size
        lines = ["## Theorem 1: the gap between a cluster's energy and its centre's, nats", ""]
        by_size = zip(size.sizes, size.queries, map(show, size.gap), map(show, size.change), strict=True)
        lines += markdown_table(("responses", "queries", "gap", "change from one response"), by_size, "<>")
        lines += ["", f"With its sign, over all queries: {show(gap.signed)}.", ""]
        if gap.by_spread is not None:
            spread = gap.by_spread
            by_spread = [
                (f"{row[0]:.4g}", row[1], show(row[2]), number(row[3]))
                for row in zip(spread.spread, spread.queries, spread.gap, spread.predicted, strict=True)
            ]
            lines += markdown_table(("spread", "queries", "gap", "by curvature and spread"), by_spread, "<>")
            lines += ["", f"Spearman's correlation of gap and spread: {number(spread.rank_correlation)}.", ""]
        if gap.second_order is not None:
            assert gap.measured is not None  # over the same queries
            means = {name: float(values.mean()) for name, values in gap.second_order._asdict().items()}
            lines += [
                f"On {len(gap.second_order.spread)} queries the gap with its sign is {show(gap.measured)}. To second "
                f"order it is {sum(means.values()):.4g}: by the spread, tr(Hess F(rc) Sigma) / 2, "
                f"{means['spread']:.4g}; by the distance of the responses' mean from the centre {means['offset']:.4g}; "
                f"by the slope at the centre {number(means['slope'])}.",
                "",
            ]
        return lines

    def _likelihood(self, show: Show) -> list[str]:
        columns = (
            "model",
            "nats per pair",
            "per dimension",
            "train",
            "more than Gaussian",
            "-F~ - ln Z",
            "ln Z",
            "chains that count",
        )
        rows = []
        for name, values in self.likelihood.items():
            cells = [show(values.test), f"{values.test.value / values.dimensions:.4f}", f"{values.train:.4g}"]
            if values.bound is None:
                cells += [""] * 4
            else:
                size = values.effective_sample_size
                cells += ["" if values.advantage is None else show(values.advantage), f"{values.bound:.5g}"]
                cells.append(f"{values.log_partition:.5g} ± {values.log_partition_error:.2g}")
                cells.append("exact" if size is None else f"{size:.3g} of {values.chains}")
            rows.append((name, *cells))
        return ["## Log-likelihood", "", *markdown_table(columns, rows, "<>"), ""]

    def _meaning_facts(self) -> dict[str, Any] | None:
        if self.meaning is None:
            return None
        facts = self.meaning._asdict()
        facts |= {"by_length": {str(length): mean for length, mean in self.meaning.by_length.items()}}
        facts["safe"] = [self._answer(answer) for answer in self.meaning.safe]
        if self.meaning.greedy_commonest is not None:
            facts["greedy_commonest"] = self._answer(self.meaning.greedy_commonest)
        return facts | {
            "safe_percentile": self.meaning.safe_percentile, "ranks_safe_lowest": self.meaning.ranks_safe_lowest
        }  # fmt: skip

    def _answer(self, answer: SafeAnswer) -> dict[str, Any]:
        return {"answer": self.words(answer.tokens), "times": answer.times, "percentile": answer.percentile}

    def _meaning(self) -> list[str]:
        meaning = self.meaning
        if meaning is None:
            return []
        rows = [(length, mean.pairs, number(mean.radius)) for length, mean in meaning.by_length.items()]
        lines = ["## What the radius measures", "", meaning.verdict(), ""]
        lines += markdown_table(("words of a reference", "references", "mean radius"), rows, "<>")
        safe = [*([meaning.greedy_commonest] if meaning.greedy_commonest else []), *meaning.safe[:SHOWN_ANSWERS]]
        shown = [(self.words(answer.tokens), answer.times, number(answer.percentile)) for answer in safe]
        if shown:
            columns = ("safe answer", "met", "share of the references' radii below it")
            lines += ["", *markdown_table(columns, shown, "<>")]
        if not math.isnan(meaning.greedy):
            lines += ["", f"Below a generator's greedy answers lies the share {number(meaning.greedy)} on average."]
        return [*lines, ""]

    def _rest(self) -> list[str]:
        rows = [
            (name, *(f"{value:.4g}" for value in (values.mean(), np.median(values), values.std())))
            for name, values in self.radii._asdict().items()
        ]
        columns = ("response", "mean radius", "median", "deviation")
        lines = ["## Radii and reconstruction", "", *markdown_table(columns, rows, "<>")]
        lines += ["", *(f"* {name.replace('_', ' ')}: {value:.4g}" for name, value in self.reconstruction.items())]
        return [*lines, "", *(f"* {name}: {value}" for name, value in self.about.items()), ""]


def _value(interval: Interval) -> str:
    return number(interval.value)
