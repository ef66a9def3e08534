"""Recognisers trained by maximum likelihood and by RAML: the loss by hand, resume, accumulation, files, draws."""

import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

from hf_localgan.data.speech_collator import SpeechCollator
from hf_localgan.data.speech_encoding import phone_tokenizer
from hf_localgan.functional.attention import guided_attention
from hf_localgan.metrics import phone_error_rate
from hf_localgan.models import (
    LogMelFeatureExtractor,
    RnnSpeechConfig,
    RnnSpeechForConditionalGeneration,
    RnnSpeechProcessor,
)
from hf_localgan.payoff import EditPayoff
from hf_localgan.trainers import MleConfig, RamlConfig, read_samples
from hf_localgan.trainers.raml.collator import RamlCollator
from hf_localgan.trainers.speech.trainer import SpeechMleTrainer, SpeechRamlTrainer

PHONES = [f"p{number}" for number in range(8)]


def processor():
    extractor = LogMelFeatureExtractor(num_mel_filters=2, energy=False)
    return RnnSpeechProcessor(extractor.fit([np.random.default_rng(0).normal(size=(50, 6))]), phone_tokenizer(PHONES))


def recogniser(**fields):
    sizes = {"vocab_size": 12, "feature_size": 6, "encoder_layers": 2, "encoder_hidden_size": 8, "hidden_size": 8}
    sizes |= {"embedding_size": 6, "location_filters": 2, "location_width": 3, "ctc_weight": 0.3}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return RnnSpeechForConditionalGeneration(RnnSpeechConfig(**{**sizes, **fields}))


def utterances(number, seed=0, augment=0.0):
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(number):
        frames, phones = int(rng.integers(12, 30)), rng.integers(4, 12, rng.integers(1, 4)).tolist()
        features = rng.normal(size=(frames, 6)).astype(np.float32)
        rows.append({"input_features": features + np.float32(augment), "labels": [*phones, 2], "draw_key": index})
        rows[-1] |= {"id": f"u{index}", "length": frames}
    return Dataset.from_list(rows).with_format("numpy", columns=["input_features"], output_all_columns=True)


RAML = {"cls": SpeechRamlTrainer, "config": RamlConfig, "payoff": "edit", "temperature": 1.2}


def trainer(folder, model, cls=SpeechMleTrainer, config=MleConfig, *, guided=0.0, data=None, given=None, **settings):
    default = {"per_device_train_batch_size": 4, "per_device_eval_batch_size": 4, "max_steps": 6, "logging_steps": 1}
    default |= {"learning_rate": 0.05, "use_cpu": True, "disable_tqdm": True, "sample_rows": 0, "seed": 3}
    return cls(
        model, config(str(folder), **{**default, **settings}), processing_class=processor(),
        guided_attention_weight=guided, train_dataset=data or utterances(16), eval_dataset=utterances(5, seed=1),
        **(given or {}),
    )  # fmt: skip


def test_a_recogniser_by_its_name_comes_with_its_processor(tmp_path):
    recogniser().save_pretrained(tmp_path / "saved")
    processor().save_pretrained(tmp_path / "saved")
    args = MleConfig(str(tmp_path / "run"), use_cpu=True, disable_tqdm=True, max_steps=1, sample_rows=0)
    run = SpeechMleTrainer(tmp_path / "saved", args, train_dataset=utterances(4))
    run.train()
    assert run.processor.tokenizer.get_vocab() == processor().tokenizer.get_vocab() and run.state.global_step == 1


def test_a_precision_of_the_output_layer_is_said_to_do_nothing(tmp_path, caplog):
    trainer(tmp_path, recogniser(), head_dtype="float32")
    assert "`head_dtype: float32` does nothing: recognisers are trained on full logits" in caplog.text


def test_the_loss_is_cross_entropy_and_ctc_and_attention_off_the_diagonal(tmp_path):
    model = recogniser().eval()
    run = trainer(tmp_path, model, guided=2.0)
    batch = run.data_collator([utterances(3)[row] for row in range(3)])
    out = model(**batch, output_attentions=True)
    labels, counted = batch["labels"], batch["labels"] != -100
    nll = F.cross_entropy(out.logits.flatten(0, 1), labels.flatten(), reduction="sum")
    steps = -(-batch["attention_mask"].sum(dim=1) // 3)
    off = guided_attention(out.cross_attentions[0][:, 0], counted, steps).sum()
    expected = (nll + 0.3 * out.ctc_nll.sum() + 2.0 * off) / counted.sum()
    torch.testing.assert_close(run.compute_loss(model, batch), expected)
    # weights of examples count labels of all terms as many times
    weights = torch.tensor([1.0, 0.0, 2.0])
    rows = [run.data_collator([utterances(3)[row]]) for row in (0, 2, 2)]
    numbers = torch.tensor([(row["labels"] != -100).sum() for row in rows])
    alone = torch.stack([run.compute_loss(model, row) for row in rows])
    weighted = run.compute_loss(model, batch, weights=weights)
    torch.testing.assert_close(weighted, (alone * numbers).sum() / numbers.sum())
    # evaluation is the likelihood alone
    metrics = run.evaluate(utterances(3))
    torch.testing.assert_close(torch.tensor(metrics["eval_loss"]), (nll / counted.sum()).detach().double().float())


@pytest.mark.parametrize("source", ["reference", "drawn"])
def test_ctc_is_trained_on_the_references_and_the_decoder_on_the_draws(tmp_path, source):
    model = recogniser(ctc_weight=0.7).eval()
    run = trainer(tmp_path, model, guided=2.0, given={"ctc_labels": source}, **{**RAML, "temperature": 3.0})
    rows = [utterances(16)[row] for row in range(16)]
    batch = run.raml_collator(rows)
    labels, references = batch["labels"], run.data_collator(rows)["labels"]
    assert labels.shape != references.shape  # each is padded to its own longest
    inputs = {name: batch[name] for name in ("input_features", "attention_mask")}
    out = model(**inputs, labels=labels, output_attentions=True)
    own = model(**inputs, labels=references) if source == "reference" else out
    counted, steps = labels != -100, -(-batch["attention_mask"].sum(dim=1) // 3)
    nll = F.cross_entropy(out.logits.flatten(0, 1), labels.flatten(), reduction="sum")
    off = guided_attention(out.cross_attentions[0][:, 0], counted, steps).sum()
    expected = (nll + 0.7 * own.ctc_nll.sum() + 2.0 * off) / counted.sum()
    torch.testing.assert_close(run.compute_loss(model, batch), expected)
    # a draw with more labels than the encoder has steps has no alignment, its reference has
    too_long = (counted.sum(dim=1) - 1 > steps).nonzero().flatten().tolist()
    assert too_long and all((own.ctc_nll[row] > 0) == (source == "reference") for row in too_long)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_at_temperature_0_raml_is_maximum_likelihood_to_the_bit(tmp_path, accumulation):
    runs = []
    settings = {"guided": 1.0, "gradient_accumulation_steps": accumulation, "max_steps": 3}
    for name, method in (("mle", {}), ("raml", {**RAML, "temperature": 0.0})):
        run = trainer(tmp_path / name, recogniser(dropout=0.2), **settings, **method)
        run.train()
        runs.append(run)
    pairs = zip(*(run.model.parameters() for run in runs), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert runs[0].state.log_history[0]["loss/ctc"] == runs[1].state.log_history[0]["loss/ctc"]


def test_every_draw_of_an_utterance_keeps_its_reference(tmp_path):
    run = trainer(tmp_path, recogniser(), num_samples=3, **RAML)
    rows = [utterances(2)[row] for row in range(2)]
    batch = run.raml_collator(rows)
    kept = [row[row != -100].tolist() for row in batch["ctc_labels"]]
    assert kept == [row["labels"] for row in rows for _ in range(3)]
    torch.testing.assert_close(batch["ctc_labels"][::3], run.data_collator(rows)["labels"])
    with pytest.raises(ValueError, match="have `ctc_labels` and some have none"):
        run.data_collator([{**rows[0], "ctc_labels": [2]}, rows[1]])


@pytest.mark.parametrize("method", [{}, {**RAML, "temperature": 0.9}], ids=["mle", "raml"])
def test_two_half_batches_equal_one_and_what_is_logged(tmp_path, method):
    runs = []
    for name, size, accumulation in (("whole", 4, 1), ("halves", 2, 2)):
        run = trainer(
            tmp_path / name, recogniser(), guided=1.0, per_device_train_batch_size=size, max_steps=2,
            gradient_accumulation_steps=accumulation, learning_rate=0.001, **method,
        )  # fmt: skip
        run.train()
        runs.append(run)
    for a, b in zip(runs[0].model.parameters(), runs[1].model.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    logged = runs[0].state.log_history[0]
    assert 0 <= logged["speech/attention_forward"] <= 1 and 0 < logged["speech/attention_peak"] <= 1
    assert logged["loss/ctc"] > 0 and 0 < logged["loss/guided_attention"] < 1


def test_bfloat16_is_near_float32(tmp_path):
    losses = []
    for bf16 in (False, True):
        run = trainer(tmp_path / str(bf16), recogniser(), guided=1.0, bf16=bf16, max_steps=3, learning_rate=0.01)
        run.train()
        losses.append([row["loss"] for row in run.state.log_history if "loss" in row])
    assert losses[1] == pytest.approx(losses[0], rel=0.01)


@pytest.mark.parametrize("raml", [False, True], ids=["mle", "raml"])
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(tmp_path, raml):
    make = partial(
        trainer, cls=SpeechRamlTrainer if raml else SpeechMleTrainer, config=RamlConfig if raml else MleConfig,
        guided=0.5, save_steps=3, eval_strategy="steps", eval_steps=3, train_sampling_strategy="group_by_length",
        **({"payoff": "edit", "temperature": 1.0} if raml else {}),
    )  # fmt: skip
    fields = {"dropout": 0.2, "time_masks": 1, "time_mask_frames": 3, "frequency_masks": 1, "frequency_mask_bins": 1}
    whole = make(tmp_path / "whole", recogniser(**fields))
    whole.train()
    resumed = make(tmp_path / "resumed", recogniser(**fields))
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert resumed.state.global_step == 6
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True))
    assert not all(
        torch.equal(a, b) for a, b in zip(whole.model.parameters(), recogniser(**fields).parameters(), strict=True)
    )


def test_a_run_leaves_all_that_transcribing_needs(tmp_path):
    run = trainer(tmp_path, recogniser(), sample_rows=2, eval_strategy="steps", eval_steps=3, sample_max_new_tokens=5)
    run.train()
    run.save_model()
    for folder in (tmp_path, tmp_path / "checkpoint-6"):
        model, loaded = AutoModelForSpeechSeq2Seq.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
        assert all(torch.equal(a, b) for a, b in zip(run.model.parameters(), model.parameters(), strict=True))
        assert loaded.feature_extractor.mean == run.processor.feature_extractor.mean
        assert loaded.tokenizer.get_vocab() == run.processor.tokenizer.get_vocab()
    samples = read_samples(tmp_path / "samples.parquet")
    assert [(row["step"], row["query"]) for row in samples] == [(3, "u0"), (3, "u1"), (6, "u0"), (6, "u1")]
    tokenizer = run.processor.tokenizer
    assert samples[0]["reference"] == tokenizer.decode(utterances(5, seed=1)[0]["labels"], skip_special_tokens=True)


def test_generated_phones_reach_the_metrics(tmp_path):
    def metrics(prediction):
        sides = (np.where(ids < 0, 0, ids) for ids in (prediction.predictions, prediction.label_ids))
        texts = [run.processor.tokenizer.batch_decode(ids, skip_special_tokens=True) for ids in sides]
        return {"per": phone_error_rate(*texts).rate}

    run = trainer(tmp_path, recogniser(), predict_with_generate=True, generation_max_length=6)
    run.compute_metrics = metrics
    found = run.evaluate()
    assert math.isfinite(found["eval_per"]) and found["eval_per"] > 0


def test_augmented_features_change_no_draw(tmp_path):
    settings = {"cls": SpeechRamlTrainer, "config": RamlConfig, "payoff": "edit", "temperature": 1.2}
    plain, louder = (
        [batch["labels"] for batch in trainer(tmp_path, recogniser(), data=data, **settings).get_train_dataloader()]
        for data in (utterances(16), utterances(16, augment=0.25))
    )
    assert all(torch.equal(a, b) for a, b in zip(plain, louder, strict=True))
    references = [row["labels"] for row in utterances(16)]
    drawn = [row[row != -100].tolist() for batch in plain for row in batch]
    assert sorted(drawn) != sorted(references)


def test_mistakes_are_named(tmp_path):
    with pytest.raises(ValueError, match="`processing_class` must be the processor.*got NoneType"):
        SpeechMleTrainer(recogniser(), MleConfig(str(tmp_path), use_cpu=True))
    with pytest.raises(ValueError, match="`guided_attention_weight` must not be negative, got -1"):
        trainer(tmp_path, recogniser(), guided=-1.0)
    with pytest.raises(ValueError, match="`ctc_labels` must be one of reference, drawn, got 'both'"):
        trainer(tmp_path, recogniser(), given={"ctc_labels": "both"}, **RAML)


def test_references_that_do_not_reach_ctc_are_missed(tmp_path):
    collator = SpeechCollator(processor())
    payoff = EditPayoff(range(4, 12), temperature=1.2)
    settings = {"cls": SpeechRamlTrainer, "config": RamlConfig}
    with pytest.raises(ValueError, match="`RamlCollator` has `reference_column: None`. Make it with 'ctc_labels'"):
        trainer(tmp_path, recogniser(), given={"data_collator": RamlCollator(collator, payoff)}, **settings)
    kept = RamlCollator(collator, payoff, reference_column="ctc_labels")
    trainer(tmp_path, recogniser(), given={"data_collator": kept}, **settings)

    def forgetful(examples):
        return collator([{name: row[name] for name in ("input_features", "labels")} for row in examples])

    run = trainer(tmp_path, recogniser(), given={"data_collator": forgetful}, **RAML)
    with pytest.raises(ValueError, match="The batch has no `ctc_labels`, the references of CTC"):
        run.train()
