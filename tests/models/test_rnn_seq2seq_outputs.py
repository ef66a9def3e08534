"""What a forward pass returns: hidden states, attention by hand, the loss and its conventions."""

import math

import pytest
import torch
import torch.nn.functional as F

from hf_localgan.models.rnn_seq2seq.attention_rnn_seq2seq import RnnSeq2SeqAttention

SOURCE = torch.tensor([[5, 9, 4, 17, 2], [8, 3, 2, 0, 0]])
MASK = (SOURCE != 0).long()
LABELS = torch.tensor([[7, 12, 19, 2], [4, 2, -100, -100]])


# A memory of two tokens, (1, 0) and (0, 1), and the query (ln 3, 0): the context is the two weights themselves.
MEMORY = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
QUERY = torch.tensor([[[math.log(3), 0.0]]])


def attend(attention, query=QUERY, mask=None):
    return attention(query, MEMORY, attention.project_keys(MEMORY), mask)


def set_weight(linear, rows):
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(rows))


def test_dot_attention_by_hand():
    # scores ln 3 and 0, so weights 3 : 1
    context, weights = attend(RnnSeq2SeqAttention("dot", 2))
    torch.testing.assert_close(weights, torch.tensor([[[0.75, 0.25]]]))
    torch.testing.assert_close(context, torch.tensor([[[0.75, 0.25]]]))


def test_general_attention_by_hand():
    # W swaps and doubles the second: W q = (0, 2 ln 3), scores 0 and ln 9, so weights 1 : 9
    attention = RnnSeq2SeqAttention("general", 2)
    set_weight(attention.query, [[0.0, 1.0], [2.0, 0.0]])
    context, weights = attend(attention)
    torch.testing.assert_close(weights, torch.tensor([[[0.1, 0.9]]]))
    torch.testing.assert_close(context, weights)


def test_additive_attention_by_hand():
    # W = 0, b = 0, U = artanh(1/2) times the identity, v = (ln 81, 0):
    # tanh(U m) is (1/2, 0) and (0, 1/2), scores are ln 9 and 0, so weights 9 : 1
    attention = RnnSeq2SeqAttention("additive", 2)
    half = math.atanh(0.5)
    set_weight(attention.query, [[0.0, 0.0], [0.0, 0.0]])
    torch.nn.init.zeros_(attention.query.bias)
    set_weight(attention.key, [[half, 0.0], [0.0, half]])
    set_weight(attention.score, [[math.log(81), 0.0]])
    context, weights = attend(attention)
    torch.testing.assert_close(weights, torch.tensor([[[0.9, 0.1]]]))
    torch.testing.assert_close(context, weights)
    # A query that adds artanh(1/2) to the first unit: tanh there is tanh(2 artanh(1/2)) = 4/5 for the first token and
    # 1/2 for the second, so the scores differ by (4/5 - 1/2) ln 81 = 0.3 ln 81.
    set_weight(attention.query, [[half / math.log(3), 0.0], [0.0, 0.0]])
    _, weights = attend(attention)
    torch.testing.assert_close(weights[0, 0, 0] / weights[0, 0, 1], torch.tensor(81**0.3), rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", ["dot", "general", "additive"])
def test_a_masked_token_gets_no_weight(kind):
    _, weights = attend(RnnSeq2SeqAttention(kind, 2), mask=torch.tensor([[False, True]]))
    assert weights.tolist() == [[[0.0, 1.0]]]


@pytest.mark.parametrize("attention", ["dot", "general", "additive"])
@pytest.mark.parametrize("position", ["after", "before"])
def test_attention_weights_are_distributions_over_the_tokens(tiny_generator, attention, position):
    model = tiny_generator(attention=attention, attention_position=position)
    (weights,) = model(SOURCE, attention_mask=MASK, labels=LABELS, output_attentions=True).cross_attentions
    assert weights.shape == (2, 1, 4, 5)  # batch, heads, time, source_time
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 1, 4))
    assert (weights[1, :, :, 3:] == 0).all() and (weights[0] > 0).all() and (weights[1, :, :, :3] > 0).all()


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_attention_before_the_cell_is_asked_by_the_top_layers_last_output(tiny_generator, cell):
    model = tiny_generator(cell_type=cell, attention_position="before", encoder_layers=2, decoder_layers=2)
    decoder, encoded = model.get_decoder(), model.get_encoder()(SOURCE)
    outputs = model(SOURCE, labels=LABELS, output_attentions=True, output_hidden_states=True)
    start = decoder.initial_state(encoded.final_state)[:, -1, :1]  # the top layer's h
    queries = torch.cat([start, outputs.decoder_hidden_states[-1][:, :-1]], dim=1)
    _, weights = decoder.attention(queries, encoded.last_hidden_state, None, None)
    torch.testing.assert_close(outputs.cross_attentions[0][:, 0], weights)


def test_attention_comes_on_request_and_where_there_is_one(tiny_generator):
    assert tiny_generator()(SOURCE, labels=LABELS).cross_attentions is None
    assert tiny_generator(attention="none")(SOURCE, labels=LABELS, output_attentions=True).cross_attentions is None
    assert len(tiny_generator(output_attentions=True)(SOURCE, labels=LABELS).cross_attentions) == 1


@pytest.mark.parametrize("feeding", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_hidden_states_are_embeddings_and_one_tensor_per_layer(tiny_generator, feeding, padded):
    model = tiny_generator(encoder_layers=2, decoder_layers=3, input_feeding=feeding)
    mask = MASK if padded else None
    outputs = model(SOURCE, attention_mask=mask, labels=LABELS, output_hidden_states=True)
    assert [state.shape for state in outputs.encoder_hidden_states] == [(2, 5, 6), (2, 5, 8), (2, 5, 8)]
    assert [state.shape for state in outputs.decoder_hidden_states] == [(2, 4, 6)] + [(2, 4, 8)] * 3
    assert torch.equal(outputs.encoder_hidden_states[-1], outputs.encoder_last_hidden_state)
    assert model(SOURCE, labels=LABELS).decoder_hidden_states is None


def test_the_final_state_is_the_state_after_the_last_token_of_each_direction(tiny_generator):
    encoder = tiny_generator(cell_type="lstm", encoder_layers=2).get_encoder()
    outputs = encoder(SOURCE, attention_mask=MASK)
    assert outputs.final_state.shape == (2, 2, 2, 8)  # batch, layers, (h, c), hidden
    top_h = outputs.final_state[:, -1, 0]
    for row, last in ((0, 4), (1, 2)):  # forwards the last token, backwards the first
        torch.testing.assert_close(top_h[row, :4], outputs.last_hidden_state[row, last, :4])
        torch.testing.assert_close(top_h[row, 4:], outputs.last_hidden_state[row, 0, 4:])


def test_a_tuple_comes_back_where_it_is_asked_for(tiny_generator):
    model = tiny_generator()
    as_tuple = model(SOURCE, labels=LABELS, return_dict=False)
    outputs = model(SOURCE, labels=LABELS)
    assert torch.equal(as_tuple[0], outputs.loss) and torch.equal(as_tuple[1], outputs.logits)


def test_the_loss_is_the_mean_over_labels(tiny_generator):
    outputs = tiny_generator()(SOURCE, attention_mask=MASK, labels=LABELS)
    expected = F.cross_entropy(outputs.logits.flatten(0, 1), LABELS.flatten(), ignore_index=-100)
    torch.testing.assert_close(outputs.loss, expected)


def test_the_sum_is_divided_by_the_labels_of_all_accumulated_batches(tiny_generator):
    model = tiny_generator()
    mean = model(SOURCE, labels=LABELS).loss  # of 6 labels
    torch.testing.assert_close(model(SOURCE, labels=LABELS, num_items_in_batch=24).loss * 24, mean * 6)
    torch.testing.assert_close(model(SOURCE, labels=LABELS, num_items_in_batch=torch.tensor(3)).loss * 3, mean * 6)
    halves = [model(SOURCE[i : i + 1], labels=LABELS[i : i + 1], num_items_in_batch=6).loss for i in (0, 1)]
    torch.testing.assert_close(halves[0] + halves[1], mean)


def test_labels_without_any_prediction_give_a_loss_of_zero(tiny_generator):
    model = tiny_generator()
    loss = model(SOURCE, labels=torch.full_like(LABELS, -100)).loss
    loss.backward()
    assert loss == 0 and all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_labels_shifted_right_are_the_decoders_input(tiny_generator):
    model = tiny_generator(decoder_start_token_id=3)
    inputs = model.prepare_decoder_input_ids_from_labels(LABELS)
    assert inputs.tolist() == [[3, 7, 12, 19], [3, 4, 2, 0]]
    assert LABELS[1, 2] == -100  # the caller's labels are left alone
    given = model(SOURCE, decoder_input_ids=inputs, labels=LABELS)
    torch.testing.assert_close(model(SOURCE, labels=LABELS).loss, given.loss)


def test_later_target_tokens_do_not_reach_earlier_predictions(tiny_generator):
    for position in ("after", "before"):
        model = tiny_generator(attention_position=position)
        changed = LABELS.clone()
        changed[0, 2] = 11
        before, after = (model(SOURCE, labels=labels).logits for labels in (LABELS, changed))
        torch.testing.assert_close(after[0, :3], before[0, :3])
        assert not torch.allclose(after[0, 3], before[0, 3], atol=1e-3)
