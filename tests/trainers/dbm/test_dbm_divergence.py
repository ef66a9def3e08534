"""A run that diverges ends with an explanation, and leaves its last good checkpoint whole."""

import math

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from hf_localgan import DivergenceError
from hf_localgan.trainers.dbm.divergence import RunningError

SAVED = {"save_strategy": "steps", "save_steps": 4, "bottom_share": 0.0, "top_share": 0.0, "max_steps": 20}


class Spoiler(TrainerCallback):
    """Does something to the model after an update."""

    def __init__(self, step: int, spoil):
        self.step, self.spoil = step, spoil

    @torch.no_grad()
    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == self.step:
            self.spoil(model)


def diverge(run) -> DivergenceError:
    with pytest.raises(DivergenceError) as caught:
        run.train()
    return caught.value


@pytest.mark.parametrize("number", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["visible_to_hidden", "hidden_to_top", "visible_bias", "visible_log_std"])
def test_numbers_that_are_not_finite(number, name, vectors, tiny_energy, energy_trainer, tmp_path):
    spoiler = Spoiler(6, lambda model: getattr(model, name).flatten()[0].fill_(number))
    error = diverge(energy_trainer(tiny_energy(), vectors(40), callbacks=[spoiler], logging_steps=3, **SAVED))
    checkpoint = str(tmp_path / "run" / "checkpoint-4")
    assert error.step == 6 and error.checkpoint == checkpoint and not math.isfinite(error.value)
    assert "after 6 updates" in str(error) and f'last good checkpoint is "{checkpoint}"' in str(error)
    assert "`learning_rate`" in str(error)


def test_nothing_is_saved_at_a_step_that_has_diverged(vectors, tiny_energy, energy_trainer, tmp_path):
    # The update itself is bad, and the checkpoint of the same step is due: no loss has been computed since.
    spoiler = Spoiler(8, lambda model: model.top_bias.fill_(math.nan))
    error = diverge(energy_trainer(tiny_energy(), vectors(40), callbacks=[spoiler], logging_steps=50, **SAVED))
    assert error.step == 8 and "`top_bias`" in error.quantity
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint-4"]
    files = {path.name for path in (tmp_path / "run" / "checkpoint-4").iterdir()}
    assert {"model.safetensors", "dbm_chains.safetensors", "optimizer.pt", "trainer_state.json"} <= files
    assert all(torch.isfinite(one).all() for one in load_file(tmp_path / "run/checkpoint-4/model.safetensors").values())
    resumed = energy_trainer(tiny_energy(), vectors(40), **SAVED)
    resumed.train(resume_from_checkpoint=error.checkpoint)
    assert resumed.state.global_step == 20


def test_exploding_energies(vectors, tiny_energy, energy_trainer):
    # 15 units, 100 nats each.
    spoiler = Spoiler(5, lambda model: model.visible_log_std.fill_(-6.0))
    run = energy_trainer(tiny_energy(), vectors(40), callbacks=[spoiler], free_energy_bound=100.0, **SAVED)
    error = diverge(run)
    assert error.step == 5 and abs(error.value) > 1500
    assert error.bound == "within 1500 nats of 0, `free_energy_bound` for each unit"
    assert "There is no checkpoint yet" not in str(error)
    unbounded = energy_trainer(
        tiny_energy(), vectors(40), callbacks=[Spoiler(5, lambda model: model.visible_log_std.fill_(-6.0))],
        **{**SAVED, "max_steps": 6}, free_energy_bound=0.0, reconstruction_factor=0.0, min_chain_spread=0.0,
    )  # fmt: skip
    unbounded.train()


def test_too_high_a_learning_rate_is_noticed_without_help(vectors, tiny_energy, energy_trainer):
    run = energy_trainer(tiny_energy(), vectors(80), learning_rate=30.0, optim="sgd", max_steps=300)
    error = diverge(run)
    assert error.step < 300 and error.checkpoint is None and "There is no checkpoint yet" in str(error)


@pytest.mark.parametrize("period", ["bottom", "top", "joint"])
def test_a_rising_reconstruction_error(period, vectors, tiny_energy, energy_trainer, losses):
    shares = {"bottom": (0.9, 0.0), "top": (0.05, 0.9), "joint": (0.0, 0.0)}[period]

    def spoil(model):
        (model.hidden_to_top if period == "top" else model.visible_bias).fill_(6.0)

    run = energy_trainer(
        tiny_energy(), vectors(500), callbacks=[Spoiler(8, spoil)], max_steps=20, bottom_share=shares[0],
        top_share=shares[1], reconstruction_factor=2.0, per_device_train_batch_size=50,
    )  # fmt: skip
    error = diverge(run)
    assert run.period == period and error.step == 8 and error.quantity == "the reconstruction error"
    measured = losses(run, "dbm/reconstruction")[int(period == "top") :]  # whose first update is of the bottom period
    means = [sum(measured[:6]) / 6]  # of 300 pairs, the first 256 or more
    for one in measured[6:]:
        means.append((256 * means[-1] + 50 * one) / 306)
    most = 2 * max(min(means), 0.01)
    assert error.value > most and f"at most {most:g}" in error.bound
    assert "`reconstruction_factor`" in str(error)


def test_an_error_is_one_of_many_pairs_before_it_counts():
    errors = RunningError()
    for _ in range(255):
        errors = errors.add(5.0, 1)
    assert errors == (pytest.approx(5.0), 255, None)
    errors = errors.add(5.0, 1)
    assert errors.best == pytest.approx(5.0)
    errors = errors.add(1.0, 256)
    assert errors[:2] == (pytest.approx(3.0), 512) and errors.best == pytest.approx(3.0)
    errors = errors.add(9.0, 64)  # what came before counts as 256 pairs
    assert errors.mean == pytest.approx((256 * 3 + 64 * 9) / 320) and errors.best == pytest.approx(3.0)


def test_the_best_reconstruction_of_one_period_does_not_bind_the_next(vectors, tiny_energy, energy_trainer, losses):
    # The top period measures errors of probabilities, which are far smaller than those of vectors.
    run = energy_trainer(
        tiny_energy(), vectors(300), max_steps=10, bottom_share=0.3, top_share=0.3, per_device_train_batch_size=300
    )
    run.train()
    measured = losses(run, "dbm/reconstruction")
    assert min(measured[6:]) > 3 * 0.01 > 10 * max(measured[3:6]) / 2


def test_dead_chains(vectors, tiny_energy, energy_trainer):
    spoiler = Spoiler(5, lambda model: model.hidden_bias.fill_(-60.0))
    error = diverge(energy_trainer(tiny_energy(), vectors(40), callbacks=[spoiler], **SAVED))
    # The chains of the fifth update were drawn before; those of the sixth are all in one state.
    assert (error.step, error.quantity, error.value) == (6, "`dbm/chain_spread`", 0.0)
    assert "at least `min_chain_spread` 0.001" in str(error) and "`gibbs_steps`" in str(error)
