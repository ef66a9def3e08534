"""The adversarially trained generator compared with the one it started from, on the test split."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from transformers import PreTrainedTokenizerBase

from hf_localgan.evaluation.adversarial.front import EQUAL, FrontPoint, run_front
from hf_localgan.evaluation.adversarial.plots import plot_adversarial_training, plot_answer_radii, plot_fronts
from hf_localgan.evaluation.dialogue import SHOWN
from hf_localgan.evaluation.energy.ranking import answer_radii
from hf_localgan.evaluation.runs import Run, check_comparable, compare_runs
from hf_localgan.evaluation.tables import cell, number, summary
from hf_localgan.evaluation.writing import plain, write_report
from hf_localgan.markdown import markdown_table
from hf_localgan.metrics import Comparison, Stability, stability
from hf_localgan.models.dbm import DbmModel
from hf_localgan.terminal import Report, report_console

FILES = ("adversarial.json", "adversarial.md")
PLOTS = ("adversarial_training.png", "front.png", "radii.png")


class Phase2(NamedTuple):
    """Share of generations nearer the centre than their reference (`delta_alpha > 0`), as the training logged it.

    Attributes:
        first, last: the share in the first and in the last log line of the generator's training.
        mean: mean share over all log lines.
    """

    first: float
    last: float
    mean: float


@dataclass
class AdversarialReport:
    """The trained generator compared with its start. Differences are the trained one's score less the start's.

    Attributes:
        about: model, data set, split, seed: what identifies the run, ready for JSON.
        objective: such as "LocalGAN"; the trained generator's name in tables.
        trained, start: both evaluations, on the same queries.
        tests: paired permutation tests by the name of the decoding.
        front: each decoding of the trained generator against the start's front; `None` without relevance.
        stability: stability of Ent-4 over the evaluations of the training; `None` for less than two evaluations.
        phase2: share of the second phase; `None` where none was logged.
        radii: radii of the references and of both generators' greedy answers by name, nats, shape `(responses,)`;
            `None` without an energy.
        spread: standard deviation of the training references' radii, nats, from the energy's configuration.
        copied: share of answers that are a training response word for word, by name; `None` without
            `training_responses`.
    """

    about: dict[str, Any]
    objective: str
    trained: Run = field(repr=False)
    start: Run = field(repr=False)
    tests: dict[str, Comparison] = field(repr=False)
    front: list[FrontPoint] | None
    stability: Stability | None
    phase2: Phase2 | None
    radii: dict[str, np.ndarray] | None = field(default=None, repr=False)
    spread: float | None = None
    copied: dict[str, float] | None = None

    @classmethod
    def of_runs(
        cls,
        trained: Run,
        start: Run,
        history: Sequence[Mapping[str, Any]],
        *,
        about: Mapping[str, Any] | None = None,
        objective: str = "LocalGAN",
        energy: DbmModel | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        training_responses: Iterable[str] | None = None,
        permutations: int = 1000,
        resamples: int = 1000,
    ) -> "AdversarialReport":
        """Compares two finished evaluations.

        Args:
            trained, start: as `Run.read` reads them.
            history: `trainer.state.log_history` of the training.
            about, objective: as above; `about` is by default that of the trained one's evaluation.
            energy, tokenizer: measure the radii; give both or neither.
            training_responses: texts, read once and not kept, to find copies; case and spaces at the ends do not count.
            permutations: number of permutations of each test.
            resamples: number of bootstrap samples of the margins' intervals.

        Raises:
            ValueError: for evaluations that are not of dialogue, and for different queries.
        """
        check_comparable([trained, start])
        if trained.kind != "dialogue":
            raise ValueError(
                f"The report on adversarial training needs evaluations of dialogue, got evaluations of {trained.kind}. "
                "Score both generators with `scores: dialogue`."
            )
        shared = [name for name in trained.decodings if name in start.decodings]
        entropies = [entry["eval_ent_4"] for entry in history if entry.get("eval_ent_4") is not None]
        shares = [entry["gan/phase2_fraction"] for entry in history if "gan/phase2_fraction" in entry]
        return cls(
            about=dict(trained.about if about is None else about),
            objective=objective,
            trained=trained,
            start=start,
            tests={name: compare_runs(trained, start, name, SHOWN, permutations) for name in shared},
            front=run_front(trained, start, resamples=resamples),
            stability=stability(entropies) if len(entropies) > 1 else None,
            phase2=Phase2(shares[0], shares[-1], float(np.mean(shares))) if shares else None,
            radii=None if energy is None or tokenizer is None else _radii(energy, tokenizer, trained, start, objective),
            spread=None if energy is None else getattr(energy.config, "radius_spread", None),
            copied=None if training_responses is None else _copied(training_responses, trained, start, objective),
        )

    @property
    def systems(self) -> dict[str, Run]:
        """Both evaluations by the names that tables use, the start first."""
        return {"start": self.start, self.objective: self.trained}

    @property
    def on_or_above(self) -> bool | None:
        """Whether no known margin is negative by more than rounding; `None` where none is known."""
        margins = [point.margin.value for point in self.front or () if not math.isnan(point.margin.value)]
        return all(margin >= -EQUAL for margin in margins) if margins else None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        front = None
        if self.front is not None:
            front = {"on_or_above": self.on_or_above, "points": self.front}
        systems = {
            system: {"about": run.about, "decodings": {name: entry["scores"] for name, entry in run.decodings.items()}}
            for system, run in self.systems.items()
        }
        radii = None
        if self.radii is not None:
            radii = {"spread": self.spread, **{name: summary(values) for name, values in self.radii.items()}}
        return plain(
            {
                "kind": "adversarial",
                "about": self.about,
                "objective": self.objective,
                "systems": systems,
                "tests": {name: test.to_dict() for name, test in self.tests.items()},
                "front": front,
                "stability": self.stability,
                "phase2_fraction": self.phase2,
                "radii": radii,
                "copied": self.copied,
            }
        )

    def summary(self) -> str:
        """The searches' scores, front, radii and facts about the training, as Markdown without a title."""
        searches = [name for name in self.tests if self.trained.temperature(name) is None]
        parts = [*(self._scores(name) for name in searches), self._front(), self._radii(), self._facts()]
        return "\n".join(line for part in parts for line in part)

    def to_markdown(self, rows: int = 12) -> str:
        """The whole report: `summary`, the scores under the other decodings, a table of samples."""
        samplings = [name for name in self.tests if self.trained.temperature(name) is not None]
        lines = [f"# {self.objective} against its start", "", self.summary()]
        lines += [line for name in samplings for line in self._scores(name)]
        samples = self.samples(rows)
        lines += ["## Sample responses, greedy", ""]
        lines += markdown_table(samples[0], [list(row.values()) for row in samples])
        lines += ["", *(f"* {name}: {value}" for name, value in self.about.items())]
        return "\n".join(lines) + "\n"

    def samples(self, rows: int = 12) -> list[dict[str, str]]:
        """Evenly spaced queries with a reference and both systems' greedy answers."""
        queries, references = (self.trained.answers[name] for name in ("query", "references"))
        rows = min(rows, len(queries))
        chosen = [index * len(queries) // rows for index in range(rows)]
        return [
            {"query": queries[index], "a reference": references[index][0]}
            | {name: run.answers[_greedy(run)][index] for name, run in self.systems.items()}
            for index in chosen
        ]

    def print(self, console: Console | None = None):
        """The summary on the console."""
        (console or report_console()).print(Report(f"# {self.objective} against its start\n\n{self.summary()}"))

    def write(self, folder: str | Path, history: list[dict[str, Any]] | None = None, plots: bool = True) -> list[Path]:
        """Writes `adversarial.json`, `adversarial.md` and pictures, as far as there is something to plot.

        Args:
            folder: made where it is missing; files of an earlier report are replaced.
            history: `trainer.state.log_history`, for `adversarial_training.png`.
            plots: draw them, too; needs matplotlib, from the `plots` extra.

        Returns:
            The paths of the files.
        """
        folder = Path(folder)
        files = write_report(folder, FILES, self.to_dict(), self.to_markdown())
        if plots:
            functions: tuple[Callable, ...] = (plot_adversarial_training, plot_fronts, plot_answer_radii)
            for plot, content, name in zip(functions, (history, self.systems, self.radii), PLOTS, strict=True):
                if content is not None:
                    plot(content, folder / name)
                    files.append(folder / name)
        return files

    # ---- tables ----

    def _scores(self, decoding: str) -> list[str]:
        test = self.tests[decoding]
        rows = []
        for name, row in test.rows.items():
            values = [cell(run.interval(decoding, name)) for run in self.systems.values()]
            rows.append((SHOWN[name], *values, f"{row.test.difference:+.3g}", f"{row.test.p_value:.4f}"))
        permutations = next(iter(test.rows.values())).test.permutations
        return [
            f"## Scores: {decoding}", "",
            *markdown_table(("metric", *self.systems, "difference", "p"), rows, "<>"), "",
            f"{test.queries:,} queries; 95 % intervals; p: two-sided paired permutation test over queries, "
            f"{permutations} swaps, not corrected for the number of tests.", "",
        ]  # fmt: skip

    def _front(self) -> list[str]:
        if self.front is None:
            return []
        columns = (f"{self.objective}, decoding", "Dist-2", "Rel", "Rel less the start's at this Dist-2")
        rows = []
        for point in self.front:
            text = "outside of its range" if math.isnan(point.margin.value) else cell(point.margin)
            rows.append((point.decoding, number(point.diversity), number(point.relevance), text))
        margins = [point.margin for point in self.front if not math.isnan(point.margin.value)]
        above = sum(margin.low > EQUAL for margin in margins)
        below = sum(margin.high < -EQUAL for margin in margins)
        upheld = sum(margin.value >= -EQUAL for margin in margins)
        verdict = {True: "on or above", False: "not everywhere on or above", None: "nowhere comparable with"}
        return [
            "## Front of diversity and relevance", "", *markdown_table(columns, rows, "<>"), "",
            f"The front lies {verdict[self.on_or_above]} the start's: of {len(margins)} decodings inside its range "
            f"{upheld} have no negative margin. By the whole 95 % interval over queries "
            f"{above} {'lies' if above == 1 else 'lie'} above it and {below} below.", "",
        ]  # fmt: skip

    def _radii(self) -> list[str]:
        if self.radii is None:
            return []
        columns = ("responses", "number", "mean", "deviation", "5 %", "median", "95 %")
        keys = ("mean", "std", "quantile_05", "median", "quantile_95")
        rows = []
        for name, values in self.radii.items():
            figures = summary(values)
            rows.append((name, f"{figures['count']:,}", *(number(float(figures.get(key, math.nan))) for key in keys)))
        lines = ["## Radii: F(q, r) - F(q, rc), nats", "", *markdown_table(columns, rows, "<>")]
        if self.spread is not None:
            lines += ["", f"The unit of the radial term, the training references' deviation: {self.spread:.4g} nats."]
        return [*lines, ""]

    def _facts(self) -> list[str]:
        lines = []
        if self.stability is not None:
            lines.append(
                f"* Ent-4 of the validation answers over the training: standard deviation of its changes "
                f"{number(self.stability.step_deviation)}, largest fall below a former value "
                f"{number(self.stability.largest_drop)} nats"
            )
        if self.phase2 is not None:
            lines.append(
                f"* phase-2 share: {number(self.phase2.first)} at the first log line, {number(self.phase2.last)} at "
                f"the last, {number(self.phase2.mean)} on average"
            )
        if self.copied is not None:
            shares = ", ".join(f"{name} {share:.1%}" for name, share in self.copied.items())
            lines.append(f"* word for word a training response: {shares}")
        return ["## Training and copies", "", *lines, ""] if lines else []


def _greedy(run: Run) -> str:
    """The name of greedy decoding, or of the first decoding where there is no greedy one."""
    return "greedy" if "greedy" in run.decodings else next(iter(run.decodings))


def _radii(
    energy: DbmModel, tokenizer: PreTrainedTokenizerBase, trained: Run, start: Run, objective: str
) -> dict[str, np.ndarray]:
    queries, references = (trained.answers[name] for name in ("query", "references"))
    pairs = [(query, text) for query, group in zip(queries, references, strict=True) for text in group]
    texts = {"references": ([query for query, _ in pairs], [text for _, text in pairs])}
    texts |= {name: (queries, run.answers[_greedy(run)]) for name, run in (("start", start), (objective, trained))}
    return {name: answer_radii(energy, tokenizer, *sides).numpy() for name, sides in texts.items()}


def _copied(training_responses: Iterable[str], trained: Run, start: Run, objective: str) -> dict[str, float]:
    texts = {"references": [text for group in trained.answers["references"] for text in group]}
    texts |= {name: run.answers[_greedy(run)] for name, run in (("start", start), (objective, trained))}
    texts = {name: [text.strip().lower() for text in group] for name, group in texts.items()}
    asked = {text for group in texts.values() for text in group}  # not the training split's: it may be millions
    found = asked.intersection(text.strip().lower() for text in training_responses)
    return {name: float(np.mean([text in found for text in group])) for name, group in texts.items()}
