"""Early stopping that survives a resume."""

from transformers import EarlyStoppingCallback, TrainerControl, TrainerState, TrainingArguments

from hf_localgan.trainers.base.callbacks import resumed_attributes
from hf_localgan.trainers.base.settings import EarlyStoppingSettings


class EarlyStopping(EarlyStoppingCallback):
    """As transformers' callback, but a resumed run counts on from the number in its checkpoint.

    The stock callback does that only with `restore_callback_states_from_checkpoint`, which is off by default and brings
    back the old patience as well, even if the user has just changed it.
    """

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        super().on_train_begin(args, state, control, **kwargs)
        saved = resumed_attributes(self, state)
        self.early_stopping_patience_counter = saved.get("early_stopping_patience_counter", 0)


def early_stopping(args: EarlyStoppingSettings) -> EarlyStopping | None:
    """The callback that settings ask for; `None` without a patience."""
    if not args.early_stopping_patience:
        return None
    return EarlyStopping(args.early_stopping_patience, args.early_stopping_threshold)
