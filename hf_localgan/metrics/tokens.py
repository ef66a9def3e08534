"""How the metrics cut text into tokens: five tokenizations, each with a name that goes into the signature."""

import unicodedata
from collections.abc import Sequence
from functools import cache

import regex

from hf_localgan.metrics.checks import require_tokens
from hf_localgan.text import CHARACTER, WORD, characters, lower_cased, spaced_words

TOKENIZATIONS = ("words", "characters", "jieba", "whitespace", "none")

_INSIDE = r"[\p{L}\p{M}\p{N}]"  # a word
_CLITIC = rf"(?:s|m|d|t|re|ve|ll)(?!{_INSIDE})"
_APART = regex.compile(rf"(?<={_INSIDE})\s*['’]\s*(?={_CLITIC})", regex.IGNORECASE)  # I ' m, don ’ t, I 'm
_TREEBANK = regex.compile(rf"(?<={_INSIDE})\s+(?=n't(?!{_INSIDE}))", regex.IGNORECASE)  # do n't
_WORD = regex.compile(
    # <unk>, 'm, 3.50, word, one punctuation mark or other sign
    rf"<\w+>|(?<={_INSIDE})'{_CLITIC}|\p{{Nd}}+(?:[.,:]\p{{Nd}}+)+|{WORD}|{CHARACTER}",
    regex.IGNORECASE,
)


def metric_tokens(text: str | Sequence[str], tokenization: str = "words", lowercase: bool = True) -> list[str]:
    """Cuts one utterance into the tokens that a metric counts.

    * `"words"`: words, numbers and punctuation marks, each mark on its own, so that natural and pre-tokenised text
      give the same tokens (`well-known` and `well - known`, `...` and `. . .`). English clitics are split off with
      their apostrophe: `don't`, `don ' t`, `don’t` and `do n't` all give `don` and `'t`; `I'm` and `I ' m` give `I` and
      `'m`. Only s, m, d, t, re, ve and ll count as clitics, other apostrophes are marks of their own. Numbers
      keep their inner marks (`3.50`, `10:30`), words their digits (`mp3`) and, in every script, the marks on their
      letters; `<unk>` stays whole, and so does an emoji of several code points.
    * `"characters"`: every user-perceived character (`text.characters`), letters of Latin words included. For Chinese
      and other scripts without spaces.
    * `"jieba"`: Chinese words as jieba cuts them (needs the extra `chinese`).
    * `"whitespace"`: what white space separates.
    * `"none"`: `text` is a sequence of tokens already, and is taken as it is.

    Args:
        text: the utterance; a string, or for `"none"` a sequence of tokens.
        tokenization: one of the names above.
        lowercase: lower-case the tokens (`text.lower_cased`).

    Returns:
        The tokens; an empty list for an empty utterance. Text is brought to NFC form first, except for `"none"`.

    Raises:
        ValueError: for an unknown `tokenization`.
        TypeError: for a string with `"none"` or a token that is none, or anything but a string with the others.
    """
    if tokenization not in TOKENIZATIONS:
        raise ValueError(f"`tokenization` must be one of {', '.join(TOKENIZATIONS)}, got {tokenization!r}.")
    if isinstance(text, str) == (tokenization == "none"):
        expected = "a sequence of tokens" if tokenization == "none" else "a string"
        raise TypeError(f'tokenization "{tokenization}" takes {expected}, got {type(text).__name__}: {text!r:.60}.')
    if not isinstance(text, str):
        require_tokens("text", text)
        for token in text:
            if not isinstance(token, str):
                raise TypeError(f"A token must be a string, got {type(token).__name__}: {token!r:.60}.")
        return [lower_cased(token) for token in text] if lowercase else list(text)
    text = lower_cased(text) if lowercase else unicodedata.normalize("NFC", text)
    if tokenization == "words":
        return _WORD.findall(_TREEBANK.sub("", _APART.sub("'", text)))
    if tokenization == "characters":
        return characters(text)
    if tokenization == "jieba":
        return [word for word in _jieba_cut()(text) if not word.isspace()]
    return spaced_words(text)


@cache
def _jieba_cut():
    try:
        import jieba
    except ImportError as error:
        raise ImportError(
            'tokenization "jieba" needs the package jieba: pip install "hf-localgan[chinese]". '
            'tokenization "characters" needs nothing.'
        ) from error
    jieba.setLogLevel("WARNING")  # it reports the loading of its dictionary on every start
    return jieba.lcut
