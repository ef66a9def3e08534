"""Answers of a generator to many queries."""

import pytest
import torch

from hf_localgan.decoding import Decoding, answer_queries

QUERIES = ["hello", "how are you ?", "what is your name", "i am fine thanks !", "you", "are you my name ?", "hello !"]


def test_answers_come_back_in_the_order_of_the_queries_whatever_the_batches(tiny_generator, tiny_tokenizer):
    model = tiny_generator()
    together = answer_queries(model, tiny_tokenizer, QUERIES, Decoding.greedy(), max_new_tokens=6)
    alone = [answer_queries(model, tiny_tokenizer, [one], Decoding.greedy(), max_new_tokens=6)[0] for one in QUERIES]
    by_two = answer_queries(model, tiny_tokenizer, QUERIES, Decoding.greedy(), max_new_tokens=6, batch_size=2)
    assert together == alone == by_two
    assert len({one[0] for one in together}) > 1  # else order would not show


def test_surrogates_become_characters(tiny_generator, tiny_tokenizer):
    model, settings = tiny_generator(), {"decoding": Decoding.greedy(), "max_new_tokens": 6}
    broken = answer_queries(model, tiny_tokenizer, ["how \ud800 you", "\ud83d\ude00"], **settings)
    assert broken == answer_queries(model, tiny_tokenizer, ["how \ufffd you", "\U0001f600"], **settings)
    with pytest.raises(ValueError, match="temperature is at least 1e-06, got 1e-40"):
        Decoding.sampling(1e-40)


def test_sampling_is_repeated_by_its_seed_and_leaves_the_global_random_state_alone(tiny_generator, tiny_tokenizer):
    model, decoding = tiny_generator(), Decoding.sampling(2.0)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = answer_queries(model, tiny_tokenizer, QUERIES, decoding, max_new_tokens=6, seed=1)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
    torch.manual_seed(8)
    assert answer_queries(model, tiny_tokenizer, QUERIES, decoding, max_new_tokens=6, seed=1) == first
    assert answer_queries(model, tiny_tokenizer, QUERIES, decoding, max_new_tokens=6, seed=2) != first


def test_several_answers_per_query(tiny_generator, tiny_tokenizer):
    model = tiny_generator()
    drawn = answer_queries(model, tiny_tokenizer, QUERIES, Decoding.sampling(2.0), num_samples=4, max_new_tokens=6)
    assert [len(one) for one in drawn] == [4] * len(QUERIES)
    assert any(len(set(one)) > 1 for one in drawn)
    beams = answer_queries(model, tiny_tokenizer, QUERIES[:2], Decoding.beam(3), num_samples=3, max_new_tokens=6)
    best = answer_queries(model, tiny_tokenizer, QUERIES[:2], Decoding.beam(3), max_new_tokens=6)
    assert [len(one) for one in beams] == [3, 3] and [one[0] for one in beams] == [one[0] for one in best]


def test_a_low_temperature_answers_as_greedy_decoding_does(tiny_generator, tiny_tokenizer):
    model = tiny_generator()
    cold = answer_queries(model, tiny_tokenizer, QUERIES, Decoding.sampling(1e-4), max_new_tokens=6)
    assert cold == answer_queries(model, tiny_tokenizer, QUERIES, Decoding.greedy(), max_new_tokens=6)


def test_sampling_draws_from_the_whole_vocabulary(tiny_generator, tiny_tokenizer):
    # transformers' own default keeps the 50 most probable tokens; a model's generation settings may say something else
    model = tiny_generator()
    model.generation_config.top_k, model.generation_config.top_p = 1, 0.1
    drawn = answer_queries(model, tiny_tokenizer, ["hello"], Decoding.sampling(5.0), num_samples=64, max_new_tokens=1)
    assert len({text for text in drawn[0]}) > 8


def test_dropout_is_off_while_answering_and_the_mode_is_restored(tiny_generator, tiny_tokenizer):
    model = tiny_generator(output_dropout=0.9, embedding_dropout=0.9).train()
    first, second = (answer_queries(model, tiny_tokenizer, QUERIES, Decoding.greedy()) for _ in range(2))
    assert first == second and model.training


def test_the_mode_is_restored_after_an_error_too(tiny_generator, tiny_tokenizer, monkeypatch):
    model = tiny_generator().train()

    def broken(**kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "generate", broken)
    with pytest.raises(KeyboardInterrupt):
        answer_queries(model, tiny_tokenizer, QUERIES, Decoding.greedy())
    assert model.training


def test_long_queries_are_cut_at_the_limit_and_answers_too(tiny_generator, tiny_tokenizer):
    model = tiny_generator()
    long = "hello how are you i am fine thanks"  # tokens: hello how </s>
    cut = answer_queries(model, tiny_tokenizer, [long], Decoding.greedy(), max_source_length=3, max_new_tokens=5)
    assert cut == answer_queries(model, tiny_tokenizer, ["hello how"], Decoding.greedy(), max_new_tokens=5)
    assert len(cut[0][0].split()) <= 5


def test_no_query_gives_no_answer(tiny_generator, tiny_tokenizer):
    assert answer_queries(tiny_generator(), tiny_tokenizer, [], Decoding.greedy()) == []


@pytest.mark.parametrize("name", ["tiny_t5", "tiny_bart"])
def test_other_encoder_decoders_answer_too(request, tiny_tokenizer, name):
    model = request.getfixturevalue(name)()
    for decoding in (Decoding.greedy(), Decoding.beam(2), Decoding.sampling(1.0)):
        drawn = answer_queries(model, tiny_tokenizer, QUERIES[:3], decoding, max_new_tokens=4)
        assert [len(one) for one in drawn] == [1, 1, 1]


def test_names_of_decodings():
    assert Decoding.greedy().name == "greedy" and Decoding.greedy().temperature is None
    assert Decoding.beam(5).name == "beam 5"
    assert [Decoding.sampling(t).name for t in (0.7, 1, 0.85)] == [
        "temperature 0.7",
        "temperature 1",
        "temperature 0.85",
    ]


@pytest.mark.parametrize("width", [1, 0, -3])
def test_a_beam_of_one_is_refused(width):
    with pytest.raises(ValueError, match=f"at least 2 hypotheses, got {width}"):
        Decoding.beam(width)


@pytest.mark.parametrize("temperature", [0, -0.5, float("nan"), float("inf")])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match=f"positive, got {temperature}"):
        Decoding.sampling(temperature)
