"""Early stopping that survives a resume."""

from transformers import EarlyStoppingCallback, TrainerControl, TrainerState, TrainingArguments

from hf_localgan.trainers.base.callbacks import resumed_attributes
from hf_localgan.trainers.base.settings import EarlyStoppingSettings


class EarlyStopping(EarlyStoppingCallback):
    """As transformers' callback, but a resumed run counts on, and of several evaluation sets the measured one counts.

    Each set of a dictionary of evaluation sets is evaluated by itself; the stock callback warns at every set without
    the metric that early stopping is off. A resumed run counts on from the number in its checkpoint.

    The stock callback does that only with `restore_callback_states_from_checkpoint`, which is off by default and brings
    back the old patience as well, even if the user has just changed it.
    """

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        super().on_train_begin(args, state, control, **kwargs)
        saved = resumed_attributes(self, state)
        self.early_stopping_patience_counter = saved.get("early_stopping_patience_counter", 0)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics=None, **kwargs
    ):
        name = args.metric_for_best_model or "loss"
        if (name if name.startswith("eval_") else f"eval_{name}") in (metrics or {}):
            super().on_evaluate(args, state, control, metrics, **kwargs)


def early_stopping(args: EarlyStoppingSettings) -> EarlyStopping | None:
    """The callback that settings ask for; `None` without a patience."""
    if not args.early_stopping_patience:
        return None
    return EarlyStopping(args.early_stopping_patience, args.early_stopping_threshold)
