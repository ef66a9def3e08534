"""Batches whose labels are drawn from the exponentiated payoff distribution around the references."""

import copy
import zlib
from array import array
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from itertools import chain
from numbers import Integral
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from hf_localgan.data.label_frames import LabelFrames, Span
from hf_localgan.payoff.base import Payoff
from hf_localgan.payoff.importance import ImportancePayoff
from hf_localgan.payoff.keys import derive_keys, hash_rows
from hf_localgan.trainers.raml.clock import EpochClock, TemperatureSchedule

SOURCES = ("input_ids", "input_features", "input_values")  # text, spectrograms, waveforms
DRAW_KEY = "draw_key"  # column with a number of each example that replaces its source in the key of its draws
DECODER_INPUTS = ("decoder_input_ids", "decoder_inputs_embeds")
PREFIX = "raml_"  # for the names of statistics

Example = Mapping[str, Any]


class RamlCollator:
    """Replaces each reference by a draw from its payoff distribution, then makes the batch by another collator.

    A draw replaces the label's body; the frame of special tokens around it (`LabelFrames`) is taken off and put back.
    In a packed row, several targets in one `labels`, each target is drawn. The decoder's input must be the drawn label
    shifted right, which the wrapped collator or the model makes; examples that hold a decoder's input are refused.

    A draw depends only on the seed, the epoch, its number among the samples of the example and the ids of source and
    label. So it is the same for any batch size, order, number of workers or processes, and after a resume. Equal
    examples get equal draws in one epoch. A whole number in the column `draw_key` replaces the source, so that a source
    that is changed at random (noise, masks, speed) gets the same draws.

    The batch holds these statistics, one value per row: `raml_edits`; `raml_lengths`, tokens of the reference's body;
    `raml_temperature`; `raml_effective_sample_size` and `raml_weights` where the sampler returns them. Remove them by
    `split_draws` before the forward.

    Args:
        collator: any collator of examples with `labels`, such as `DataCollatorForSeq2Seq`.
        payoff: the sampler.
        tokenizer: has the special tokens and the vocabulary's size. By default `collator.tokenizer`.
        special_ids, vocab_size, eos_token_id, unk_token_id: instead of a tokenizer; see `LabelFrames`.
        seed: seed of the draws.
        num_samples: draws for each example, a row each; the rows of an example lie side by side.
        weighted: make a row of each candidate of the sampler (`ImportancePayoff`) with its weight in `raml_weights`,
            which sum to 1 for each example, instead of rows of equal weight.
        reference_column: name under which the wrapped collator finds the reference of each row beside its draw in
            `labels`, for a loss that draws would spoil, such as CTC; examples that have the column keep their own. By
            default references are not kept.
        schedule: temperature at each optimizer step, instead of the sampler's own. Call `start_epoch` then.

    Raises:
        ValueError: if `payoff` is no sampler, or may draw special tokens or ids outside of the vocabulary.
    """

    def __init__(
        self,
        collator: Callable[[list[Example]], MutableMapping[str, Any]],
        payoff: Payoff,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        special_ids: Iterable[int] | None = None,
        vocab_size: int | None = None,
        eos_token_id: int | None = None,
        unk_token_id: int | None = None,
        seed: int = 0,
        num_samples: int = 1,
        weighted: bool = False,
        schedule: TemperatureSchedule | None = None,
        reference_column: str | None = None,
    ):
        require_payoff(payoff)
        is_set = [value is not None for value in (special_ids, vocab_size, eos_token_id)]
        if tokenizer is None and not any(is_set):
            tokenizer = getattr(collator, "tokenizer", None)
        if any(is_set) if tokenizer is not None else not all(is_set):
            raise ValueError("Give `tokenizer`, or all of `special_ids`, `vocab_size` and `eos_token_id` instead.")
        if tokenizer is None:
            assert vocab_size is not None and special_ids is not None and eos_token_id is not None
            self.frames = LabelFrames(vocab_size, special_ids, eos_token_id, unk_token_id)
        else:
            self.frames = LabelFrames.from_tokenizer(tokenizer)
        self._checks_draws = not _check_tokens(payoff, self.frames, tokenizer)
        _check_samples(payoff, num_samples, weighted, seed)
        self.collator, self.payoff, self.schedule = collator, payoff, schedule
        self.seed, self.num_samples, self.weighted = int(seed), num_samples, weighted
        self.reference_column = reference_column
        self._clock = EpochClock()

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of the following draws, also in workers that have started already.

        Raises:
            ValueError: with a schedule, which needs the optimizer step, too: see `start_epoch`.
        """
        if self.schedule is not None:
            raise ValueError("The temperature follows a schedule. Call `start_epoch(epoch, step)` instead.")
        self.start_epoch(epoch, 0)

    def start_epoch(
        self, epoch: int, step: int, discarded: int = 0, accumulation: int = 1, batches_per_step: int = 1
    ) -> None:
        """Sets the epoch of the following draws, and the optimizer step of the next batch.

        Call it before each iteration over the loader. The step of a batch is counted from there, in the order in which
        the loader returns batches (its `in_order`). If you leave an iteration over persistent workers in the middle,
        make a new loader, for the workers would count the batches that they had begun. At the end of a stream whose
        workers have different numbers of batches, the count runs ahead by the batches that are missing.

        Args:
            epoch: number of the epoch, from 0.
            step: optimizer steps done before, from 0.
            discarded: batches at the start of the iteration that will be thrown away, as when a stream is resumed.
            accumulation: batches of a process in one optimizer step.
            batches_per_step: batches of this loader for one batch of each process: 1, or the number of processes where
                one of them loads for all.

        Raises:
            ValueError: for numbers that are not whole or too small.
        """
        self._clock.start(epoch, step, discarded, accumulation, batches_per_step)

    def __call__(self, examples: Sequence[Example]) -> MutableMapping[str, Any]:
        """The wrapped collator's batch of drawn labels, with the statistics. The examples stay as they are."""
        _check_columns(examples)
        rows = [_as_list(example["labels"]) for example in examples]
        flat, lengths = _flatten("labels", rows)
        spans = self.frames.spans(rows, flat, lengths)
        epoch, step = self._clock.tick()
        temperature = self.payoff.temperature if self.schedule is None else self.schedule(step)
        samples = self.num_samples
        if self.reference_column is not None:
            examples = [{self.reference_column: example["labels"], **example} for example in examples]
        if self.schedule is None and temperature == 0 and not self.weighted:
            drawn: list[Example] = list(examples)
            if samples > 1:
                drawn = [dict(example) for example in examples for _ in range(samples)]
            statistics = {"edits": np.zeros(len(drawn), dtype=np.int64)}
        else:
            keys = self._keys(examples, flat, lengths, epoch)
            draw = self._draw_candidates if self.weighted else self._draw
            labels, statistics = draw(rows, spans, keys, temperature)
            samples = len(labels) // max(len(rows), 1)
            drawn = _replace_labels(examples, rows, labels, samples, self.reference_column)
        batch = self.collator(drawn)
        bodies = np.fromiter(
            (sum(stop - start for start, stop in row_spans) for row_spans in spans), np.int64, len(rows)
        )
        statistics["lengths"] = np.repeat(bodies, samples)
        statistics["temperature"] = np.full(len(drawn), temperature, dtype=np.float32)
        batch.update({PREFIX + name: torch.from_numpy(values) for name, values in statistics.items()})
        return batch

    def _keys(self, examples: Sequence[Example], flat: np.ndarray, lengths: np.ndarray, epoch: int) -> np.ndarray:
        run = derive_keys(np.array([self.seed % 2**64], dtype=np.uint64), epoch)
        return derive_keys(derive_keys(_hash_sources(examples), hash_rows(flat, lengths)), run)

    def _draw(
        self, rows: list[list[int]], spans: list[list[Span]], keys: np.ndarray, temperature: float
    ) -> tuple[list[list[int]], dict[str, np.ndarray]]:
        """`num_samples` rows for each row, and their statistics."""
        samples = self.num_samples
        targets = np.fromiter(map(len, spans), np.int64, len(spans))  # 1, but for packed rows
        firsts = np.cumsum(targets) - targets
        number = np.arange(targets.sum()) - np.repeat(firsts, targets)
        keys = derive_keys(derive_keys(np.repeat(keys, targets), number)[:, None], np.arange(samples))
        bodies = [row[start:stop] for row, row_spans in zip(rows, spans, strict=True) for start, stop in row_spans]
        if samples > 1:
            bodies = [body for body in bodies for _ in range(samples)]
        draws = self.payoff.draw(bodies, keys.ravel(), temperature=temperature)
        self._check_drawn(draws.labels)
        labels = []
        for row, row_spans, first, end in zip(rows, spans, firsts.tolist(), np.cumsum(targets).tolist(), strict=True):
            for k in range(samples):
                labels.append(_replace(row, row_spans, draws.labels[first * samples + k : end * samples : samples]))
        statistics = {"edits": _sum_targets(draws.edits.astype(np.int64), firsts, samples)}
        if draws.effective_sample_size is not None:
            sums = _sum_targets(draws.effective_sample_size, firsts, samples)
            statistics["effective_sample_size"] = (sums / np.repeat(targets, samples)).astype(np.float32)
        return labels, statistics

    def _draw_candidates(
        self, rows: list[list[int]], spans: list[list[Span]], keys: np.ndarray, temperature: float
    ) -> tuple[list[list[int]], dict[str, np.ndarray]]:
        """A row for each candidate of each row, and their statistics."""
        if any(len(row_spans) > 1 for row_spans in spans):
            raise ValueError(
                "`weighted=True` needs rows of one target, for each row has one weight, but a row of the batch is "
                "packed: it has an end token inside. Set `weighted=False`, or do not pack."
            )
        # The same keys as those of single draws, so that both choose among the same candidates.
        keys = derive_keys(derive_keys(keys, 0), 0)
        bodies = [row[start:stop] for row, [(start, stop)] in zip(rows, spans, strict=True)]
        candidates = cast(ImportancePayoff, self.payoff).candidates(bodies, keys, temperature=temperature)
        self._check_drawn(list(chain.from_iterable(candidates.labels)))
        labels = [
            _replace(row, row_spans, [label])
            for row, row_spans, example_labels in zip(rows, spans, candidates.labels, strict=True)
            for label in example_labels
        ]
        number = np.shape(candidates.weights)[-1]
        sizes = np.repeat(candidates.effective_sample_size, number)
        return labels, {
            "edits": candidates.edits.ravel().astype(np.int64),
            "effective_sample_size": sizes.astype(np.float32),
            "weights": candidates.weights.ravel().astype(np.float32),
        }

    def _check_drawn(self, labels: list[list[int]]) -> None:
        if self._checks_draws:  # the tokens that the sampler draws are unknown
            flat, _ = _flatten("labels", labels)
            unknown = np.unique(flat[(flat < 0) | (flat >= self.frames.vocab_size)])
            if unknown.size:
                raise _unknown_ids(self.payoff, unknown, self.frames)


def split_draws(batch: MutableMapping[str, Any]) -> tuple[MutableMapping[str, Any], dict[str, Tensor]]:
    """The model's inputs of a batch, and the statistics of its draws by name (`raml_edits`, ...). `batch` stays."""
    statistics = {name: value for name, value in batch.items() if name.startswith(PREFIX)}
    inputs = copy.copy(batch)
    for name in statistics:
        del inputs[name]
    return inputs, statistics


# ---- checks ----


def require_payoff(payoff: Payoff) -> None:
    """Refuses other objects than samplers.

    Raises:
        ValueError: naming the object, and how samplers are made.
    """
    if not isinstance(payoff, Payoff):
        raise ValueError(
            "`payoff` must be a sampler, such as `HammingPayoff(regular_tokens(tokenizer), temperature=0.85)` or your "
            f"own subclass of `Payoff`, got {payoff!r}. A name belongs into `RamlConfig(payoff=...)`."
        )


def _check_tokens(payoff: Payoff, frames: LabelFrames, tokenizer: PreTrainedTokenizerBase | None) -> bool:
    """Whether the sampler has a list of its tokens; raises if a special token or an unknown id is in the list."""
    tokens = getattr(payoff, "tokens", getattr(getattr(payoff, "proposal", None), "tokens", None))
    if tokens is None:
        return False
    tokens = np.asarray(tokens)
    unknown = tokens[(tokens < 0) | (tokens >= frames.vocab_size)]
    if unknown.size:
        raise _unknown_ids(payoff, unknown, frames)
    special = sorted(frames.special_ids.intersection(tokens.tolist()))
    if special:
        names = [str(token) for token in special]
        if tokenizer is not None:
            texts = tokenizer.convert_ids_to_tokens(special)
            names = [f"{token} ({text})" for token, text in zip(special, texts, strict=True)]
        raise ValueError(
            f"{type(payoff).__name__} may draw special tokens: {', '.join(names[:10])}"
            f"{', ...' if len(names) > 10 else ''}. Give it `hf_localgan.regular_tokens(tokenizer)` as `tokens`."
        )
    return True


def _check_samples(payoff: Payoff, num_samples: int, weighted: bool, seed: int) -> None:
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise ValueError(f"`seed` must be a whole number, got {seed!r}. The same seed makes the same draws.")
    if isinstance(num_samples, bool) or not isinstance(num_samples, int) or num_samples < 1:
        raise ValueError(f"`num_samples` must be a whole number of at least 1, got {num_samples!r}.")
    if weighted and not callable(getattr(payoff, "candidates", None)):
        raise ValueError(
            f"`weighted=True` needs a sampler of weighted candidates such as `ImportancePayoff`, got "
            f"{type(payoff).__name__}."
        )
    if weighted and num_samples > 1:
        raise ValueError(
            f"`num_samples` must be 1 with `weighted=True`, where the rows of an example are the candidates, got "
            f"{num_samples}. Set the number of candidates in {type(payoff).__name__}."
        )


def _check_columns(examples: Sequence[Example]) -> None:
    if not len(examples):
        raise ValueError(
            "The batch has no examples. Give at least one example; look for a sampler that makes empty batches."
        )
    for i, example in enumerate(examples):
        if example.get("labels") is None:
            raise ValueError(
                f"Example {i} of the batch has no `labels` (found: {', '.join(f'`{name}`' for name in example)}). Make "
                "the data set by `encode_pairs`."
            )
        for name in DECODER_INPUTS:
            if name in example:
                raise ValueError(
                    f"The examples have `{name}`, which are made from the reference; the decoder must read the drawn "
                    "label instead. Remove the column: the model or `DataCollatorForSeq2Seq(model=...)` makes it."
                )


def _unknown_ids(payoff: Payoff, ids: np.ndarray, frames: LabelFrames) -> ValueError:
    return ValueError(
        f"{type(payoff).__name__} draws ids outside of the vocabulary of {frames.vocab_size} tokens: "
        f"{', '.join(map(str, ids[:10]))}{', ...' if len(ids) > 10 else ''}. Ids go from 0 to {frames.vocab_size - 1}."
    )


# ---- rows ----


def _as_list(values: Sequence[int]) -> list[int]:
    if type(values) is list:
        return values
    ids = np.asarray(values)
    if ids.ndim != 1 or ids.size and ids.dtype.kind not in "iu":
        raise ValueError(
            f"`labels` of each example must be one list of token ids, got {ids.dtype} of shape {ids.shape}."
        )
    return ids.tolist()


def _flatten(name: str, rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """All rows one after another and their lengths, int64."""
    try:
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        if all(type(row) is list for row in rows):
            flat = array("q")  # as fast as `np.fromiter`, which would cut the digits off a float
            for row in rows:
                flat.fromlist(cast(list[int], row))
            return np.frombuffer(flat, np.int64), lengths
        ids = [np.asarray(row).astype(np.int64, casting="same_kind") for row in rows]
        if any(row.ndim != 1 for row in ids):
            raise ValueError(f"got one of shape {next(row.shape for row in ids if row.ndim != 1)}")
        return np.concatenate(ids), lengths
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"`{name}` of each example must be one list of token ids: {error}.") from error


def _hash_sources(examples: Sequence[Example]) -> np.ndarray:
    """A number for each example's source, uint64; for sounds, the checksum of their values in single precision."""
    if examples[0].get(DRAW_KEY) is not None:
        return _draw_keys(examples)
    name = next((name for name in SOURCES if examples[0].get(name) is not None), None)
    if name is None:
        raise ValueError(
            f"The examples have no source, which the draws depend on (found: "
            f"{', '.join(f'`{name}`' for name in examples[0])}). Add one of "
            f"{', '.join(f'`{name}`' for name in SOURCES)}."
        )
    sources: list[Any] = [example.get(name) for example in examples]
    lacking = next((i for i, source in enumerate(sources) if source is None), None)
    if lacking is not None:
        raise ValueError(
            f"Example {lacking} of the batch has no `{name}`, which the draws of the other examples depend on (found: "
            f"{', '.join(f'`{column}`' for column in examples[lacking])}). Give all examples the same columns."
        )
    if name == "input_ids":
        return hash_rows(*_flatten(name, sources))
    sums = [zlib.crc32(np.ascontiguousarray(source, dtype=np.float32).data) for source in sources]
    return np.array(sums, dtype=np.uint64)


def _draw_keys(examples: Sequence[Example]) -> np.ndarray:
    keys: list[int] = []
    for i, example in enumerate(examples):
        key = example.get(DRAW_KEY)
        if isinstance(key, bool) or not isinstance(key, Integral):
            raise ValueError(
                f"`{DRAW_KEY}` of example {i} of the batch must be a whole number, as in the others, got {key!r}."
            )
        keys.append(int(key) % 2**64)
    return np.array(keys, dtype=np.uint64)


def _replace(row: list[int], spans: list[Span], bodies: Sequence[list[int]]) -> list[int]:
    """The row with new bodies in the same frames."""
    labels: list[int] = []
    end = 0  # of the last body
    for (start, stop), body in zip(spans, bodies, strict=True):
        labels += row[end:start]
        labels += body
        end = stop
    return labels + row[end:]


def _sum_targets(values: np.ndarray, firsts: np.ndarray, samples: int) -> np.ndarray:
    """Sums over the targets of each row, for each sample: from `(targets * samples,)` to `(rows * samples,)`."""
    return np.add.reduceat(values.reshape(-1, samples), firsts, axis=0).ravel()


def _replace_labels(
    examples: Sequence[Example],
    rows: list[list[int]],
    labels: list[list[int]],
    samples: int,
    reference_column: str | None,
) -> list[Example]:
    """Copies of the examples with the drawn labels, `samples` for each."""
    if any(len(new) != len(rows[i // samples]) for i, new in enumerate(labels)):
        _refuse_aligned(examples, rows, reference_column)
    return [
        {**example, "labels": _as_type_of(example["labels"], new)}
        for i, example in enumerate(examples)
        for new in labels[i * samples : (i + 1) * samples]
    ]


def _as_type_of(reference: Any, label: list[int]) -> Any:
    """The label as a list, an array or a tensor, whichever the reference is, for collators treat them differently."""
    if isinstance(reference, np.ndarray):
        return np.array(label, dtype=reference.dtype)
    return torch.tensor(label, dtype=reference.dtype) if isinstance(reference, Tensor) else label


def _refuse_aligned(examples: Sequence[Example], rows: list[list[int]], reference_column: str | None) -> None:
    """Refuses columns with a value for each label, such as a decoder's mask or positions, which no longer fit."""
    for name in examples[0]:
        if name in ("labels", reference_column, *SOURCES):
            continue
        sizes = [_size(example.get(name)) for example in examples]
        # A source's mask may be as long as the labels by chance.
        fits_source = not name.startswith("decoder_") and sizes == [_source_size(example) for example in examples]
        if not fits_source and all(size == len(row) for size, row in zip(sizes, rows, strict=True)):
            raise ValueError(
                f"`{name}` has a value for each label, but draws may be shorter or longer than their references. "
                "Remove the column if the model does not need it, or use `HammingPayoff`, which keeps lengths."
            )


def _source_size(example: Example) -> int | None:
    return next((_size(example[name]) for name in SOURCES if example.get(name) is not None), None)


def _size(value: Any) -> int | None:
    """Length of a sequence; `None` for numbers and texts."""
    if isinstance(value, (list, tuple)):
        return len(value)
    return len(value) if isinstance(value, (np.ndarray, Tensor)) and value.ndim else None
