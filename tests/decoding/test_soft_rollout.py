import sys

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    BertConfig,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    MarianConfig,
    MarianMTModel,
    T5ForConditionalGeneration,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from hf_localgan.decoding import soft_rollout
from hf_localgan.decoding.soft_rollout import decoder_embeddings

rollouts = sys.modules["hf_localgan.decoding.soft_rollout"]  # the package's attribute of that name is the function
IDS = torch.tensor([[4, 5, 6, 2], [7, 8, 2, 0], [9, 2, 0, 0]])
MASK = (IDS != 0).long()


def marian():
    sizes = {"vocab_size": 20, "d_model": 8, "max_position_embeddings": 32, "scale_embedding": True}
    for side in ("encoder", "decoder"):
        sizes |= {f"{side}_layers": 1, f"{side}_attention_heads": 2, f"{side}_ffn_dim": 16}
    tokens = {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 1, "forced_eos_token_id": None}
    return MarianMTModel(MarianConfig(**sizes, **tokens)).eval()


def bert_pair():
    half = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    half |= {"intermediate_size": 16, "max_position_embeddings": 32}
    config = EncoderDecoderConfig.from_encoder_decoder_configs(BertConfig(**half), BertConfig(**half))
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 1, 0, 2
    return EncoderDecoderModel(config=config).eval()


def lora(model):
    adapted = get_peft_model(model, LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=["q", "v"], r=2))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:  # 0 at the start
            torch.nn.init.normal_(parameter, std=0.5)
    return adapted.eval()


@pytest.fixture(params=["rnn", "rnn input feeding", "t5", "bart", "marian", "bert pair", "lora"])
def generator(request, tiny_generator, tiny_t5, tiny_bart):
    torch.manual_seed(0)
    kinds = {
        "rnn": tiny_generator,
        "rnn input feeding": lambda: tiny_generator(input_feeding=True, cell_type="lstm"),
        "t5": tiny_t5,
        "bart": lambda: tiny_bart(scale_embedding=True),
        "marian": marian,
        "bert pair": bert_pair,
        "lora": lambda: lora(tiny_t5()),
    }
    return kinds[request.param]().double()


def test_with_and_without_a_cache_outputs_and_gradients_are_equal(generator):
    found = []
    parameters = [parameter for parameter in generator.parameters() if parameter.requires_grad]
    for use_cache in (True, False):
        rollout = soft_rollout(generator, IDS, MASK, max_length=5, temperature=0.7, use_cache=use_cache)
        loss = (rollout.weights.square().sum(dim=2) * rollout.mask).sum() + rollout.end_probabilities[:, -1].sum()
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        found.append((rollout, [torch.zeros(()) if one is None else one for one in gradients]))
    (cached, gradients), (plain, others) = found
    torch.testing.assert_close(cached.weights, plain.weights, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(gradients, others, rtol=1e-5, atol=1e-8)
    assert sum(float(one.abs().sum()) for one in gradients) > 0


def test_hard_tokens_without_noise_are_greedy_decoding(generator):
    rollout = soft_rollout(generator, IDS, MASK, max_length=6, relaxation="straight_through", noise_scale=0.0)
    settings = {"do_sample": False, "num_beams": 1, "max_new_tokens": 6, "forced_bos_token_id": None}
    greedy = generator.generate(input_ids=IDS, attention_mask=MASK, **settings)[:, 1:]
    for row, tokens in enumerate(greedy.tolist()):
        tokens = tokens[: tokens.index(2)] if 2 in tokens else tokens
        assert rollout.best[row, : int(rollout.lengths[row])].tolist() == tokens
    assert set(rollout.weights.unique().tolist()) == {0.0, 1.0}


def test_longer_neighbours_and_padding_change_nothing(generator):
    together = soft_rollout(generator, IDS, MASK, max_length=4)
    for row, length in enumerate(MASK.sum(dim=1).tolist()):
        alone = soft_rollout(generator, IDS[row : row + 1, :length], MASK[row : row + 1, :length], max_length=4)
        steps = alone.weights.shape[1]
        torch.testing.assert_close(together.weights[row, :steps], alone.weights[0], rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(together.mask[row, :steps], alone.mask[0])


@pytest.mark.parametrize("relaxation", ["softmax", "gumbel"])
def test_gradient_against_finite_differences(tiny_generator, relaxation):
    model = tiny_generator().double()
    weight = model.lm_head.weight
    direction = torch.randn(weight.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    target = torch.randn(3, 4, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def loss():
        noise = torch.Generator().manual_seed(5)
        settings = {"relaxation": relaxation, "temperature": 0.8, "generator": noise}
        weights = soft_rollout(model, IDS, MASK, max_length=4, **settings).weights
        return (weights * target[:, : weights.shape[1]]).sum()

    (gradient,) = torch.autograd.grad(loss(), weight)
    step = 1e-6
    with torch.no_grad():
        weight.add_(direction, alpha=step)
        above = loss()
        weight.add_(direction, alpha=-2 * step)
        below = loss()
        weight.add_(direction, alpha=step)
    torch.testing.assert_close((above - below) / (2 * step), (gradient * direction).sum(), rtol=1e-6, atol=1e-9)


def test_the_k_best_of_the_whole_vocabulary_are_the_whole_vocabulary(tiny_generator):
    model = tiny_generator()
    whole = soft_rollout(model, IDS, MASK, max_length=4)
    assert whole.ids is None
    some = soft_rollout(model, IDS, MASK, max_length=4, top_k=19)
    assert some.ids.shape == some.weights.shape == (3, some.best.shape[1], 19)
    torch.testing.assert_close(some.weights.sum(dim=2), torch.ones_like(some.mask))


def test_the_length_ends_at_the_first_end_token(tiny_generator):
    model = tiny_generator()
    with torch.no_grad():
        model.lm_head.weight.zero_()  # all tokens alike; the least id is the best one
    never = soft_rollout(model, IDS, MASK, max_length=3)
    assert never.best.unique().tolist() == [0] and never.lengths.tolist() == [3, 3, 3]
    torch.testing.assert_close(never.end_probabilities, torch.full((3, 3), 1 / 20))
    torch.testing.assert_close(never.survival[0], torch.tensor([0.95, 0.95**2, 0.95**3]))
    model.generation_config.eos_token_id = [0, 2]  # now 0 ends, too
    ended = soft_rollout(model, IDS, MASK, max_length=3)
    assert ended.best.shape == (3, 1) and ended.lengths.tolist() == [0, 0, 0]  # no step after the last end
    torch.testing.assert_close(ended.end_probabilities, torch.full((3, 1), 2 / 20))


def test_a_later_token_after_the_end_does_not_count(tiny_generator, monkeypatch):
    model = tiny_generator()
    wanted = iter([[5, 2, 6], [2, 7, 6], [8, 8, 8]])  # the best tokens of three steps

    def logits_for(hidden):
        best = torch.tensor(next(wanted))
        return torch.nn.functional.one_hot(best, 20).float()[:, None] * 9 + hidden.sum() * 0

    monkeypatch.setattr(model.lm_head, "forward", logits_for)
    rollout = soft_rollout(model, IDS, MASK, max_length=3)
    assert rollout.mask.tolist() == [[1, 0, 0], [0, 0, 0], [1, 1, 1]]
    assert rollout.lengths.tolist() == [1, 0, 3]


def test_the_tables_scale_is_the_modules_own(tiny_bart):
    model = tiny_bart(scale_embedding=True)
    embed = decoder_embeddings(model)
    torch.testing.assert_close(embed(torch.tensor([5]))[0], embed.weight[5] * 8**0.5)


def test_what_cannot_be_rolled_out_is_refused(tiny_generator, tiny_t5):
    with pytest.raises(ValueError, match="max_length.*got 0"):
        soft_rollout(tiny_generator(), IDS, MASK, max_length=0)
    for name, value in (("top_k", 0), ("temperature", 0.0), ("noise_scale", -1.0), ("relaxation", "hard")):
        with pytest.raises(ValueError, match=f"{name}.*got"):
            soft_rollout(tiny_generator(), IDS, MASK, max_length=2, **{name: value})
    t5 = tiny_t5().train()
    t5.gradient_checkpointing_enable()
    with pytest.raises(ValueError, match="gradient_checkpointing_disable"):
        soft_rollout(t5, IDS, MASK, max_length=2)
    from transformers import GPT2Config, GPT2LMHeadModel

    causal = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2))
    with pytest.raises(ValueError, match="no encoder-decoder"):
        soft_rollout(causal, IDS, MASK, max_length=2)
    sizes = {"vocab_size": 20, "d_model": 8, "num_mel_bins": 4, "max_source_positions": 8, "max_target_positions": 8}
    layers = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    tokens = {"pad_token_id": 0, "eos_token_id": 2, "bos_token_id": 1, "decoder_start_token_id": 1}
    whisper = WhisperForConditionalGeneration(WhisperConfig(**sizes, **layers, **tokens, begin_suppress_tokens=None))
    monkey = type("Speechless", (type(whisper),), {"forward": lambda self, input_ids=None, **kwargs: None})
    whisper.__class__ = monkey
    with pytest.raises(ValueError, match="decoder_inputs_embeds"):
        soft_rollout(whisper, IDS, MASK, max_length=2)


# ---- steps that note what they read ----

MODES = {
    "few": {"top_k": 6, "end_probabilities": False}, "few, ends": {"top_k": 6}, "all": {"end_probabilities": False},
    "all, ends": {},
}  # fmt: skip
EVERY_MODE = pytest.mark.parametrize("mode", MODES)
_NOTED = rollouts._NotedSteps


def noted_and_plain(monkeypatch, model, mode, **settings):
    """The same rollout by noted and by plain steps: both rollouts, and gradients of a loss for the parameters."""
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    found = []
    for road in ("noted", "plain"):
        with monkeypatch.context() as patch:
            if road == "plain":
                patch.setattr(rollouts, "output_head", lambda model: None)
            torch.manual_seed(3)  # of dropout
            noise = torch.Generator().manual_seed(5)
            rollout = soft_rollout(model, IDS, MASK, max_length=5, generator=noise, **MODES[mode], **settings)
        target = torch.randn(rollout.weights.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        loss = (rollout.weights * target * rollout.mask[:, :, None]).sum()
        if rollout.end_probabilities is not None:
            loss = loss + (rollout.survival * target[:, :, 0]).sum()
        gradients = torch.autograd.grad(loss, wanted, allow_unused=True)
        found.append((rollout, [torch.zeros(()) if one is None else one for one in gradients]))
    return found


def is_noted(monkeypatch, model, **settings):
    used = []
    with monkeypatch.context() as patch:
        patch.setattr(rollouts, "_NotedSteps", lambda *given: used.append(1) or _NOTED(*given))
        soft_rollout(model, IDS, MASK, max_length=2, **settings)
    return bool(used)


def assert_norms_are_close(gradients, others, share):
    for gradient, other in zip(gradients, others, strict=True):
        assert gradient.dtype == other.dtype
        assert float((gradient.float() - other.float()).norm()) <= share * float(other.float().norm()) + 1e-5


@EVERY_MODE
@pytest.mark.parametrize("relaxation", ["softmax", "straight_through"])
def test_noted_steps_give_the_tokens_and_gradients_of_plain_ones(generator, mode, relaxation, monkeypatch):
    assert is_noted(monkeypatch, generator, **MODES[mode])
    for use_cache in (True, False):
        settings = {"relaxation": relaxation, "temperature": 0.7, "use_cache": use_cache}
        (noted, gradients), (plain, others) = noted_and_plain(monkeypatch, generator, mode, **settings)
        torch.testing.assert_close(noted.weights, plain.weights, rtol=1e-12, atol=1e-14)
        assert torch.equal(noted.best, plain.best) and torch.equal(noted.mask, plain.mask)
        assert noted.ids is plain.ids or torch.equal(noted.ids, plain.ids)
        torch.testing.assert_close(gradients, others, rtol=1e-9, atol=1e-12)
    assert sum(float(one.abs().sum()) for one in gradients) > 0


@EVERY_MODE
@pytest.mark.parametrize("fields", [{"tie_word_embeddings": True}, {"dropout": 0.3, "decoder_layers": 2}])
def test_noted_steps_with_tied_embeddings_and_with_dropout(tiny_generator, mode, fields, monkeypatch):
    model = tiny_generator(**fields).double().train()
    (noted, gradients), (plain, others) = noted_and_plain(monkeypatch, model, mode)
    torch.testing.assert_close(noted.weights, plain.weights, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(gradients, others, rtol=1e-9, atol=1e-12)


@EVERY_MODE
def test_noted_steps_in_lower_precision(tiny_generator, mode, monkeypatch):
    model = tiny_generator(tie_word_embeddings=True)
    (noted, gradients), (plain, others) = noted_and_plain(monkeypatch, model, mode)
    torch.testing.assert_close(noted.weights, plain.weights)
    torch.testing.assert_close(gradients, others, rtol=1e-4, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        (noted, gradients), (plain, others) = noted_and_plain(monkeypatch, model, mode)
    assert noted.weights.dtype == plain.weights.dtype and torch.equal(noted.weights, plain.weights)
    assert_norms_are_close(gradients, others, 0.03)
    (noted, gradients), (plain, others) = noted_and_plain(monkeypatch, model.bfloat16(), mode)
    assert torch.equal(noted.weights, plain.weights)
    assert_norms_are_close(gradients, others, 0.05)


class SoftCapped(T5ForConditionalGeneration):
    def forward(self, decoder_inputs_embeds=None, **kwargs):
        outputs = super().forward(decoder_inputs_embeds=decoder_inputs_embeds, **kwargs)
        outputs.logits = 3 * torch.tanh(outputs.logits / 3)
        return outputs


@EVERY_MODE
def test_what_follows_the_output_layer_is_kept_and_draws_nothing_more(tiny_t5, mode, monkeypatch):
    model = SoftCapped(tiny_t5(dropout_rate=0.2).config).double().train()
    before = [name for name, module in model.named_modules() if "forward" in module.__dict__]
    (noted, gradients), (plain, others) = noted_and_plain(monkeypatch, model, mode)
    assert torch.equal(noted.weights, plain.weights)  # with dropout: the random state was set back
    torch.testing.assert_close(gradients, others, rtol=0, atol=0)
    assert before == [] == [name for name, module in model.named_modules() if "forward" in module.__dict__]


def test_other_output_layers_go_the_plain_way(tiny_generator, tiny_t5, monkeypatch):
    adapted = get_peft_model(tiny_t5(), LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=["q", "lm_head"], r=2))
    assert not is_noted(monkeypatch, adapted)
    model = tiny_generator()
    assert is_noted(monkeypatch, model)
    with torch.no_grad():
        assert not is_noted(monkeypatch, model)


def test_errors_of_the_model_are_its_own(tiny_generator):
    model = tiny_generator()
    with pytest.raises(ValueError, match="final_state"):
        encoded = {"last_hidden_state": torch.zeros(3, 4, 8)}
        soft_rollout(model, IDS, MASK, max_length=2, encoder_outputs=encoded)


@pytest.mark.parametrize("relaxation", ["softmax", "gumbel", "straight_through"])
@pytest.mark.parametrize("top_k", [6, None])
def test_without_a_gradient_the_rollout_is_the_same(generator, relaxation, top_k):
    found = []
    for with_gradient in (True, False):
        with torch.set_grad_enabled(with_gradient):
            noise = torch.Generator().manual_seed(5)
            settings = {"top_k": top_k, "relaxation": relaxation, "end_probabilities": False, "generator": noise}
            found.append(soft_rollout(generator, IDS, MASK, max_length=5, **settings))
    with_gradient, without = found
    torch.testing.assert_close(without.weights, with_gradient.weights.detach(), rtol=1e-12, atol=1e-14)
    assert torch.equal(without.best, with_gradient.best) and torch.equal(without.mask, with_gradient.mask)


# ---- responses that have ended ----

MANY = torch.randint(3, 20, (16, 4), generator=torch.Generator().manual_seed(2))


def frequent_ends(model):
    """A third of all words end a response, so that responses of different lengths stand beside each other."""
    rollouts.unadapted(model).generation_config.eos_token_id = [2, 5, 8, 11, 14, 17]
    return model


def with_and_without_the_ended(model, **settings):
    """A rollout that drops ended responses and one that does not: tokens and weights up to the ends, gradients."""
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    found = []
    for drop_ended in (True, False):
        noise = torch.Generator().manual_seed(5)
        rollout = soft_rollout(
            model, MANY, torch.ones_like(MANY), max_length=6, end_probabilities=False, generator=noise,
            drop_ended=drop_ended, **settings,
        )  # fmt: skip
        steps = torch.cat([torch.ones_like(rollout.mask[:, :1]), rollout.mask[:, :-1]], dim=1) > 0  # the end is one
        target = torch.randn(rollout.weights.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        loss = (rollout.weights * target * steps[:, :, None]).sum()
        gradients = torch.autograd.grad(loss, wanted, allow_unused=True) if loss.requires_grad else []
        weights = (rollout.weights * steps[:, :, None]).detach()
        ids = None if rollout.ids is None else rollout.ids.masked_fill(~steps[:, :, None], 0)
        content = (rollout.mask, rollout.best.masked_fill(~steps, 0), weights, ids)
        found.append((content, [torch.zeros(()) if one is None else one for one in gradients], rollout))
    return found


@pytest.mark.parametrize("top_k", [6, None])
@pytest.mark.parametrize("relaxation", ["softmax", "gumbel", "straight_through"])
def test_dropping_what_has_ended_changes_neither_tokens_nor_gradients(generator, relaxation, top_k, monkeypatch):
    monkeypatch.setattr(rollouts, "DROPPED_SHARE", 1e-9)  # at every end
    model = frequent_ends(generator)
    for use_cache in (True, False):
        settings = {"relaxation": relaxation, "temperature": 0.7, "top_k": top_k, "use_cache": use_cache}
        (dropped, gradients, rollout), (kept, others, _) = with_and_without_the_ended(model, **settings)
        torch.testing.assert_close(dropped, kept, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(gradients, others, rtol=1e-8, atol=1e-11)
        torch.testing.assert_close(rollout.weights.sum(dim=2), torch.ones_like(rollout.mask))
        assert relaxation == "softmax" or len(set(rollout.lengths.tolist())) > 2
        assert sum(float(one.abs().sum()) for one in gradients) > 0


@pytest.mark.parametrize("top_k", [6, None])
def test_dropping_what_has_ended_in_plain_steps_and_without_a_gradient(generator, top_k, monkeypatch):
    monkeypatch.setattr(rollouts, "DROPPED_SHARE", 1e-9)
    model, settings = frequent_ends(generator), {"relaxation": "straight_through", "top_k": top_k}
    with torch.no_grad():
        (dropped, _, _), (kept, _, _) = with_and_without_the_ended(model, **settings)
    torch.testing.assert_close(dropped, kept, rtol=1e-9, atol=1e-12)
    monkeypatch.setattr(rollouts, "output_head", lambda model: None)
    (plain, gradients, _), (kept, others, _) = with_and_without_the_ended(model, **settings)
    torch.testing.assert_close(plain, kept, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradients, others, rtol=1e-8, atol=1e-11)


def test_ended_responses_cost_no_more_steps(tiny_generator):
    model, rows = frequent_ends(tiny_generator()), []
    model.lm_head.register_forward_hook(lambda head, given, output: rows.append(output.shape[0]))
    settings = {"max_length": 6, "relaxation": "straight_through"}

    def computed(**how):
        rows.clear()
        rollout = soft_rollout(model, MANY, generator=torch.Generator().manual_seed(5), **settings, **how)
        return list(rows), rollout

    with torch.no_grad():
        counts, rollout = computed(end_probabilities=False)
        alive = [len(MANY), *(rollout.mask.sum(dim=0)[:-1].int().tolist())]
        going = len(MANY)
        for count, left in zip(counts, alive, strict=True):
            going = left if left <= 0.75 * going else going  # a quarter of the rows at a time
            assert count == going
        assert counts[-1] < len(MANY) / 2
        assert set(computed(end_probabilities=False, drop_ended=False)[0]) == {len(MANY)}
        assert set(computed()[0]) == {len(MANY)}  # probabilities of the end are kept for every step
