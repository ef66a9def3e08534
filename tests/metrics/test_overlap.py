import math

import jiwer
import numpy as np
import pytest
import sacrebleu

from hf_localgan.metrics import bleu, phone_error_rate, sentence_bleu, word_error_rate

GENERATIONS = ["The cat sat on the mat .", "Where are you going now ?", "No !", "I do not know what to say"]
REFERENCES = [
    ["The cat sat on a mat .", "A cat was sitting on the mat ."],
    ["Where are you going ?"],
    ["No , thanks !", "No .", "Never !"],
    ["I do not know what you mean", "What should I say"],
]


def streams():
    """The references as sacrebleu takes them: its n-th list holds each query's n-th reference or None."""
    return [[one[i] if i < len(one) else None for one in REFERENCES] for i in range(3)]


def test_bleu_by_hand():
    # 3 of 3 unigrams and 2 of 2 bigrams match; brevity penalty exp(1 - 4/3)
    actual = bleu(["the cat sat"], [["the cat sat down"]], tokenize="none", max_order=2)
    assert actual.score == pytest.approx(100 * math.exp(-1 / 3))


@pytest.mark.parametrize("tokenize", ["none", "13a"])
@pytest.mark.parametrize("smooth_method", ["exp", "none", "add-k", "floor"])
def test_corpus_bleu_with_ragged_references_is_sacrebleus(tokenize, smooth_method):
    metric = sacrebleu.BLEU(tokenize=tokenize, smooth_method=smooth_method)
    expected = metric.corpus_score(GENERATIONS, streams())
    actual = bleu(GENERATIONS, REFERENCES, tokenize=tokenize, smooth_method=smooth_method)
    assert actual.score == pytest.approx(expected.score, abs=1e-9)
    assert actual.signature == str(metric.get_signature())
    assert "nrefs:var" in actual.signature


def test_single_reference_lowercase_and_order_reach_score_and_signature():
    references = [[one[0].upper()] for one in REFERENCES]
    metric = sacrebleu.BLEU(tokenize="none", lowercase=True, max_ngram_order=2)
    actual = bleu(GENERATIONS, references, tokenize="none", lowercase=True, max_order=2)
    assert actual.score == pytest.approx(metric.corpus_score(GENERATIONS, [[one[0] for one in references]]).score)
    assert actual.signature == f"order:2|{metric.get_signature()}"
    assert bleu(GENERATIONS, references, tokenize="none", max_order=2).score < actual.score / 2  # case counts again


def test_statistics_of_a_resample_equal_scoring_its_text():
    indices = np.array([0, 3, 3, 1])
    resample = bleu([GENERATIONS[i] for i in indices], [REFERENCES[i] for i in indices], tokenize="none")
    statistics = bleu(GENERATIONS, REFERENCES, tokenize="none").statistics
    assert statistics.score(indices) == pytest.approx(resample.score)
    assert statistics.score(max_order=2) == pytest.approx(
        bleu(GENERATIONS, REFERENCES, tokenize="none", max_order=2).score
    )


def test_sentence_bleu_is_sacrebleus_with_effective_order():
    metric = sacrebleu.BLEU(effective_order=True, tokenize="none")
    expected = [metric.sentence_score(*pair).score for pair in zip(GENERATIONS, REFERENCES, strict=True)]
    np.testing.assert_allclose(sentence_bleu(GENERATIONS, REFERENCES, tokenize="none"), expected)


def test_chinese_characters():
    # 我 喜 欢 你 of which 我 喜 欢 match: p1 = 3/4, p2 = 2/3; equal lengths
    actual = bleu(["我喜欢你"], [["我喜欢他"]], tokenize="zh", max_order=2)
    assert actual.score == pytest.approx(100 * math.sqrt(3 / 4 * 2 / 3))


def test_an_empty_generation_and_an_empty_reference_score_zero():
    assert bleu([""], [["a b"]], tokenize="none").score == 0
    assert bleu(["a b"], [[""]], tokenize="none").score == 0


def test_mistakes_in_bleus_input_are_named():
    with pytest.raises(ValueError, match="got 2 and 1"):
        bleu(["a", "b"], [["a"]])
    with pytest.raises(ValueError, match=r"got the string 'a b'.*\[\[reference\]"):
        bleu(["a"], ["a b"])
    with pytest.raises(ValueError, match="Query 0 has no reference"):
        bleu(["a"], [[]])
    with pytest.raises(ValueError, match="at least one query"):
        bleu([], [])


def test_phone_error_rate_by_hand():
    # AH B K -> AH K K D: B to K substituted, D inserted, 2 edits;  T -> nothing: 1 deletion.  3 edits over 4 phones
    actual = phone_error_rate([["AH", "K", "K", "D"], []], [["AH", "B", "K"], ["T"]])
    assert actual.rate == pytest.approx(3 / 4)
    assert (actual.substitutions, actual.insertions, actual.deletions) == (1, 1, 1)
    assert actual.edits.tolist() == [2, 1] and actual.reference_tokens.tolist() == [3, 1]
    assert actual.score(np.array([1, 1, 0])) == pytest.approx((1 + 1 + 2) / (1 + 1 + 3))
    assert phone_error_rate(["AH K K D", ""], ["AH B K", "T"]).rate == actual.rate


def test_word_error_rate_is_jiwers():
    references = [one[0] for one in REFERENCES]
    assert word_error_rate(GENERATIONS, references).rate == pytest.approx(jiwer.wer(references, GENERATIONS))
    # no, thanks! against No!: as words 1 of 3 differ without case, by white space 2 of 2
    assert word_error_rate(["No!"], ["no, thanks!"]).rate == 1.0
    by_words = word_error_rate(["No!"], ["no, thanks!"], tokenization="words", lowercase=True)
    assert by_words.rate == pytest.approx(2 / 4)
    assert by_words.signature.startswith("wer|tok:words|case:lower|N:1|v:")


def test_chinese_character_error_rate():
    assert word_error_rate(["我喜欢你"], ["我喜欢他"], tokenization="characters").rate == pytest.approx(1 / 4)


def test_an_empty_reference_adds_its_insertions_and_only_empty_ones_are_refused():
    # a b against nothing: 2 insertions; a against a: none.  2 edits over 1 token
    assert phone_error_rate(["a b", "a"], ["", "a"]).rate == pytest.approx(2.0)
    with pytest.raises(ValueError, match="All `references` are empty"):
        phone_error_rate(["a b"], [""])


def test_phones_with_spaces_and_unequal_numbers_are_refused():
    with pytest.raises(ValueError, match="free of white space, got 'a b'"):
        phone_error_rate([["a b"]], [["a"]])
    with pytest.raises(ValueError, match="got 1 and 2"):
        phone_error_rate(["a"], ["a", "b"])
