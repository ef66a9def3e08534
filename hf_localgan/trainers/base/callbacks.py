"""What the package's callbacks share."""

from typing import Any

from transformers import TrainerCallback, TrainerState


def resumed_attributes(callback: TrainerCallback, state: TrainerState) -> dict[str, Any]:
    """What a callback of this class had saved in the checkpoint that a training goes on from; empty for a new one.

    transformers hands the state of callbacks back only with `restore_callback_states_from_checkpoint`, which is off by
    default and brings back the old settings as well, even where the user has just changed them.

    Args:
        callback: an `ExportableState`.
        state: of the training, as `on_train_begin` gets it.
    """
    saved = state.stateful_callbacks.get(type(callback).__name__) if state.global_step else None
    if isinstance(saved, list):  # several callbacks of one class
        saved = saved[0] if saved else None
    return dict(saved["attributes"]) if isinstance(saved, dict) else {}
