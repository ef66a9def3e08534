"""Word vectors of the embedding scores: kept beside the pairs, made of a bounded number of them."""

import numpy as np
import pytest
from datasets import Dataset

from hf_localgan.data import load_pairs
from hf_localgan.data.word_vectors import train_word_vectors
from hf_localgan.metrics.tokens import metric_tokens
from hf_localgan.recipes import metric_vectors
from hf_localgan.recipes.metric_vectors import metric_word_vectors

LINES = ["a cup of tea please", "here is a cup of tea", "i like tea more than milk", "milk is what i like"] * 3


@pytest.fixture
def train(tmp_path):
    """Pairs that were read from a file, and so lie in a cache."""
    rows = "".join(f"{query}\t{response}\n" for query, response in zip(LINES, LINES[1:] + LINES[:1], strict=True))
    (tmp_path / "train.tsv").write_text("query\tresponse\n" + rows)
    return load_pairs(tmp_path / "train.tsv", cache_dir=str(tmp_path / "cache"))["train"]


@pytest.fixture
def made(monkeypatch):
    """What vectors were trained of: a list of texts for each training."""
    trainings = []

    def train(texts, **settings):
        trainings.append([*texts])
        return train_word_vectors(trainings[-1], **settings)

    monkeypatch.setattr(metric_vectors, "train_word_vectors", train)
    return trainings


def test_they_are_those_of_all_texts_and_are_made_once(train, made):
    texts = [metric_tokens(text) for row in train for text in (row["query"], row["response"])]
    plain = train_word_vectors(texts, dim=3, at_most=True)
    first, second = (metric_word_vectors(train, "words", True, 3) for _ in range(2))
    assert made == [texts]
    for vectors in (first, second):
        assert (vectors.words, vectors.name) == (plain.words, plain.name)
        np.testing.assert_array_equal(vectors.matrix, plain.matrix)


def test_every_setting_and_other_pairs_have_their_own(train, made):
    for pairs, unit, lowercase, dim in (
        (train, "words", True, 3), (train, "characters", True, 3), (train, "words", False, 3),
        (train, "words", True, 2), (train.select(range(6)), "words", True, 3),
    ):  # fmt: skip
        assert metric_word_vectors(pairs, unit, lowercase, dim).dim == dim
    assert len(made) == 5


def test_a_damaged_file_is_made_again_and_pairs_in_no_cache_keep_none(train, made, tmp_path):
    vectors = metric_word_vectors(train, "words", True, 3)
    (kept,) = tmp_path.rglob("word-vectors-*.parquet")
    kept.write_bytes(kept.read_bytes()[:50])
    np.testing.assert_array_equal(metric_word_vectors(train, "words", True, 3).matrix, vectors.matrix)
    np.testing.assert_array_equal(metric_word_vectors(train, "words", True, 3).matrix, vectors.matrix)
    assert len(made) == 2
    memory = Dataset.from_list([*train])
    np.testing.assert_array_equal(metric_word_vectors(memory, "words", True, 3).matrix, vectors.matrix)
    train.save_to_disk(str(tmp_path / "saved"))
    saved = Dataset.load_from_disk(str(tmp_path / "saved"))
    np.testing.assert_array_equal(metric_word_vectors(saved, "words", True, 3).matrix, vectors.matrix)
    assert len(made) == 4 and len([*tmp_path.rglob("word-vectors-*")]) == 1


def test_many_pairs_are_read_evenly_spaced_and_a_streams_first_ones(train, made, monkeypatch):
    monkeypatch.setattr(metric_vectors, "MOST_PAIRS", 5)
    metric_word_vectors(train, "words", True, 3)
    queries = [metric_tokens(train[row]["query"]) for row in (0, 2, 4, 7, 9)]
    assert made[0][::2] == queries
    metric_word_vectors(train.to_iterable_dataset(), "words", True, 3)
    assert made[1][::2] == [metric_tokens(text) for text in train["query"][:5]]


@pytest.mark.parametrize("fault", ["refused", "surrogate"])
def test_where_nothing_can_be_kept_they_are_made_all_the_same(fault, train, made, monkeypatch, tmp_path):
    def save(self, path):
        raise OSError("read-only") if fault == "refused" else UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogate")

    monkeypatch.setattr(metric_vectors.WordVectors, "save", save)
    assert metric_word_vectors(train, "words", True, 3).dim == 3
    assert not [*tmp_path.rglob("word-vectors-*")]
