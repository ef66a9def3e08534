"""Padding on either side, or with holes, changes nothing; nor does the company of other rows."""

import pytest
import torch

CELLS = pytest.mark.parametrize("cell", ["gru", "lstm"])
DIRECTIONS = pytest.mark.parametrize("bidirectional", [False, True])
TOKENS = torch.tensor([[5, 9, 4, 17, 2]])
TARGET = torch.tensor([[1, 7, 12, 19]])
# Where the five tokens stand among eight places.
PLACES = {"left": [3, 4, 5, 6, 7], "right": [0, 1, 2, 3, 4], "holes": [0, 2, 3, 5, 7], "both sides": [1, 2, 3, 4, 5]}
PADDED = pytest.mark.parametrize("places", PLACES.values(), ids=PLACES.keys())


def spread(tokens, places, width=8, filler=11):
    """`tokens` at `places` of a wider row, some other word elsewhere, and the mask."""
    ids, mask = torch.full((1, width), filler), torch.zeros(1, width, dtype=torch.long)
    ids[:, places], mask[:, places] = tokens, 1
    return {"input_ids": ids, "attention_mask": mask}


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=2e-6)


@CELLS
@DIRECTIONS
@PADDED
def test_the_encoder_ignores_padding(tiny_generator, cell, bidirectional, places):
    encoder = tiny_generator(cell_type=cell, bidirectional=bidirectional, encoder_layers=2).get_encoder()
    plain = encoder(TOKENS, output_hidden_states=True)
    padded = encoder(**spread(TOKENS, places), output_hidden_states=True)
    close(padded.final_state, plain.final_state)
    close(padded.last_hidden_state[:, places], plain.last_hidden_state)
    for padded_layer, plain_layer in zip(padded.hidden_states, plain.hidden_states, strict=True):
        close(padded_layer[:, places], plain_layer)
    elsewhere = [place for place in range(8) if place not in places]
    assert padded.last_hidden_state[:, elsewhere].abs().max() == 0


@pytest.mark.parametrize("attention", ["none", "dot", "general", "additive"])
@CELLS
@PADDED
def test_logits_and_generations_ignore_source_padding(tiny_generator, attention, cell, places):
    model = tiny_generator(cell_type=cell, attention=attention, eos_token_id=None)
    plain, padded = {"input_ids": TOKENS}, spread(TOKENS, places)
    close(model(**padded, decoder_input_ids=TARGET).logits, model(**plain, decoder_input_ids=TARGET).logits)
    for settings in ({}, {"num_beams": 3, "num_return_sequences": 2}):
        settings |= {"max_new_tokens": 6, "do_sample": False}
        assert torch.equal(model.generate(**padded, **settings), model.generate(**plain, **settings))


@pytest.mark.parametrize("position", ["after", "before"])
@pytest.mark.parametrize("feeding", [False, True])
@PADDED
def test_padding_inside_a_target_leaves_the_state_alone(tiny_generator, position, feeding, places):
    model = tiny_generator(cell_type="lstm", attention_position=position, input_feeding=feeding, decoder_layers=2)
    target = torch.tensor([[1, 7, 12, 19, 6]])
    padded = spread(target, places)
    arguments = {"decoder_input_ids": padded["input_ids"], "decoder_attention_mask": padded["attention_mask"]}
    plain = model(TOKENS, decoder_input_ids=target, use_cache=True)
    actual = model(TOKENS, **arguments, use_cache=True)
    close(actual.logits[:, places], plain.logits)
    close(actual.past_key_values.get("state"), plain.past_key_values.get("state"))
    close(model(TOKENS, **arguments, use_cache=False).logits[:, places], plain.logits)


@pytest.mark.parametrize("position", ["after", "before"])
@pytest.mark.parametrize("use_cache", [False, True])
def test_left_padded_prompts_continue_as_they_do_alone(tiny_generator, position, use_cache):
    model = tiny_generator(attention_position=position, input_feeding=position == "before", eos_token_id=None)
    settings = {"max_new_tokens": 6, "do_sample": False, "use_cache": use_cache}
    prompts = [[1, 7, 12, 19], [1, 4]]
    alone = [
        model.generate(TOKENS, decoder_input_ids=torch.tensor([prompt]), **settings)[0, len(prompt) :]
        for prompt in prompts
    ]
    together = model.generate(
        TOKENS.expand(2, -1),
        decoder_input_ids=torch.tensor([[1, 7, 12, 19], [0, 0, 1, 4]]),
        decoder_attention_mask=torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]]),
        **settings,
    )
    assert torch.equal(together[:, 4:], torch.stack(alone))


@CELLS
@DIRECTIONS
def test_a_row_without_any_token_neither_fails_nor_disturbs_the_others(tiny_generator, cell, bidirectional):
    model = tiny_generator(cell_type=cell, bidirectional=bidirectional, eos_token_id=None)
    ids = torch.cat([TOKENS, torch.zeros(1, 5, dtype=torch.long)])
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])
    outputs = model(ids, attention_mask=mask, decoder_input_ids=TARGET.expand(2, -1))
    assert outputs.logits.isfinite().all()
    close(outputs.logits[:1], model(TOKENS, decoder_input_ids=TARGET).logits)
    for beams in (1, 3):
        together = model.generate(ids, attention_mask=mask, max_new_tokens=4, num_beams=beams, do_sample=False)
        assert torch.equal(together[:1], model.generate(TOKENS, max_new_tokens=4, num_beams=beams, do_sample=False))


def test_a_target_row_without_any_token_is_finite(tiny_generator):
    model = tiny_generator(input_feeding=True)
    target, mask = TARGET.expand(2, -1), torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0]])
    outputs = model(TOKENS.expand(2, -1), decoder_input_ids=target, decoder_attention_mask=mask)
    assert outputs.logits.isfinite().all()
    close(outputs.logits[:1], model(TOKENS, decoder_input_ids=TARGET).logits)


@CELLS
def test_rows_of_a_batch_do_not_depend_on_each_other(tiny_generator, cell):
    model = tiny_generator(cell_type=cell, attention="additive", encoder_layers=2, eos_token_id=None)
    rows = [[5, 9, 4, 17, 2], [8, 2], [3, 14, 15, 2]]
    ids = torch.tensor([row + [0] * (5 - len(row)) for row in rows])
    mask = (ids != 0).long()
    targets = torch.tensor([[1, 7, 12], [1, 4, 4], [1, 18, 5]])
    together = model(ids, attention_mask=mask, decoder_input_ids=targets).logits
    for settings in ({"num_beams": 1}, {"num_beams": 3}):
        settings |= {"max_new_tokens": 6, "do_sample": False}
        generations = model.generate(ids, attention_mask=mask, **settings)
        for number, row in enumerate(rows):
            source = torch.tensor([row])
            close(together[number], model(source, decoder_input_ids=targets[number : number + 1]).logits[0])
            assert torch.equal(generations[number : number + 1], model.generate(source, **settings))


@pytest.mark.parametrize("dtype", [torch.bool, torch.long, torch.float32])
def test_masks_may_be_of_any_dtype(tiny_generator, dtype):
    model, padded = tiny_generator(), spread(TOKENS, PLACES["left"])
    padded["attention_mask"] = padded["attention_mask"].to(dtype)
    expected = model(TOKENS, decoder_input_ids=TARGET).logits
    target_mask = torch.tensor([[1, 1, 1, 0]]).to(dtype)
    actual = model(**padded, decoder_input_ids=TARGET, decoder_attention_mask=target_mask).logits
    close(actual[:, :3], expected[:, :3])
