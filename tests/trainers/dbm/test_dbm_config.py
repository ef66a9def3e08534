"""What `DbmTrainingConfig` and `DbmTrainer` refuse, and what the message names; defaults that are not the Trainer's."""

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_localgan.models import DbmConfig, DbmModel
from hf_localgan.trainers import DbmTrainer, DbmTrainingConfig, MleConfig
from hf_localgan.trainers.dbm.data import collate_pairs


@pytest.fixture
def config(tmp_path):
    return lambda **arguments: DbmTrainingConfig(str(tmp_path), use_cpu=True, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bottom_share": 1.0}, r"`bottom_share` must be in \[0, 1\), got 1.0"),
        ({"top_share": -0.1}, r"`top_share` must be in \[0, 1\), got -0.1"),
        ({"bottom_share": 0.6, "top_share": 0.4}, r"0.6 and `top_share` 0.4 leave no steps for joint"),
        ({"contrastive_steps": 0}, "`contrastive_steps` must be at least 1, got 0"),
        ({"mean_field_steps": 0}, "`mean_field_steps` must be at least 1"),
        ({"gibbs_steps": 0}, "`gibbs_steps` must be at least 1"),
        ({"chains": 1}, "`chains` must be at least 2, got 1"),
        ({"ais_chains": 1}, "`ais_chains` must be at least 2"),
        ({"ais_temperatures": 0}, "`ais_temperatures` must be at least 1"),
        ({"scaler_rows": -1}, "`scaler_rows` must be a number of at least 0, got -1"),
        ({"matching_pairs": -1}, "`matching_pairs`"),
        ({"free_energy_bound": float("nan")}, "`free_energy_bound` .* got nan"),
        ({"reconstruction_factor": 0.9}, "`reconstruction_factor` must be above 1, or 0 for no bound, got 0.9"),
        ({"min_chain_spread": -1.0}, "`min_chain_spread`"),
        ({"momentum": 1.0, "optim": "sgd"}, r"`momentum` must be in \[0, 1\), got 1.0"),
        ({"momentum": 0.9}, "`momentum` 0.9 needs `optim: sgd`, got `optim: adamw_torch"),
        ({"gradient_checkpointing": True}, "`gradient_checkpointing` is not supported|`activation_checkpointing`"),
        ({"torch_compile": True}, "`torch_compile` is not supported: each period computes another loss"),
        ({"label_smoothing_factor": 0.1}, "`label_smoothing_factor` is not supported"),
        ({"bf16_full_eval": True}, "`bf16_full_eval` is not supported"),
        ({"auto_find_batch_size": True}, "`auto_find_batch_size` is not supported"),
        ({"ddp_find_unused_parameters": False}, "`ddp_find_unused_parameters` must not be False"),
    ],
)
def test_settings_that_cannot_be_meant(arguments, message, config):
    with pytest.raises(ValueError, match=message):
        config(**arguments)


def test_defaults(config):
    args = config()
    assert args.report_to == [] and args.dataloader_pin_memory is False and args.ddp_broadcast_buffers is False
    assert (args.per_device_train_batch_size, args.learning_rate, args.max_grad_norm) == (256, 2e-3, 0.0)


@pytest.mark.parametrize(
    ("metric", "greater"),
    [(None, True), ("matching", True), ("center_cosine", True), ("eval_reconstruction", False), ("residual", False)],
)
def test_the_best_model_is_the_one_that_matches_best_unless_another_number_is_named(metric, greater, config):
    args = config(
        load_best_model_at_end=True, eval_strategy="steps", save_strategy="steps", save_steps=5, eval_steps=5,
        metric_for_best_model=metric,
    )  # fmt: skip
    assert args.metric_for_best_model == (metric or "matching") and args.greater_is_better is greater


# ---- the trainer ----


def test_other_models_and_configurations(tiny_energy, tiny_generator, config, vectors, tmp_path):
    rows = vectors(4)
    with pytest.raises(ValueError, match="`args` must be a `DbmTrainingConfig`, got MleConfig"):
        DbmTrainer(tiny_energy(), MleConfig(str(tmp_path)), train_dataset=rows)
    with pytest.raises(ValueError, match="`model` must be a `DbmModel`, got RnnSeq2SeqForConditionalGeneration"):
        DbmTrainer(tiny_generator(), config(), train_dataset=rows)
    with pytest.raises(ValueError, match="`model` must be a `DbmModel`, got NoneType"):
        DbmTrainer(None, config(), train_dataset=rows)
    with pytest.raises(ValueError, match="as printed cannot be trained: without the quadratic term"):
        DbmTrainer(DbmModel(DbmConfig(energy="printed")), config(), train_dataset=rows)
    with pytest.raises(ValueError, match="parameters are torch.bfloat16, in which small updates are lost"):
        DbmTrainer(tiny_energy().bfloat16(), config(), train_dataset=rows)
    with pytest.raises(ValueError, match="word vectors are empty"):
        DbmTrainer(tiny_energy(query_size=4, vocab_size=20), config(), train_dataset=rows)


def test_data_that_do_not_fit(tiny_energy, energy_trainer, vectors, pairs):
    with pytest.raises(ValueError, match="`train_dataset` is empty.*`load_pairs`"):
        energy_trainer(tiny_energy(), [])
    with pytest.raises(ValueError, match="`eval_dataset` is empty"):
        energy_trainer(tiny_energy(), vectors(4), {"full": vectors(4), "empty": Dataset.from_list([])})
    with pytest.raises(ValueError, match="Rows of `train_dataset` must have .* found `query_features`, `labels`"):
        energy_trainer(tiny_energy(), [{"query_features": [1.0], "labels": [2]}])
    with pytest.raises(ValueError, match="The data are tokens, but the model holds no word vectors"):
        energy_trainer(tiny_energy(), pairs(8), max_steps=1).train()
    with pytest.raises(ValueError, match=r"vectors of 3 dimensions \(`query_size`.*\), got a batch of shape \(4, 2\)"):
        energy_trainer(
            tiny_energy(), [{**row, "query_features": [0.0, 1.0]} for row in vectors(4)], max_steps=1
        ).train()
    with pytest.raises(ValueError, match="`response_features` of the training data must be finite"):
        energy_trainer(
            tiny_energy(), [{**row, "response_features": [np.nan] * 4} for row in vectors(4)], max_steps=1
        ).train()
    with pytest.raises(ValueError, match="`query_features` must be vectors of one size, got 2 and 3"):
        collate_pairs([*vectors(2), {**vectors(1)[0], "query_features": [0.0, 1.0]}])
    with pytest.raises(ValueError, match=r"must have `input_ids` and `labels`.*found `text`"):
        collate_pairs([{"text": "a"}])
    stream = Dataset.from_list([{"text": "a"}] * 4).to_iterable_dataset()
    with pytest.raises(ValueError, match="must have `input_ids` and `labels`|No columns in the dataset match"):
        energy_trainer(tiny_energy(), stream, max_steps=1).train()


def test_training_data_without_a_regular_token(tiny_energy, energy_trainer):
    model = tiny_energy(query_size=4, vocab_size=20)
    model.word_vectors.load(torch.randn(20, 4), range(10, 20))
    rows = [{"input_ids": [11, 2], "attention_mask": [1, 1], "labels": [5, 2]}] * 4
    with pytest.raises(ValueError, match="no utterance to fit the scalers on"):
        energy_trainer(model, rows, max_steps=1).train()


def test_a_model_without_fitted_scalers_is_not_evaluated(tiny_energy, energy_trainer, vectors):
    run = energy_trainer(tiny_energy(), vectors(4), vectors(4))
    for measure in (run.evaluate, run.log_likelihood):
        with pytest.raises(ValueError, match="scalers are not fitted yet.*`trainer.fit_scalers\\(\\)`"):
            measure()
