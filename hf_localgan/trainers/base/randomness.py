"""Random numbers keyed by update, batch and process, so that a resumed run draws the same ones."""

from collections.abc import Callable

import numpy as np
import torch
from transformers import Trainer


def keyed_seed(*keys: int) -> int:
    """A seed of 63 bits that depends on the keys alone; different keys give independent seeds.

    Args:
        keys: numbers of at least 0, such as the seed of a run, the update, the batch and the process.
    """
    return int(np.random.SeedSequence(keys).generate_state(1, np.uint64)[0] >> np.uint64(1))


class UpdateRandomness:
    """Random numbers for each batch of each update of a training.

    They depend on the run's seed, the number of the update, the batch's place in it, the process and the purpose alone:
    a resumed run draws the same numbers, and two processes draw different ones.

    ```python
    draws = UpdateRandomness(trainer)
    draws.next_batch()  # at the start of every batch
    generator = draws.generator(device)
    ```

    Args:
        trainer: the trainer, whose `args` and `state` are read at every draw.
        seed: returns the run's seed, by default `args.seed`.
        of_update: number the batches of an update over all processes. Then two processes draw what one process draws
            that accumulates the same batches.
    """

    def __init__(self, trainer: Trainer, seed: Callable[[], int] | None = None, *, of_update: bool = False):
        self.trainer, self._seed, self._of_update = trainer, seed, of_update
        self.restart()

    def restart(self):
        """To be called before a training, so that a second training draws what the first drew."""
        self._update, self.batch = -1, 0

    def next_batch(self):
        """Moves on to the next batch of the update, or to the first batch of the next update."""
        if self._update != self.trainer.state.global_step:
            self._update, self.batch = self.trainer.state.global_step, 0
        else:
            self.batch += 1

    def seed(self, *purpose: int) -> int:
        """The seed of this batch for a purpose, which one or more numbers name."""
        args = self.trainer.args
        seed = args.seed if self._seed is None else self._seed()
        batch, process = self.batch, args.process_index
        if self._of_update:  # each process takes every so many-th batch
            batch, process = batch * args.world_size + process, 0
        return keyed_seed(seed, self.trainer.state.global_step, batch, process, *purpose)

    def generator(self, device: torch.device | str, *purpose: int) -> torch.Generator:
        """A generator of random numbers for this batch and purpose on a device."""
        return torch.Generator(device).manual_seed(self.seed(*purpose))
