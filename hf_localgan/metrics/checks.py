"""Checks of what the metrics are given, so that every one of them refuses the same mistakes in the same words."""

import warnings
from collections.abc import Iterable, Mapping, Sequence, Set, Sized
from numbers import Integral, Real
from typing import Any

from hf_localgan.text import UNSPACED_SHARE, script_shares

# The tokenizations of `metric_tokens`, and those of sacrebleu, that take what white space separates for words.
SPACED_TOKENIZATIONS = ("words", "whitespace", "13a", "intl", "none")


def require_equal_lengths(**named: Sized) -> int:
    """The common length of the sequences, given by their argument names.

    Raises:
        ValueError: if two differ; the message names both numbers.
        TypeError: for what has no length, such as `None` and an iterator.
    """
    for name, values in named.items():
        if not isinstance(values, Sized):
            raise TypeError(
                f"`{name}` must be a list with one entry per query, got {type(values).__name__}: {values!r:.60}."
            )
    (first_name, first), *rest = named.items()
    for name, other in rest:
        if len(other) != len(first):
            raise ValueError(
                f"`{first_name}` and `{name}` must have one entry per query each, got {len(first)} and {len(other)}. "
                "Score the same queries in the same order on both sides."
            )
    return len(first)


def require_reference_lists(references: Sequence[Sequence], *, allow_empty: bool = False) -> None:
    """Refuses a bare string where a list of references stands, and queries without references.

    Raises:
        ValueError: naming the first such query.
        TypeError: for what is no list of lists, such as `None`, a dictionary and an iterator.
    """
    if isinstance(references, (str, bytes)):
        raise ValueError(f"`references` must hold a list of references per query, got the text {references!r:.60}.")
    _require_list("references", references, "a list of references per query")
    for index, texts in enumerate(references):
        if isinstance(texts, (str, bytes)):
            raise ValueError(
                f"`references` must hold a list of references per query, got the string {texts[:40]!r} at query "
                f"{index}. With one reference per query write [[reference], ...]."
            )
        if texts is not None:
            _require_list(f"references[{index}]", texts, "a list of references")
        if (texts is None or not len(texts)) and not allow_empty:
            raise ValueError(f"Query {index} has no reference. Leave it out, on the side of the generations too.")


def require_tokens(name: str, tokens: Sequence[str]) -> None:
    """Refuses text where the tokens of one utterance are expected; tokens may be strings or ids.

    Raises:
        TypeError: naming the value.
    """
    if isinstance(tokens, (str, bytes, Set, Mapping)) or not _is_list(tokens):
        raise TypeError(
            f"`{name}` must hold tokens, a list per utterance, got {type(tokens).__name__}: {tokens!r:.60}. "
            "Cut text by `metric_tokens` first; its letters would be counted as words."
        )


def require_token_lists(name: str, utterances: Sequence[Sequence[str]]) -> None:
    """Refuses text, or a list of texts, where a list of utterances is expected of which each is a list of tokens.

    Raises:
        TypeError: naming the first value that is wrong.
    """
    if isinstance(utterances, (str, bytes)) or not _is_list(utterances):
        raise TypeError(
            f"`{name}` must be a list of utterances, each a list of tokens, got {type(utterances).__name__}: "
            f"{utterances!r:.60}."
        )
    for tokens in utterances:
        require_tokens(name, tokens)


def require_texts(name: str, texts: Sequence[Any]) -> None:
    """Refuses one text where a list of texts, one per query, is expected: its letters would be scored one by one.

    Raises:
        TypeError: naming the value.
    """
    if isinstance(texts, (str, bytes)) or not _is_list(texts):
        raise TypeError(
            f"`{name}` must be a list with one entry per query, got {type(texts).__name__}: {texts!r:.60}. Put it into "
            "a list."
        )


def require_strings(name: str, texts: Iterable[Any]) -> None:
    """Refuses what is no string among texts.

    Raises:
        TypeError: naming the first such value.
    """
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"`{name}` must hold strings, got {type(text).__name__}: {text!r:.60}.")


def require_count(name: str, value: Any, least: int = 1) -> None:
    """Refuses all but whole numbers from `least` on.

    Raises:
        TypeError: for what is no whole number.
        ValueError: for a smaller one.
    """
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"`{name}` must be a whole number, got {type(value).__name__}: {value!r:.60}.")
    if value < least:
        raise ValueError(f"`{name}` must be at least {least}, got {value}.")


def require_vectors(vectors: Any) -> None:
    """Refuses what cannot be asked for the vectors of words.

    Raises:
        TypeError: naming what is missing.
    """
    missing = [name for name in ("name", "dim", "__contains__", "__getitem__") if not hasattr(vectors, name)]
    if missing:
        raise TypeError(
            f"`vectors` must be word vectors with `name`, `dim`, `word in vectors` and `vectors[word]`, such as "
            f"`hf_localgan.data.WordVectors`; {type(vectors).__name__} has no `{missing[0]}`: {vectors!r:.60}."
        )


def _is_list(values: Any) -> bool:
    return isinstance(values, Iterable) and isinstance(values, Sized) and not isinstance(values, Mapping)


def _require_list(name: str, values: Any, what: str) -> None:
    if not _is_list(values):
        raise TypeError(f"`{name}` must be {what}, got {type(values).__name__}: {values!r:.60}.")


def warn_of_script(tokenization: str, texts: Iterable[str], advice: str) -> None:
    """Warns where white space is to separate words, and the texts' scripts put none between words.

    Args:
        tokenization: a name that `metric_tokens` takes, or sacrebleu's.
        texts: what is to be cut; some of them are looked at.
        advice: which settings there are instead.
    """
    if tokenization not in SPACED_TOKENIZATIONS:
        return
    share = script_shares(text for text in texts if isinstance(text, str)).unsegmented  # others are refused elsewhere
    if share > UNSPACED_SHARE:
        warnings.warn(
            f"{share:.0%} of the letters belong to scripts that are written without spaces (such as Chinese, "
            f'Japanese, Thai, Lao, Khmer, Burmese), and tokenization "{tokenization}" takes what stands between spaces '
            f"for words: whole clauses are counted as one. {advice}",
            stacklevel=3,
        )


def require_level(level: float) -> None:
    """Refuses a confidence level outside of (0, 1)."""
    if not isinstance(level, Real) or not 0 < level < 1:
        raise ValueError(f"`level` must lie between 0 and 1, for example 0.95, got {level!r}.")
