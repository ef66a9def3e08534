"""What the user gives a trainer, turned into what trainers work on.

A model by its name, adapters for it, plain arguments of transformers, pairs of text, and no collator.
"""

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import datasets
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset
from transformers import (
    DataCollatorForSeq2Seq,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Seq2SeqTrainingArguments,
    TrainingArguments,
)

from hf_localgan.data.columns import ACCEPTED_COLUMNS, holds_text
from hf_localgan.data.encoding import encode_pairs
from hf_localgan.data.padding import PADDING, pad_ids
from hf_localgan.data.pairs import Pairs, load_pairs
from hf_localgan.models.adapters import quiet_peft
from hf_localgan.models.quantization import is_quantized, needs_adapters, prepared_for_adapters
from hf_localgan.trainers.base.formatting import FormattingFunction, format_rows

if TYPE_CHECKING:
    from peft import PeftConfig

Settings = TypeVar("Settings", bound=TrainingArguments)
GivenModel: TypeAlias = PreTrainedModel | nn.Module | str | os.PathLike  # a name is a folder or an id on the Hub
# Encoded, or pairs of text: in memory, or by the name of a file, a folder or a data set on the Hub.
GivenRows: TypeAlias = Dataset | IterableDataset | Pairs | str | os.PathLike

PLAIN_ARGUMENTS = (TrainingArguments, Seq2SeqTrainingArguments)
ENCODED = ("input_ids", "labels", "query_features", "input_features")  # columns of rows that need no tokenizer
PADDERS = (DataCollatorForSeq2Seq, DataCollatorWithPadding)  # which read token ids alone


# ---- arguments ----


def settle_args(config_class: type[Settings], trainer: str, args: Any) -> Settings:
    """The settings of a trainer from what it got as `args`.

    Args:
        config_class: class of its settings.
        trainer: name of the trainer, for errors.
        args: settings of that class, which are returned as they are; plain arguments of transformers, whose values
            that differ from their defaults are taken over; or `None`, for the defaults.

    Raises:
        ValueError: for other objects, and for plain arguments that the trainer does not have.
    """
    if args is None:
        return config_class()
    if isinstance(args, config_class):
        return args
    if type(args) not in PLAIN_ARGUMENTS:
        raise ValueError(
            f"`args` must be a `{config_class.__name__}`, got {type(args).__name__}. It holds the settings of "
            f"`{trainer}`. Plain `Seq2SeqTrainingArguments` are accepted, too, and `None` for the defaults."
        )
    values = given_values(args)
    names = {setting.name for setting in fields(config_class) if setting.init}
    unknown = sorted(set(values) - names)
    if unknown:
        raise ValueError(
            f"`args` set {', '.join(f'`{name}`' for name in unknown)}, which `{trainer}` does not have. Leave it out, "
            f"or give a `{config_class.__name__}`."
        )
    return config_class(**values)


def given_values(args: TrainingArguments) -> dict[str, Any]:
    """The values of plain arguments that differ from their defaults.

    Args:
        args: `TrainingArguments` or `Seq2SeqTrainingArguments`. They do not remember what their constructor got: a
            given value that equals the default counts as not given, and so does the metric that transformers chooses
            for `load_best_model_at_end`.
    """
    default = type(args)(output_dir=args.output_dir, load_best_model_at_end=False, use_cpu=args.use_cpu)
    values = {
        setting.name: getattr(args, setting.name)
        for setting in fields(args)
        if setting.init and getattr(args, setting.name) != getattr(default, setting.name)
    }
    if values.get("metric_for_best_model") == "loss":
        for name in ("metric_for_best_model", "greater_is_better"):
            values.pop(name, None)
    return {"output_dir": args.output_dir, "use_cpu": args.use_cpu, **values}


# ---- adapters ----


def with_adapters(model: Any, peft_config: "PeftConfig | None") -> Any:
    """The model; with a `peft_config` with new adapters, which alone are trained then.

    Raises:
        ValueError: for a model that has adapters, no model at all, layers that the model does not have, and a quantized
            model that gets none.
    """
    if peft_config is None:
        if isinstance(model, nn.Module) and needs_adapters(model):
            raise ValueError(
                f"The weights of this {type(model).__name__} are quantized, and cannot be trained themselves. Give "
                '`peft_config`, such as `LoraConfig(r=16, target_modules="all-linear")`, or load it without '
                "`quantization_config`."
            )
        return model
    from peft import PeftModel, TaskType, get_peft_model

    if not isinstance(model, nn.Module):
        raise ValueError(
            "`peft_config` makes adapters of a `model`, and none is given. With `model_init` return a model with "
            "adapters: `get_peft_model(model, peft_config)`."
        )
    if isinstance(model, PeftModel):
        raise ValueError(
            "`model` has adapters, and `peft_config` would make further ones. Leave `peft_config` out to train those "
            "of the model, or merge them first: `model.merge_and_unload()`."
        )
    if getattr(peft_config, "task_type", None) is None:
        peft_config = copy.copy(peft_config)
        peft_config.task_type = TaskType.SEQ_2_SEQ_LM
    with quiet_peft():
        if is_quantized(model):
            model = prepared_for_adapters(model)  # type: ignore[arg-type]  # as below
        return get_peft_model(model, peft_config)  # type: ignore[arg-type]  # the class is checked by the trainer


# ---- rows ----


def settle_rows(
    name: str,
    data: Any,
    tokenizer: PreTrainedTokenizerBase | None,
    collator: Any,
    model: Any = None,
    others: bool = False,
    formatting_func: FormattingFunction | None = None,
) -> Any:
    """Encoded rows: those that are given, or those that are made of pairs of text.

    Pairs of text are a `Pairs` object, a name that `load_pairs` takes, or rows with columns of text or messages as
    `load_pairs` finds them: `query` with `response`, `prompt` with `completion`, `messages` and so on. They are checked
    as `load_pairs` does, and encoded whole: a text with more tokens than the model has positions is an error. Rows of
    token ids or vectors are returned as they are, and so is everything for a collator of the user's own, which may read
    text itself.

    Args:
        name: `train_dataset` or `eval_dataset`.
        data: rows, `Pairs`, for `eval_dataset` also a dictionary of them by name, or `None`.
        tokenizer: encodes text.
        collator: the trainer's `data_collator` argument; `None` for the default.
        model: the model, if it is known; its number of positions limits the texts.
        others: return rows of other columns as they are, for a trainer that refuses them itself.
        formatting_func: makes a pair of text of each row first, see `format_rows`.

    Raises:
        ValueError: for rows that are neither encoded nor pairs of text, text without a tokenizer, and text that is too
            long or bad.
    """
    if isinstance(data, (str, os.PathLike)):
        if formatting_func is not None:
            raise ValueError(
                f"`formatting_func` gets rows, and `{name}` is the name {os.fspath(data)!r}. Give the rows: "
                "`datasets.load_dataset(...)`."
            )
        pairs = load_pairs(data)
        data = next(iter(pairs.values())) if len(pairs) == 1 else pairs
    if isinstance(data, Pairs):
        split = "train" if name == "train_dataset" else "validation"
        if split not in data:
            raise ValueError(
                f"`{name}` is a `Pairs` object without a split `{split}` (found: {', '.join(data)}). Give one of its "
                f'splits: `{name}=pairs["{next(iter(data), split)}"]`.'
            )
        return settle_rows(name, data[split], tokenizer, collator, model, others, formatting_func)
    if isinstance(data, (datasets.DatasetDict, datasets.IterableDatasetDict)) and name == "train_dataset":
        raise ValueError(
            f"`{name}` holds several splits ({', '.join(data)}). Give one of them, such as "
            f'`{name}=data["{next(iter(data), "train")}"]`.'
        )
    if isinstance(data, Mapping) and name == "eval_dataset":
        return {
            key: settle_rows(name, rows, tokenizer, collator, model, others, formatting_func)
            for key, rows in data.items()
        }
    if data is not None and formatting_func is not None:
        data = format_rows(name, data, formatting_func)
    if collator is not None and not isinstance(getattr(collator, "collator", collator), PADDERS):
        return data
    columns = _columns(data)
    if not columns or any(column in columns for column in ENCODED):
        return data
    if not holds_text(columns):
        if others:
            return data
        raise ValueError(
            f"`{name}` has neither token ids (`input_ids`, `labels`) nor pairs of text (found: "
            f"{', '.join(f'`{column}`' for column in columns)}). {ACCEPTED_COLUMNS}: read the data by "
            "`load_pairs(data, columns=...)`."
        )
    if tokenizer is None:
        raise ValueError(
            f"`{name}` holds text, and no tokenizer is given to encode it. Give it as `processing_class`, or encode "
            "the data by `encode_pairs`."
        )
    return _encoded(name, data, tokenizer, getattr(getattr(model, "config", None), "max_position_embeddings", None))


def _columns(data: Any) -> list[str]:
    """Names of the columns; none for rows that have no names."""
    names = getattr(data, "column_names", None)
    if isinstance(names, Sequence) and not isinstance(names, str):
        return list(names)
    if not isinstance(data, (Sequence, datasets.IterableDataset)) or isinstance(data, str):
        return []  # another class of rows, which may be read once only
    first = next(iter(islice(data, 1)), None)
    return list(first) if isinstance(first, Mapping) else []


def _encoded(name: str, data: Any, tokenizer: PreTrainedTokenizerBase, positions: int | None) -> Any:
    if not isinstance(data, (datasets.Dataset, datasets.IterableDataset)):
        data = datasets.Dataset.from_list(list(data))
    rows = load_pairs({name: data})[name]
    try:
        return encode_pairs(rows, tokenizer, max_source_length=positions, max_target_length=positions, on_long="error")
    except ValueError as error:
        raise ValueError(
            f"`{name}` cannot be encoded: {error} Do it before: "
            '`encode_pairs(data, tokenizer, max_source_length=..., max_target_length=..., on_long="truncate")`.'
        ) from error


# ---- batches ----


@dataclass
class PairPadder:
    """Pads encoded pairs without a tokenizer.

    Reads and returns `input_ids`, `attention_mask` (made where it is missing) and `labels`; other columns are left
    behind.

    Args:
        pad_token_id: padding of `input_ids`. Labels are padded with -100.
    """

    pad_token_id: int

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """The batch, shape `(rows, time)` each."""
        sides = [list(row["input_ids"]) for row in rows]
        masks = [list(row.get("attention_mask") or [1] * len(row["input_ids"])) for row in rows]
        batch = {"input_ids": pad_ids(sides, self.pad_token_id), "attention_mask": pad_ids(masks, 0)}
        if all(row.get("labels") is not None for row in rows):
            batch["labels"] = pad_ids([list(row["labels"]) for row in rows], PADDING)
        return batch


def default_collator(tokenizer: Any, model: PreTrainedModel | nn.Module) -> Callable[[Any], Any]:
    """The collator of a trainer of generators or discriminators that got none.

    Args:
        tokenizer: pads, if there is one.
        model: its `pad_token_id` pads otherwise.

    Raises:
        ValueError: if neither says what padding is.
    """
    if isinstance(tokenizer, PreTrainedTokenizerBase):
        return DataCollatorForSeq2Seq(tokenizer)
    pad_token_id = getattr(getattr(model, "config", None), "pad_token_id", None)
    if pad_token_id is None:
        raise ValueError(
            "No `data_collator` is given, and nothing says what padding is: the model's configuration has no "
            "`pad_token_id`. Give the tokenizer as `processing_class`, or a collator."
        )
    return PairPadder(pad_token_id)
