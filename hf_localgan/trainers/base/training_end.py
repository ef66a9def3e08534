"""Whether a resumed training has ended before, and what is said then."""

import math
from typing import Any

from transformers import TrainerState
from transformers.trainer_callback import TrainerControl

from hf_localgan.trainers.base.callbacks import saved_states


def end_message(checkpoint: str, saved: TrainerState, max_steps: int) -> str:
    """What is said where a training is resumed that has no update left to do; arguments as for `is_at_end`."""
    if saved.global_step > max_steps:
        return (
            f'"{checkpoint}" lies beyond the end of this training: it has made {saved.global_step:,} updates, and this '
            f"run is to make {max_steps:,}. So it takes no step, and its model is that of the checkpoint. To continue, "
            "set a larger `max_steps` or `num_train_epochs`; to train anew, take another `output_dir`."
        )
    return (
        f'The training had ended in "{checkpoint}", so it takes no step. To continue, set a larger `max_steps` or '
        "`num_train_epochs`, or change the settings that stopped it."
    )


def is_at_end(saved: TrainerState, max_steps: int, settings: dict[str, dict[str, Any]]) -> bool:
    """Whether a resumed training has no update left to do.

    Args:
        saved: the state in the checkpoint.
        max_steps: updates of the whole training that this run requests.
        settings: this run's settings of the callbacks that keep a state, by the names of their classes.

    Returns:
        `True` if all updates have been made; or if a callback had stopped the training for good, has the same settings
        in this run, and no more updates are requested. A callback that keeps no state does not count.
    """
    if saved.global_step >= max_steps:
        return True
    states = {name: state for name, state in saved_states(saved).items() if isinstance(state, dict)}
    control = states.pop(TrainerControl.__name__, None)
    if control is None or not control["args"]["should_training_stop"] or max_steps > saved.max_steps:
        return False
    return any(has_stopped(state) and settings.get(name) == state["args"] for name, state in states.items())


def has_stopped(state: dict[str, dict[str, Any]]) -> bool:
    """Whether the saved state of a callback shows that it has stopped the training.

    The sign is a `reason` among its attributes or, for transformers' early stopping, a patience that has run out.
    """
    attributes, patience = state["attributes"], state["args"].get("early_stopping_patience", math.inf)
    return attributes.get("reason") is not None or attributes.get("early_stopping_patience_counter", 0) >= patience
