"""Values of the Trainer's own settings that make no sense, refused before anything is loaded.

`TrainingArguments` takes them, and they fail hours later or do the opposite of what they say: accumulation over 0
batches divides by zero, a negative `save_steps` saves at every step, 0 as `save_total_limit` keeps all checkpoints.
"""

import inspect
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from transformers import SchedulerType, TrainingArguments
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION
from transformers.trainer_pt_utils import AcceleratorConfig
from transformers.training_args import trainer_log_levels


class Bounds(NamedTuple):
    """Accepted values of a number.

    Attributes:
        least: the smallest one.
        largest: the largest one, `None` without a limit.
        open_end: whether `largest` itself is refused.
        whole: whether it must be a whole number.
        advice: a sentence for the error.
    """

    least: float
    largest: float | None = None
    open_end: bool = False
    whole: bool = False
    advice: str = ""

    def holds(self, value: float) -> bool:
        """Whether a number is accepted. NaN and infinity never are."""
        if not math.isfinite(value) or value < self.least or (self.whole and value != int(value)):
            return False
        return self.largest is None or value < self.largest or (value == self.largest and not self.open_end)

    def __str__(self) -> str:
        label = "a whole number" if self.whole else "a number"
        if self.largest is None:
            return f"{label} of at least {self.least}"
        return f"{label} of at least {self.least} and {'below' if self.open_end else 'at most'} {self.largest}"


COUNT = Bounds(1, whole=True)
NUMBER_OR_NONE = Bounds(0, whole=True)  # 0: none of it
PROBABILITY = Bounds(0, 1, open_end=True)  # of dropout
POSITIVE_OR_NONE = Bounds(0)
SEED = Bounds(0, 2**32 - 1, whole=True)  # what NumPy accepts
SHARE = "Below 1 it is a share of all steps."
NUMBERS = {
    "per_device_train_batch_size": COUNT,
    "per_device_eval_batch_size": COUNT,
    "gradient_accumulation_steps": Bounds(1, whole=True, advice="1 updates after every batch."),
    "num_train_epochs": Bounds(0),
    "max_steps": Bounds(-1, whole=True, advice="-1 leaves the length to `num_train_epochs`."),
    "learning_rate": Bounds(0),
    "weight_decay": Bounds(0),
    "adam_beta1": Bounds(0, 1, open_end=True),
    "adam_beta2": Bounds(0, 1, open_end=True),
    "adam_epsilon": Bounds(0),
    "max_grad_norm": Bounds(0, advice="0 turns clipping off."),
    "warmup_steps": Bounds(0, advice=SHARE),
    "neftune_noise_alpha": Bounds(0, advice="Leave it out for no noise."),
    "logging_steps": Bounds(0, advice=SHARE),
    "eval_steps": Bounds(0, advice=SHARE),
    "save_steps": Bounds(0, advice=SHARE),
    "eval_delay": Bounds(0),
    "save_total_limit": Bounds(1, whole=True, advice="Leave it out to keep all checkpoints."),
    "eval_accumulation_steps": Bounds(1, whole=True, advice="Leave it out to keep all predictions on the device."),
    "seed": SEED,
    "data_seed": SEED,
    "dataloader_num_workers": Bounds(0, whole=True, advice="0 loads in the main process."),
    "dataloader_prefetch_factor": COUNT,
    "ddp_timeout": COUNT,
    "ddp_bucket_cap_mb": COUNT,
    "generation_max_length": COUNT,
    "generation_num_beams": COUNT,
}
MAPPINGS = (
    "lr_scheduler_kwargs", "gradient_checkpointing_kwargs", "activation_checkpointing_kwargs", "liger_kernel_config",
)  # fmt: skip
PARSED = (*MAPPINGS, "accelerator_config", "fsdp_config", "deepspeed")  # which may be JSON


def check_framework_settings(args: TrainingArguments):
    """Refuses values of the Trainer's own settings that make no sense.

    Args:
        args: the configuration, as the user gave it.

    Raises:
        ValueError: naming the setting, its value and what is accepted.
    """
    check_bounds(args, NUMBERS)
    if args.save_steps == 0:
        raise ValueError("`save_steps` must be above 0, got 0. To save nothing, set `save_strategy` to `no`.")
    for name in PARSED:
        _check_json(name, getattr(args, name, None))
    _check_schedule(args)
    if isinstance(args.accelerator_config, (Mapping, str)):
        given = _parsed(args.accelerator_config)
        _check_names("accelerator_config", given, [setting.name for setting in fields(AcceleratorConfig)])
    for part in filter(None, (args.optim_args or "").split(",")):
        if part.count("=") != 1:
            raise ValueError(f'`optim_args` is written `name=value,name=value`, got "{args.optim_args}".')
    for name in ("log_level", "log_level_replica"):
        value = getattr(args, name)
        if value not in trainer_log_levels:
            raise ValueError(f'`{name}` must be one of {", ".join(trainer_log_levels)}, got "{value}".')
    if args.output_dir is not None and Path(args.output_dir).exists() and not Path(args.output_dir).is_dir():
        raise ValueError(f'`output_dir` must be a folder, and "{args.output_dir}" is a file. Name another one.')


def _check_schedule(args: TrainingArguments):
    """Refuses settings that the learning-rate schedule does not have; a wrong schedule is refused by transformers."""
    try:
        schedule: Any = TYPE_TO_SCHEDULER_FUNCTION[SchedulerType(args.lr_scheduler_type)]
        parameters = inspect.signature(schedule).parameters
    except ValueError:
        return
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    own = [name for name in parameters if name not in ("optimizer", "num_warmup_steps", "num_training_steps")]
    _check_names("lr_scheduler_kwargs", _parsed(args.lr_scheduler_kwargs), own)


def _check_names(setting: str, given: Mapping[str, Any], accepted: Sequence[str]):
    unknown = [name for name in given if name not in accepted]
    if unknown:
        raise ValueError(
            f"`{setting}` has {', '.join(f'`{name}`' for name in unknown)}; accepted are {', '.join(accepted)}."
        )


def _parsed(value: Any) -> Mapping[str, Any]:
    """A dictionary that may be written as JSON; an empty one for the name of a file."""
    if isinstance(value, str):
        return json.loads(value) if value.startswith("{") else {}
    return value or {}


def check_bounds(settings: Any, bounds: Mapping[str, Bounds]):
    """Refuses numbers outside of their bounds.

    Args:
        settings: has the numbers as attributes; those that are missing or `None` are skipped.
        bounds: by the names of the attributes.

    Raises:
        ValueError: naming the setting, its value and what is accepted.
    """
    for name, accepted in bounds.items():
        value = getattr(settings, name, None)
        if value is not None:
            _check_number(name, value, accepted)


def _check_number(name: str, value: Any, bounds: Bounds):
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            raise ValueError(f'`{name}` must be {bounds}, got the text "{value}".') from None
    elif isinstance(value, (int, float)):
        number = value
    else:
        return  # such as a tensor or a number of NumPy, which the Trainer converts
    if not bounds.holds(number):
        raise ValueError(f"`{name}` must be {bounds}, got {value}.{' ' if bounds.advice else ''}{bounds.advice}")


def _check_json(name: str, value: Any):
    if isinstance(value, str) and value.startswith("{"):
        try:
            json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f'`{name}` must be JSON, such as {{"key": 1}}, got {value!r}: {error}.') from error
    elif name in MAPPINGS and value is not None and not isinstance(value, Mapping):
        raise ValueError(f'`{name}` must be a dictionary, as JSON {{"key": 1}}, got {value!r}.')
