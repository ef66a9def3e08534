"""Rows of token ids of different lengths, as one tensor."""

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor

PADDING = -100  # where there is no token: losses skip it, and energies and discriminators do not count it


def pad_ids(rows: Sequence[Sequence[int]], value: int = PADDING) -> Tensor:
    """Rows with padding behind them.

    Args:
        rows: whole numbers, such as token ids or attention masks.
        value: value of the padding.

    Returns:
        int64 on the CPU, shape `(rows, time)`. `time` is the length of the longest row, and at least 1.
    """
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    padded = np.full((len(rows), int(lengths.max(initial=1))), value, dtype=np.int64)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = np.fromiter(chain.from_iterable(rows), np.int64)
    return torch.from_numpy(padded)


def pad_columns(columns: Mapping[str, Sequence[Sequence[int]]]) -> dict[str, Tensor]:
    """`pad_ids` of each column: an attention mask with 0, all others with -100."""
    return {name: pad_ids(rows, 0 if name == "attention_mask" else PADDING) for name, rows in columns.items()}
