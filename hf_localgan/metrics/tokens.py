"""How the metrics cut text into tokens: five ways, each with a name that goes into the signature."""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache

TOKENIZATIONS = ("words", "characters", "jieba", "whitespace", "none")

_CLITIC = r"(?:s|m|d|t|re|ve|ll)(?![^\W_])"
_APART = re.compile(rf"(?<=[^\W_])\s*['’]\s*(?={_CLITIC})", re.IGNORECASE)  # I ' m, don ’ t, I 'm
_TREEBANK = re.compile(r"(?<=[^\W_])\s+(?=n't(?![^\W_]))", re.IGNORECASE)  # do n't
_WORD = re.compile(
    rf"<\w+>|(?<=[^\W_])'{_CLITIC}|\d+(?:[.,:]\d+)+|[^\W_]+|\S",  # <unk>, 'm, 3.50, word, one punctuation mark
    re.IGNORECASE,
)


def metric_tokens(text: str | Sequence[str], tokenization: str = "words", lowercase: bool = True) -> list[str]:
    """Cuts one utterance into the tokens that a metric counts.

    * `"words"`: words, numbers and punctuation marks, each mark on its own, so that natural and pre-tokenised text
      give the same tokens (`well-known` and `well - known`, `...` and `. . .`). English clitics are split off with
      their apostrophe: `don't`, `don ' t`, `don’t` and `do n't` all give `don` and `'t`; `I'm` and `I ' m` give `I` and
      `'m`. Only s, m, d, t, re, ve and ll count as clitics, other apostrophes are marks of their own. Numbers
      keep their inner marks (`3.50`, `10:30`), words their digits (`mp3`), and `<unk>` stays whole.
    * `"characters"`: every character that is no white space, letters of Latin words included. For Chinese.
    * `"jieba"`: Chinese words as jieba cuts them (needs the extra `chinese`).
    * `"whitespace"`: what white space separates.
    * `"none"`: `text` is a sequence of tokens already, and is taken as it is.

    Args:
        text: the utterance; a string, or for `"none"` a sequence of tokens.
        tokenization: one of the names above.
        lowercase: lower-case the tokens.

    Returns:
        The tokens; an empty list for an empty utterance. Text is brought to NFC form first, except for `"none"`.

    Raises:
        ValueError: for an unknown `tokenization`.
        TypeError: for a string with `"none"`, or anything but a string with the others.
    """
    if tokenization not in TOKENIZATIONS:
        raise ValueError(f"`tokenization` must be one of {', '.join(TOKENIZATIONS)}, got {tokenization!r}.")
    if isinstance(text, str) == (tokenization == "none"):
        expected = "a sequence of tokens" if tokenization == "none" else "a string"
        raise TypeError(f'tokenization "{tokenization}" takes {expected}, got {type(text).__name__}: {text!r:.60}.')
    if tokenization == "none":
        return [token.lower() for token in text] if lowercase else list(text)
    text = unicodedata.normalize("NFC", text)
    text = text.lower() if lowercase else text
    if tokenization == "words":
        return _WORD.findall(_TREEBANK.sub("", _APART.sub("'", text)))
    if tokenization == "characters":
        return [character for character in text if not character.isspace()]
    if tokenization == "jieba":
        return [word for word in _jieba_cut()(text) if not word.isspace()]
    return text.split()


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
