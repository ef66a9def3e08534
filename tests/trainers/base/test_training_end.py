"""A training that is resumed at its end takes no step and leaves what it has left, unless more is asked for."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import DataCollatorForSeq2Seq, EarlyStoppingCallback, TrainerState

from hf_localgan.trainers import (
    DbmTrainer,
    DbmTrainingConfig,
    ExpectedRewardConfig,
    ExpectedRewardTrainer,
    GanAelConfig,
    GanAelTrainer,
    LocalGanConfig,
    LocalGanTrainer,
    MatchingConfig,
    MatchingTrainer,
    MleConfig,
    MleTrainer,
    RamlConfig,
    RamlTrainer,
)
from hf_localgan.trainers.base.training_end import is_at_end

TRAINERS = {
    one.__name__: (one, config)
    for one, config in (
        (MleTrainer, MleConfig), (RamlTrainer, RamlConfig), (ExpectedRewardTrainer, ExpectedRewardConfig),
        (MatchingTrainer, MatchingConfig), (DbmTrainer, DbmTrainingConfig), (GanAelTrainer, GanAelConfig),
        (LocalGanTrainer, LocalGanConfig),
    )
}  # fmt: skip
OWN = {
    "DbmTrainer": {"chains": 8, "final_log_likelihood": False, "bottom_share": 0.3, "top_share": 0.3},
    "GanAelTrainer": {"discriminator_warmup_steps": 0, "max_soft_length": 4, "relaxation_top_k": 8},
    "LocalGanTrainer": {"discriminator_warmup_steps": 0, "max_soft_length": 4, "relaxation_top_k": 8},
}
EARLY = {"early_stopping_patience": 1}
BEST = {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss", "greater_is_better": False}


@pytest.fixture
def build(tmp_path, pairs, family, token_energy, tiny_discriminator, tiny_tokenizer):
    """`build(name, folder="run", callbacks=None, **arguments)`: a trainer of 40 pairs in batches of 4, on noise.

    Its `eval_loss` is said to rise: the first model evaluated, at step 2, is the best, and patience ends at step 4.
    """

    def make(name: str = "MleTrainer", folder: str = "run", callbacks=None, **arguments):
        trainer, config = TRAINERS[name]
        arguments = {
            "output_dir": str(tmp_path / folder), "use_cpu": True, "disable_tqdm": True, "max_steps": 6,
            "per_device_train_batch_size": 4, "learning_rate": 0.02, "eval_strategy": "steps", "eval_steps": 2,
            "save_strategy": "steps", "save_steps": 2, "logging_steps": 1, **OWN.get(name, {}), **arguments,
        }  # fmt: skip
        if name == "DbmTrainer":
            model = token_energy()
        elif name == "MatchingTrainer":
            model = tiny_discriminator(dropout=0.2)
        else:
            model = family("rnn_seq2seq", dropout=True)
            arguments.setdefault("sample_rows", 0)
        parts = {}
        if config in (GanAelConfig, LocalGanConfig):
            parts["discriminator"] = tiny_discriminator(dropout=0.2)
        if config is LocalGanConfig:
            parts["energy"] = token_energy()
        run = trainer(
            model, config(**arguments), train_dataset=pairs(40), eval_dataset=pairs(8, seed=1),
            data_collator=DataCollatorForSeq2Seq(tiny_tokenizer), processing_class=tiny_tokenizer,
            callbacks=callbacks, **parts,
        )  # fmt: skip
        return scripted(run, eval_loss=lambda step: 3.0 + step / 10)

    return make


def scripted(trainer, **values):
    """The trainer, whose evaluations report these functions of the step; training itself goes on as it does."""
    evaluate = trainer.evaluation_loop

    def loop(*args, metric_key_prefix: str = "eval", **kwargs):
        output = evaluate(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        output.metrics.update({name: value(trainer.state.global_step) for name, value in values.items()})
        return output

    trainer.evaluation_loop = loop
    return trainer


def evaluations(state: TrainerState) -> list[dict]:
    rows = [row for row in state.log_history if any(name.startswith("eval_") for name in row)]
    return [{name: row[name] for name in row if "runtime" not in name and "per_second" not in name} for row in rows]


def assert_same_end(resumed, whole):
    """The same step, choice, weights of all parts, and evaluations; and what is saved is equal, too."""
    assert resumed.state.global_step == whole.state.global_step
    assert resumed.state.best_model_checkpoint == whole.state.best_model_checkpoint
    assert evaluations(resumed.state) == evaluations(whole.state)
    torch.testing.assert_close(resumed.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)
    folders = [Path(run.args.output_dir) / name for run, name in ((whole, "left"), (resumed, "again"))]
    for run, folder in zip((whole, resumed), folders, strict=True):
        run.save_model(str(folder))
    names = [sorted(path.relative_to(folder) for path in folder.rglob("*.safetensors")) for folder in folders]
    assert names[0] == names[1] and names[0]
    for name in names[0]:
        torch.testing.assert_close(*(load_file(folder / name) for folder in folders), rtol=0, atol=0)


@pytest.mark.parametrize("best", [{}, BEST], ids=["last", "best"])
@pytest.mark.parametrize("name", TRAINERS)
def test_no_trainer_goes_a_step_further_from_the_checkpoint_of_its_end(name, best, build, caplog):
    early = EARLY if hasattr(TRAINERS[name][1], "early_stopping_patience") else {}
    arguments = {**BEST, "load_best_model_at_end": False, **early, **best, "max_steps": 20}
    whole = build(name, callbacks=None if early else [EarlyStoppingCallback(1)], **arguments)
    whole.train()
    assert (whole.state.global_step, whole.state.best_global_step) == (4, 2)
    end = Path(whole.args.output_dir) / "checkpoint-4"
    kept = sorted(path.name for path in end.parent.iterdir())
    resumed = build(name, callbacks=None if early else [EarlyStoppingCallback(1)], **arguments)
    with caplog.at_level(logging.WARNING, logger="hf_localgan"):
        resumed.train(resume_from_checkpoint=str(end))
    said = [record.getMessage() for record in caplog.records if "takes no step" in record.getMessage()]
    assert len(said) == 1 and str(end) in said[0] and "max_steps" in said[0] and "\n" not in said[0]
    assert sorted(path.name for path in end.parent.iterdir()) == kept
    assert_same_end(resumed, whole)


@pytest.mark.parametrize(
    ("arguments", "last"),
    [
        ({"max_steps": 6}, 6),  # in the middle of an epoch
        ({"max_steps": 10}, 10),
        ({"max_steps": -1, "num_train_epochs": 1, "save_strategy": "epoch", "eval_strategy": "epoch"}, 10),
        ({"max_steps": 6, **BEST}, 6),
        ({"max_steps": 6, **BEST, "save_total_limit": 1}, 6),
    ],
    ids=["steps", "whole epoch of steps", "epochs", "best", "the best alone is kept"],
)
def test_nor_does_one_that_has_made_all_its_steps(arguments, last, build):
    whole = build(**arguments)
    whole.train()
    assert whole.state.global_step == last
    resumed = build(**arguments)
    resumed.train(resume_from_checkpoint=True)  # the last checkpoint that is there
    assert_same_end(resumed, whole)
    assert not [row for row in resumed.state.log_history[-1:] if row.get("train_loss") == 0.0]


def test_a_checkpoint_before_the_end_goes_on_to_the_same_end(build):
    whole = build(max_steps=7)
    whole.train()
    resumed = build(max_steps=7)
    resumed.train(resume_from_checkpoint=str(Path(whole.args.output_dir) / "checkpoint-4"))
    assert resumed.state.global_step == 7
    assert_same_end(resumed, whole)


@pytest.mark.parametrize(
    ("more", "last"),
    [
        ({"max_steps": 9}, 9),
        ({"max_steps": -1, "num_train_epochs": 2}, 20),
        ({"max_steps": 6, "early_stopping_patience": 0}, 6),
        ({"max_steps": 6, "early_stopping_patience": 2}, 6),
        ({"max_steps": 6, "early_stopping_threshold": 0.5}, 6),
        ({"max_steps": 6}, 4),  # as it was
        ({"max_steps": 5}, 4),  # less
        ({"max_steps": 3}, 4),
        ({"max_steps": 6, "learning_rate": 0.5}, 4),  # which says nothing of its end
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_one_that_was_stopped_early_goes_on_if_more_is_asked_for(more, last, build):
    first = build(**{**EARLY, "metric_for_best_model": "eval_loss"})
    first.train()
    assert first.state.global_step == 4 < first.state.max_steps
    arguments = {**EARLY, "metric_for_best_model": "eval_loss", **more}
    if more.get("max_steps") in (9, -1):  # patience has run out all the same: one evaluation later it stops again
        last = 6
    resumed = build(**arguments)
    resumed.train(resume_from_checkpoint=str(Path(first.args.output_dir) / "checkpoint-4"))
    assert resumed.state.global_step == last
    moved = [not torch.equal(*some) for some in zip(resumed.model.parameters(), first.model.parameters(), strict=True)]
    assert any(moved) == (resumed.state.global_step > 4)


def test_after_such_a_training_the_same_trainer_trains_as_ever(build):
    whole = build()
    whole.train()
    run = build()
    run.train(resume_from_checkpoint=True)
    run.train()
    assert run.state.global_step == 6 and "train_loss" in run.state.log_history[-1]
    assert any(row.get("step") == 1 for row in run.state.log_history)


def test_early_stopping_may_be_added_to_a_training_that_had_none(build):
    build(max_steps=2).train()
    resumed = build(max_steps=20, **EARLY, metric_for_best_model="eval_loss", greater_is_better=False)
    resumed.train(resume_from_checkpoint=True)  # saves its state, too
    assert resumed.state.global_step == 6
    saved = json.loads((Path(resumed.args.output_dir) / "checkpoint-6" / "trainer_state.json").read_text())
    assert saved["stateful_callbacks"]["EarlyStopping"]["attributes"]["early_stopping_patience_counter"] == 1


def test_the_best_model_is_found_where_the_folder_was_moved_to_and_missed_where_it_is_gone(build, tmp_path):
    arguments = {**EARLY, **BEST, "max_steps": 20}
    whole = build(**arguments)
    whole.train()
    assert whole.state.best_global_step == 2
    expected = {name: value.clone() for name, value in whole.model.state_dict().items()}
    (tmp_path / "run").rename(tmp_path / "moved")
    resumed = build(folder="moved", **arguments)
    resumed.train(resume_from_checkpoint=str(tmp_path / "moved" / "checkpoint-4"))
    assert resumed.state.best_model_checkpoint == str(tmp_path / "moved" / "checkpoint-2")
    torch.testing.assert_close(dict(resumed.model.state_dict()), expected, rtol=0, atol=0)
    shutil.rmtree(tmp_path / "moved" / "checkpoint-2")
    lost = build(folder="moved", **arguments)
    with pytest.raises(ValueError, match='its best checkpoint, ".*checkpoint-2", is missing'):
        lost.train(resume_from_checkpoint=str(tmp_path / "moved" / "checkpoint-4"))
    kept = build(folder="moved", **{**arguments, "load_best_model_at_end": False})
    kept.train(resume_from_checkpoint=str(tmp_path / "moved" / "checkpoint-4"))
    assert kept.state.global_step == 4


@pytest.mark.parametrize("name", ["GanAelTrainer", "LocalGanTrainer"])
def test_why_answers_collapsed_is_known_after_a_resume(name, build):
    def collapsing(**arguments):
        return scripted(build(name, **arguments), eval_ent_4=lambda step: 8.0 if step < 4 else 1.0)

    whole = collapsing()
    whole.train()
    assert whole.state.global_step == 4 and "fell from 8 to 1" in whole.guard.reason
    resumed = collapsing()
    resumed.train(resume_from_checkpoint=True)
    assert resumed.guard.state() == whole.guard.state()
    assert_same_end(resumed, whole)
    bolder = collapsing(collapse_share=1.0)
    bolder.train(resume_from_checkpoint=str(Path(whole.args.output_dir) / "checkpoint-4"))
    assert bolder.state.global_step == 6 and bolder.guard.reason is None


def test_the_rule_itself():
    def state(step: int, most: int, stopped: bool, **callbacks) -> TrainerState:
        saved = TrainerState(global_step=step, max_steps=most)
        control = {"args": {"should_training_stop": stopped}, "attributes": {}}
        saved.stateful_callbacks = {"TrainerControl": control, "Tracker": {"args": {}, "attributes": {"run": "a"}}}
        for name, (args, attributes) in callbacks.items():
            saved.stateful_callbacks[name] = {"args": args, "attributes": attributes}
        return saved

    assert is_at_end(state(6, 6, True), 6, {}) and not is_at_end(state(6, 6, True), 7, {})
    assert is_at_end(state(4, 6, False), 4, {}) and not is_at_end(state(4, 6, False), 6, {})
    assert not is_at_end(state(4, 6, True), 6, {"Tracker": {}})  # by a callback without a state, a time limit perhaps
    settings = {"early_stopping_patience": 2, "early_stopping_threshold": 0.0}
    for counted, stopped in ((1, False), (2, True)):
        saved = state(4, 6, True, EarlyStopping=(settings, {"early_stopping_patience_counter": counted}))
        assert is_at_end(saved, 6, {"EarlyStopping": settings, "Other": {"a": 1}}) == stopped
    assert is_at_end(saved, 5, {"EarlyStopping": settings}) and not is_at_end(saved, 7, {"EarlyStopping": settings})
    assert not is_at_end(saved, 6, {"EarlyStopping": {**settings, "early_stopping_threshold": 0.5}})
    assert not is_at_end(saved, 6, {})  # what stopped it is gone
    for reason, stopped in ((None, False), ("stopped at step 4", True)):
        guarded = state(4, 6, True, Guard=({"share": 0.5}, {"reason": reason}))
        assert is_at_end(guarded, 6, {"Guard": {"share": 0.5}}) == stopped
