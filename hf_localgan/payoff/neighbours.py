"""Tokens that are nearly as good as another one: the table from which a weighted payoff takes its costs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

MOST = 0.99  # similarity of different tokens; a cost of 0 would make them the same at every temperature
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest tokens of each token, with their similarities.

    Attributes:
        tokens: different ids, int64, shape `(n,)`. Other tokens have no neighbours.
        ids: their neighbours, -1 where there are fewer; int64, shape `(n, k)`.
        similarities: from above 0 to below 1; float64, shape `(n, k)`. Not read where there is no neighbour.

    Raises:
        ValueError: for shapes that do not fit, a token given twice, a neighbour given twice, a token as its own
            neighbour, a similarity of 0 or less, 1 or more.
    """

    tokens: np.ndarray
    ids: np.ndarray
    similarities: np.ndarray

    def __post_init__(self):
        for name, kind in (("tokens", np.int64), ("ids", np.int64), ("similarities", np.float64)):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=kind))
        if self.ids.ndim != 2 or self.ids.shape != self.similarities.shape or self.tokens.shape != self.ids.shape[:1]:
            raise ValueError(
                "`ids` and `similarities` must have a row for each of the tokens, got shapes "
                f"{self.ids.shape}, {self.similarities.shape} and {self.tokens.shape}."
            )
        if len(np.unique(self.tokens)) != len(self.tokens):
            raise ValueError("`tokens` must be different, but one is given twice.")
        is_there = self.ids >= 0
        wrong = is_there & ~((self.similarities > 0) & (self.similarities < 1))
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise ValueError(
                f"The similarity of token {self.tokens[row]} and {self.ids[row, column]} must be above 0 and below 1, "
                f"got {self.similarities[row, column]}. Only a token itself has 1."
            )
        itself = is_there & (self.ids == self.tokens[:, None])
        ordered = np.sort(np.where(is_there, self.ids, -1 - np.arange(self.ids.shape[1])), axis=1)
        twice = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
        if itself.any() or twice.any():
            row = int(np.flatnonzero(itself.any(axis=1) | twice)[0] if twice.any() else np.argwhere(itself)[0][0])
            raise ValueError(f"Token {self.tokens[row]} has itself, or one token twice, among its neighbours.")

    @classmethod
    def none(cls) -> "Neighbours":
        """No token has a neighbour."""
        return cls(np.zeros(0, np.int64), np.zeros((0, 1), np.int64), np.zeros((0, 1)))

    @classmethod
    def of_table(cls, table: Mapping[int, Mapping[int, float]], k: int | None = None) -> "Neighbours":
        """The neighbours that a table lists, the `k` most similar of each.

        Args:
            table: similarity by token and neighbour, such as `{12: {40: 0.8, 41: 0.5}}`.
            k: largest number of neighbours; `None` for all.
        """
        ranked = {
            token: sorted(others.items(), key=lambda item: (-item[1], item[0]))[:k] for token, others in table.items()
        }
        width = max([1, *map(len, ranked.values())])
        ids = np.full((len(ranked), width), -1, np.int64)
        similarities = np.zeros((len(ranked), width))
        for row, others in enumerate(ranked.values()):
            for column, (other, similarity) in enumerate(others):
                ids[row, column], similarities[row, column] = other, similarity
        return cls(np.array(list(ranked), dtype=np.int64), ids, similarities)

    @classmethod
    def of_vectors(cls, tokens: Sequence[int], vectors: np.ndarray, k: int, least: float = 0.0) -> "Neighbours":
        """The `k` tokens whose vectors have the largest cosines, those above `least` alone.

        Time grows with the square of the number of tokens.

        Args:
            tokens: ids.
            vectors: of each token, shape `(n, dim)`; a token with a vector of zeros has no neighbours and is none.
            k: number of neighbours, at least 1.
            least: the smallest similarity is above it. Cosines above 0.99 count as 0.99.

        Raises:
            ValueError: for another number of vectors than tokens, numbers in them that are not finite, `k` below 1.
        """
        vectors = np.asarray(vectors, dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != len(tokens) or not np.isfinite(vectors).all():
            raise ValueError(
                f"`vectors` must be finite, one for each of the {len(tokens)} tokens, got shape {vectors.shape}."
            )
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit = vectors / np.maximum(norms, np.finfo(np.float32).tiny)
        return _nearest(tokens, lambda rows: unit[rows] @ unit.T, k, least)

    @classmethod
    def of_prefixes(
        cls, tokens: Sequence[int], texts: Sequence[str], k: int, least: float = 0.3, marks: str = "▁Ġ"
    ) -> "Neighbours":
        """The `k` tokens whose texts begin alike: similarity is the common prefix by the longer text, in characters.

        Tokens that begin a word and tokens that go on with one are no neighbours of each other, nor are those that
        differ in whether their first character is a letter, a digit or neither.

        Args:
            tokens: ids.
            texts: of each token, as the vocabulary has it.
            k: number of neighbours, at least 1.
            least: the smallest similarity is above it.
            marks: characters of which one at the start says that the token begins a word.
        """
        from rapidfuzz.distance import Prefix
        from rapidfuzz.process import cdist

        begins = np.array([text[:1] in marks and text[:1] != "" for text in texts])
        bare = [text.lstrip(marks) for text in texts]
        parts = np.array([_part(text) for text in bare]) + 3 * begins

        def of_rows(rows: np.ndarray) -> np.ndarray:
            found = cdist([bare[row] for row in rows], bare, scorer=Prefix.normalized_similarity, dtype=np.float32)
            found[parts[rows][:, None] != parts] = 0.0
            return found

        return _nearest(tokens, of_rows, k, least)


def _part(text: str) -> int:
    return 0 if text[:1].isalpha() else 1 if text[:1].isdigit() else 2


def _nearest(tokens: Sequence[int], similarities, k: int, least: float) -> Neighbours:
    """The `k` largest similarities of each token to another, from rows `similarities(rows)` of shape `(rows, n)`."""
    if k < 1:
        raise ValueError(f"`k` must be at least 1, got {k}.")
    ids, number = np.asarray(tokens, dtype=np.int64), len(tokens)
    width = min(k, max(number - 1, 1))
    nearest, values = np.full((number, width), -1, np.int64), np.zeros((number, width))
    for first in range(0, number if number > 1 else 0, _ROWS_AT_ONCE):
        rows = np.arange(first, min(first + _ROWS_AT_ONCE, number))
        found = similarities(rows).astype(np.float64)
        found[np.arange(len(rows)), rows] = -np.inf
        # Equal ones by place, so that the table does not depend on how a library sorts.
        found -= 1e-9 * np.arange(number) / number
        best = np.argpartition(-found, width - 1, axis=1)[:, :width]
        best = np.take_along_axis(best, np.argsort(-np.take_along_axis(found, best, axis=1), axis=1), axis=1)
        value = np.minimum(np.take_along_axis(found, best, axis=1), MOST)
        is_near = value > max(least, 1e-6)
        nearest[rows], values[rows] = np.where(is_near, ids[best], -1), np.where(is_near, value, 0.0)
    return Neighbours(ids, nearest, values)


def translation_vectors(
    targets: Iterable[Sequence[int]], sources: Iterable[Sequence[int]], tokens: Sequence[int], dim: int, seed: int = 0
) -> np.ndarray:
    """Vectors of target tokens by the source tokens that they are seen with: translations of one word lie together.

    Positive pointwise mutual information of standing in the same pair, each token once for each pair, factored by a
    truncated SVD, as `train_word_vectors` does with windows of one text (Levy, Goldberg and Dagan 2015: context
    distribution smoothing 0.75, eigenvalue weighting 0.5).

    Args:
        targets: token ids of each target.
        sources: token ids of each source, as many.
        tokens: ids of target tokens that get a vector.
        dim: dimensions; less where there are fewer tokens.
        seed: of the randomised SVD.

    Returns:
        float32, shape `(len(tokens), dim)`; zeros for a token that stands in fewer than two pairs.

    Raises:
        ValueError: if there are no pairs.
    """
    from scipy.sparse import csr_matrix
    from sklearn.decomposition import TruncatedSVD

    sides = []
    for rows in (targets, sources):
        unique = [np.unique(np.asarray(row, dtype=np.int64)) for row in rows]
        unique = [row[row >= 0] for row in unique]
        lengths = np.array([len(row) for row in unique], dtype=np.int64)
        flat = np.concatenate(unique) if unique else np.zeros(0, np.int64)
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        width = int(flat.max(initial=0)) + 1
        sides.append(csr_matrix((np.ones(len(flat), np.float64), flat, ends), shape=(len(unique), width)))
    target, source = sides
    if target.shape[0] != source.shape[0] or not target.shape[0]:
        raise ValueError(f"There must be as many targets as sources, got {target.shape[0]} and {source.shape[0]}.")
    together = (target.T @ source).tocsr()  # (target tokens, source tokens)
    ids = np.asarray(tokens, dtype=np.int64)
    seen = np.asarray(target.sum(axis=0)).ravel()
    known = ids[ids < together.shape[0]]
    known = known[seen[known] > 1]
    vectors = np.zeros((len(ids), dim), np.float32)
    pairs = together[known].tocoo()
    count = np.asarray(together[known].sum(axis=1)).ravel()
    context = np.asarray(together.sum(axis=0)).ravel() ** 0.75
    with np.errstate(divide="ignore"):
        pmi = np.log(pairs.data) - np.log(count[pairs.row]) - np.log(context[pairs.col] / context.sum())
    pairs.data = np.maximum(pmi, 0.0)
    size = min(dim, min(pairs.shape) - 1)
    if size < 1:
        return vectors
    svd = TruncatedSVD(n_components=size, random_state=seed).fit(pairs.tocsr())
    found = (pairs.tocsr() @ svd.components_.T) / np.sqrt(np.maximum(svd.singular_values_, 1e-12))
    place = {token: row for row, token in enumerate(ids.tolist())}
    vectors[[place[token] for token in known.tolist()], :size] = found
    return vectors
