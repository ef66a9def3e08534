"""The settings of a training that a card lists: those that shape the model and differ from their defaults."""

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

from transformers import Seq2SeqTrainingArguments

# The framework's settings that shape a model: the first are listed always, the others where they differ.
LISTED_ALWAYS = ("learning_rate", "per_device_train_batch_size", "seed")
LISTED_IF_CHANGED = (
    "num_train_epochs", "max_steps", "gradient_accumulation_steps", "lr_scheduler_type", "warmup_steps", "optim",
    "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "label_smoothing_factor", "bf16",
    "fp16", "load_best_model_at_end", "metric_for_best_model", "train_sampling_strategy",
)  # fmt: skip
# Fields of the package's own configurations that do not shape the model.
UNLISTED_FIELDS = (
    "report_to", "sample_rows", "sample_max_new_tokens", "fast_loss", "card_language", "card_license", "card_datasets",
    "completions_to", "completions_license",
)  # fmt: skip


def changed_settings(args: Any) -> list[tuple[str, str]]:
    """Names and values of a trainer's settings: the package's own, and the framework's that shape a model.

    Learning rate, batch and seed are always among them, the others where they differ from their defaults; folders,
    tokens and the like never are.

    Args:
        args: a configuration of this package.

    Raises:
        ValueError: if `args` is no dataclass.
    """
    if not is_dataclass(args) or isinstance(args, type):
        raise ValueError(f"`args` must be a trainer's configuration such as `MleConfig`, got {args!r}.")
    settings = stored_settings({field.name: _plain(getattr(args, field.name)) for field in fields(args)}, type(args))
    if (world_size := getattr(args, "world_size", 1)) > 1:
        settings.append(("processes", str(world_size)))
    return settings


def stored_settings(saved: Mapping[str, Any], config_class: type) -> list[tuple[str, str]]:
    """The same from the `training_args.json` of a finished training, without the number of processes.

    Args:
        saved: content of the file.
        config_class: class of the trainer's configuration.
    """
    framework = {field.name for field in fields(Seq2SeqTrainingArguments)}
    settings = []
    for field in fields(config_class):
        name = field.name
        if name not in saved:
            continue
        is_own = name not in framework and name not in UNLISTED_FIELDS
        if name in LISTED_ALWAYS or ((is_own or name in LISTED_IF_CHANGED) and saved[name] != _plain(_default(field))):
            settings.append((name, str(saved[name])))
    return settings


def _default(field: Field) -> Any:
    if field.default is not MISSING:
        return field.default
    return None if field.default_factory is MISSING else field.default_factory()


def _plain(value: Any) -> Any:
    """The value as `to_sanitized_dict` of training arguments writes it: enumerations by value, objects as text."""
    value = getattr(value, "value", value)
    return value if type(value) in (bool, int, float, str) else str(value)
