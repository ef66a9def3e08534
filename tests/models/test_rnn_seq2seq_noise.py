"""Noise of the recurrent decoder: a new place for it changes nothing, learns, and is saved."""

import pytest
import torch

from hf_localgan.models import RnnSeq2SeqConfig, RnnSeq2SeqForConditionalGeneration

BATCH = {"input_ids": torch.tensor([[4, 5, 2], [6, 2, 0]]), "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]])}
LABELS = torch.tensor([[7, 8, 2], [9, 2, -100]])
NOISE = torch.tensor([[0.5, -1.0, 0.2], [-0.3, 0.9, 1.0]])


@pytest.mark.parametrize("fields", [{}, {"bridge": "copy", "cell_type": "lstm", "decoder_layers": 2}])
def test_a_generator_with_a_new_place_for_noise_is_what_it_was_until_it_learns(tiny_generator, fields, tmp_path):
    model = tiny_generator(**fields)
    before = model(**BATCH, labels=LABELS).logits
    model.resize_noise(3)
    torch.testing.assert_close(model(**BATCH, labels=LABELS, noise=NOISE).logits, before, rtol=0, atol=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model(**BATCH, labels=LABELS, noise=NOISE).loss.backward()
    optimizer.step()
    without, with_noise = (model(**BATCH, labels=LABELS, noise=noise).logits for noise in (None, NOISE))
    assert not torch.allclose(without, with_noise)
    model.save_pretrained(tmp_path)
    again = RnnSeq2SeqForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert again.config.noise_size == 3
    torch.testing.assert_close(again(**BATCH, labels=LABELS, noise=NOISE).logits, with_noise)


def test_the_first_state_by_hand():
    # tanh(B enc + b + N z), a layer and a state tensor at a time
    config = RnnSeq2SeqConfig(vocab_size=20, embedding_size=6, hidden_size=4, decoder_layers=2, noise_size=3)
    decoder = RnnSeq2SeqForConditionalGeneration(config).model.decoder
    torch.nn.init.normal_(decoder.noise_bridge.weight)
    final = torch.randn(2, 1, 1, 4)
    enc = torch.nn.functional.linear(final[:, 0, 0], decoder.bridge.weight, decoder.bridge.bias)
    for layer in range(2):
        rows = decoder.noise_bridge.weight[4 * layer : 4 * layer + 4]
        expected = torch.tanh(enc + NOISE @ rows.T)
        torch.testing.assert_close(decoder.initial_state(final, NOISE)[:, layer, 0], expected)


@pytest.mark.parametrize("beams", [1, 3])
def test_generate_takes_noise_and_repeats_it_for_beams(tiny_generator, beams):
    model = tiny_generator(noise_size=3)
    settings = {"max_new_tokens": 5, "do_sample": False, "num_beams": beams}
    drawn = model.generate(**BATCH, noise=NOISE, **settings)
    for use_cache in (True, False):
        encoded = model.get_encoder()(**BATCH, noise=NOISE, return_dict=True)  # `generate` repeats it in place
        kept = model.generate(
            encoder_outputs=encoded, attention_mask=BATCH["attention_mask"], use_cache=use_cache, **settings
        )
        assert kept.tolist() == drawn.tolist()
    assert model.generate(**BATCH, **settings).tolist() != drawn.tolist()
    steps = model.generate(**BATCH, noise=NOISE, use_cache=False, **settings)
    assert steps.tolist() == drawn.tolist()


def test_what_is_refused(tiny_generator):
    with pytest.raises(ValueError, match="must be left out, for `noise_size` is 0 .see `resize_noise`., got"):
        tiny_generator()(**BATCH, labels=LABELS, noise=NOISE)
    with pytest.raises(ValueError, match=r"must be of shape \(2, 4\), got the shape \(2, 3\)"):
        tiny_generator(noise_size=4)(**BATCH, labels=LABELS, noise=NOISE)
    for refuse in (lambda: RnnSeq2SeqConfig(noise_size=-1), lambda: tiny_generator().resize_noise(-1)):
        with pytest.raises(ValueError, match="`noise_size` must be at least 0, got -1"):
            refuse()
