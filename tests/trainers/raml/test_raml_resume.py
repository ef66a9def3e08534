"""A RAML run that is stopped and resumed draws, and so trains, as one that was not: to the last bit."""

from functools import partial

import pytest
from datasets import Dataset

from hf_localgan.trainers.raml.config import RamlConfig
from hf_localgan.trainers.raml.trainer import RamlTrainer

WORKERS = {"dataloader_num_workers": 2, "dataloader_prefetch_factor": 4}


@pytest.fixture
def interrupted(interrupted):
    """That of all trainers, with this one."""
    return partial(interrupted, cls=RamlTrainer, config=RamlConfig, temperature=1.5)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("rnn_seq2seq", {"temperature_schedule": "linear"}),
        ("rnn_seq2seq", {"temperature_schedule": "cosine", "temperature_start": 3.0, "eval_strategy": "no", **WORKERS}),
        ("t5", {"payoff": "edit", "train_sampling_strategy": "group_by_length", "temperature_schedule": "linear"}),
        # A loader whose workers persist draws a seed from torch's state at its first epoch only. A resumed run has that
        # first epoch elsewhere, so that dropout would differ, with any trainer: there is none here.
        ("t5", {"temperature_schedule": "linear", "dataloader_persistent_workers": True, **WORKERS}),
        ("bart", {"payoff": "edit", "num_samples": 2}),
        (
            "t5",
            {
                "payoff": "weighted_hamming",
                "temperature": None,
                "edit_rate": 0.4,
                "neighbours": 3,
                "temperature_schedule": "linear_to_zero",
            },
        ),
        ("t5", {"payoff": "edit", "base_measure": "batch", "temperature_schedule": "cosine_to_zero", **WORKERS}),
    ],
    ids=["linear", "cosine-workers", "edit-grouped", "persistent-workers", "edit-samples", "similar", "batch"],
)
def test_a_run_resumed_in_the_middle_of_an_epoch_equals_an_uninterrupted_one(
    name, settings, family, pairs, interrupted, assert_equal_runs
):
    # 40 examples in batches of 2 x 2: 10 updates an epoch; stopped after 15, resumed from 14, the fourth of the second.
    model = partial(family, name, dropout="dataloader_persistent_workers" not in settings)
    whole, resumed, start = interrupted(model, pairs(40), pairs(3, seed=1), 15, num_train_epochs=3, **settings)
    assert whole.state.global_step == 30 and start == 14
    assert_equal_runs(whole, resumed)
    temperatures = [row["raml/temperature"] for row in whole.state.log_history if "raml/temperature" in row]
    assert len(set(temperatures)) == (30 if "temperature_schedule" in settings else 1)


def test_a_run_resumed_between_two_epochs_equals_an_uninterrupted_one(family, pairs, interrupted, assert_equal_runs):
    # The last update of an epoch has one batch: 18 examples are 9 batches of 2, 5 updates; resumed from the tenth.
    model = partial(family, "t5", dropout=True)
    whole, resumed, start = interrupted(
        model, pairs(18), None, 12, num_train_epochs=3, save_steps=10, eval_strategy="no",
        temperature_schedule="linear",
    )  # fmt: skip
    assert whole.state.global_step == 15 and start == 10
    assert_equal_runs(whole, resumed)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_stream_throws_batches_away_without_moving_the_clock(
    workers, family, pairs, interrupted, assert_equal_runs
):
    stream = Dataset.from_list(pairs(96)).to_iterable_dataset(num_shards=2)
    model = partial(family, "rnn_seq2seq", dropout=True)
    whole, resumed, start = interrupted(
        model, stream, None, 9, max_steps=16, eval_strategy="no", temperature_schedule="linear",
        dataloader_num_workers=workers,
    )  # fmt: skip
    assert start == 7
    assert_equal_runs(whole, resumed)
    temperatures = [row["raml/temperature"] for row in resumed.state.log_history if "raml/temperature" in row]
    assert temperatures == pytest.approx([1.5 * step / 16 for step in range(16)], abs=1e-6)


def test_passes_over_a_short_stream_draw_anew_and_go_on_with_the_schedule(family, pairs, trainer):
    # 8 rows are 2 updates of 2 x 2: three passes. Parameters stand still, so losses differ by the draws alone.
    run = trainer(
        family("t5"), Dataset.from_list(pairs(8)).to_iterable_dataset(), cls=RamlTrainer, config=RamlConfig,
        learning_rate=0.0, per_device_train_batch_size=2, gradient_accumulation_steps=2, max_steps=6, payoff="edit",
        temperature=1.5,
    )  # fmt: skip
    run.train()
    losses = [row["loss"] for row in run.state.log_history if "loss" in row]
    assert len(set(losses[::2])) == len(set(losses[1::2])) == 3
    moving = trainer(
        family("t5"), Dataset.from_list(pairs(8)).to_iterable_dataset(), cls=RamlTrainer, config=RamlConfig,
        per_device_train_batch_size=2, gradient_accumulation_steps=2, max_steps=6, temperature=0.6,
        temperature_schedule="linear",
    )  # fmt: skip
    moving.train()
    temperatures = [row["raml/temperature"] for row in moving.state.log_history if "raml/temperature" in row]
    assert temperatures == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_a_run_that_does_not_skip_its_data_goes_on_with_epoch_and_schedule(family, pairs, trainer, tmp_path):
    settings = {
        "cls": RamlTrainer, "config": RamlConfig, "per_device_train_batch_size": 2, "num_train_epochs": 2,
        "temperature": 0.8, "temperature_schedule": "linear", "ignore_data_skip": True,
    }  # fmt: skip
    first = trainer(family("t5"), pairs(8), save_strategy="steps", save_steps=5, **settings)
    first.train()
    resumed = trainer(family("t5"), pairs(8), **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-5"))
    # 8 updates in all, of which the sixth begins the second epoch again; the temperature goes on by 0.1 a step.
    temperatures = [row["raml/temperature"] for row in resumed.state.log_history if "raml/temperature" in row]
    assert temperatures == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])


def test_a_second_training_begins_its_schedule_again(family, pairs, trainer):
    run = trainer(
        family("t5"), pairs(8), cls=RamlTrainer, config=RamlConfig, per_device_train_batch_size=4, num_train_epochs=2,
        temperature=0.8, temperature_schedule="linear", learning_rate=0.0,
    )  # fmt: skip
    for _ in range(2):
        run.train()
        logged = [row for row in run.state.log_history if "loss" in row]
        assert [row["raml/temperature"] for row in logged] == pytest.approx([0.0, 0.2, 0.4, 0.6])


def test_adapters_resume_exactly(adapted_t5, pairs, interrupted, assert_equal_runs):
    whole, resumed, start = interrupted(
        adapted_t5, pairs(12), None, 3, max_steps=5, save_steps=2, eval_strategy="no", temperature_schedule="linear"
    )
    assert start == 2
    assert_equal_runs(whole, resumed)
