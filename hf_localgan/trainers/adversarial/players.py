"""Turns of the players, and their optimizers and learning-rate schedules combined into one of each."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

GENERATOR, DISCRIMINATOR = "generator", "discriminator"
Turns = tuple[tuple[str, int], ...]  # players, each with the number of its updates in a row


class Schedule(NamedTuple):
    """The player of each update, which follows from the update's number alone, so that a resumed run needs no more.

    Attributes:
        warmup: turns that come once, at the start.
        cycle: turns that are then repeated.
    """

    warmup: Turns
    cycle: Turns

    @property
    def players(self) -> tuple[str, ...]:
        """Names of all players, in the order of the cycle."""
        return tuple(dict.fromkeys(player for player, _ in (*self.cycle, *self.warmup)))

    def player(self, step: int) -> str:
        """The player of the update that follows the first `step` updates.

        Raises:
            ValueError: for a cycle without updates.
        """
        step, turns = self._place(step)
        for player, number in turns:
            if step < number:
                return player
            step -= number
        raise ValueError(f"The cycle of a schedule needs updates, got {self.cycle}.")

    def updates(self, step: int) -> dict[str, int]:
        """Each player's number of updates among the first `step`."""
        length = sum(number for _, number in self.warmup)
        counts = dict.fromkeys(self.players, 0)
        _add_turns(counts, self.warmup, min(step, length))
        cycles, rest = divmod(max(step - length, 0), sum(number for _, number in self.cycle))
        for player, number in self.cycle:
            counts[player] += cycles * number
        _add_turns(counts, self.cycle, rest)
        return counts

    def _place(self, step: int) -> tuple[int, Turns]:
        """The turns that a step falls into, and its number within them."""
        length = sum(number for _, number in self.warmup)
        if step < length:
            return step, self.warmup
        return (step - length) % max(1, sum(number for _, number in self.cycle)), self.cycle


def _add_turns(counts: dict[str, int], turns: Turns, steps: int):
    for player, number in turns:
        counts[player] += min(steps, number)
        steps -= min(steps, number)


class PlayerOptimizers(torch.optim.Optimizer):
    """Optimizers of several players, one of which is active: `step` steps it, and drops the gradients of all.

    It has the attributes that the Trainer and accelerate read. `param_groups` begins with the active player's, so that
    the logged learning rate is that of the update.

    Args:
        optimizers: each player's optimizer, by the player's name.

    Attributes:
        active: name of the active player.
    """

    def __init__(self, optimizers: dict[str, torch.optim.Optimizer]):
        # Without the base class's constructor, which needs parameters of its own.
        self.optimizers, self.active = optimizers, next(iter(optimizers))
        self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks = {}, {}

    # torch assigns these attributes, where a combination of optimizers computes them.

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        others = [optimizer for name, optimizer in self.optimizers.items() if name != self.active]
        return [group for optimizer in (self.optimizers[self.active], *others) for group in optimizer.param_groups]

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]):
        """Ignored: the groups are those of the optimizers."""

    @property
    def state(self) -> dict[Any, Any]:  # type: ignore[override]
        return {key: value for optimizer in self.optimizers.values() for key, value in optimizer.state.items()}

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        return self.optimizers[self.active].defaults

    def step(self, closure: Callable | None = None) -> Any:
        result = self.optimizers[self.active].step(closure)
        self.zero_grad()  # the Trainer drops the generator's gradients alone
        return result

    def zero_grad(self, set_to_none: bool = True):
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}

    def load_state_dict(self, state: dict[str, Any]):
        if set(state) != set(self.optimizers):
            raise ValueError(
                f"The checkpoint holds optimizers of {', '.join(map(str, state))}, but this training has "
                f"{', '.join(self.optimizers)}. Resume with the trainer that wrote the checkpoint."
            )
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state[name])


class PlayerSchedulers(torch.optim.lr_scheduler.LRScheduler):
    """Learning-rate schedules of several players; `step` advances the active player's.

    Args:
        schedulers: each player's schedule, by the player's name.
        optimizers: the players' optimizers, which name the active player.
    """

    optimizer: PlayerOptimizers

    def __init__(self, schedulers: dict[str, torch.optim.lr_scheduler.LRScheduler], optimizers: PlayerOptimizers):
        self.schedulers, self.optimizer = schedulers, optimizers

    def step(self, *args: Any, **kwargs: Any):
        self.schedulers[self.optimizer.active].step()

    def get_last_lr(self) -> list[float | Tensor]:
        """Learning rates of the active player's groups."""
        return self.schedulers[self.optimizer.active].get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        return {name: scheduler.state_dict() for name, scheduler in self.schedulers.items()}

    def load_state_dict(self, state: dict[str, Any]):
        for name, scheduler in self.schedulers.items():
            scheduler.load_state_dict(state[name])


@contextmanager
def without_gradients(*modules: nn.Module) -> Iterator[None]:
    """Makes the modules' parameters constants within the context; gradients still flow through the modules."""
    trainable = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
    with ExitStack() as stack:
        for parameter in trainable:
            parameter.requires_grad_(False)
            stack.callback(parameter.requires_grad_, True)
        yield
