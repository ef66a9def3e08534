"""Vectors of the pairs of a data set."""

import datasets
import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from hf_localgan.evaluation import pair_features

ROWS = [
    {"input_ids": [4, 5, 2], "attention_mask": [1, 1, 1], "labels": [8, 9, 10, 2]},
    {"input_ids": [6, 2], "attention_mask": [1, 1], "labels": [11, 2]},
    {"input_ids": [5, 4, 2], "attention_mask": [1, 1, 1], "labels": [12, 13, 2]},  # the words of the first
    {"input_ids": [17, 2], "attention_mask": [1, 1], "labels": [4, 2]},  # no word with a vector
]


@pytest.fixture
def model(text_energy):
    """A tiny energy whose scalers were fitted."""
    model, rng = text_energy(), np.random.default_rng(0)
    for scaler in (model.query_scaler, model.response_scaler):
        scaler.load_statistics(StandardScaler().fit(rng.normal(1, 2, (30, 3))))
    return model


def test_vectors_are_standardised_means_of_word_vectors(model):
    found = pair_features(model, ROWS)
    table = model.word_vectors.vectors
    torch.testing.assert_close(found.query[0], model.query_scaler((table[4] + table[5]) / 2))
    torch.testing.assert_close(found.response[0], model.response_scaler(table[8:11].mean(dim=0)))
    assert not found.query[3].any() and found.without_words == 1


def test_queries_with_equal_vectors_are_one_query(model):
    found = pair_features(model, ROWS)
    assert found.groups.tolist() == [0, 1, 0, 2] and found.first.tolist() == [0, 1, 3]


def test_whitened_queries_that_differ_by_rounding_are_one_query(tiny_energy):
    # A product with a matrix rounds by the place in the batch: here in batches of 1 to 16 rows.
    size = 64
    model = tiny_energy(query_size=size, response_size=size, whiten=True)
    rng = np.random.default_rng(0)
    for scaler in (model.query_scaler, model.response_scaler):
        vectors = rng.normal(size=(200, size)) @ rng.normal(size=(size, size))
        scaler.load_statistics(StandardScaler().fit(vectors), np.cov(vectors.T, bias=True))
    rows = [{"query_features": row, "response_features": row} for row in rng.normal(size=(2, size)).tolist()] * 16
    found = [pair_features(model, rows, batch_size=batch_size) for batch_size in (1, 3, 5, 16)]
    assert all(one.groups.tolist() == [0, 1] * 16 for one in found)
    joined = torch.cat([one.query for one in found])
    torch.testing.assert_close(joined, joined[:2].repeat(64, 1), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "given",
    [
        lambda: ROWS,
        lambda: iter(ROWS),
        lambda: datasets.Dataset.from_list(ROWS).with_format("torch"),
        lambda: datasets.Dataset.from_list(ROWS).to_iterable_dataset(),
        lambda: [{**row, "input_ids": [*row["input_ids"], 7, 7], "attention_mask": [*row["attention_mask"], 0, 0],
                  "labels": [*row["labels"], -100]} for row in ROWS],
    ],
    ids=["list", "iterator", "dataset", "stream", "padded"],
)  # fmt: skip
@pytest.mark.parametrize("batch_size", [1, 3, 10])
def test_neither_batches_nor_padding_nor_the_kind_of_data_matter(model, given, batch_size):
    found, expected = pair_features(model, given(), batch_size=batch_size), pair_features(model, ROWS)
    torch.testing.assert_close(found.query, expected.query)
    torch.testing.assert_close(found.response, expected.response)
    assert found.groups.tolist() == expected.groups.tolist() and found.without_words == 1


def test_vectors_of_the_users_own_are_standardised(model, tiny_energy):
    rows = [{"query_features": [1.0, 2, 3], "response_features": np.array([4.0, 5, 6])}] * 2
    found = pair_features(model, rows)
    torch.testing.assert_close(found.query, model.query_scaler(torch.tensor([[1.0, 2, 3]] * 2)))
    torch.testing.assert_close(found.response, model.response_scaler(torch.tensor([[4.0, 5, 6]] * 2)))
    torch.testing.assert_close(pair_features(tiny_energy(), rows).query[0], torch.tensor([1.0, 2, 3]))  # no scaler


def test_no_more_pairs_are_read_than_wanted(model):
    read = []

    def rows():
        for row in ROWS * 100:
            read.append(row)
            yield row

    assert len(pair_features(model, rows(), max_pairs=3, batch_size=2).groups) == 3
    assert len(read) <= 6


def test_data_without_the_columns_and_empty_data_are_refused(model, tiny_energy):
    with pytest.raises(ValueError, match="must have `input_ids` and `labels`.*found `query`"):
        pair_features(model, [{"query": "hello"}])
    with pytest.raises(ValueError, match=r"`response_features` must be vectors of 3 dimensions, got \(2,\)"):
        pair_features(model, [{"query_features": [1.0, 2, 3], "response_features": [1.0, 2]}])
    with pytest.raises(ValueError, match="the data set is empty"):
        pair_features(model, [])
    with pytest.raises(ValueError, match="holds no word vectors"):
        pair_features(tiny_energy(), ROWS)
