"""Random numbers by key: the same for the same batch, others for every other one."""

import itertools
from types import SimpleNamespace

import torch

from hf_localgan.trainers.base.randomness import UpdateRandomness, keyed_seed


def trainer(seed: int = 0, process: int = 0, processes: int = 1) -> SimpleNamespace:
    args = SimpleNamespace(seed=seed, process_index=process, world_size=processes)
    return SimpleNamespace(args=args, state=SimpleNamespace(global_step=0))


def seeds(seed: int, process: int, batches: list[int]) -> list[int]:
    """Those of the batches of updates with so many batches each."""
    owner = trainer(seed, process)
    draws, found = UpdateRandomness(owner), []
    for step, number in enumerate(batches):
        owner.state.global_step = step
        for _ in range(number):
            draws.next_batch()
            found += [draws.seed(), draws.seed(1)]
    return found


def test_every_batch_of_every_update_process_seed_and_purpose_has_numbers_of_its_own():
    every = [value for keys in itertools.product(range(3), range(2)) for value in seeds(*keys, [2, 3, 1])]
    assert len(set(every)) == len(every) == 3 * 2 * 6 * 2
    assert all(0 <= value < 2**63 for value in every)


def test_a_resumed_run_draws_as_the_whole_one():
    owner = trainer()
    draws = UpdateRandomness(owner)
    owner.state.global_step = 1
    draws.next_batch()
    assert [draws.seed(), draws.seed(1)] == seeds(0, 0, [2, 1])[-2:]
    owner.state.global_step = 0
    draws.restart()  # a second training
    draws.next_batch()
    assert draws.seed() == seeds(0, 0, [1])[0] == keyed_seed(0, 0, 0, 0)
    assert torch.equal(torch.rand(3, generator=draws.generator("cpu")), torch.rand(3, generator=draws.generator("cpu")))


def test_two_processes_may_draw_what_one_draws_that_accumulates_their_batches():
    alone = UpdateRandomness(trainer(), of_update=True)
    wanted = []
    for _ in range(4):
        alone.next_batch()
        wanted.append(alone.seed(1))
    drawn = {}
    for process in range(2):
        draws = UpdateRandomness(trainer(process=process, processes=2), of_update=True)
        for batch in range(2):
            draws.next_batch()
            drawn[2 * batch + process] = draws.seed(1)
    assert [drawn[place] for place in range(4)] == wanted and len(set(wanted)) == 4
