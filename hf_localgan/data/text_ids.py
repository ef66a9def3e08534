"""Token ids of many texts at once, in arrays: the same ids as the tokenizer's own call gives, text by text.

Words return. A tokenizer that cuts at every space, as those of `train_tokenizer` for languages with spaces, gives a
piece between spaces the same ids wherever it stands, so each distinct piece is tokenized once and looked up from then
on. Other tokenizers are called as they are.
"""

import json
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from hf_localgan.data.tokenization import SPACE, spaced_pipelines

REMEMBERED = 2**24  # bytes, about, of pieces that are kept; then the table begins anew
CALLS = ("__call__", "_encode_plus")  # methods of a tokenizer that make ids of texts
PIECE_BYTES = 128  # of a piece of text in it, its letters aside


class Ids(NamedTuple):
    """Token ids of some texts.

    Attributes:
        values: ids of all texts, one after another, shape `(tokens,)`.
        lengths: number of ids of each text, shape `(texts,)`.
    """

    values: np.ndarray
    lengths: np.ndarray

    def array(self, dtype: pa.DataType) -> pa.ListArray:
        """The ids as lists of numbers of a type."""
        return lists(pa.array(self.values, pa.int32()).cast(dtype), self.lengths)

    def closed(self, token: int) -> "Ids":
        """The ids with one more at the end of each text."""
        return framed(self, (), (token,))


def lists(values: pa.Array, lengths: np.ndarray) -> pa.ListArray:
    """Lists of given lengths, cut from an array."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def framed(ids: Ids, prefix: Sequence[int], suffix: Sequence[int], room: int | None = None) -> Ids:
    """The ids of each text between a prefix and a suffix, of its own at most the first `room`."""
    kept = ids.lengths if room is None else np.minimum(ids.lengths, room)
    lengths = kept + len(prefix) + len(suffix)
    ends = np.cumsum(lengths)
    values = np.empty(lengths.sum(), np.int32)
    values[ranges(ends - lengths + len(prefix), kept)] = ids.values[ranges(np.cumsum(ids.lengths) - ids.lengths, kept)]
    for place, token in enumerate(prefix):
        values[ends - lengths + place] = token
    for place, token in enumerate(reversed(suffix), start=1):
        values[ends - place] = token
    return Ids(values, lengths)


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The numbers from each start on, `lengths` of them, one range after another."""
    before = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(starts - before, lengths)


class TextEncoder(Protocol):
    """Makes ids of texts, those that the tokenizer adds included."""

    def __call__(self, texts: pa.Array, limit: int | None = None) -> Ids:
        """The ids of texts.

        Args:
            texts: strings, without nulls.
            limit: longer texts are cut to so many tokens, those that are added kept; `None` for no limit.
        """


def text_encoder(tokenizer: PreTrainedTokenizerBase, *, target: bool = False) -> TextEncoder:
    """The fastest encoder of a tokenizer.

    Args:
        tokenizer: any.
        target: whether the texts are targets, `text_target` of the tokenizer's call.
    """
    if cuts_at_spaces(tokenizer):
        return SpacedEncoder(tokenizer)
    return FastEncoder(tokenizer) if calls_library(tokenizer) else PlainEncoder(tokenizer, target)


class PlainEncoder:
    """Calls the tokenizer. Arguments as for `text_encoder`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, target: bool = False):
        self.tokenizer, self.target = tokenizer, target

    def __call__(self, texts: pa.Array, limit: int | None = None) -> Ids:
        # `verbose=False`: who encodes counts what is too long, instead of a remark about the first one
        settings: dict[str, Any] = {"truncation": False} if limit is None else {"truncation": True, "max_length": limit}
        given = texts.to_pylist()
        side = {"text_target": given} if self.target else {"text": given, "return_token_type_ids": False}
        return _ids(self.tokenizer(**side, verbose=False, **settings).input_ids)


class FastEncoder:
    """Calls the library `tokenizers` behind a tokenizer of which `calls_library` is true, without places of tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer, self.plain = tokenizer, PlainEncoder(tokenizer)

    def __call__(self, texts: pa.Array, limit: int | None = None) -> Ids:
        if limit is not None or texts.null_count:
            return self.plain(texts, limit)
        return inner_ids(self.tokenizer, texts.to_pylist(), add_special_tokens=True)


def inner_ids(tokenizer: PreTrainedTokenizerBase, texts: list[str], *, add_special_tokens: bool) -> Ids:
    """The ids that the library behind a tokenizer makes, neither cut nor padded."""
    inner = tokenizer.backend_tokenizer  # type: ignore[attr-defined]
    inner.no_truncation()
    inner.no_padding()
    inner.encode_special_tokens = tokenizer.split_special_tokens
    return _ids([encoding.ids for encoding in inner.encode_batch_fast(texts, add_special_tokens=add_special_tokens)])


def calls_library(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer's call gives the ids of the library `tokenizers`, with no more to it."""
    of_class: Any = type(tokenizer)
    return (
        isinstance(tokenizer, PreTrainedTokenizerFast)
        and all(getattr(of_class, name) is getattr(PreTrainedTokenizerFast, name) for name in CALLS)
        and not any(hasattr(of_class, f"_switch_to_{side}_mode") for side in ("input", "target"))
    )


def _ids(rows: Sequence[Sequence[int]]) -> Ids:
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    return Ids(np.fromiter(chain.from_iterable(rows), np.int32, lengths.sum()), lengths)


def cuts_at_spaces(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a text's ids are those of its pieces between spaces, between what is added to all texts.

    True of tokenizers that `train_tokenizer` made for languages with spaces, by this version or an earlier one, and to
    which no token was added that takes spaces in.
    """
    if not calls_library(tokenizer) or tokenizer.truncation_side != "right":
        return False
    inner = tokenizer.backend_tokenizer  # type: ignore[attr-defined]
    flags = ("lstrip", "rstrip", "single_word", "normalized")
    return (
        (_content(inner.normalizer), _content(inner.pre_tokenizer)) in spaced_pipelines()
        and type(inner.model).__name__ in ("WordLevel", "BPE")
        and not getattr(inner.model, "dropout", None)
        and not tokenizer.split_special_tokens
        and all(
            _is_solid(token.content) and not any(getattr(token, flag) for flag in flags)
            for token in inner.get_added_tokens_decoder().values()
        )
    )


def _content(part: Any) -> Any:
    """A part of a tokenizer as it is written into its file."""
    return None if part is None else json.loads(part.__getstate__())


def _is_solid(token: str) -> bool:
    """Whether no white space and no mark of a space is in a token."""
    return bool(token) and SPACE not in token and "\u200b" not in token and token.split() == [token]


class SpacedEncoder:
    """Looks the pieces between spaces up in a table, and lets the tokenizer fill it.

    Args:
        tokenizer: one that `cuts_at_spaces`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer, self.plain = tokenizer, PlainEncoder(tokenizer)
        alone, whole = (tokenizer("a", add_special_tokens=added, verbose=False).input_ids for added in (False, True))
        place = next(at for at in range(len(whole)) if whole[at : at + len(alone)] == alone)
        self.prefix, self.suffix = whole[:place], whole[place + len(alone) :]
        self._forget()

    def _forget(self):
        self._numbers: dict[str, int] = {}
        self._bytes = 0
        self._values, self._starts, self._lengths = np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int64)

    def __call__(self, texts: pa.Array, limit: int | None = None) -> Ids:
        room = None if limit is None else limit - len(self.prefix) - len(self.suffix)
        if not len(texts):
            return Ids(np.zeros(0, np.int32), np.zeros(0, np.int64))
        # A literal mark of a space is told apart from one that stands for a space by what is before it.
        marked = pc.match_substring(texts, SPACE).to_numpy(zero_copy_only=False)
        if texts.null_count or marked.any():
            return self._with_marks(texts, marked, limit)
        pieces = pc.split_pattern(texts, " ")
        ids = self._look_up(pieces.flatten().dictionary_encode())
        counts = pc.list_value_length(pieces).to_numpy()
        lengths = np.add.reduceat(ids.lengths, np.cumsum(counts) - counts)
        return framed(Ids(ids.values, lengths), self.prefix, self.suffix, room)

    def _with_marks(self, texts: pa.Array, marked: np.ndarray, limit: int | None) -> Ids:
        """The ids of texts of which some are given to the tokenizer as they are."""
        if texts.null_count:
            return self.plain(texts, limit)  # which says what it does not take
        parts = [self(texts.filter(pa.array(~marked)), limit), self.plain(texts.filter(pa.array(marked)), limit)]
        order = np.argsort(np.concatenate([np.flatnonzero(~marked), np.flatnonzero(marked)]))
        lengths = np.concatenate([part.lengths for part in parts])
        starts = np.cumsum(lengths) - lengths
        values = np.concatenate([part.values for part in parts])
        return Ids(values[ranges(starts[order], lengths[order])], lengths[order])

    def _look_up(self, pieces: pa.DictionaryArray) -> Ids:
        """The ids of pieces without what is added to a text."""
        distinct = pieces.dictionary.to_pylist()
        if self._bytes > REMEMBERED:
            self._forget()
        known = self._numbers
        new = [piece for piece in distinct if piece not in known]
        if new:
            rows = inner_ids(self.tokenizer, new, add_special_tokens=False)
            starts = len(self._values) + np.cumsum(rows.lengths) - rows.lengths
            self._starts = np.concatenate([self._starts, starts])
            self._lengths = np.concatenate([self._lengths, rows.lengths])
            self._values = np.concatenate([self._values, rows.values])
            known.update(zip(new, range(len(known), len(known) + len(new)), strict=True))
            self._bytes += sum(map(len, new)) + PIECE_BYTES * len(new)
        numbers = np.fromiter(map(known.__getitem__, distinct), np.int64, len(distinct))
        numbers = numbers[pieces.indices.to_numpy()]
        lengths = self._lengths[numbers]
        return Ids(self._values[ranges(self._starts[numbers], lengths)], lengths)
