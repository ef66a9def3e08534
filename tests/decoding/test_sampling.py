"""Samples of the policy, greedy responses, and continuations of prefixes."""

from itertools import product

import pytest
import torch
from peft import LoraConfig, get_peft_model
from scipy.stats import chi2

from hf_localgan.decoding import greedy_responses, sample_responses
from hf_localgan.decoding.sampling import repeat_rows, token_lists, without_dropout

END, LONGEST = 2, 3
INPUTS = {
    "input_ids": torch.tensor([[5, 9, 4, 17, 2], [8, 3, 2, 0, 0], [6, 6, 2, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0]]),
}
KINDS = {
    "GRU, one call": ("rnn_seq2seq", {}),
    "LSTM, deep": ("rnn_seq2seq", {"cell_type": "lstm", "encoder_layers": 2, "decoder_layers": 3}),
    "additive first": ("rnn_seq2seq", {"attention": "additive", "attention_position": "before"}),
    "input feeding": ("rnn_seq2seq", {"input_feeding": True}),
    "T5": ("t5", {"initializer_factor": 3.0}),
    "T5, LoRA": ("lora", {"initializer_factor": 3.0}),
    "BART": ("bart", {"init_std": 1.0}),
}


@pytest.fixture
def build(tiny_generator, tiny_t5, tiny_bart):
    """`build(name, **fields)`: a tiny model in evaluation mode."""

    def make(name: str, **fields):
        if name == "lora":
            config = LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules=["q", "v"])
            return get_peft_model(tiny_t5(**fields), config).eval()
        return {"rnn_seq2seq": tiny_generator, "t5": tiny_t5, "bart": tiny_bart}[name](**fields)

    return make


def padded(rows: list[list[int]]) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [-100] * (width - len(row)) for row in rows], dtype=torch.long).reshape(len(rows), width)


def log_prob(model, query: list[int], response: list[int]) -> float:
    """Of the tokens of a response to a query, its first token behind the start token 1."""
    logits = model(input_ids=torch.tensor([query]), decoder_input_ids=torch.tensor([[1, *response[:-1]]])).logits
    return logits.log_softmax(dim=-1)[0].gather(1, torch.tensor(response)[:, None]).sum().item()


@pytest.mark.parametrize(("name", "fields"), KINDS.values(), ids=KINDS.keys())
def test_greedy_continuations_of_what_was_generated_are_what_was_generated(build, name, fields):
    for seed in range(100):  # the first model of which some responses end and others do not
        model = build(name, seed=seed, **fields)
        whole = greedy_responses(model, INPUTS, max_new_tokens=7)
        if 0 < whole.finished.sum() < 3:
            break
    rows = token_lists(whole.labels, [])
    assert max(map(len, rows)) == 7 and 0 < whole.finished.sum() < 3
    for lengths in ([0, 0, 0], [2, 2, 2], [0, 3, 1], [9, 1, 0]):  # none, of one length, of different ones, the whole
        prefixes = padded([row[:length] for row, length in zip(rows, lengths, strict=True)])
        found = greedy_responses(model, INPUTS, max_new_tokens=7, prefixes=prefixes)
        assert token_lists(found.labels, []) == rows and torch.equal(found.finished, whole.finished)
    # All prefixes of each response at a time, the queries once.
    prefixes = padded([row[:length] for row in rows for length in range(4)])
    found = greedy_responses(model, INPUTS, max_new_tokens=7, prefixes=prefixes)
    assert token_lists(found.labels, []) == [row for row in rows for _ in range(4)]
    assert torch.equal(found.inputs["input_ids"], INPUTS["input_ids"].repeat_interleave(4, dim=0))


@pytest.mark.parametrize(("name", "fields"), KINDS.values(), ids=KINDS.keys())
def test_a_prefix_that_the_model_would_not_say_is_gone_on_from(build, name, fields):
    model, prefixes = build(name, **fields), [[11, 12], [13], [14, 15, 16]]
    found = token_lists(greedy_responses(model, INPUTS, max_new_tokens=6, prefixes=padded(prefixes)).labels, [])
    for row, prefix, query, mask in zip(found, prefixes, *INPUTS.values(), strict=True):
        expected = list(prefix)
        while len(expected) < 6 and END not in expected:
            decoder = torch.tensor([[1, *expected]])
            with torch.no_grad():
                logits = model(input_ids=query[None], attention_mask=mask[None], decoder_input_ids=decoder).logits
            expected.append(int(logits[0, -1].argmax()))
        assert row == expected


@pytest.mark.parametrize("name", ["rnn_seq2seq", "t5", "bart"])
@pytest.mark.parametrize("rows_per_call", [None, 1])
def test_continuations_have_the_frequencies_of_the_model(build, name, rows_per_call):
    fields = {"t5": {"initializer_factor": 2.0}, "bart": {"init_std": 0.7}}.get(name, {})
    model = build(name, vocab_size=4, **fields)
    model.generation_config.update(top_k=1, temperature=0.1, no_repeat_ngram_size=1, suppress_tokens=[3])
    queries = [[3, 1, 3, END], [1, 1, 3, END]]
    inputs = {"input_ids": torch.tensor(queries), "labels": torch.zeros(2, 1, dtype=torch.long)}
    prefixes, number = [[3], [], [1, 0], [0, 3]], 1500  # two of each query
    found = sample_responses(
        model, inputs, num_samples=number, max_new_tokens=LONGEST, seed=5, prefixes=padded(prefixes),
        rows_per_call=rows_per_call,
    )  # fmt: skip
    assert torch.equal(found.inputs["input_ids"], inputs["input_ids"].repeat_interleave(2 * number, dim=0))
    assert torch.equal(found.finished, (found.labels == END).any(dim=1))
    rows = token_lists(found.labels, [])
    for place, prefix in enumerate(prefixes):
        drawn, query = rows[place * number : (place + 1) * number], queries[place // 2]
        free = LONGEST - len(prefix)
        ends = [[*first, END] for size in range(free) for first in product((0, 1, 3), repeat=size)]
        possible = [prefix + rest for rest in ends + [list(rest) for rest in product((0, 1, 3), repeat=free)]]
        given = log_prob(model, query, prefix) if prefix else 0.0
        probs = torch.tensor([log_prob(model, query, row) - given for row in possible], dtype=torch.float64).exp()
        assert probs.sum() == pytest.approx(1, abs=1e-5)
        counts = torch.tensor([drawn.count(row) for row in possible], dtype=torch.float64)
        assert counts.sum() == number
        # chi-square over the outputs that are expected often enough, all others being one more
        often = number * probs > 5
        counts, expected = ((part[often], part[~often].sum()) for part in (counts, number * probs))
        square, df = ((counts[0] - expected[0]) ** 2 / expected[0]).sum().item(), int(often.sum()) - 1
        if expected[1] > 5:
            square, df = square + ((counts[1] - expected[1]) ** 2 / expected[1]).item(), df + 1
        # Of 24 such values (4 prefixes, 3 models, 2 sizes) one has a probability below 1e-5 once in 4,000 times; seeds
        # are fixed.
        assert df > 1 and chi2.sf(square, df) > 1e-5


def test_prefixes_that_have_ended_or_fill_the_response_stay_as_they_are(build):
    model = build("rnn_seq2seq")
    ended, full = padded([[7, END], [8, END], [END]]), padded([[4, 5], [6, 7], [8, 9]])
    found = sample_responses(model, INPUTS, num_samples=2, max_new_tokens=6, seed=0, prefixes=ended)
    assert token_lists(found.labels, []) == [[7, END]] * 2 + [[8, END]] * 2 + [[END]] * 2 and found.finished.all()
    found = sample_responses(model, INPUTS, num_samples=2, max_new_tokens=2, seed=0, prefixes=full)
    assert torch.equal(found.labels, full.repeat_interleave(2, dim=0)) and not found.finished.any()
    assert torch.equal(found.inputs["attention_mask"], INPUTS["attention_mask"].repeat_interleave(2, dim=0))


def test_draws_depend_on_the_seed_alone_and_leave_the_model_and_the_random_state_as_they_were(build):
    model = build("rnn_seq2seq", dropout=0.5, decoder_layers=2).train()
    plain, before = build("rnn_seq2seq", decoder_layers=2), model.generation_config

    def draw(some, seed):
        return sample_responses(some, INPUTS, num_samples=5, max_new_tokens=6, seed=seed).labels

    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = draw(model, 1)
    assert torch.equal(torch.get_rng_state(), state) and model.generation_config is before
    assert all(module.training for module in model.modules())
    torch.manual_seed(4)
    assert torch.equal(draw(model, 1), first) and torch.equal(draw(plain, 1), first)
    assert draw(model, 2).tolist() != first.tolist()


def test_rows_per_call_bounds_each_call_and_keeps_the_responses_of_a_query_together(build, monkeypatch):
    model, calls = build("rnn_seq2seq"), []
    generate = model.generate

    def counted(**arguments):
        ids = generate(**arguments)
        calls.append(len(ids))
        return ids

    monkeypatch.setattr(model, "generate", counted)
    inputs = repeat_rows(INPUTS, 3)  # 9 queries of 2 prefixes of 2 samples
    prefixes = padded([[4 + row % 9] * (1 + row % 2) for row in range(18)])
    for rows_per_call, sizes in ((8, [8, 8, 8, 8, 4]), (1, [4] * 9), (None, [36])):
        calls.clear()
        found = sample_responses(
            model, inputs, num_samples=2, max_new_tokens=5, seed=0, prefixes=prefixes, rows_per_call=rows_per_call
        )
        assert calls == sizes
        begun = prefixes.repeat_interleave(2, dim=0)
        assert torch.where(begun == -100, begun, found.labels[:, :2]).equal(begun)


def test_gradients_flow_without_dropout_and_modes_come_back_after_an_error(build):
    model = build("rnn_seq2seq", dropout=0.5, decoder_layers=2, embedding_dropout=0.5).train()
    with without_dropout(model):
        losses = [model(**INPUTS, labels=INPUTS["input_ids"]).loss for _ in range(2)]
        losses[0].backward()
    assert losses[0] == losses[1] and all(module.training for module in model.modules())
    with pytest.raises(KeyboardInterrupt), without_dropout(model):
        raise KeyboardInterrupt
    assert all(module.training for module in model.modules()) and model.model.decoder.dropout.p == 0.5


def test_token_lists_leave_out_padding_and_the_end_that_closes_a_row():
    labels = torch.tensor([[5, 0, 2, -100], [2, -100, -100, -100], [5, 6, 7, 8], [-100] * 4])
    assert token_lists(labels, [2, 9]) == [[5, 0], [], [5, 6, 7, 8], []]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_samples": 0}, "`num_samples` must be at least 1, got 0"),
        ({"max_new_tokens": 0}, "`max_new_tokens` must be at least 1, got 0"),
        ({"rows_per_call": 0}, "`rows_per_call` must be at least 1, got 0"),
        ({"prefixes": torch.ones(4, 1)}, r"\(batch \* k, time\) for a batch of 3, got \(4, 1\)"),
        ({"prefixes": torch.ones(3)}, r"got \(3,\)"),
        ({"prefixes": padded([[4, -100, 5], [4], [4]])}, "behind their tokens only"),
        ({"prefixes": padded([[4] * 6, [4], [4]])}, "A prefix has 6 tokens, more than .* `max_new_tokens` is 5"),
        ({"inputs": {"labels": torch.ones(3, 1)}}, "has no row for the encoder .found: nothing.*`input_ids`"),
    ],
)
def test_what_cannot_be_sampled_is_refused(build, settings, message):
    given = {"inputs": INPUTS, "num_samples": 2, "max_new_tokens": 5, "seed": 0, **settings}
    with pytest.raises(ValueError, match=message):
        sample_responses(build("rnn_seq2seq"), **given)
