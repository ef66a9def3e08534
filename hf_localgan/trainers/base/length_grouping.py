"""The order of the training examples."""

from collections.abc import Callable, Iterator

import torch
from transformers.trainer_pt_utils import LengthGroupedSampler


class EpochLengthGroupedSampler(LengthGroupedSampler):
    """Batches of about equal length, in an order that depends on the seed and the epoch alone.

    A resumed run therefore continues with the examples it has not seen, and all processes share one order.

    Args:
        batch_size: examples of one update, over all processes.
        lengths: length of each example, in tokens.
        seed: seed of the order.
        epoch: returns the current epoch, whole or with a fraction; `None` before the first.
    """

    def __init__(self, batch_size: int, lengths: list[int], seed: int, epoch: Callable[[], float | None]):
        super().__init__(batch_size, lengths=lengths)
        self.seed, self.epoch = seed, epoch

    def __iter__(self) -> Iterator[int]:
        epoch = int((self.epoch() or 0.0) + 1e-6)  # the fraction is a quotient of steps, which may round down
        self.generator = torch.Generator().manual_seed(self.seed + epoch)
        return super().__iter__()
