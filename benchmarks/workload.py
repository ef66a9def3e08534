"""The sentence pairs that every system is timed on, as lists of token ids.

Ids 0, 1, 2 are padding, begin and end of sequence; words start at `FIRST_WORD` and are drawn with Zipf's frequencies,
as real text would use the tables of embeddings.
"""

import math
from pathlib import Path

import numpy as np

PAD, BOS, EOS, FIRST_WORD = 0, 1, 2, 4
BATCH_SIZE = 64

# Logarithms of the word counts of Multi30k's English-French training pairs: mean, standard deviation and correlation.
LOG_MEAN, LOG_DEVIATION, LOG_CORRELATION = (2.428, 2.471), (0.310, 0.328), 0.874

Pair = tuple[list[int], list[int]]


def pair_lengths(count: int, rng: np.random.Generator, corpora: Path | None) -> np.ndarray:
    """Words of source and target without the end of sequence, shape `(count, 2)`.

    Taken from Multi30k where `corpora` holds it (`multi30k_en_fr/train.parquet`), otherwise drawn from the log-normal
    distribution that fits it.
    """
    if corpora is not None:
        import pyarrow.parquet

        rows = pyarrow.parquet.read_table(corpora / "multi30k_en_fr" / "train.parquet").to_pylist()
        chosen = rng.choice(len(rows), count, replace=False)
        return np.array([[len(rows[row][side].split()) for side in ("source", "target")] for row in chosen])
    covariance = LOG_CORRELATION * math.prod(LOG_DEVIATION)
    matrix = [[LOG_DEVIATION[0] ** 2, covariance], [covariance, LOG_DEVIATION[1] ** 2]]
    lengths = np.exp(rng.multivariate_normal(LOG_MEAN, matrix, count)).round().astype(int)
    return lengths.clip(2, 45)


def make_batches(vocab_size: int, batches: int, seed: int, corpora: Path | None) -> list[list[Pair]]:
    """`batches` random batches of 64 pairs; each side ends with the end of sequence."""
    rng = np.random.default_rng(seed)
    ranks = np.arange(1, vocab_size - FIRST_WORD + 1)
    frequencies = (1 / ranks) / (1 / ranks).sum()

    def sentence(words: int) -> list[int]:
        return [*(FIRST_WORD + rng.choice(len(ranks), words, p=frequencies)).tolist(), EOS]

    pairs = [(sentence(s), sentence(t)) for s, t in pair_lengths(batches * BATCH_SIZE, rng, corpora)]
    return in_batches(pairs)


def in_batches(pairs: list[Pair]) -> list[list[Pair]]:
    return [pairs[start : start + BATCH_SIZE] for start in range(0, len(pairs), BATCH_SIZE)]


def grouped_by_length(batches: list[list[Pair]]) -> list[list[Pair]]:
    """The same pairs in batches of similar length (of both sides), longest first."""
    pairs = [pair for batch in batches for pair in batch]
    return in_batches(sorted(pairs, key=lambda pair: len(pair[0]) + len(pair[1]), reverse=True))


def stretched(batch: list[Pair]) -> list[Pair]:
    """The batch with its longest target repeated to twice its length: padding doubles, the tokens hardly change."""
    longest = max(range(len(batch)), key=lambda row: len(batch[row][1]))
    source, target = batch[longest]
    return [*batch[:longest], (source, [*target[:-1], *target]), *batch[longest + 1 :]]


def describe(batches: list[list[Pair]]) -> dict[str, float]:
    """Their number, target tokens, mean and deviation per pair, and padding's share in random and grouped batches."""
    lengths = np.array([[len(target) for _, target in batch] for batch in batches])
    grouped = np.array([[len(target) for _, target in batch] for batch in grouped_by_length(batches)])
    return {
        "number": len(batches),
        "tokens": int(lengths.sum()),
        "mean_length": float(lengths.mean()),
        "deviation": float(lengths.std()),
        "padding": float(1 - lengths.sum() / (lengths.max(axis=1).sum() * BATCH_SIZE)),
        "padding_grouped": float(1 - lengths.sum() / (grouped.max(axis=1).sum() * BATCH_SIZE)),
    }
