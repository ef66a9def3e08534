"""Word vectors of the embedding scores, made of the training pairs once and kept beside them."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from datasets import Dataset, IterableDataset
from datasets.utils import tqdm

from hf_localgan.data.beside_pairs import place_beside
from hf_localgan.data.word_vectors import PPMI_NAME, WordVectors, load_word_vectors, train_word_vectors
from hf_localgan.metrics.tokens import metric_tokens

VERSION = 1  # raise it when the same pairs make other vectors, so that no older file is used
# So that the wait and the memory do not grow with the corpus: ten million texts took minutes in each stage.
MOST_PAIRS = 1_000_000


def metric_word_vectors(train: Dataset | IterableDataset, unit: str, lowercase: bool, dim: int) -> WordVectors:
    """The vectors that `train_word_vectors` makes of queries and responses.

    Of more than `MOST_PAIRS` pairs so many are read, evenly spaced, and of a stream the first ones. Where the pairs lie
    in a cache, the vectors are kept beside them, and the next call reads them.

    Args:
        train: rows of `query` and `response`.
        unit: tokenization, as in `metric_tokens`.
        lowercase: lower-case the tokens.
        dim: dimensions, fewer where the words do not allow so many.

    Raises:
        ValueError: if no two words stand beside each other twice.
    """
    path = place_beside(train, "word-vectors.parquet", VERSION, MOST_PAIRS, unit, lowercase, dim)
    if path is not None:
        with suppress(ValueError, OSError):  # not there, or damaged: then it is made again
            kept = load_word_vectors(path)
            return replace(kept, name=PPMI_NAME.format(dim=kept.dim, words=len(kept)))
    pairs = train.take(MOST_PAIRS) if isinstance(train, IterableDataset) else _evenly_spaced(train)
    vectors = train_word_vectors(_texts(pairs, unit, lowercase), dim=dim, at_most=True)
    if path is not None:
        # A cache that cannot be written to is no fault, nor a word that Arrow cannot hold: they are made again.
        with suppress(ValueError, OSError):
            vectors.save(path)
    return vectors


def _evenly_spaced(train: Dataset) -> Dataset:
    if len(train) <= MOST_PAIRS:
        return train
    return train.select([number * len(train) // MOST_PAIRS for number in range(MOST_PAIRS)])


def _texts(pairs: Dataset | IterableDataset, unit: str, lowercase: bool) -> Iterator[list[str]]:
    reading = "Reading pairs for the scores' word vectors"
    number = len(pairs) if isinstance(pairs, Dataset) else None
    with tqdm(total=number, desc=reading, unit=" pairs", delay=1) as bar:
        for batch in pairs.select_columns(["query", "response"]).with_format(None).iter(batch_size=1000):
            for query, response in zip(batch["query"], batch["response"], strict=True):
                yield metric_tokens(query, unit, lowercase)
                yield metric_tokens(response, unit, lowercase)
            bar.update(len(batch["query"]))
