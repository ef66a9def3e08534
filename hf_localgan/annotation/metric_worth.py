"""What metrics are worth by people's scores: correlations, their table and their picture."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hf_localgan.evaluation.plots import new_figure, save_figure
from hf_localgan.evaluation.tables import with_range
from hf_localgan.evaluation.writing import write_report
from hf_localgan.markdown import markdown_table

FILES = ("metrics_against_people.json", "metrics_against_people.md", "metrics_against_people.png")
LOWER_IS_BETTER = ("word_error_rate_min",)


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


def _cell(entry: Correlation | None, with_ends: bool) -> str:
    if entry is None or math.isnan(entry.value):
        return ""
    ends = (entry.low, entry.high) if with_ends and not math.isnan(entry.low) else ()
    return with_range(f"{entry.value:.2f}", *(f"{end:.2f}" for end in ends))
