"""Settings that would do nothing, or the opposite, are refused or warned of; metrics choose in their own direction."""

import pytest
from transformers import EarlyStoppingCallback

from hf_localgan.trainers import DbmTrainingConfig, LocalGanConfig, MatchingConfig, MleConfig
from hf_localgan.trainers.base.launching import warn_once


def config(cls=MleConfig, **settings):
    return cls(**{"output_dir": "unused", "use_cpu": True, **settings})


EPOCHS = {"eval_strategy": "epoch", "save_strategy": "epoch"}


@pytest.mark.parametrize("cls", [MleConfig, DbmTrainingConfig, MatchingConfig, LocalGanConfig])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_steps": 0}, "`max_steps` must be at least 1, or -1 to train `num_train_epochs`, got 0"),
        ({"max_steps": -2}, "`max_steps` must be at least 1"),
        ({"num_train_epochs": 0}, "`num_train_epochs` must be a number above 0, got 0"),
        ({"num_train_epochs": -1.0}, "`num_train_epochs` must be a number above 0"),
        ({"num_train_epochs": float("nan")}, "`num_train_epochs` must be a number above 0"),
        ({"stream_buffer_size": 0}, "`stream_buffer_size` must be at least 1"),
        ({"train_sampling_strategy": "length"}, "`train_sampling_strategy` must be one of random, sequential"),
        ({"log_level": "loud"}, '`log_level` must be one of detail, debug.*, got "loud"'),
        ({"neftune_noise_alpha": -1.0}, "`neftune_noise_alpha` must not be negative"),
    ],
    ids=str,
)
def test_what_would_train_nothing_or_as_by_default_is_refused(cls, settings, message):
    with pytest.raises(ValueError, match=message):
        config(cls, **settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_steps": 5, "num_train_epochs": 7}, "`num_train_epochs: 7` does nothing: training ends after"),
        ({"eval_steps": 5}, "`eval_steps: 5` does nothing: `eval_strategy` is `no`. Set it to `steps`"),
        ({"save_steps": 5, "save_strategy": "epoch"}, "`save_steps: 5` does nothing: `save_strategy` is `epoch`"),
        ({"logging_steps": 5, "logging_strategy": "epoch"}, "`logging_steps: 5` does nothing"),
        ({"eval_delay": 5}, "`eval_delay: 5` does nothing: `eval_strategy` is `no`"),
        ({"warmup_steps": 3, "lr_scheduler_type": "constant"}, "Set it to `constant_with_warmup`"),
        ({"sortish_sampler": True}, "`sortish_sampler: true` does nothing"),
        ({"label_names": ["reply"]}, "`label_names: ['reply']` does nothing: the losses read the column `labels`"),
        ({"use_cache": True}, "`use_cache: true` does nothing"),
        ({"head_dtype": "float32", "fast_loss": False}, "`head_dtype: float32` does nothing: `fast_loss` is false"),
        ({"generation_num_beams": 3}, "Set `predict_with_generate: true`"),
        ({"early_stopping_threshold": 0.1}, "`early_stopping_threshold: 0.1` does nothing"),
        ({"hub_strategy": "end"}, "`hub_strategy: end` does nothing: nothing is uploaded"),
    ],
    ids=str,
)  # fmt: skip
def test_a_setting_that_does_nothing_beside_the_others_is_warned_of(settings, words, caplog):
    warn_once.cache_clear()
    config(**settings)
    assert words in caplog.text


def test_settings_that_act_and_defaults_are_not_warned_of(caplog):
    warn_once.cache_clear()
    config(
        max_steps=5, eval_strategy="steps", eval_steps=5, save_steps=5, logging_steps=5, warmup_steps=3,
        use_cache=False, predict_with_generate=True, generation_num_beams=3, label_names=["labels"],
        early_stopping_patience=2, early_stopping_threshold=0.1, num_train_epochs=3.0,
    )  # fmt: skip
    config(logging_steps=7, logging_strategy="epoch", eval_strategy="steps")  # evaluations take the number, too
    config(LocalGanConfig), config(DbmTrainingConfig), config(MatchingConfig)
    assert "does nothing" not in caplog.text


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (DbmTrainingConfig, {"neftune_noise_alpha": 5.0}, "`neftune_noise_alpha` is not supported"),
        (MatchingConfig, {"neftune_noise_alpha": 5.0}, "`neftune_noise_alpha` is not supported"),
        (MatchingConfig, {"train_sampling_strategy": "batch_rebalance"}, "would mismatch only responses of equal"),
        (LocalGanConfig, {"train_sampling_strategy": "batch_rebalance"}, "would mismatch only responses of equal"),
        (LocalGanConfig, {"torch_compile": True}, "`torch_compile` is not supported: each update computes"),
        (LocalGanConfig, {"auto_find_batch_size": True}, "`auto_find_batch_size` is not supported"),
        (LocalGanConfig, {"optim": "lomo"}, "`optim: lomo` cannot be had for several players"),
        (
            LocalGanConfig, {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "epoch"},
            "`lr_scheduler_type: reduce_lr_on_plateau` cannot be had for several players",
        ),
    ],
    ids=str,
)  # fmt: skip
def test_what_a_trainer_cannot_have_is_refused(cls, settings, message):
    with pytest.raises(ValueError, match=message):
        config(cls, **settings)


@pytest.mark.parametrize(
    ("cls", "settings", "metric", "greater"),
    [
        (MleConfig, {"metric_for_best_model": "eval_per", "load_best_model_at_end": True, **EPOCHS}, "eval_per", False),
        (MleConfig, {"metric_for_best_model": "wer", "load_best_model_at_end": True, **EPOCHS}, "wer", False),
        (MleConfig, {"metric_for_best_model": "bleu", "load_best_model_at_end": True, **EPOCHS}, "bleu", True),
        (MleConfig, {"save_strategy": "best", "eval_strategy": "epoch"}, "eval_loss", False),
        (DbmTrainingConfig, {"lr_scheduler_type": "greedy", "eval_strategy": "epoch"}, "matching", True),
        (MatchingConfig, {"save_strategy": "best", "eval_strategy": "epoch"}, "eval_matching", True),
    ],
    ids=str,
)
def test_metrics_choose_in_their_own_direction(cls, settings, metric, greater):
    settled = config(cls, **settings)
    assert (settled.metric_for_best_model, settled.greater_is_better) == (metric, greater)


def test_a_rate_that_follows_a_metric_falls_when_the_metric_gets_worse(trainer, family, pairs):
    # By default torch lowers the rate when the metric has risen, also where a larger one is better.
    modes = [
        config(lr_scheduler_type="reduce_lr_on_plateau", eval_strategy="epoch", metric_for_best_model=name)
        for name in ("eval_bleu", "eval_loss")
    ]
    assert [settled.lr_scheduler_kwargs for settled in modes] == [{"mode": "max"}, None]
    run = trainer(
        family("rnn_seq2seq"), pairs(8), pairs(2), max_steps=1, lr_scheduler_type="greedy", eval_strategy="epoch",
        metric_for_best_model="eval_bleu", compute_metrics=lambda _: {"bleu": 1.0},
    )  # fmt: skip
    run.train()
    assert run.lr_scheduler.mode == "max"


def test_early_stopping_that_the_user_gives_stays(trainer, family, pairs):
    given = EarlyStoppingCallback(3)
    run = trainer(family("rnn_seq2seq"), pairs(8), pairs(2), callbacks=[given])
    run.adopt_settings()
    assert given in run.callback_handler.callbacks


def test_a_generator_without_a_turn_is_warned_of(players, family, pairs, caplog):
    run = players(family("rnn_seq2seq"), pairs(8), discriminator_warmup_steps=5, max_steps=2)
    run.train()
    assert "The generator will not learn: training ends after 2 updates" in caplog.text
