"""Ids of many texts at once against the tokenizer's own call, and the splitter of words against its former one."""

import random
import unicodedata

import pyarrow as pa
import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hf_localgan.data import load_smalltalk, text_ids, train_tokenizer
from hf_localgan.data import tokenization as splitter
from hf_localgan.data.text_ids import FastEncoder, PlainEncoder, SpacedEncoder, cuts_at_spaces, text_encoder

# What rules of splitting look at: spaces of all sorts, controls, joiners, marks, signs that join what follows them,
# emoji of several code points, sigmas, letters that change their number in lower case, jamo, scripts without spaces.
SIGNS = (
    " \t\n\x0b\x0c\x1c\x1f\x85\xa0\u1680\u2007\u200a\u200b\u200c\u200d\u2028\u202f\u205f\u3000\ufeff\u2060\u180e\x00"
    "\x7f\xad▁▁'’..--,?!\"0123aAbBsStTσΣςİıßéü\u0301\u0308\u0327\u20e3\ufe0f\u0600\u0605\u06dd\u070f\u08e2\u0d4e"
    "\U000110bd\U000111c2\u0915\u093f\u094d\u0e01\u0e33\u0e40\u1100\u1161\u11a8\uac00\u4e2d\u3042\u30a2\U0001f468"
    "\U0001f469\U0001f3fd\U0001f1e9\U0001f1ea\u2764\u203c\ufb01\u212b\u0344\u0958\u1fef\u2126"
)
WORDS = ["</s>", "<pad>", "<unk>", "...", "--", "don't", "I'm", "l’eau", "yes.", "  ", " ", "...."]
ASSIGNED = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]


def random_texts(seed, number):
    rng = random.Random(seed)
    sources = ([*SIGNS], WORDS, [" "], ASSIGNED)
    return [
        "".join(rng.choice(rng.choices(sources, (0.45, 0.15, 0.15, 0.25))[0]) for _ in range(rng.randint(0, 14)))
        for _ in range(number)
    ]


@pytest.fixture(scope="module")
def texts():
    pairs = load_smalltalk()
    responses = [text for row in pairs["test"]["responses"][:60] for text in row]
    return [*random_texts(0, 4_000), *pairs["test"]["query"][:200], *responses]


def former_units():
    return pre_tokenizers.Sequence([
        pre_tokenizers.Metaspace("▁", "always"),
        pre_tokenizers.Split(Regex(splitter.FORMER_ENGLISH_UNITS), "isolated"),
    ])  # fmt: skip


def former(tokenizer, lowercase=False):
    """A word tokenizer as earlier versions wrote it."""
    inner = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    inner.normalizer = splitter._normalizer(lowercase, splitter.FORMER_SPACES)
    inner.pre_tokenizer = former_units()
    return PreTrainedTokenizerFast(tokenizer_object=inner, **splitter.SPECIAL_TOKENS)


def check_splits(texts, lowercase):
    before, after = (
        splitter._normalizer(lowercase, spaces) for spaces in (splitter.FORMER_SPACES, splitter.OTHER_SPACES)
    )
    old, new = former_units(), splitter._units(splitter.ENGLISH_UNITS, spaced=True)
    for text in texts:
        normal = before.normalize_str(text)
        assert normal == after.normalize_str(text)
        assert old.pre_tokenize_str(normal) == new.pre_tokenize_str(normal), ascii(text)


@pytest.mark.parametrize("lowercase", [False, True])
def test_the_splitter_cuts_as_the_former_one_did(texts, lowercase):
    check_splits(texts, lowercase)
    old, naive = former_units(), splitter._units(splitter.FORMER_ENGLISH_UNITS, spaced=True)
    joined = [text for text in texts if old.pre_tokenize_str(text) != naive.pre_tokenize_str(text)]
    assert joined  # there are texts with signs that join the space behind them, which the former form does not reach


def tokenizers_of(texts):
    for lowercase in (False, True):
        word = train_tokenizer(texts, lowercase=lowercase)
        yield from (
            word,
            former(word, lowercase),
            train_tokenizer(texts, kind="bpe", vocab_size=500, lowercase=lowercase),
        )


def check_ids(texts, step):
    for tokenizer in tokenizers_of(texts):
        fast, plain = text_encoder(tokenizer), PlainEncoder(tokenizer)
        assert isinstance(fast, SpacedEncoder)
        for start in range(0, len(texts), step):
            batch = pa.array(texts[start : start + step])
            for limit in (None, 2, 5):
                ids, expected = (encoder(batch, limit).array(pa.int32()) for encoder in (fast, plain))
                assert ids.equals(expected)
        assert fast(pa.array([], pa.string())).array(pa.int32()).to_pylist() == []


@pytest.mark.filterwarnings("ignore:.*of the letters belong to scripts")
def test_ids_are_those_of_the_tokenizer_for_every_text(texts, monkeypatch):
    monkeypatch.setattr(text_ids, "REMEMBERED", 40_000)  # so that the table begins anew
    check_ids(texts[::5], 250)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*of the letters belong to scripts")
@pytest.mark.parametrize("seed", [1, 2])
def test_ids_and_splits_of_many_texts(seed):
    texts = random_texts(seed, 20_000)
    check_splits(texts, lowercase=seed % 2 == 0)
    check_ids(texts, 5_000)


def test_a_splitter_of_its_own_is_called(texts):
    inner = Tokenizer(models.WordLevel({"a": 0, "b": 1, "<pad>": 2, "</s>": 3}, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("a b|."), "isolated")
    own = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="</s>")
    for tokenizer in (own, train_tokenizer(texts, language="zh", vocab_size=300)):
        assert not cuts_at_spaces(tokenizer)
        for limit in (None, 4):
            batch = pa.array(texts[-300:])
            fast, plain = text_encoder(tokenizer), PlainEncoder(tokenizer, target=True)
            assert isinstance(fast, FastEncoder)
            assert fast(batch, limit).array(pa.int64()).equals(plain(batch, limit).array(pa.int64()))


def changed(tokenizer, change):
    copy = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()), **splitter.SPECIAL_TOKENS
    )
    change(copy)
    return copy


class OwnCall(PreTrainedTokenizerFast):
    def _encode_plus(self, *args, **kwargs):
        return super()._encode_plus(*args, **kwargs)


def of_own_class(tokenizer):
    tokenizer.__class__ = OwnCall


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.add_tokens([AddedToken("a b", normalized=False)]),
        lambda t: t.add_tokens([AddedToken("x", lstrip=True)]),
        lambda t: t.add_tokens([AddedToken("x", normalized=True)]),
        lambda t: setattr(t, "truncation_side", "left"),
        lambda t: setattr(t, "split_special_tokens", True),
        lambda t: setattr(t.backend_tokenizer, "pre_tokenizer", pre_tokenizers.Whitespace()),
        of_own_class,
    ],
)
def test_what_reaches_across_a_space_or_may_do_so_is_not_looked_up(change):
    tokenizer = train_tokenizer(["a b c", "x"])
    assert cuts_at_spaces(changed(tokenizer, lambda t: t.add_tokens([AddedToken("<turn>", normalized=False)])))
    other = changed(tokenizer, change)
    assert not cuts_at_spaces(other)
    batch = pa.array(["a b c", "x  a <turn> x"])
    for limit in (None, 3):
        expected = other(batch.to_pylist(), truncation=limit is not None, max_length=limit).input_ids
        assert text_encoder(other)(batch, limit).array(pa.int32()).to_pylist() == expected
