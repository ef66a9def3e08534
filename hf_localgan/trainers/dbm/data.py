"""From rows of tokens or of vectors to the standardised vectors that a deep Boltzmann machine sees."""

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import default_data_collator

from hf_localgan.data.padding import pad_columns
from hf_localgan.data.pair_columns import TOKENS, VECTORS, check_columns
from hf_localgan.models.dbm import DbmModel, FeatureScaler

COLUMNS = ("input_ids", "attention_mask", "labels", *VECTORS)


def collate_pairs(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Pads rows of tokens with -100, which the energy skips, and stacks rows of vectors.

    For tokens it is many times as fast as a collator that calls the tokenizer, and the vectors are the same.

    Args:
        rows: with `input_ids`, `labels` and possibly `attention_mask`, or with `query_features` and
            `response_features`.

    Returns:
        The same columns, shape `(batch, time)` or `(batch, size)`.

    Raises:
        ValueError: for other rows, and vectors of different sizes.
    """
    check_columns(rows[0], "Rows")
    if all(name in rows[0] for name in VECTORS):
        for name in VECTORS:
            sizes = sorted({len(row[name]) for row in rows})
            if len(sizes) > 1:
                raise ValueError(f"`{name}` must be vectors of one size, got {sizes[0]} and {sizes[-1]} dimensions.")
        return default_data_collator([{name: row[name] for name in VECTORS} for row in rows])
    names = [*TOKENS, *(["attention_mask"] if "attention_mask" in rows[0] else [])]
    return pad_columns({name: [row[name] for row in rows] for name in names})


def check_dataset(name: str, dataset: Any):
    """Refuses data sets that are empty or whose first row lacks columns; a stream is checked at its first batch.

    Args:
        name: name of the argument, for the error.
        dataset: rows, a dictionary of data sets by name, or `None`.

    Raises:
        ValueError: for an empty data set, and for missing columns.
    """
    for split in dataset.values() if isinstance(dataset, dict) else [dataset]:
        if not hasattr(split, "__len__"):
            continue
        if len(split) == 0:
            raise ValueError(
                f"`{name}` is empty. The report of `load_pairs` lists the pairs that were left out, and why; widen its "
                "limits."
            )
        check_columns(split[0], f"Rows of `{name}`")


def raw_vectors(model: DbmModel, batch: Mapping[str, Any]) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Vectors of a batch's queries and responses before standardising, and whether each of them counts.

    Args:
        model: holds the word vectors, for tokens.
        batch: with `query_features` and `response_features`, or with `input_ids`, `attention_mask` and `labels`.

    Returns:
        For queries and for responses: vectors, shape `(batch, size)`, and truth values, shape `(batch,)`. Utterances
        without a regular token do not count.

    Raises:
        ValueError: for batches of neither kind, vectors of another size, tokens without word vectors.
    """
    check_columns([name for name, value in batch.items() if value is not None], "A batch")
    if all(batch.get(name) is not None for name in VECTORS):
        query_name, response_name = VECTORS
        return (
            _checked_vectors(query_name, batch[query_name], model.query_scaler),
            _checked_vectors(response_name, batch[response_name], model.response_scaler),
        )
    if model.word_vectors is None:
        raise ValueError(
            "The data are tokens, but the model holds no word vectors (`vocab_size` is `None`). Make it with "
            "`DbmConfig(vocab_size=...)` and `model.word_vectors.load(...)`, or give `query_features` and "
            "`response_features`."
        )
    query = model.word_vectors(batch["input_ids"], batch.get("attention_mask"))
    return query, model.word_vectors(batch["labels"], None)


def standardised(model: DbmModel, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Standardised vectors of a batch, the model's input, zeros for utterances that do not count; without gradient.

    Args:
        model, batch: as in `raw_vectors`, with its errors.

    Returns:
        Shapes `(batch, query_size)` and `(batch, response_size)`, float32 or float64.
    """
    with torch.no_grad():
        (query, query_counts), (response, response_counts) = raw_vectors(model, batch)
        return (
            torch.where(query_counts[:, None], model.query_scaler(query), 0.0),
            torch.where(response_counts[:, None], model.response_scaler(response), 0.0),
        )


def fit_scalers(
    model: DbmModel,
    dataset: Any,
    collate: Callable[[list[Any]], Mapping[str, Any]],
    batch_size: int,
    rows: int,
    device: torch.device | str,
):
    """Fits both scalers by one pass over the data in their order, with `StandardScaler.partial_fit`.

    For a model that whitens, the covariance is counted in the same pass, in double precision.

    Args:
        model: its scalers are overwritten.
        dataset: map-style or a stream.
        collate: makes a batch from a list of its rows.
        batch_size: rows of a batch.
        rows: largest number of rows, from the start; 0: all.
        device: the model's.

    Raises:
        ValueError: if there is no row, or an utterance's vector is not finite.
    """
    from sklearn.preprocessing import StandardScaler

    # A separate generator, so that the pass leaves torch's random state alone.
    loader = DataLoader(dataset, batch_size=batch_size, collate_fn=collate, generator=torch.Generator())
    scalers, products, position = (StandardScaler(), StandardScaler()), dict[str, np.ndarray](), 0
    batches = iter(loader) if not rows else islice(loader, -(-rows // batch_size))
    for batch in batches:
        batch = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
        for scaler, name, (vectors, counted) in zip(scalers, VECTORS, raw_vectors(model, batch), strict=True):
            if rows:
                vectors, counted = vectors[: rows - position], counted[: rows - position]
            values = vectors[counted].double().cpu().numpy()
            if not np.isfinite(values).all():
                raise ValueError(f"`{name}` of the training data must be finite, got NaN or infinity.")
            if len(values):
                scaler.partial_fit(values)
                if model.config.whiten:
                    products[name] = products.get(name, 0) + values.T @ values
        position += len(counted)
    model_scalers = model.query_scaler, model.response_scaler
    for name, scaler, model_scaler in zip(VECTORS, scalers, model_scalers, strict=True):
        if not hasattr(scaler, "mean_"):
            raise ValueError("The training data have no utterance to fit the scalers on: no rows, or no regular token.")
        covariance = None
        if model.config.whiten:
            covariance = products[name] / scaler.n_samples_seen_ - np.outer(scaler.mean_, scaler.mean_)
        model_scaler.load_statistics(scaler, covariance)


def _checked_vectors(name: str, vectors: Any, scaler: FeatureScaler) -> tuple[Tensor, Tensor]:
    size, vectors = len(scaler.mean), torch.as_tensor(vectors)
    if vectors.dim() != 2 or vectors.shape[1] != size:
        side = name.removesuffix("_features")
        raise ValueError(
            f"`{name}` must be vectors of {size} dimensions (`{side}_size` of the model), got a batch of shape "
            f"{tuple(vectors.shape)}."
        )
    return vectors.to(scaler.mean.dtype), torch.ones(len(vectors), dtype=torch.bool, device=vectors.device)
