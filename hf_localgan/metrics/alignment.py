"""Whether the attention of a recogniser walks through the utterance."""

import torch
from torch import Tensor


def attention_forward(attention: Tensor, counted: Tensor, reach: int = 8) -> Tensor:
    """Share of steps whose attention peak lies 1 to `reach` places behind that of the step before.

    Near 1 where the model aligns, about `reach / places` where the peaks lie anywhere.

    Args:
        attention: weights, shape `(batch, time, places)`.
        counted: true at steps of the target, at the front of each row, shape `(batch, time)`.
        reach: the longest move that counts.

    Returns:
        A scalar from 0 to 1; 0 where no row has two steps.
    """
    moves = attention.argmax(dim=-1).diff(dim=1)  # (batch, time - 1)
    both = counted[:, 1:] & counted[:, :-1]
    forward = (moves >= 1) & (moves <= reach) & both
    return forward.sum() / both.sum().clamp(min=1)


def attention_peak(attention: Tensor, counted: Tensor) -> Tensor:
    """Mean of the largest weight of each step, a scalar from 0 to 1. Arguments as `attention_forward`."""
    peaks = attention.max(dim=-1).values
    return torch.where(counted, peaks, 0.0).sum() / counted.sum().clamp(min=1)
