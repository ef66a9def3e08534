"""Early end of a training whose generator collapses."""

import logging
import math
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from hf_localgan.trainers.base.callbacks import resumed_attributes

logger = logging.getLogger(__name__)

DIVERSITY_SCORES = ("eval_ent_4", "eval_dist_2")


class CollapseGuard(TrainerCallback, ExportableState):
    """Stops training when answers to the validation queries lose their diversity or grow too long, or at a NaN.

    The trainer then keeps the best model if `load_best_model_at_end` is set, and the current one otherwise; a warning
    says which. A resumed run keeps the highest values of the earlier one.

    Args:
        share: share of its highest value that Ent-4 or Dist-2 may lose, above 0 and up to 1; with 1 they may fall to 0.
        length: largest length of the answers, as a multiple of their first length.

    Attributes:
        reason: why training was stopped; `None` if it was not.
    """

    def __init__(self, share: float, length: float):
        self.share, self.length = share, length
        self.highest: dict[str, float] = {}
        self.first_length: float | None = None
        self.reason: str | None = None

    def state(self) -> dict[str, Any]:
        attributes = {"highest": self.highest, "first_length": self.first_length, "reason": self.reason}
        return {"args": {"share": self.share, "length": self.length}, "attributes": attributes}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        attributes = resumed_attributes(self, state)
        self.highest, self.first_length = dict(attributes.get("highest", {})), attributes.get("first_length")
        self.reason = None  # a run that continues after it was stopped is watched as before

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics=None, **kwargs
    ):
        metrics = metrics or {}
        for name in DIVERSITY_SCORES:
            if name not in metrics:
                continue
            value, highest = metrics[name], self.highest.get(name, 0.0)
            fell = self.share < 1 and value <= (1 - self.share) * highest
            if highest > 0 and (fell or math.isnan(value)):
                self._stop(args, state, control, f"`{name}` fell from {highest:.4g} to {value:.4g}")
            self.highest[name] = max(highest, value)
        length = metrics.get("eval_length")
        if length is not None:
            # At least 1, for any length is a multiple of 0, with which a silent generator starts.
            self.first_length = max(length, 1.0) if self.first_length is None else self.first_length
            if length > self.length * self.first_length:
                self._stop(args, state, control, f"answers grew from {self.first_length:.3g} to {length:.3g} words")
        if not math.isfinite(metrics.get("eval_loss", 0.0)):
            self._stop(args, state, control, f"`eval_loss` is {metrics['eval_loss']}")

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs=None, **kwargs):
        for name, value in (logs or {}).items():
            if name.startswith("loss/") and not math.isfinite(value):
                self._stop(args, state, control, f"`{name}` is {value}")

    def _stop(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, cause: str):
        if self.reason is not None:
            return
        has_best = args.load_best_model_at_end and state.best_model_checkpoint is not None
        outcome = "the best model so far is loaded" if has_best else "the model is left as it is"
        self.reason = f"stopped at step {state.global_step}: {cause}"
        logger.warning(
            f"Training {self.reason}; {outcome}. A smaller `learning_rate`, a larger `teacher_forcing_weight` or more "
            "`discriminator_warmup_steps` make this rarer."
        )
        control.should_training_stop = True
