"""Responses of a policy: samples of the model's plain distribution, greedy ones, and continuations.

They are token ids for a loss to read. Answers as text, under any decoding, are in `decoding.answers`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedModel

from hf_localgan.data.padding import PADDING
from hf_localgan.decoding.special_tokens import end_tokens, single_token, special_token, unadapted

TEACHER_FORCED = ("labels", "decoder_input_ids", "decoder_attention_mask", "decoder_inputs_embeds")


class Responses(NamedTuple):
    """Responses of a model, ready for a teacher-forced pass.

    Attributes:
        inputs: the encoder's inputs, a row for each response, and `labels`, shape `(responses, time)`: the tokens up to
            and with the end token, then -100. Responses to one query stand together.
        finished: whether a response has an end token, bool, shape `(responses,)`. The others reached the limit.
    """

    inputs: dict[str, Any]
    finished: Tensor

    @property
    def labels(self) -> Tensor:
        return self.inputs["labels"]


def sample_responses(
    model: PreTrainedModel,
    inputs: dict[str, Any],
    *,
    num_samples: int,
    max_new_tokens: int,
    seed: int,
    prefixes: Tensor | None = None,
    rows_per_call: int | None = None,
) -> Responses:
    """Samples of the model's plain distribution, whatever its generation settings say, without dropout.

    They depend on the model, the inputs and the arguments alone; the global random state is left as it was.

    With `prefixes` each sample continues a given beginning, so that `num_samples` continuations of every prefix
    `y_1 .. y_t` estimate the expectation of a reward over what may follow it: the rollouts of Monte Carlo search (Yu et
    al. 2017). One call of `generate` draws all of them, for any encoder-decoder, whatever its cache: where prefixes
    differ in length, the tokens of the longer ones are forced on their rows step by step.

    Args:
        model: an encoder-decoder `PreTrainedModel`, or a PEFT model around one; not wrapped for distribution.
        inputs: a batch; `labels` and all else that only teacher forcing needs is left out.
        num_samples: samples of each query, or of each prefix.
        max_new_tokens: longest response, in tokens, a prefix and the end token included.
        seed: of the draws.
        prefixes: beginnings of responses without the start token, -100 behind each, shape `(batch * k, time)`: the k
            prefixes of one query stand together. A prefix that holds the end token stays as it is.
        rows_per_call: largest number of responses in one call of `generate`, by default all; those to one query stay
            together. Another number gives other draws of the same distribution.

    Returns:
        `num_samples` responses to each query or prefix, prefixes included.

    Raises:
        ValueError: for numbers below 1, a model without an end token, inputs without a row, and prefixes whose number
            is no multiple of the queries', that have -100 between tokens, or are longer than `max_new_tokens`.
    """
    for name, value in (("num_samples", num_samples), ("rows_per_call", rows_per_call)):
        if value is not None and value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}.")
    inputs = encoder_inputs(inputs)
    batch, device = _rows(inputs)
    prefixes, per_query = _checked_prefixes(prefixes, batch, device, max_new_tokens)
    repeats = per_query * num_samples
    queries = batch if rows_per_call is None else max(1, rows_per_call // repeats)  # in one call
    parts: list[tuple[Tensor, Tensor]] = []
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for start in range(0, batch, queries):
            chosen = slice(start, start + queries)
            part = {name: value[chosen] if isinstance(value, Tensor) else value for name, value in inputs.items()}
            beginnings = None if prefixes is None else prefixes[start * per_query : (start + queries) * per_query]
            parts.append(_generate(model, part, max_new_tokens, beginnings, repeats, do_sample=True, top_k=0))
    width = max(rows.shape[1] for rows, _ in parts)
    labels = torch.cat([nn.functional.pad(rows, (0, width - rows.shape[1]), value=PADDING) for rows, _ in parts])
    return Responses({**repeat_rows(inputs, repeats), "labels": labels}, torch.cat([ended for _, ended in parts]))


def greedy_responses(
    model: PreTrainedModel, inputs: dict[str, Any], *, max_new_tokens: int, prefixes: Tensor | None = None
) -> Responses:
    """The most probable next token, again and again: one response to each query or prefix.

    Arguments and errors as in `sample_responses`. Generation settings of the model change nothing here either.
    """
    inputs = encoder_inputs(inputs)
    prefixes, per_query = _checked_prefixes(prefixes, *_rows(inputs), max_new_tokens)
    repeated = repeat_rows(inputs, per_query)
    labels, finished = _generate(model, repeated, max_new_tokens, prefixes, 1, do_sample=False)
    return Responses({**repeated, "labels": labels}, finished)


def encoder_inputs(inputs: dict[str, Any]) -> dict[str, Any]:
    """A batch without `labels` and all else that only teacher forcing needs."""
    return {name: value for name, value in inputs.items() if name not in TEACHER_FORCED}


def repeat_rows(inputs: dict[str, Any], repeats: int) -> dict[str, Any]:
    """A batch with each row of its tensors `repeats` times, copies of one row side by side."""
    return {
        name: value.repeat_interleave(repeats, dim=0) if isinstance(value, Tensor) else value
        for name, value in inputs.items()
    }


def token_lists(labels: Tensor, ends: Sequence[int]) -> list[list[int]]:
    """The tokens of each row without -100 and without the end token that closes it.

    Args:
        labels: shape `(batch, time)`, -100 where there is no token.
        ends: ids of the end tokens.
    """
    rows = [[token for token in row if token != PADDING] for row in labels.tolist()]
    return [row[:-1] if row and row[-1] in ends else row for row in rows]


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Evaluation mode in which recurrent layers still have gradients: cuDNN computes these in training mode alone."""
    modes = [(module, module.training) for module in model.modules()]
    recurrent = [(module, module.dropout) for module in model.modules() if isinstance(module, nn.RNNBase)]
    model.eval()
    for layer, _ in recurrent:
        layer.training, layer.dropout = True, 0.0
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for layer, dropout in recurrent:
            layer.dropout = dropout


class ForcedPrefixes(LogitsProcessor):
    """Makes each row begin with given tokens, by giving every other token probability 0.

    Args:
        prefixes: without the start token, -100 behind each, shape `(rows, time)`, for the same rows as `generate` has.
    """

    def __init__(self, prefixes: Tensor):
        self.prefixes = prefixes

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        step = input_ids.shape[1] - 1  # behind the start token
        if step >= self.prefixes.shape[1]:
            return scores
        tokens = self.prefixes[:, step, None]
        forced = torch.full_like(scores, float("-inf")).scatter(1, tokens.clamp(min=0), 0.0)
        return torch.where(tokens == PADDING, scores, forced)


@torch.no_grad()
def _generate(
    model: PreTrainedModel,
    inputs: dict[str, Any],
    max_new_tokens: int,
    prefixes: Tensor | None,
    repeats: int,
    **settings: Any,
) -> tuple[Tensor, Tensor]:
    """Labels of `repeats` responses to each row of `inputs`, and whether each has ended."""
    ends, arguments, shared = end_tokens(model), dict(inputs), 0
    if prefixes is not None:
        copies = _rows(inputs)[0] * repeats // len(prefixes)  # responses of each prefix
        if copies == repeats:  # one prefix to a row: the tokens that all of them have are read in one pass
            shared = int((prefixes != PADDING).sum(dim=1).min())
            arguments["decoder_input_ids"] = nn.functional.pad(prefixes[:, :shared], (1, 0), value=_start_token(model))
        prefixes = prefixes.repeat_interleave(copies, dim=0)
        if shared == max_new_tokens:
            return _cut_behind_end(prefixes[:, :shared], ends)
        arguments["logits_processor"] = LogitsProcessorList([ForcedPrefixes(prefixes)])
    config = GenerationConfig(
        max_new_tokens=max_new_tokens - shared, num_beams=1, num_return_sequences=repeats, eos_token_id=ends,
        pad_token_id=special_token(model, "pad_token_id"), bos_token_id=special_token(model, "bos_token_id"),
        decoder_start_token_id=special_token(model, "decoder_start_token_id"), **settings,
    )  # fmt: skip
    with without_dropout(model), _generation_config(model, config):
        ids: Tensor = model.generate(**arguments, generation_config=config)  # type: ignore[operator]  # not declared
    return _cut_behind_end(ids[:, 1:], ends)  # behind the start


def _start_token(model: PreTrainedModel) -> int:
    """The decoder's first token, as `generate` finds it."""
    token = single_token(model, "decoder_start_token_id", "bos_token_id")
    if token is None:
        raise ValueError("The model has no `decoder_start_token_id` to put before prefixes. Set it in its config.")
    return token


def _cut_behind_end(tokens: Tensor, ends: list[int]) -> tuple[Tensor, Tensor]:
    is_end = torch.isin(tokens, torch.tensor(ends, device=tokens.device))
    behind = is_end.cumsum(dim=1) - is_end.long() > 0  # by place: the model may draw padding as any token
    return tokens.masked_fill(behind, PADDING), is_end.any(dim=1)


@contextmanager
def _generation_config(model: PreTrainedModel, config: GenerationConfig) -> Iterator[None]:
    """Replaces the model's own configuration: `generate` would fill up a given one from it, with forced tokens, say."""
    models = list({id(module): module for module in (model, unadapted(model))}.values())
    before = [module.generation_config for module in models]
    try:
        for module in models:
            module.generation_config = config
        yield
    finally:
        for module, own in zip(models, before, strict=True):
            module.generation_config = own


def _rows(inputs: dict[str, Any]) -> tuple[int, torch.device]:
    """The number of queries, and the device they are on."""
    for value in inputs.values():
        if isinstance(value, Tensor) and len(value):
            return len(value), value.device
    names = ", ".join(f"`{name}`" for name in inputs) or "nothing"
    raise ValueError(f"The batch has no row for the encoder (found: {names}). Give `input_ids` of a query or more.")


def _checked_prefixes(
    prefixes: Tensor | None, batch: int, device: torch.device, longest: int
) -> tuple[Tensor | None, int]:
    """The prefixes on the device as integers of 64 bits, and how many each query has."""
    if longest < 1:
        raise ValueError(f"`max_new_tokens` must be at least 1, got {longest}.")
    if prefixes is None:
        return None, 1
    if prefixes.dim() != 2 or not len(prefixes) or len(prefixes) % batch:
        raise ValueError(
            f"`prefixes` must have the shape (batch * k, time) for a batch of {batch}, got {tuple(prefixes.shape)}."
        )
    is_token = prefixes != PADDING
    if (is_token[:, 1:] & ~is_token[:, :-1]).any():
        raise ValueError("`prefixes` must have -100 behind their tokens only, got it before a token.")
    if (most := int(is_token.sum(dim=1).max())) > longest:
        raise ValueError(
            f"A prefix has {most} tokens, more than a response may have: `max_new_tokens` is {longest}. Raise it."
        )
    return prefixes.to(device, torch.long), len(prefixes) // batch
