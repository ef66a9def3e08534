"""MMI in decoding: the search against enumeration, candidates against single passes, names, tuning."""

import math
from itertools import product

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from hf_localgan.decoding import (
    AntiLm,
    AntiLmProcessor,
    AntiLmReranker,
    Decoding,
    MutualInformationReranker,
    answer_queries,
)
from hf_localgan.decoding.candidates import Candidates, draw_candidates
from hf_localgan.decoding.likelihood import EmptySource, language_model_log_probs, response_log_probs
from hf_localgan.functional.mutual_information import anti_lm_scores

VOCAB, LONGEST, END = 6, 4, 2
BATCH = {
    "input_ids": torch.tensor([[4, 3, 5, END], [0, 0, 5, END]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]]),
}
QUERIES = ["hello", "how are you ?", "what is your name", "i am fine thanks !"]
SETTINGS = [(0.0, None, 0.0), (0.5, 1, 0.0), (0.5, 2, 0.3), (0.9, None, 0.0), (0.9, None, 1.0), (0.0, None, 0.7)]


@pytest.fixture(params=["tiny_generator", "tiny_t5", "tiny_bart"])
def build(request):
    """`build(**fields)`: a generator whose parameters were moved, so that its distributions are not flat."""
    factory = request.getfixturevalue(request.param)

    def make(seed: int = 0, **fields):
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            model = factory(seed=seed, **fields)
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
        return model

    return make


def every_ended_response() -> torch.Tensor:
    """All responses of up to four tokens with an end: 1 + 5 + 25 + 125."""
    others = [token for token in range(VOCAB) if token != END]
    rows = [
        [*before, END, *[-100] * (LONGEST - 1 - length)]
        for length in range(LONGEST) for before in product(others, repeat=length)
    ]  # fmt: skip
    return torch.tensor(rows)


def tokens_of(row: list[int]) -> list[int]:
    """Behind the start token, up to and with the end."""
    return row[1 : row.index(END, 1) + 1] if END in row[1:] else row[1:]


def test_the_search_finds_the_response_that_enumeration_finds(build, tiny_tokenizer):
    model, labels = build(vocab_size=VOCAB), every_ended_response()
    listed = [[token for token in row if token != -100] for row in labels.tolist()]
    unconditional = language_model_log_probs(model, EmptySource(model), labels)
    best = set()
    for penalty, steps, reward in SETTINGS:
        decoding = AntiLm(
            penalty=penalty, steps=steps, length_reward=reward, beams=200
        )  # more than there are responses
        with torch.no_grad():
            actual = decoding.generate(model, BATCH, tokenizer=tiny_tokenizer, max_new_tokens=LONGEST)
        for query in range(2):
            log_probs = response_log_probs(model, BATCH, labels, torch.full((len(labels),), query))
            scores = anti_lm_scores(log_probs, unconditional, labels != -100, penalty, steps, reward)
            found = tokens_of(actual[query].tolist())
            assert scores[listed.index(found)] > scores.max() - 1e-4, (penalty, steps, reward)
            best.add((query, *found))
    assert len(best) > 2  # the settings matter


def test_a_cut_response_would_win_and_is_not_heard(build, tiny_tokenizer):
    # A reward for length makes going on worth it at every step, so that a plain search with it never ends.
    model = build(vocab_size=VOCAB)
    processor = AntiLmProcessor(EmptySource(model), 0.0, None, 3.0)
    with torch.no_grad():
        search = {"num_beams": 4, "length_penalty": 0.0, "early_stopping": "never", "max_new_tokens": LONGEST}
        cut = model.generate(**BATCH, **search, do_sample=False, logits_processor=[processor])
        ours = AntiLm(penalty=0.0, length_reward=3.0, beams=4).generate(
            model, BATCH, tokenizer=tiny_tokenizer, max_new_tokens=LONGEST, num_return_sequences=3
        )
    assert not (cut[:, 1:] == END).all(dim=1).any() and any(END not in row[1:] for row in cut.tolist())
    assert len(ours) == 6 and all(tokens_of(row)[-1] == END for row in ours.tolist())


def test_an_end_that_a_model_forces_is_not_for_free(tiny_bart, tiny_tokenizer):
    model = tiny_bart(vocab_size=VOCAB)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)), alpha=0.3)
        expected = AntiLm(length_reward=2.0, beams=8).generate(
            model, BATCH, tokenizer=tiny_tokenizer, max_new_tokens=3, num_return_sequences=8
        )
        plain = draw_candidates(model, BATCH, beams=0, samples=40, max_new_tokens=2)
        model.generation_config.forced_eos_token_id = END
        actual = AntiLm(length_reward=2.0, beams=8).generate(
            model, BATCH, tokenizer=tiny_tokenizer, max_new_tokens=3, num_return_sequences=8
        )
        candidates = draw_candidates(model, BATCH, beams=0, samples=40, max_new_tokens=2)
    assert actual.tolist() == expected.tolist()
    assert not plain.finished.all() and not candidates.finished.all()


def test_without_penalty_and_reward_it_is_beam_search_of_what_ends(build, tiny_tokenizer):
    model = build(vocab_size=VOCAB)
    with torch.no_grad():
        ours = AntiLm(penalty=0.0, beams=200).generate(
            model, BATCH, tokenizer=tiny_tokenizer, max_new_tokens=LONGEST, num_return_sequences=5
        )
        plain = model.generate(
            **BATCH, num_beams=200, num_return_sequences=200, length_penalty=0.0, early_stopping="never",
            do_sample=False, max_new_tokens=LONGEST,
        ).view(2, 200, -1)  # fmt: skip
    for query in range(2):
        ended = [tokens_of(row) for row in plain[query].tolist() if END in row[1:]]
        assert [tokens_of(row) for row in ours.view(2, 5, -1)[query].tolist()] == ended[:5]


def test_neighbours_and_padding_of_the_query_change_no_answer(build, tiny_tokenizer):
    model, decoding = build(), AntiLm(penalty=0.8, steps=2, length_reward=0.2, beams=3)
    together = answer_queries(model, tiny_tokenizer, QUERIES, decoding, max_new_tokens=5)
    if model.config.model_type != "bart":  # its positions are counted from the left
        tiny_tokenizer.padding_side = "left"
        assert answer_queries(model, tiny_tokenizer, QUERIES, decoding, max_new_tokens=5) == together
    alone = [answer_queries(model, tiny_tokenizer, [one], decoding, max_new_tokens=5)[0] for one in QUERIES]
    assert alone == together
    assert answer_queries(model, tiny_tokenizer, QUERIES, AntiLm(penalty=0.0, beams=3), max_new_tokens=5) != together


def test_the_language_model_is_asked_for_the_first_steps_alone():
    asked = []

    def language_model(ids):
        asked.append(ids.shape[1])
        return torch.zeros(len(ids), 4)

    processor = AntiLmProcessor(language_model, 0.5, 2, last_step=4, end_tokens=[END])
    for length in range(1, 5):
        scores = processor(torch.ones(3, length, dtype=torch.long), torch.zeros(3, 4))
        assert scores.isneginf().all(dim=0).tolist() == [length == 4 and token != END for token in range(4)]
    assert asked == [1, 2]
    # Where the end is forbidden, too, something may still be said.
    scores = processor(torch.ones(1, 4, dtype=torch.long), torch.tensor([[0.0, 0.0, -math.inf, 0.0]]))
    assert scores.isfinite().tolist() == [[True, True, False, True]]
    with pytest.raises(ValueError, match="`last_step` needs `end_tokens`"):
        AntiLmProcessor(language_model, 0.5, last_step=4)


def test_any_model_over_the_same_ids_may_be_the_language_model(build, tiny_tokenizer):
    config = GPT2Config(vocab_size=20, n_positions=16, n_embd=8, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2)
    torch.manual_seed(0)
    causal, model = GPT2LMHeadModel(config).eval(), build()
    answers = answer_queries(model, tiny_tokenizer, QUERIES, AntiLm(language_model=causal), max_new_tokens=5)
    assert answers != answer_queries(model, tiny_tokenizer, QUERIES, AntiLm(), max_new_tokens=5)
    small = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=2)).eval()
    with pytest.raises(ValueError, match="the same vocabulary"):
        answer_queries(model, tiny_tokenizer, ["hello"], AntiLm(language_model=small), max_new_tokens=5)


def test_an_empty_source_says_the_same_whatever_was_asked(build):
    model = build()
    language_model = EmptySource(model)
    ids = torch.tensor([[1, 4, 5], [1, 7, 3]])
    scores = language_model(ids)
    torch.testing.assert_close(language_model(ids[1:]), scores[1:])
    torch.testing.assert_close(language_model(ids.flip(0)), scores.flip(0))
    assert scores.isfinite().all() and not torch.allclose(scores[0], scores[1])


# ---- candidates ----


def test_candidates_are_different_and_their_log_probabilities_those_of_single_passes(
    build, tiny_tokenizer, monkeypatch
):
    model = build()
    batch = dict(tiny_tokenizer(QUERIES, padding=True, return_tensors="pt"))
    batch.pop("token_type_ids", None)
    torch.manual_seed(0)
    with torch.no_grad():
        found = draw_candidates(model, batch, beams=4, samples=12, max_new_tokens=4)
    rows = [(int(group), *row) for group, row in zip(found.groups, found.labels.tolist(), strict=True)]
    assert len(set(rows)) == len(rows) > 4 * 8 and found.groups.tolist() == sorted(found.groups.tolist())
    assert found.finished.tolist() == [END in row for row in found.labels.tolist()]
    assert 0 < found.finished.sum() < len(rows)
    together = response_log_probs(model, batch, found.labels, found.groups)
    monkeypatch.setattr("hf_localgan.decoding.likelihood.LOGITS", 1)  # one response at a time
    torch.testing.assert_close(response_log_probs(model, batch, found.labels, found.groups), together)
    for row in range(0, len(rows), 7):
        query = slice(int(found.groups[row]), int(found.groups[row]) + 1)
        single = {name: value[query] for name, value in batch.items()}
        labels = found.labels[row : row + 1, : int(found.lengths[row])]
        logits = model(**single, labels=labels).logits.log_softmax(-1)
        expected = logits.gather(2, labels[:, :, None])[0, :, 0]
        torch.testing.assert_close(together[row, : labels.shape[1]], expected, rtol=1e-4, atol=1e-5)


def test_bidi_is_what_both_models_say(build, tiny_tokenizer):
    model, backward = build(), build(seed=1)
    batch = dict(tiny_tokenizer(QUERIES[:2], padding=True, return_tensors="pt"))
    batch.pop("token_type_ids", None)
    # Three candidates to the first query, one of which says nothing at all, and two to the second.
    labels = torch.tensor(
        [[4, 5, END, -100], [END, -100, -100, -100], [7, 8, 9, 4], [5, END, -100, -100], [4, 5, END, -100]]
    )
    candidates = Candidates(labels, torch.tensor([0, 0, 0, 1, 1]), torch.tensor([True, True, False, True, True]))
    parts = MutualInformationReranker(backward=backward).parts(model, batch, tiny_tokenizer, candidates)
    for row, group in enumerate([0, 0, 0, 1, 1]):
        said = [token for token in labels[row].tolist() if token not in (-100, END)]
        source = torch.tensor([[*said, END]])
        asked = torch.tensor([tiny_tokenizer(QUERIES[group]).input_ids])
        loss = backward(input_ids=source, attention_mask=torch.ones_like(source), labels=asked).loss
        torch.testing.assert_close(parts["backward"][row], -loss * asked.shape[1], rtol=1e-4, atol=1e-4)
        assert parts["query_length"][row] == asked.shape[1]
    assert parts["length"].tolist() == [3, 1, 4, 2, 3]
    # What a candidate scores depends on no other one.
    alone = Candidates(labels[3:4, :2], torch.tensor([0]), torch.tensor([True]))
    second = {name: value[1:] for name, value in batch.items()}
    single = MutualInformationReranker(backward=backward).parts(model, second, tiny_tokenizer, alone)
    torch.testing.assert_close(single["backward"][0], parts["backward"][3], rtol=1e-4, atol=1e-4)
    by_backward = MutualInformationReranker(backward=backward, weight=1.0, normalise="sum").combine(parts)
    assert by_backward.argsort().tolist() == parts["backward"].argsort().tolist()
    by_forward = MutualInformationReranker(backward=backward, weight=0.0, normalise="sum").combine(parts)
    torch.testing.assert_close(by_forward, parts["forward"])


def test_an_answer_is_the_best_candidate_and_further_ones_follow(build, tiny_tokenizer):
    model, backward = build(), build(seed=1)
    decoding = MutualInformationReranker(backward=backward, beams=3, samples=6, weight=0.7)
    first = answer_queries(model, tiny_tokenizer, QUERIES, decoding, max_new_tokens=6, seed=4)
    assert first == answer_queries(model, tiny_tokenizer, QUERIES, decoding, max_new_tokens=6, seed=4)
    several = answer_queries(model, tiny_tokenizer, QUERIES, decoding, max_new_tokens=6, seed=4, num_samples=9)
    assert [row[:1] for row in several] == first and all(len(row) == 9 for row in several)
    assert decoding.most_answers == 9


def test_the_backward_generator_comes_from_the_folder_of_the_generator(tiny_generator, tiny_tokenizer, tmp_path):
    model, backward = tiny_generator(), tiny_generator(seed=1)
    given = MutualInformationReranker(backward=backward, beams=2, samples=4)
    expected = answer_queries(model, tiny_tokenizer, QUERIES, given, max_new_tokens=5)
    model.save_pretrained(tmp_path)
    model = type(model).from_pretrained(tmp_path)
    beside = MutualInformationReranker(beams=2, samples=4)
    with pytest.raises(ValueError, match="has no folder `backward`"):
        answer_queries(model, tiny_tokenizer, QUERIES, beside, max_new_tokens=5)
    backward.save_pretrained(tmp_path / "backward")
    assert answer_queries(model, tiny_tokenizer, QUERIES, beside, max_new_tokens=5) == expected
    tiny_tokenizer.save_pretrained(tmp_path / "backward")
    named = MutualInformationReranker(backward=str(tmp_path / "backward"), beams=2, samples=4)
    assert answer_queries(model, tiny_tokenizer, QUERIES, named, max_new_tokens=5) == expected
    tiny_tokenizer.add_tokens(["another"])
    with pytest.raises(ValueError, match="has another tokenizer than the generator"):
        answer_queries(model, tiny_tokenizer, QUERIES, MutualInformationReranker(backward=str(tmp_path / "backward")))


def test_one_candidate_has_the_same_anti_lm_score_in_the_search_and_in_a_table(build, tiny_tokenizer):
    model = build(vocab_size=VOCAB)
    settings = {"penalty": 0.8, "steps": 2, "length_reward": 0.4}
    search = AntiLm(beams=200, **settings)
    with torch.no_grad():
        best = search.generate(model, BATCH, tokenizer=tiny_tokenizer, max_new_tokens=LONGEST)
    labels = every_ended_response()
    candidates = Candidates(labels.repeat(2, 1), torch.arange(2).repeat_interleave(len(labels)), torch.ones(312).bool())
    reranker = AntiLmReranker(**settings)
    scores = reranker.combine(reranker.parts(model, BATCH, tiny_tokenizer, candidates)).view(2, -1)
    for query in range(2):
        expected = [token for token in labels[scores[query].argmax()].tolist() if token != -100]
        assert tokens_of(best[query].tolist()) == expected
    assert reranker.search(200) == search


def test_names():
    parsed = Decoding.parse("antilm 0.5 3 0.1")
    assert parsed == AntiLm(penalty=0.5, steps=3, length_reward=0.1) and parsed.name == "antilm 0.5 3 0.1"
    assert Decoding.parse("antilm 0.4 all 0 9") == AntiLm(penalty=0.4, steps=None, beams=9)
    assert Decoding.parse("antilm 0.4 all 0 9").name == "antilm 0.4 all 0 9"
    assert Decoding.parse("bidi 0.3") == MutualInformationReranker(weight=0.3)
    assert Decoding.parse("bidi 0.3 runs/backward").backward == "runs/backward"
    assert MutualInformationReranker(weight=0.3, beams=7).name == "bidi 0.3, beams 7"
    for name in (
        "antilm 0.4 all 0 9",
        "bidi 0.5",
        "bidi 0.3 runs/backward",
        "noise 2",
        "rerank energy",
        "rerank energy 0.8",
        "rerank radius 40",
        "rerank radius",
        "rerank discriminator 0.7",
    ):
        assert Decoding.parse(name).name == name
    assert Decoding.parse("antilm 0.5").settings()["penalty"] == 0.5


def test_what_is_refused():
    with pytest.raises(ValueError, match="must be a number"):
        Decoding.parse("antilm much")
    with pytest.raises(ValueError, match="`beams` must be at least 1, got 0"):
        AntiLm(beams=0)
    with pytest.raises(ValueError, match="`beams` and `samples` must be at least 0 and one of them more, got 0 and 0"):
        MutualInformationReranker(beams=0, samples=0)
    with pytest.raises(ValueError, match=r"`weight` must be from 0 .* got 1.5"):
        MutualInformationReranker(weight=1.5)
