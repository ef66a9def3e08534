"""Alias tables: a choice among few outcomes by one uniform number, in a time that does not depend on their number."""

import numpy as np


def alias_tables(probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Walker's tables for many distributions at once: the rest of the smallest column goes to the largest, in turn.

    With `K` outcomes, column `j` of a uniform choice among `K` stands for outcome `j` with probability `keep[j]`, and
    for `alias[j]` otherwise: `K p_j = keep[j] + sum of (1 - keep[i]) over columns i with alias[i] = j`.

    Args:
        probs: each row sums to 1; float64, shape `(rows, K)`.

    Returns:
        `keep`, float64, and `alias`, int64, of the same shape. An outcome of probability 0 is never chosen.
    """
    left = probs * probs.shape[1]
    keep = np.ones_like(left)
    alias = np.tile(np.arange(left.shape[1]), (len(left), 1))
    rows = np.arange(len(left))
    is_open = np.ones(left.shape, dtype=bool)
    for _ in range(left.shape[1] - 1):
        smallest = np.where(is_open, left, np.inf).argmin(axis=1)
        largest = np.where(is_open, left, -np.inf).argmax(axis=1)
        share = np.minimum(left[rows, smallest], 1.0)
        keep[rows, smallest], alias[rows, smallest] = share, largest
        is_open[rows, smallest] = False
        left[rows, largest] -= np.where(smallest == largest, 0.0, 1.0 - share)
    return keep, alias


def choose_by_alias(keep: np.ndarray, alias: np.ndarray, rows: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """Outcomes by the tables of `rows`, by one uniform number of [0, 1) each; int64, shape `(n,)`."""
    scaled = chance * keep.shape[1]
    column = scaled.astype(np.int64)
    return np.where(scaled - column < keep[rows, column], column, alias[rows, column])
