"""From text pairs to token ids."""

import hashlib
import json
import warnings
from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase

from hf_localgan.data.histories import keep_history, noted_history, tokenizer_history
from hf_localgan.data.processes import kept_environment
from hf_localgan.data.text_ids import PlainEncoder, TextEncoder, lists, text_encoder
from hf_localgan.data.vocabulary import tokenizer_fingerprint
from hf_localgan.turns import History

ENCODER = 1  # raise it when the columns that are made of the same texts change, so that no older cache is used
BATCH = 10_000
TEXT_TYPES = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
Limits = tuple[int | None, int | None]  # longest query and response in tokens; `None`: no limit


def check_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises a `ValueError` for a tokenizer that lacks the padding or the end-of-sequence token.

    Without padding, sequences of different lengths make no batch; without an end, a generator never learns to stop.
    """
    missing = [f"{name}_token" for name in ("pad", "eos") if getattr(tokenizer, f"{name}_token_id", None) is None]
    if missing:
        tokens = ", ".join(f'"{name}": "{"<pad>" if name == "pad_token" else "</s>"}"' for name in missing)
        raise ValueError(
            f"The tokenizer ({type(tokenizer).__name__}) has no {' and no '.join(f'`{n}`' for n in missing)}. Add "
            f"what is missing by `tokenizer.add_special_tokens({{{tokens}}})` and enlarge the model by "
            "`model.resize_token_embeddings(len(tokenizer))`, or make a tokenizer with `train_tokenizer`."
        )


def encode_pairs(
    dataset: Dataset | IterableDataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_source_length: int | None = None,
    max_target_length: int | None = None,
    on_long: Literal["error", "drop", "truncate"] = "error",
    query: str = "query",
    response: str = "response",
    keep_text: bool = False,
    num_proc: int | None = None,
) -> Dataset | IterableDataset:
    """Tokenizes pairs for an encoder-decoder.

    Queries and responses are encoded as `tokenizer(query)` and `tokenizer(text_target=response)`, so each model keeps
    its convention (BART's `<s>` at the start, T5's bare text); labels that it does not close get `eos`. Texts that hold
    the names of the padding, start or end token are warned of, counted: the tokenizer reads them as these tokens.

    Queries that hold earlier turns (`load_pairs(..., history_turns=2)`) lose as many of the oldest as do not fit into
    `max_source_length`; how a query itself fits is what `on_long` is about. The tokenizer's configuration keeps the
    number of turns and what separates them, for the chat and the pipeline.

    Args:
        dataset: rows of `query` and `response`, such as `load_pairs(...)["train"]`.
        max_source_length, max_target_length: in tokens, special tokens included.
        on_long: a longer pair is an error that counts and names the rows, is dropped with a counted warning, or is cut,
            special tokens kept. A stream raises where it meets one, and drops without a count.
        query, response: names of the columns.
        keep_text: keep the two text columns; every other column is removed.
        num_proc: processes to encode with. Not for streams.

    Pairs that were read from files are encoded once: the result lies in the cache beside them, under a name made of
    the pairs, the tokenizer's content and these arguments, so that the same call reads it, in a later process, too.

    Returns:
        Columns `input_ids`, `attention_mask`, `labels` (lists of ints) and `length`, the tokens of both sides together,
        by which `train_sampling_strategy="group_by_length"` makes batches.
    """
    check_tokenizer(tokenizer)
    if on_long not in ("error", "drop", "truncate"):
        raise ValueError(f'`on_long` must be "error", "drop" or "truncate", got {on_long!r}.')
    for name, limit in (("max_source_length", max_source_length), ("max_target_length", max_target_length)):
        if limit is not None and limit < 2:
            raise ValueError(
                f"`{name}` must leave room for one token and the end of sequence, so at least 2, got {limit}."
            )
    limits = (max_source_length, max_target_length)
    streamed = isinstance(dataset, IterableDataset)
    names = dataset.column_names or (list(next(iter(dataset))) if streamed else [])
    for name in (query, response):
        if name not in names:
            listed = ", ".join(f"`{column}`" for column in names)
            raise ValueError(
                f"The data set has no `{name}` column (found: {listed}). Run `load_pairs` first, or name the column."
            )
    kept = (query, response) if keep_text else ()
    history = noted_history(dataset)
    if history is not None and history != tokenizer_history(tokenizer):
        keep_history(tokenizer, history)
    special = _frame_tokens(tokenizer)
    if not streamed:
        for name in (query, response) if len(dataset) else ():
            _check_texts(name, dataset.data.schema.field(name).type)
        _warn_of_frame_tokens(dataset, (query, response), special)
    encode = PairEncoder(
        tokenizer, query=query, response=response, limits=limits, truncate=on_long == "truncate", keep_text=keep_text,
        history=history or History(),
    )  # fmt: skip
    remove = [name for name in names if name not in kept]
    if streamed:
        encode_batch = partial(_encode_streamed, encode=encode, on_long=on_long, special=special)
        texts = dataset.select_columns([query, response]).with_format("arrow")
        return texts.map(
            encode_batch, batched=True, with_indices=True, remove_columns=[query, response] if not keep_text else None
        ).with_format(None)
    with kept_environment():
        encoded = dataset.with_format("arrow").map(
            encode, batched=True, batch_size=BATCH, writer_batch_size=BATCH, remove_columns=remove, num_proc=num_proc,
            desc="Encoding pairs", new_fingerprint=encode.fingerprint(dataset),
        ).with_format(None)  # fmt: skip
    return encoded if on_long == "truncate" else _handle_long(encoded, limits, on_long)


def _frame_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """The padding, start and end tokens that the tokenizer makes of their names in a text."""
    tokens = (
        tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token, tokenizer.cls_token, tokenizer.sep_token
    )  # fmt: skip
    written = dict.fromkeys(token for token in tokens if token is not None and token != tokenizer.unk_token)
    return tuple(
        token
        for token in written
        if tokenizer.convert_tokens_to_ids(token) in tokenizer(f"a{token}a", add_special_tokens=False).input_ids
    )


def _warn_of_frame_tokens(dataset: Dataset, names: tuple[str, str], special: tuple[str, ...]):
    for name in names:
        columns = dataset.select_columns([name]).with_format("arrow")
        rows: dict[str, list[int]] = {token: [] for token in special}
        for number, table in enumerate(columns.iter(batch_size=10_000)):
            _find_frame_tokens(table[name], 10_000 * number, rows)
        _warn_of_rows(name, rows)


def _find_frame_tokens(texts: pa.Array | pa.ChunkedArray, first: int, rows: dict[str, list[int]]):
    for token, numbers in rows.items():
        holds_token = pc.fill_null(pc.match_substring(texts, token), False).to_numpy(zero_copy_only=False)
        numbers += (first + np.flatnonzero(holds_token)).tolist()


def _warn_of_rows(name: str, rows: dict[str, list[int]]):
    counts = [
        f"{len(numbers):,} hold `{token}` ({', '.join(map(str, numbers[:10]))}{', ...' if len(numbers) > 10 else ''})"
        for token, numbers in rows.items()
        if numbers
    ]
    if counts:
        warnings.warn(
            f"Of the texts in `{name}` {' and '.join(counts)}; rows are counted from 0. The tokenizer reads this "
            "text as its token for the padding, the start or the end of a sequence, so that a model learns to stop or "
            "to skip there. Take it out of the text, unless it separates turns there.",
            stacklevel=4,
        )


def _closes(tokenizer: PreTrainedTokenizerBase) -> bool:
    return tokenizer(text_target="a").input_ids[-1:] == [tokenizer.eos_token_id]


class PairEncoder:
    """Makes encoded pairs of a table of texts. Arguments as for `encode_pairs`.

    Args:
        truncate: whether longer texts are cut to `limits`.
        history: what the queries are joined of.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        query: str,
        response: str,
        limits: Limits,
        truncate: bool,
        keep_text: bool,
        history: History,
    ):
        self.tokenizer, self.query, self.response, self.history = tokenizer, query, response, history
        self.limits, self.truncate, self.keep_text, self.closes = limits, truncate, keep_text, _closes(tokenizer)
        self._encoders: tuple[TextEncoder, TextEncoder] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_encoders": None}  # another process makes its own

    def fingerprint(self, dataset: Dataset) -> str:
        """A name for the encoded data set, which changes with the data, the tokenizer's content and the settings."""
        settings = {name: repr(value) for name, value in vars(self).items() if name not in ("tokenizer", "_encoders")}
        content = [ENCODER, dataset._fingerprint, tokenizer_fingerprint(self.tokenizer), settings]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]

    def __call__(self, table: pa.Table) -> pa.Table:
        if self._encoders is None:
            first = text_encoder(self.tokenizer)
            other = text_encoder(self.tokenizer, target=True) if isinstance(first, PlainEncoder) else first
            self._encoders = (first, other)
        encode_query, encode_response = self._encoders
        source_limit, target_limit = self.limits
        queries, responses = (_texts(table, name) for name in (self.query, self.response))
        if self.history.turns and source_limit is not None:

            def lengths(texts: list[str]) -> list[int]:
                return encode_query(pa.array(texts, pa.string())).lengths.tolist()

            queries = pa.array(self.history.fit(queries.to_pylist(), source_limit, lengths), pa.string())
        if target_limit is not None and not self.closes:
            target_limit -= 1  # room for the end of sequence
        sources = encode_query(queries, source_limit if self.truncate else None)
        labels = encode_response(responses, target_limit if self.truncate else None)
        if not self.closes:
            labels = labels.closed(self.tokenizer.eos_token_id)
        columns = {name: table[name] for name in (self.query, self.response) if self.keep_text}
        columns["input_ids"] = sources.array(pa.int32())
        columns["attention_mask"] = lists(pa.array(np.ones(len(sources.values), np.int8)), sources.lengths)
        columns["labels"] = labels.array(pa.int64())
        columns["length"] = pa.array(sources.lengths + labels.lengths, pa.int64())
        return pa.table(columns)


def _check_texts(name: str, dtype: pa.DataType):
    if not any(is_text(dtype) for is_text in TEXT_TYPES):
        raise ValueError(f"The column `{name}` must hold texts, and holds {dtype}. Run `load_pairs` first.")


def _texts(table: pa.Table, name: str) -> pa.Array:
    return table[name].cast(pa.string()).combine_chunks()


def _encode_streamed(
    table: pa.Table, indices: list[int], *, encode: PairEncoder, on_long: str, special: tuple[str, ...]
) -> pa.Table:
    """Encodes a batch of a stream, in which nothing was counted in advance."""
    for name in (encode.query, encode.response):
        _check_texts(name, table.schema.field(name).type)
        rows: dict[str, list[int]] = {token: [] for token in special}
        _find_frame_tokens(table[name], indices[0], rows)
        _warn_of_rows(name, rows)
    encoded = encode(table)
    if on_long == "truncate":
        return encoded
    lengths = _lengths(encoded)
    fits = _fits(lengths, encode.limits)
    if on_long == "error" and not fits.all():
        raise ValueError(_too_long(lengths, encode.limits, fits, np.array(indices)))
    return encoded.filter(pa.array(fits))


def _lengths(encoded: pa.Table) -> tuple[np.ndarray, ...]:
    """Tokens of the queries and of the responses."""
    return tuple(pc.list_value_length(encoded.column(name)).to_numpy() for name in ("input_ids", "labels"))


def _handle_long(encoded: Dataset, limits: Limits, on_long: str) -> Dataset:
    lengths = _lengths(encoded.data)
    fits = _fits(lengths, limits)
    if fits.all():
        return encoded
    message = _too_long(lengths, limits, fits, np.arange(len(encoded)))
    if on_long == "error":
        raise ValueError(message)
    if not fits.any():
        raise ValueError(f"No pair is left. {message}")
    warnings.warn(f"{message.split(' Raise ')[0]} They are left out.", stacklevel=3)
    return encoded.select(np.flatnonzero(fits))


def _fits(lengths: tuple[np.ndarray, ...], limits: Limits) -> np.ndarray:
    sources, targets = lengths
    source_limit, target_limit = (np.inf if limit is None else limit for limit in limits)
    return (sources <= source_limit) & (targets <= target_limit)


def _too_long(lengths: tuple[np.ndarray, ...], limits: Limits, fits: np.ndarray, rows: np.ndarray) -> str:
    """The message on pairs that are too long: how many, which rows, how long."""
    faults = []
    names = (("queries", "max_source_length"), ("responses", "max_target_length"))
    for (side, name), tokens, limit in zip(names, lengths, limits, strict=True):
        long = np.flatnonzero(tokens > (np.inf if limit is None else limit))
        if len(long):
            examples = ", ".join(f"row {rows[i]}: {tokens[i]}" for i in long[:10]) + (", ..." if len(long) > 10 else "")
            faults.append(
                f"{len(long):,} {side} are longer than `{name}`={limit} (tokens with special tokens; {examples}; "
                f"longest: {tokens.max()})"
            )
    return (
        f"{' and '.join(faults)}: {(~fits).sum():,} of {len(fits):,} pairs, rows counted from 0. Raise the limit, or "
        'choose on_long="truncate" to cut them or on_long="drop" to leave them out.'
    )
