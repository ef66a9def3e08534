"""The mean of the last checkpoints: what it is, where it is saved, and what it cannot be combined with."""

from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hf_localgan.models.loading import load_generator
from hf_localgan.trainers import MleConfig
from hf_localgan.trainers.base.averaging import mean_of_last
from hf_localgan.trainers.raml.config import RamlConfig
from hf_localgan.trainers.raml.trainer import RamlTrainer

STEPS = {"max_steps": 8, "save_strategy": "steps", "save_steps": 2, "learning_rate": 0.05}


def mean_of(folders: list[Path], name: str = "model.safetensors") -> dict[str, torch.Tensor]:
    states = [load_file(folder / name) for folder in folders]
    return {key: torch.stack([state[key].double() for state in states]).mean(dim=0).float() for key in states[0]}


@pytest.mark.parametrize("method", ["mle", "raml"])
def test_the_model_is_the_mean_of_the_last_checkpoints(method, family, pairs, trainer, tmp_path):
    settings = {"cls": RamlTrainer, "config": RamlConfig, "temperature": 1.5} if method == "raml" else {}
    train = partial(trainer, family("rnn_seq2seq"), pairs(24), average_checkpoints=3, **settings, **STEPS)
    run = train()
    run.train()
    run.save_model()
    assert run.averaged_steps == [4, 6, 8]
    folder = tmp_path / "run"
    expected = mean_of([folder / f"checkpoint-{step}" for step in (4, 6, 8)])
    saved = load_file(folder / "model.safetensors")
    assert saved.keys() == expected.keys()
    for name in saved:
        torch.testing.assert_close(saved[name], expected[name], rtol=0, atol=0)
    last = load_file(folder / "checkpoint-8" / "model.safetensors")
    assert any(not torch.equal(saved[name], last[name]) for name in saved)
    loaded, _ = load_generator(folder)  # a model like any other
    for name, value in run.model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=0, atol=0)
    # A training that had finished leaves the same mean again.
    again = train()
    again.train(resume_from_checkpoint=str(folder / "checkpoint-8"))
    assert again.averaged_steps == [4, 6, 8]
    for name, value in run.model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[name], value, rtol=0, atol=0)


def test_an_early_best_checkpoint_takes_no_place_among_the_last(family, pairs, trainer, tmp_path):
    settings = {"eval_strategy": "steps", "eval_steps": 2, "save_total_limit": 3, "average_checkpoints": 3,
                "metric_for_best_model": "eval_loss", "greater_is_better": True}  # fmt: skip
    run = trainer(family("rnn_seq2seq"), pairs(24), pairs(8), **settings, **STEPS | {"max_steps": 12})
    run.train()
    folder = tmp_path / "run"
    assert Path(run.state.best_model_checkpoint) == folder / "checkpoint-2"  # the loss falls, so the first is "best"
    assert run.averaged_steps == [8, 10, 12]
    assert {path.name for path in folder.glob("checkpoint-*")} == {f"checkpoint-{step}" for step in (2, 8, 10, 12)}
    again = trainer(family("rnn_seq2seq"), pairs(24), pairs(8), **settings, **STEPS | {"max_steps": 14})
    again.train(resume_from_checkpoint=str(folder / "checkpoint-12"))
    assert again.averaged_steps == [10, 12, 14]


def test_another_training_in_the_folder_is_left_out_and_one_checkpoint_is_no_mean(family, pairs, trainer, caplog):
    trainer(family("t5"), pairs(24), **STEPS).train()
    other = trainer(family("t5"), pairs(24), average_checkpoints=9, **STEPS | {"max_steps": 4})
    other.train()
    assert other.averaged_steps == [2, 4]  # not 6 and 8, which the first one left
    short = trainer(family("t5"), pairs(24), average_checkpoints=2, **STEPS | {"max_steps": 3, "save_steps": 3})
    short.train()
    assert short.averaged_steps == () and "left 1 of its own" in caplog.text


def test_adapters_are_averaged(adapted_t5, pairs, trainer, tmp_path):
    run = trainer(adapted_t5(), pairs(12), average_checkpoints=2, **STEPS)
    run.train()
    run.save_model()
    steps = [tmp_path / "run" / f"checkpoint-{step}" for step in run.averaged_steps]
    assert len(steps) == 2
    saved, expected = (
        load_file(tmp_path / "run" / "adapter_model.safetensors"),
        mean_of(steps, "adapter_model.safetensors"),
    )
    for name in saved:
        torch.testing.assert_close(saved[name], expected[name], rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"average_checkpoints": 1}, "at least 2, or 0 for no average, got 1"),
        ({"average_checkpoints": 3, "load_best_model_at_end": True, "eval_strategy": "steps"}, "Set one of them"),
        ({"average_checkpoints": 3, "save_strategy": "no"}, "needs checkpoints. Set `save_strategy`"),
        ({"average_checkpoints": 3, "save_total_limit": 2}, "`save_total_limit` keeps 2. Raise it to 3"),
        ({"mean_of_evaluations": 3}, "needs evaluations. Set `eval_strategy`"),
        ({"mean_of_evaluations": -1, "eval_strategy": "steps"}, "must be at least 0, got -1"),
    ],
    ids=str,
)
def test_what_cannot_be_averaged_is_refused(fields, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        MleConfig(str(tmp_path), use_cpu=True, **fields)


def test_the_mean_of_the_last_evaluations():
    history = [{"step": step, "eval_loss": 5.0 - step, "eval_bleu": 10.0 * step} for step in range(1, 5)]
    history.insert(2, {"step": 2, "loss": 1.0})
    found = mean_of_last(history, 3, ["eval_bleu", "eval_loss", "eval_other"])
    assert found == {
        "eval_bleu": 30.0, "eval_bleu_deviation": 10.0, "eval_loss": 2.0, "eval_loss_deviation": 1.0, "evaluations": 3,
    }  # fmt: skip
    assert mean_of_last(history, 0, ["eval_bleu"]) == {} == mean_of_last([], 3, ["eval_bleu"])
    assert mean_of_last(history[:1], 3, ["eval_bleu"]) == {"eval_bleu": 10.0, "evaluations": 1}
