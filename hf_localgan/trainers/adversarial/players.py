"""Whose turn it is, and one optimizer and one schedule of the rate made of those of several players."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch
from torch import nn

GENERATOR, DISCRIMINATOR = "generator", "discriminator"
Turns = tuple[tuple[str, int], ...]  # players, each with the number of its updates in a row


class Schedule(NamedTuple):
    """Which player each update belongs to: a function of its number alone, so that a resumed run needs nothing else.

    Attributes:
        warmup: turns that come once, at the start.
        cycle: turns that then come over and over.
    """

    warmup: Turns
    cycle: Turns

    @property
    def players(self) -> tuple[str, ...]:
        """Names of all players, in the order of the cycle."""
        return tuple(dict.fromkeys(player for player, _ in (*self.cycle, *self.warmup)))

    def player(self, step: int) -> str:
        """The player that the update after `step` updates belongs to."""
        step, turns = self._place(step)
        for player, number in turns:
            if step < number:
                return player
            step -= number
        raise ValueError(f"The cycle of a schedule needs updates, got {self.cycle}.")

    def updates(self, step: int) -> dict[str, int]:
        """How many of the first `step` updates belong to each player."""
        length = sum(number for _, number in self.warmup)
        counts = dict.fromkeys(self.players, 0)
        _add_turns(counts, self.warmup, min(step, length))
        cycles, rest = divmod(max(step - length, 0), sum(number for _, number in self.cycle))
        for player, number in self.cycle:
            counts[player] += cycles * number
        _add_turns(counts, self.cycle, rest)
        return counts

    def _place(self, step: int) -> tuple[int, Turns]:
        """The same step within the turns that it falls into."""
        length = sum(number for _, number in self.warmup)
        if step < length:
            return step, self.warmup
        return (step - length) % max(1, sum(number for _, number in self.cycle)), self.cycle


def _add_turns(counts: dict[str, int], turns: Turns, steps: int):
    for player, number in turns:
        counts[player] += min(steps, number)
        steps -= min(steps, number)


class PlayerOptimizers(torch.optim.Optimizer):
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
        others = [optimizer for name, optimizer in self.optimizers.items() if name != self.active]
        return [group for optimizer in (self.optimizers[self.active], *others) for group in optimizer.param_groups]

    @param_groups.setter
    def param_groups(self, groups):
        """Ignored: the groups are those of the optimizers."""

    @property
    def state(self) -> dict:
        return {key: value for optimizer in self.optimizers.values() for key, value in optimizer.state.items()}

    @property
    def defaults(self) -> dict:
        return self.optimizers[self.active].defaults

    def step(self, closure: Callable | None = None):
        result = self.optimizers[self.active].step(closure)
        self.zero_grad()  # the Trainer empties those of the generator alone
        return result

    def zero_grad(self, set_to_none: bool = True):
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=set_to_none)

    def state_dict(self) -> dict:
        return {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}

    def load_state_dict(self, state: dict):
        if set(state) != set(self.optimizers):
            raise ValueError(
                f"The optimizer of a checkpoint belongs to {', '.join(map(str, state))}, this one to "
                f"{', '.join(self.optimizers)}. Resume with the trainer that wrote the checkpoint."
            )
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state[name])


class PlayerSchedulers(torch.optim.lr_scheduler.LRScheduler):
    """Schedules of the rate of several players; `step` moves that of the player whose update it was.

    Args:
        schedulers: by the player's name.
        optimizers: which of them is active.
    """

    def __init__(self, schedulers: dict[str, torch.optim.lr_scheduler.LRScheduler], optimizers: PlayerOptimizers):
        self.schedulers, self.optimizer = schedulers, optimizers

    def step(self, *args, **kwargs):
        self.schedulers[self.optimizer.active].step()

    def get_last_lr(self) -> list[float]:
        """Learning rates of the active player's groups."""
        return self.schedulers[self.optimizer.active].get_last_lr()

    def state_dict(self) -> dict:
        return {name: scheduler.state_dict() for name, scheduler in self.schedulers.items()}

    def load_state_dict(self, state: dict):
        for name, scheduler in self.schedulers.items():
            scheduler.load_state_dict(state[name])


@contextmanager
def without_gradients(*modules: nn.Module) -> Iterator[None]:
    """While this is open, the modules' parameters are constants; gradients still flow through them."""
    learning = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
    with ExitStack() as stack:
        for parameter in learning:
            parameter.requires_grad_(False)
            stack.callback(parameter.requires_grad_, True)
        yield
