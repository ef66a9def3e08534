"""A checkpoint is resumed only by the trainer, model, tokenizer and adapters that wrote it, and only if it is whole.

What the weights do not fit is refused by name; data and settings that have changed are told in one line.
"""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast

from hf_localgan.data.speech_encoding import phone_tokenizer
from hf_localgan.models import (
    LogMelFeatureExtractor,
    RnnSpeechConfig,
    RnnSpeechForConditionalGeneration,
    RnnSpeechProcessor,
)
from hf_localgan.trainers import (
    AdverRegsConfig,
    AdverRegsTrainer,
    AimConfig,
    AimTrainer,
    DaimConfig,
    DaimTrainer,
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
from hf_localgan.trainers.base.training_facts import base_fingerprint, data_facts
from hf_localgan.trainers.speech.trainer import SpeechMleTrainer, SpeechRamlTrainer

PLAYERS = {"discriminator_warmup_steps": 1, "collapse_share": 1.0, "collapse_length": 100.0, "sample_rows": 0}
SOFT = {**PLAYERS, "max_soft_length": 4, "relaxation_top_k": 8}
TRAINERS = {
    "mle": (MleTrainer, MleConfig, {"sample_rows": 0}),
    "raml": (RamlTrainer, RamlConfig, {"sample_rows": 0}),
    "expected_reward": (ExpectedRewardTrainer, ExpectedRewardConfig, {"sample_rows": 0, "policy_max_new_tokens": 4}),
    "matching": (MatchingTrainer, MatchingConfig, {}),
    "dbm": (DbmTrainer, DbmTrainingConfig, {"chains": 8, "final_log_likelihood": False}),
    "gan_ael": (GanAelTrainer, GanAelConfig, SOFT),
    "localgan": (LocalGanTrainer, LocalGanConfig, SOFT),
    "adver_regs": (AdverRegsTrainer, AdverRegsConfig, {**PLAYERS, "policy_max_new_tokens": 4}),
    "aim": (AimTrainer, AimConfig, SOFT),
    "daim": (DaimTrainer, DaimConfig, SOFT),
    "speech_mle": (SpeechMleTrainer, MleConfig, {"sample_rows": 0}),
    "speech_raml": (SpeechRamlTrainer, RamlConfig, {"sample_rows": 0}),
}
STATE = ("optimizer.pt", "scheduler.pt", "rng_state.pth")


def swapped(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """A tokenizer of the same words, of which the last two have each other's ids."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = content["model"]["vocab"]
    last, before = sorted(vocabulary, key=vocabulary.get)[-1:-3:-1]
    vocabulary[last], vocabulary[before] = vocabulary[before], vocabulary[last]
    names = {name: getattr(tokenizer, name) for name in ("pad_token", "bos_token", "eos_token", "unk_token")}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(content)), **names)


def recogniser(**fields) -> RnnSpeechForConditionalGeneration:
    sizes = {"vocab_size": 12, "feature_size": 6, "encoder_layers": 2, "encoder_hidden_size": 8, "hidden_size": 8}
    return RnnSpeechForConditionalGeneration(RnnSpeechConfig(**{**sizes, "embedding_size": 6, **fields}))


def utterances(number: int) -> Dataset:
    rng = np.random.default_rng(0)
    rows = [
        {"input_features": rng.normal(size=(20 + row, 6)).tolist(), "labels": [4 + row % 8, 2], "draw_key": row}
        for row in range(number)
    ]
    return Dataset.from_list(rows).with_format("numpy", columns=["input_features"], output_all_columns=True)


@pytest.fixture
def every(tmp_path, pairs, family, tiny_generator, token_energy, tiny_discriminator, tiny_tokenizer):
    """`every(name, tokenizer=None, larger=False, rows=None, **arguments)`: any trainer, after two updates of four."""

    def build(name: str, *, tokenizer=None, larger: bool = False, rows=None, **arguments):
        cls, config, own = TRAINERS[name]
        arguments = {
            "output_dir": str(tmp_path / name), "use_cpu": True, "disable_tqdm": True, "max_steps": 4, "save_steps": 2,
            "per_device_train_batch_size": 4, "learning_rate": 0.01, **own, **arguments,
        }  # fmt: skip
        torch.manual_seed(0)
        if name.startswith("speech"):
            extractor = LogMelFeatureExtractor(num_mel_filters=2, energy=False)
            processor = RnnSpeechProcessor(
                extractor.fit([np.random.default_rng(0).normal(size=(50, 6))]),
                tokenizer or phone_tokenizer([f"p{number}" for number in range(8)]),
            )
            model = recogniser(**({"hidden_size": 10} if larger else {}))
            return cls(model, config(**arguments), processing_class=processor, train_dataset=rows or utterances(16))
        parts = {}
        if name == "dbm":
            model = token_energy(**({"hidden_size": 7} if larger else {}))
        elif name == "matching":
            model = tiny_discriminator(**({"filters": 5} if larger else {}))
        else:
            model = tiny_generator(dropout=0.1, **({"hidden_size": 12} if larger else {}))
            cosine = {"head": "cosine"} if name in ("aim", "daim") else {}
            if config not in (MleConfig, RamlConfig, ExpectedRewardConfig):
                parts["discriminator"] = tiny_discriminator(**cosine)
            if name == "localgan":
                parts["energy"] = token_energy()
            if cosine:
                parts["backward"] = tiny_generator(seed=1)
            if name == "daim":
                parts["backward_discriminator"] = tiny_discriminator(seed=2, **cosine)
        tokenizer = tokenizer or tiny_tokenizer
        return cls(
            model, config(**arguments), train_dataset=rows or pairs(24), processing_class=tokenizer,
            data_collator=DataCollatorForSeq2Seq(tokenizer), **parts,
        )  # fmt: skip

    return build


def told(caplog) -> list[str]:
    """The warnings of changed data and settings."""
    return [line for line in (record.getMessage() for record in caplog.records) if "had other data or settings" in line]


def weights(run) -> dict[str, torch.Tensor]:
    models = {"": run.model, **run.parts}
    return {
        f"{name}.{key}": value.clone() for name, model in models.items() for key, value in model.state_dict().items()
    }


@pytest.mark.parametrize("name", TRAINERS)
def test_every_trainer_stops_at_what_would_start_anew_or_mean_something_else(name, every, tiny_tokenizer, caplog):
    whole = every(name)
    whole.train()
    folder = Path(whole.args.output_dir) / "checkpoint-2"

    def refused(run, pattern: str):
        with pytest.raises(ValueError, match=pattern) as caught:
            run.train(resume_from_checkpoint=str(folder))
        assert "checkpoint-2" in str(caught.value)

    other = every(name, tokenizer=swapped(whole.processing_class))
    refused(other, "was trained with another tokenizer.*the token '.*' has the id .* and has the id ")
    record = folder / "checkpoint.json"
    record.rename(folder.with_name("record"))  # as checkpoints of before: then the saved tokenizers are compared
    refused(other, "was trained with another tokenizer")
    refused(every(name, larger=True), "does not fit this .*another shape.* is .* in it and .* in this run.*Resume with")
    resumed = every(name)
    for file in STATE:
        (folder / file).rename(folder.with_name("aside"))
        refused(resumed, f"has no {file}, and what is missing would start anew.*save_only_model.*whole checkpoint")
        folder.with_name("aside").rename(folder / file)
    caplog.clear()
    for _ in range(2):  # without a record and with it
        resumed.train(resume_from_checkpoint=str(folder))
        assert not told(caplog)
        torch.testing.assert_close(weights(resumed), weights(whole), rtol=0, atol=0)
        shutil.copy(folder.with_name("record"), record)


def test_a_model_saved_alone_is_resumed_only_where_nothing_is_left_to_do(every):
    every("mle", save_only_model=True).train()
    with pytest.raises(ValueError, match=r'no optimizer\.pt, scheduler\.pt, rng_state\.pth.*`generator: ".*point-2"`'):
        every("mle").train(resume_from_checkpoint=str(Path(every("mle").args.output_dir) / "checkpoint-2"))
    ended = every("mle")
    ended.train(resume_from_checkpoint=True)
    assert ended.state.global_step == 4
    every("dbm", save_only_model=True).train()
    every("dbm").train(resume_from_checkpoint=True)


def test_other_features_of_speech_are_refused_but_not_other_last_digits(every):
    every("speech_mle").train()
    folder = Path(every("speech_mle").args.output_dir) / "checkpoint-2"
    run = every("speech_mle")
    run.processor.feature_extractor.mean = [value * (1 + 1e-6) for value in run.processor.feature_extractor.mean]
    run.train(resume_from_checkpoint=str(folder))
    run = every("speech_mle")
    run.processor.feature_extractor.mean = [value + 0.5 for value in run.processor.feature_extractor.mean]
    with pytest.raises(ValueError, match='checkpoint-2" was trained with another feature extractor.*processor'):
        run.train(resume_from_checkpoint=str(folder))


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_missing_file_of_the_model_is_named(file, every):
    every("mle").train()
    folder = Path(every("mle").args.output_dir) / "checkpoint-2"
    (folder / file).unlink()
    with pytest.raises(ValueError, match=f'checkpoint-2" .* it has no {file}'):
        every("mle").train(resume_from_checkpoint=str(folder))


def test_a_checkpoint_of_another_objective_is_refused(every, tmp_path):
    every("mle").train()
    with pytest.raises(ValueError, match=r"written by `MleTrainer` \(maximum likelihood\).*`RamlTrainer` \(RAML\)"):
        every("raml").train(resume_from_checkpoint=str(tmp_path / "mle" / "checkpoint-2"))


def test_what_changes_no_shape_is_refused_too(trainer, tiny_t5, pairs, tmp_path):
    settings = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    trainer(tiny_t5(), pairs(8), **settings).train()
    other = tiny_t5(num_heads=4, d_kv=2, dense_act_fn="gelu")
    with pytest.raises(ValueError, match=r"`dense_act_fn` is \"relu\" in it and \"gelu\".*`num_heads` is 2 .* and 4"):
        trainer(other, pairs(8), **settings).train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-1"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optim": "adamw_torch"}, r"another than `optim: adamw_torch`.*it has no betas"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "another than `lr_scheduler_type: reduce_lr_on_plateau"),
    ],
    ids=["optimizer", "schedule"],
)
def test_the_state_of_another_optimizer_or_schedule_is_refused(changes, message, trainer, tiny_t5, pairs, tmp_path):
    settings = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1}
    trainer(tiny_t5(), pairs(8), pairs(2), **settings).train()
    with pytest.raises(ValueError, match=message):
        run = trainer(tiny_t5(), pairs(8), pairs(2), **settings, **changes)
        run.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-1"))


# ---- adapters ----


@pytest.fixture
def adapted(family):
    """`adapted(base=0.0, **settings)`: a T5 whose weights are moved by `base`, with LoRA."""

    def build(base: float = 0.0, **settings):
        model = family("t5")
        with torch.no_grad():
            model.shared.weight.add_(base)
        config = {"task_type": "SEQ_2_SEQ_LM", "r": 2, "lora_alpha": 2, "target_modules": ["q", "v"], **settings}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return get_peft_model(model, LoraConfig(**config))

    return build


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 3}, "`r` is 2 in it and 3 in this run"),
        ({"lora_alpha": 4}, "`lora_alpha` is 2 in it and 4 in this run"),
        ({"target_modules": ["q"]}, r"`target_modules` is \[\"q\", \"v\"\] in it and \[\"q\"\] in this run"),
        ({"use_dora": True}, "`use_dora` is false in it and true"),
        ({"base": 0.5}, "another base model under its adapters"),
        ({"lora_dropout": 0.5}, None),
        ({"target_modules": ["v", "q"]}, None),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_other_adapters_are_refused_by_name(changes, message, adapted, trainer, pairs, tmp_path):
    settings = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    trainer(adapted(), pairs(8), **settings).train()
    resume = partial(trainer(adapted(**changes), pairs(8), **settings).train, str(tmp_path / "run" / "checkpoint-1"))
    if message is None:
        resume()
        return
    with pytest.raises(ValueError, match=message) as caught:
        resume()
    assert "\n" not in str(caught.value)


def test_a_whole_model_and_adapters_are_not_each_others_checkpoint(adapted, family, trainer, pairs, tmp_path):
    settings = {"max_steps": 1, "save_strategy": "steps", "save_steps": 1}
    for name, model in (("adapters", adapted()), ("whole", family("t5"))):
        trainer(model, pairs(8), output_dir=str(tmp_path / name), **settings).train()
    settings["max_steps"] = 2
    with pytest.raises(ValueError, match=r"holds adapters of rank 2 \(LORA\) and not a whole model"):
        trainer(family("t5"), pairs(8), **settings).train(str(tmp_path / "adapters" / "checkpoint-1"))
    with pytest.raises(ValueError, match="holds a whole model, and this run trains adapters"):
        trainer(adapted(), pairs(8), **settings).train(str(tmp_path / "whole" / "checkpoint-1"))
    (tmp_path / "adapters" / "checkpoint-1" / "adapter_model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no adapter_model\.safetensors"):
        trainer(adapted(), pairs(8), **settings).train(str(tmp_path / "adapters" / "checkpoint-1"))


def test_the_precision_in_which_a_base_model_is_loaded_changes_nothing(adapted, family):
    own = base_fingerprint(adapted())
    assert own == base_fingerprint(adapted(lora_dropout=0.1).to(torch.bfloat16)) == base_fingerprint(adapted(r=4))
    assert own != base_fingerprint(adapted(base=0.5)) and base_fingerprint(family("t5")) is None


# ---- what is told ----


@pytest.mark.parametrize(
    ("changes", "patterns"),
    [
        ({"rows": 20}, ["`rows of the training data` was 24, now 20"]),
        ({"rows": 24}, ["the training data has as many rows, but others"]),
        (
            {"learning_rate": 0.5},
            ["`learning_rate` was 0.01, now 0.5", "optimizer keeps the `learning_rate` of the che"],
        ),
        (
            {"gradient_accumulation_steps": 2, "seed": 5},
            ["`gradient_accumulation_steps` was 1, now 2", "`seed` was 42"],
        ),
        ({"payoff": "edit"}, ['`payoff` was "hamming", now "edit"']),
        ({"output_dir": "elsewhere", "logging_steps": 1, "max_steps": 5, "save_steps": 1, "sample_rows": 1}, []),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_other_data_and_settings_are_told_in_one_line(changes, patterns, every, pairs, tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    every("raml").train()
    caplog.clear()
    arguments = {**changes, **({"rows": pairs(changes["rows"], seed=7)} if "rows" in changes else {})}
    run = every("raml", **arguments)
    run.train(resume_from_checkpoint=str(tmp_path / "raml" / "checkpoint-2"))
    assert set(run.lr_scheduler.base_lrs) == {0.01}
    lines = told(caplog)
    assert len(lines) == bool(patterns) and not [line for line in lines if "\n" in line]
    assert not [pattern for pattern in patterns if pattern not in lines[0]], lines


def test_facts_of_training_data(pairs):
    rows = pairs(100)
    assert data_facts(rows) == data_facts([dict(row) for row in rows]) != data_facts(rows[::-1])
    stored = Dataset.from_list(rows)
    assert data_facts(stored) == data_facts(stored.with_format("torch")) == data_facts(stored.select(range(100)))
    assert data_facts(stored) != data_facts(Dataset.from_list([*rows[:-2], rows[-1], rows[-2], *rows[:0]]))
    assert data_facts(stored.to_iterable_dataset()) == {} == data_facts(None)
    drawn = stored.with_transform(lambda batch: {"input_ids": torch.rand(1).tolist()})
    state = torch.random.get_rng_state()
    assert data_facts(drawn) == {"rows of the training data": 100}  # nothing was drawn
    assert torch.equal(state, torch.random.get_rng_state())
    speech = data_facts(utterances(16))
    moved = utterances(16).map(lambda row: {"input_features": (np.asarray(row["input_features"]) * 2).tolist()})
    assert speech == data_facts(moved) != data_facts(utterances(17))
    assert all(data_facts(empty)["rows of the training data"] == 0 for empty in ([], stored.select([])))


def test_another_precision_and_dropout_of_the_model_are_told(every, caplog):
    every("mle").train()
    run = every("mle")
    run.model.to(torch.bfloat16)
    run.model.config.dropout = 0.3
    run.train(resume_from_checkpoint=str(Path(run.args.output_dir) / "checkpoint-2"))
    (line,) = told(caplog)
    assert '`dtype` was "float32", now "bfloat16"' in line and "`dropout` was 0.1, now 0.3" in line


@pytest.mark.parametrize("name", ["t5", "bart", "rnn_seq2seq"])
def test_a_resume_of_a_tied_model_misses_nothing(name, family, tiny_generator, trainer, pairs, tmp_path, caplog):
    build = partial(tiny_generator, tie_word_embeddings=True) if name == "rnn_seq2seq" else partial(family, name)
    settings = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1}
    settings |= {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss"}
    trainer(build(), pairs(8), pairs(4), **settings).train()
    trainer(build(), pairs(8), pairs(4), **settings).train(str(tmp_path / "run" / "checkpoint-1"))
    assert not [record for record in caplog.records if "missing keys" in record.getMessage()]


@pytest.mark.parametrize("name", ["checkpoint.json", "config.json", "training_args.json", "trainer_state.json"])
def test_a_damaged_description_is_named(name, every, tmp_path):
    every("mle").train()
    path = tmp_path / "mle" / "checkpoint-2" / name
    whole = json.loads(path.read_text())
    changed = {"lineage": [["a", "b", 1]], "hidden_size": "many", "trainer": None, "nothing": 1}
    damaged = ["", "[]", "{", "null", json.dumps({**whole, **{key: changed[key] for key in changed if key in whole}})]
    for content in damaged[: -1 if name in ("training_args.json", "trainer_state.json") else None]:
        path.write_text(content)
        with pytest.raises(ValueError, match=r"cannot be read.*truncated or damaged. Resume from an earlier") as caught:
            every("mle").train(resume_from_checkpoint=str(path.parent))
        assert "checkpoint-2" in str(caught.value)
        assert name in str(caught.value) or (name == "trainer_state.json" and content in ("", "{"))
