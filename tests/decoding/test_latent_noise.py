"""Noise beside the encoded query: none is the generator as it was, and each draw is another answer."""

import pytest
import torch

from hf_localgan.decoding import Decoding, LatentNoise, answer_queries, encode_with_noise, soft_rollout
from hf_localgan.decoding.latent_noise import noise_size

IDS = torch.tensor([[4, 5, 6, 2], [7, 8, 2, 0], [9, 2, 0, 0]])
BATCH = {"input_ids": IDS, "attention_mask": (IDS != 0).long()}
QUERIES = ["hello", "how are you ?", "what is your name"]


@pytest.fixture(params=["rnn", "rnn copy", "rnn lstm", "t5", "bart"])
def model(request, tiny_generator, tiny_t5, tiny_bart):
    factories = {
        "rnn": lambda: tiny_generator(noise_size=3),
        "rnn copy": lambda: tiny_generator(noise_size=3, bridge="copy", decoder_layers=2),
        "rnn lstm": lambda: tiny_generator(noise_size=5, cell_type="lstm", input_feeding=True, encoder_layers=2),
        "t5": tiny_t5,
        "bart": tiny_bart,
    }
    model = factories[request.param]()
    with torch.random.fork_rng(), torch.no_grad():  # so that what is said depends on the query
        torch.manual_seed(0)
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model.double()


def draw(model, rows: int = 3) -> torch.Tensor:
    return torch.rand(rows, noise_size(model), dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1


def logits(model, encoded, rows=slice(None)):
    labels = torch.tensor([[5, 6, 2]]).repeat(3, 1)[rows]
    return model(encoder_outputs=encoded, attention_mask=BATCH["attention_mask"][rows], labels=labels).logits


def test_noise_moves_every_step_and_none_or_zeros_move_nothing(model):
    noise = draw(model)
    plain = model(**BATCH, labels=torch.tensor([[5, 6, 2]]).repeat(3, 1)).logits
    for given in (None, torch.zeros_like(noise)):
        torch.testing.assert_close(logits(model, encode_with_noise(model, BATCH, given)), plain)
    moved = logits(model, encode_with_noise(model, BATCH, noise))
    assert ((moved - plain).abs().amax(dim=2) > 1e-6).all()
    torch.testing.assert_close(logits(model, encode_with_noise(model, BATCH, noise, scale=0.0)), plain)
    # Of each row its own.
    one = {name: value[1:2] for name, value in BATCH.items()}
    alone = logits(model, encode_with_noise(model, one, noise[1:2]), slice(1, 2))
    torch.testing.assert_close(alone, moved[1:2])


def test_beams_keep_the_noise_of_their_query(model):
    noise = draw(model)
    settings = {"max_new_tokens": 5, "do_sample": False, "num_beams": 3, "num_return_sequences": 3}
    mask = BATCH["attention_mask"]
    together = model.generate(
        encoder_outputs=encode_with_noise(model, BATCH, noise), attention_mask=mask, **settings
    ).view(3, 3, -1)
    for row in range(3):
        one = {name: value[row : row + 1] for name, value in BATCH.items()}
        encoded = encode_with_noise(model, one, noise[row : row + 1])
        alone = model.generate(encoder_outputs=encoded, attention_mask=one["attention_mask"], **settings)
        width = min(alone.shape[1], together.shape[2])
        torch.testing.assert_close(alone[:, :width], together[row, :, :width])


def test_a_soft_rollout_starts_from_it_and_has_its_gradient(model):
    noise = draw(model).requires_grad_()
    encoded = encode_with_noise(model, BATCH, noise)
    rollout = soft_rollout(model, **BATCH, max_length=3, encoder_outputs=encoded, noise_scale=0.0)
    gradient = torch.autograd.grad(rollout.weights.square().sum(), noise)[0]
    assert (gradient.abs().sum(dim=1) > 0).all()


def test_each_draw_is_another_answer_and_a_seed_repeats_it(model, tiny_tokenizer):
    greedy = answer_queries(model, tiny_tokenizer, QUERIES, Decoding.greedy(), max_new_tokens=6)
    decoding = LatentNoise(scale=3.0)
    drawn = answer_queries(model, tiny_tokenizer, QUERIES, decoding, num_samples=8, max_new_tokens=6, seed=2)
    assert drawn == answer_queries(model, tiny_tokenizer, QUERIES, decoding, num_samples=8, max_new_tokens=6, seed=2)
    assert any(len(set(row)) > 1 for row in drawn)
    assert greedy == answer_queries(model, tiny_tokenizer, QUERIES, Decoding.greedy(), max_new_tokens=6)
    small = answer_queries(model, tiny_tokenizer, QUERIES, LatentNoise(scale=1e-9), max_new_tokens=6)
    assert small == greedy
    assert Decoding.parse("noise 3") == decoding


def test_a_scale_of_zero_is_refused():
    with pytest.raises(ValueError, match="`scale` must be above 0 and finite, got 0"):
        LatentNoise(scale=0)
