"""Saved states of the package's callbacks."""

from typing import Any

from transformers import TrainerState
from transformers.trainer_callback import ExportableState


def saved_states(state: TrainerState) -> dict[str, Any]:
    """The saved states of callbacks by the names of their classes, as the training's state holds them.

    transformers declares a list of callbacks, and makes this dictionary of it.
    """
    states: Any = state.stateful_callbacks
    return states


def resumed_attributes(callback: ExportableState, state: TrainerState) -> dict[str, Any]:
    """The attributes that a callback of this class had in the checkpoint that is resumed; empty in a new training.

    transformers hands the state of callbacks back only with `restore_callback_states_from_checkpoint`, which is off by
    default and brings back the old settings as well, even where the user has just changed them.

    Args:
        callback: a callback that keeps a state.
        state: the training's, as `on_train_begin` gets it.
    """
    saved = saved_states(state).get(type(callback).__name__) if state.global_step else None
    if isinstance(saved, list):  # several callbacks of one class
        saved = saved[0] if saved else None
    return dict(saved["attributes"]) if isinstance(saved, dict) else {}
