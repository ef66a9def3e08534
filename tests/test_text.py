"""One notion of a character, a word and an equal text, over scripts with marks, cases and emoji."""

import unicodedata

import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict

from hf_localgan.data import LengthLimits, group_pairs, load_pairs, train_tokenizer
from hf_localgan.metrics import metric_tokens
from hf_localgan.text import characters, equality_key, is_blank, lower_cased, script_shares, spaced_words

SPACES = " \t\n\x0b\x0c\r"  # of ASCII, as Unicode counts them
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
# In each: two words of their script, and how many characters a reader sees.
TWO_WORDS = {
    "Hindi": ("नमस्ते दुनिया", 6),
    "Tamil": ("வணக்கம் உலகம்", 9),
    "Thai": ("ที่นี่ กิน", 4),
    "Arabic with marks": ("مَرحَبًا عالَم", 9),
    "Hebrew with points": ("שָׁלוֹם עוֹלָם", 8),
    "Vietnamese": ("tiếng Việt", 9),
    "Persian with a joiner": ("می\u200cخواهم بروم", 11),
    "Korean": ("안녕 세상", 4),
}


@pytest.mark.parametrize("script", TWO_WORDS)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_metrics_limits_and_tokenizers_agree_on_words_and_characters(script, form):
    text, seen = TWO_WORDS[script]
    coded = unicodedata.normalize(form, text)
    assert len(metric_tokens(coded)) == len(metric_tokens(coded, "whitespace")) == len(spaced_words(coded)) == 2
    assert metric_tokens(coded) == metric_tokens(text)
    tokenizer = train_tokenizer([text])
    assert len(tokenizer(coded, add_special_tokens=False).input_ids) == 2
    assert tokenizer.decode(tokenizer(coded).input_ids, skip_special_tokens=True) == unicodedata.normalize("NFC", text)
    assert len(characters(coded)) == len(metric_tokens(coded, "characters")) == seen
    array = pa.array([coded, None])
    assert LengthLimits(unit="words").lengths(array).to_pylist() == [2, None]
    assert LengthLimits(unit="characters").lengths(array).to_pylist() == [seen, None]


@pytest.mark.parametrize(
    ("text", "lowered"),
    # soft hyphens are looked past, apostrophes are not
    [
        ("ΛΟΓΟ\u00adΣ", "λογο\u00adς"),
        ("Σ\u00adΟΣ", "σ\u00adος"),
        ("Ο'Σ", "ο'σ"),
        ("ΟΣ'", "ος'"),
        ("οσ\u00ad", "ος\u00ad"),
    ],
)
def test_a_sigma_beside_a_soft_hyphen_or_an_apostrophe_is_one_everywhere(text, lowered):
    tokenizer = train_tokenizer(["a"], lowercase=True)
    assert lower_cased(text) == tokenizer.backend_tokenizer.normalizer.normalize_str(text) == lowered


def test_a_zero_width_space_is_one_between_words_everywhere():
    text = "hello\u200bworld \u200b again"
    tokenizer = train_tokenizer(["hello world again"])
    words = ["hello", "world", "again"]
    assert metric_tokens(text) == metric_tokens(text, "whitespace") == spaced_words(text) == words
    assert len(tokenizer(text, add_special_tokens=False).input_ids) == 3
    assert LengthLimits(max_query=3).lengths(pa.array([text])).to_pylist() == [3]
    assert equality_key(text) == equality_key("hello world again")


@pytest.mark.parametrize(
    "emoji", [FAMILY, "\U0001f44d\U0001f3fd", "\u2764\ufe0f", "\U0001f1e9\U0001f1ea", "1\ufe0f\u20e3"]
)
def test_an_emoji_of_several_code_points_is_one_token_everywhere(emoji):
    text = f"hi {emoji}"
    assert metric_tokens(text) == metric_tokens(text, "whitespace") == ["hi", emoji]
    assert characters(text) == ["h", "i", emoji]
    assert len(train_tokenizer([text])(text, add_special_tokens=False).input_ids) == 2
    assert len(train_tokenizer([f"你{emoji}"], language="zh")(f"你{emoji}", add_special_tokens=False).input_ids) == 2


@pytest.mark.parametrize(
    "same",
    [
        ("tiếng Việt?", unicodedata.normalize("NFD", "Tiếng việt")),
        ("ΣΟΦΟΣ", "σοφος", "σοφοσ"),
        ("STRASSE", "straße", "Straße!"),
        ("İstanbul", "i\u0307stanbul"),
        ("\u2764\ufe0f", "\u2764"),
        ("می\u200cخواهم", "میخواهم"),
        ("e\u0301!", "\u00c9"),
        ("?!", " ? ! "),
        ("a\u00a0b", "ab\u200b"),
    ],
)
def test_texts_that_are_equal_but_for_case_spacing_punctuation_and_coding(same):
    assert len({equality_key(text) for text in same}) == 1


def test_ascii_texts_have_the_key_that_the_rule_gives():
    signs = [chr(code) for code in range(128)]
    for text in [*signs, *(a + b for a in signs for b in signs)]:
        bare = "".join(sign for sign in text.casefold() if sign.isalnum())
        assert equality_key(text) == (bare or "".join(sign for sign in text if sign not in SPACES))


@pytest.mark.parametrize(
    "different",
    [
        ("\u2764\ufe0f", "\u2600\ufe0f"), ("\U0001f44d", "\U0001f44d\U0001f3fd"),
        (FAMILY, FAMILY.replace("\u200d", "")),
        ("a", "á"), ("कि", "की"), ("?!", "!?"), ("5", "5\u0303"),
    ],
)  # fmt: skip
def test_texts_that_are_not_equal(different):
    assert len({equality_key(text) for text in different}) == len(different)


def test_lower_case_of_metrics_and_tokenizers_is_one():
    # a sigma at the end of a word is a final one, after a mark too; one alone is none
    expected = {"ΣΟΦΟΣ ΣΑΣ": "σοφος σας", "σοφοσ": "σοφος", "Σ": "σ", "İ": "i\u0307", "ΣΟΦΌΣ": "σοφός", "ǅ": "ǆ"}
    tokenizer = train_tokenizer(list(expected), lowercase=True)
    for text, lowered in expected.items():
        assert lower_cased(text) == lowered
        assert " ".join(metric_tokens(text)) == lowered == metric_tokens([text], "none")[0]
        assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == lowered


@pytest.mark.parametrize(
    "text", ["", " \t\n", "\u200b", "\ufeff", "\u00ad\u2060", "\u3164", "\u2800", "\x00", "\ufe0f"]
)
def test_nothing_visible_is_blank_to_the_check_of_cells_too(text):
    assert is_blank(text) and spaced_words(text) == characters(text.replace("\u2800", "").replace("\x00", "")) == []
    with pytest.raises(ValueError, match=r"1 row has a response that is empty or not text \(1\)"):
        load_pairs(Dataset.from_dict({"query": ["a", "b"], "response": ["x", text]}))


def test_signs_are_not_blank():
    for text in (".", "\u0301a", "\U0001f44d", "ㅋ", "\ue000"):
        assert not is_blank(text)


def test_a_query_in_another_coding_is_noticed_in_two_splits_and_grouped_in_one():
    composed, decomposed = (unicodedata.normalize(form, "tiếng Việt") for form in ("NFC", "NFD"))
    train = Dataset.from_dict({"query": [decomposed, composed, "x"], "response": ["a", "b", "c"]})
    test = Dataset.from_dict({"query": [composed], "response": ["d"]})
    with pytest.warns(UserWarning, match="1 queries of split `test` also stand in `train`"):
        load_pairs(DatasetDict(train=train, test=test))
    assert group_pairs(train)[:] == {"query": [decomposed, "x"], "responses": [["a", "b"], ["c"]]}


@pytest.mark.parametrize(
    "texts, share",
    [
        (["你好吗", "我很好。"], 1),
        (["你 好 吗 我 很 好"], 0),  # put apart
        (["สวัสดีครับ ผมชื่อสมชาย"], 1),
        (["こんにちは世界"], 1),
        (["ꦲꦏ꧀ꦱꦫꦗꦮ"], 1),  # Javanese
        (["안녕하세요 세상"], 0),  # Korean writes spaces
        (["hello there"], 0),
        (["你好 ab", "abcdef"], 0.2),  # 2 of 10 letters
        ([], 0),
    ],
)
def test_which_texts_have_no_spaces_between_their_words(texts, share):
    assert script_shares(texts).unsegmented == pytest.approx(share)
