"""The end of a discriminator's training: how well it tells true responses from those of other queries."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from hf_localgan.evaluation.matching import MatchingReport
from hf_localgan.metrics.energy import matching_accuracy, recall_at_one
from hf_localgan.recipes.finish import publish, whose


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
