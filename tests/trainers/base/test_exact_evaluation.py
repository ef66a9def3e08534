"""Evaluation: exact for any batch size, with generation, with logits, over several data sets."""

import math

import pytest
import torch


def token_mean(model, rows: list[dict], collate) -> tuple[float, int]:
    """Mean negative log-likelihood over all tokens, one example at a time in float64, and the number of tokens."""
    model = model.double()
    nats, tokens = 0.0, 0
    for row in rows:
        batch = collate([row])
        outputs = model(**batch)
        nats -= outputs.logits.log_softmax(-1).gather(2, batch["labels"].unsqueeze(2)).sum().item()
        tokens += batch["labels"].numel()
    model.float()
    return nats / tokens, tokens


@pytest.mark.parametrize("name", ["rnn_seq2seq", "t5", "bart", "marian", "encoder_decoder"])
def test_loss_is_the_token_mean_for_any_batch_size_and_perplexity_its_exponential(
    name, family, trainer, pairs, collate
):
    rows, model = pairs(7), family(name)
    expected, tokens = token_mean(model, rows, collate)
    for batch_size, fast in [(1, True), (2, False), (3, True), (7, False), (64, True)]:
        metrics = trainer(model, evaluate=rows, per_device_eval_batch_size=batch_size, fast_loss=fast).evaluate()
        assert metrics["eval_loss"] == pytest.approx(expected, abs=2e-6)
        assert metrics["eval_perplexity"] == math.exp(metrics["eval_loss"])
        assert metrics["eval_tokens"] == tokens == sum(len(row["labels"]) for row in rows)


def test_the_mean_is_over_tokens_and_not_over_batches(family, trainer, pairs, collate):
    # One response of 1 token and one of 12, in batches of one: a mean of batch means would weigh them equally.
    first, second = pairs(2)
    rows = [{**first, "labels": [2]}, {**second, "labels": list(range(4, 15)) + [2]}]
    model = family("t5")
    (short, _), (long, _) = (token_mean(model, [row], collate) for row in rows)
    loss = trainer(model, evaluate=rows, per_device_eval_batch_size=1).evaluate()["eval_loss"]
    assert loss == pytest.approx((short + 12 * long) / 13, abs=2e-6)
    assert abs(loss - (short + long) / 2) > 1e-3


def test_several_data_sets_are_named_in_the_metrics_and_do_not_mix(family, trainer, pairs, collate):
    sets = {"close": pairs(3), "far": pairs(5, seed=1)}
    model = family("rnn_seq2seq")
    metrics = trainer(model, evaluate=sets, per_device_eval_batch_size=2).evaluate()
    for name, rows in sets.items():
        expected, tokens = token_mean(model, rows, collate)
        assert metrics[f"eval_{name}_loss"] == pytest.approx(expected, abs=2e-6)
        assert metrics[f"eval_{name}_perplexity"] == pytest.approx(math.exp(expected), rel=1e-5)
        assert metrics[f"eval_{name}_tokens"] == tokens


def test_predict_reports_under_its_own_prefix_and_returns_logits(family, trainer, pairs, collate):
    rows, model = pairs(5), family("rnn_seq2seq")
    output = trainer(model, per_device_eval_batch_size=2).predict(rows)
    assert output.metrics["test_loss"] == pytest.approx(token_mean(model, rows, collate)[0], abs=2e-6)
    logits = output.predictions[0] if isinstance(output.predictions, tuple) else output.predictions
    assert logits.shape == (5, max(len(row["labels"]) for row in rows), 20)


@pytest.mark.parametrize("name", ["rnn_seq2seq", "t5"])
def test_compute_metrics_sees_logits_and_labels_of_every_example(name, family, trainer, pairs, collate):
    rows, model, seen = pairs(7), family(name), {}

    def accuracy(prediction):
        logits = prediction.predictions
        logits = torch.as_tensor(logits[0] if isinstance(logits, tuple) else logits)
        labels = torch.as_tensor(prediction.label_ids)
        seen["examples"] = len(labels)
        kept = labels != -100
        return {"accuracy": (logits.argmax(-1) == labels)[kept].float().mean().item()}

    metrics = trainer(model, evaluate=rows, compute_metrics=accuracy, per_device_eval_batch_size=3).evaluate()
    batch = collate(rows)
    hits = (model(**batch).logits.argmax(-1) == batch["labels"]).sum().item()  # -100 is never the best token
    assert metrics["eval_accuracy"] == pytest.approx(hits / (batch["labels"] != -100).sum().item())
    assert metrics["eval_loss"] == pytest.approx(token_mean(model, rows, collate)[0], abs=2e-6)
    assert seen["examples"] == 7


@pytest.mark.parametrize("name", ["rnn_seq2seq", "t5", "bart"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_predict_with_generate_gives_greedy_answers_and_the_exact_loss(
    name, smoothing, family, trainer, pairs, collate
):
    rows, model, seen = pairs(5), family(name), {}

    def keep(prediction):
        seen["generated"], seen["labels"] = prediction.predictions, prediction.label_ids
        return {"kept": 1.0}

    run = trainer(
        model, evaluate=rows, compute_metrics=keep, predict_with_generate=True, generation_max_length=6,
        per_device_eval_batch_size=2, label_smoothing_factor=smoothing,
    )  # fmt: skip
    calls = []
    handle = model.register_forward_hook(lambda module, args, outputs: calls.append(outputs), always_call=True)
    metrics = run.evaluate()
    handle.remove()
    assert metrics["eval_kept"] == 1.0
    assert metrics["eval_loss"] == pytest.approx(token_mean(model, rows, collate)[0], abs=2e-6)
    batch = collate(rows[:2])
    expected = model.generate(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], max_length=6, do_sample=False
    )
    assert seen["generated"][:2, : expected.shape[1]].tolist() == expected.tolist()
    for labels, row in zip(seen["labels"], rows, strict=True):
        assert labels[: len(row["labels"])].tolist() == row["labels"]
        assert (labels[len(row["labels"]) :] == -100).all()
    assert calls and all(getattr(outputs, "loss", None) is None for outputs in calls)  # no loss of the model's own


def test_generating_in_evaluation_leaves_the_models_settings_of_generation_alone(family, trainer, pairs):
    model = family("rnn_seq2seq")
    model.generation_config.repetition_penalty = 1.5
    before = dict(vars(model.generation_config))
    trainer(model, evaluate=pairs(3), predict_with_generate=True).evaluate()
    assert vars(model.generation_config) == before and before["max_length"] is None


def test_labels_made_by_the_collator_do_not_start_the_generation(family, tiny_tokenizer, trainer, pairs, collate):
    # With `model=` the collator adds `decoder_input_ids` from the labels; generating from them would quote the answer.
    model = family("bart")
    answers = []
    for given in (None, model):
        collate.model = given
        run = trainer(model, evaluate=pairs(4), predict_with_generate=True, generation_max_length=5)
        answers.append(run.predict(pairs(4)).predictions.tolist())
    assert answers[0] == answers[1]


def test_evaluation_without_labels_still_predicts(family, trainer, pairs):
    rows = [{name: value for name, value in row.items() if name != "labels"} for row in pairs(3)]
    run = trainer(family("rnn_seq2seq"), predict_with_generate=True, generation_max_length=5)
    output = run.predict(rows)
    assert len(output.predictions) == 3
    assert "test_loss" not in output.metrics


def test_evaluation_repeats_exactly_with_dropout_in_the_model_and_changes_no_parameter(family, trainer, pairs):
    model = family("t5", dropout=True).train()
    run = trainer(model, evaluate=pairs(4))
    parameters = [parameter.clone() for parameter in model.parameters()]
    assert run.evaluate()["eval_loss"] == run.evaluate()["eval_loss"]
    for before, after in zip(parameters, model.parameters(), strict=True):
        assert torch.equal(before, after)
