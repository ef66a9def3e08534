"""The epoch of a batch, the optimizer step that will use it, and the temperature of that step."""

import math
import os
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from hf_localgan.payoff.base import TokenPayoff, check_temperature

CURVES = ("constant", "linear", "cosine")


@dataclass(frozen=True)
class TemperatureSchedule:
    """The temperature as a function of the optimizer step: `schedule(step)`.

    Attributes:
        curve: `"constant"`: `end` from the first step on; `"linear"`; `"cosine"`: half a period, flat at both ends.
        start: temperature at step 0; not read by a constant schedule.
        end: temperature from `total_steps` on.
        total_steps: optimizer steps from `start` to `end`, at least 1.
        knots: temperatures at evenly spaced places of the curve from `start` to `end`, both included, between which
            the temperature moves in straight lines; for a curve of something that is not linear in the temperature,
            such as edits per token (`falling_temperatures`). By default the two ends.

    Raises:
        ValueError: for another curve, a temperature that is negative, NaN or infinite, less than one step, and knots
            that do not go from `start` to `end`.
    """

    curve: Literal["constant", "linear", "cosine"] = "constant"
    start: float = 0.0
    end: float = 0.9
    total_steps: int = 1
    knots: tuple[float, ...] = ()

    def __post_init__(self):
        if self.curve not in CURVES:
            raise ValueError(f'`curve` must be "constant", "linear" or "cosine", got {self.curve!r}.')
        for name in ("end",) if self.curve == "constant" else ("start", "end"):
            if math.isinf(check_temperature(getattr(self, name))):
                raise ValueError(f"`{name}` of a schedule must be finite, got {getattr(self, name)}.")
        _check_whole("total_steps", self.total_steps, 1)
        for knot in self.knots:
            check_temperature(knot)
        if self.knots and (self.curve == "constant" or len(self.knots) < 2 or self.knots[:: len(self.knots) - 1] != (
            self.start, self.end
        )):  # fmt: skip
            raise ValueError(
                f"`knots` must go from `start` ({self.start}) to `end` ({self.end}) of a `linear` or `cosine` curve, "
                f"got {len(self.knots)} of them and the curve {self.curve!r}."
            )

    def __call__(self, step: int) -> float:
        """The temperature at an optimizer step, counted from 0; in units of the reward."""
        if step < 0:
            raise ValueError(f"`step` must be at least 0, got {step}.")
        if self.curve == "constant" or step >= self.total_steps:
            return float(self.end)
        progress = step / self.total_steps
        if self.curve == "cosine":
            progress = (1 - math.cos(math.pi * progress)) / 2
        if self.knots:
            place, rest = divmod(progress * (len(self.knots) - 1), 1)
            before, after = self.knots[int(place)], self.knots[min(int(place) + 1, len(self.knots) - 1)]
            return before + (after - before) * rest
        return self.start + (self.end - self.start) * progress


def falling_temperatures(payoff: TokenPayoff, length: int, number: int = 65) -> tuple[float, ...]:
    """Temperatures at which a sampler's edits per token fall to 0 in equal steps, from those of its own temperature.

    Edits per token fall much faster than the temperature: of 8,000 tokens Hamming replaces 5.9 % at 0.85, 0.8 % at 0.7
    and none that matter at 0.5, so that a temperature that falls to 0 evenly draws next to nothing in the second half.

    Args:
        payoff: the sampler.
        length: tokens of a typical reference.
        number: of temperatures, at least 2, the last of which is 0.

    Returns:
        The temperatures; its own and 0 alone for a sampler that does not tell its edits per token.
    """
    start = payoff.temperature
    try:
        rate = payoff.edit_rate(length)
    except NotImplementedError:
        return start, 0.0
    between = [payoff.temperature_for(rate * (1 - step / (number - 1)), length) for step in range(1, number - 1)]
    return (start, *between, 0.0)


class EpochClock:
    """Counts batches where they are made, and returns the epoch and optimizer step of each.

    The numbers of `start` lie in shared memory, so workers that have started already read them, whether they were
    forked or spawned. A loader gives batches to its workers in turn, so the n-th batch of a worker is batch
    `n * workers + worker` of the loader, however far ahead it is made.

    A copy (`copy.deepcopy`, `pickle`) is another clock, set to the same time, that has counted nothing yet; only the
    copies that a loader sends to its workers share the memory.
    """

    def __init__(self) -> None:
        # start, epoch, step, discarded, batches of a step
        self._shared = torch.tensor([0, 0, 0, 0, 1]).share_memory_()
        self._origin: tuple[int, int] | None = None  # process and start that the count belongs to
        self._count = 0

    def __getstate__(self) -> dict[str, Tensor]:
        return {"_shared": self._shared}

    def __setstate__(self, state: dict[str, Tensor]):
        # A worker's tensor arrives shared. Any other copy has separate memory, which its own workers must see change.
        self._shared = state["_shared"].share_memory_()
        self._origin, self._count = None, 0

    def start(self, epoch: int, step: int, discarded: int, accumulation: int, batches_per_step: int) -> None:
        """Sets the time of the first batch to come; see `RamlCollator.start_epoch`."""
        _check_whole("epoch", epoch, 0)
        _check_whole("step", step, 0)
        _check_whole("discarded", discarded, 0)
        _check_whole("accumulation", accumulation, 1)
        _check_whole("batches_per_step", batches_per_step, 1)
        self._shared[1:] = torch.tensor([epoch, step, discarded, accumulation * batches_per_step])
        self._shared[0] += 1  # last: a worker that reads the new number reads the new values, too

    def tick(self) -> tuple[int, int]:
        """Counts a batch; returns its epoch and the optimizer step that will use it."""
        start, epoch, step, discarded, batches = self._shared.tolist()
        origin = (os.getpid(), start)  # a forked worker inherits the count of its parent process
        if origin != self._origin:
            self._origin, self._count = origin, 0
        worker, workers = _worker()
        batch = self._count * workers + worker
        self._count += 1
        return epoch, step + max(0, batch - discarded) // batches


def _worker() -> tuple[int, int]:
    """Number of this loader worker, and number of the workers that make batches."""
    info = get_worker_info()
    if info is None:
        return 0, 1
    workers = info.num_workers
    if isinstance(info.dataset, IterableDataset):
        # A stream of the `datasets` library with fewer shards than workers leaves the last workers without work.
        stream = getattr(info.dataset, "dataset", info.dataset)
        workers = min(workers, getattr(stream, "num_shards", workers))
    return info.id, max(workers, 1)


def _check_whole(name: str, value: int, minimum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(f"`{name}` must be a whole number of at least {minimum}, got {value!r}.")
