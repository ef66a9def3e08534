"""A search for hyperparameters: each trial begins with the same models and follows its own settings."""

import pytest
import torch
from transformers.trainer_utils import HPSearchBackend

from hf_localgan.trainers import (
    DbmTrainer,
    DbmTrainingConfig,
    GanAelConfig,
    GanAelTrainer,
    MatchingConfig,
    MatchingTrainer,
    RamlConfig,
    RamlTrainer,
)
from hf_localgan.trainers.base.early_stopping import EarlyStopping

COMMON = {
    "output_dir": "unused", "use_cpu": True, "save_strategy": "no", "disable_tqdm": True, "max_steps": 3,
    "per_device_train_batch_size": 4,
}  # fmt: skip


def begin_trial(run, **settings):
    """What the Trainer does with the values of a trial that a search suggests."""
    run.hp_search_backend = HPSearchBackend.WANDB  # whose trials are dictionaries
    run._hp_search_setup(settings)


@pytest.fixture
def ael(family, pairs, collate, tiny_tokenizer, tiny_discriminator):
    settings = {
        **COMMON,
        "discriminator_warmup_steps": 1,
        "max_soft_length": 4,
        "relaxation_top_k": 8,
        "sample_rows": 0,
    }
    return GanAelTrainer(
        None, GanAelConfig(**settings, monitor_queries=0, discriminator_learning_rate=0.1),
        model_init=lambda: family("rnn_seq2seq"), discriminator=tiny_discriminator(), train_dataset=pairs(8),
        data_collator=collate, processing_class=tiny_tokenizer,
    )  # fmt: skip


def test_a_second_training_begins_with_the_parts_that_were_given(ael, parameters):
    before, ends = parameters(ael.discriminator), []
    for _ in range(2):
        ael.train()
        ends.append((parameters(ael.model), parameters(ael.discriminator)))
    for first, second in zip(*ends, strict=True):
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(before[name], value) for name, value in ends[0][1].items())


def test_players_take_the_turns_of_their_trial(ael):
    begin_trial(
        ael, discriminator_steps=3, early_stopping_patience=2, eval_strategy="epoch", collapse_share=0.25,
        objective="wasserstein",
    )  # fmt: skip
    assert ael.schedule.cycle == (("discriminator", 3), ("generator", 1)) and ael.guard.share == 0.25
    names = [type(callback).__name__ for callback in ael.callback_handler.callbacks]
    assert names.count("ClipWeights") == names.count("EarlyStopping") == 1
    begin_trial(ael, objective="log", early_stopping_patience=0)
    names = [type(callback).__name__ for callback in ael.callback_handler.callbacks]
    assert "ClipWeights" not in names and not any(isinstance(c, EarlyStopping) for c in ael.callback_handler.callbacks)
    with pytest.raises(ValueError, match="`discriminator_steps` must be at least 1, got 0"):
        begin_trial(ael, discriminator_steps=0)


def test_draws_follow_the_temperature_of_their_trial(family, pairs, collate, tiny_tokenizer):
    run = RamlTrainer(
        None, RamlConfig(**COMMON, temperature=0.1, sample_rows=0), model_init=lambda: family("rnn_seq2seq"),
        train_dataset=pairs(8), data_collator=collate, processing_class=tiny_tokenizer,
    )  # fmt: skip
    begin_trial(run, temperature=3.0, payoff="edit")
    assert run.raml_collator.payoff.temperature == 3.0 and type(run.raml_collator.payoff).__name__ == "EditPayoff"
    clocks = [c for c in run.callback_handler.callbacks if type(c).__name__ == "DrawClock"]
    assert [clock.collator for clock in clocks] == [run.raml_collator]
    run.hp_search_backend = None
    run.train()
    assert any(row.get("raml/edit_rate", 0) > 0.3 for row in run.state.log_history) or run.args.logging_steps > 3


def test_energies_and_discriminators_are_made_by_model_init(
    token_energy, tiny_discriminator, pairs, collate, tiny_tokenizer
):
    settings = {**COMMON, "chains": 10, "optim": "sgd", "final_log_likelihood": False}
    energy = DbmTrainer(
        None, DbmTrainingConfig(**settings, momentum=0.5), model_init=lambda: token_energy(), train_dataset=pairs(8),
        processing_class=tiny_tokenizer,
    )  # fmt: skip
    for momentum in (0.5, 0.9):
        begin_trial(energy, momentum=momentum, learning_rate=momentum / 100)
        energy.optimizer = None
        group = energy.create_optimizer().param_groups[0]
        assert (group["momentum"], group["lr"]) == (momentum, momentum / 100)
    discriminator = MatchingTrainer(
        None, MatchingConfig(**COMMON), model_init=lambda: tiny_discriminator(), train_dataset=pairs(8),
        data_collator=collate, processing_class=tiny_tokenizer,
    )  # fmt: skip
    for run in (energy, discriminator):
        first = run.model
        run.hp_search_backend = None
        run.train()
        assert run.model is not first and run.model.config.vocabulary == first.config.vocabulary is not None
    with pytest.raises(ValueError, match="`model` must be a `PairDiscriminator`, got DbmModel"):
        MatchingTrainer(None, MatchingConfig(**COMMON), model_init=lambda: token_energy(), train_dataset=pairs(8))
