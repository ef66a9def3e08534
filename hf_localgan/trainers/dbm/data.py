"""From rows of tokens or of vectors to the standardised vectors that a deep Boltzmann machine sees."""

from collections.abc import Callable
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import default_data_collator

from hf_localgan.data.padding import pad_columns
from hf_localgan.data.pair_columns import TOKENS, VECTORS, check_columns
from hf_localgan.models.dbm import DbmModel

COLUMNS = ("input_ids", "attention_mask", "labels", *VECTORS)


def collate_pairs(rows: list[dict]) -> dict[str, Tensor]:
    """Pads rows of tokens with -100, where no token counts, and stacks rows of vectors.

    For tokens it is many times as fast as a collator that goes through the tokenizer, and the vectors are the same.

    Args:
        rows: with `input_ids`, `labels` and possibly `attention_mask`, or with `query_features` and
            `response_features`.

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


def check_dataset(name: str, dataset):
    """Refuses data that are empty or lack columns, as far as their first row tells; of a stream the first batch does.

    Args:
        name: of the argument.
        dataset: rows, a dictionary of several, or `None`.
    """
    for part in dataset.values() if isinstance(dataset, dict) else [dataset]:
        if not hasattr(part, "__len__"):
            continue
        if len(part) == 0:
            raise ValueError(
                f"`{name}` is empty. Look at the report of `load_pairs` for what was left out and why, and widen its "
                "limits."
            )
        check_columns(part[0], f"Rows of `{name}`")


def raw_vectors(model: DbmModel, batch: dict) -> tuple[tuple[Tensor, Tensor], ...]:
    """Vectors before standardising, and which of them count, of the queries and of the responses of a batch.

    Args:
        model: holds the word vectors, for tokens.
        batch: with `query_features` and `response_features`, or with `input_ids`, `attention_mask` and `labels`.

    Returns:
        Two pairs of vectors, shape `(batch, size)`, and truth values, shape `(batch,)`: utterances without a regular
        token do not count.

    Raises:
        ValueError: for batches of neither kind, vectors of another size, tokens without word vectors.
    """
    check_columns([name for name, value in batch.items() if value is not None], "A batch")
    if all(batch.get(name) is not None for name in VECTORS):
        return tuple(_given(model, name, batch[name]) for name in VECTORS)
    if model.word_vectors is None:
        raise ValueError(
            "The data are tokens, but the model holds no word vectors (`vocab_size` is `None`). Make it with "
            "`DbmConfig(vocab_size=...)` and `model.word_vectors.load(...)`, or give `query_features` and "
            "`response_features`."
        )
    query = model.word_vectors(batch["input_ids"], batch.get("attention_mask"))
    return query, model.word_vectors(batch["labels"], None)


def standardised(model: DbmModel, batch: dict) -> tuple[Tensor, Tensor]:
    """What the model sees of a batch: `(batch, query_size)` and `(batch, response_size)`, float32 or float64."""
    with torch.no_grad():
        (query, known), (response, said) = raw_vectors(model, batch)
        return (
            torch.where(known[:, None], model.query_scaler(query), 0.0),
            torch.where(said[:, None], model.response_scaler(response), 0.0),
        )


def fit_scalers(model: DbmModel, dataset, collate: Callable, batch_size: int, rows: int, device):
    """Fits both scalers by one pass over the data in their order, with `StandardScaler.partial_fit`.

    For a model that whitens, the covariance is counted in the same pass, in double precision.

    Args:
        model: its scalers are overwritten.
        dataset: map-style or a stream.
        collate: makes batches of its rows.
        batch_size: rows that are looked at together.
        rows: at most so many from the start; 0: all.
        device: of the model.

    Raises:
        ValueError: if there is no row, or an utterance's vector is not finite.
    """
    from sklearn.preprocessing import StandardScaler

    # A generator of its own, so that the pass leaves torch's random state alone.
    loader = DataLoader(dataset, batch_size=batch_size, collate_fn=collate, generator=torch.Generator())
    scalers, products, seen = (StandardScaler(), StandardScaler()), {}, 0
    batches = iter(loader) if not rows else islice(loader, -(-rows // batch_size))
    for batch in batches:
        batch = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
        for scaler, name, (vectors, counted) in zip(scalers, VECTORS, raw_vectors(model, batch), strict=True):
            if rows:
                vectors, counted = vectors[: rows - seen], counted[: rows - seen]
            vectors = vectors[counted].double().cpu().numpy()
            if not np.isfinite(vectors).all():
                raise ValueError(f"`{name}` of the training data must be finite, got NaN or infinity.")
            if len(vectors):
                scaler.partial_fit(vectors)
                if model.config.whiten:
                    products[name] = products.get(name, 0) + vectors.T @ vectors
        seen += len(counted)
    sides = model.query_scaler, model.response_scaler
    for name, scaler, held in zip(VECTORS, scalers, sides, strict=True):
        if not hasattr(scaler, "mean_"):
            raise ValueError("The training data have no utterance to fit the scalers on: no rows, or no regular token.")
        covariance = None
        if model.config.whiten:
            covariance = products[name] / scaler.n_samples_seen_ - np.outer(scaler.mean_, scaler.mean_)
        held.load_statistics(scaler, covariance)


def _given(model: DbmModel, name: str, vectors) -> tuple[Tensor, Tensor]:
    scaler = model.query_scaler if name == "query_features" else model.response_scaler
    size, vectors = len(scaler.mean), torch.as_tensor(vectors)
    if vectors.dim() != 2 or vectors.shape[1] != size:
        side = name.removesuffix("_features")
        raise ValueError(
            f"`{name}` must be vectors of {size} dimensions (`{side}_size` of the model), got a batch of shape "
            f"{tuple(vectors.shape)}."
        )
    return vectors.to(scaler.mean.dtype), torch.ones(len(vectors), dtype=torch.bool, device=vectors.device)
