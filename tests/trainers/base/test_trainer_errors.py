"""What is refused, and that the message names the value, what is accepted and what to do."""

import pytest
import torch
from datasets import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Seq2SeqTrainingArguments

from hf_localgan.trainers import MleConfig, MleTrainer


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
    with pytest.raises(ValueError, match=r"`args` must be .*`MleConfig`, got None"):
        MleTrainer(family("t5"))
    with pytest.raises(ValueError, match=r"`args` must be .*`MleConfig`, got Seq2SeqTrainingArguments"):
        MleTrainer(family("t5"), Seq2SeqTrainingArguments("unused"))


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
