"""Relevance of a generation to its references by word vectors (Liu et al. 2016, *How NOT to Evaluate Your Dialogue
System*): embedding average, greedy matching, vector extrema, and their sum.

Words without a vector are skipped. A side that has no word left, hence no direction, scores 0.
"""

from collections.abc import Sequence
from functools import partial
from typing import Protocol

import numpy as np

from hf_localgan.metrics.checks import (
    require_equal_lengths,
    require_reference_lists,
    require_token_lists,
    require_tokens,
    require_vectors,
)
from hf_localgan.metrics.directions import longest, unit_vectors

Tokens = Sequence[str]
EMBEDDING_SCORES = ("average", "greedy", "extrema", "relevance")
POOLS = ("first", "mean", "max")


class Vectors(Protocol):
    """What the metrics ask of word vectors."""

    name: str

    @property
    def dim(self) -> int: ...

    def __contains__(self, word: str) -> bool: ...

    def __getitem__(self, word: str) -> np.ndarray: ...


def embedding_average(generation: Tokens, reference: Tokens, vectors: Vectors) -> float:
    """Cosine of the two utterances' mean word vectors."""
    return _pair_scores(generation, reference, vectors)[0]


def greedy_matching(generation: Tokens, reference: Tokens, vectors: Vectors) -> float:
    """Each word's cosine with the nearest word of the other side, averaged over each side, then over both sides."""
    return _pair_scores(generation, reference, vectors)[1]


def vector_extrema(generation: Tokens, reference: Tokens, vectors: Vectors) -> float:
    """Cosine of two vectors that take, per dimension, the value of largest magnitude among the utterance's words.

    Of two values of the same magnitude the negative one is taken.
    """
    return _pair_scores(generation, reference, vectors)[2]


def relevance(generation: Tokens, reference: Tokens, vectors: Vectors) -> float:
    """The LocalGAN paper's Rel.: `embedding_average + greedy_matching + vector_extrema`, at most 3."""
    return float(sum(_pair_scores(generation, reference, vectors)))


def embedding_scores(
    generations: Sequence[Tokens], references: Sequence[Sequence[Tokens]], vectors: Vectors
) -> dict[str, np.ndarray]:
    """All four scores of each generation against its references, looked up and multiplied query by query at once.

    Args:
        generations: the tokens of each generation.
        references: for each query the tokens of each of its references, at least one.
        vectors: anything with `word in vectors`, `vectors[word]` of shape `(dim,)`, `dim` and `name`.

    Returns:
        Arrays of shape `(queries,)` under `average_first`, `average_mean`, `average_max` and likewise for `greedy`,
        `extrema` and `relevance`: the score with the first reference, the mean over references, and the maximum.
        `relevance_max` is the largest sum with one and the same reference, not the sum of the three maxima.

    Raises:
        ValueError: for unequal numbers of queries, and for a query without a reference.
    """
    queries = require_equal_lengths(generations=generations, references=references)
    require_reference_lists(references)
    require_token_lists("generations", generations)
    for own_references in references:
        require_token_lists("references", own_references)
    words = WordTable.of(vectors)
    pooled = np.zeros((queries, len(EMBEDDING_SCORES), len(POOLS)))
    for index, (generation, own_references) in enumerate(zip(generations, references, strict=True)):
        scores = _scores(words, generation, own_references)  # (references, 3)
        scores = np.column_stack([scores, scores.sum(axis=1)])  # (references, 4)
        pooled[index] = np.stack([scores[0], scores.mean(axis=0), scores.max(axis=0)], axis=1)
    return {
        f"{name}_{pool}": pooled[:, i, j] for i, name in enumerate(EMBEDDING_SCORES) for j, pool in enumerate(POOLS)
    }


def utterance_vectors(utterances: Sequence[Tokens], vectors: Vectors) -> np.ndarray:
    """The mean word vector of each utterance that has a known word; the others are left out. Shape `(known, dim)`."""
    require_token_lists("utterances", utterances)
    words = WordTable.of(vectors)
    means = [matrix.mean(axis=0) for matrix in map(words.matrix, utterances) if len(matrix)]
    return np.stack(means) if means else np.zeros((0, words.dim))


def vector_coverage(utterances: Sequence[Tokens], vectors: Vectors) -> float:
    """The share of tokens that have a vector; 0 where there is no token."""
    require_token_lists("utterances", utterances)
    require_vectors(vectors)
    known = [word in vectors for utterance in utterances for word in utterance]
    return sum(known) / len(known) if known else 0.0


class WordTable:
    """Word vectors that look each word up once; it can stand wherever `vectors` does, to be shared between calls."""

    def __init__(self, vectors: Vectors):
        require_vectors(vectors)
        self.vectors, self.name, self.dim = vectors, vectors.name, vectors.dim
        self.rows: dict[str, np.ndarray | None] = {}

    @classmethod
    def of(cls, vectors: "Vectors | WordTable") -> "WordTable":
        return vectors if isinstance(vectors, cls) else cls(vectors)

    def __contains__(self, word: str) -> bool:
        return self._row(word) is not None

    def __getitem__(self, word: str) -> np.ndarray:
        row = self._row(word)
        if row is None:
            raise KeyError(word)
        return row

    def matrix(self, tokens: Tokens) -> np.ndarray:
        """Vectors of the known words, shape `(known, dim)`."""
        require_tokens("tokens", tokens)
        rows = [row for row in map(self._row, tokens) if row is not None]
        return np.stack(rows) if rows else np.zeros((0, self.dim))

    def _row(self, word: str) -> np.ndarray | None:
        if word not in self.rows:
            self.rows[word] = np.asarray(self.vectors[word], dtype=np.float64) if word in self.vectors else None
        return self.rows[word]


def _pair_scores(generation: Tokens, reference: Tokens, vectors: Vectors) -> tuple[float, float, float]:
    require_tokens("generation", generation)
    require_tokens("reference", reference)
    average, greedy, extrema = _scores(WordTable.of(vectors), generation, [reference])[0]
    return float(average), float(greedy), float(extrema)


def _scores(words: WordTable, generation: Tokens, references: Sequence[Tokens]) -> np.ndarray:
    """Average, greedy and extrema of one generation with each reference, shape `(references, 3)`."""
    scores = np.zeros((len(references), 3))
    sides = [words.matrix(reference) for reference in references]
    known = np.flatnonzero([len(side) for side in sides])  # the others keep their 0
    generated = words.matrix(generation)  # (generation words, dim)
    if not len(known) or not len(generated):
        return scores
    referred = np.concatenate([sides[index] for index in known])  # (all references' words, dim)
    lengths = np.array([len(sides[index]) for index in known])
    starts = np.cumsum(lengths) - lengths
    unit = partial(unit_vectors, magnitude=max(longest(referred), longest(generated)))

    means = np.add.reduceat(referred, starts) / lengths[:, None]  # (known references, dim)
    scores[known, 0] = unit(means) @ unit(generated.mean(axis=0))

    cosine = unit(generated) @ unit(referred).T  # (generation words, all references' words)
    from_generation = np.maximum.reduceat(cosine, starts, axis=1).mean(axis=0)  # (known references,)
    from_references = np.add.reduceat(cosine.max(axis=0), starts) / lengths
    scores[known, 1] = (from_generation + from_references) / 2

    extremes = _extreme(np.maximum.reduceat(referred, starts), np.minimum.reduceat(referred, starts))
    scores[known, 2] = unit(extremes) @ unit(_extreme(generated.max(axis=0), generated.min(axis=0)))
    return scores


def _extreme(highest: np.ndarray, lowest: np.ndarray) -> np.ndarray:
    return np.where(highest > -lowest, highest, lowest)
