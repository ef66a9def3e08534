"""RAML's labels, loss and log: what is drawn, how it counts, and that temperature 0 is maximum likelihood."""

from functools import partial

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import DataCollatorForSeq2Seq

from hf_localgan.payoff.base import Draws, Payoff
from hf_localgan.payoff.hamming import HammingPayoff
from hf_localgan.payoff.importance import ImportancePayoff
from hf_localgan.trainers import MleConfig
from hf_localgan.trainers.raml.collator import RamlCollator, split_draws
from hf_localgan.trainers.raml.config import RamlConfig
from hf_localgan.trainers.raml.trainer import RamlTrainer

REGULAR = range(4, 20)
HOT = {"payoff": "edit", "temperature": 2.0}  # nearly no reference is left intact


@pytest.fixture
def raml(trainer):
    """`raml(model, rows, ..., sampler=None, **arguments)`: a `RamlTrainer`, plain descent without noise."""

    def build(model, train=None, evaluate=None, sampler=None, **arguments):
        cls = partial(RamlTrainer, payoff=sampler)
        return trainer(model, train, evaluate, cls=cls, config=RamlConfig, **arguments)

    return build


def parameters_of(model) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def summed_nll(model, batch: dict) -> torch.Tensor:
    """Nats of each row, from the model's own logits, the labels shifted right by its own method."""
    labels = batch["labels"]
    decoder = model.prepare_decoder_input_ids_from_labels(labels=labels)
    logits = model(batch["input_ids"], batch["attention_mask"], decoder_input_ids=decoder).logits
    nll = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    return nll.sum(dim=1)


class Scripted(Payoff):
    """Puts as many 7s before a reference as its first token minus 4: draws and edits that can be told by hand."""

    def __init__(self):
        super().__init__(1.0)

    def sample(self, labels, rng):
        return self._drawn(labels)

    def _drawn(self, labels):
        return [7] * (labels[0] - 4) + list(labels)

    def draw(self, labels, keys, *, temperature=None):
        edits = np.array([label[0] - 4 for label in labels], dtype=np.int64)
        return Draws([self._drawn(label) for label in labels], edits, None)

    def log_prob(self, candidate, reference, *, temperature=None):
        return 0.0 if candidate == self._drawn(reference) else -np.inf


# ---- temperature 0 ----


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("rnn_seq2seq", {}),
        ("rnn_seq2seq", {"dataloader_num_workers": 2, "dataloader_persistent_workers": True}),
        ("rnn_seq2seq", {"fast_loss": False, "label_smoothing_factor": 0.1}),
        ("t5", {"train_sampling_strategy": "group_by_length"}),
        ("bart", {"bf16": True}),
        ("marian", {}),
        ("encoder_decoder", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value) or "plain",
)
@pytest.mark.parametrize("payoff", ["hamming", "edit"])
def test_at_temperature_zero_training_equals_maximum_likelihood_to_the_last_bit(
    name, settings, payoff, family, trainer, pairs, losses
):
    rows, held_out, runs = pairs(20), pairs(5, seed=1), []
    settings = {
        "optim": "adamw_torch", "learning_rate": 1e-2, "max_grad_norm": 1.0, "gradient_accumulation_steps": 2,
        "per_device_train_batch_size": 3, "num_train_epochs": 2, "eval_strategy": "epoch", **settings,
    }  # fmt: skip
    of_raml = {"cls": RamlTrainer, "config": RamlConfig, "temperature": 0.0, "payoff": payoff}
    for method in ({}, of_raml):
        run = trainer(family(name, dropout=True), rows, held_out, **settings, **method)
        run.train()
        logged = [losses(run, key) for key in ("loss", "grad_norm", "eval_loss")]
        runs.append((parameters_of(run.model), logged, torch.get_rng_state()))
    (plain, plain_log, plain_state), (drawn, drawn_log, drawn_state) = runs
    assert torch.equal(plain, drawn) and plain_log == drawn_log and torch.equal(plain_state, drawn_state)
    assert len(plain_log[0]) == 8 and len(set(plain_log[0])) == 8  # 20 rows: 7 batches of 3, 4 updates an epoch


def test_at_another_temperature_it_does_not(family, trainer, raml, pairs):
    updated = []
    for make in (trainer, partial(raml, temperature=0.9)):
        run = make(family("t5"), pairs(8), max_steps=1)
        run.train()
        updated.append(parameters_of(run.model))
    assert not torch.allclose(*updated, atol=1e-4)


# ---- labels ----


@pytest.mark.parametrize("name", ["rnn_seq2seq", "t5", "bart"])
@pytest.mark.parametrize("fast", [True, False])
def test_the_loss_is_that_of_the_drawn_labels_shifted_right(name, fast, family, raml, pairs):
    rows = pairs(6)
    model, reference = family(name), family(name)
    run = raml(model, rows, fast_loss=fast, **HOT)
    batch = run.raml_collator(rows)
    plain, draws = split_draws(batch)
    assert not torch.equal(plain["labels"], run.data_collator(rows)["labels"]) and (draws["raml_edits"] > 0).any()
    loss = run.compute_loss(model.train(), batch)
    loss.backward()
    expected = summed_nll(reference.train(), plain).sum() / (plain["labels"] != -100).sum()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    for (label, parameter), other in zip(model.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, atol=1e-6, rtol=1e-4, msg=label)


def test_statistics_never_reach_the_model(family, raml, pairs):
    model, seen = family("t5"), set()
    model.register_forward_pre_hook(lambda module, args, inputs: seen.update(inputs), with_kwargs=True)
    run = raml(model, pairs(4), max_steps=1, fast_loss=False, **HOT)
    run.train()
    run.compute_loss(model, run.raml_collator(pairs(4)), return_outputs=True)
    assert seen == {"input_ids", "attention_mask", "decoder_input_ids", "use_cache"}


def test_evaluation_prediction_and_the_sample_table_see_references(family, trainer, raml, pairs, tmp_path):
    rows, held_out = pairs(6), pairs(5, seed=1)
    plain = trainer(family("bart"), rows, held_out).evaluate()
    run = raml(family("bart"), rows, held_out, sample_rows=2, max_steps=1, learning_rate=0.0, **HOT)
    run.train()
    drawn, predicted = run.evaluate(), run.predict(held_out)
    for key in ("eval_loss", "eval_perplexity", "eval_tokens"):
        assert drawn[key] == plain[key]
    assert not any("raml" in key for key in drawn)
    labels = [[token for token in row if token != -100] for row in predicted.label_ids.tolist()]
    assert labels == [row["labels"] for row in held_out]
    table = run.callback_handler.callbacks[-2].examples
    assert [row["labels"] for row in table] == [row["labels"] for row in held_out[:2]]


def test_an_epoch_draws_anew_and_a_seed_repeats_all_of_it(family, raml, pairs, losses):
    def logged(**settings):
        run = raml(
            family("t5"), pairs(16), learning_rate=0.0, num_train_epochs=2, logging_steps=2,
            train_sampling_strategy="sequential", **HOT, **settings,
        )  # fmt: skip
        run.train()
        return losses(run)

    first = logged()
    assert len(first) == 2 and abs(first[0] - first[1]) > 1e-4
    assert logged() == first
    assert logged(dataloader_num_workers=2, dataloader_persistent_workers=True) == first
    other = logged(seed=43)
    assert all(abs(a - b) > 1e-4 for a, b in zip(first, other, strict=True))
    assert logged(seed=43, data_seed=42) == first  # the seed of the data, where it has one of its own


def test_rows_may_have_columns_that_the_model_does_not_take(family, raml, pairs, losses):
    rows = pairs(8)
    noted = [{**row, "note": "text that no collator can pad"} for row in rows]
    logged = []
    for some in (rows, noted, Dataset.from_list(noted)):
        run = raml(family("t5"), some, max_steps=1, **HOT)
        run.train()
        logged.append(losses(run))
    assert logged[0] == logged[1] == logged[2]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_draws_what_its_rows_would_in_memory(workers, family, raml, pairs):
    rows = Dataset.from_list(pairs(24))
    ends = []
    for some in (rows, rows.to_iterable_dataset(num_shards=2 if workers else 1)):
        run = raml(
            family("rnn_seq2seq"), some, max_steps=3, per_device_train_batch_size=4, gradient_accumulation_steps=2,
            train_sampling_strategy="sequential", temperature_schedule="linear", temperature_start=0.5,
            dataloader_num_workers=0 if some is rows else workers, **HOT,
        )  # fmt: skip
        run.train()
        ends.append((parameters_of(run.model), [row for row in run.state.log_history if "loss" in row]))
    keys = ("raml/temperature",) if workers else ("loss", "raml/temperature", "raml/edit_rate")  # shards: other batches
    for key in keys:
        assert [row[key] for row in ends[0][1]] == [row[key] for row in ends[1][1]]
    assert workers or torch.equal(ends[0][0], ends[1][0])


# ---- several draws and weighted candidates ----


def test_several_draws_of_a_reference_average_their_losses(family, raml, pairs):
    # Hamming draws are as long as their reference, so the mean over all labels is the mean of the three losses.
    rows = pairs(5)
    model = family("t5")
    run = raml(model, rows, temperature=1.5, num_samples=3)
    batch, draws = split_draws(run.raml_collator(rows))
    assert len(batch["labels"]) == 15 and len({tuple(row) for row in batch["labels"][:3].tolist()}) > 1
    parts = [{name: values[k::3] for name, values in batch.items()} for k in range(3)]
    separate = [run.compute_loss(model, part) for part in parts]
    torch.testing.assert_close(run.compute_loss(model, batch), torch.stack(separate).mean())
    one = raml(family("t5"), rows, temperature=1.5)
    assert torch.equal(parts[0]["labels"], one.raml_collator(rows)["labels"])  # the first draw is that of one draw


def length_reward(candidate, reference) -> float:
    """The more 7s, the better; of unequal value, so that weights differ."""
    return float(sum(token == 7 for token in candidate)) + 0.1 * len(candidate)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_weighted_update_is_the_weighted_sum_over_candidates(fast, accumulation, family, raml, pairs, losses):
    from hf_localgan.payoff.edit import EditPayoff

    rows = pairs(4)
    payoff = ImportancePayoff(EditPayoff(REGULAR, 1.5), length_reward, num_candidates=3, temperature=0.5)
    model, reference = family("bart"), family("bart")
    run = raml(
        model, rows, sampler=payoff, weighted=True, fast_loss=fast, max_steps=1, learning_rate=1.0,
        train_sampling_strategy="sequential", gradient_accumulation_steps=accumulation,
        per_device_train_batch_size=4 // accumulation,
    )  # fmt: skip
    batch, draws = split_draws(run.raml_collator(rows))
    weights = draws["raml_weights"]
    assert len(weights) == 12 and weights.std() > 0.01
    torch.testing.assert_close(weights.view(4, 3).sum(1), torch.ones(4))
    number = (weights * (batch["labels"] != -100).sum(1)).sum()
    expected = (weights * summed_nll(reference, batch)).sum() / number
    expected.backward()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    run.train()
    assert losses(run) == [pytest.approx(expected.item(), rel=1e-5)]
    moved = zip(model.named_parameters(), before, reference.parameters(), strict=True)
    for (label, parameter), old, other in moved:
        torch.testing.assert_close(old - parameter, other.grad, atol=2e-6, rtol=1e-4, msg=label)
    assert losses(run, "raml/effective_sample_size") == [pytest.approx(draws["raml_effective_sample_size"].mean())]
    edits = (weights * draws["raml_edits"]).sum() / (weights * draws["raml_lengths"]).sum()
    assert losses(run, "raml/edit_rate") == [pytest.approx(edits.item(), rel=1e-5)]


def test_outputs_come_with_the_same_loss_of_weighted_candidates(family, raml, pairs):
    payoff = ImportancePayoff(HammingPayoff(REGULAR, 1.5), length_reward, num_candidates=4, temperature=0.5)
    model = family("t5")
    run = raml(model, pairs(3), sampler=payoff, weighted=True)
    batch = run.raml_collator(pairs(3))
    loss, outputs = run.compute_loss(model, batch, return_outputs=True)
    torch.testing.assert_close(loss, run.compute_loss(model, batch))
    assert outputs.logits.shape[:2] == batch["labels"].shape


# ---- the log ----


def test_edit_rate_and_histogram_are_ratios_of_sums_since_the_last_line(family, raml, losses):
    # First tokens 4, 5, 6, 7 | 8, 9, 13, 14 | ... give 0, 1, 2, 3 | 4, 5, 9, 10 edits; bodies of 1, 2, 3, 4 tokens.
    def row(first: int, length: int) -> dict:
        labels = [first] + [4] * (length - 1) + [2]
        return {"input_ids": [5, 2], "attention_mask": [1, 1], "labels": labels}

    rows = [row(4, 1), row(5, 2), row(6, 3), row(7, 4), row(8, 1), row(9, 2), row(13, 3), row(14, 4)]
    rows += [row(4, 1)] * 8
    run = raml(
        family("t5"), rows, rows[:3], sampler=Scripted(), max_steps=4, per_device_train_batch_size=2, logging_steps=2,
        gradient_accumulation_steps=2, train_sampling_strategy="sequential", eval_strategy="steps", eval_steps=1,
    )  # fmt: skip
    run.train()
    # First line: (0 + 1 + 2 + 3 + 4 + 5 + 9 + 10) / (2 * (1 + 2 + 3 + 4)) = 34 / 20. Batches have rates of 1/3, 5/7,
    # 3 and 19/7, whose mean would be 1.69. Second line: no edits.
    assert losses(run, "raml/edit_rate") == [pytest.approx(1.7), 0.0]
    assert losses(run, "raml/temperature") == [1.0, 1.0]
    shares = {"0": 1, "1": 1, "2": 1, "3": 1, "4": 1, "5_9": 2, "10_up": 1}
    for name, count in shares.items():
        assert losses(run, f"raml/edits_{name}") == [pytest.approx(count / 8), float(name == "0")]
    assert losses(run, "raml/effective_sample_size") == []
    assert all("loss" in line for line in run.state.log_history if "raml/edit_rate" in line)


def test_the_edit_rate_asked_for_is_the_one_logged(family, raml, pairs, losses):
    # 200 references of 1 to 11 tokens, about 1,200 in all: a share of 0.2 +- 0.012.
    run = raml(family("rnn_seq2seq"), pairs(200), edit_rate=0.2, max_steps=1, per_device_train_batch_size=200)
    run.train()
    assert losses(run, "raml/edit_rate") == [pytest.approx(0.2, abs=0.05)]


def test_a_schedule_ends_with_the_training(family, raml, pairs, losses):
    def temperatures(**settings):
        run = raml(
            family("t5"), pairs(12), per_device_train_batch_size=3, gradient_accumulation_steps=2, num_train_epochs=2,
            temperature=0.8, **settings,
        )  # fmt: skip
        run.train()
        return losses(run, "raml/temperature")

    # 4 batches an epoch: 2 updates, so 4 in all, from 0 by 0.2 a step.
    assert temperatures(temperature_schedule="linear") == pytest.approx([0.0, 0.2, 0.4, 0.6])
    falling = temperatures(temperature_schedule="linear", temperature_start=1.6, dataloader_num_workers=2)
    assert falling == pytest.approx([1.6, 1.4, 1.2, 1.0])
    # (1 - cos(pi k / 4)) / 2 = 0, 0.1464, 0.5, 0.8536
    assert temperatures(temperature_schedule="cosine") == pytest.approx([0.0, 0.11716, 0.4, 0.68284], abs=1e-5)
    assert temperatures() == pytest.approx([0.8] * 4)


# ---- other models, other collators ----


def test_adapters_train_on_draws_and_leave_the_model_alone(family, raml, pairs, losses):
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules=["q", "v"])
    model = get_peft_model(family("t5"), config)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    run = raml(model, pairs(12), max_steps=3, sampler=Scripted())
    run.train()
    assert all(rate > 0 for rate in losses(run, "raml/edit_rate"))
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) != ("lora_" in name), name


def test_a_raml_collator_is_used_as_it_is(family, pairs, tiny_tokenizer, tmp_path):
    inner = DataCollatorForSeq2Seq(tiny_tokenizer)
    given = RamlCollator(inner, Scripted(), num_samples=2)
    args = RamlConfig(str(tmp_path), use_cpu=True, max_steps=1, save_strategy="no", disable_tqdm=True)
    run = RamlTrainer(family("t5"), args, data_collator=given, train_dataset=pairs(8), eval_dataset=pairs(2))
    assert run.raml_collator is given and run.data_collator is inner
    assert run.get_train_dataloader().collate_fn.data_collator is given
    run.train()
    assert run.evaluate()["eval_tokens"] == sum(len(row["labels"]) for row in pairs(2))


# ---- what is refused ----


def test_two_samplers_are_refused(family, collate):
    args = RamlConfig("unused", use_cpu=True)
    with pytest.raises(ValueError, match=r"Got a `RamlCollator`.* and a `payoff`"):
        RamlTrainer(family("t5"), args, payoff=Scripted(), data_collator=RamlCollator(collate, Scripted()))


def test_other_arguments_are_refused(family):
    with pytest.raises(ValueError, match=r"`args` must be a `RamlConfig`, got MleConfig"):
        RamlTrainer(family("t5"), MleConfig("unused", use_cpu=True))


def test_without_a_tokenizer_a_payoff_is_asked_for(family, collate):
    with pytest.raises(ValueError, match=r"The tokens that may be drawn are unknown.*`processing_class`"):
        RamlTrainer(family("t5"), RamlConfig("unused", use_cpu=True), data_collator=collate)


def test_weights_are_asked_of_a_sampler_that_has_them(family, raml, pairs):
    with pytest.raises(ValueError, match=r"`weighted` trains on the candidates of `payoff: importance`"):
        raml(family("t5"), pairs(2), weighted=True)
    with pytest.raises(ValueError, match=r"`weighted=True` needs a sampler of weighted candidates.*HammingPayoff"):
        raml(family("t5"), pairs(2), sampler=HammingPayoff(REGULAR, 0.5), weighted=True)


@pytest.mark.parametrize(
    "fields",
    [
        {"num_samples": 2}, {"weighted": True}, {"temperature_schedule": "linear"}, {"temperature": 0.85},
        {"edit_rate": 0.1}, {"payoff": "edit"},
    ],
    ids=lambda fields: next(iter(fields)),
)  # fmt: skip
def test_settings_beside_a_ready_collator_or_sampler_that_nothing_reads_are_refused(fields, family, raml, collate):
    (name,), model = fields, family("t5")
    args = RamlConfig("unused", use_cpu=True, **fields)
    with pytest.raises(ValueError, match=rf"`args` set `{name}` .* the given RamlCollator has its own settings"):
        RamlTrainer(model, args, data_collator=RamlCollator(collate, Scripted()))
    if name in ("temperature", "edit_rate", "payoff"):
        with pytest.raises(ValueError, match=rf"`args` set `{name}` .* the given Scripted has"):
            raml(model, sampler=Scripted(), **fields)
    elif name != "weighted":
        raml(model, sampler=Scripted(), **fields)


@pytest.mark.parametrize("schedule", ["constant", "linear"])
def test_what_is_neither_a_sampler_nor_the_name_of_one(schedule, family, raml):
    with pytest.raises(ValueError, match=r"`payoff` must be a sampler, .* got 3.*RamlConfig\(payoff=...\)"):
        raml(family("t5"), sampler=3, temperature_schedule=schedule)
    with pytest.raises(ValueError, match='`payoff` must be one of hamming, edit, .*got "edits"'):
        raml(family("t5"), sampler="edits", temperature_schedule=schedule)
    named = raml(family("t5"), sampler="edit", temperature_schedule=schedule)
    assert type(named.raml_collator.payoff).__name__ == "EditPayoff" and named.args.temperature_schedule == schedule


def test_a_sampler_of_special_tokens_is_refused(family, raml, pairs):
    with pytest.raises(ValueError, match=r"special"):
        raml(family("t5"), pairs(2), sampler=HammingPayoff(range(20), 0.9))


@pytest.mark.parametrize("token", [25, -3])
def test_labels_outside_of_the_vocabulary_are_refused(token, family, raml, pairs):
    rows = [{**row, "labels": [5, token, 2]} for row in pairs(2)]
    with pytest.raises(ValueError, match=str(token)):
        raml(family("t5"), rows, max_steps=1).train()


def test_a_reward_that_is_no_number_stops_the_training_and_says_so(family, raml, pairs):
    payoff = ImportancePayoff(HammingPayoff(REGULAR, 1.5), lambda *_: float("nan"), num_candidates=2, temperature=0.5)
    with pytest.raises(ValueError, match=r"(?i)nan"):
        raml(family("t5"), pairs(2), sampler=payoff, max_steps=1).train()
