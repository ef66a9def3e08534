"""`generate`: greedy, sampling, beams, scores, other inputs, continuation, and what is refused."""

import pytest
import torch
from transformers import DynamicCache, GenerationConfig

from hf_localgan.models.rnn_seq2seq.generation_rnn_seq2seq import refuse_settings

KINDS = {
    "GRU, one call": {},
    "LSTM, deep, tied": {"cell_type": "lstm", "encoder_layers": 2, "decoder_layers": 3, "tie_word_embeddings": True},
    "additive first": {"attention": "additive", "attention_position": "before", "cell_type": "lstm"},
    "input feeding": {"input_feeding": True, "bidirectional": False},
    "no attention": {"attention": "none"},
}
EVERY_KIND = pytest.mark.parametrize("fields", KINDS.values(), ids=KINDS.keys())
IDS = torch.tensor([[5, 9, 4, 17, 2], [8, 3, 2, 0, 0]])
MASK = (IDS != 0).long()
INPUTS = {"input_ids": IDS, "attention_mask": MASK}


@EVERY_KIND
@pytest.mark.parametrize("use_cache", [False, True])
def test_greedy_takes_the_most_probable_token_again_and_again(tiny_generator, fields, use_cache):
    model = tiny_generator(**fields, eos_token_id=None)
    expected = torch.ones(2, 1, dtype=torch.long)
    for _ in range(7):
        logits = model(**INPUTS, decoder_input_ids=expected, use_cache=False).logits
        expected = torch.cat([expected, logits[:, -1:].argmax(dim=-1)], dim=1)
    assert torch.equal(model.generate(**INPUTS, max_new_tokens=7, do_sample=False, use_cache=use_cache), expected)


@EVERY_KIND
def test_sampling_with_one_seed_is_the_same_with_and_without_the_cache(tiny_generator, fields):
    model = tiny_generator(**fields)
    drawn = []
    for use_cache in (True, False, True):
        torch.manual_seed(len(drawn) // 2)  # seeds 0, 0, 1
        settings = {"do_sample": True, "top_k": 0, "temperature": 1.3, "num_return_sequences": 3, "max_new_tokens": 9}
        drawn.append(model.generate(**INPUTS, **settings, use_cache=use_cache))
    assert torch.equal(drawn[0], drawn[1])
    assert drawn[0].shape[0] == 6 and drawn[0].tolist() != drawn[2].tolist()


@EVERY_KIND
def test_beams_are_the_same_with_and_without_the_cache(tiny_generator, fields):
    model = tiny_generator(**fields)
    settings = {"num_beams": 4, "num_return_sequences": 3, "max_new_tokens": 8, "do_sample": False}
    settings |= {"return_dict_in_generate": True, "output_scores": True}
    cached = model.generate(**INPUTS, **settings, use_cache=True)
    plain = model.generate(**INPUTS, **settings, use_cache=False)
    assert torch.equal(cached.sequences, plain.sequences) and cached.sequences.shape[0] == 6
    torch.testing.assert_close(cached.sequences_scores, plain.sequences_scores, rtol=1e-5, atol=1e-5)


def test_a_beam_that_holds_every_sequence_finds_the_best_one(tiny_generator):
    # Two tokens out of five, with no end: 25 sequences, all of which fit into 25 beams.
    model = tiny_generator(vocab_size=5, eos_token_id=None)
    source = torch.tensor([[4, 3, 2]])
    every = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    forced = torch.cat([torch.ones(25, 1, dtype=torch.long), every[:, :1]], dim=1)
    log_probs = model(source.expand(25, -1), decoder_input_ids=forced).logits.log_softmax(dim=-1)
    totals = log_probs.gather(2, every[..., None]).sum(dim=(1, 2))
    beams = model.generate(source, max_new_tokens=2, num_beams=25, num_return_sequences=3, do_sample=False)
    assert torch.equal(beams[:, 1:], every[totals.topk(3).indices])


@pytest.mark.parametrize("use_cache", [False, True])
def test_beam_scores_are_the_sums_of_log_probabilities(tiny_generator, use_cache):
    model = tiny_generator(cell_type="lstm", decoder_layers=2)
    outputs = model.generate(
        **INPUTS,
        num_beams=4,
        num_return_sequences=2,
        max_new_tokens=8,
        length_penalty=0.0,  # the score is the sum itself
        do_sample=False,
        use_cache=use_cache,
        return_dict_in_generate=True,
        output_scores=True,
    )
    transitions = model.compute_transition_scores(outputs.sequences, outputs.scores, outputs.beam_indices)
    torch.testing.assert_close(transitions.sum(dim=1), outputs.sequences_scores, rtol=1e-5, atol=1e-5)
    # The same from a teacher-forced pass: every token after the start, up to and including the first end.
    inputs, targets = outputs.sequences[:, :-1], outputs.sequences[:, 1:]
    repeated = {name: tensor.repeat_interleave(2, dim=0) for name, tensor in INPUTS.items()}
    log_probs = model(**repeated, decoder_input_ids=inputs).logits.log_softmax(dim=-1)
    of_targets = log_probs.gather(2, targets[..., None])[..., 0]
    counted = (targets == 2).cumsum(dim=1) - (targets == 2).long() == 0
    torch.testing.assert_close((of_targets * counted).sum(dim=1), outputs.sequences_scores, rtol=1e-5, atol=1e-5)


def test_greedy_scores_are_the_logits_of_a_teacher_forced_pass(tiny_generator):
    model = tiny_generator(eos_token_id=None)
    settings = {"max_new_tokens": 5, "do_sample": False, "return_dict_in_generate": True}
    outputs = model.generate(**INPUTS, **settings, output_scores=True, output_logits=True)
    forced = model(**INPUTS, decoder_input_ids=outputs.sequences[:, :-1]).logits
    for scores in (outputs.scores, outputs.logits):
        torch.testing.assert_close(torch.stack(scores, dim=1), forced, rtol=1e-5, atol=1e-5)


@EVERY_KIND
@pytest.mark.parametrize("beams", [1, 3])
def test_encoder_outputs_and_embeddings_may_be_given_instead_of_ids(tiny_generator, fields, beams):
    model = tiny_generator(**fields)
    settings = {"num_beams": beams, "num_return_sequences": beams, "max_new_tokens": 6, "do_sample": False}
    expected = model.generate(**INPUTS, **settings)
    encoder_outputs = model.get_encoder()(**INPUTS)
    assert torch.equal(model.generate(encoder_outputs=encoder_outputs, attention_mask=MASK, **settings), expected)
    embeddings = model.get_input_embeddings()(IDS)
    assert torch.equal(model.generate(inputs_embeds=embeddings, attention_mask=MASK, **settings), expected)


@EVERY_KIND
def test_embeddings_equal_ids_in_a_forward_pass(tiny_generator, fields):
    model = tiny_generator(**fields, share_embeddings=False)
    target = torch.tensor([[1, 7, 12], [1, 4, 4]])
    expected = model(**INPUTS, decoder_input_ids=target).logits
    encoder, decoder = model.get_encoder(), model.get_decoder()
    actual = model(
        inputs_embeds=encoder.embed_tokens(IDS),
        attention_mask=MASK,
        decoder_inputs_embeds=decoder.embed_tokens(target),
    ).logits
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)
    as_tuple = encoder(**INPUTS, return_dict=False)
    actual = model(encoder_outputs=as_tuple, attention_mask=MASK, decoder_input_ids=target).logits
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)


def test_decoder_embeddings_step_by_step_equal_ids(tiny_generator):
    model = tiny_generator(input_feeding=True, cell_type="lstm")
    target, cache, steps = torch.tensor([[1, 7, 12], [1, 4, 4]]), None, []
    encoder_outputs = model.get_encoder()(**INPUTS)
    for embedding in model.get_decoder().embed_tokens(target).split(1, dim=1):
        outputs = model(
            encoder_outputs=encoder_outputs,
            attention_mask=MASK,
            decoder_inputs_embeds=embedding,
            past_key_values=cache,
            use_cache=True,
        )
        cache = outputs.past_key_values
        steps.append(outputs.logits)
    expected = model(**INPUTS, decoder_input_ids=target).logits
    torch.testing.assert_close(torch.cat(steps, dim=1), expected, rtol=1e-5, atol=1e-5)


@EVERY_KIND
@pytest.mark.parametrize("sampling", [False, True])
def test_going_on_from_a_returned_cache_equals_generating_in_one_go(tiny_generator, fields, sampling):
    model = tiny_generator(**fields, eos_token_id=None)
    settings = {"do_sample": sampling, "return_dict_in_generate": True}
    torch.manual_seed(3)
    whole = model.generate(**INPUTS, max_new_tokens=9, **settings).sequences
    torch.manual_seed(3)
    first = model.generate(**INPUTS, max_new_tokens=4, **settings)
    fed = []
    hook = model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: fed.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    rest = model.generate(
        **INPUTS,
        decoder_input_ids=first.sequences,
        decoder_attention_mask=torch.ones_like(first.sequences),
        past_key_values=first.past_key_values,
        max_new_tokens=5,
        **settings,
    ).sequences
    hook.remove()
    assert torch.equal(rest, whole)
    assert fed == [1] * 5  # nothing of the first part is computed again


def test_a_prompt_is_continued_and_kept(tiny_generator):
    model = tiny_generator(eos_token_id=None)
    prompt = torch.tensor([[1, 7, 12], [1, 4, 4]])
    for beams in (1, 3):
        settings = {"max_new_tokens": 5, "num_beams": beams, "do_sample": False}
        generated = model.generate(**INPUTS, decoder_input_ids=prompt, **settings)
        assert torch.equal(generated[:, :3], prompt) and generated.shape == (2, 8)
        assert torch.equal(generated, model.generate(**INPUTS, decoder_input_ids=prompt, **settings, use_cache=False))


def test_generation_stops_at_the_end_token_and_pads(tiny_generator):
    model = tiny_generator(eos_token_id=None)
    endless = model.generate(**INPUTS, max_new_tokens=8, do_sample=False)
    end = int(endless[0, 3])  # from now on the first row's third token ends a sequence
    expected = endless.clone()
    for row in expected:
        stop = row.tolist().index(end) if end in row else len(row)
        row[stop + 1 :] = 0
    ended = model.generate(**INPUTS, max_new_tokens=8, do_sample=False, eos_token_id=end, pad_token_id=0)
    assert torch.equal(ended, expected[:, : ended.shape[1]]) and ended[0].tolist().index(end) <= 3


@pytest.mark.parametrize("attention", ["none", "general", "additive"])
def test_a_decoding_step_works_on_one_token_and_a_cache_of_constant_size(tiny_generator, attention):
    model = tiny_generator(attention=attention, input_feeding=attention == "additive", eos_token_id=None)
    seen = []

    def record(module, args, kwargs, output):
        states = output.past_key_values.layers[0].states
        seen.append((kwargs["input_ids"].shape, {name: tuple(state.shape) for name, state in states.items()}))

    model.get_decoder().register_forward_hook(record, with_kwargs=True)
    model.generate(**INPUTS, max_new_tokens=300, do_sample=False)
    assert len(seen) == 300
    assert seen[3] == seen[299] and seen[3][0] == (2, 1)
    assert {"none": {"state"}, "general": {"state"}, "additive": {"state", "fed", "keys"}}[attention] == set(seen[3][1])


def test_additive_keys_are_projected_once_per_source(tiny_generator):
    model, calls = tiny_generator(attention="additive", eos_token_id=None), []
    model.get_decoder().attention.key.register_forward_hook(lambda *_: calls.append(1))
    model.generate(**INPUTS, max_new_tokens=6, do_sample=False, num_beams=3)
    assert len(calls) == 1


def test_the_encoder_runs_once_per_source(tiny_generator):
    model, calls = tiny_generator(eos_token_id=None), []
    model.get_encoder().register_forward_hook(lambda *_: calls.append(1))
    model.generate(**INPUTS, max_new_tokens=6, do_sample=False, num_beams=3)
    assert len(calls) == 1


def test_assisted_decoding_is_refused(tiny_generator):
    with pytest.raises(ValueError, match="assisted generation is not supported with stateful models"):
        tiny_generator().generate(**INPUTS, assistant_model=tiny_generator(seed=1), do_sample=False, max_new_tokens=4)


def test_a_cache_of_attention_keys_is_refused(tiny_generator):
    model = tiny_generator()
    with pytest.raises(ValueError, match="must be a `RecurrentCache`, got DynamicCache"):
        model(**INPUTS, decoder_input_ids=torch.ones(2, 1, dtype=torch.long), past_key_values=DynamicCache())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_beams": 0}, "`num_beams` must be a whole number of at least 1, got 0"),
        ({"do_sample": True, "top_p": 2.0}, "`top_p` must lie between 0 and 1, got 2.0"),
        ({"guidance_scale": 1.5}, "`guidance_scale` asks for a second pass over a prompt of the decoder, got 1.5"),
        ({"prompt_lookup_num_tokens": 2}, "not supported with stateful models"),
        ({"past_key_values": DynamicCache()}, "must be a `RecurrentCache`"),
        ({"cache_implementation": "nonsense"}, "Invalid `cache_implementation`"),
        ({"stop_strings": ""}, "`stop_strings` must be a non-empty string"),
    ],
)
def test_what_generate_takes_and_cannot_do_here_is_refused(tiny_generator, tiny_tokenizer, settings, message):
    tokenizer = {"tokenizer": tiny_tokenizer} if "stop_strings" in settings else {}
    with pytest.raises(ValueError, match=message):
        tiny_generator().generate(**INPUTS, max_new_tokens=4, **settings, **tokenizer)


def test_token_healing_of_a_prompt_that_is_not_there_is_refused(tiny_generator):
    with pytest.raises(ValueError, match="`token_healing`"):
        refuse_settings(GenerationConfig(token_healing=True))


def test_options_of_generate_that_change_nothing_change_nothing(tiny_generator):
    model = tiny_generator()
    expected = model.generate(**INPUTS, max_new_tokens=6, do_sample=False)
    for options in (
        {"cache_implementation": "static"}, {"cache_implementation": "quantized"}, {"low_memory": True},
        {"bad_words_ids": [[19, 19, 19]]}, {"renormalize_logits": True}, {"remove_invalid_values": True},
        {"logits_processor": []}, {"stopping_criteria": []}, {"guidance_scale": 1},
    ):  # fmt: skip
        assert torch.equal(model.generate(**INPUTS, max_new_tokens=6, do_sample=False, **options), expected)


@pytest.mark.parametrize("beams", [1, 3])
def test_what_may_be_generated_can_be_bounded(tiny_generator, beams):
    model = tiny_generator(eos_token_id=None)
    settings = {"max_new_tokens": 6, "do_sample": False, "num_beams": beams}
    allowed = model.generate(**INPUTS, **settings, prefix_allowed_tokens_fn=lambda row, ids: [5 + row, 7 + row])
    assert set(allowed[0, 1:].tolist()) <= {5, 7} and set(allowed[1, 1:].tolist()) <= {6, 8}
    free = model.generate(**INPUTS, **settings)
    bad = int(free[0, 1])
    assert bad not in model.generate(**INPUTS, **settings, bad_words_ids=[[bad]])[0]


def test_inputs_given_twice_or_not_at_all_are_refused(tiny_generator):
    model = tiny_generator()
    start, embeddings = torch.ones(2, 1, dtype=torch.long), model.get_input_embeddings()(IDS)
    with pytest.raises(ValueError, match="exactly one of `input_ids` and `inputs_embeds`"):
        model(input_ids=IDS, inputs_embeds=embeddings, decoder_input_ids=start)
    with pytest.raises(ValueError, match="exactly one of `input_ids` and `inputs_embeds`"):
        model(decoder_input_ids=start)
    with pytest.raises(ValueError, match="exactly one of `decoder_input_ids` and `decoder_inputs_embeds`"):
        model(**INPUTS)
    with pytest.raises(ValueError, match="must hold the encoder's `final_state`"):
        model(encoder_outputs=(torch.zeros(2, 5, 8),), decoder_input_ids=start)
