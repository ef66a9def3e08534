"""The hidden states before the output layer: when they can be had, and that nothing is left behind."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import T5ForConditionalGeneration

from hf_localgan.models import RnnSeq2SeqForConditionalGeneration
from hf_localgan.models.output_head import finish_inside, head_is_separable, output_head

FAMILIES = ("rnn_seq2seq", "t5", "bart", "marian", "encoder_decoder")


@pytest.fixture
def inputs(pairs, collate):
    """A batch for a forward without labels."""
    batch = dict(collate(pairs(3)))
    labels = batch.pop("labels")
    return {**batch, "decoder_input_ids": labels.clamp(min=0).roll(1, dims=1), "use_cache": False}


def patched(model) -> list[str]:
    return [name for name, module in model.named_modules() if "forward" in module.__dict__]


def rebuilt(hidden, weight, bias):
    return hidden @ weight.T + (0 if bias is None else bias)


class SoftCapped(T5ForConditionalGeneration):
    def forward(self, *args, **kwargs):
        outputs = super().forward(*args, **kwargs)
        outputs.logits = 100 * torch.tanh(outputs.logits / 100)
        return outputs


class Shifted(T5ForConditionalGeneration):
    def forward(self, *args, **kwargs):
        outputs = super().forward(*args, **kwargs)
        outputs.logits = outputs.logits + 0.001 * outputs.encoder_last_hidden_state.mean()
        return outputs


@pytest.mark.parametrize("name", FAMILIES)
def test_hidden_states_times_the_output_layer_are_the_logits(name, family, inputs):
    model = family(name)
    assert head_is_separable(model, inputs)
    logits = model(**inputs).logits
    torch.testing.assert_close(finish_inside(model, model, inputs, rebuilt), logits)
    assert patched(model) == []
    torch.testing.assert_close(model(**inputs).logits, logits, atol=0, rtol=0)  # BART's added bias is back


@pytest.mark.parametrize("cls", [SoftCapped, Shifted])
def test_something_behind_the_output_layer_is_noticed_even_where_logits_are_small(cls, family, inputs):
    # tanh(x / 100) * 100 differs from x by x^3 / 30000: by 3e-8 for logits of 0.1
    model = cls(family("t5").config).eval()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(0.01)
    assert output_head(model) is not None
    assert not head_is_separable(model, inputs)
    assert patched(model) == []


@pytest.mark.parametrize("name", FAMILIES)
def test_large_logits_in_bfloat16_are_no_reason_to_give_up(name, family, inputs):
    model = family(name)
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(50)
    assert head_is_separable(model.bfloat16(), inputs)


def test_trying_leaves_the_random_state_and_the_mode_as_they_were(family, inputs):
    model = family("bart", dropout=True).train()
    before = torch.get_rng_state()
    assert head_is_separable(model, inputs)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training and model.model.encoder.training


@pytest.mark.parametrize("name", FAMILIES)
def test_everything_is_put_back_when_an_error_flies(name, family, inputs):
    model = family(name)
    logits = model(**inputs).logits

    def fail(hidden, weight, bias):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finish_inside(model, model, inputs, fail)
    with pytest.raises((ValueError, TypeError, AttributeError, RuntimeError)):
        finish_inside(model, model, {**inputs, "decoder_input_ids": "no tensor"}, rebuilt)
    assert patched(model) == []
    torch.testing.assert_close(model(**inputs).logits, logits, atol=0, rtol=0)


def test_a_forward_that_was_put_on_the_instance_stays_there(family, inputs):
    model = family("t5")
    calls, forward = [], model.forward

    def counting(*args, **kwargs):
        calls.append(1)
        return forward(*args, **kwargs)

    model.forward = counting  # as accelerate does for mixed precision
    finish_inside(model, model, inputs, rebuilt)
    assert calls == [1]
    assert model.__dict__["forward"] is counting


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_lora_in_the_body_trains_with_the_fast_loss_and_leaves_the_base_alone(name, family, trainer, pairs, losses):
    rows, runs = pairs(8), []
    for fast in (True, False):
        torch.manual_seed(0)
        targets = {"t5": ["q", "v"], "bart": ["q_proj", "v_proj"]}[name]
        base = family(name)
        model = get_peft_model(base, LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules=targets))
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if "lora_B" in key:
                    parameter.normal_(std=0.1)
        run = trainer(model, rows, fast_loss=fast, max_steps=2, gradient_accumulation_steps=2)
        run.train()
        assert run._separable is fast
        assert patched(model) == []
        adapters = [p.detach().clone() for p in model.parameters() if p.requires_grad]
        runs.append((losses(run), adapters))
        original = dict(family(name).named_parameters())
        for key, parameter in base.named_parameters():
            if "lora" not in key:
                assert torch.equal(parameter, original[key.replace("base_layer.", "")]), key
    assert runs[0][0] == pytest.approx(runs[1][0], abs=1e-6)
    for fast, plain in zip(runs[0][1], runs[1][1], strict=True):
        torch.testing.assert_close(fast, plain, atol=1e-6, rtol=1e-5)


def test_lora_on_the_output_layer_goes_the_plain_way(tiny_t5, trainer, pairs):
    config = LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules=["q", "lm_head"])
    model = get_peft_model(tiny_t5(tie_word_embeddings=False), config)
    assert output_head(model) is None
    run = trainer(model, pairs(4), max_steps=1)
    run.train()
    assert run._separable is False
    moved = [key for key, parameter in model.named_parameters() if "lm_head.lora_B" in key and parameter.any()]
    assert moved  # the adapter of the head has learned


def test_a_head_of_another_class_goes_the_plain_way(tiny_config, inputs):
    class Scaled(nn.Linear):
        def forward(self, hidden):
            return 2 * super().forward(hidden)

    model = RnnSeq2SeqForConditionalGeneration(tiny_config(tie_word_embeddings=False))
    model.set_output_embeddings(Scaled(8, 20))
    assert output_head(model) is None
    assert not head_is_separable(model, inputs)
