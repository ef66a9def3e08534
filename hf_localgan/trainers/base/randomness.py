"""Random numbers by key: those of an update, a batch and a process, which a resumed run draws again."""

import numpy as np
import torch


def keyed_seed(*keys: int) -> int:
    """A seed of 63 bits that depends on the keys alone; different keys give independent ones.

    Args:
        keys: numbers of at least 0, such as the seed of a run, the update, the batch and the process.
    """
    return int(np.random.SeedSequence(keys).generate_state(1, np.uint64)[0] >> np.uint64(1))


class UpdateRandomness:
    """Seeds of the batches of the updates of a training.

    They depend on the seed of the run, the number of the update, the place of the batch in it, the process and the
    purpose alone, so that a resumed run draws the same, and no two processes do.

    ```python
    draws = UpdateRandomness(trainer)
    draws.next_batch()  # at the start of every batch
    generator = draws.generator(device)
    ```

    Args:
        trainer: whose `args` and `state` are read.
        seed: of the run; by default `args.seed`.
    """

    def __init__(self, trainer, seed: int | None = None):
        self.trainer, self._seed = trainer, seed
        self.restart()

    def restart(self):
        """To be called before a training: a second one draws as the first."""
        self._update, self.batch = -1, 0

    def next_batch(self):
        """Moves on to the next batch of the update, or to the first one of the next update."""
        if self._update != self.trainer.state.global_step:
            self._update, self.batch = self.trainer.state.global_step, 0
        else:
            self.batch += 1

    def seed(self, *purpose: int) -> int:
        """The seed of this batch; other numbers for each purpose."""
        args = self.trainer.args
        seed = args.seed if self._seed is None else self._seed
        return keyed_seed(seed, self.trainer.state.global_step, self.batch, args.process_index, *purpose)

    def generator(self, device: torch.device | str, *purpose: int) -> torch.Generator:
        """Random numbers of this batch on a device."""
        return torch.Generator(device).manual_seed(self.seed(*purpose))
