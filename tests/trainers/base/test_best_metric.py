"""A metric that chooses the best model and that no evaluation has is refused before the training, others are not."""

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from hf_localgan.trainers import DbmTrainer, MleTrainer

BEST = {
    "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1, "max_steps": 2,
    "load_best_model_at_end": True,
}  # fmt: skip


class Counted(MleTrainer):
    """Measures a number of its own, which nothing else announces."""

    def evaluation_loop(self, *args, metric_key_prefix="eval", **kwargs):
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        output.metrics[f"{metric_key_prefix}_own"] = 1.0
        return output


@pytest.fixture
def run(family, trainer, pairs):
    """`run(metric, evaluate=None, **arguments)`: a trainer that chooses its best model by the metric."""

    def build(metric, evaluate=None, **arguments):
        evaluate = pairs(3, seed=1) if evaluate is None else evaluate
        settings = {**BEST, "metric_for_best_model": metric, "greater_is_better": False, **arguments}
        return trainer(family("t5", dropout=True), pairs(8), evaluate, **settings)

    return build


def started(trainer) -> bool:
    return trainer.state.global_step > 0


@pytest.mark.parametrize("metric", ["rouge", "eval_rouge"])
def test_a_metric_that_nobody_measures_is_refused_before_the_first_step(metric, run):
    trainer = run(metric)
    with pytest.raises(
        ValueError, match=rf'is "{metric}", and the evaluations have no `eval_rouge`.*`eval_perplexity`'
    ):
        trainer.train()
    assert not started(trainer) and not trainer.state.log_history


def test_a_metric_of_compute_metrics_or_of_a_subclass_is_looked_for_and_found(run, parameters):
    seen = []

    def measure(prediction):
        seen.append(len(prediction.label_ids))
        np.random.rand(), torch.rand(1)
        return {"accuracy": 0.5}

    trainer = run("accuracy", compute_metrics=measure, load_best_model_at_end=False)
    trainer.train()
    assert seen == [3, 3, 3] and started(trainer)  # once before the training
    reference = run("loss", compute_metrics=measure, load_best_model_at_end=False)
    reference.train()
    for name, value in parameters(trainer.model).items():  # its look has left no trace
        torch.testing.assert_close(value, dict(reference.model.named_parameters())[name], rtol=0, atol=0)
    with pytest.raises(ValueError, match="no `eval_precision`.*`eval_accuracy`.*or let `compute_metrics` return it"):
        run("precision", compute_metrics=measure).train()
    own = run("own", cls=Counted)
    own.train()
    assert started(own)


def test_the_look_leaves_no_loader_behind(run, pairs):
    seen = []

    def measure(prediction):
        seen.append(len(prediction.label_ids))
        return {"accuracy": 1.0}

    trainer = run(
        "accuracy", pairs(12, seed=1), compute_metrics=measure, dataloader_num_workers=1,
        dataloader_persistent_workers=True, max_steps=1,
    )  # fmt: skip
    trainer.train()
    assert seen == [8, 12]


def test_metrics_that_need_more_rows_are_not_looked_for(run, pairs):
    def measure(prediction):
        if len(prediction.label_ids) < 10:
            raise ZeroDivisionError
        return {"accuracy": 0.5}

    run("accuracy", pairs(12, seed=1), compute_metrics=measure).train()
    with pytest.raises(ValueError, match="'eval_precision', which is not found in the evaluation metrics"):
        run("precision", pairs(12, seed=1), compute_metrics=measure).train()


class Adds(TrainerCallback):
    def on_evaluate(self, args, state, control, metrics, **kwargs):
        metrics["eval_score"] = 1.0


def test_what_a_callback_or_an_own_evaluate_may_add_is_not_refused(run):
    trainer = run("score")
    trainer.add_callback(Adds())
    trainer.train()
    assert trainer.state.best_metric == 1.0
    trainer = run("score")
    measure = trainer.evaluate
    trainer.evaluate = lambda *args, **kwargs: {**measure(*args, **kwargs), "eval_score": 2.0}
    trainer.train()
    assert trainer.state.best_metric == 2.0


@pytest.mark.parametrize("arguments", [{}, {"load_best_model_at_end": False, "early_stopping_patience": 1}])
def test_of_several_evaluation_sets_one_must_be_named(arguments, run, pairs, caplog):
    sets = {"seen": pairs(3, seed=1), "new": pairs(3, seed=2)}
    trainer = run(None, sets, **arguments)
    with pytest.raises(ValueError, match=r"no `eval_loss`.*2 sets.*`eval_seen_loss`.*`eval_new_loss`.*Set"):
        trainer.train()
    assert not started(trainer)
    trainer = run("eval_new_loss", sets, learning_rate=0.0, **{**arguments, "max_steps": 4})
    trainer.train()
    assert trainer.state.best_metric in [row.get("eval_new_loss") for row in trainer.state.log_history]
    if "early_stopping_patience" in arguments:
        assert trainer.state.global_step == 2  # without learning there is no improvement
    assert "early stopping is disabled" not in caplog.text


def test_other_trainers_name_what_they_measure(energy_trainer, tiny_energy, vectors):
    settings = {**BEST, "metric_for_best_model": "loss", "greater_is_better": False}
    trainer = energy_trainer(tiny_energy(), vectors(20), vectors(12, seed=1), cls=DbmTrainer, **settings)
    with pytest.raises(ValueError, match="no `eval_loss`.*`eval_free_energy`, `eval_matching`"):
        trainer.train()
