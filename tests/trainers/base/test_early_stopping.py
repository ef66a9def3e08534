"""Early stopping, the best checkpoint, and which checkpoints are kept."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, TrainerState

from hf_localgan.trainers import MleConfig, MleTrainer

STEPWISE = {
    "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1, "max_steps": 12,
}  # fmt: skip


class Scripted(MleTrainer):
    """Reports given losses in turn; training itself goes on as it does."""

    script: list[float] = []

    def evaluation_loop(self, *args, metric_key_prefix="eval", **kwargs):
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        loss = self.script[min(self.state.global_step, len(self.script)) - 1]
        output.metrics[f"{metric_key_prefix}_loss"] = loss
        output.metrics[f"{metric_key_prefix}_perplexity"] = 2.0**loss
        return output


@pytest.fixture
def scripted(family, trainer, pairs):
    """`scripted(losses, **arguments)`: a trainer whose evaluations report these losses, one per step."""

    def build(losses: list[float], **arguments) -> Scripted:
        settings = {**STEPWISE, **arguments}
        run = trainer(
            family("rnn_seq2seq"), pairs(16), pairs(3), cls=Scripted, per_device_train_batch_size=2, **settings
        )
        run.script = losses
        return run

    return build


@pytest.mark.parametrize(
    ("losses", "patience", "threshold", "stops"),
    [
        ([5.0, 4.0, 4.5, 4.2, 3.0], 2, 0.0, 4),  # 4.5 and 4.2 are two without improvement over 4.0
        ([5.0, 4.0, 4.5, 3.0, 3.5, 3.6, 3.7], 3, 0.0, 7),
        ([5.0, 4.9, 4.8, 4.7], 2, 0.5, 3),  # 0.1 better does not count
        ([5.0, 4.0, 3.0, 2.0], 0, 0.0, 12),  # 0 turns it off
    ],
)
def test_training_stops_after_evaluations_without_improvement(losses, patience, threshold, stops, scripted):
    run = scripted(losses, early_stopping_patience=patience, early_stopping_threshold=threshold)
    run.train()
    assert run.state.global_step == stops


def test_patience_survives_a_resume(scripted):
    losses = [5.0, 4.0, 4.5, 4.6, 4.7]
    scripted(losses, early_stopping_patience=3, max_steps=3).train()  # one evaluation without improvement
    resumed = scripted(losses, early_stopping_patience=3)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 5


def test_a_new_patience_counts_after_a_resume_and_a_second_run_starts_from_zero(scripted):
    losses = [5.0, 4.0, 4.5, 4.6, 4.7, 4.8, 4.9]
    run = scripted(losses, early_stopping_patience=9, max_steps=3)
    run.train()
    resumed = scripted(losses, early_stopping_patience=5)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 7
    resumed.train()
    assert resumed.state.global_step == 7


def test_the_best_model_is_loaded_and_its_checkpoint_is_kept_by_the_limit(scripted, tmp_path):
    output = tmp_path / "run"
    seen = {}
    run = scripted([5.0, 3.0, 4.0, 4.5], early_stopping_patience=2, load_best_model_at_end=True, save_total_limit=1)
    save = run._save_checkpoint

    def keep(model, trial):
        seen[run.state.global_step] = {name: value.clone() for name, value in run.model.state_dict().items()}
        save(model, trial)

    run._save_checkpoint = keep
    run.train()
    assert run.state.global_step == 4
    assert run.state.best_global_step == 2
    assert run.state.best_metric == 3.0
    best = Path(run.state.best_model_checkpoint)
    assert best == output / "checkpoint-2" and best.is_dir()
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, seen[2][name])
    assert any(not torch.equal(value, seen[4][name]) for name, value in run.model.state_dict().items())
    assert [path.name for path in output.glob("checkpoint-*")] == ["checkpoint-2"]
    AutoModelForSeq2SeqLM.from_pretrained(best)


def test_each_saved_state_names_the_best_checkpoint_by_its_final_name(scripted, tmp_path):
    run = scripted([5.0, 3.0, 4.0, 2.0, 6.0], max_steps=5)
    run.args.metric_for_best_model, run.args.greater_is_better = "eval_loss", False
    run.train()
    for step, best in {1: 1, 2: 2, 3: 2, 4: 4, 5: 4}.items():
        state = TrainerState.load_from_json(str(tmp_path / "run" / f"checkpoint-{step}" / "trainer_state.json"))
        assert state.best_model_checkpoint == str(tmp_path / "run" / f"checkpoint-{best}")


def test_the_limit_keeps_the_newest_and_the_best(scripted, tmp_path):
    scripted([5.0, 2.0, 4.0, 4.5, 4.6], max_steps=5, load_best_model_at_end=True, save_total_limit=2).train()
    assert sorted(path.name for path in (tmp_path / "run").glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-5"]


def test_a_lower_perplexity_is_the_better_one(scripted, tmp_path):
    run = scripted([5.0, 3.0, 4.0], max_steps=3, metric_for_best_model="perplexity", load_best_model_at_end=True)
    assert run.args.greater_is_better is False
    run.train()
    assert run.state.best_global_step == 2
    explicit = MleConfig("unused", metric_for_best_model="perplexity", greater_is_better=True)
    assert explicit.greater_is_better is True


def test_saving_only_the_best_saves_at_improvements(scripted, tmp_path):
    scripted(
        [5.0, 6.0, 4.0, 4.5], max_steps=4, save_strategy="best", metric_for_best_model="eval_loss",
        greater_is_better=False,
    ).train()  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "run").glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-3"]
