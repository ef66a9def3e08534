"""Matching: what is learned, what is evaluated, stopping, saving, resuming, refusals."""

import json
import random

import pytest
import torch
from datasets import Dataset
from transformers import AutoModel, DataCollatorForSeq2Seq, TrainerCallback

from hf_localgan.models import PairDiscriminator, PairDiscriminatorConfig
from hf_localgan.trainers import MatchingConfig, MatchingTrainer, MleConfig
from hf_localgan.trainers.matching.mismatches import ContrastedRows, matching_metrics

LOGGED = ("loss", "grad_norm", "learning_rate", "eval_matching", "eval_loss", "eval_accuracy", "epoch", "step")


def related(number: int, seed: int = 0) -> list[dict]:
    """Pairs of which both sides hold one of 8 topics, tokens 4 to 11; 4 words at most beside it, tokens 12 to 19."""
    draw = random.Random(seed)
    made = []
    for _ in range(number):
        topic = draw.randrange(4, 12)
        sides = []
        for _ in range(2):
            words = [draw.randrange(12, 20) for _ in range(draw.randrange(5))]
            words.insert(draw.randrange(len(words) + 1), topic)
            sides.append([*words, 2])
        made.append({"input_ids": sides[0], "attention_mask": [1] * len(sides[0]), "labels": sides[1]})
    return made


def discriminator(seed: int = 0, **fields) -> PairDiscriminator:
    sizes = {"vocab_size": 20, "embedding_size": 8, "filters": 8, "widths": [1, 2], "head_size": 8, "dropout": 0.0}
    sizes |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return PairDiscriminator(PairDiscriminatorConfig(**{**sizes, "embedding_dropout": 0.0, **fields}))


@pytest.fixture
def build(tmp_path, tiny_tokenizer):
    """`build(model, train=None, evaluate=None, callbacks=None, **arguments)`: a trainer on the processor."""

    def make(model, train=None, evaluate=None, callbacks=None, **arguments) -> MatchingTrainer:
        arguments = {
            "output_dir": str(tmp_path / "run"), "use_cpu": True, "disable_tqdm": True, "save_strategy": "no",
            "logging_steps": 1, "per_device_train_batch_size": 8, "per_device_eval_batch_size": 16, **arguments,
        }  # fmt: skip
        return MatchingTrainer(
            model, MatchingConfig(**arguments), train_dataset=train, eval_dataset=evaluate, callbacks=callbacks,
            data_collator=DataCollatorForSeq2Seq(tiny_tokenizer), processing_class=tiny_tokenizer,
        )  # fmt: skip

    return make


# ---- learning ----


@pytest.mark.parametrize("streamed", [False, True])
def test_it_learns_to_tell_pairs_that_share_a_topic(build, streamed):
    rows = related(256)
    train = Dataset.from_list(rows).to_iterable_dataset() if streamed else rows
    model = discriminator(head="bilinear", share_filters=True)
    run = build(
        model, train, related(200, seed=1), learning_rate=1e-2, max_steps=100, per_device_train_batch_size=32,
        eval_negatives=2,
    )  # fmt: skip
    before = run.evaluate()["eval_matching"]
    run.train()
    after = run.evaluate()
    # One in eight mismatched responses has the same topic, so that at most 1 - 1 / 16 can be reached: 0.94. Chance is
    # 1/2 with a standard deviation below 0.5 / sqrt(200) = 0.035.
    assert abs(before - 0.5) < 0.18 and after["eval_matching"] > 0.75
    assert after["eval_accuracy"] > 0.7 and after["eval_real"] > after["eval_mismatched"] + 0.2


def test_what_it_logs(build):
    model = discriminator()
    with torch.no_grad():
        model.head[-1].weight.zero_()
        model.head[-1].bias.fill_(1.0)  # whatever it is shown is called a pair
    run = build(model, related(20), learning_rate=0.0, num_train_epochs=1)
    run.train()
    first, *_ = run.state.log_history
    assert first["matching/real_accuracy"] == 1 and first["matching/mismatched_accuracy"] == 0
    assert first["matching/uncounted"] == 0
    # (softplus(-1) + softplus(1)) / 2
    assert first["loss"] == pytest.approx(0.8133, abs=1e-4)


def test_a_pair_that_has_no_mismatch_in_its_batch_does_not_count(build):
    rows = related(40)
    one = rows[0]
    alone = {"input_ids": one["input_ids"], "attention_mask": one["attention_mask"], "labels": [4, 2]}
    run = build(discriminator(), rows)
    assert run.compute_loss(run.model, run.data_collator([dict(one), dict(alone)])).item() == 0
    loss = run.compute_loss(run.model, run.data_collator([dict(rows[0])]))
    loss.backward()
    assert loss.item() == 0 and all(not one.grad.any() for one in run.model.parameters() if one.grad is not None)


def test_the_loss_is_that_of_the_drawn_mismatches_and_follows_seed_and_step(build):
    run = build(discriminator(), related(40), negatives=3)
    batch = run.data_collator([dict(row) for row in related(8)])
    rows, found = run._mismatches(batch)
    output = run.model(**batch, mismatches=rows)
    expected = matching_metrics(output.logits, output.mismatch_logits)["loss"]
    assert found.all() and run.compute_loss(run.model, batch).item() == pytest.approx(expected)
    assert torch.equal(run._mismatches(batch)[0], rows)
    run.state.global_step = 1
    assert not torch.equal(run._mismatches(batch)[0], rows)
    run.state.global_step, run.args.seed = 0, 1
    assert not torch.equal(run._mismatches(batch)[0], rows)


def test_what_stands_at_padding_does_not_make_another_query(build):
    run = build(discriminator(), related(40))
    batch = run.data_collator([dict(row) for row in related(8)])
    batch["input_ids"][1] = batch["input_ids"][0]
    batch["attention_mask"][1] = batch["attention_mask"][0]
    hidden = batch["attention_mask"][1] == 0
    assert hidden.any()
    batch["input_ids"][1, hidden] = 9
    drawn = torch.cat([run._mismatches(batch)[0]] + [run._mismatches(batch)[0] for run.state.global_step in range(20)])
    assert not (drawn.view(-1, 8, run.args.negatives)[:, 0] == 1).any()


# ---- evaluation ----


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_an_evaluation_does_not_depend_on_the_batch_size(build, batch_size):
    rows = related(21, seed=1)
    run = build(discriminator(), None, rows, per_device_eval_batch_size=batch_size, eval_negatives=2)
    metrics, predicted = run.evaluate(), run.predict(rows)
    contrasted = ContrastedRows(rows, 2, seed=0)
    assert predicted.label_ids.tolist() == contrasted.groups.tolist()
    scores = torch.from_numpy(predicted.predictions)
    expected = [
        run.model(torch.tensor([row["input_ids"]]), None, torch.tensor([row["labels"]])).logits.item()
        for row in (contrasted[i] for i in range(len(contrasted)))
    ]
    expected = torch.tensor(expected).view(21, 3)
    torch.testing.assert_close(scores, expected)
    for name, value in matching_metrics(expected[:, 0], expected[:, 1:]).items():
        assert metrics[f"eval_{name}"] == pytest.approx(value, abs=1e-6)


def test_a_data_set_and_a_stream_evaluate_as_a_list_does(build):
    rows = related(21, seed=1)
    held = Dataset.from_list([{**row, "length": 3, "text": "a"} for row in rows])
    found = [build(discriminator(), None, data).evaluate()["eval_loss"] for data in (rows, held)]
    found.append(build(discriminator(), None, held.to_iterable_dataset()).evaluate()["eval_loss"])
    found.append(build(discriminator(), None, {"held": rows}).evaluate()["eval_held_loss"])
    assert found == [found[0]] * 4


def test_training_stops_when_matching_gets_no_better_and_the_best_model_is_loaded(build, tmp_path):
    run = build(
        discriminator(), related(64), related(40, seed=1), learning_rate=0.0, num_train_epochs=9,
        early_stopping_patience=2, eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True,
    )  # fmt: skip
    run.train()
    assert run.state.epoch == 3 and run.state.best_global_step == 8
    assert run.args.metric_for_best_model == "eval_matching" and run.args.greater_is_better


# ---- saving and resuming ----


def test_the_trained_model_is_saved_with_its_tokenizer(build, tmp_path):
    run = build(discriminator(), related(16), max_steps=2)
    run.train()
    run.save_model()
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "training_args.json",
    }  # fmt: skip
    loaded = AutoModel.from_pretrained(tmp_path / "run")
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in run.model.state_dict().items())
    assert json.loads((tmp_path / "run" / "training_args.json").read_text())["negatives"] == 4


class StopAfter(TrainerCallback):
    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("settings", [{}, {"bf16": True}, {"data_seed": 3}], ids=str)
def test_a_resumed_run_equals_an_uninterrupted_one(build, tmp_path, settings):
    # 40 rows in batches of 4 x 2: 5 updates an epoch, stopped after 8, resumed from 7, the second of the second epoch.
    def model():
        return discriminator(dropout=0.3, embedding_dropout=0.2)

    arguments = {
        "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "num_train_epochs": 3, "eval_steps": 3,
        "eval_strategy": "steps", "save_strategy": "steps", "save_steps": 7, "learning_rate": 1e-2, **settings,
    }  # fmt: skip
    rows, held_out = related(40), related(9, seed=1)
    whole = build(model(), rows, held_out, output_dir=str(tmp_path / "whole"), **arguments)
    whole.train()
    parts = str(tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        build(model(), rows, held_out, callbacks=[StopAfter(8)], output_dir=parts, **arguments).train()
    resumed = build(model(), rows, held_out, output_dir=parts, **arguments)
    resumed.train(resume_from_checkpoint=True)
    assert whole.state.global_step == resumed.state.global_step == 15
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    histories = [
        [
            {name: row[name] for name in LOGGED if name in row}
            for row in run.state.log_history
            if "train_loss" not in row
        ]
        for run in (whole, resumed)
    ]
    assert histories[0] == histories[1]


# ---- what is refused ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"per_device_train_batch_size": 1}, "`per_device_train_batch_size` must be at least 2, got 1"),
        ({"negatives": 0}, "`negatives` must be at least 1"),
        ({"eval_negatives": 0}, "`eval_negatives` must be at least 1"),
        ({"eval_seed": -1}, "`eval_seed` must not be negative"),
        ({"early_stopping_patience": 2}, "needs evaluations"),
        ({"train_sampling_strategy": "group_by_length"}, "only responses of equal length"),
        ({"label_smoothing_factor": 0.1}, "losses over tokens"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        MatchingConfig(str(tmp_path), use_cpu=True, **arguments)


def test_several_gpus_in_one_process_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(MatchingConfig, "n_gpu", property(lambda self: 2))
    with pytest.raises(ValueError, match="One process for 2 GPUs.*`torchrun`"):
        MatchingConfig(str(tmp_path), use_cpu=True)


def test_data_that_cannot_be_mismatched_are_refused(build):
    rows = related(1) * 3
    for train in (rows, Dataset.from_list(rows).to_iterable_dataset()):
        with pytest.raises(ValueError, match="first 3 rows of `train_dataset` have 1 different query"):
            build(discriminator(), train)
    with pytest.raises(ValueError, match="first 0 rows of `train_dataset` have 0 different queries"):
        build(discriminator(), [])
    run = build(discriminator(), related(20), rows)
    with pytest.raises(ValueError, match="the 3 rows to evaluate have 1 different query"):
        run.evaluate()


def test_other_models_settings_and_batches_are_refused(build, tmp_path, tiny_t5):
    with pytest.raises(ValueError, match="`model` must be a `PairDiscriminator`, got T5ForConditionalGeneration"):
        build(tiny_t5(), related(20))
    with pytest.raises(ValueError, match="`args` must be a `MatchingConfig`, got MleConfig"):
        MatchingTrainer(discriminator(), MleConfig(str(tmp_path), use_cpu=True))
    run = build(discriminator(), related(20))
    with pytest.raises(ValueError, match=r"no `labels` \(found: `input_ids`\).*`encode_pairs`"):
        run.compute_loss(run.model, {"input_ids": torch.ones(2, 3, dtype=torch.long)})
