"""What is refused, and that the message names the value, what is accepted and what to do."""

import math

import pytest
import torch
from datasets import Dataset
from transformers import GPT2Config, GPT2LMHeadModel

from hf_localgan.trainers import DbmTrainingConfig, MatchingConfig, MleConfig, MleTrainer, RamlTrainer


@pytest.mark.parametrize("missing", [("pad_token",), ("eos_token",), ("pad_token", "eos_token")])
def test_a_tokenizer_without_padding_or_end(missing, family, trainer, tiny_tokenizer, pairs):
    for name in missing:
        setattr(tiny_tokenizer, name, None)
    with pytest.raises(ValueError, match=r"has no .*add_special_tokens") as error:
        trainer(family("t5"), pairs(2))
    assert all(f"`{name}`" in str(error.value) for name in missing)


@pytest.mark.parametrize("empty", [[], Dataset.from_dict({"input_ids": [], "labels": []})])
def test_an_empty_data_set(empty, family, trainer, pairs):
    with pytest.raises(ValueError, match=r"`train_dataset` is empty.*`load_pairs`"):
        trainer(family("t5"), empty)
    with pytest.raises(ValueError, match=r"`eval_dataset` is empty"):
        trainer(family("t5"), pairs(2), empty)
    with pytest.raises(ValueError, match=r"`eval_dataset` is empty"):
        trainer(family("t5"), pairs(2), {"full": pairs(2), "empty": empty})


def test_a_causal_language_model(trainer, pairs):
    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=1))
    with pytest.raises(ValueError, match=r"GPT2LMHeadModel is no encoder-decoder.*AutoModelForSeq2SeqLM"):
        trainer(model, pairs(2))


def test_arguments_of_another_trainer(family):
    with pytest.raises(ValueError, match=r"`args` must be a `RamlConfig`, got MleConfig.*Plain `Seq2SeqTraining"):
        RamlTrainer(family("t5"), MleConfig("unused"))
    with pytest.raises(ValueError, match=r"`args` must be a `MleConfig`, got str"):
        MleTrainer(family("t5"), "unused")


def test_a_batch_without_labels(family, trainer, pairs):
    rows = [{name: value for name, value in row.items() if name != "labels"} for row in pairs(2)]
    with pytest.raises(ValueError, match=r"no `labels` \(found: .*`input_ids`.*`encode_pairs`"):
        trainer(family("t5"), rows, max_steps=1).train()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"head_dtype": "float16"}, r'`head_dtype` must be one of auto, float32, bfloat16, got "float16"'),
        ({"early_stopping_patience": -1}, r"`early_stopping_patience` must not be negative, got -1"),
        ({"early_stopping_threshold": -0.5}, r"`early_stopping_threshold` must not be negative, got -0.5"),
        ({"sample_rows": -2}, r"`sample_rows` must not be negative, got -2"),
        ({"sample_max_new_tokens": 0}, r"`sample_max_new_tokens` must be at least 1, got 0.*`sample_rows` to 0"),
        ({"label_smoothing_factor": 1.0}, r"`label_smoothing_factor` must be in \[0, 1\), got 1.0"),
        ({"early_stopping_patience": 3}, r"`early_stopping_patience=3` needs evaluations.*`steps` or `epoch`"),
    ],
)
def test_bad_values_in_the_configuration(settings, message):
    with pytest.raises(ValueError, match=message):
        MleConfig("unused", **settings)


def test_memory_is_not_pinned_without_an_accelerator_that_reads_it(monkeypatch):
    assert MleConfig("unused", use_cpu=True).dataloader_pin_memory is False
    for kind, pinned in (("cuda", True), ("mps", False), (None, False)):
        device = None if kind is None else torch.device(kind)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False, d=device: d)
        assert MleConfig("unused", use_cpu=False).dataloader_pin_memory is pinned


def test_nothing_is_reported_to_trackers_by_default():
    assert MleConfig("unused").report_to == []


@pytest.mark.parametrize(
    ("name", "values", "accepted"),
    [
        ("gradient_accumulation_steps", (0, -1, 1.5), "a whole number of at least 1.*1 updates after every batch"),
        ("per_device_train_batch_size", (-3,), "at least"),
        ("per_device_eval_batch_size", (0, -1), "a whole number of at least 1"),
        ("num_train_epochs", (-1.0, math.nan, math.inf), "a number above 0|a number of at least 0"),
        ("max_steps", (-7,), "at least (-1|1).*`num_train_epochs`"),
        ("learning_rate", (-1.0, math.nan, math.inf, "fast"), "a number of at least 0"),
        ("weight_decay", (-0.1, math.nan), "at least 0"),
        ("adam_beta1", (1.0, -0.1), "at least 0 and below 1"),
        ("max_grad_norm", (-1.0, math.nan), "0 turns clipping off"),
        ("logging_steps", (-1, math.nan), "Below 1 it is a share"),
        ("save_steps", (0, -1), "0"),
        ("eval_steps", (-1,), "at least 0"),
        ("save_total_limit", (0, -1), "Leave it out to keep all checkpoints"),
        ("eval_accumulation_steps", (0,), "at least 1"),
        ("seed", (-1, 2**32), "at least 0 and at most 4294967295"),
        ("data_seed", (-1,), "at least 0"),
        ("dataloader_num_workers", (-1,), "0 loads in the main process"),
        ("lr_scheduler_kwargs", ("[1]", "{bad"), "key"),
        ("lr_scheduler_kwargs", ('{"wrong": 1}', {"wrong": 1}), "has `wrong`; accepted are last_epoch"),
        ("accelerator_config", ('{"wrong": 1}', {"wrong": 1}), "has `wrong`; accepted are split_batches"),
        ("optim_args", ("momentum",), "is written `name=value,name=value`"),
        ("log_level", ("loud",), "one of detail, debug, info"),
        ("output_dir", (__file__,), "is a file. Name another one"),
    ],
)
def test_values_of_the_frameworks_settings_that_make_no_sense(name, values, accepted):
    for config in (MleConfig, DbmTrainingConfig, MatchingConfig):
        for value in values:
            with pytest.raises(ValueError, match=rf"(?s)`{name}`.*{accepted}") as error:
                config(**{"output_dir": "unused", "use_cpu": True, name: value})
            assert "wrong" in str(value) or str(value) in str(error.value)


def test_values_at_the_bounds_are_accepted():
    bounds = {"learning_rate": 0.0, "max_grad_norm": 0.0, "weight_decay": 0.0, "seed": 2**32 - 1, "adam_beta1": 0.0}
    schedule = {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": '{"power": 2.0}'}
    schedule |= {"optim_args": "a=1,b=2", "accelerator_config": {"even_batches": True}}
    args = MleConfig("unused", use_cpu=True, max_steps=-1, save_steps=0.5, logging_steps=0.1, **bounds, **schedule)
    assert all(getattr(args, name) == value for name, value in bounds.items())
