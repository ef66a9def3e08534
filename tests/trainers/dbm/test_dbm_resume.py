"""A run that is stopped and resumed goes on as one that was not: to the last bit, in every period, chains included."""

import shutil
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModel, TrainerCallback

from hf_localgan.trainers.dbm.periods import PeriodProgress

PERIODS = {"bottom_share": 0.3, "top_share": 0.3, "max_steps": 20}  # 6 updates, 6 updates, 8 updates
TIMES = ("runtime", "per_second", "total_flos")


class StopAfter(TrainerCallback):
    """Ends training at a step as a pulled plug would."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.fixture
def twice(energy_trainer, tmp_path):
    """`twice(model, rows, held_out, stop, **arguments)`: a whole run, and one stopped after `stop` and resumed."""

    def run_both(model, rows, held_out, stop: int, **arguments):
        arguments = {
            "per_device_train_batch_size": 3, "gradient_accumulation_steps": 2, "save_strategy": "steps",
            "weight_decay": 0.01, "lr_scheduler_type": "linear", "learning_rate": 0.02, "gibbs_steps": 2,
            **PERIODS, **arguments,
        }  # fmt: skip
        runs = []
        for name, callbacks in (("whole", None), ("parts", [StopAfter(stop)])):
            runs.append(
                energy_trainer(
                    model(), rows, held_out, output_dir=str(tmp_path / name), callbacks=callbacks, **arguments
                )
            )
        runs[0].train()
        with pytest.raises(KeyboardInterrupt):
            runs[1].train()
        resumed = energy_trainer(model(), rows, held_out, output_dir=str(tmp_path / "parts"), **arguments)
        resumed.train(resume_from_checkpoint=True)
        return runs[0], resumed

    return run_both


def assert_equal(whole, resumed, assert_equal_runs):
    assert_equal_runs(whole, resumed)
    histories = [
        [{name: value for name, value in row.items() if not any(time in name for time in TIMES)} for row in run]
        for run in (whole.state.log_history, resumed.state.log_history)
    ]
    assert histories[0][:-1] == histories[1][:-1] and len(histories[0]) > 20  # the last one sums up the run
    if whole._progress.chains is not None:
        for first, second in zip(whole._progress.chains, resumed._progress.chains, strict=True):
            assert torch.equal(first, second)


@pytest.mark.parametrize("save", [4, 6, 9, 12, 15], ids=["bottom", "to-top", "top", "to-joint", "joint"])
def test_in_every_period_and_between_them(save, vectors, tiny_energy, twice, assert_equal_runs):
    # 31 rows in batches of 3, two of them accumulated: 6 updates an epoch, the last one of one batch of one pair.
    whole, resumed = twice(tiny_energy, vectors(31), vectors(9, seed=1), save + 2, save_steps=save)
    assert_equal(whole, resumed, assert_equal_runs)


@pytest.mark.parametrize(
    ("fields", "settings"),
    [
        ({"top_size": 0}, {}),
        ({"energy": "rbm_pair", "visible_std": "unit"}, {"contrastive_steps": 2}),
        ({}, {"optim": "sgd", "momentum": 0.5, "learning_rate": 0.001}),
        ({}, {"eval_strategy": "steps", "eval_steps": 3}),
        ({"whiten": True}, {"swap_weight": 2.0}),
    ],
    ids=["rbm", "pair", "momentum", "evaluation", "swap"],
)
def test_other_models_and_settings(fields, settings, vectors, tiny_energy, twice, assert_equal_runs):
    whole, resumed = twice(
        lambda: tiny_energy(**fields), vectors(31), vectors(9, seed=1), 17, save_steps=15, **settings
    )  # fmt: skip
    assert_equal(whole, resumed, assert_equal_runs)


def test_a_stream(vectors, tiny_energy, twice, assert_equal_runs):
    stream = Dataset.from_list(vectors(130)).to_iterable_dataset(num_shards=2)
    whole, resumed = twice(tiny_energy, stream, None, 16, save_steps=14)
    assert_equal(whole, resumed, assert_equal_runs)


# ---- the file of the chains ----


def test_what_the_checkpoint_holds(vectors, tiny_energy, energy_trainer, tmp_path):
    run = energy_trainer(tiny_energy(), vectors(40), save_strategy="steps", save_steps=1, **PERIODS)
    run.train()
    held = {step: load_file(tmp_path / f"run/checkpoint-{step}/dbm_chains.safetensors") for step in (6, 7, 13, 20)}
    assert {step: set(tensors) for step, tensors in held.items()} == {
        6: set(), 7: {"bottom_bias", "top_bias"}, 13: {"chains.hidden", "chains.top"},
        20: {"chains.hidden", "chains.top"},
    }  # fmt: skip
    assert held[20]["chains.hidden"].shape == (10, 5) and held[20]["chains.top"].shape == (10, 3)
    assert torch.equal(held[20]["chains.hidden"], run._progress.chains.hidden)
    bottom = AutoModel.from_pretrained(tmp_path / "run" / "checkpoint-6").hidden_bias
    assert torch.equal(held[7]["bottom_bias"], bottom)
    saved = AutoModel.from_pretrained(tmp_path / "run" / "checkpoint-7").hidden_bias
    assert torch.equal(saved, (held[7]["bottom_bias"] + held[7]["top_bias"]) / 2)


def test_a_longer_run_keeps_the_periods_it_began_with(vectors, tiny_energy, energy_trainer, tmp_path, caplog, losses):
    first = energy_trainer(tiny_energy(), vectors(40), save_strategy="steps", save_steps=15, **PERIODS)
    first.train()
    longer = energy_trainer(tiny_energy(), vectors(40), **{**PERIODS, "max_steps": 60})
    longer.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-15"))
    assert losses(longer, "dbm/period") == [0] * 6 + [1] * 6 + [2] * 48
    assert "bottom 6 updates, top 6 updates" in caplog.text


def test_other_chains_than_the_checkpoints_and_missing_or_damaged_files_are_refused(
    vectors, tiny_energy, energy_trainer, tmp_path
):
    energy_trainer(tiny_energy(), vectors(40), save_strategy="steps", save_steps=15, **PERIODS).train()
    checkpoint = tmp_path / "run" / "checkpoint-15"

    def resume(message: str, **arguments):
        run = energy_trainer(tiny_energy(), vectors(40), **PERIODS, **arguments)
        with pytest.raises(ValueError, match=message):
            run.train(resume_from_checkpoint=str(checkpoint))

    resume("holds 10 chains, but `chains` is 12. Resume with `chains: 10`", chains=12)
    file = checkpoint / "dbm_chains.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    resume("a file in it is truncated or damaged")
    file.unlink()
    resume(r"has no dbm_chains\*.safetensors, which resuming needs; `save_only_model` leaves it out")


def test_the_files_of_several_processes_are_dealt_out_to_others_and_all_are_needed(
    vectors, tiny_energy, energy_trainer, tmp_path
):
    run = energy_trainer(tiny_energy(), vectors(40), save_strategy="steps", save_steps=15, **PERIODS)
    run.train()
    checkpoint = tmp_path / "run" / "checkpoint-15"
    whole = load_file(checkpoint / "dbm_chains.safetensors")
    progress = run._progress
    halves = [[states.chunk(2)[rank] for states in (whole["chains.hidden"], whole["chains.top"])] for rank in (0, 1)]
    (checkpoint / "dbm_chains.safetensors").unlink()
    for rank, (hidden, top) in enumerate(halves):
        progress.chains = type(progress.chains)(hidden, top)
        progress.save(Path(checkpoint), rank, 2)
    shutil.copytree(checkpoint, tmp_path / "copy")
    dealt = [PeriodProgress.load(Path(checkpoint), tiny_energy(), rank, 5, 10).chains for rank in range(5)]
    assert [len(chains.hidden) for chains in dealt] == [2] * 5
    assert torch.equal(torch.cat([chains.hidden for chains in dealt]), whole["chains.hidden"])
    assert torch.equal(torch.cat([chains.top for chains in dealt]), whole["chains.top"])
    again = energy_trainer(tiny_energy(), vectors(40), **PERIODS)
    again.train(resume_from_checkpoint=str(checkpoint))
    reference = energy_trainer(tiny_energy(), vectors(40), **PERIODS)
    reference.train()
    for name, tensor in reference.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name
    (tmp_path / "copy" / "dbm_chains_1.safetensors").unlink()
    with pytest.raises(
        ValueError, match="written by 2 processes, and dbm_chains_1.safetensors of their chains are missing"
    ):
        energy_trainer(tiny_energy(), vectors(40), **PERIODS).train(resume_from_checkpoint=str(tmp_path / "copy"))
