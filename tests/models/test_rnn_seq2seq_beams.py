"""Beam search from a shortlist: the hypotheses of the search over all continuations."""

import threading

import pytest
import torch

from hf_localgan.models import RnnSeq2SeqForConditionalGeneration
from hf_localgan.models.output_head import replaced_forward
from hf_localgan.models.rnn_seq2seq import beams_rnn_seq2seq as beams
from hf_localgan.models.rnn_seq2seq.beams_rnn_seq2seq import Shortlist

KNOWN = pytest.mark.skipif(not beams.SEARCH_IS_KNOWN, reason="an older beam search of transformers")
IDS = torch.randint(4, 2_000, (6, 7), generator=torch.Generator().manual_seed(1))
IDS[:, -1] = 2
IDS[3:, 4:] = torch.tensor([2, 0, 0])
INPUTS = {"input_ids": IDS, "attention_mask": (IDS != 0).long()}
KINDS = {
    "GRU": {}, "tied LSTM": {"cell_type": "lstm", "tie_word_embeddings": True},
    "first, fed": {"attention": "additive", "attention_position": "before", "input_feeding": True},
}  # fmt: skip


@pytest.fixture
def read(monkeypatch):
    """Sizes of the shortlists that were read."""
    sizes, plain = [], Shortlist.read

    def counted(self, hidden, head):
        sizes.append(self.size)
        return plain(self, hidden, head)

    monkeypatch.setattr(Shortlist, "read", counted)
    return sizes


def both(monkeypatch, read, model, inputs=INPUTS, **settings):
    """What `generate` returns with the shortlist and without it."""
    settings = {"max_new_tokens": 9, "do_sample": False, "num_beams": 5, **settings}
    short = model.generate(**inputs, **settings)
    assert read
    with monkeypatch.context() as patch:
        patch.setattr(beams, "SEARCH_IS_KNOWN", False)
        number = len(read)
        whole = model.generate(**inputs, **settings)
        assert len(read) == number
    return short, whole


@KNOWN
@pytest.mark.parametrize("fields", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("use_cache", [True, False])
def test_hypotheses_are_those_of_the_whole_vocabulary(tiny_generator, fields, use_cache, monkeypatch, read):
    model = tiny_generator(vocab_size=2_000, **fields)
    chosen = model.generate(**INPUTS, max_new_tokens=9, num_beams=5)[0, 1:4].tolist()  # makes some end early
    ended = []
    for settings in (
        {}, {"num_return_sequences": 5}, {"num_beams": 2, "length_penalty": 0.3}, {"early_stopping": True},
        {"early_stopping": "never", "length_penalty": -1.0}, {"eos_token_id": [2, *chosen], "length_penalty": -2.0},
        {"eos_token_id": None},
    ):  # fmt: skip
        short, whole = both(monkeypatch, read, model, use_cache=use_cache, **settings)
        assert torch.equal(short, whole)
        ends = torch.tensor(settings.get("eos_token_id", [2]) or [])
        ended.append(short.shape[1] < 10 or bool(torch.isin(short[:, 1:-1], ends).any()))
    assert True in ended and False in ended


@KNOWN
def test_prompts_of_the_decoder_attentions_and_beam_indices_are_as_before(tiny_generator, monkeypatch, read):
    model = tiny_generator(vocab_size=2_000)
    settings = {"return_dict_in_generate": True, "output_attentions": True, "decoder_input_ids": IDS[:, :3]}
    short, whole = both(monkeypatch, read, model, **settings)
    assert torch.equal(short.sequences, whole.sequences) and short.sequences.shape[1] > 3
    assert torch.equal(short.beam_indices, whole.beam_indices)
    torch.testing.assert_close(short.cross_attentions, whole.cross_attentions)


@KNOWN
def test_scores_are_those_of_the_whole_vocabulary(tiny_generator, monkeypatch, read):
    model = tiny_generator(vocab_size=2_000)
    found, plain = [], type(model)._update_finished_beams
    monkeypatch.setattr(
        type(model), "_update_finished_beams", lambda self, **given: found.append(given) or plain(self, **given)
    )
    both(monkeypatch, read, model)
    half = len(found) // 2
    for short, whole in zip(found[:half], found[half:], strict=True):
        torch.testing.assert_close(short["topk_log_probs"], whole["topk_log_probs"], rtol=1e-6, atol=1e-6)
        assert torch.equal(short["topk_running_sequences"], whole["topk_running_sequences"])
        assert torch.equal(short["topk_running_beam_indices"], whole["topk_running_beam_indices"])


class Contrary(RnnSeq2SeqForConditionalGeneration):
    def forward(self, *args, **kwargs):
        outputs = super().forward(*args, **kwargs)
        outputs.logits = -outputs.logits
        return outputs


@KNOWN
def test_what_follows_the_output_layer_reaches_the_search(tiny_generator, monkeypatch, read):
    model = tiny_generator(vocab_size=2_000)
    settings = {**INPUTS, "max_new_tokens": 6, "num_beams": 5, "do_sample": False}
    usual = model.generate(**settings)
    number = len(read)
    contrary = Contrary(model.config).eval()
    contrary.load_state_dict(model.state_dict())
    expected = contrary.generate(**settings)
    hook = model.register_forward_hook(lambda model, inputs, outputs: setattr(outputs, "logits", -outputs.logits))
    assert torch.equal(model.generate(**settings), expected)
    hook.remove()
    with replaced_forward(model, contrary.forward):
        assert torch.equal(model.generate(**settings), expected)
    assert len(read) == number and not torch.equal(usual, expected)


@KNOWN
def test_what_looks_at_the_vocabulary_gets_it(tiny_generator, read):
    model = tiny_generator(vocab_size=2_000)
    plain = {**INPUTS, "max_new_tokens": 3, "num_beams": 3, "do_sample": False}
    for settings in (
        {"no_repeat_ngram_size": 2}, {"min_new_tokens": 2}, {"do_sample": True},
        {"return_dict_in_generate": True, "output_scores": True},
        {"return_dict_in_generate": True, "output_logits": True}, {"num_beams": 1},
    ):  # fmt: skip
        model.generate(**{**plain, **settings})
    model.bfloat16().generate(**plain)
    model.float()
    with torch.autocast("cpu", torch.bfloat16):
        model.generate(**plain)
    tiny_generator(vocab_size=20).generate(**{**plain, "input_ids": IDS % 16 + 4, "num_beams": 10})
    assert not read
    model.generate(**plain)
    assert read == [6] * 3


def test_the_best_of_each_row(monkeypatch):
    head = torch.nn.Linear(4, 1_003).requires_grad_(False)
    hidden = torch.randn(7, 4)
    expected = head(hidden).log_softmax(dim=-1).topk(6, dim=-1)
    for at_a_time in (2**23, 2_100):  # rows in one call and in several
        monkeypatch.setattr(beams, "LOGITS", at_a_time)
        shortlist = Shortlist(6)
        assert torch.equal(shortlist.read(hidden, head), torch.zeros(7, 1, 1))
        log_probs, tokens = shortlist.take()
        torch.testing.assert_close(log_probs, expected.values)
        assert torch.equal(tokens, expected.indices)


@KNOWN
def test_searches_in_several_threads_do_not_meet(tiny_generator):
    model = tiny_generator(vocab_size=2_000)
    settings = {"max_new_tokens": 9, "num_beams": 4, "do_sample": False}
    rows = [{name: tensor[row : row + 1] for name, tensor in INPUTS.items()} for row in range(4)]
    expected = [model.generate(**row, **settings) for row in rows]
    found = [None] * len(rows)

    def search(place):
        found[place] = model.generate(**rows[place], **settings)

    threads = [threading.Thread(target=search, args=(place,)) for place in range(len(rows))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
