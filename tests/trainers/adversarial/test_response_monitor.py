"""Answers to validation queries in a few numbers: by hand, and at the evaluations of a trainer."""

import math

import numpy as np
import pytest
import torch

from hf_localgan.trainers import GanAelTrainer, ResponseMonitor

QUERIES = ["hello", "how are you", "what is your name"]
REFERENCES = [["hello .", "hello hello"], ["i am fine"], ["my name is hello"]]


class Vectors(dict):
    name, dim = "tiny", 3


@pytest.fixture
def vectors():
    """A direction for each kind of word."""
    east, north, up = np.eye(3)
    return Vectors({"hello": east, "i": north, "am": north, "fine": north, "my": up, "name": up})


@pytest.fixture
def answering(monkeypatch):
    """`answering(answers)`: these are what any model says."""

    def use(answers):
        def answer(model, tokenizer, queries, decoding, **arguments):
            answer.arguments = (decoding.name, arguments)
            assert queries == QUERIES
            return [[text] for text in answers]

        monkeypatch.setattr("hf_localgan.trainers.adversarial.monitor.answer_queries", answer)
        return answer

    return use


def test_beams_that_grow_or_repeat_are_measured_and_warned_of(
    answering, tiny_tokenizer, family, pairs, players, caplog
):
    looping = "i am fine i am fine i am"
    said = answering([looping, "i am fine", "my name is hello hello"])
    monitor = ResponseMonitor(QUERIES, REFERENCES, tiny_tokenizer, beams=3, max_new_tokens=7)
    assert monitor.longest == 4.0 and monitor.reference_repetition == 0.0  # "my name is hello"
    scores = monitor.measure(None)
    assert set(scores) == monitor.names
    # Two of three answers have more than four words, one has "i am fine" twice; 8 + 3 + 5 words.
    assert scores["beam_long"] == pytest.approx(2 / 3) and scores["beam_repetition"] == pytest.approx(1 / 3)
    assert scores["beam_length"] == pytest.approx(16 / 3)
    assert said.arguments == ("beam 3", {"max_new_tokens": 9, "max_source_length": None, "batch_size": 128})
    run = players(family("t5"), pairs(8), pairs(3, seed=1), monitor=monitor)
    run.evaluate()
    told = [record.message for record in caplog.records if "beam search" in record.message]
    assert "67% of the beam search's answers are longer than 99 % of the references (5.33 words" in told[0]
    assert "33% of the beam search's answers have a trigram twice, of the references 0%" in told[1]
    caplog.clear()
    players(family("t5"), pairs(8), pairs(3, seed=1), monitor=monitor, beam_fault_share=0.7).evaluate()
    assert not [record for record in caplog.records if "beam search" in record.message]


def test_the_numbers_by_hand(answering, vectors, tiny_tokenizer):
    said = answering(["hello hello hello hello hello", "i am fine thanks", "hello hello hello hello hello"])
    monitor = ResponseMonitor(QUERIES, REFERENCES, tiny_tokenizer, vectors, max_new_tokens=7)
    scores = monitor.measure(None)
    assert said.arguments == ("greedy", {"max_new_tokens": 7, "max_source_length": None, "batch_size": 128})
    # 14 words of 5 kinds; 4 + 3 + 4 pairs of 1 + 3 kinds; 2 + 1 + 2 runs of four words: one 4 times, one once.
    assert scores["dist_1"] == pytest.approx(5 / 14)
    assert scores["dist_2"] == pytest.approx(4 / 11)
    assert scores["ent_4"] == pytest.approx(-(0.8 * math.log(0.8) + 0.2 * math.log(0.2)))
    assert scores["distinct"] == pytest.approx(2 / 3) and scores["length"] == pytest.approx(14 / 3)
    # Relevance is 3 for one direction and 0 for another. First query: 3 with both references; second: 3.
    # Third: my, name, hello against hello: the mean (1, 0, 2) / 3, the extremes (1, 0, 1), and greedily 1 and 1/3.
    third = 1 / math.sqrt(5) + 1 / math.sqrt(2) + (1 + 1 / 3) / 2
    assert scores["relevance"] == pytest.approx((3 + 3 + third) / 3)
    # References of the next query: "i am fine" to the first, "my name is hello" to the second, "hello ." to the third.
    assert monitor.chance == pytest.approx((0 + 0 + third) / 3)
    # The references have (2 + 2 + 3 + 4) / 4 words on average.
    verbosity = math.exp(2 - 2 * (14 / 3) / (11 / 4))
    assert scores["quality"] == pytest.approx(scores["dist_2"] * scores["ent_4"] * 2 * verbosity)


def test_answers_longer_than_the_references_lose_quality_and_shorter_ones_do_not(answering, vectors, tiny_tokenizer):
    def quality(references: list[str]) -> tuple[float, float]:
        answering(["hello hello hello hello", "i am fine thanks", "my name is fine"])
        monitor = ResponseMonitor(QUERIES, [[text] for text in references], tiny_tokenizer, vectors)
        scores = monitor.measure(None)
        above_chance = scores["relevance"] - monitor.chance
        return scores["quality"] / (scores["dist_2"] * scores["ent_4"] * above_chance), scores["length"]

    assert quality(["hello hello", "i am", "my name"]) == (pytest.approx(math.exp(-2)), 4)  # twice as long
    assert quality(["hello", "i", "name"])[0] < math.exp(-2)
    for number in (4, 6):
        longer = [" ".join([text] * number) for text in ("hello", "fine", "name")]
        assert quality(longer)[0] == pytest.approx(1)


def test_answers_no_better_than_those_to_other_queries_have_no_quality(answering, vectors, tiny_tokenizer):
    answering(["fine fine fine fine", "hello hello hello hello", "i am i am"])
    scores = ResponseMonitor(QUERIES, REFERENCES, tiny_tokenizer, vectors).measure(None)
    assert scores["relevance"] == pytest.approx(0.0) and scores["quality"] == 0.0 and scores["ent_4"] > 0


def test_without_vectors_diversity_alone_is_measured(answering, tiny_tokenizer):
    answering(["Hello hello", "i am", "fine"])
    for lowercase, share in ((True, 4 / 5), (False, 1.0)):
        monitor = ResponseMonitor(QUERIES, REFERENCES, tiny_tokenizer, lowercase=lowercase)
        scores = monitor.measure(None)
        assert set(scores) == {"dist_1", "dist_2", "ent_4", "distinct", "length"} and not monitor.scores_relevance
        assert scores["dist_1"] == pytest.approx(share)


def test_a_generator_that_says_nothing_has_scores(answering, vectors, tiny_tokenizer):
    answering(["", "", ""])
    scores = ResponseMonitor(QUERIES, REFERENCES, tiny_tokenizer, vectors).measure(None)
    assert scores == {
        "dist_1": 0, "dist_2": 0, "ent_4": 0, "distinct": pytest.approx(1 / 3), "length": 0, "relevance": 0,
        "quality": 0,
    }  # fmt: skip


def test_it_answers_greedily_and_leaves_the_model_and_random_numbers_alone(family, tiny_tokenizer, vectors):
    model = family("rnn_seq2seq", dropout=True).train()
    monitor = ResponseMonitor(QUERIES, REFERENCES, tiny_tokenizer, vectors, max_new_tokens=6)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    scores = monitor.measure(model)
    assert torch.equal(torch.get_rng_state(), state) and model.training
    assert monitor.measure(model.eval()) == scores
    with torch.no_grad():
        inputs = tiny_tokenizer(QUERIES, padding=True, return_tensors="pt")
        texts = tiny_tokenizer.batch_decode(
            model.generate(inputs["input_ids"], attention_mask=inputs["attention_mask"], max_new_tokens=6),
            skip_special_tokens=True,
        )
    assert scores["length"] == pytest.approx(sum(len(text.split()) for text in texts) / 3)


@pytest.mark.parametrize(
    ("queries", "references", "told"),
    [
        ([], [], "got 0 queries and 0 lists"),
        (["a"], [], "got 1 queries and 0"),
        (["a", "b"], [["c"], []], "2 queries and 1"),
    ],
)
def test_queries_without_references_are_refused(queries, references, told, tiny_tokenizer):
    with pytest.raises(ValueError, match=f"A monitor needs queries with references, .*{told}"):
        ResponseMonitor(queries, references, tiny_tokenizer)


def test_each_evaluation_of_the_trainer_has_the_scores_and_a_prediction_has_not(
    family, pairs, players, tiny_tokenizer, vectors, losses
):
    monitor = ResponseMonitor(QUERIES, REFERENCES, tiny_tokenizer, vectors, max_new_tokens=4)
    run = players(
        family("bart"), pairs(8), pairs(3), cls=GanAelTrainer, monitor=monitor, eval_strategy="steps", eval_steps=1,
        collapse_length=50.0, collapse_share=1.0,
    )  # fmt: skip
    run.train()
    wanted = monitor.measure(run.model)
    assert set(wanted) == {"dist_1", "dist_2", "ent_4", "distinct", "length", "relevance", "quality"}
    for name, value in wanted.items():
        assert len(losses(run, f"eval_{name}")) == 2 and losses(run, f"eval_{name}")[-1] == pytest.approx(value)
    assert "eval_loss" in run.evaluate() and "test_quality" not in run.predict(pairs(2)).metrics


def test_several_validation_splits_with_a_monitor_are_refused(family, pairs, players, tiny_tokenizer):
    monitor = ResponseMonitor(QUERIES, REFERENCES, tiny_tokenizer)
    with pytest.raises(ValueError, match=r"`eval_dataset` has 2 splits \(a, b\).*Give one split"):
        players(family("t5"), pairs(4), {"a": pairs(2), "b": pairs(2)}, monitor=monitor)
