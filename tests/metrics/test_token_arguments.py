"""Text where tokens are expected is refused everywhere, and scripts without spaces are noticed."""

import inspect
import warnings

import numpy as np
import pytest

from hf_localgan import metrics
from hf_localgan.data import train_word_vectors
from hf_localgan.payoff import EditPayoff, ExactEditPayoff, HammingPayoff, NegativeTokenErrorRate, RougeL, SentenceBleu


class Letters:
    """A vector for every letter, so that text taken for tokens would get a score."""

    name, dim = "letters", 2

    def __contains__(self, word):
        return len(word) == 1

    def __getitem__(self, word):
        return np.array([1.0, ord(word)])


TEXT, TOKENS = "hello world", ["hello", "world"]
TAKING_TOKENS = {
    "NgramCounts": lambda wrong: metrics.NgramCounts(wrong, 1),
    "of_responses": metrics.NgramCounts.of_responses,
    "distinct_n": lambda wrong: metrics.distinct_n(wrong, 1),
    "response_distinct_n": lambda wrong: metrics.response_distinct_n(wrong, 1),
    "mean_distinct_n": lambda wrong: metrics.mean_distinct_n(wrong, 1),
    "entropy_n": lambda wrong: metrics.entropy_n(wrong, 1),
    "distinct_response_share": metrics.distinct_response_share,
    "mean_length": metrics.mean_length,
    "embedding_scores": lambda wrong: metrics.embedding_scores(wrong, [[["a"]]] * len(wrong), Letters()),
    "embedding_scores of references": lambda wrong: metrics.embedding_scores([["a"]], [wrong], Letters()),
    "utterance_vectors": lambda wrong: metrics.utterance_vectors(wrong, Letters()),
    "vector_coverage": lambda wrong: metrics.vector_coverage(wrong, Letters()),
    "phone_confusions": lambda wrong: metrics.phone_confusions(wrong, wrong),
    "train_word_vectors": lambda wrong: train_word_vectors(wrong, dim=1, min_count=1),
}
TAKING_ONE = {
    "align_phones": lambda wrong: metrics.align_phones(wrong, ["a"]),
    "align_phones to": lambda wrong: metrics.align_phones(["a"], wrong),
    "metric_tokens": lambda wrong: metrics.metric_tokens(wrong, "none"),
    **{
        function.__name__: lambda wrong, function=function: function(wrong, ["a"], Letters())
        for function in (
            metrics.embedding_average, metrics.greedy_matching, metrics.vector_extrema, metrics.relevance,
        )
    },
    "reference": lambda wrong: metrics.relevance(["a"], wrong, Letters()),
}  # fmt: skip


@pytest.mark.parametrize("name", TAKING_TOKENS)
@pytest.mark.parametrize("wrong", [TEXT, [TEXT], TOKENS, [["a"], "b"], [b"a"]], ids=str)
def test_texts_where_lists_of_tokens_are_expected_are_refused(name, wrong):
    with pytest.raises((TypeError, ValueError), match="tokens|words|list of references"):
        TAKING_TOKENS[name](wrong)


@pytest.mark.parametrize("name", TAKING_ONE)
def test_a_text_where_tokens_are_expected_is_refused(name):
    for wrong in (TEXT, b"hello"):
        with pytest.raises(TypeError, match="token"):
            TAKING_ONE[name](wrong)


def test_every_public_function_of_tokens_is_tried_here():
    tried = " ".join([*TAKING_TOKENS, *TAKING_ONE])
    taking = [
        name for name in metrics.__all__
        if inspect.isfunction(getattr(metrics, name)) and "Tokens" in str(inspect.signature(getattr(metrics, name)))
    ]  # fmt: skip
    assert all(name in tried for name in taking), taking


TAKING_TEXTS = {
    "bleu": lambda wrong: metrics.bleu(wrong, [["a"]] * len(wrong)),
    "sentence_bleu": lambda wrong: metrics.sentence_bleu(wrong, [["a"]] * len(wrong)),
    "word_error_rate": lambda wrong: metrics.word_error_rate(wrong, ["a"] * len(wrong)),
    "word_error_rate of references": lambda wrong: metrics.word_error_rate(["a"] * len(wrong), wrong),
    "phone_error_rate": lambda wrong: metrics.phone_error_rate(wrong, ["a"] * len(wrong)),
    "score_responses": lambda wrong: metrics.score_responses(wrong, [["a"]] * len(wrong)),
    "queries": lambda wrong: metrics.score_responses(["a"] * len(wrong), queries=wrong),
    "samples": lambda wrong: metrics.score_responses(["a"], [["a"]], samples=[wrong]),
    "score_references": lambda wrong: metrics.score_references([wrong]),
}


@pytest.mark.parametrize("name", TAKING_TEXTS)
def test_one_text_where_a_list_of_texts_is_expected_is_refused(name):
    with pytest.raises((TypeError, ValueError), match="list"):
        TAKING_TEXTS[name](TEXT)


def test_tokens_without_an_order_and_orders_that_are_no_number_are_refused():
    for wrong in ({"a", "b"}, {"a": 1}):
        with pytest.raises(TypeError, match="must hold tokens"):
            metrics.distinct_n([wrong], 1)
    with pytest.raises(TypeError, match="must hold strings, got list"):
        metrics.word_error_rate([["a"]], [["a"]])
    for wrong in (1.5, "1", True):
        with pytest.raises((TypeError, ValueError), match="`n` must be (at least 1|a whole number), got "):
            metrics.distinct_n([["a"]], wrong)


@pytest.mark.parametrize("reward", [RougeL(), NegativeTokenErrorRate(), SentenceBleu()])
@pytest.mark.parametrize("wrong", ["hello", b"hello"])
def test_rewards_take_no_text_for_token_ids(reward, wrong):
    for pair in ((wrong, [1]), ([1], wrong)):
        with pytest.raises(ValueError, match="integer token ids"):
            reward(*pair)


@pytest.mark.parametrize("payoff", [HammingPayoff, EditPayoff, ExactEditPayoff])
@pytest.mark.parametrize("wrong", ["567", ["567"], [b"56"], [["5", "6"]], [5, 6]], ids=str)
def test_payoffs_take_rows_of_token_ids_alone(payoff, wrong):
    keys = np.arange(len(wrong), dtype=np.uint64)
    with pytest.raises(ValueError, match="integer token ids"):
        payoff(range(4, 9), 0.8).draw(wrong, keys)


CHINESE, THAI, SPACED = ["你好吗", "我很好。谢谢"], ["สวัสดีครับ ผมชื่อสมชาย"], ["我 喜欢 你", "하이 세상"]


@pytest.mark.parametrize("texts", [CHINESE, THAI])
@pytest.mark.parametrize(
    "score",
    [
        lambda texts: metrics.score_responses(texts, resamples=0),
        lambda texts: metrics.score_references([[text] for text in texts], resamples=0),
        lambda texts: metrics.bleu(texts, [[text] for text in texts]),
        lambda texts: metrics.sentence_bleu(texts, [[text] for text in texts], tokenize="intl"),
        lambda texts: metrics.word_error_rate(texts, texts),
        lambda texts: metrics.load("distinct_n").compute(predictions=texts),
        lambda texts: metrics.load("response_bleu").compute(predictions=texts, references=[[text] for text in texts]),
    ],
)
def test_clauses_counted_as_words_are_warned_of(texts, score):
    with pytest.warns(UserWarning, match="written without spaces.*whole clauses are counted as one. Choose"):
        score(texts)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        score(SPACED)


def test_what_cuts_such_text_is_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert metrics.score_responses(CHINESE, tokenization="characters")["mean_length"].value == 4.5
        metrics.bleu(CHINESE, [[text] for text in CHINESE], tokenize="zh")
        metrics.score_responses([["你好吗"]], tokenization="none")


def test_a_tokenizer_that_sacrebleu_does_not_have_is_named():
    with pytest.raises(ValueError, match="one of sacrebleu's tokenizers, 13a, .*got 'words'"):
        metrics.bleu(["a"], [["a"]], tokenize="words")
