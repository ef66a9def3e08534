"""What adversarial training changed: the trained generator against the one it started from, on the test split."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.markdown import Markdown
from transformers import PreTrainedTokenizerBase

from hf_localgan.evaluation.adversarial.front import EQUAL, FrontPoint, front_points
from hf_localgan.evaluation.adversarial.plots import plot_adversarial_training, plot_answer_radii, plot_fronts
from hf_localgan.evaluation.dialogue import SHOWN
from hf_localgan.evaluation.energy.ranking import answer_radii
from hf_localgan.evaluation.runs import Run, check_comparable, compare_runs
from hf_localgan.evaluation.tables import cell, number, summary
from hf_localgan.evaluation.writing import plain, write_report
from hf_localgan.markdown import markdown_table
from hf_localgan.metrics import Comparison, Stability, stability

FILES = ("adversarial.json", "adversarial.md")
PLOTS = ("adversarial_training.png", "front.png", "radii.png")


class Phase2(NamedTuple):
    """Share of generations nearer the centre than their reference (`delta_alpha > 0`), as the training logged it.

    Attributes:
        first, last: of the first and the last log line of the generator's training.
        mean: over all of them.
    """

    first: float
    last: float
    mean: float


@dataclass
class AdversarialReport:
    """The trained generator against its start. Differences are the trained one's score less the start's.

    Attributes:
        about: what names the run, ready for JSON.
        objective: such as "LocalGAN"; the trained generator's name in tables.
        trained, start: both evaluations, of the same queries.
        tests: paired permutation tests by the name of the decoding.
        front: each decoding of the trained generator against the start's front; `None` without relevance.
        stability: of Ent-4 over the evaluations of the training; `None` for less than two.
        phase2: `None` where none was logged.
        radii: nats, of references, start's and trained one's greedy answers by name; `None` without an energy.
        spread: standard deviation of the training references' radii, nats, as the energy holds it.
        copied: share of answers that are a training response word for word, by name; `None` where not looked for.
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
        energy=None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        training_responses: set[str] | None = None,
        permutations: int = 1000,
        resamples: int = 1000,
    ) -> "AdversarialReport":
        """Compares two finished evaluations.

        Args:
            trained, start: as `Run.read` reads them.
            history: `trainer.state.log_history` of the training.
            about, objective: as above; by default what the trained one's evaluation says about itself.
            energy (`DbmModel`), tokenizer: for the radii.
            training_responses: lower-case texts without spaces at the ends, to find copies.
            permutations: of each test.
            resamples: of the margins' intervals.

        Raises:
            ValueError: for evaluations of something else than dialogue, or of different queries.
        """
        check_comparable([trained, start])
        if trained.kind != "dialogue":
            raise ValueError(
                f"Adversarial training is measured on dialogue, and these evaluations are of {trained.kind}."
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
            front=_front(trained, start, resamples),
            stability=stability(entropies) if len(entropies) > 1 else None,
            phase2=Phase2(shares[0], shares[-1], float(np.mean(shares))) if shares else None,
            radii=None if energy is None else _radii(energy, tokenizer, trained, start, objective),
            spread=None if energy is None else getattr(energy.config, "radius_spread", None),
            copied=None if training_responses is None else _copied(training_responses, trained, start, objective),
        )

    @property
    def systems(self) -> dict[str, Run]:
        """Both evaluations by the names that tables use, the start first."""
        return {"start": self.start, self.objective: self.trained}

    @property
    def on_or_above(self) -> bool | None:
        """Whether no margin is negative by more than rounding, of those that there are; `None` where there is none."""
        margins = [point.margin.value for point in self.front or () if not math.isnan(point.margin.value)]
        return all(margin >= -EQUAL for margin in margins) if margins else None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        front = None
        if self.front is not None:
            front = {"on_or_above": self.on_or_above, "points": self.front}
        systems = {
            name: {"about": run.about, "decodings": {one: found["scores"] for one, found in run.decodings.items()}}
            for name, run in self.systems.items()
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
        """The searches' scores, and what was found besides, as Markdown without a title."""
        searches = [name for name in self.tests if self.trained.temperature(name) is None]
        parts = [*(self._scores(name) for name in searches), self._front(), self._radii(), self._facts()]
        return "\n".join(line for part in parts for line in part)

    def to_markdown(self, rows: int = 12) -> str:
        """All of it: `summary`, the scores under the other decodings, a table of samples."""
        sampled = [name for name in self.tests if self.trained.temperature(name) is not None]
        lines = [f"# {self.objective} against its start", "", self.summary()]
        lines += [line for name in sampled for line in self._scores(name)]
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
        (console or Console()).print(Markdown(f"# {self.objective} against its start\n\n{self.summary()}"))

    def write(self, folder: str | Path, history: list[dict] | None = None, plots: bool = True) -> list[Path]:
        """Writes `adversarial.json`, `adversarial.md` and pictures, as far as there is something to plot.

        Args:
            folder: made where it is missing; files of an earlier report are replaced.
            history: `trainer.state.log_history`, for `adversarial_training.png`.
            plots: needs matplotlib, of the `plots` extra.

        Returns:
            The files.
        """
        folder = Path(folder)
        files = write_report(folder, FILES, self.to_dict(), self.to_markdown())
        if plots:
            drawn = [(plot_adversarial_training, history), (plot_fronts, self.systems), (plot_answer_radii, self.radii)]
            for (draw, data), name in zip(drawn, PLOTS, strict=True):
                if data is not None:
                    draw(data, folder / name)
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
            margin = "outside of its range" if math.isnan(point.margin.value) else cell(point.margin)
            rows.append((point.decoding, number(point.diversity), number(point.relevance), margin))
        margins = [point.margin for point in self.front if not math.isnan(point.margin.value)]
        above, below = sum(one.low > EQUAL for one in margins), sum(one.high < -EQUAL for one in margins)
        said = {True: "on or above", False: "not everywhere on or above", None: "nowhere comparable with"}
        return [
            "## Front of diversity and relevance", "", *markdown_table(columns, rows, "<>"), "",
            f"The front lies {said[self.on_or_above]} the start's: of {len(margins)} decodings inside its range "
            f"{sum(one.value >= -EQUAL for one in margins)} have no negative margin. By the whole 95 % interval over "
            f"queries {above} {'lies' if above == 1 else 'lie'} above it and {below} below.", "",
        ]  # fmt: skip

    def _radii(self) -> list[str]:
        if self.radii is None:
            return []
        columns = ("responses", "number", "mean", "deviation", "5 %", "median", "95 %")
        keys = ("mean", "std", "quantile_05", "median", "quantile_95")
        rows = []
        for name, values in self.radii.items():
            found = summary(values)
            rows.append((name, f"{found['count']:,}", *(number(float(found.get(key, math.nan))) for key in keys)))
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
    """The name of greedy decoding, or of the first one where it is not there."""
    return "greedy" if "greedy" in run.decodings else next(iter(run.decodings))


def _front(trained: Run, start: Run, resamples: int) -> list[FrontPoint] | None:
    sides = []
    for run in (trained, start):
        if any("relevance_mean" not in one["scores"] for one in run.decodings.values()):
            return None
        sides.append({name: run.value(name, "dist_2") for name in run.decodings})
        sides.append({name: _of_queries(run, name, "relevance_mean") for name in run.decodings})
    return front_points(*sides, resamples=resamples)


def _of_queries(run: Run, decoding: str, metric: str) -> np.ndarray:
    rows = sorted((row for row in run.query_scores if row["decoding"] == decoding), key=lambda row: row["query"])
    return np.array([np.nan if row[metric] is None else row[metric] for row in rows], dtype=float)


def _radii(energy, tokenizer, trained: Run, start: Run, objective: str) -> dict[str, np.ndarray]:
    queries, references = (trained.answers[name] for name in ("query", "references"))
    pairs = [(query, one) for query, some in zip(queries, references, strict=True) for one in some]
    texts = {"references": tuple(zip(*pairs, strict=True))}
    texts |= {name: (queries, run.answers[_greedy(run)]) for name, run in (("start", start), (objective, trained))}
    return {name: answer_radii(energy, tokenizer, *sides).numpy() for name, sides in texts.items()}


def _copied(training_responses: set[str], trained: Run, start: Run, objective: str) -> dict[str, float]:
    texts = {"references": [one for some in trained.answers["references"] for one in some]}
    texts |= {name: run.answers[_greedy(run)] for name, run in (("start", start), (objective, trained))}
    found = {name: [one.strip().lower() in training_responses for one in some] for name, some in texts.items()}
    return {name: float(np.mean(some)) for name, some in found.items()}
