"""The target in one call and token by token: the same logits, gradients that finite differences confirm."""

from itertools import product

import pytest
import torch

ATTENTIONS = [("none", "after", False)] + list(
    product(("dot", "general", "additive"), ("after", "before"), (False, True))
)
SHAPES = list(product((False, True), (False, True), (False, True), ((1, 1), (2, 1), (1, 2), (3, 3))))
SOURCE = torch.tensor([[5, 9, 4, 17, 2], [8, 3, 3, 11, 2]])
TARGET = torch.tensor([[1, 7, 12, 19], [1, 4, 4, 10]])
LABELS = torch.tensor([[7, 12, 19, 2], [4, 4, 10, 2]])


def stepwise(model, target=TARGET, **inputs):
    """Logits of a decoder that is fed one token at a time through the cache, `(batch, time, vocab)`."""
    encoder_outputs, cache, logits = model.get_encoder()(**inputs), None, []
    for token in target.split(1, dim=1):
        outputs = model(
            encoder_outputs=encoder_outputs,
            attention_mask=inputs.get("attention_mask"),
            decoder_input_ids=token,
            past_key_values=cache,
            use_cache=True,
        )
        cache = outputs.past_key_values
        logits.append(outputs.logits)
    return torch.cat(logits, dim=1)


def attentions_and_shapes():
    """Each attention with a quarter of the shapes, another one than its neighbours have; the others are slow.

    A quarter has every number of layers twice and everything else about a shape once.
    """
    for row, attention in enumerate(ATTENTIONS):
        for quarter in range(4):
            shapes = [shape for number, shape in enumerate(SHAPES) if (number + number // 4) % 4 == quarter]
            marks = [] if quarter == row % 4 else [pytest.mark.slow]
            yield pytest.param(*attention, shapes, marks=marks, id="-".join(map(str, (*attention, quarter))))


@pytest.mark.parametrize(("attention", "position", "feeding", "shapes"), attentions_and_shapes())
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_teacher_forced_and_stepwise_logits_agree_in_every_combination(
    tiny_generator, cell, attention, position, feeding, shapes
):
    for tie, share, bidirectional, (encoder_layers, decoder_layers) in shapes:
        shape = {
            "tie_word_embeddings": tie,
            "share_embeddings": share,
            "bidirectional": bidirectional,
            "encoder_layers": encoder_layers,
            "decoder_layers": decoder_layers,
        }
        model = tiny_generator(
            cell_type=cell, attention=attention, attention_position=position, input_feeding=feeding, **shape
        )
        with torch.no_grad():
            forced = model(SOURCE, decoder_input_ids=TARGET, labels=LABELS)
            assert forced.loss.isfinite() and forced.logits.shape == (2, 4, 20), shape
            for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
                model.to(dtype)
                forced = model(SOURCE, decoder_input_ids=TARGET).logits
                # 1e-6 of the size of the logits, which reach about 10 here
                error = (forced - stepwise(model, input_ids=SOURCE)).abs().max() / forced.abs().max().clamp(min=1)
                assert error <= tolerance, (shape, dtype)


@pytest.mark.parametrize("bridge", ["copy", "dense"])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_agreement_holds_for_both_bridges(tiny_generator, bridge, cell):
    model = tiny_generator(bridge=bridge, cell_type=cell, decoder_layers=2)
    forced = model(SOURCE, decoder_input_ids=TARGET).logits
    torch.testing.assert_close(stepwise(model, input_ids=SOURCE), forced, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("encoder_layers", "decoder_layers", "source"),
    [(1, 1, [0]), (3, 2, [1, 2]), (1, 3, [0, 0, 0]), (2, 3, [0, 0, 1])],
)
def test_a_copied_state_starts_the_decoder_with_top_layers_aligned(
    tiny_generator, encoder_layers, decoder_layers, source
):
    model = tiny_generator(bridge="copy", encoder_layers=encoder_layers, decoder_layers=decoder_layers)
    final_state = torch.randn(2, encoder_layers, 1, 8)
    torch.testing.assert_close(model.model.decoder.initial_state(final_state), final_state[:, source])


@pytest.mark.parametrize("position", ["after", "before"])
def test_the_loop_and_the_single_call_are_the_same_function(tiny_generator, position):
    # A hole in the target forces the loop. What comes before the hole must not notice.
    model = tiny_generator(attention_position=position, cell_type="lstm", decoder_layers=2)
    mask = torch.tensor([[1, 1, 0, 1], [1, 1, 0, 1]])
    plain = model(SOURCE, decoder_input_ids=TARGET).logits
    with_hole = model(SOURCE, decoder_input_ids=TARGET, decoder_attention_mask=mask).logits
    torch.testing.assert_close(with_hole[:, :2], plain[:, :2], rtol=1e-6, atol=1e-6)
    assert not torch.allclose(with_hole[:, 3], plain[:, 3], atol=1e-3)


PATHS = {
    "one call, GRU": {"cell_type": "gru", "attention": "general", "decoder_layers": 2},
    "one call, LSTM, tied": {"cell_type": "lstm", "attention": "dot", "tie_word_embeddings": True},
    "one call, additive": {"cell_type": "gru", "attention": "additive", "share_embeddings": False},
    "loop, attention first": {"cell_type": "lstm", "attention": "additive", "attention_position": "before"},
    "loop, input feeding": {"cell_type": "gru", "attention": "general", "input_feeding": True, "encoder_layers": 2},
}


@pytest.mark.parametrize("fields", PATHS.values(), ids=PATHS.keys())
def test_gradients_of_every_parameter_equal_finite_differences(tiny_generator, fields):
    model = tiny_generator(**fields).double()
    mask = torch.tensor([[1, 1, 0, 1, 1], [1, 1, 1, 0, 0]])

    def loss():
        return model(SOURCE, attention_mask=mask, decoder_input_ids=TARGET, labels=LABELS).loss

    loss().backward()
    generator, step = torch.Generator().manual_seed(0), 1e-5
    for name, parameter in model.named_parameters():
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        slope = (parameter.grad * direction).sum()
        with torch.no_grad():
            if parameter.shape[0] == 20 and "embed" in name and not fields.get("tie_word_embeddings"):
                direction[0] = 0  # `padding_idx`: that row is read at padding and has no gradient by design
                slope = (parameter.grad * direction).sum()
            parameter += step * direction
            above = loss()
            parameter -= 2 * step * direction
            below = loss()
            parameter += step * direction
        difference = (above - below) / (2 * step)
        # Central differences err by about step ** 2 = 1e-10 times the third derivative.
        torch.testing.assert_close(slope, difference, rtol=1e-5, atol=1e-7, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("fields", PATHS.values(), ids=PATHS.keys())
def test_gradients_through_the_cache_equal_those_without(tiny_generator, fields):
    model = tiny_generator(**fields).double()
    model(SOURCE, decoder_input_ids=TARGET).logits.square().mean().backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    stepwise(model, input_ids=SOURCE).square().mean().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-10, atol=1e-12)
        assert parameter.grad.abs().max() > 0, name


def test_dropout_acts_in_training_only(tiny_generator):
    model = tiny_generator(dropout=0.5, embedding_dropout=0.5, output_dropout=0.5, encoder_layers=2, decoder_layers=2)
    inputs = {"input_ids": SOURCE, "decoder_input_ids": TARGET}
    assert torch.equal(model(**inputs).logits, model(**inputs).logits)
    model.train()
    assert not torch.allclose(model(**inputs).logits, model(**inputs).logits)


@pytest.mark.parametrize("place", ["dropout", "embedding_dropout", "output_dropout"])
def test_each_dropout_has_an_effect_of_its_own(tiny_generator, place):
    model = tiny_generator(**{place: 0.5}, encoder_layers=2, decoder_layers=2).train()
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])  # packed, so that this path is met too
    inputs = {"input_ids": SOURCE, "attention_mask": mask, "decoder_input_ids": TARGET}
    assert not torch.allclose(model(**inputs).logits, model(**inputs).logits)


@pytest.mark.parametrize("mask", [None, torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])], ids=["plain", "packed"])
def test_dropout_acts_between_the_encoders_layers(tiny_generator, mask):
    encoder = tiny_generator(dropout=0.5, encoder_layers=2).get_encoder().train()
    first, second = (encoder(SOURCE, attention_mask=mask, output_hidden_states=True).hidden_states for _ in range(2))
    assert torch.equal(first[1], second[1]) and not torch.allclose(first[2], second[2])
