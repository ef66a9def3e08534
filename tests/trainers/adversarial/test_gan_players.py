"""Whose turn it is, and the optimizer and the schedule of two players, by brute force and by hand."""

import copy
import itertools

import pytest
import torch
from torch import nn

from hf_localgan.trainers.adversarial.players import (
    DISCRIMINATOR,
    GENERATOR,
    PlayerOptimizers,
    PlayerSchedulers,
    Schedule,
    without_gradients,
)


@pytest.mark.parametrize("cycle", itertools.product((0, 1, 3), (1, 2, 5), (1, 2, 5)))
def test_phases_and_numbers_of_updates_are_those_of_a_written_out_list(cycle):
    warmup, of_discriminator, of_generator = cycle
    turns = [DISCRIMINATOR] * warmup + 5 * (of_discriminator * [DISCRIMINATOR] + of_generator * [GENERATOR])
    schedule = Schedule(
        ((DISCRIMINATOR, warmup),), ((DISCRIMINATOR, of_discriminator), (GENERATOR, of_generator))
    )  # fmt: skip
    for step, player in enumerate(turns):
        assert schedule.player(step) == player
        assert schedule.updates(step) == {name: turns[:step].count(name) for name in (GENERATOR, DISCRIMINATOR)}


@pytest.fixture
def two():
    """Two linear layers, and an optimizer of both with momenta."""
    torch.manual_seed(0)
    modules = {GENERATOR: nn.Linear(2, 2), DISCRIMINATOR: nn.Linear(2, 2)}
    rates = {GENERATOR: 0.1, DISCRIMINATOR: 0.4}
    optimizers = {name: torch.optim.AdamW(one.parameters(), lr=rates[name]) for name, one in modules.items()}
    return modules, PlayerOptimizers(optimizers)


def give_gradients(modules):
    for module in modules.values():
        module(torch.ones(1, 2)).square().sum().backward()


def test_the_active_player_alone_moves_and_all_gradients_are_forgotten(two):
    modules, optimizer = two
    for active, other in ((GENERATOR, DISCRIMINATOR), (DISCRIMINATOR, GENERATOR)):
        before = copy.deepcopy(modules)
        give_gradients(modules)
        optimizer.active = active
        optimizer.step()
        assert torch.equal(modules[other].weight, before[other].weight)
        assert (modules[active].weight != before[active].weight).all()
        assert all(parameter.grad is None for one in modules.values() for parameter in one.parameters())
    # The other's gradients have not been kept for its next turn: without new ones nothing moves.
    before = copy.deepcopy(modules)
    optimizer.active = GENERATOR
    optimizer.step()
    assert torch.equal(modules[GENERATOR].weight, before[GENERATOR].weight)


def test_the_active_players_groups_are_first_and_cannot_be_set(two):
    _, optimizer = two
    for active, rates in ((GENERATOR, [0.1, 0.4]), (DISCRIMINATOR, [0.4, 0.1])):
        optimizer.active = active
        optimizer.param_groups = []
        assert [group["lr"] for group in optimizer.param_groups] == rates
        assert optimizer.defaults["lr"] == rates[0]
    give_gradients(two[0])
    optimizer.step()
    assert set(optimizer.state) == set(two[0][DISCRIMINATOR].parameters())


def test_moments_come_back_and_those_of_other_players_are_refused(two):
    modules, optimizer = two
    for player in (GENERATOR, DISCRIMINATOR, DISCRIMINATOR):
        give_gradients(modules)
        optimizer.active = player
        optimizer.step()
    copies = copy.deepcopy(modules)
    restored = PlayerOptimizers({name: torch.optim.AdamW(one.parameters(), lr=9.0) for name, one in copies.items()})
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for player in (GENERATOR, DISCRIMINATOR):
        for parts, one in ((modules, optimizer), (copies, restored)):
            give_gradients(parts)
            one.active = player
            one.step()
        assert torch.equal(modules[player].weight, copies[player].weight)
    with pytest.raises(ValueError, match="holds optimizers of state, param_groups, but this training has generator"):
        restored.load_state_dict(torch.optim.AdamW(nn.Linear(1, 1).parameters()).state_dict())


def test_each_players_rate_follows_its_own_updates(two):
    _, optimizer = two
    schedules = {
        name: torch.optim.lr_scheduler.LambdaLR(one, lambda step: 0.5**step)
        for name, one in optimizer.optimizers.items()
    }
    schedule = PlayerSchedulers(schedules, optimizer)
    first = {GENERATOR: 0.1, DISCRIMINATOR: 0.4}
    done = {GENERATOR: 0, DISCRIMINATOR: 0}
    for player in (DISCRIMINATOR, DISCRIMINATOR, GENERATOR, DISCRIMINATOR, GENERATOR):
        optimizer.active = player
        optimizer.step()
        assert schedule.get_last_lr() == [first[player] * 0.5 ** done[player]]
        schedule.step()
        done[player] += 1
    fresh = PlayerSchedulers(
        {
            name: torch.optim.lr_scheduler.LambdaLR(one, lambda step: 0.5**step)
            for name, one in optimizer.optimizers.items()
        },
        optimizer,
    )
    fresh.load_state_dict(schedule.state_dict())
    for player, updates in done.items():
        optimizer.active = player
        assert fresh.schedulers[player].last_epoch == updates == {GENERATOR: 2, DISCRIMINATOR: 3}[player]
        assert fresh.get_last_lr() == [first[player] * 0.5**updates]


def test_parameters_are_constants_for_a_while_and_frozen_ones_stay_frozen():
    module = nn.Linear(2, 2)
    module.bias.requires_grad_(False)
    given = torch.ones(1, 2, requires_grad=True)
    with pytest.raises(KeyError), without_gradients(module):
        module(given).sum().backward()
        assert module.weight.grad is None and given.grad is not None
        raise KeyError
    assert module.weight.requires_grad and not module.bias.requires_grad
