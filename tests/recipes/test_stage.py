"""A stage that is killed, finished, begun with other settings; a training that goes on from its end."""

import json
import os

import pytest
import torch
from datasets import Dataset
from transformers import DataCollatorForSeq2Seq

from hf_localgan import MleConfig, MleTrainer
from hf_localgan.recipes import Stage, settings_of, train_from
from hf_localgan.recipes.stage import fingerprints, has_ended

SETTINGS = {"learning_rate": 0.1, "seed": 3}


def checkpoint(folder, number: int):
    (folder / f"checkpoint-{number}").mkdir(parents=True)


def test_a_stage_begins_goes_on_from_its_last_checkpoint_and_is_not_run_again(tmp_path, capsys):
    first = Stage("mle", tmp_path / "mle")
    assert first.begin(SETTINGS) and first.checkpoint is None
    again = Stage("mle", tmp_path / "mle")  # killed before its first checkpoint
    assert again.begin({**SETTINGS, "seed": 4}) and again.checkpoint is None  # nothing was made with the other seed
    assert again.begin(SETTINGS)
    checkpoint(tmp_path / "mle", 9)
    checkpoint(tmp_path / "mle", 10)
    again = Stage("mle", tmp_path / "mle")
    assert again.begin(SETTINGS) and again.checkpoint == str(tmp_path / "mle" / "checkpoint-10")
    (tmp_path / "mle" / "model.safetensors").write_bytes(b"weights")
    again.finish()
    assert not Stage("mle", tmp_path / "mle").begin(SETTINGS)
    kept = json.loads((tmp_path / "mle" / "finished.json").read_text())
    assert kept["settings"] == {**SETTINGS, "processes": 1}
    assert kept["files"] == fingerprints(tmp_path / "mle") and len(kept["files"]["model.safetensors"]) == 64
    said = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[-1] for line in said] == [
        *3 * ["begins"],
        "goes on from checkpoint-10",
        "finished before",
    ]


@pytest.mark.parametrize("finished", [False, True])
def test_other_settings_are_refused_by_name_whether_the_stage_is_finished_or_not(tmp_path, finished):
    stage = Stage("energy", tmp_path / "energy")
    assert stage.begin({**SETTINGS, "made_from": {"generator": "a"}})
    checkpoint(stage.output, 5)
    if finished:
        stage.finish()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="other settings.*`learning_rate` was 0.1, now 0.2.*`output_dir`.*energy"):
        Stage("energy", tmp_path / "energy").begin({**SETTINGS, "learning_rate": 0.2, "made_from": {"generator": "a"}})
    with pytest.raises(ValueError, match='`made_from` was {"generator": "a"}, now {"tokenizer": "a"}'):
        Stage("energy", tmp_path / "energy").begin({**SETTINGS, "made_from": {"tokenizer": "a"}})
    assert sorted(tmp_path.rglob("*")) == before
    # what this version of a library does not know, or the former one did not, decides nothing
    assert Stage("energy", tmp_path / "energy").begin({"seed": 3, "new": 1}) is not finished


def test_a_stage_that_writes_elsewhere_says_what_to_remove(tmp_path):
    stage = Stage("adversarial", tmp_path / "stages" / "adversarial", tmp_path)
    checkpoint(tmp_path, 5)
    with pytest.raises(ValueError, match='checkpoint-5" is no checkpoint of the stage `adversarial`'):
        stage.begin(SETTINGS)
    (tmp_path / "checkpoint-5").rmdir()
    assert stage.begin(SETTINGS)
    checkpoint(tmp_path, 7)
    with pytest.raises(ValueError, match=f'stages/adversarial" and the checkpoints in "{tmp_path}"'):
        Stage("adversarial", stage.folder, tmp_path).begin({"seed": 4})
    again = Stage("adversarial", stage.folder, tmp_path)
    assert again.begin(SETTINGS) and again.checkpoint == str(tmp_path / "checkpoint-7")


def test_a_kill_while_a_file_is_written_leaves_none_and_its_remains_are_removed(tmp_path, monkeypatch):
    def killed(*args):
        raise KeyboardInterrupt

    stage = Stage("mle", tmp_path / "mle")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", killed)
        patch.setattr("pathlib.Path.replace", killed)
        patch.setattr("pathlib.Path.unlink", lambda *args, **kwargs: None)  # nor does a killed process clean up
        stage.begin(SETTINGS)
    assert [path.name[0] for path in (tmp_path / "mle").iterdir()] == ["."]
    again = Stage("mle", tmp_path / "mle")
    assert again.begin(SETTINGS)
    assert [path.name for path in (tmp_path / "mle").iterdir()] == ["settings.json"]
    left = {"evaluation.md", ".evaluation-cgs3gkqo.md", ".notes-12345678.md", ".hidden.md"}
    for name in left:
        (tmp_path / "mle" / name).write_text("")
    again.finish()
    names = {path.name for path in (tmp_path / "mle").iterdir()}
    assert names == left - {".evaluation-cgs3gkqo.md"} | {"settings.json", "finished.json"}


def test_a_damaged_file_is_named(tmp_path):
    Stage("mle", tmp_path / "mle").begin(SETTINGS)
    checkpoint(tmp_path / "mle", 1)
    (tmp_path / "mle" / "settings.json").write_text('{"seed": ')
    with pytest.raises(ValueError, match='settings.json" cannot be read.*to make the stage anew'):
        Stage("mle", tmp_path / "mle").begin(SETTINGS)


def test_what_decides_on_nothing_is_no_setting(tmp_path):
    args = MleConfig(output_dir=str(tmp_path), use_cpu=True, logging_steps=3, hub_token="secret", learning_rate=0.25)
    found = settings_of(args, without=("seed",))
    assert found["learning_rate"] == 0.25 and {"max_steps", "eval_steps", "per_device_train_batch_size"} <= set(found)
    assert not {"output_dir", "use_cpu", "logging_steps", "hub_token", "seed", "disable_tqdm"} & set(found)


# ---- the end of a training ----


@pytest.fixture
def trainer(tmp_path, tiny_generator, tiny_tokenizer):
    """`trainer(folder, **arguments)`: of 40 rows in batches of 4, ten steps an epoch, with dropout."""

    def build(folder: str, **arguments) -> MleTrainer:
        rows = [
            {"input_ids": [4 + i % 16, 2], "attention_mask": [1, 1], "labels": [4 + 3 * i % 16, 2]} for i in range(40)
        ]
        settings = {
            "output_dir": str(tmp_path / folder), "per_device_train_batch_size": 4, "learning_rate": 0.05,
            "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2, "use_cpu": True,
            "disable_tqdm": True, "sample_rows": 0, "logging_strategy": "no", "max_steps": 25,
        }  # fmt: skip
        torch.manual_seed(0)
        model = tiny_generator(output_dropout=0.5)
        data = Dataset.from_list(rows)
        return MleTrainer(
            model, MleConfig(**{**settings, **arguments}), train_dataset=data, eval_dataset=data.select(range(8)),
            data_collator=DataCollatorForSeq2Seq(tiny_tokenizer), processing_class=tiny_tokenizer,
        )  # fmt: skip

    return build


@pytest.mark.parametrize(
    ("arguments", "last"),
    [
        ({"max_steps": 6}, 6),  # in the middle of an epoch
        ({"max_steps": 10}, 10),
        ({"max_steps": -1, "num_train_epochs": 1, "save_strategy": "epoch", "eval_strategy": "epoch"}, 10),
        ({"early_stopping_patience": 1, "early_stopping_threshold": 9.0}, 4),
        ({"max_steps": 6, "load_best_model_at_end": True, "metric_for_best_model": "eval_loss"}, 6),
    ],
    ids=["steps", "whole epoch of steps", "epochs", "stopped early", "best"],
)
def test_from_the_checkpoint_of_its_end_a_training_goes_no_step_further(trainer, arguments, last):
    whole = trainer("run", **arguments)
    train_from(whole, None)
    assert whole.state.global_step == last
    end = f"{whole.args.output_dir}/checkpoint-{last}"
    assert has_ended(end)
    resumed = trainer("run", **arguments)
    train_from(resumed, end)
    assert resumed.state.global_step == last
    torch.testing.assert_close(resumed.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)
    assert resumed.state.best_model_checkpoint == whole.state.best_model_checkpoint


def test_from_an_earlier_checkpoint_it_goes_on_to_the_same_end(trainer):
    whole = trainer("run", max_steps=7, save_total_limit=5)
    train_from(whole, None)
    middle = f"{whole.args.output_dir}/checkpoint-4"
    assert not has_ended(middle)
    resumed = trainer("run", max_steps=7)
    train_from(resumed, middle)
    assert resumed.state.global_step == 7
    torch.testing.assert_close(resumed.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)
