import builtins
import json
import os
import random
import sys
import warnings

import pytest
from datasets import Dataset
from transformers import AutoTokenizer

from hf_localgan.data import (
    encode_pairs,
    keep_language,
    kept_language,
    load_pairs,
    report_unknown,
    tokenization,
    tokenizer_language,
    train_tokenizer,
    unknown_rate,
)

ENGLISH = [
    "I'm here, yes.",
    "I ' m here , yes .",
    'You don\'t say... (really?) "No!"',
    "He's 35, isn't he?",
    "It costs 3.50 -- or $4, at O'Neill's.",
    "café naïve l’été",
]
CHINESE = ["我喜欢喝茶。", "你喜欢iPhone 12吗？", "今天 天气不错，我们去公园吧！", "喝茶的时候，我喜欢看书。"]


def back(tokenizer, text):
    return tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True)


def pieces(tokenizer, text):
    return tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False).input_ids)


def settings(kind, language):
    return {"kind": kind, "language": language, "vocab_size": 600}


EVERY = [("word", "en", ENGLISH), ("bpe", "en", ENGLISH), ("word", "zh", CHINESE), ("bpe", "zh", CHINESE),
         ("word", "zh-words", CHINESE)]  # fmt: skip


@pytest.mark.parametrize("kind, language, texts", EVERY)
def test_decoding_gives_the_text_back(kind, language, texts):
    tokenizer = train_tokenizer(texts, **settings(kind, language))
    assert [back(tokenizer, text) for text in texts] == texts
    assert [tokenizer.decode(ids, skip_special_tokens=True) for ids in tokenizer(texts).input_ids] == texts


@pytest.mark.parametrize("kind, language, texts", EVERY)
def test_special_tokens_and_the_end_of_every_encoding(kind, language, texts):
    tokenizer = train_tokenizer(texts, **settings(kind, language))
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3]) == ["<pad>", "<s>", "</s>", "<unk>"]
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (
        0,
        1,
        2,
        3,
    )
    for encode in (lambda text: tokenizer(text), lambda text: tokenizer(text_target=text)):
        for text in [*texts, ""]:
            ids = encode(text).input_ids
            assert ids[-1] == 2 and not {0, 1, 2} & set(ids[:-1])
    assert set(tokenizer("a")) == {"input_ids", "attention_mask"}


@pytest.mark.parametrize("kind, language, texts", EVERY)
def test_a_saved_tokenizer_is_equal_and_loads_without_jieba(kind, language, texts, tmp_path, monkeypatch):
    tokenizer = train_tokenizer(texts, **settings(kind, language))
    tokenizer.save_pretrained(tmp_path)
    monkeypatch.setitem(sys.modules, "jieba", None)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    assert loaded(texts).input_ids == tokenizer(texts).input_ids
    assert [back(loaded, text) for text in texts] == texts
    assert (loaded.pad_token_id, loaded.bos_token_id, loaded.eos_token_id, loaded.padding_side) == (0, 1, 2, "right")


@pytest.mark.parametrize("kind, language, texts", EVERY)
def test_the_order_of_the_texts_changes_nothing(kind, language, texts):
    shuffled = texts * 3
    random.Random(0).shuffle(shuffled)
    first, second = (
        train_tokenizer(t, **{**settings(kind, language), "vocab_size": 300}) for t in (texts * 3, shuffled)
    )
    assert first.backend_tokenizer.to_str() == second.backend_tokenizer.to_str()


def test_english_units():
    tokenizer = train_tokenizer(ENGLISH)
    assert pieces(tokenizer, "I'm here, yes.") == ["▁I", "'m", "▁here", ",", "▁yes", "."]
    assert pieces(tokenizer, "I ' m here , yes .") == ["▁I", "▁'", "▁m", "▁here", "▁,", "▁yes", "▁."]
    assert pieces(tokenizer, "don't say... (really?)") == ["▁don", "'t", "▁say", "...", "▁(", "really", "?", ")"]
    assert pieces(tokenizer, "3.50 --") == ["▁3", ".", "50", "▁--"]


def test_the_vocabulary_is_the_most_frequent_words_with_ties_in_order():
    # b 3, a 2, d 2, c 1; of six tokens two are left for words, and the tie of a and d goes to a
    tokenizer = train_tokenizer(["b d b a", "a d b c"], vocab_size=6)
    assert tokenizer.convert_ids_to_tokens([4, 5]) == ["▁b", "▁a"] and len(tokenizer) == 6
    assert len(train_tokenizer(["b d b a", "a d b c"], min_frequency=2)) == 7


def test_text_is_brought_to_one_form_of_letters_and_spaces():
    tokenizer = train_tokenizer(["caf\u00e9 is here"])
    assert back(tokenizer, "  cafe\u0301 \t\n is   here ") == "caf\u00e9 is here"


def test_lower_casing():
    tokenizer = train_tokenizer(["Hello World"], lowercase=True)
    assert back(tokenizer, "HELLO world") == "hello world"


def test_unknown_words_are_marked_and_counted():
    tokenizer = train_tokenizer(["I like tea ."])
    ids = tokenizer("I like zebras .").input_ids
    assert tokenizer.decode(ids[:-1]) == "I like <unk> ." and back(tokenizer, "I like zebras .") == "I like ."
    # 4 + 4 tokens without the ends, of which one is unknown
    assert unknown_rate(tokenizer, ["I like zebras .", "I like tea ."]) == 1 / 8
    assert unknown_rate(tokenizer, []) == 0.0


def test_byte_pieces_know_every_text():
    tokenizer = train_tokenizer(ENGLISH, kind="bpe", vocab_size=270)
    strange = "zebra 你好 🙂 don't"
    assert len(tokenizer) <= 270 and back(tokenizer, strange) == strange
    assert unknown_rate(tokenizer, [strange]) == 0.0


def test_chinese_by_character():
    tokenizer = train_tokenizer(CHINESE, language="zh")
    assert pieces(tokenizer, "你喜欢iPhone 12吗？") == [*"你喜欢", "iPhone", "▁", "12", "吗", "？"]


def test_chinese_by_word_is_cut_as_jieba_cuts():
    jieba = pytest.importorskip("jieba")
    jieba.setLogLevel("WARNING")
    tokenizer = train_tokenizer(CHINESE, language="zh-words")
    for text in ("我喜欢喝茶。", "天气不错，我们去公园吧！", "喝茶的时候，我喜欢看书。"):
        assert pieces(tokenizer, text) == jieba.lcut(text)
    # a word that training never saw falls back to its characters
    assert pieces(tokenizer, "茶园") == ["茶", "园"]
    assert back(tokenizer, "茶园") == "茶园"


def test_characters_enter_the_vocabulary_before_the_words_they_make():
    pytest.importorskip("jieba")
    for size in (10, 20, 30):
        words = set(train_tokenizer(CHINESE, language="zh-words", vocab_size=size).get_vocab())
        chinese = {word for word in words if "\u3400" <= word[0] <= "\u9fff"}
        assert len(words) == size and all(set(word) <= words for word in chinese)


def test_without_jieba_the_extra_is_named(monkeypatch):
    real = builtins.__import__
    monkeypatch.delitem(sys.modules, "jieba", raising=False)

    def missing(name, *args, **kwargs):
        if name == "jieba":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r'pip install "hf-localgan\[chinese\]"'):
        train_tokenizer(CHINESE, language="zh-words")


def test_pairs_data_sets_streams_and_generators_give_one_tokenizer():
    data = Dataset.from_dict({"query": ["a b", "c"], "response": ["d", "e f"]})
    expected = train_tokenizer(["a b", "c", "d", "e f"]).backend_tokenizer.to_str()
    for texts in (data, data.to_iterable_dataset(), load_pairs(data), (t for t in ["a b", "c", "d", "e f"])):
        assert train_tokenizer(texts).backend_tokenizer.to_str() == expected


@pytest.mark.parametrize("make, total", [
    (lambda pairs: pairs, 6),
    (lambda pairs: {"train": pairs, "test": pairs}, 6),
    (lambda pairs: list(pairs["query"]), 3),
    (lambda pairs: pairs.to_iterable_dataset(), None),
    (lambda pairs: iter(pairs["query"]), None),
])  # fmt: skip
def test_the_progress_bar_knows_how_many_texts_there_are_where_that_is_known(make, total, monkeypatch):
    totals = []

    def bar(texts, total, **settings):
        totals.append(total)
        return texts

    monkeypatch.setattr(tokenization, "tqdm", bar)
    train_tokenizer(make(Dataset.from_dict({"query": ["a cup", "of", "tea"], "response": ["yes", "no", "tea"]})))
    assert totals == [total]


def test_only_training_splits_are_read():
    data = {split: Dataset.from_dict({"query": [split], "response": ["x"]}) for split in ("train", "test")}
    assert "▁test" not in train_tokenizer(data).get_vocab()
    with pytest.raises(ValueError, match=r"no training split \(found: test\)"):
        train_tokenizer({"test": data["test"]})


@pytest.mark.parametrize(
    "texts, wrong, message",
    [
        ("one text", {}, "got one text"),
        (["a", None], {}, "number 1 is NoneType"),
        ([], {}, "nothing to make a vocabulary of"),
        (["a"], {"min_frequency": 2}, "No word of `texts` occurs 2 times"),
        (["a"], {"vocab_size": 4}, "at least 5"),
        (["a"], {"kind": "bpe", "vocab_size": 100}, "at least 260"),
        (["a"], {"kind": "char"}, '"word" or "bpe"'),
        (["a"], {"language": "fr"}, "`language` must be one of"),
        (["a"], {"kind": "bpe", "language": "zh-words"}, 'choose "zh"'),
    ],
)
def test_bad_input_is_refused(texts, wrong, message):
    with pytest.raises(ValueError, match=message):
        train_tokenizer(texts, **wrong)


def test_a_saved_tokenizer_holds_no_code_of_the_package(tmp_path):
    train_tokenizer(CHINESE, language="zh").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert "auto_map" not in config and "hf_localgan" not in json.dumps(config)


THAI = ["สวัสดีครับ ผมชื่อสมชาย", "ฉันชอบดื่มชา"]
JAPANESE = ["こんにちは世界", "お茶が好きです"]


@pytest.mark.parametrize(
    "texts, language, advice",
    [
        (CHINESE, "en", 'language="zh"'),
        (JAPANESE, "en", 'language="zh"'),
        (THAI, "en", 'Choose kind="bpe"'),
        (THAI, "zh", 'Choose kind="bpe"'),
        (ENGLISH, "zh", 'language="en"'),
    ],
)
def test_a_language_that_cannot_be_meant_for_the_script_is_warned_of(texts, language, advice):
    with pytest.warns(UserWarning, match=advice):
        train_tokenizer(iter(texts), language=language)


@pytest.mark.parametrize("kind, language, texts", EVERY)
def test_a_language_that_fits_is_no_warning_and_is_kept(kind, language, texts, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        tokenizer = train_tokenizer(texts, **settings(kind, language))
        train_tokenizer(["안녕하세요 세상", "हिन्दी भाषा", "我 喜欢 喝茶"])  # with spaces between the words
    assert tokenizer_language(tokenizer) == language
    tokenizer.save_pretrained(tmp_path)
    assert tokenizer_language(AutoTokenizer.from_pretrained(tmp_path)) == kept_language(str(tmp_path)) == language


def test_a_language_is_kept_with_a_tokenizer_that_had_none(tmp_path):
    tokenizer = train_tokenizer(ENGLISH)
    del tokenizer.init_kwargs["language"]
    tokenizer.save_pretrained(tmp_path / "none")
    assert tokenizer_language(tokenizer) is kept_language(str(tmp_path / "none")) is kept_language("/no/such") is None
    keep_language(tokenizer, "zh")
    tokenizer.save_pretrained(tmp_path / "zh")
    assert kept_language(str(tmp_path / "zh")) == "zh"
    with pytest.raises(ValueError, match="`language` must be one of"):
        keep_language(tokenizer, "th")


def test_unknown_tokens_are_reported_by_split_and_warned_of_above_a_tenth():
    tokenizer = train_tokenizer(["a b c d e f g h i j k"])
    # 12 tokens with one unknown are 8.3 %; 10 with two are 20 %; ends of sequence do not count
    known = Dataset.from_dict({"query": ["a b c d e f"], "response": ["g h i j k z"]})
    strange = Dataset.from_dict({"query": ["a b c d x"], "response": ["a b c d y"]})
    splits = {"train": encode_pairs(known, tokenizer), "test": encode_pairs(strange, tokenizer)}
    with pytest.warns(UserWarning, match=r"many tokens of `test` 20% \(a warning from 10% on\)"):
        assert report_unknown(tokenizer, splits) == "unknown tokens: train 8.3%, test 20.0%"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert report_unknown(tokenizer, {"train": splits["train"]}) == "unknown tokens: train 8.3%"
        assert report_unknown(tokenizer, {"train": splits["test"].to_iterable_dataset()}).endswith("in a stream")


@pytest.mark.corpora
@pytest.mark.parametrize(
    "name, kind, language",
    [("subtitles_en", "word", "en"), ("subtitles_en", "bpe", "en"), ("dailydialog", "word", "en"),
     ("weibo_lccc", "word", "zh"), ("weibo_lccc", "word", "zh-words")],
)  # fmt: skip
def test_real_text_comes_back(name, kind, language):
    folder = os.environ.get("HF_LOCALGAN_DATA") or pytest.skip("HF_LOCALGAN_DATA is not set")
    pairs = load_pairs(os.path.join(folder, name), splits=["train"])
    tokenizer = train_tokenizer(pairs, kind=kind, language=language, vocab_size=1_000_000 if kind == "word" else 8_000)
    texts = pairs["train"].shuffle(seed=0).select(range(5_000))["response"][:]
    texts = [" ".join(text.split()) for text in texts if "▁" not in text]
    assert [text for text in texts if back(tokenizer, text) != text] == []
