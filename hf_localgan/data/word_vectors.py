"""Word vectors: read from files, made from text, and put into a model's embeddings."""

import gzip
import os
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from hf_localgan.files import replacing

SPACE_MARKS = "▁Ġ"
PPMI_NAME = "ppmi-svd-{dim}d-{words}w"  # of vectors that `train_word_vectors` makes
PIECE = 4_000_000  # words whose neighbours are counted at a time


@dataclass(eq=False)
class WordVectors:
    """Vectors by word. `vectors["tea"]` has shape `(dim,)`.

    Args:
        words: distinct words.
        matrix: their vectors, float32, shape `(len(words), dim)`.
        name: name of the vectors in the signatures of scores that use them.
    """

    words: list[str]
    matrix: np.ndarray
    name: str = "unnamed"

    def __post_init__(self):
        self.matrix = np.ascontiguousarray(self.matrix, dtype=np.float32)
        if self.matrix.ndim != 2 or len(self.matrix) != len(self.words):
            raise ValueError(
                f"`matrix` must have a row per word, got shape {self.matrix.shape} for {len(self.words)} words."
            )
        self._rows = {word: row for row, word in enumerate(self.words)}
        if len(self._rows) != len(self.words):
            twice = next(word for word, count in Counter(self.words).items() if count > 1)
            raise ValueError(f"`words` must be distinct, but {twice!r} occurs more than once.")
        bad = np.flatnonzero(~np.isfinite(self.matrix).all(axis=1))
        if len(bad):
            raise ValueError(f"The vector of {self.words[bad[0]]!r} is not finite ({len(bad)} such words).")

    @property
    def dim(self) -> int:
        return self.matrix.shape[1]

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return word in self._rows

    def __getitem__(self, word: str) -> np.ndarray:
        return self.matrix[self._rows[word]]

    def __repr__(self) -> str:
        return f"WordVectors({self.name!r}, {len(self):,} words, {self.dim} dimensions)"

    def save(self, path: str | os.PathLike) -> None:
        """Writes a parquet file of `word` and `vector`, which `load_word_vectors` reads."""
        flat = pa.array(self.matrix.reshape(-1))
        vectors = pa.FixedSizeListArray.from_arrays(flat, self.dim)
        with replacing(path) as temporary:
            pq.write_table(pa.table({"word": self.words, "vector": vectors}), temporary, compression="zstd")


@dataclass(frozen=True)
class VectorCoverage:
    """The number of a tokenizer's tokens with a vector; `missing` are the first 20 without, most frequent first."""

    found: int
    total: int
    missing: list[str]

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return self.found / self.total if self.total else 0.0

    def __str__(self) -> str:
        shown = f"; the most frequent without: {' '.join(self.missing)}" if self.missing else ""
        return f"{self.found:,} of {self.total:,} tokens ({self.share:.1%}) have a vector{shown}"


def load_word_vectors(path: str | os.PathLike, words: Iterable[str] | None = None) -> WordVectors:
    """Reads GloVe or word2vec (also fastText's `.vec`) text, gzipped or not, or a parquet file of `word` and `vector`.

    Of a word that occurs more than once the first vector is kept.

    Args:
        words: keep no others, to save memory; `vocabulary_words(tokenizer)` gives those a tokenizer can use.

    Raises:
        ValueError: a line that is not a word and as many numbers as in the first line, with its number.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f'There is no word vector file "{path}".')
    if path.suffix in (".bin", ".model", ".npy", ".pkl", ".pt"):
        raise ValueError(f'"{path.name}" is a binary file. Accepted are GloVe or word2vec text (also .gz) and parquet.')
    keep = None if words is None else set(words)
    kept, matrix = _read_parquet(path, keep) if path.suffix == ".parquet" else _read_text(path, keep)
    name = path.name.removesuffix(".gz")
    suffix = Path(name).suffix
    return WordVectors(kept, matrix, name=name.removesuffix(suffix) if suffix in _SUFFIXES else name)


_SUFFIXES = (".txt", ".vec", ".parquet", ".tsv")


def _read_parquet(path: Path, keep: set[str] | None) -> tuple[list[str], np.ndarray]:
    table = pq.read_table(path)
    if not {"word", "vector"} <= set(table.column_names):
        listed = ", ".join(f"`{name}`" for name in table.column_names)
        raise ValueError(f'"{path.name}" must have the columns `word` and `vector` (found: {listed}).')
    lengths = pc.list_value_length(table["vector"]).to_numpy()
    wrong = np.flatnonzero(lengths != lengths[:1])
    if not len(lengths) or len(wrong):
        fault = (
            f"row {wrong[0]} has {lengths[wrong[0]]} numbers, row 0 has {lengths[0]}" if len(wrong) else "it is empty"
        )
        raise ValueError(f'"{path.name}" must have equally long vectors: {fault}.')
    if keep is not None:
        table = table.filter(pc.is_in(table["word"], value_set=pa.array(sorted(keep), pa.string())))
    words = table["word"].to_pylist()
    first = {word: row for row, word in reversed(list(enumerate(words)))}
    rows = sorted(first.values())
    matrix = pc.list_flatten(table["vector"]).to_numpy().reshape(len(words), int(lengths[0]))
    return [words[row] for row in rows], matrix[rows]


def _read_text(path: Path, keep: set[str] | None) -> tuple[list[str], np.ndarray]:
    rows: dict[str, np.ndarray] = {}
    dim = None
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            fields = line.split()
            if number == 1 and len(fields) == 2 and all(field.isdigit() for field in fields):
                dim = int(fields[1])  # word2vec's header: words and dimensions
            elif fields:
                dim = len(fields) - 1 if dim is None else dim
                try:
                    word, numbers = _parse_line(line, dim)
                    if word not in rows and (keep is None or word in keep):
                        rows[word] = np.array([float(number) for number in numbers], dtype=np.float32)
                except ValueError as error:
                    raise ValueError(
                        f'Line {number} of "{path.name}" is not a word and {dim} numbers in UTF-8: {error}.'
                    ) from error
    if not dim:
        raise ValueError(f'"{path.name}" has no word vectors: a line is a word and its numbers, separated by spaces.')
    return list(rows), np.stack(list(rows.values())) if rows else np.zeros((0, dim), np.float32)


def _parse_line(line: bytes, dim: int) -> tuple[str, list[bytes]]:
    word, *numbers = line.rsplit(
        None, dim
    )  # from the right: a few words of published GloVe files have spaces (". . .")
    if len(numbers) != dim:
        raise ValueError(f"it has {len(numbers)} numbers")
    if len(parts := word.split()) > 1 and _is_number(parts[-1]):
        raise ValueError(f"it has more than {dim} numbers")
    return word.strip().decode("utf-8"), numbers


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _bare(token: str) -> str:
    return token.lstrip(SPACE_MARKS)


def vocabulary_words(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """What `initialize_embeddings` looks up: tokens without their space mark, as they are and in lower case."""
    words = {_bare(token) for token in tokenizer.get_vocab()}
    return (words | {word.lower() for word in words}) - {""}


@torch.no_grad()
def initialize_embeddings(
    embedding: nn.Embedding | Tensor,
    tokenizer: PreTrainedTokenizerBase,
    vectors: WordVectors,
    *,
    lowercase_fallback: bool = True,
) -> VectorCoverage:
    """Copies word vectors into the rows of an embedding, in place.

    A token is looked up without the mark of the space before it (`▁`, `Ġ`), then in lower case. Vectors are copied as
    published, not scaled: for unit rows or another spread, scale `vectors.matrix` first. Special tokens and
    words without a vector keep their rows.

    Args:
        embedding: weight of shape `(rows, dim)`, or the module that holds it; at least as many rows as tokens.
        lowercase_fallback: whether "Tea" may take the vector of "tea".

    Returns:
        Counts over the tokens that are not special.

    Raises:
        ValueError: if the dimensions differ, or a token has no row.
    """
    weight = embedding.weight if isinstance(embedding, nn.Embedding) else embedding
    if weight.shape[1] != vectors.dim:
        raise ValueError(
            f"The embedding has {weight.shape[1]} dimensions, the word vectors {vectors.name!r} have {vectors.dim}. "
            f"Set the model's embedding size to {vectors.dim}, or load vectors of {weight.shape[1]} dimensions."
        )
    special = set(tokenizer.all_special_ids)
    tokens = sorted((row, token) for token, row in tokenizer.get_vocab().items() if row not in special)
    if tokens and tokens[-1][0] >= len(weight):
        raise ValueError(
            f"The embedding has {len(weight)} rows, but the token {tokens[-1][1]!r} has id {tokens[-1][0]}."
        )
    rows, words, missing = [], [], []
    for row, token in tokens:  # by id, which in a vocabulary made by frequency is most frequent first
        tried = (_bare(token), _bare(token).lower())[: 2 if lowercase_fallback else 1]
        word = next((word for word in tried if word in vectors), None)
        if word is None:
            missing.append(_bare(token) or token)
        else:
            rows.append(row)
            words.append(word)
    if rows:
        matrix = torch.from_numpy(np.stack([vectors[word] for word in words]))
        weight[torch.tensor(rows, device=weight.device)] = matrix.to(weight)
    return VectorCoverage(len(rows), len(tokens), list(dict.fromkeys(missing))[:20])


def train_word_vectors(
    tokenised_texts: Iterable[list[str]],
    dim: int = 100,
    window: int = 5,
    min_count: int = 2,
    seed: int = 0,
    max_words: int = 20_000,
    *,
    at_most: bool = False,
) -> WordVectors:
    """Word vectors from text alone: positive pointwise mutual information, factored by a truncated SVD.

    With `P` the co-occurrence probabilities of a word `w` and a context word `c` at most `window` places apart, all
    places weighted alike, `M[w, c] = max(0, log P(w, c) / (P(w) P_s(c)))` (Levy and Goldberg 2014, *Neural Word
    Embedding as Implicit Matrix Factorization*), where `P_s(c)` is proportional to `count(c) ** 0.75`. The vectors are
    `U S ** 0.5` of `M = U S V'` (Levy, Goldberg and Dagan 2015, *Improving Distributional Similarity with Lessons
    Learned from Word Embeddings*: context distribution smoothing 0.75, eigenvalue weighting 0.5).

    Args:
        tokenised_texts: each a list of words; windows do not reach from one into the next.
        dim: dimensions; less than the words that are kept.
        min_count: words that are rarer are left out, with their places kept.
        seed: seed of the randomised SVD. Equal arguments give equal vectors.
        max_words: largest number of words; the most frequent ones are kept.
        at_most: make vectors of as many dimensions as the words allow, where `dim` is too large.

    Returns:
        Words by frequency, without those that never stand beside another kept word.

    Raises:
        ValueError: if there are too few words.
    """
    from scipy.sparse import coo_matrix, csr_matrix
    from sklearn.decomposition import TruncatedSVD

    for name, value in (("dim", dim), ("window", window), ("min_count", min_count)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}.")
    texts = _NumberedTexts(tokenised_texts)
    counts = zip(texts.words, np.bincount(texts.numbers, minlength=len(texts.words)).tolist(), strict=True)
    ranked = sorted((-count, word) for word, count in counts if count >= min_count)
    words = [word for _, word in ranked[:max_words]]
    row = {word: index for index, word in enumerate(words)}
    rows = np.array([row.get(word, -1) for word in texts.words], np.int32)
    size = len(words)
    together = csr_matrix((size, size))
    for ids in texts.pieces(rows, window):
        for distance in range(1, window + 1):
            left, right = ids[:-distance], ids[distance:]
            both = (left >= 0) & (right >= 0)
            ones = np.ones(int(both.sum()))
            together += coo_matrix((ones, (left[both], right[both])), shape=(size, size)).tocsr()
    together = together + together.T
    beside = np.flatnonzero(np.asarray(together.sum(axis=1)).ravel())
    if at_most:
        dim = min(dim, max(len(beside) - 1, 1))
    if len(beside) <= dim:
        raise ValueError(
            f"`dim` must be less than the number of words, got {dim} with {len(beside)} words that occur at least "
            f"{min_count} times beside another. Lower `dim` or `min_count`, or give more text."
        )
    matrix = _positive_pmi(together[beside][:, beside])
    svd = TruncatedSVD(n_components=dim, random_state=seed).fit(matrix)
    vectors = (matrix @ svd.components_.T) / np.sqrt(np.maximum(svd.singular_values_, 1e-12))  # U S / S**0.5
    return WordVectors([words[index] for index in beside], vectors, name=PPMI_NAME.format(dim=dim, words=len(beside)))


class _NumberedTexts:
    """Texts as numbers of words, 4 bytes a word.

    Attributes:
        words: the different words, in the order met.
        numbers: of the words of all texts, one after another.
        lengths: words of each text.
    """

    def __init__(self, tokenised_texts: Iterable[list[str]]):
        known: dict[str, int] = {}
        numbers, lengths = array("i"), array("i")
        for text in tokenised_texts:
            if isinstance(text, (str, bytes)):
                raise TypeError(
                    f"`tokenised_texts` must hold lists of words, got {type(text).__name__}: {text!r:.60}. Cut text by "
                    "`metric_tokens` first; its letters would be taken for words."
                )
            before = len(numbers)
            numbers.extend([known.setdefault(word, len(known)) for word in text])
            lengths.append(len(numbers) - before)
        self.words = list(known)
        self.numbers, self.lengths = np.asarray(numbers, np.int32), np.asarray(lengths, np.int32)

    def pieces(self, rows: np.ndarray, gap: int) -> Iterator[np.ndarray]:
        """The rows of the words, `gap` times -1 behind each text, in pieces of whole texts.

        Args:
            rows: of each word, -1 for words that are left out.
            gap: places between texts.
        """
        ends = np.cumsum(self.lengths, dtype=np.int64)
        start = 0
        while start < len(ends):
            first = ends[start] - self.lengths[start]
            stop = max(start + 1, int(np.searchsorted(ends, first + PIECE, side="right")))
            lengths = self.lengths[start:stop].astype(np.int64)
            ids = np.full(int(lengths.sum()) + gap * len(lengths), -1, np.int32)
            words = self.numbers[first : ends[stop - 1]]
            ids[np.arange(len(words)) + np.repeat(gap * np.arange(len(lengths)), lengths)] = rows[words]
            yield ids
            start = stop


def _positive_pmi(together, smoothing: float = 0.75):
    """Positive pointwise mutual information of a symmetric, sparse matrix of co-occurrence counts, `(words, words)`."""
    count = np.asarray(together.sum(axis=1)).ravel()
    smoothed = count**smoothing / (count**smoothing).sum()
    pairs = together.tocoo()
    pmi = np.log(pairs.data / (count[pairs.row] * smoothed[pairs.col]))
    pairs.data = np.maximum(pmi, 0.0)
    matrix = pairs.tocsr()
    matrix.eliminate_zeros()
    return matrix
