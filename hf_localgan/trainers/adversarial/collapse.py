"""Stopping when a generator collapses."""

import logging
import math

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from hf_localgan.trainers.base.callbacks import resumed_attributes

logger = logging.getLogger(__name__)

WATCHED = ("eval_ent_4", "eval_dist_2")


class CollapseGuard(TrainerCallback, ExportableState):
    """Stops training when answers to the validation queries lose their variety or run away in length, or at a NaN.

    What is left then is the best model where `load_best_model_at_end` is set, else the model as it is; either is said.
    A resumed run goes on with the highest values so far.

    Args:
        share: of its highest value that Ent-4 or Dist-2 may lose.
        length: times the first length that answers may have.

    Attributes:
        reason: why training was stopped; `None` if it was not.
    """

    def __init__(self, share: float, length: float):
        self.share, self.length = share, length
        self.highest: dict[str, float] = {}
        self.first_length: float | None = None
        self.reason: str | None = None

    def state(self) -> dict:
        attributes = {"highest": self.highest, "first_length": self.first_length, "reason": self.reason}
        return {"args": {"share": self.share, "length": self.length}, "attributes": attributes}

    def on_train_begin(self, args, state, control, **kwargs):
        attributes = resumed_attributes(self, state)
        self.highest, self.first_length = dict(attributes.get("highest", {})), attributes.get("first_length")
        self.reason = None  # a run that goes on after it was stopped is watched as before

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        metrics = metrics or {}
        for name in WATCHED:
            if name not in metrics:
                continue
            value, highest = metrics[name], self.highest.get(name, 0.0)
            if not value > (1 - self.share) * highest and highest > 0:
                self._stop(args, state, control, f"`{name}` fell from {highest:.4g} to {value:.4g}")
            self.highest[name] = max(highest, value)
        length = metrics.get("eval_length")
        if length is not None:
            # Of a generator that says nothing at first, any length would be a multiple.
            self.first_length = max(length, 1.0) if self.first_length is None else self.first_length
            if length > self.length * self.first_length:
                self._stop(args, state, control, f"answers grew from {self.first_length:.3g} to {length:.3g} words")
        if not math.isfinite(metrics.get("eval_loss", 0.0)):
            self._stop(args, state, control, f"`eval_loss` is {metrics['eval_loss']}")

    def on_log(self, args, state, control, logs=None, **kwargs):
        for name, value in (logs or {}).items():
            if name.startswith("loss/") and not math.isfinite(value):
                self._stop(args, state, control, f"`{name}` is {value}")

    def _stop(self, args, state, control, what: str):
        if self.reason is not None:
            return
        best = args.load_best_model_at_end and state.best_model_checkpoint is not None
        left = "the best model so far is loaded" if best else "the model is left as it is"
        self.reason = f"stopped at step {state.global_step}: {what}"
        logger.warning(
            f"Training {self.reason}; {left}. A smaller `learning_rate`, more `teacher_forcing_weight` or a "
            "longer `discriminator_warmup_steps` make this rarer."
        )
        control.should_training_stop = True
