"""The report on a trained discriminator: how well it tells true responses from those to other queries."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hf_localgan.evaluation.writing import write_report
from hf_localgan.markdown import markdown_table
from hf_localgan.metrics.intervals import Interval
from hf_localgan.terminal import Report, report_console

FILES = ("matching.json", "matching.md")


@dataclass(frozen=True)
class MatchingReport:
    """Scores of a discriminator on the pairs of a split.

    Attributes:
        about: model, data set, split, seed and whatever else identifies the run.
        matching: share of comparisons in which the true response has a higher logit than one to another query; chance
            is 0.5.
        recall_at_1: share of pairs whose true response has the highest logit of `candidates`.
        candidates: number of responses that are compared, the true one included.
        accuracy: share of pairs on the right side of logit 0, true and mismatched ones with equal weight.
        loss: cross-entropy of the same, nats.
        pairs, queries: their numbers.
    """

    about: dict[str, Any]
    matching: Interval
    recall_at_1: Interval
    candidates: int
    accuracy: float
    loss: float
    pairs: int
    queries: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_markdown(self) -> str:
        """A table, and how it was measured."""
        rows = [
            ("matching", str(self.matching), "0.5"),
            (f"recall@1 of {self.candidates}", str(self.recall_at_1), f"{1 / self.candidates:.3g}"),
            ("accuracy at logit 0", f"{self.accuracy:.4f}", "0.5"),
            ("loss, nats", f"{self.loss:.4f}", "0.693"),
        ]
        about = ", ".join(f"{name} {value}" for name, value in self.about.items())
        return "\n".join(
            [
                f"# Matching of {self.pairs:,} pairs of {self.queries:,} queries",
                "",
                *markdown_table(("", "value", "by chance"), rows, "<>"),
                "",
                f"True responses against {self.candidates - 1} random ones to other queries for each pair; "
                f"{self.matching.level:.0%} intervals by the bootstrap over queries. {about}.",
                "",
            ]
        )

    def print(self):
        """Shows the table in the terminal."""
        report_console().print(Report(self.to_markdown()))

    def write(self, folder: str | Path) -> list[Path]:
        """Writes `matching.json` and `matching.md`; returns their paths."""
        return write_report(folder, FILES, self.to_dict(), self.to_markdown())
