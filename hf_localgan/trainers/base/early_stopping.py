"""Early stopping that survives a resume."""

from transformers import EarlyStoppingCallback


class EarlyStopping(EarlyStoppingCallback):
    """As transformers' callback, but a resumed run goes on counting where its checkpoint was.

    `restore_callback_states_from_checkpoint` does that for the stock callback, is off by default, and brings back the
    old patience as well, even if the user has just changed it.
    """

    def on_train_begin(self, args, state, control, **kwargs):
        super().on_train_begin(args, state, control, **kwargs)
        saved = state.stateful_callbacks.get(type(self).__name__) if state.global_step else None
        name = "early_stopping_patience_counter"
        self.early_stopping_patience_counter = saved["attributes"].get(name, 0) if isinstance(saved, dict) else 0
