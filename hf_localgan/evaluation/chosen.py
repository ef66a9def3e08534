"""The evaluation of the checkpoint that a training leaves."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple


class ChosenEvaluation(NamedTuple):
    """The evaluation of the model that a training leaves.

    Attributes:
        step: optimizer steps before the evaluation.
        is_best: whether it was chosen as the best one; else it is the last one.
        scores: the values that the evaluation logged, by keys such as `eval_loss`.
    """

    step: int
    is_best: bool
    scores: dict[str, Any]


def chosen_evaluation(
    state: Mapping[str, Any], load_best_model: bool, keys: Collection[str]
) -> ChosenEvaluation | None:
    """The evaluation of the best model where that is loaded at the end, else the last evaluation.

    Args:
        state: the content of `trainer_state.json`, or `vars(trainer.state)`.
        load_best_model: the training's `load_best_model_at_end`.
        keys: keys that evaluations log, such as `eval_loss`; entries of the log without any of them are left out.

    Returns:
        `None` if nothing was evaluated.
    """
    evaluations: dict[int, dict[str, Any]] = {}
    for entry in state.get("log_history", ()):
        if any(key in entry for key in keys):
            evaluations[entry["step"]] = evaluations.get(entry["step"], {}) | entry
    best = state.get("best_global_step") if load_best_model else None
    step = best if best in evaluations else max(evaluations, default=None)
    return None if step is None else ChosenEvaluation(step, step == best, evaluations[step])
