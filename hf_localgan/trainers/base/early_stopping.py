"""Early stopping that survives a resume."""

from transformers import EarlyStoppingCallback

from hf_localgan.trainers.base.callbacks import resumed_attributes


class EarlyStopping(EarlyStoppingCallback):
    """As transformers' callback, but a resumed run goes on counting where its checkpoint was.

    `restore_callback_states_from_checkpoint` does that for the stock callback, is off by default, and brings back the
    old patience as well, even if the user has just changed it.
    """

    def on_train_begin(self, args, state, control, **kwargs):
        super().on_train_begin(args, state, control, **kwargs)
        saved = resumed_attributes(self, state)
        self.early_stopping_patience_counter = saved.get("early_stopping_patience_counter", 0)
