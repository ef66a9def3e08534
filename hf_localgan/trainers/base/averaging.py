"""The mean of a training's last checkpoints, and of its last evaluations: what one noisy epoch does not decide."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor, nn

from hf_localgan.trainers.base.lineage import checkpoints_in, foreign_checkpoints
from hf_localgan.trainers.base.settings import TokenLossConfig
from hf_localgan.trainers.base.token_loss import TokenLossTrainer

logger = logging.getLogger(__name__)


@dataclass
class AveragedConfig(TokenLossConfig):
    """`TokenLossConfig` with what the end of a training averages."""

    average_checkpoints: int = field(
        default=0,
        metadata={
            "help": "Number of the last checkpoints whose weights are averaged at the end; the mean is the model that "
            "is saved and scored. At least 2; 0 keeps the last model, or the best one."
        },
    )
    mean_of_evaluations: int = field(
        default=0,
        metadata={
            "help": "Number of the last evaluations whose mean validation scores, with their spread, stand in "
            "`evaluation.json`. 0 leaves them out."
        },
    )

    def _check_values(self):
        super()._check_values()
        if self.average_checkpoints < 0 or self.average_checkpoints == 1:
            raise ValueError(
                f"`average_checkpoints` must be at least 2, or 0 for no average, got {self.average_checkpoints}."
            )
        if self.mean_of_evaluations < 0:
            raise ValueError(f"`mean_of_evaluations` must be at least 0, got {self.mean_of_evaluations}.")

    def _check_settled(self):
        super()._check_settled()
        number = self.average_checkpoints
        if self.mean_of_evaluations and self.eval_strategy == "no":
            raise ValueError(
                f"`mean_of_evaluations: {self.mean_of_evaluations}` needs evaluations. Set `eval_strategy` to `steps` "
                "or `epoch`."
            )
        if not number:
            return
        if self.load_best_model_at_end:
            raise ValueError(
                f"`average_checkpoints: {number}` and `load_best_model_at_end: true` each choose the model that a "
                "training leaves. Set one of them."
            )
        if self.save_strategy == "no":
            raise ValueError(
                f"`average_checkpoints: {number}` needs checkpoints. Set `save_strategy` to `steps` or `epoch`."
            )
        if self.save_total_limit is not None and 0 < self.save_total_limit < number:
            raise ValueError(
                f"`average_checkpoints: {number}` needs as many checkpoints, and `save_total_limit` keeps "
                f"{self.save_total_limit}. Raise it to {number}."
            )
        if self.fsdp or self.deepspeed:
            raise ValueError(
                f"`average_checkpoints: {number}` reads whole weights, and checkpoints of FSDP and DeepSpeed hold "
                "parts. Leave it out."
            )


class AveragedTrainer(TokenLossTrainer):
    """Leaves the mean of its last checkpoints' weights where `average_checkpoints` asks for it.

    The mean is taken over this training's own checkpoints, each weight in double precision, and stands in the model
    when `train` returns; `save_model` then writes a model like any other. The checkpoints stay as they are. A training
    that had finished and is resumed leaves the same mean again. With `metric_for_best_model` the best checkpoint stays
    beside the last ones, so that there may be one more than `save_total_limit`.

    Attributes:
        averaged_steps: updates of the checkpoints that were averaged; empty where none were.
    """

    args: AveragedConfig
    averaged_steps: Sequence[int] = ()

    def _newest_kept(self) -> int:
        # The best checkpoint may be an early one, which would take the place of one of the last within the limit.
        return max(super()._newest_kept(), self.args.average_checkpoints)

    def _finalize_training(self, trial, num_train_samples, start_time):
        output = super()._finalize_training(trial, num_train_samples, start_time)
        self.averaged_steps = ()
        if self.args.average_checkpoints:
            self._average_checkpoints(self._get_output_dir(trial))
        return output

    def _average_checkpoints(self, run_dir: str):
        foreign = set(foreign_checkpoints(run_dir, self._record.lineage))
        own = [(step, path) for step, path in checkpoints_in(run_dir) if path not in foreign]
        own = [(step, path) for step, path in own if step <= self.state.global_step][-self.args.average_checkpoints :]
        if len(own) < 2:
            logger.warning(
                f"`average_checkpoints` is {self.args.average_checkpoints}, but the training left {len(own)} of its "
                "own. The last model is kept."
            )
            return

        def weights() -> Iterator[nn.Module]:
            for _, path in own:
                self._load_from_checkpoint(str(path), self.model)
                yield self.model

        load_mean(self.model, weights())
        self.averaged_steps = [step for step, _ in own]
        if self.is_world_process_zero():
            logger.info(f"The model is the mean of the checkpoints {', '.join(Path(path).name for _, path in own)}.")


@torch.no_grad()
def load_mean(model: nn.Module, states: Iterator[nn.Module]):
    """Gives a model the mean of weights, which are loaded in turn, into it or into models like it.

    Args:
        model: gets the mean of every parameter and of every buffer of real numbers; tied ones are one.
        states: models with the weights, at least one; may be `model` itself, loaded anew each time.
    """
    sums: dict[str, Tensor] = {}
    number = 0
    for state in states:
        number += 1
        for name, value in _real(state):
            sums[name] = sums[name] + value.double() if name in sums else value.double()
    for name, value in _real(model):
        value.copy_((sums[name] / number).to(value))


def _real(model: nn.Module) -> list[tuple[str, Tensor]]:
    values = [*model.named_parameters(), *model.named_buffers()]
    return [(name, value) for name, value in values if value.is_floating_point()]


def mean_of_last(history: Sequence[Mapping[str, Any]], number: int, keys: Sequence[str]) -> dict[str, float]:
    """Mean and standard deviation of validation scores over the last evaluations of a training.

    Args:
        history: entries of the log, in their order.
        number: of evaluations; fewer where there are fewer.
        keys: of the scores, such as `eval_bleu`.

    Returns:
        By key the mean, by key and `_deviation` the standard deviation (with two values or more), and under
        `evaluations` their number. Empty where nothing was evaluated.
    """
    by_step: dict[int, dict[str, Any]] = {}
    for entry in history:
        if any(key in entry for key in keys):
            by_step[entry["step"]] = {**by_step.get(entry["step"], {}), **entry}
    last = [by_step[step] for step in sorted(by_step)][-number:] if number else []
    found: dict[str, float] = {}
    for key in keys:
        values = [float(entry[key]) for entry in last if entry.get(key) is not None]
        if values:
            found[key] = mean(values)
            found["evaluations"] = len(values)
        if len(values) > 1:
            found[f"{key}_deviation"] = stdev(values)
    return found
