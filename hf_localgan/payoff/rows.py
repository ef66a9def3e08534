"""Rows of token ids of different lengths: copied, or laid out one after another."""

from array import array
from collections.abc import Sequence
from itertools import chain

import numpy as np


def copy_row(row: Sequence[int]) -> list[int]:
    """The row as a new list; of Python integers also where it is an array or a tensor.

    Raises:
        ValueError: for a text, whose letters are no tokens.
    """
    if isinstance(row, (str, bytes)):
        raise ValueError(_no_integer(row))
    return row.tolist() if hasattr(row, "tolist") else list(row)


def copy_rows(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Each row as a new list."""
    return [row[:] if type(row) is list else copy_row(row) for row in rows]


def row_lengths(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Number of tokens of each row, int64, shape `(batch,)`."""
    return np.fromiter(map(len, rows), np.int64, len(rows))


def flatten_rows(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """All rows one after another, int64, shape `(tokens,)`.

    Raises:
        ValueError: if a token id is negative or no integer.
    """
    if len(rows) and hasattr(rows[0], "tolist"):
        # An empty row of numpy's has floats, but none to refuse.
        parts = [np.asarray(row) for row in rows if len(row)]
        tokens = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
        if tokens.dtype.kind not in "iub":
            raise ValueError(_no_integer(tokens[0].item()))
        tokens = tokens.astype(np.int64, copy=False)
    else:
        flat = list(chain.from_iterable(rows))
        try:
            tokens = np.array(array("q", flat), dtype=np.int64)  # numpy itself would round 9.7 to 9 and read text
        except (TypeError, OverflowError) as error:
            raise ValueError(_no_integer(_first_refused(flat))) from error
    if tokens.size and tokens.min() < 0:
        raise negative_id(tokens.min())
    return tokens


def pad_rows(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """The rows as a table filled up with zeros, int64, shape `(batch, largest length)`, and their lengths.

    Raises:
        ValueError: if a token id is negative or no integer.
    """
    lengths = row_lengths(rows)
    table = np.zeros((len(rows), int(lengths.max(initial=0))), dtype=np.int64)
    table[np.arange(table.shape[1]) < lengths[:, None]] = flatten_rows(rows)
    return table, lengths


def negative_id(token: int) -> ValueError:
    """The error for an id that no vocabulary has."""
    return ValueError(
        f"Labels must be token ids of at least 0, got {token}. Take off the padding of the loss (-100) before drawing."
    )


def _no_integer(token) -> str:
    return f"Labels must be integer token ids of at least 0, got {token!r}. Give what the tokenizer returns, unscaled."


def _first_refused(tokens: list):
    """The first one that is no integer, or one too large for 64 bits."""
    for token in tokens:
        try:
            array("q", [token])
        except (TypeError, OverflowError):
            return token
