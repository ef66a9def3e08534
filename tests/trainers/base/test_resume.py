"""A run that is stopped in the middle of an epoch and resumed equals one that was not, bit for bit."""

from functools import partial

import pytest
import torch

from hf_localgan.trainers import read_samples


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("rnn_seq2seq", {"label_smoothing_factor": 0.1}),
        ("rnn_seq2seq", {"bf16": True}),
        ("t5", {"train_sampling_strategy": "group_by_length"}),
        ("bart", {}),
        ("t5", {"bf16": True, "fast_loss": False}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value) or "plain",
)
def test_a_resumed_run_equals_an_uninterrupted_one(name, settings, family, pairs, interrupted, assert_equal_runs):
    # 40 examples in batches of 2 x 2: 10 updates an epoch; stopped after 15, resumed from 14, the fourth of the second.
    whole, resumed, start = interrupted(
        partial(family, name, dropout=True), pairs(40), pairs(3, seed=1), 15, num_train_epochs=3, sample_rows=2,
        sample_max_new_tokens=5, **settings,
    )  # fmt: skip
    assert whole.state.global_step == 30 and start == 14
    assert_equal_runs(whole, resumed)
    assert read_samples("parts/samples.parquet") == read_samples("whole/samples.parquet")
    assert len(read_samples("whole/samples.parquet")) == 2 * 10


def test_grouping_by_length_puts_equal_lengths_together_in_an_order_of_seed_and_epoch(family, trainer, pairs):
    rows = pairs(64)
    run = trainer(
        family("t5"), rows, train_sampling_strategy="group_by_length", per_device_train_batch_size=4, max_steps=1
    )
    torch.manual_seed(1)
    first = list(run._get_train_sampler())
    torch.manual_seed(2)  # as another process, or a resumed one, may have it
    assert list(run._get_train_sampler()) == first
    assert sorted(first) == list(range(64))
    lengths = [len(rows[i]["input_ids"]) for i in first]
    padding = sum(4 * max(lengths[i : i + 4]) for i in range(0, 64, 4)) / sum(lengths)
    in_order = [len(row["input_ids"]) for row in rows]
    assert padding < sum(4 * max(in_order[i : i + 4]) for i in range(0, 64, 4)) / sum(in_order) - 0.1
    run.state.epoch = 1.0
    assert list(run._get_train_sampler()) != first
    run.state.epoch = 0.5  # a resumed epoch
    assert list(run._get_train_sampler()) == first


def test_lora_resumes_exactly(adapted_t5, pairs, interrupted, assert_equal_runs):
    whole, resumed, start = interrupted(
        adapted_t5, pairs(6), None, 3, max_steps=4, save_steps=2, gradient_accumulation_steps=1, eval_strategy="no"
    )
    assert whole.state.global_step == 4 and start == 2
    assert_equal_runs(whole, resumed)


@pytest.fixture
def checkpoint(family, trainer, pairs, tmp_path):
    """A whole checkpoint, and a trainer to resume from it with."""
    run = trainer(family("rnn_seq2seq"), pairs(8), max_steps=2, save_strategy="steps", save_steps=1)
    run.train()
    return tmp_path / "run" / "checkpoint-1", run


def test_a_folder_without_trainer_state_is_refused_by_name(checkpoint):
    folder, run = checkpoint
    (folder / "trainer_state.json").unlink()
    with pytest.raises(ValueError, match=r'checkpoint-1" is not a whole checkpoint.*trainer_state\.json.*earlier one'):
        run.train(resume_from_checkpoint=str(folder))


def test_a_folder_that_is_not_there_is_refused_by_name(checkpoint):
    folder, run = checkpoint
    with pytest.raises(ValueError, match=r'checkpoint-99" is not a whole checkpoint'):
        run.train(resume_from_checkpoint=str(folder.with_name("checkpoint-99")))


@pytest.mark.parametrize("kept", [0, 5, 200, -1])
def test_truncated_weights_are_refused_by_name(checkpoint, kept):
    folder, run = checkpoint
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r'checkpoint-1" cannot be read.*truncated.*earlier checkpoint'):
        run.train(resume_from_checkpoint=str(folder))


@pytest.mark.parametrize("name", ["trainer_state.json", "optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_other_truncated_files_are_refused_by_name(checkpoint, name):
    folder, run = checkpoint
    (folder / name).write_bytes((folder / name).read_bytes()[:40])
    with pytest.raises(ValueError, match=r'checkpoint-1.*" cannot be read.*truncated.*earlier checkpoint'):
        run.train(resume_from_checkpoint=str(folder))


def test_missing_weights_are_refused_by_name(checkpoint):
    folder, run = checkpoint
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"checkpoint-1"):
        run.train(resume_from_checkpoint=str(folder))


def test_a_checkpoint_of_another_architecture_is_refused(checkpoint, family, trainer, pairs):
    folder, _ = checkpoint
    run = trainer(family("t5"), pairs(8), max_steps=2)
    with pytest.raises(ValueError, match=r"checkpoint-1.*`rnn_seq2seq`.*`t5`"):
        run.train(resume_from_checkpoint=str(folder))
