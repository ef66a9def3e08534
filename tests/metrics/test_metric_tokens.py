import pytest

from hf_localgan.metrics import TOKENIZATIONS, metric_tokens


@pytest.mark.parametrize("text", ["I'm sure you don't.", "I ' m sure you don ’ t .", "I 'm sure you do n't ."])
def test_natural_and_pretokenised_text_give_the_same_words(text):
    assert metric_tokens(text) == ["i", "'m", "sure", "you", "don", "'t", "."]


def test_words_numbers_and_marks_are_cut_apart():
    actual = metric_tokens("Well-known... at 10:30, $3.50 for 2nd <unk>!", lowercase=False)
    expected = ["Well", "-", "known", ".", ".", ".", "at", "10:30", ",", "$", "3.50", "for", "2nd", "<unk>", "!"]
    assert actual == expected


def test_an_apostrophe_that_starts_no_clitic_is_a_mark_of_its_own():
    assert metric_tokens("o'clock 'so'") == metric_tokens("o ' clock ' so '") == ["o", "'", "clock", "'", "so", "'"]


def test_both_ways_to_write_an_accent_give_one_token():
    assert metric_tokens("caf\u00e9") == metric_tokens("cafe\u0301") == ["caf\u00e9"]


def test_chinese_characters_and_jieba_words():
    assert metric_tokens("我 喜欢你。", "characters") == ["我", "喜", "欢", "你", "。"]
    pytest.importorskip("jieba")
    assert metric_tokens("我来到北京大学", "jieba") == ["我", "来到", "北京大学"]


def test_whitespace_and_none():
    assert metric_tokens(" A  b. ", "whitespace") == ["a", "b."]
    assert metric_tokens(["A b", "c"], "none", lowercase=False) == ["A b", "c"]
    assert metric_tokens(["A b", "c"], "none") == ["a b", "c"]


@pytest.mark.parametrize("tokenization", TOKENIZATIONS)
def test_an_empty_utterance_has_no_tokens(tokenization):
    if tokenization == "jieba":
        pytest.importorskip("jieba")
    assert metric_tokens([] if tokenization == "none" else " ", tokenization) == []


def test_a_wrong_name_and_a_wrong_type_are_refused():
    with pytest.raises(ValueError, match="words, characters, jieba, whitespace, none, got 'word'"):
        metric_tokens("a", "word")
    with pytest.raises(TypeError, match="takes a sequence of tokens, got str"):
        metric_tokens("a b", "none")
    with pytest.raises(TypeError, match="takes a string, got list"):
        metric_tokens(["a"], "words")
