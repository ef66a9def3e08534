"""Fingerprints of what a training is made of: its vocabulary, the base model under adapters, its training data."""

import json
from collections.abc import Mapping, Sized
from hashlib import sha256
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import nn

from hf_localgan.data.vocabulary import vocabulary_fingerprint

ROWS, FINGERPRINT = "rows of the training data", "fingerprint of the training data"
SAMPLED_ROWS = 64  # of the training data
SAMPLED_VALUES = 8  # of each frozen parameter


def fingerprint_of(tokenizer: Any) -> str | None:
    """The fingerprint of a tokenizer's vocabulary; `None` for no tokenizer, and one that cannot list its tokens."""
    try:
        return None if tokenizer is None else vocabulary_fingerprint(tokenizer)
    except (AttributeError, NotImplementedError):
        return None


def base_fingerprint(model: nn.Module) -> str | None:
    """16 hexadecimal digits of the frozen weights that checkpoints of a PEFT model leave out; `None` for other models.

    They are taken from a few values of every frozen weight, rounded to bfloat16, so that the precision in which the
    base model was loaded changes nothing.
    """
    adapters = getattr(model, "peft_config", None)
    if not adapters:
        return None
    samples = []
    for name, parameter in sorted(model.named_parameters()):
        if parameter.requires_grad or not adapters.keys().isdisjoint(name.split(".")):
            continue
        values = parameter.detach().reshape(-1)
        values = values[:: max(1, len(values) // SAMPLED_VALUES)][: SAMPLED_VALUES + 1]
        numbers = values.to(torch.bfloat16).float().tolist()
        samples.append([list(parameter.shape), numbers])
    return _digest(samples)


def data_facts(dataset: Any) -> dict[str, Any]:
    """Number of rows of a training set, and a fingerprint of a few of them, evenly spaced; empty for streams.

    Only lists and data sets of `datasets` are looked into, for other data may be drawn at random. Of frames of speech
    only the number counts: processors compute them differently in the last digits.
    """
    if not isinstance(dataset, Sized):
        return {}
    facts: dict[str, Any] = {ROWS: len(dataset)}
    chosen = sorted({row * len(dataset) // SAMPLED_ROWS for row in range(SAMPLED_ROWS)}) if len(dataset) else []
    columns: Any = None
    if isinstance(dataset, datasets.Dataset) and dataset.format["type"] != "custom":
        table = dataset.select(chosen).with_format("arrow")[:]  # as it is stored: no sound is decoded
        columns = {name: _stored(table.column(name)) for name in sorted(table.column_names)}
    elif isinstance(dataset, (list, tuple)):
        columns = [
            {name: _content(value) for name, value in row.items()} if isinstance(row, Mapping) else str(row)
            for row in (dataset[index] for index in chosen)
        ]
    if columns is not None:
        facts[FINGERPRINT] = _digest(columns)
    return facts


def _stored(column: pa.ChunkedArray) -> list[Any]:
    """The cells of a column; where they are lists of lists, their lengths."""
    cells = column.combine_chunks()
    cells = cells.storage if isinstance(cells, pa.ExtensionArray) else cells
    is_nested = hasattr(cells.type, "value_type") and hasattr(cells.type.value_type, "value_type")
    return (pc.list_value_length(cells) if is_nested else cells).to_pylist()


def _content(value: Any) -> Any:
    """A cell of a row; of a list of lists, or an array of several dimensions, the length."""
    value = value.tolist() if hasattr(value, "tolist") else value
    is_nested = isinstance(value, (list, tuple)) and any(hasattr(item, "__len__") for item in value[:1])
    return len(value) if is_nested and not isinstance(value[0], str) else value


def _digest(content: Any) -> str:
    """16 hexadecimal digits of a value."""
    return sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
