"""Whose turn it is, and one optimizer and one schedule made of those of two players."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

GENERATOR, DISCRIMINATOR = "generator", "discriminator"


def phase_of_step(step: int, warmup: int, discriminator_steps: int, generator_steps: int) -> str:
    """The player that the update after `step` updates belongs to.

    The discriminator has the first `warmup` updates; then cycles of `discriminator_steps` and `generator_steps`. A
    function of the number alone, so that a resumed run needs nothing else.
    """
    if step < warmup:
        return DISCRIMINATOR
    place = (step - warmup) % (discriminator_steps + generator_steps)
    return DISCRIMINATOR if place < discriminator_steps else GENERATOR


def updates_until(step: int, warmup: int, discriminator_steps: int, generator_steps: int) -> dict[str, int]:
    """How many of the first `step` updates belong to each player."""
    cycles, rest = divmod(max(step - warmup, 0), discriminator_steps + generator_steps)
    generator = cycles * generator_steps + max(rest - discriminator_steps, 0)
    return {GENERATOR: generator, DISCRIMINATOR: step - generator}


class GanOptimizer(torch.optim.Optimizer):
    """Optimizers of several players, of which one is active: `step` steps that one, and forgets all gradients.

    What the Trainer and accelerate read of an optimizer is there; `param_groups` has the active player's first, so that
    the learning rate that is logged is the one that was used.

    Args:
        optimizers: by the player's name.
    """

    def __init__(self, optimizers: dict[str, torch.optim.Optimizer]):
        # Not the constructor of the base class, which would want parameters of its own.
        self.optimizers, self.active = optimizers, next(iter(optimizers))
        self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks = {}, {}

    @property
    def param_groups(self) -> list[dict]:
        others = [one for name, one in self.optimizers.items() if name != self.active]
        return [group for one in (self.optimizers[self.active], *others) for group in one.param_groups]

    @param_groups.setter
    def param_groups(self, groups):
        """Ignored: the groups are those of the optimizers."""

    @property
    def state(self) -> dict:
        return {key: value for one in self.optimizers.values() for key, value in one.state.items()}

    @property
    def defaults(self) -> dict:
        return self.optimizers[self.active].defaults

    def step(self, closure: Callable | None = None):
        result = self.optimizers[self.active].step(closure)
        self.zero_grad()  # the Trainer empties those of the generator alone
        return result

    def zero_grad(self, set_to_none: bool = True):
        for one in self.optimizers.values():
            one.zero_grad(set_to_none=set_to_none)

    def state_dict(self) -> dict:
        return {name: one.state_dict() for name, one in self.optimizers.items()}

    def load_state_dict(self, state: dict):
        if set(state) != set(self.optimizers):
            raise ValueError(
                f"The optimizer of a checkpoint belongs to {', '.join(map(str, state))}, this one to "
                f"{', '.join(self.optimizers)}. Resume with the trainer that wrote the checkpoint."
            )
        for name, one in self.optimizers.items():
            one.load_state_dict(state[name])


class GanScheduler(torch.optim.lr_scheduler.LRScheduler):
    """Schedules of several players; `step` moves that of the player whose update it was.

    Args:
        schedulers: by the player's name.
        optimizer: which of them is active.
    """

    def __init__(self, schedulers: dict[str, torch.optim.lr_scheduler.LRScheduler], optimizer: GanOptimizer):
        self.schedulers, self.optimizer = schedulers, optimizer

    def step(self, *args, **kwargs):
        self.schedulers[self.optimizer.active].step()

    def get_last_lr(self) -> list[float]:
        """Learning rates of the active player's groups."""
        return self.schedulers[self.optimizer.active].get_last_lr()

    def state_dict(self) -> dict:
        return {name: one.state_dict() for name, one in self.schedulers.items()}

    def load_state_dict(self, state: dict):
        for name, one in self.schedulers.items():
            one.load_state_dict(state[name])


@contextmanager
def without_gradients(module: nn.Module) -> Iterator[None]:
    """While this is open, the module's parameters are constants; gradients still flow through it."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
