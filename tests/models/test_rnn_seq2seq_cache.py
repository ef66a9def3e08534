"""The recurrent cache by itself: which rows it keeps, and that nothing is written in place."""

import pytest
import torch

from hf_localgan.models.rnn_seq2seq import RecurrentCache


def filled_cache():
    """Two rows, told apart by their values: 10 and 20, of which three tokens were seen."""
    cache = RecurrentCache()
    rows = torch.tensor([10.0, 20.0])
    cache.advance(3, state=rows[:, None, None, None].expand(2, 1, 2, 4), fed=rows[:, None].expand(2, 4), keys=None)
    return cache


def rows_of(cache):
    assert set(cache.layers[0].states) == {"state", "fed"}
    assert torch.equal(cache.get("state")[:, 0, 0, 0], cache.get("fed")[:, 0])
    return cache.get("fed")[:, 0].tolist()


def test_reordering_takes_the_named_rows():
    cache = filled_cache()
    cache.reorder_cache(torch.tensor([1, 1]))
    assert rows_of(cache) == [20, 20]


def test_repeating_keeps_the_copies_of_a_row_together():
    cache = filled_cache()
    cache.batch_repeat_interleave(2)
    assert rows_of(cache) == [10, 10, 20, 20] and cache.layers[0].batch_size == 4


def test_selecting_keeps_the_named_rows():
    cache = filled_cache()
    cache.batch_select_indices(torch.tensor([1]))
    assert rows_of(cache) == [20]


def test_counting_goes_on_over_calls_and_starts_anew_after_a_reset():
    cache = filled_cache()
    cache.advance(2, fed=torch.zeros(2, 4))
    assert cache.get_seq_length() == 5 and cache.get_mask_sizes(2, 0) == (7, 0)
    assert cache.get("state")[1, 0, 0, 0] == 20  # not named, so kept
    cache.reset()
    assert cache.get_seq_length() == 0 and cache.get("state") is None and cache.layers[0].batch_size == -1


def test_a_state_cannot_go_back():
    cache = filled_cache()
    cache.crop(0)
    with pytest.raises(ValueError, match="cannot go back 2 tokens"):
        cache.crop(2)
    assert rows_of(cache) == [10, 20]


def test_reordering_leaves_the_earlier_tensors_alone():
    cache = filled_cache()
    earlier = cache.get("fed")
    cache.reorder_cache(torch.tensor([1, 0]))
    assert earlier[:, 0].tolist() == [10, 20] and rows_of(cache) == [20, 10]


@pytest.mark.parametrize(
    "fields", [{}, {"cell_type": "lstm", "decoder_layers": 2}, {"attention": "additive", "input_feeding": True}]
)
def test_a_model_goes_on_from_chosen_rows_as_if_they_had_been_alone(tiny_generator, fields):
    model = tiny_generator(**fields)
    source = torch.tensor([[5, 9, 4], [8, 3, 2]])
    first, second = torch.tensor([[1, 7], [1, 4]]), torch.tensor([[12], [12]])
    cache = model(source, decoder_input_ids=first, use_cache=True).past_key_values
    cache.reorder_cache(torch.tensor([1, 1]))
    swapped = source[[1, 1]]
    actual = model(swapped, decoder_input_ids=second, past_key_values=cache, use_cache=True)
    expected = model(swapped, decoder_input_ids=torch.cat([first[[1, 1]], second], dim=1)).logits[:, -1:]
    torch.testing.assert_close(actual.logits, expected, rtol=1e-5, atol=1e-6)
    assert actual.past_key_values is cache and cache.get_seq_length() == 3


def test_detaching_cuts_the_gradient_and_keeps_the_values(tiny_generator):
    model = tiny_generator(cell_type="lstm")
    source, first, second = torch.tensor([[5, 9, 4]]), torch.tensor([[1, 7]]), torch.tensor([[12]])
    decoder = model.get_decoder()
    cache = model(source, decoder_input_ids=first, use_cache=True).past_key_values
    logits, gradients = [], []
    for start in (cache.detach(), cache):
        embeddings = decoder.embed_tokens.weight
        outputs = model(source, decoder_input_ids=second, past_key_values=start, use_cache=True)
        logits.append(outputs.logits)
        gradients.append(torch.autograd.grad(outputs.logits.sum(), embeddings, retain_graph=True)[0])
    assert torch.equal(*logits)
    # The tables are shared, so the source's tokens get a gradient in any case; 7 was read before the cut.
    assert gradients[0][7].abs().max() == 0 and gradients[1][7].abs().max() > 0
    assert cache.detach().get_seq_length() == 3 and not cache.detach().get("state").requires_grad


def test_no_cache_comes_back_where_none_is_asked_for(tiny_generator):
    model = tiny_generator()
    source, target = torch.tensor([[5, 9, 4]]), torch.tensor([[1, 7]])
    assert model(source, decoder_input_ids=target, use_cache=False).past_key_values is None
    assert model(source, labels=target).past_key_values is None
    assert model(source, decoder_input_ids=target).past_key_values.get_seq_length() == 2
    assert tiny_generator(use_cache=False)(source, decoder_input_ids=target).past_key_values is None
