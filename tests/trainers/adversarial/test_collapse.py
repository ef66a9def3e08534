"""When training stops before its end, what is left then, and that a resumed run goes on watching."""

import json
import logging
import math
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerControl, TrainerState

from hf_localgan.trainers.adversarial.collapse import CollapseGuard

ARGUMENTS = SimpleNamespace(load_best_model_at_end=False)


@pytest.fixture
def evaluate():
    """`evaluate(guard, *metrics)`: whether the guard has stopped training after each of these evaluations."""

    def run(guard, *metrics):
        state, control, stopped = TrainerState(global_step=0), TrainerControl(), []
        guard.on_train_begin(ARGUMENTS, state, control)
        for step, one in enumerate(metrics, start=1):
            state.global_step = step
            guard.on_evaluate(ARGUMENTS, state, control, metrics={f"eval_{key}": value for key, value in one.items()})
            stopped.append(control.should_training_stop)
        return stopped

    return run


@pytest.mark.parametrize("name", ["ent_4", "dist_2"])
def test_variety_may_fall_to_a_share_of_its_highest_value(name, evaluate):
    guard = CollapseGuard(0.25, 2.0)
    # 4 is the highest, of which a quarter may be lost: 3 is too little, 3.01 is not.
    assert evaluate(guard, {name: 1.0}, {name: 4.0}, {name: 3.01}, {name: 3.0}) == [False, False, False, True]
    assert guard.reason == f"stopped at step 4: `eval_{name}` fell from 4 to 3"


def test_variety_that_is_nothing_at_first_or_no_number(evaluate):
    assert evaluate(CollapseGuard(0.5, 2.0), {"ent_4": 0.0}, {"ent_4": 0.0}, {"ent_4": 1.0}) == [False] * 3
    assert evaluate(CollapseGuard(0.5, 2.0), {"ent_4": 1.0}, {"ent_4": math.nan}) == [False, True]
    off = CollapseGuard(1.0, 2.0)
    assert evaluate(off, {"ent_4": 1.0}, {"ent_4": 0.0}, {"ent_4": math.nan}) == [False, False, True]


def test_answers_may_grow_to_a_multiple_of_their_first_length(evaluate):
    guard = CollapseGuard(0.5, 1.5)
    assert evaluate(guard, {"length": 4.0}, {"length": 1.0}, {"length": 6.0}, {"length": 6.1}) == [False] * 3 + [True]
    assert guard.reason == "stopped at step 4: answers grew from 4 to 6.1 words"
    # Of a generator that says nothing at first, one word is the measure.
    assert evaluate(CollapseGuard(0.5, 2.0), {"length": 0.0}, {"length": 2.0}, {"length": 2.1}) == [False, False, True]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_losses_that_are_no_numbers(value, evaluate):
    guard = CollapseGuard(0.5, 2.0)
    assert evaluate(guard, {"loss": 1.0}, {"loss": value}) == [False, True]
    state, control = TrainerState(global_step=3), TrainerControl()
    guard = CollapseGuard(0.5, 2.0)
    guard.on_log(ARGUMENTS, state, control, logs={"loss/generator": 1.0, "gan/delta_alpha": value})
    assert not control.should_training_stop
    guard.on_log(ARGUMENTS, state, control, logs={"loss/generator": value})
    assert control.should_training_stop and guard.reason == f"stopped at step 3: `loss/generator` is {value}"


def test_nothing_is_watched_without_answers(evaluate):
    assert evaluate(CollapseGuard(0.5, 2.0), {"loss": 1.0}, {"loss": 100.0}) == [False, False]


# ---- in a trainer ----


@pytest.fixture
def monitor():
    """`monitor(Ent-4 at each evaluation)`: the quality is the same number."""

    class Fake:
        scores_relevance = True
        names = frozenset({"ent_4", "dist_2", "length", "quality"})

        def __init__(self, *values):
            self.values = iter(values)

        def measure_once(self, model, accelerator):
            value = next(self.values)
            return {"ent_4": value, "dist_2": 1.0, "length": 3.0, "quality": value}

    return Fake


EVALUATED = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2, "max_steps": 10}


@pytest.mark.parametrize("best", [True, False])
def test_what_is_left_after_a_collapse(best, family, pairs, players, monitor, parameters, tmp_path, caplog):
    run = players(
        family("t5"), pairs(8), pairs(2), monitor=monitor(2.0, 3.0, 1.0), load_best_model_at_end=best, **EVALUATED
    )
    with caplog.at_level(logging.WARNING, "hf_localgan"):
        run.train()
    assert run.state.global_step == 6 and run.guard.reason == "stopped at step 6: `eval_ent_4` fell from 3 to 1"
    left = "the best model so far is loaded" if best else "the model is left as it is"
    assert (
        f"Training stopped at step 6: `eval_ent_4` fell from 3 to 1; {left}. A smaller `learning_rate`" in caplog.text
    )
    kept = type(run.model).from_pretrained(tmp_path / "run" / f"checkpoint-{4 if best else 6}")
    for name, value in parameters(run.model).items():
        assert torch.equal(value, parameters(kept)[name]), name
    other = type(run.model).from_pretrained(tmp_path / "run" / f"checkpoint-{6 if best else 4}")
    assert any(not torch.equal(value, parameters(other)[name]) for name, value in parameters(run.model).items())


def test_a_resumed_run_remembers_the_highest_values_and_the_first_length(family, pairs, players, monitor, tmp_path):
    settings = {**EVALUATED, "max_steps": 4}
    players(family("t5"), pairs(8), pairs(2), monitor=monitor(2.0, 3.0), **settings).train()
    settings["max_steps"] = 8
    run = players(family("t5"), pairs(8), pairs(2), monitor=monitor(1.4, 1.4), **settings)
    run.train(resume_from_checkpoint=True)
    assert run.state.global_step == 6 and run.guard.reason == "stopped at step 6: `eval_ent_4` fell from 3 to 1.4"
    assert run.guard.first_length == 3.0
    state = json.loads((tmp_path / "run" / "checkpoint-6" / "trainer_state.json").read_text())
    assert state["stateful_callbacks"]["CollapseGuard"]["attributes"]["reason"] == run.guard.reason
    ended = players(family("t5"), pairs(8), pairs(2), monitor=monitor(1.3), **settings)
    ended.train(resume_from_checkpoint=True)
    assert ended.state.global_step == 6 and ended.guard.reason == run.guard.reason
    # Whoever goes on in spite of that, by another setting of the guard, is told again.
    again = players(family("t5"), pairs(8), pairs(2), monitor=monitor(1.3), collapse_share=0.55, **settings)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 8 and again.guard.reason == "stopped at step 8: `eval_ent_4` fell from 3 to 1.3"


def test_a_guard_that_the_trainer_makes_anew_is_the_trainers_guard(family, pairs, players, monitor):
    settings = {**EVALUATED, "restore_callback_states_from_checkpoint": True}
    players(family("t5"), pairs(8), pairs(2), monitor=monitor(2.0, 3.0), **{**settings, "max_steps": 4}).train()
    run = players(family("t5"), pairs(8), pairs(2), monitor=monitor(1.0), **settings)
    run.train(resume_from_checkpoint=True)
    assert run.state.global_step == 6 and run.guard.reason == "stopped at step 6: `eval_ent_4` fell from 3 to 1"


def test_a_new_training_begins_anew(family, pairs, players, monitor):
    run = players(family("t5"), pairs(8), pairs(2), monitor=monitor(3.0, 1.0, 1.0, 1.0), **EVALUATED)
    run.train()
    assert run.guard.reason
    run.args.max_steps = 4
    run.train()
    assert run.state.global_step == 4 and run.guard.reason is None and run.guard.highest["eval_ent_4"] == 1.0


def test_a_generator_that_is_no_longer_finite_stops(family, pairs, players, monitor, caplog):
    model = family("t5")
    with torch.no_grad():
        model.get_decoder().final_layer_norm.weight[0] = math.nan
    settings = {**EVALUATED, "eval_steps": 5, "save_steps": 5, "load_best_model_at_end": True}
    run = players(model, pairs(8), pairs(2), monitor=monitor(), **settings)
    with caplog.at_level(logging.WARNING, "hf_localgan"):
        run.train()
    assert run.state.global_step <= 2 and "is nan" in run.guard.reason
    assert "; the model is left as it is." in caplog.text  # for there is no better one yet
