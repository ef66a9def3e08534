"""The time of a batch: its epoch, the optimizer step that will consume it, and the temperature of that step."""

import math
import os
from dataclasses import dataclass
from typing import Literal

import torch
from torch.utils.data import IterableDataset, get_worker_info

from hf_localgan.payoff.base import check_temperature

KINDS = ("constant", "linear", "cosine")


@dataclass(frozen=True)
class TemperatureSchedule:
    """The temperature as a function of the optimizer step: `schedule(step)`.

    Attributes:
        kind: `"constant"`: `end` from the first step on; `"linear"`; `"cosine"`: half a period, flat at both ends.
        start: temperature at step 0; a constant schedule does not read it.
        end: temperature at `total_steps` and after.
        total_steps: optimizer steps from `start` to `end`.

    Raises:
        ValueError: for another kind, a temperature that is negative, NaN or infinite, and less than one step.
    """

    kind: Literal["constant", "linear", "cosine"] = "constant"
    start: float = 0.0
    end: float = 0.9
    total_steps: int = 1

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f'`kind` must be "constant", "linear" or "cosine", got {self.kind!r}.')
        for name in ("end",) if self.kind == "constant" else ("start", "end"):
            if math.isinf(check_temperature(getattr(self, name))):
                raise ValueError(f"`{name}` of a schedule must be finite, got {getattr(self, name)}.")
        _whole("total_steps", self.total_steps, 1)

    def __call__(self, step: int) -> float:
        """The temperature at an optimizer step, counted from 0."""
        if step < 0:
            raise ValueError(f"`step` must be at least 0, got {step}.")
        if self.kind == "constant" or step >= self.total_steps:
            return float(self.end)
        done = step / self.total_steps
        if self.kind == "cosine":
            done = (1 - math.cos(math.pi * done)) / 2
        return self.start + (self.end - self.start) * done


class EpochClock:
    """Counts batches where they are made, and tells the epoch and optimizer step that each is made for.

    The numbers that `start` is given lie in shared memory, so workers that have started already read them, whether
    they were forked or spawned. Batches are counted where they are made: a loader hands them to its workers in turn, so
    the n-th batch of a worker is batch `n * workers + worker` of the loader, however far ahead it is made.

    A copy (`copy.deepcopy`, `pickle`) is a clock of its own, set to the same time, that has counted nothing yet; only
    what a loader sends to its workers shares the memory.
    """

    def __init__(self):
        # generation, epoch, step, discarded, batches of a step
        self._shared = torch.tensor([0, 0, 0, 0, 1]).share_memory_()
        self._place, self._made = None, 0

    def __getstate__(self):
        return {"_shared": self._shared}

    def __setstate__(self, state):
        # A worker's tensor arrives shared. Any other copy has memory of its own, which its own workers must see change.
        self._shared = state["_shared"].share_memory_()
        self._place, self._made = None, 0

    def start(self, epoch: int, step: int, discarded: int, accumulation: int, batches_per_step: int) -> None:
        """Sets the time of the first batch to come; see `RamlCollator.start_epoch`."""
        _whole("epoch", epoch, 0)
        _whole("step", step, 0)
        _whole("discarded", discarded, 0)
        _whole("accumulation", accumulation, 1)
        _whole("batches_per_step", batches_per_step, 1)
        self._shared[1:] = torch.tensor([epoch, step, discarded, accumulation * batches_per_step])
        self._shared[0] += 1  # last: who sees the new generation finds its numbers

    def tick(self) -> tuple[int, int]:
        """Counts a batch; its epoch and the optimizer step that will consume it."""
        generation, epoch, step, discarded, batches = self._shared.tolist()
        place = (os.getpid(), generation)  # a forked worker inherits the count of the process it comes from
        if place != self._place:
            self._place, self._made = place, 0
        worker, workers = _worker()
        batch = self._made * workers + worker
        self._made += 1
        return epoch, step + max(0, batch - discarded) // batches


def _worker() -> tuple[int, int]:
    """Number of this loader worker, and how many of them make batches."""
    info = get_worker_info()
    if info is None:
        return 0, 1
    workers = info.num_workers
    if isinstance(info.dataset, IterableDataset):
        # A stream of the `datasets` library with fewer shards than workers leaves the last workers without work.
        stream = getattr(info.dataset, "dataset", info.dataset)
        workers = min(workers, getattr(stream, "num_shards", workers))
    return info.id, max(workers, 1)


def _whole(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"`{name}` must be a whole number of at least {least}, got {value!r}.")
