"""The bodies of rows of labels (the target's tokens), and the frames of special tokens around them."""

from collections.abc import Iterable, Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from hf_localgan.data.encoding import check_tokenizer
from hf_localgan.data.padding import PADDING

Span = tuple[int, int]


class LabelFrames:
    """Tells the bodies of labels, which samplers may edit, from the frame around them, which they never see.

    The special tokens with which a row starts and ends are its frame: the end token, BART's `<s>`, language codes,
    padding (-100 too). An end token further inside closes one of several targets of a packed row; each has a
    frame of its own. Special tokens elsewhere, and the unknown token anywhere, belong to the body.

    Args:
        vocab_size: ids go from 0 to `vocab_size - 1`.
        special_ids: ids of all special tokens.
        eos_token_id: the end token; one of the special ones.
        unk_token_id: the unknown token, if there is one.
    """

    def __init__(self, vocab_size: int, special_ids: Iterable[int], eos_token_id: int, unk_token_id: int | None = None):
        self.vocab_size, self.eos_token_id = vocab_size, eos_token_id
        self.special_ids = frozenset(special_ids) | {eos_token_id}
        outside = sorted(token for token in self.special_ids if not 0 <= token < vocab_size)
        if outside:
            raise ValueError(f"`special_ids` must be ids of the vocabulary, 0 to {vocab_size - 1}, got {outside}.")
        self._in_frame = np.zeros(vocab_size + 1, dtype=bool)  # -100 comes last
        self._in_frame[[*self.special_ids, vocab_size]] = True
        if unk_token_id is not None and unk_token_id != eos_token_id:
            self._in_frame[unk_token_id] = False

    @classmethod
    def from_tokenizer(cls, tokenizer: PreTrainedTokenizerBase) -> "LabelFrames":
        """Frames of the labels that a tokenizer makes; its special tokens are also those added with `special=True`."""
        check_tokenizer(tokenizer)
        special = set(tokenizer.all_special_ids)
        special |= {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
        unknown = tokenizer.unk_token_id
        if unknown in (tokenizer.pad_token_id, tokenizer.bos_token_id):
            unknown = None  # as in GPT-2's vocabulary, where one token is all of these
        return cls(max(len(tokenizer), max(special) + 1), special, tokenizer.eos_token_id, unknown)

    def spans(self, rows: Sequence[list[int]], flat: np.ndarray, lengths: np.ndarray) -> list[list[Span]]:
        """Start and end of each body in each row; a row without any token has one empty body before its end token.

        Args:
            rows: labels.
            flat: the same, one row after another, int64.
            lengths: lengths of the rows, int64.

        Raises:
            ValueError: for ids outside of the vocabulary, and for -100 between tokens.
        """
        ignored = flat == PADDING
        outside = (flat >= self.vocab_size) | ((flat < 0) & ~ignored)
        if outside.any():
            self._refuse(flat, outside, lengths)
        starts = np.cumsum(lengths) - lengths
        inner = np.flatnonzero(~self._in_frame[np.where(ignored, self.vocab_size, flat)])
        counts = np.bincount(np.repeat(np.arange(len(rows)), lengths)[inner], minlength=len(rows))
        after = np.cumsum(counts)
        if (counts == 0).any():
            inner = np.append(inner, 0)  # a row without a body reads past the last one; the value is not used
        begins, ends = inner[after - counts] - starts, inner[after - 1] - starts + 1
        spans = [[span] for span in zip(begins.tolist(), ends.tolist(), strict=True)]
        # Rows with special tokens inside, or without any other.
        for i in np.flatnonzero((ends - begins != counts) | (counts == 0)).tolist():
            spans[i] = self._split(rows[i], begins[i], ends[i]) if counts[i] else [self._empty(rows[i])]
        if ignored.any():
            _refuse_ignored(rows, spans)
        return spans

    def _split(self, row: list[int], begin: int, end: int) -> list[Span]:
        spans, first = [], int(begin)
        while first < end:
            close = row.index(self.eos_token_id, first, end) if self.eos_token_id in row[first:end] else int(end)
            start, stop = first, close
            while start < stop and self._is_frame(row[start]):
                start += 1
            while start < stop and self._is_frame(row[stop - 1]):
                stop -= 1
            if start < stop:
                spans.append((start, stop))
            first = close + 1
        return spans

    def _empty(self, row: list[int]) -> Span:
        last = len(row) - 1 - row[::-1].index(self.eos_token_id) if self.eos_token_id in row else len(row)
        return last, last

    def _is_frame(self, token: int) -> bool:
        return token == PADDING or bool(self._in_frame[token])

    def _refuse(self, flat: np.ndarray, outside: np.ndarray, lengths: np.ndarray):
        ids = np.unique(flat[outside])
        row = int(np.searchsorted(np.cumsum(lengths), np.flatnonzero(outside)[0], side="right"))
        raise ValueError(
            f"`labels` hold ids outside of the vocabulary of {self.vocab_size} tokens: "
            f"{', '.join(map(str, ids[:10]))}{', ...' if len(ids) > 10 else ''} (first in example {row} of the "
            f"batch). Ids go from 0 to {self.vocab_size - 1}, and -100 is padding. Encode the data with the same "
            "tokenizer."
        )


def regular_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids that a sampler may draw, sorted: the whole vocabulary but the special tokens, the unknown token too.

    Special are the tokens of `tokenizer.all_special_ids` and those that were added with `special=True`, as for
    `LabelFrames`.
    """
    return sorted(set(tokenizer.get_vocab().values()) - LabelFrames.from_tokenizer(tokenizer).special_ids)


def _refuse_ignored(rows: Sequence[list[int]], spans: list[list[Span]]):
    for i, (row, bodies) in enumerate(zip(rows, spans, strict=True)):
        if any(PADDING in row[start:stop] for start, stop in bodies):
            raise ValueError(
                f"`labels` of example {i} of the batch hold -100 between tokens, and a draw may not keep these places. "
                "Leave -100 to the ends of a target, or leave such examples to maximum likelihood."
            )
