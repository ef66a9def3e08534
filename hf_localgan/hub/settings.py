"""Which settings of a training a card tells: those that shape it and differ from their defaults."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from transformers import Seq2SeqTrainingArguments

# What of the framework's settings is told: where the others differ from their defaults they say nothing of the model.
ALWAYS = ("learning_rate", "per_device_train_batch_size", "seed")
OF_TRAINING = (
    "num_train_epochs", "max_steps", "gradient_accumulation_steps", "lr_scheduler_type", "warmup_steps", "optim",
    "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "label_smoothing_factor", "bf16",
    "fp16", "load_best_model_at_end", "metric_for_best_model", "train_sampling_strategy",
)  # fmt: skip
# Fields of the package's own that say nothing of the model either.
NOT_TOLD = (
    "report_to", "sample_rows", "sample_max_new_tokens", "fast_loss", "card_language", "card_license", "card_datasets",
)  # fmt: skip


def changed_settings(args) -> list[tuple[str, str]]:
    """Names and values of what a trainer was told: the package's own fields and the framework's that shape a training.

    Learning rate, batch and seed are always there, the others where they differ from their defaults; folders, tokens
    and the like never are.

    Args:
        args: a configuration of this package.

    Raises:
        ValueError: for something else than a dataclass.
    """
    if not is_dataclass(args):
        raise ValueError(f"`args` must be a trainer's configuration such as `MleConfig`, got {args!r}.")
    told = _told({one.name: _plain(getattr(args, one.name)) for one in fields(args)}, type(args))
    if getattr(args, "world_size", 1) > 1:
        told.append(("processes", str(args.world_size)))
    return told


def stored_settings(saved: Mapping[str, Any], kind: type) -> list[tuple[str, str]]:
    """The same from the `training_args.json` of a finished training.

    Args:
        saved: what the file holds.
        kind: the configuration's class.
    """
    return _told(saved, kind)


def _told(values: Mapping[str, Any], kind: type) -> list[tuple[str, str]]:
    framework = {one.name for one in fields(Seq2SeqTrainingArguments)}
    told = []
    for one in fields(kind):
        if one.name not in values:
            continue
        value, own = values[one.name], one.name not in framework and one.name not in NOT_TOLD
        if one.name in ALWAYS or ((own or one.name in OF_TRAINING) and value != _plain(_default(one))):
            told.append((one.name, str(value)))
    return told


def _default(one):
    if one.default is not MISSING:
        return one.default
    return None if one.default_factory is MISSING else one.default_factory()


def _plain(value):
    """As `to_sanitized_dict` of training arguments writes it: values of enumerations, texts of what is no scalar."""
    value = getattr(value, "value", value)
    return value if type(value) in (bool, int, float, str) else str(value)
