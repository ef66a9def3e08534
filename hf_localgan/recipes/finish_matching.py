"""The end of a discriminator's training: its report on the test split."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from datasets import Dataset

from hf_localgan.evaluation.matching import MatchingReport
from hf_localgan.metrics.energy import matching_accuracy, recall_at_one
from hf_localgan.recipes.finish import matching_about, publish, save_state, scored_about, show_report
from hf_localgan.trainers.matching.trainer import MatchingTrainer


def finish_matching(
    trainer: MatchingTrainer, test: Dataset, about: Mapping[str, Any], resamples: int = 1000
) -> MatchingReport | None:
    """Scores the test split, writes the report to the output folder, and prints it.

    To be called on every process, after `trainer.save_model()`. Writes `trainer_state.json`, `matching.json`,
    `matching.md` and the model card, `README.md`; with `push_to_hub` all of it is uploaded.

    Args:
        trainer: after `train`.
        test: the test split, encoded.
        about: facts that identify this run: model, data set, split, seed.
        resamples: number of bootstrap samples of the intervals.

    Returns:
        The report on the main process, `None` on the others.
    """
    scores, groups, metrics = cast(tuple[np.ndarray, np.ndarray, dict[str, float]], tuple(trainer.predict(test)))
    report = None
    if trainer.is_world_process_zero():
        folder = save_state(trainer)
        about = {**about, **matching_about(trainer, best="step", last="step"), **scored_about(folder)}
        report = _score(trainer, scores, groups, metrics, about, resamples)
        show_report(trainer, report, report.write(folder))
    trainer.accelerator.wait_for_everyone()
    publish(trainer)
    return report


def _score(
    trainer: MatchingTrainer,
    scores: np.ndarray,
    groups: np.ndarray,
    metrics: Mapping[str, float],
    about: Mapping[str, Any],
    resamples: int,
) -> MatchingReport:
    true, others = -scores[:, 0], -scores[:, 1:]  # the metrics take lower scores for better ones
    settings = {"resamples": resamples, "seed": trainer.args.seed}
    return MatchingReport(
        dict(about),
        matching_accuracy(true, others, groups, **settings),
        recall_at_one(true, others, groups, **settings),
        scores.shape[1],
        metrics["test_accuracy"],
        metrics["test_loss"],
        len(scores),
        int(groups.max()) + 1,
    )
