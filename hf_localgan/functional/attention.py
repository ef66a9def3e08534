"""Whether attention walks through its source, and a penalty that teaches it to."""

import torch
from torch import Tensor


def attention_forward(attention: Tensor, counted: Tensor, reach: int = 8) -> Tensor:
    """Share of steps whose attention peak lies 1 to `reach` places behind that of the step before.

    Near 1 where a recogniser aligns, about `reach / places` where the peaks lie anywhere.

    Args:
        attention: weights, shape `(batch, time, places)`.
        counted: true at steps of the target, shape `(batch, time)`.
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


def guided_attention(attention: Tensor, counted: Tensor, places: Tensor, width: float = 0.2) -> Tensor:
    """How much attention lies off the diagonal, in each step (Tachibana et al. 2018, section 4).

    `sum_s a_ts (1 - exp(-(t / T - s / S)^2 / (2 width^2)))`: 0 on the straight line from the first place and step to
    the last, towards 1 far from it. Speech is spoken in order and at a fairly even pace, so alignments lie near the
    line.

    Args:
        attention: weights, shape `(batch, time, places)`.
        counted: true at the steps of the target, which stand at the front, shape `(batch, time)`.
        places: places of each source that exist, at the front, shape `(batch,)`.
        width: width of the band without much penalty, as a share of the source.

    Returns:
        Shape `(batch, time)`, from 0 to 1; 0 at steps that do not count.

    Raises:
        ValueError: if `width <= 0`.
    """
    if width <= 0:
        raise ValueError(f"`width` must be positive, got {width}. 0.2 is usual.")
    _, time, size = attention.shape
    step = torch.arange(time, device=attention.device) / counted.sum(dim=1, keepdim=True).clamp(min=1)  # (batch, time)
    place = torch.arange(size, device=attention.device) / places[:, None].clamp(min=1)  # (batch, places)
    distance = step[:, :, None] - place[:, None]  # (batch, time, places)
    penalty = 1 - torch.exp(-distance.square() / (2 * width**2))
    return torch.where(counted, (attention * penalty).sum(dim=-1), 0.0)
