"""The recogniser of speech: padding changes nothing, cached steps are teacher forcing, CTC and masks by hand."""

from itertools import product

import pytest
import torch
from transformers import AutoConfig, AutoModelForSpeechSeq2Seq

from hf_localgan.models import RnnSpeechConfig, RnnSpeechForConditionalGeneration
from hf_localgan.models.rnn_seq2seq.encoder_speech_rnn_seq2seq import join_steps, mask_features

ATTENTIONS = ["dot", "additive", "location"]
REDUCTIONS = [[1, 1], [3, 1], [1, 2], [2, 2]]
LABELS = torch.tensor([[4, 5, 5, 6, 2], [7, 8, 2, -100, -100]])
SIZES = {"vocab_size": 12, "feature_size": 6, "encoder_layers": 2, "encoder_hidden_size": 8, "hidden_size": 10}
SIZES |= {"embedding_size": 5, "location_filters": 2, "location_width": 3}


def tiny_speech(seed=0, **fields):
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = RnnSpeechForConditionalGeneration(RnnSpeechConfig(**{**SIZES, **fields})).double().eval()
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


def utterances(lengths=(17, 11), width=None, side="right", size=6):
    """Features of utterances of `lengths` frames, something else in the padding, and the mask."""
    generator = torch.Generator().manual_seed(1)
    width = width or max(lengths)
    features, mask = torch.full((len(lengths), width, size), 9.0).double(), torch.zeros(len(lengths), width).long()
    for row, length in enumerate(lengths):
        place = slice(width - length, width) if side == "left" else slice(0, length)
        features[row, place] = torch.randn(length, size, generator=generator).double()
        mask[row, place] = 1
    return {"input_features": features, "attention_mask": mask}


@pytest.mark.parametrize("reductions", REDUCTIONS, ids=str)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_padding_on_either_side_and_the_company_of_others_change_nothing(attention, reductions):
    model = tiny_speech(attention=attention, reductions=reductions, ctc_weight=0.3)
    expected = model(**utterances(), labels=LABELS)
    beams = {"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 6}
    for side, width in (("left", 17), ("right", 23), ("left", 23)):
        padded = utterances(side=side, width=width)
        actual = model(**padded, labels=LABELS)
        torch.testing.assert_close(actual.logits, expected.logits)
        torch.testing.assert_close(actual.ctc_nll, expected.ctc_nll)
        assert torch.equal(model.generate(**padded, **beams), model.generate(**utterances(), **beams))
    alone = model(input_features=utterances()["input_features"][1:, :11], labels=LABELS[1:])
    torch.testing.assert_close(alone.logits, expected.logits[1:])
    torch.testing.assert_close(alone.ctc_nll, expected.ctc_nll[1:])


@pytest.mark.parametrize("position", ["after", "before"])
@pytest.mark.parametrize("feeding", [False, True])
@pytest.mark.parametrize("attention", ["additive", "location"])
def test_cached_steps_are_teacher_forcing_and_beams_need_no_cache(attention, feeding, position):
    model = tiny_speech(attention=attention, attention_position=position, input_feeding=feeding, decoder_layers=2)
    inputs, target = utterances(), torch.tensor([[1, 4, 5, 6], [1, 7, 8, 9]])
    whole = model(**inputs, decoder_input_ids=target, output_attentions=True)
    cache, steps, looks = None, [], []
    encoded = model.get_encoder()(**inputs)
    for place in range(4):
        step = model(
            encoder_outputs=encoded, attention_mask=inputs["attention_mask"], past_key_values=cache, use_cache=True,
            decoder_input_ids=target[:, place : place + 1], output_attentions=True,
        )  # fmt: skip
        cache = step.past_key_values
        steps.append(step.logits)
        looks.append(step.cross_attentions[0])
    torch.testing.assert_close(torch.cat(steps, dim=1), whole.logits)
    torch.testing.assert_close(torch.cat(looks, dim=2), whole.cross_attentions[0])
    assert whole.cross_attentions[0].shape == (2, 1, 4, 6)  # ceil(17 / 3) places
    assert whole.cross_attentions[0][1, 0, :, 4:].abs().max() == 0  # ceil(11 / 3) = 4 of them exist
    settings = {"num_beams": 4, "num_return_sequences": 3, "max_new_tokens": 7, "output_scores": True}
    settings["return_dict_in_generate"] = True
    cached, plain = (model.generate(**inputs, **settings, use_cache=use) for use in (True, False))
    assert torch.equal(cached.sequences, plain.sequences)
    torch.testing.assert_close(cached.sequences_scores, plain.sequences_scores)


def test_location_awareness_reads_the_last_weights():
    # Two equal places cannot be told apart by content; the second step, which knows where the first looked, can.
    model = tiny_speech(attention="location", reductions=[1, 1])
    attention = model.model.decoder.attention
    memory = torch.randn(1, 1, 10, dtype=torch.double).expand(1, 6, 10)
    keys, query = attention.project_keys(memory), torch.randn(1, 1, 10, dtype=torch.double)
    _, first = attention(query, memory, keys, None)
    assert first.std() < 1e-9
    looked = torch.eye(6, dtype=torch.double)[2:3]
    _, second = attention(query, memory, keys, None, looked)
    assert second[0, 0, [1, 2, 3]].std() > 1e-3
    torch.testing.assert_close(second[0, 0, [0, 4, 5]], second[0, 0, [0]].expand(3))  # out of the filters' reach


def test_ctc_is_the_sum_over_all_alignments():
    # 4 encoder steps, labels 4 5: every path of 4 symbols that collapses to 4 5 once repeats and blanks are taken out
    model = tiny_speech(ctc_weight=0.5, reductions=[2, 1])
    inputs = utterances(lengths=(8,))
    labels = torch.tensor([[4, 5, 2]])
    out = model(**inputs, labels=labels)
    hidden = model.get_encoder()(**inputs).last_hidden_state
    probabilities = model.ctc_head(hidden).softmax(dim=-1)[0]
    total = 0.0
    for path in product([4, 5, 12], repeat=4):
        merged = [s for i, s in enumerate(path) if (i == 0 or s != path[i - 1]) and s != 12]
        if merged == [4, 5]:
            total += torch.stack([probabilities[t, s] for t, s in enumerate(path)]).prod()
    torch.testing.assert_close(out.ctc_nll[0], -total.log())
    nll = torch.nn.functional.cross_entropy(out.logits.flatten(0, 1), labels.flatten(), reduction="sum")
    torch.testing.assert_close(out.loss, (nll + 0.5 * out.ctc_nll.sum()) / 3)
    torch.testing.assert_close(model(**inputs, labels=labels, num_items_in_batch=12).loss, out.loss / 4)


def test_labels_that_do_not_fit_the_encoder_steps_cost_ctc_nothing():
    model = tiny_speech(ctc_weight=0.5, reductions=[4, 1])
    out = model(**utterances(lengths=(8,)), labels=torch.tensor([[4, 5, 6, 2]]))  # 3 labels, 2 steps
    assert out.ctc_nll.tolist() == [0.0] and out.loss.isfinite()


def test_steps_are_joined_by_hand():
    hidden = torch.arange(1.0, 11).view(1, 5, 2)
    joined, lengths = join_steps(hidden, torch.tensor([5]), 2)
    assert joined.tolist() == [[[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 0, 0]]] and lengths.tolist() == [3]


def test_masks_are_drawn_in_training_alone_and_cover_what_they_should():
    config = RnnSpeechConfig(frequency_masks=1, frequency_mask_bins=4, time_masks=1, time_mask_frames=6)
    features = torch.ones(1000, 40, 123)
    lengths = torch.full((1000,), 30)
    torch.manual_seed(0)
    masked = mask_features(features, lengths, config)
    assert bool((features == 1).all())
    hidden = masked == 0
    bins = hidden.all(dim=1)  # (utterances, 123): a frequency mask hides a bin in every frame
    assert torch.equal(bins[:, :41], bins[:, 41:82]) and torch.equal(bins[:, :41], bins[:, 82:])
    # widths are uniform on 0 .. 4: mean 2, variance 2; 1,000 draws, so 5 standard errors are .23
    assert abs(bins[:, :41].sum(dim=1).float().mean() - 2) < 0.23
    frames = hidden.all(dim=2)
    assert not frames[:, 30:].any()  # padding is none of the utterance
    # uniform on 0 .. 6: mean 3, variance 4, 5 standard errors are .32
    assert abs(frames.sum(dim=1).float().mean() - 3) < 0.32
    assert bins[:, 0].any() and bins[:, 40].any() and frames[:, 0].any() and frames[:, 29].any()

    model = tiny_speech(frequency_masks=2, frequency_mask_bins=1, time_masks=2, time_mask_frames=3)
    inputs = utterances()
    assert torch.equal(model(**inputs, labels=LABELS).loss, model(**inputs, labels=LABELS).loss)
    model.train()
    torch.manual_seed(0)
    assert model(**inputs, labels=LABELS).loss != model(**inputs, labels=LABELS).loss


def test_a_short_utterance_keeps_four_fifths_of_its_frames():
    config = RnnSpeechConfig(time_masks=1, time_mask_frames=50)
    torch.manual_seed(0)
    masked = mask_features(torch.ones(500, 10, 123), torch.full((500,), 10), config)
    assert int((masked == 0).all(dim=2).sum(dim=1).max()) == 2


def test_gradients_reach_every_parameter():
    model = tiny_speech(ctc_weight=0.3).train()
    model(**utterances(), labels=LABELS).loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_saved_and_loaded_through_the_auto_classes(tmp_path):
    model = tiny_speech(ctc_weight=0.3).float()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path)
    assert type(loaded) is RnnSpeechForConditionalGeneration
    assert type(AutoConfig.from_pretrained(tmp_path)) is RnnSpeechConfig
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))
    inputs = utterances()
    inputs["input_features"] = inputs["input_features"].float()
    torch.testing.assert_close(loaded(**inputs, labels=LABELS).loss, model(**inputs, labels=LABELS).loss)


def test_the_papers_size():
    # three bidirectional layers of 256 units a direction over stacks of three 123-dimensional frames
    model = RnnSpeechForConditionalGeneration(RnnSpeechConfig())
    assert [tuple(layer.weight_ih_l0.shape) for layer in model.model.encoder.layers] == [
        (1024, 369), (1024, 512), (1024, 512)
    ]  # fmt: skip
    assert model.model.decoder.layers[0].hidden_size == 256 and model.config.reduction == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reductions": [3]}, r"for each of the 2 encoder layers, got \[3\]"),
        ({"reductions": [0, 1]}, "at least 1"),
        ({"attention": "none"}, '"location", got "none"'),
        ({"location_width": 4}, "`location_width` must be odd.*got 4"),
        ({"encoder_hidden_size": 7}, "`encoder_hidden_size` must be even.*got 7"),
        ({"feature_size": 7}, "multiple of `feature_groups`, got 7 and 3"),
        ({"frequency_masks": 1, "frequency_mask_bins": 3}, "must not exceed the 2 bins"),
        ({"ctc_weight": -1.0}, "`ctc_weight` must not be negative"),
        ({"share_embeddings": True}, "features, not tokens"),
        ({"noise_size": 4}, "Leave out `noise_size`, got 4"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_meant_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        RnnSpeechConfig(**{**SIZES, **fields})


def test_features_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"\(batch, frames, 6\), got \(2, 17, 5\)"):
        tiny_speech()(**utterances(size=5), labels=LABELS)


def test_the_vocabulary_is_resized_without_ctc_and_refused_with_it():
    model = tiny_speech()
    model.resize_token_embeddings(20)
    assert model(**utterances(), labels=LABELS).logits.shape[2] == 20
    with pytest.raises(ValueError, match="cannot be resized from 12 to 20 tokens"):
        tiny_speech(ctc_weight=0.3).resize_token_embeddings(20)
