"""Wrong names and values of settings, and inputs of the wrong form: refused by what they are called."""

import numpy as np
import pytest

from hf_localgan import metrics

TEXTS, REFERENCES = ["a b c d", "e f"], [["a b c d"], ["e g"]]
TOKENS = [text.split() for text in TEXTS]


class Vectors(dict):
    name, dim = "constant", 2


VECTORS = Vectors({word: np.ones(2) for word in "abcdefg"})


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (lambda: metrics.bleu(TEXTS, REFERENCES, tokenize="words"), "`tokenize` must be one of .*13a.* got 'words'"),
        (lambda: metrics.bleu(TEXTS, REFERENCES, tokenize=["13a"]), r"`tokenize` must be one of .* got \['13a'\]"),
        (lambda: metrics.bleu(TEXTS, REFERENCES, smooth_method="EXP"), "none, floor, add-k, exp, got 'EXP'"),
        (lambda: metrics.bleu(TEXTS, REFERENCES, max_order=0), "`max_order` must be at least 1, got 0"),
        (lambda: metrics.sentence_bleu(TEXTS, REFERENCES, max_order=0), "`max_order` must be at least 1, got 0"),
        (lambda: metrics.bleu(TEXTS, REFERENCES, max_order="4"), "`max_order` must be a whole number, got str: '4'"),
        (lambda: metrics.distinct_n(TOKENS, "2"), "`n` must be a whole number, got str: '2'"),
        (lambda: metrics.entropy_n(TOKENS, 1.5), "`n` must be a whole number, got float: 1.5"),
        (lambda: metrics.entropy_n(TOKENS, 1, base="e"), "`base` must be above 1 .* got 'e'"),
        (lambda: metrics.score_responses(TEXTS, resamples=-1), "`resamples` must be at least 0, got -1"),
        (lambda: metrics.score_responses(TEXTS, seed="x"), "`seed` must be a whole number, got str: 'x'"),
        (lambda: metrics.score_responses(TEXTS, level="0.9"), "`level` must lie between 0 and 1, .* got '0.9'"),
        (lambda: metrics.score_responses(TEXTS, REFERENCES, radius=-1), "`radius` must be a number of at least 0"),
        (lambda: metrics.score_responses(TEXTS, REFERENCES, vectors="glove"), "`vectors` must be word vectors"),
        (lambda: metrics.score_references(REFERENCES, colour=1), "no setting `colour`. Settings are tokenization"),
        (lambda: metrics.embedding_scores(TOKENS, [[t] for t in TOKENS], {}), "dict has no `name`"),
        (lambda: metrics.compare_systems(TEXTS, TEXTS, metrics=["dist"]), "No score 'dist' in both reports, .*dist_1"),
    ],
)
def test_a_wrong_setting_is_named(score, message):
    with pytest.raises((ValueError, TypeError, KeyError), match=message):
        score()


@pytest.mark.parametrize("tokenize", ["ja-mecab", "spm"])
def test_a_missing_package_of_a_tokenizer_is_named_with_its_remedy(tokenize, monkeypatch):
    from sacrebleu.metrics import bleu

    def without_package(name):
        raise (RuntimeError if name == "ja-mecab" else ImportError)(f"\n\nPlease:\n\n  pip install for-{name}\n")

    monkeypatch.setattr(bleu, "_get_tokenizer", without_package)
    with pytest.raises(ImportError, match=f"`tokenize='{tokenize}'` needs a package .*: pip install for-{tokenize}$"):
        metrics.bleu(TEXTS, REFERENCES, tokenize=tokenize)


@pytest.mark.parametrize(
    "score",
    [
        lambda texts: metrics.bleu(texts, REFERENCES),
        lambda texts: metrics.word_error_rate(texts, TEXTS),
        lambda texts: metrics.phone_error_rate(texts, TEXTS),
        lambda texts: metrics.distinct_n(texts, 1),
        lambda texts: metrics.distinct_response_share(texts),
        lambda texts: metrics.mean_length(texts),
        lambda texts: metrics.score_responses(texts),
    ],
    ids=["bleu", "wer", "per", "distinct", "share", "length", "report"],
)
@pytest.mark.parametrize(
    "texts", [None, 3, "a b", {"a": "b"}, [None, None], [3, 4], [b"a", b"b"], "iterator"], ids=repr
)
def test_what_is_no_list_of_texts_is_refused(score, texts):
    given = iter(TEXTS) if texts == "iterator" else texts
    with pytest.raises((TypeError, ValueError), match=r"generations|takes a string, got"):
        score(given)


@pytest.mark.parametrize(
    ("references", "message"),
    [
        (None, "`references` must be a list .* got NoneType"),
        ({"a": ["b"], "c": ["d"]}, "`references` must be a list .* got dict"),
        ([["a"], 3], r"`references\[1\]` must be a list of references, got int: 3"),
        ([["a"], iter("b")], r"`references\[1\]` must be a list of references, got str_ascii_iterator"),
        ([["a"], None], "Query 1 has no reference"),
        ([["a"], [None]], "`references` must hold strings, got NoneType"),
    ],
)
def test_what_are_no_lists_of_references_is_refused(references, message):
    with pytest.raises((TypeError, ValueError), match=message):
        metrics.bleu(TEXTS, references)


def test_n_grams_longer_than_every_text_are_counted_at_once():
    assert metrics.distinct_n(TOKENS, 10**12) == 0.0


def test_two_responses_that_are_cut_differently_are_two():
    assert metrics.distinct_response_share([["a b"], ["a", "b"], ["a", "b"]]) == pytest.approx(2 / 3)
