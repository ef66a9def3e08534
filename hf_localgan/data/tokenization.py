"""Tokenizers made from the training text itself, for models that start from nothing."""

import json
import math
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import suppress
from functools import cache
from itertools import chain, islice, product
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from datasets import Dataset, IterableDataset
from datasets.utils import tqdm
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from hf_localgan.files import missing_path, replacing
from hf_localgan.text import FINAL_SIGMA, SAMPLED_TEXTS, UNSPACED_SHARE, script_shares

SPECIAL_TOKENS = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}  # ids 0, 1, 2, 3
LANGUAGES = ("en", "zh", "zh-words")
LANGUAGE = "language"  # under this name a tokenizer's configuration keeps what its text was cut as
UNKNOWN_SHARE = 0.1  # of a split's tokens; above, a tokenizer does not know the text
CHINESE_SHARE = 0.05  # of the letters; below, cutting Chinese characters cuts next to nothing
SPACE = "▁"
Texts: TypeAlias = Iterable[str] | Dataset | IterableDataset | Mapping[str, Any]
# A word, a number, an apostrophe with what follows it inside a word ("don" + "'t"), or one sign; each keeps the mark of
# a space before it, which is what lets decoding give back "yes." and "yes ." alike. A mark alone is a literal "▁".
# Joiners (U+200C, U+200D) belong to the word they stand in, and one sign is what is seen as one: an emoji may have
# several code points.
LETTERS = r"[\p{L}\p{M}]+(?:[\x{200c}\x{200d}][\p{L}\p{M}]+)*"
NUMBERS = r"\p{N}+(?!\p{M})"  # a digit with a mark on it, as of a keycap, is a sign
# Such a sign ends before the next space, though some signs join what follows them (`(?~|x|y)` is `y` before any `x`).
ENGLISH_UNITS = (
    rf"{SPACE}?(?:{LETTERS}|{NUMBERS}|(?<=\p{{L}})['’]\p{{L}}+|\.\.\.|--|(?!{SPACE})(?~|{SPACE}|\X))|{SPACE}"
)
# All white space but a single space, which stays what it is.
OTHER_SPACES = r"[\s\u200b]{2,}|[^\S ]|\u200b"
# What earlier versions wrote into their tokenizers: the same tokens, more slowly.
FORMER_ENGLISH_UNITS = rf"{SPACE}?(?:{LETTERS}|{NUMBERS}|(?<=\p{{L}})['’]\p{{L}}+|\.\.\.|--|(?!{SPACE})\X)|{SPACE}"
FORMER_SPACES = r"[\s\u200b]+"
# Words of other scripts and numbers whole, all else sign by sign. Spaces are rare, mark pauses: a token of their own.
IDEOGRAPHS = r"\p{Han}\p{Hiragana}\p{Katakana}"
CHINESE_UNITS = rf"[\p{{L}}\p{{M}}&&[^{IDEOGRAPHS}]]+|{NUMBERS}|\.\.\.|(?!{SPACE})\X|."
# The same signs for Python, whose `re` knows no scripts.
HAN = (("\u3400", "\u9fff"), ("\uf900", "\ufaff"), ("\U00020000", "\U0003ffff"))
CHINESE_RUNS = rf"\p{{Han}}+|{CHINESE_UNITS}"
# All that a tokenizer depends on beside texts and settings, for the name of the file that it is kept in. Raise the
# number where the same patterns come to make another tokenizer.
RULES = (1, SPECIAL_TOKENS, ENGLISH_UNITS, OTHER_SPACES, CHINESE_UNITS, CHINESE_RUNS, HAN, FINAL_SIGMA)


def train_tokenizer(
    texts: Texts,
    *,
    kind: Literal["word", "bpe"] = "word",
    vocab_size: int = 40_000,
    language: Literal["en", "zh", "zh-words"] = "en",
    lowercase: bool = False,
    min_frequency: int = 1,
    kept: Path | None = None,
) -> PreTrainedTokenizerFast:
    """A tokenizer over the most frequent words or pieces of `texts`.

    Ids 0 to 3 are `<pad>`, `<s>`, `</s>`, `<unk>`. Every encoding ends with `</s>` and none starts with `<s>`. Text is
    brought to NFC with single spaces; `decode(..., skip_special_tokens=True)` gives that text back, whether it was
    tokenised before ("yes , I ' m") or not, but for words outside the vocabulary. Equal input gives an equal tokenizer:
    ties of frequency are broken by the token itself.

    Args:
        texts: an iterable of texts (a generator will do), a data set of `query` and `response`, or `Pairs`, of which
            the training splits are read.
        kind: `"word"`: words, numbers, signs and the clitics of English ("don" + "'t"). `"bpe"`: byte-level byte-pair
            encoding, which knows no unknown word.
        vocab_size: largest number of tokens, special tokens included. The default is the LocalGAN paper's.
        language: `"en"`, for languages that write spaces; `"zh"`: each Chinese character is a token, words in other
            scripts and numbers are whole; `"zh-words"`: words as jieba cuts them (needs the `chinese` extra, for
            training only).
        lowercase: fold case before everything else; a sigma at the end of a word becomes a final one.
        min_frequency: leave out what is rarer, single characters of `"zh-words"` included.
        kept: a file of this very tokenizer, made by an earlier call. It is read in place of the texts where it is
            there, and else written; one that cannot be read or written is no fault.

    Warns where `language` cannot be meant for the script that the texts are written in. The tokenizer's configuration
    keeps the language (see `tokenizer_language`).

    For `"zh-words"` jieba cuts the training text and its words with their frequencies become a unigram model, which
    takes the most probable cut, as jieba itself does with its own dictionary. So a saved tokenizer is plain data that
    `AutoTokenizer` loads where jieba is missing. Words outside the vocabulary fall back to characters.
    """
    _check_settings(kind, vocab_size, language, min_frequency)
    remaining = _iterate(texts)
    first = list(islice(remaining, SAMPLED_TEXTS))
    _warn_of_script(first, kind, language)
    tokenizer = None if kept is None else _read(kept)
    if tokenizer is None:
        tokenizer = _train(
            chain(first, remaining), _number(texts), kind, vocab_size, language, lowercase, min_frequency
        )
        if kept is not None:
            with suppress(OSError), replacing(kept) as path:
                path.write_text(tokenizer.to_str(), encoding="utf-8")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,  # it would take the space out of "yes ."
        model_input_names=["input_ids", "attention_mask"],
        padding_side="right",
        **{LANGUAGE: language},
        **SPECIAL_TOKENS,
    )


def _read(path: Path) -> Tokenizer | None:
    """The tokenizer of a file; `None` where there is none, or a damaged one."""
    try:
        return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception:  # of no class of its own where the content is at fault
        return None


def _train(
    texts: Iterable[str], number: int | None, kind: str, vocab_size: int, language: str, lowercase: bool,
    min_frequency: int,
) -> Tokenizer:  # fmt: skip
    """The tokenizer itself, of `number` texts, where that is known; a progress bar shows how many are read."""
    reading = "Reading texts for the tokenizer"
    texts = tqdm(texts, desc=reading, unit=" texts", total=number, delay=1)
    if kind == "bpe":
        tokenizer = _train_pieces(texts, language, vocab_size, lowercase, min_frequency)
    elif language == "zh-words":
        tokenizer = _train_chinese_words(texts, vocab_size, lowercase, min_frequency)
    else:
        tokenizer = _train_words(texts, language, vocab_size, lowercase, min_frequency)
    if kind == "word" and tokenizer.get_vocab_size() <= len(SPECIAL_TOKENS):
        raise ValueError(
            f"No word of `texts` occurs {min_frequency} times or more: there is nothing to make a vocabulary of."
        )
    eos = SPECIAL_TOKENS["eos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {eos}", pair=f"$A {eos} $B {eos}", special_tokens=[(eos, tokenizer.token_to_id(eos))]
    )
    return tokenizer


def _check_settings(kind: str, vocab_size: int, language: str, min_frequency: int) -> None:
    if kind not in ("word", "bpe"):
        raise ValueError(f'`kind` must be "word" or "bpe", got {kind!r}.')
    if language not in LANGUAGES:
        raise ValueError(f"`language` must be one of {', '.join(LANGUAGES)}, got {language!r}.")
    if kind == "bpe" and language == "zh-words":
        raise ValueError('`language="zh-words"` makes words; with `kind="bpe"` choose "zh".')
    smallest = len(SPECIAL_TOKENS) + (256 if kind == "bpe" else 1)
    if vocab_size < smallest:
        raise ValueError(f'`vocab_size` must be at least {smallest} for `kind="{kind}"`, got {vocab_size}.')
    if min_frequency < 1:
        raise ValueError(f"`min_frequency` must be at least 1, got {min_frequency}.")


def _warn_of_script(texts: list[str], kind: str, language: str) -> None:
    shares = script_shares(texts)
    if kind != "word" or not shares.letters:
        return  # pieces of bytes are cut in every script
    chinese = shares.chinese + shares.kana
    if language == "en" and shares.unsegmented > UNSPACED_SHARE:
        advice = 'language="zh" for Chinese and Japanese, or ' if chinese > UNSPACED_SHARE else ""
        warnings.warn(
            f"{shares.unsegmented:.0%} of the letters belong to scripts that are written without spaces, and "
            'language="en" takes what stands between spaces for words: each clause becomes a token, and most '
            f'clauses of other texts will be unknown. Choose {advice}kind="bpe", which knows every text.',
            stacklevel=3,
        )
    elif language != "en" and chinese < CHINESE_SHARE:
        other = "en" if shares.unsegmented <= UNSPACED_SHARE else None
        advice = f'language="{other}"' if other else 'kind="bpe", which knows every text'
        warnings.warn(
            f'Only {chinese:.1%} of the letters are Chinese or Japanese, so language="{language}" cannot be meant. '
            f"Choose {advice}.",
            stacklevel=3,
        )


def tokenizer_language(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The language, one of `LANGUAGES`, that a tokenizer's configuration keeps; `None` where it keeps none of them."""
    kept = tokenizer.init_kwargs.get(LANGUAGE)
    return kept if kept in LANGUAGES else None


def kept_language(model: str) -> str | None:
    """The language that is kept with a model or a tokenizer; `None` where there is none, or nothing to be read.

    Args:
        model: folder or Hub id; only the tokenizer's configuration is read.
    """
    kept = stored_settings(model).get(LANGUAGE)
    return kept if kept in LANGUAGES else None


def stored_settings(model: str) -> dict[str, Any]:
    """The configuration of the tokenizer that is kept with a model; empty where there is none, or nothing to be read.

    Args:
        model: folder or Hub id.
    """
    if missing_path(model) is not None:
        return {}
    try:
        return get_tokenizer_config(model)
    except (OSError, ValueError):
        return {}  # whoever loads the model says what is wrong with it


def keep_language(tokenizer: PreTrainedTokenizerBase, language: str) -> None:
    """Writes the language into a tokenizer's configuration, to be saved with it and with its model."""
    if language not in LANGUAGES:
        raise ValueError(f"`language` must be one of {', '.join(LANGUAGES)}, got {language!r}.")
    tokenizer.init_kwargs[LANGUAGE] = language


def forget_last_call(processor: Any) -> None:
    """Takes back the truncation and padding of the last call, before a tokenizer is saved.

    A fast tokenizer keeps them and writes them into its file, so that it would depend on what was encoded last, and the
    file alone would cut texts.

    Args:
        processor: a tokenizer, or what has one, such as a processor of speech; anything else stays as it is.
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()


def report_unknown(tokenizer: PreTrainedTokenizerBase, splits: Mapping[str, Dataset]) -> str:
    """The share of unknown tokens in each split in one line; warns of splits above `UNKNOWN_SHARE`.

    Args:
        tokenizer: that encoded the splits.
        splits: rows of `input_ids` and `labels`, as `encode_pairs` makes them. Streams are left out.

    Returns:
        A line such as "unknown tokens: train 0.4%, test 2.1%".
    """
    counted = {split: data for split, data in splits.items() if isinstance(data, Dataset)}
    if tokenizer.unk_token_id is None:
        return "unknown tokens: none, the tokenizer has no token for them"
    if not counted:
        return "unknown tokens: not counted in a stream"
    shares = {split: _unknown_share(tokenizer, data) for split, data in counted.items()}
    high = [f"`{split}` {share:.0%}" for split, share in shares.items() if share > UNKNOWN_SHARE]
    if high:
        warnings.warn(
            f"The tokenizer does not know many tokens of {', '.join(high)} (a warning from {UNKNOWN_SHARE:.0%} on): a "
            "model can neither read nor write them. Raise `vocab_size`, train on text like it, choose the `language` "
            'of its script, or take pieces of words (`tokenizer_kind="bpe"`).',
            stacklevel=2,
        )
    return "unknown tokens: " + ", ".join(f"{split} {share:.1%}" for split, share in shares.items())


def _unknown_share(tokenizer: PreTrainedTokenizerBase, data: Dataset) -> float:
    added = [token for token in (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)
             if token is not None and token != tokenizer.unk_token_id]  # fmt: skip
    unknown = total = 0
    for batch in data.select_columns(["input_ids", "labels"]).with_format("arrow").iter(batch_size=10_000):
        for name in ("input_ids", "labels"):
            ids = batch[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            total += int((~np.isin(ids, added)).sum())
            unknown += int((ids == tokenizer.unk_token_id).sum())
    return unknown / total if total else 0.0


def unknown_rate(tokenizer: PreTrainedTokenizerBase, texts: Texts) -> float:
    """Share of tokens of `texts` that the tokenizer does not know, from 0 to 1; special tokens it adds are not counted.

    Args:
        texts: as in `train_tokenizer`.
    """
    unknown = total = 0
    remaining = _iterate(texts)
    while batch := list(islice(remaining, 10_000)):
        for ids in tokenizer(batch, add_special_tokens=False, verbose=False).input_ids:
            total += len(ids)
            unknown += ids.count(tokenizer.unk_token_id)
    return unknown / total if total else 0.0


def _number(texts: Texts) -> int | None:
    """How many texts there are, where that is known."""
    if isinstance(texts, Mapping):
        numbers = [_number(texts[split]) for split in texts if split.startswith("train")]
        return None if None in numbers else sum(cast(list[int], numbers))
    if isinstance(texts, Sized):
        return (2 if isinstance(texts, Dataset) else 1) * len(texts)
    return None


def _iterate(texts: Texts) -> Iterator[str]:
    if isinstance(texts, str):
        raise ValueError("`texts` must be an iterable of texts, got one text. Put it into a list.")
    if isinstance(texts, Mapping):
        training = [split for split in texts if split.startswith("train")]
        if not training:
            raise ValueError(f"The pairs have no training split (found: {', '.join(texts)}). Pass the split to read.")
        for split in training:
            yield from _iterate(texts[split])
    elif isinstance(texts, (Dataset, IterableDataset)):
        for batch in texts.with_format(None).select_columns(["query", "response"]).iter(batch_size=10_000):
            for query, response in zip(batch["query"], batch["response"], strict=True):
                yield query
                yield response
    else:
        for number, text in enumerate(texts):
            if not isinstance(text, str):
                raise ValueError(f"`texts` must hold texts, but number {number} is {type(text).__name__}.")
            yield text


@cache
def spaced_pipelines() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Normalizers and pre-tokenizers, as tokenizers write them, that cut a text at each space, whatever stands beside.

    They are those of `train_tokenizer` for languages with spaces, in this version and in earlier ones.
    """
    former = pre_tokenizers.Sequence([
        pre_tokenizers.Metaspace(SPACE, "always"), pre_tokenizers.Split(Regex(FORMER_ENGLISH_UNITS), "isolated")
    ])  # fmt: skip
    pipelines = []
    for lowercase, spaces in product((False, True), (OTHER_SPACES, FORMER_SPACES)):
        normalizer = json.loads(_normalizer(lowercase, spaces).__getstate__())
        for cutter in (_units(ENGLISH_UNITS, spaced=True), former, _pieces(spaced=True)):
            pipelines.append((normalizer, json.loads(cutter.__getstate__())))
    return pipelines


def _normalizer(lowercase: bool, spaces: str = OTHER_SPACES) -> normalizers.Normalizer:
    steps = [normalizers.NFC(), normalizers.Replace(Regex(spaces), " "), normalizers.Strip()]
    # as `text.lower_cased`
    final = normalizers.Replace(Regex(FINAL_SIGMA), "ς")
    return normalizers.Sequence(steps + [normalizers.Lowercase(), final] if lowercase else steps)


def _units(pattern: str, spaced: bool) -> pre_tokenizers.PreTokenizer:
    space = pre_tokenizers.Metaspace(SPACE, "always" if spaced else "never", split=False)
    return pre_tokenizers.Sequence([space, pre_tokenizers.Split(Regex(pattern), "isolated")])


def _pieces(spaced: bool) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=spaced)


def _train_words(
    texts: Iterable[str], language: str, vocab_size: int, lowercase: bool, min_frequency: int
) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(unk_token=SPECIAL_TOKENS["unk_token"]))
    tokenizer.normalizer = _normalizer(lowercase)
    if language == "en":
        tokenizer.pre_tokenizer = _units(ENGLISH_UNITS, spaced=True)
        unknown = SPECIAL_TOKENS["unk_token"]  # stands for a word, so it is shown as one
        spaced = decoders.Replace(unknown, SPACE + unknown)
        tokenizer.decoder = decoders.Sequence([spaced, decoders.Metaspace(SPACE, "always")])
    else:
        tokenizer.pre_tokenizer = _units(CHINESE_UNITS, spaced=False)
        tokenizer.decoder = decoders.Metaspace(SPACE, "never")
    trainer = trainers.WordLevelTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(SPECIAL_TOKENS.values()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _train_pieces(
    texts: Iterable[str], language: str, vocab_size: int, lowercase: bool, min_frequency: int
) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL_TOKENS["unk_token"]))
    tokenizer.normalizer = _normalizer(lowercase)
    spaced = language == "en"
    tokenizer.pre_tokenizer = _pieces(spaced)
    # the space put before the first word goes again
    tokenizer.decoder = (
        decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)]) if spaced else decoders.ByteLevel()
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=min_frequency, special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _train_chinese_words(texts: Iterable[str], vocab_size: int, lowercase: bool, min_frequency: int) -> Tokenizer:
    try:
        import jieba
    except ImportError as error:
        raise ImportError('`language="zh-words"` cuts words by jieba: pip install "hf-localgan[chinese]".') from error
    jieba.setLogLevel("WARNING")
    normalizer, runs = _normalizer(lowercase), _units(CHINESE_RUNS, spaced=False)
    words: Counter[str] = Counter()
    characters: Counter[str] = Counter()
    for text in texts:
        for run, _ in runs.pre_tokenize_str(normalizer.normalize_str(text)):
            chinese = run[0] in "々〇" or any(low <= run[0] <= high for low, high in HAN)
            words.update(jieba.cut(run) if chinese and len(run) > 1 else [run])
            characters.update(run if chinese else [run])
    # A character counts wherever it stands, so it is never rarer than a word it is part of and is chosen before it.
    counts = Counter({word: count for word, count in words.items() if len(word) > 1}) | characters
    ranked = sorted((-count, len(word), word) for word, count in counts.items() if count >= min_frequency)
    chosen = [word for _, _, word in ranked[: vocab_size - len(SPECIAL_TOKENS)]]
    log_total = math.log(max(words.total(), 1))
    vocabulary = [(token, 0.0) for token in SPECIAL_TOKENS.values()]
    vocabulary += [(word, math.log(max(words[word], 1)) - log_total) for word in chosen]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3, byte_fallback=False))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, runs
    tokenizer.decoder = decoders.Metaspace(SPACE, "never")
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS.values()))
    return tokenizer
