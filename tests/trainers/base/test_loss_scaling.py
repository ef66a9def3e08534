"""The token loss: its scale under accumulation, its definition, and what the parameters learn from it."""

from copy import deepcopy

import pytest
import torch
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

FAMILIES = ("rnn_seq2seq", "t5", "bart", "marian", "encoder_decoder")


def parameters_of(model) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def token_mean(model, batch: dict, smoothing: float = 0.0) -> torch.Tensor:
    """The definition: mean over all labels of the batch, from the model's own logits."""
    labels = batch["labels"]
    decoder = model.prepare_decoder_input_ids_from_labels(labels=labels)
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    log_probs = model(**inputs, decoder_input_ids=decoder).logits.log_softmax(dim=-1)
    kept = labels != -100
    at_label = log_probs.gather(2, labels.clamp(min=0).unsqueeze(2)).squeeze(2)
    return -((1 - smoothing) * at_label + smoothing * log_probs.mean(dim=2))[kept].sum() / kept.sum()


@pytest.mark.parametrize("name", FAMILIES)
def test_updates_are_equal_for_every_accumulation_and_both_ways_to_the_loss(name, family, trainer, pairs, losses):
    rows, runs = pairs(16), {}
    for fast in (True, False):
        for accumulation in (1, 2, 4):
            model = family(name)
            run = trainer(
                model, rows, fast_loss=fast, gradient_accumulation_steps=accumulation,
                per_device_train_batch_size=8 // accumulation, max_steps=2,
            )  # fmt: skip
            run.train()
            assert run._separable is fast
            runs[fast, accumulation] = (parameters_of(model), torch.tensor(losses(run)))
    moved = (runs[True, 1][0] - parameters_of(family(name))).abs().max()
    assert moved > 0.01
    for updated, logged in runs.values():
        torch.testing.assert_close(updated, runs[False, 1][0], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(logged, runs[False, 1][1], atol=1e-6, rtol=1e-6)


def test_the_stock_trainer_doubles_the_update_of_t5_under_accumulation_two(
    family, tiny_tokenizer, pairs, collate, tmp_path
):
    # T5 ignores `num_items_in_batch` and returns means of its batches; the Trainer adds the two and does not halve.
    def update(accumulation: int) -> torch.Tensor:
        model = family("t5")
        args = Seq2SeqTrainingArguments(
            str(tmp_path), use_cpu=True, optim="sgd", max_grad_norm=0.0, learning_rate=1e-3, max_steps=1, seed=1,
            per_device_train_batch_size=8 // accumulation, gradient_accumulation_steps=accumulation, report_to="none",
            save_strategy="no", disable_tqdm=True, dataloader_pin_memory=False, lr_scheduler_type="constant",
        )  # fmt: skip
        rows = [pairs(1)[0]] * 8  # equal lengths, so that a mean of means is the mean
        Seq2SeqTrainer(model, args, train_dataset=rows, data_collator=collate).train()
        return parameters_of(model) - parameters_of(family("t5"))

    ratio = update(2).norm() / update(1).norm()
    assert ratio.item() == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("fast", [True, False])
def test_loss_and_gradient_follow_the_definition_with_and_without_smoothing(
    name, fast, family, trainer, pairs, collate
):
    batch = collate(pairs(6))
    for smoothing in (0.0, 0.3):
        model, reference = family(name), family(name)
        run = trainer(model, fast_loss=fast, label_smoothing_factor=smoothing)
        loss = run.compute_loss(model.train(), dict(batch))
        loss.backward()
        expected = token_mean(reference.train(), batch, smoothing)
        expected.backward()
        torch.testing.assert_close(loss, expected)
        for (label, parameter), other in zip(model.named_parameters(), reference.parameters(), strict=True):
            if other.grad is None:  # BERT's pooler
                assert parameter.grad is None or not parameter.grad.any(), label
            else:
                torch.testing.assert_close(parameter.grad, other.grad, atol=1e-6, rtol=1e-4, msg=label)


def test_smoothing_is_left_out_of_evaluation(family, trainer, pairs, collate):
    rows = pairs(6)
    model = family("t5")
    plain = trainer(model, evaluate=rows).evaluate()
    smoothed = trainer(model, evaluate=rows, label_smoothing_factor=0.3).evaluate()
    assert smoothed["eval_loss"] == plain["eval_loss"]
    assert plain["eval_loss"] == pytest.approx(token_mean(model, collate(rows)).item(), abs=1e-6)


def test_the_logged_loss_is_in_nats_per_token_and_averages_the_steps_since_the_last_line(
    family, trainer, pairs, collate, losses
):
    rows = pairs(8)
    model = family("rnn_seq2seq")
    first, second = token_mean(model, collate(rows[:4])), token_mean(model, collate(rows[4:]))
    run = trainer(
        model, rows, learning_rate=0.0, logging_steps=2, max_steps=2, per_device_train_batch_size=2,
        gradient_accumulation_steps=2, train_sampling_strategy="sequential",
    )  # fmt: skip
    result = run.train()
    expected = (first + second).item() / 2
    assert losses(run) == [pytest.approx(expected, abs=1e-6)]
    assert result.training_loss == pytest.approx(expected, abs=1e-6)


def test_each_token_weighs_the_same_however_long_its_response_is(family, trainer, pairs, collate):
    # Responses of 1 and of 12 tokens, one per accumulated batch. A mean of the two means would give the single token
    # of the first the weight of all twelve of the second.
    short, long = pairs(2)
    short, long = {**short, "labels": [2]}, {**long, "labels": list(range(4, 15)) + [2]}
    model, reference = family("bart"), family("bart")
    token_mean(reference, collate([short, long])).backward()
    run = trainer(
        model, [short, long], learning_rate=1.0, gradient_accumulation_steps=2, per_device_train_batch_size=1,
        max_steps=1,
    )  # fmt: skip
    before = deepcopy(model.state_dict())
    run.train()
    for name, parameter in reference.named_parameters():
        moved = before[name] - model.state_dict()[name]
        torch.testing.assert_close(moved, parameter.grad, atol=2e-6, rtol=1e-4, msg=name)


def test_a_batch_without_any_label_trains_to_zero_loss_and_moves_nothing(family, trainer, pairs, losses):
    rows = [{**row, "labels": [-100] * len(row["labels"])} for row in pairs(4)]
    model = family("t5")
    run = trainer(model, rows, max_steps=1, logging_nan_inf_filter=False)
    run.train()
    assert losses(run) == [0.0]
    torch.testing.assert_close(parameters_of(model), parameters_of(family("t5")), atol=0, rtol=0)


def test_models_without_a_method_to_shift_labels_are_shifted_as_their_forward_does(trainer, pairs, collate):
    from transformers import BlenderbotConfig, BlenderbotForConditionalGeneration

    torch.manual_seed(0)
    sides = {f"{side}_{size}": 2 for side in ("encoder", "decoder") for size in ("layers", "attention_heads")}
    model = BlenderbotForConditionalGeneration(
        BlenderbotConfig(
            vocab_size=20,
            d_model=8,
            encoder_ffn_dim=8,
            decoder_ffn_dim=8,
            max_position_embeddings=32,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
            **sides,
        )  # fmt: skip
    ).eval()
    batch = collate(pairs(5))
    ours = trainer(model).compute_loss(model, dict(batch))
    torch.testing.assert_close(ours, model(**batch).loss)  # one batch: the model's own mean is right
