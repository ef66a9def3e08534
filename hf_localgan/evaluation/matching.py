"""The end of a discriminator's training: how well it tells true responses from those of other queries."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from hf_localgan.evaluation.finish import publish, whose
from hf_localgan.evaluation.tables import markdown_heading, markdown_row
from hf_localgan.files import replacing
from hf_localgan.metrics.energy import matching_accuracy, recall_at_one
from hf_localgan.metrics.intervals import Interval

FILES = ("matching.json", "matching.md")


@dataclass(frozen=True)
class MatchingReport:
    """What a discriminator makes of the pairs of a split.

    Attributes:
        about: model, data set, split, seed and what else names the run.
        matching: how often the true response has a higher logit than another query's; chance is 0.5.
        recall_at_1: how often it has the highest one of `candidates`.
        candidates: the true one included.
        accuracy: share of pairs on the right side of logit 0, true and mismatched ones with equal weight.
        loss: cross-entropy of the same, nats.
        pairs, queries: how many.
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
        """A table, and how it came about."""
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
                *markdown_heading("", "value", "by chance"),
                *(markdown_row(*row) for row in rows),
                "",
                f"True responses against {self.candidates - 1} random ones of other queries for each pair; "
                f"{self.matching.level:.0%} intervals by the bootstrap over queries. {about}.",
                "",
            ]
        )

    def write(self, folder: str | Path) -> list[Path]:
        """Writes `matching.json` and `matching.md`; returns their paths."""
        paths = [Path(folder) / name for name in FILES]
        texts = json.dumps(self.to_dict(), indent=2) + "\n", self.to_markdown()
        for path, text in zip(paths, texts, strict=True):
            with replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return paths


def finish_matching(trainer, test, about: Mapping[str, Any], resamples: int = 1000) -> MatchingReport | None:
    """Scores the test split, writes what was found into the output folder, and prints it.

    To be called on every process, after `trainer.save_model()`. Writes `trainer_state.json`, `matching.json`,
    `matching.md` and the model card, `README.md`; with `push_to_hub` all of it is uploaded.

    Args:
        trainer (`MatchingTrainer`): after `train`.
        test: the test split, encoded.
        about: what names this run: model, data set, split, seed.
        resamples: bootstrap samples of the intervals.

    Returns:
        The report, on the main process.
    """
    scores, groups, metrics = trainer.predict(test)
    report = None
    if trainer.is_world_process_zero():
        report = _score(trainer, scores, groups, metrics, about, resamples)
        folder = Path(trainer.args.output_dir)
        trainer.state.save_to_json(str(folder / "trainer_state.json"))
        files = report.write(folder)
        trainer.track_results(files)
        Console().print(Markdown(report.to_markdown()))
        print("written:", ", ".join(map(str, files)))
    trainer.accelerator.wait_for_everyone()
    publish(trainer)
    return report


def _score(trainer, scores, groups, metrics, about: Mapping[str, Any], resamples: int) -> MatchingReport:
    true, others = -scores[:, 0], -scores[:, 1:]  # the metrics take lower scores for better ones
    settings = {"resamples": resamples, "seed": trainer.args.seed}
    return MatchingReport(
        {**about, **_chosen(trainer.state, trainer.args), **whose(Path(trainer.args.output_dir))},
        matching_accuracy(true, others, groups, **settings),
        recall_at_one(true, others, groups, **settings),
        scores.shape[1],
        metrics["test_accuracy"],
        metrics["test_loss"],
        len(scores),
        int(groups.max()) + 1,
    )


def _chosen(state, args) -> dict[str, float]:
    """The step of the model that is left, and its matching on the validation split."""
    found = {entry["step"]: entry["eval_matching"] for entry in state.log_history if "eval_matching" in entry}
    best = state.best_global_step if args.load_best_model_at_end else None
    step = best if best in found else max(found, default=None)
    if step is None:
        return {"steps": state.global_step}
    return {"steps": state.global_step, "step": step, "validation_matching": round(found[step], 4)}
