"""The vectors of a data set's pairs, as an energy model reads them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from torch import Tensor

from hf_localgan.data.padding import pad_columns
from hf_localgan.data.pair_columns import TOKENS, VECTORS, check_columns
from hf_localgan.metrics.energy import equal_rows
from hf_localgan.models.dbm import DbmModel, FeatureScaler


class PairFeatures(NamedTuple):
    """Standardised vectors of pairs, grouped by query.

    Attributes:
        query: float32 or float64, on the CPU, shape `(pairs, query_size)`.
        response: the same, shape `(pairs, response_size)`.
        groups: index of each pair's query, counted from 0 in the order of the pairs, shape `(pairs,)`. Queries with
            equal vectors are one query.
        without_words: number of pairs with a side without a regular token, which lies at the scaler's mean.
        words: the regular tokens of each response, `None` for rows of vectors.
        tokens: the tokens of each query, `None` for rows of vectors.
    """

    query: Tensor
    response: Tensor
    groups: np.ndarray
    without_words: int
    words: list[list[int]] | None = None
    tokens: list[list[int]] | None = None

    @property
    def first(self) -> np.ndarray:
        """The first pair of each query, shape `(queries,)`."""
        return np.unique(self.groups, return_index=True)[1]


@torch.no_grad()
def pair_features(
    model: DbmModel,
    rows: Dataset | IterableDataset | Iterable[Mapping],
    *,
    max_pairs: int | None = None,
    batch_size: int = 1024,
) -> PairFeatures:
    """The vectors of pairs as the energy model's methods take them.

    Args:
        model: with fitted scalers, and word vectors where rows hold tokens.
        rows: as `encode_pairs` makes them (`input_ids`, `labels`), or with vectors of the user's own
            (`query_features`, `response_features`), not standardised.
        max_pairs: largest number of pairs that are read, by default all.
        batch_size: pairs at a time.

    Raises:
        ValueError: for rows with neither tokens nor vectors, and for no row.
    """
    queries, responses, keys, without_words = [], [], [], 0
    words: list[list[int]] = []
    tokens: list[list[int]] = []
    for batch in _batches(rows, batch_size, max_pairs):
        columns = {name: values.to(model.device) for name, values in _padded(batch).items()}
        if VECTORS[0] in columns:
            keys.append(columns[VECTORS[0]])
            query, response = (
                _standardised(name, columns[name], scaler)
                for name, scaler in zip(VECTORS, (model.query_scaler, model.response_scaler), strict=True)
            )
        else:
            ids, mask, labels = columns["input_ids"], columns.get("attention_mask"), columns["labels"]
            query, response = model.query_features(ids, mask), model.response_features(labels)
            assert model.word_vectors is not None  # else `query_features` has refused the ids
            raw, known = model.word_vectors(ids, mask)
            keys.append(raw)
            without_words += int((~(known & model.word_vectors(labels)[1])).sum())
            words += regular_words(model, batch["labels"])
            tokens += [list(row) for row in batch["input_ids"]]
        precision = torch.promote_types(query.dtype, torch.float32)
        queries.append(query.to("cpu", precision))
        responses.append(response.to("cpu", precision))
    if not queries:
        raise ValueError("There is no pair to make vectors of: the data set is empty.")
    # Grouped by raw vectors: standardised ones of equal queries may differ by rounding, which depends on the batch.
    groups = equal_rows(
        torch.cat([raw.to("cpu", torch.promote_types(raw.dtype, torch.float32)) for raw in keys]).numpy()
    )
    return PairFeatures(
        torch.cat(queries), torch.cat(responses), groups, without_words, *((words, tokens) if tokens else ())
    )


def regular_words(model: DbmModel, rows: Iterable[Sequence[int]]) -> list[list[int]]:
    """The tokens of each row that have a word vector, in their order.

    Args:
        model: with word vectors.
        rows: token ids, -100 among them or not.
    """
    assert model.word_vectors is not None
    regular = set(model.word_vectors.regular.nonzero().flatten().tolist())
    return [[token for token in row if token in regular] for row in rows]


def _standardised(name: str, vectors: Tensor, scaler: FeatureScaler) -> Tensor:
    if vectors.shape[1:] != scaler.mean.shape:
        raise ValueError(f"`{name}` must be vectors of {len(scaler.mean)} dimensions, got {tuple(vectors.shape[1:])}.")
    return scaler(vectors)


def _padded(batch: Mapping[str, list]) -> dict[str, Tensor]:
    """The columns of tokens or vectors, as tensors; -100 is padding on either side."""
    check_columns(batch, "The pairs")
    if all(name in batch for name in VECTORS):
        return {name: torch.from_numpy(np.asarray(batch[name], dtype=np.float32)) for name in VECTORS}
    return pad_columns({name: batch[name] for name in (*TOKENS, "attention_mask") if name in batch})


def _batches(
    rows: Dataset | IterableDataset | Iterable[Mapping], batch_size: int, limit: int | None
) -> Iterator[dict[str, list]]:
    """Columns of at most `batch_size` rows at a time, at most `limit` rows in all."""
    if isinstance(rows, (Dataset, IterableDataset)):
        batches = rows.with_format(None).iter(batch_size)
    else:
        batches = _columns(iter(rows), batch_size)
    left = float("inf") if limit is None else limit
    for batch in batches:
        if left <= 0:
            return
        number = len(next(iter(batch.values())))
        yield batch if number <= left else {name: values[: int(left)] for name, values in batch.items()}
        left -= number


def _columns(rows: Iterator[Mapping], batch_size: int) -> Iterator[dict[str, list]]:
    while chunk := list(islice(rows, batch_size)):
        yield {name: [row[name] for row in chunk] for name in chunk[0]}
