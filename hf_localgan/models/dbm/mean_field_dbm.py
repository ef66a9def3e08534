"""Coordinate ascent of a factorised distribution over the binary units."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

_STEPS_BETWEEN_LOOKS = 8  # on an accelerator, where each look waits for it


class MeanField(NamedTuple):
    """The fixed point that the mean field has reached, without gradient.

    Attributes:
        hidden: means of `hq`, shape `(batch, hidden_size)`.
        top: means of `h`, shape `(batch, top_size)`.
        steps: taken for each example, shape `(batch,)`.
        residual: how far the farthest mean of each example moved in its last step, shape `(batch,)`.
    """

    hidden: Tensor
    top: Tensor
    steps: Tensor
    residual: Tensor


def iterate_means(
    step: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]],
    hidden: Tensor,
    top: Tensor,
    given: Tensor,
    steps: int,
    tolerance: float,
) -> MeanField:
    """Applies `step(hidden, top, given)` to each example until its means move no further than `tolerance`.

    An example that has converged is left alone from there on, so that its neighbours do not matter. One whose means
    are NaN ends with the residual NaN.

    Args:
        step: new means of both layers.
        hidden, top: means to start from, shapes `(batch, hidden)` and `(batch, top)`.
        given: what is known of each example, shape `(batch, ...)`.
        steps: at most so many. With a tolerance of 0 all are taken, and nothing waits for the device.
        tolerance: of the farthest mean.
    """
    if tolerance == 0:
        last = hidden, top
        for _ in range(steps):
            last = hidden, top
            hidden, top = step(hidden, top, given)
        taken = torch.full((len(hidden),), steps, device=hidden.device)
        return MeanField(hidden, top, taken, movement(*last, hidden, top))

    between = 1 if hidden.device.type == "cpu" else _STEPS_BETWEEN_LOOKS
    moving = torch.ones(len(hidden), dtype=torch.bool, device=hidden.device)
    taken, residual = moving.long() * 0, hidden.new_zeros(len(hidden))
    whole, rows = None, None  # results of the whole batch, once examples have been dropped, and who is left
    for number in range(1, steps + 1):
        new_hidden, new_top = step(hidden, top, given)
        moved = movement(hidden, top, new_hidden, new_top)
        hidden = torch.where(moving[:, None], new_hidden, hidden)
        top = torch.where(moving[:, None], new_top, top)
        residual = torch.where(moving, moved, residual)
        taken += moving
        moving &= moved > tolerance
        if number % between or number == steps:
            continue
        left = int(moving.sum())
        if left == 0:
            break
        if left <= len(moving) // 2:
            whole, rows = _put_back(whole, rows, MeanField(hidden, top, taken, residual)), _chosen(rows, moving)
            hidden, top, given = hidden[moving], top[moving], given[moving]
            taken, residual, moving = taken[moving], residual[moving], moving[moving]
    return _put_back(whole, rows, MeanField(hidden, top, taken, residual))


def movement(hidden: Tensor, top: Tensor, new_hidden: Tensor, new_top: Tensor) -> Tensor:
    """How far the farthest mean of each example has moved, shape `(batch,)`; NaN if one is NaN."""
    moved = (new_hidden - hidden).abs().amax(dim=1)
    return torch.maximum(moved, (new_top - top).abs().amax(dim=1)) if top.shape[1] else moved


def _chosen(rows: Tensor | None, moving: Tensor) -> Tensor:
    return moving.nonzero()[:, 0] if rows is None else rows[moving]


def _put_back(whole: MeanField | None, rows: Tensor | None, part: MeanField) -> MeanField:
    if whole is None:
        return part
    for results, result in zip(whole, part, strict=True):
        results[rows] = result
    return whole
