"""Coordinate ascent of a factorised distribution over the binary units."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

_STEPS_BETWEEN_CHECKS = 8  # on an accelerator, where each check waits for it


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
    inputs: Tensor,
    steps: int,
    tolerance: float,
) -> MeanField:
    """Applies `step(hidden, top, inputs)` to each example until its means move no further than `tolerance`.

    An example that has converged stays as it is, so that its neighbours do not matter. An example with means that are
    NaN ends with the residual NaN.

    Args:
        step: new means of both layers.
        hidden, top: means to start from, shapes `(batch, hidden)` and `(batch, top)`.
        inputs: constant arguments of `step`, one row for each example, shape `(batch, ...)`.
        steps: largest number of steps. With a tolerance of 0 all are taken, and nothing waits for the device.
        tolerance: largest movement of an example's means at which it has converged.

    Returns:
        Means, steps and residual of each example, in the order of the batch.
    """
    if tolerance == 0:
        last = hidden, top
        for _ in range(steps):
            last = hidden, top
            hidden, top = step(hidden, top, inputs)
        counts = torch.full((len(hidden),), steps, device=hidden.device)
        return MeanField(hidden, top, counts, movement(*last, hidden, top))

    interval = 1 if hidden.device.type == "cpu" else _STEPS_BETWEEN_CHECKS
    moving = torch.ones(len(hidden), dtype=torch.bool, device=hidden.device)
    counts, residual = moving.long() * 0, hidden.new_zeros(len(hidden))
    results: MeanField | None = None  # of the whole batch, once examples have been dropped
    rows: Tensor | None = None  # of the examples that are left in it
    for number in range(1, steps + 1):
        new_hidden, new_top = step(hidden, top, inputs)
        moved = movement(hidden, top, new_hidden, new_top)
        hidden = torch.where(moving[:, None], new_hidden, hidden)
        top = torch.where(moving[:, None], new_top, top)
        residual = torch.where(moving, moved, residual)
        counts += moving
        moving &= moved > tolerance
        if number % interval or number == steps:
            continue
        unfinished = int(moving.sum())
        if unfinished == 0:
            break
        if unfinished <= len(moving) // 2:
            results = _put_back(results, rows, MeanField(hidden, top, counts, residual))
            rows = moving.nonzero()[:, 0] if rows is None else rows[moving]
            hidden, top, inputs = hidden[moving], top[moving], inputs[moving]
            counts, residual, moving = counts[moving], residual[moving], moving[moving]
    return _put_back(results, rows, MeanField(hidden, top, counts, residual))


def movement(hidden: Tensor, top: Tensor, new_hidden: Tensor, new_top: Tensor) -> Tensor:
    """How far the farthest mean of each example has moved, shape `(batch,)`; NaN if one is NaN."""
    moved = (new_hidden - hidden).abs().amax(dim=1)
    return torch.maximum(moved, (new_top - top).abs().amax(dim=1)) if top.shape[1] else moved


def _put_back(results: MeanField | None, rows: Tensor | None, part: MeanField) -> MeanField:
    """The results of the whole batch, with those of `rows` replaced by `part`."""
    if results is None:
        return part
    for values, new_values in zip(results, part, strict=True):
        values[rows] = new_values
    return results
