"""Free-running generation with a gradient: each step feeds back the expected embedding of its own distribution."""

import copy
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from hf_localgan.decoding.likelihood import select_rows
from hf_localgan.decoding.special_tokens import end_tokens, special_token, unadapted
from hf_localgan.functional.relaxation import (
    RelaxedTokens,
    check_relaxation,
    expected_embedding,
    gumbel_noise,
    likeliest,
    relax_tokens,
)
from hf_localgan.functional.table_reader import TableReader
from hf_localgan.models.output_head import LastPlace, output_head, watched_head

DROPPED_SHARE = 0.25  # of the rows, which must have ended before the others go on without them


class SoftRollout(NamedTuple):
    """Responses that have, at each step, weights over tokens instead of a token.

    What a response has after its end token means nothing; `mask` is 0 there.

    Attributes:
        weights: sum to one at each step, shape `(batch, time, vocab)`, or `(batch, time, k)` where only the k best
            tokens have a weight.
        ids: the tokens of the k columns, shape `(batch, time, k)`; `None` where the columns are the vocabulary.
        best: the token with the largest weight, shape `(batch, time)`.
        mask: 1 before the first step whose best token is an end token, else 0; float, shape `(batch, time)`.
        end_probabilities: probability of an end token at each step under the model, with gradient, shape
            `(batch, time)`; `None` for a rollout with `end_probabilities=False`.
    """

    weights: Tensor
    ids: Tensor | None
    best: Tensor
    mask: Tensor
    end_probabilities: Tensor | None = None

    @property
    def lengths(self) -> Tensor:
        """Steps before the end, shape `(batch,)`, without gradient."""
        return self.mask.sum(dim=1)

    @property
    def survival(self) -> Tensor:
        """Probability that a response has not ended at each step, with gradient, shape `(batch, time)`.

        The product of `1 - end_probabilities` up to and with this step. As weights of a mean over steps it gives the
        length a gradient, which `mask` does not.

        Raises:
            ValueError: for a rollout without `end_probabilities`.
        """
        if self.end_probabilities is None:
            raise ValueError("This rollout has no end probabilities. Roll out with `end_probabilities=True`.")
        return (1 - self.end_probabilities).cumprod(dim=1)


def soft_rollout(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    max_length: int,
    relaxation: str = "softmax",
    temperature: float = 1.0,
    noise_scale: float = 1.0,
    top_k: int | None = None,
    use_cache: bool = True,
    encoder_outputs: Any = None,
    generator: torch.Generator | None = None,
    end_probabilities: bool = True,
    drop_ended: bool = True,
) -> SoftRollout:
    """Lets the generator run free for `max_length` steps, and keeps the gradient of every step for the parameters.

    Each step feeds back the mean of the decoder's own embeddings under its weights (Xu et al. 2017), which
    `functional.relaxation` makes. Ends early when every response has ended. In training mode dropout is on, as in a
    teacher-forced pass.

    Where the output layer is a plain linear one and nothing follows it, the gradients of it and of the embeddings are
    made once for many steps (`functional.table_reader`): the same numbers in less time. With `top_k` and without
    `end_probabilities` only the rows of k tokens are read, which takes by far the least.

    Args:
        model: an encoder-decoder `PreTrainedModel` or a PEFT model around one; not wrapped for distribution.
        input_ids, attention_mask: the queries, shape `(batch, time)`.
        max_length: largest number of steps, at least 1.
        relaxation, temperature, noise_scale, top_k, generator: see `functional.relaxation.relax_tokens`.
        use_cache: feed one step at a time. Without it every step decodes the whole prefix again, with equal results.
        encoder_outputs: the encoder's outputs for these queries, if they are computed already.
        end_probabilities: keep them; they cost a sum over the vocabulary at each step.
        drop_ended: do not go on with responses that have ended, once they are a quarter of the rows: the same tokens,
            weights and gradients in less time, but for dropout, which is drawn for fewer rows. Not with
            `end_probabilities`, which are of every step.

    Returns:
        The responses, `time` steps long, at most `max_length`.

    Raises:
        ValueError: for a model without `decoder_inputs_embeds`, with gradient checkpointing (which returns no cache in
            training mode, so that every step would see the last token only), and for `max_length` below 1.
    """
    if max_length < 1:
        raise ValueError(f"`max_length` must be at least 1, got {max_length}.")
    check_relaxation(relaxation, temperature, noise_scale, top_k)
    base = unadapted(model)
    check_rollout(base)
    ends, start = _special_tokens(base)
    embed = decoder_embeddings(base)
    if encoder_outputs is None:
        encoder_outputs = base.get_encoder()(input_ids=input_ids, attention_mask=attention_mask, return_dict=True)
    batch = len(input_ids)
    drops = drop_ended and not end_probabilities and isinstance(encoder_outputs, ModelOutput)
    first = embed(torch.full((batch, 1), start, device=input_ids.device))

    def relax(logits: Tensor, ids: Tensor | None, rows: Tensor | None) -> RelaxedTokens:
        # Noise is drawn for all rows, so that a response does not depend on who has ended before it.
        drawn = rows is not None and relaxation != "softmax" and noise_scale
        noise = gumbel_noise(logits, generator, rows=batch)[rows] if drawn else None
        return relax_tokens(
            logits, relaxation, temperature, noise_scale=noise_scale, generator=generator, ids=ids, noise=noise
        )

    def run(reading: "_PlainSteps | _NotedSteps") -> SoftRollout:
        feed, prefix, cache = first, first, cast(Any, None)
        encoded, mask, rows = encoder_outputs, attention_mask, cast(Tensor | None, None)  # `None` are all rows
        steps: list[_Step] = []
        ended = torch.zeros(batch, dtype=torch.bool, device=input_ids.device)
        for _ in range(max_length):
            tokens, ending, cache = reading.step(
                rows, encoder_outputs=copy.copy(encoded), attention_mask=mask, past_key_values=cache,
                decoder_inputs_embeds=feed if use_cache else prefix, use_cache=use_cache, return_dict=True,
            )  # fmt: skip
            if use_cache and cache is None:
                raise ValueError(f"{type(base).__name__} returned no cache. Roll out with `use_cache=False`.")
            steps.append(_Step(tokens, ending, rows))
            ended = ended | torch.isin(tokens.best, ends)
            left = len(ended) - int(ended.sum())
            if len(steps) == max_length or left == 0:
                break
            feed = reading.embedding(tokens)[:, None]
            prefix = prefix if use_cache else torch.cat([prefix, feed], dim=1)
            cache = cache if use_cache else None
            if drops and left <= (1 - DROPPED_SHARE) * len(ended):
                kept = (~ended).nonzero()[:, 0]
                rows = kept if rows is None else rows[kept]
                encoded, mask = select_rows(encoded, kept), None if mask is None else mask[kept]
                feed, prefix, ended = feed[kept], prefix if use_cache else prefix[kept], ended[kept]
                if cache is not None:
                    cache.reorder_cache(kept)
        return _stack(steps, ends, batch)

    head = output_head(base)
    if head is not None and "forward" not in head.__dict__ and torch.is_grad_enabled():
        table, padding = _rows(embed)
        tables, draws = TableReader(head.weight, head.bias, table, padding=padding), _random_states(input_ids.device)
        try:
            with watched_head(model) as call:
                return run(_NotedSteps(call, tables, relax, top_k, ends if end_probabilities else None))
        except _HeadIsNotLast:
            _set_random_states(draws, input_ids.device)
    is_hard = relaxation == "straight_through"
    return run(_PlainSteps(model, embed, relax, top_k, is_hard, ends if end_probabilities else None))


class _PlainSteps:
    """Steps that compute all logits with a gradient, if any is wanted."""

    def __init__(
        self, model: nn.Module, embed: nn.Embedding, relax: Callable[..., RelaxedTokens], top_k: int | None,
        is_hard: bool, ends: Tensor | None,
    ):  # fmt: skip
        self.model, self.relax, self.top_k, self.is_hard, self.ends = model, relax, top_k, is_hard, ends
        self.table = _scaled_table(embed) if torch.is_grad_enabled() else _rows(embed)[0]

    def step(self, rows: Tensor | None, **inputs: Any) -> tuple[RelaxedTokens, Tensor | None, Any]:
        outputs = self.model(**inputs)
        raw = outputs.logits[:, -1]
        logits, ids = raw.to(torch.promote_types(raw.dtype, torch.float32)), _likeliest(raw, self.top_k)
        ending = None if self.ends is None else _ending(logits, self.ends)
        tokens = self.relax(logits if ids is None else logits.gather(-1, ids), ids, rows)
        return tokens, ending, outputs.past_key_values

    def embedding(self, tokens: RelaxedTokens) -> Tensor:
        if self.is_hard and not torch.is_grad_enabled():  # all weight is on one token
            return F.embedding(tokens.best, self.table)
        return expected_embedding(tokens, self.table)


class _NotedSteps:
    """Steps that note what they read of the output layer and the embeddings.

    Raises:
        _HeadIsNotLast: at the first step, if something follows the output layer.
    """

    def __init__(
        self, call: Callable[..., tuple[Any, LastPlace]], tables: TableReader, relax: Callable[..., RelaxedTokens],
        top_k: int | None, ends: Tensor | None,
    ):  # fmt: skip
        self.call, self.tables, self.relax, self.top_k, self.ends = call, tables, relax, top_k, ends
        self.embedding = tables.embedding
        self.tested = False

    def step(self, rows: Tensor | None, **inputs: Any) -> tuple[RelaxedTokens, Tensor | None, Any]:
        try:
            outputs, last = self.call(**inputs)
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            if self.tested:
                raise
            raise _HeadIsNotLast from error
        if not self.tested and not last.is_last(outputs):
            raise _HeadIsNotLast
        self.tested = True
        ids, ending = _likeliest(last.logits, self.top_k), None
        if self.ends is None:
            logits = self.tables.logits(last.hidden, last.logits, ids)
        else:
            whole = self.tables.logits(last.hidden, last.logits, None)
            logits, ending = whole if ids is None else whole.gather(-1, ids), _ending(whole, self.ends)
        return self.relax(logits, ids, rows), ending, outputs.past_key_values


def _likeliest(logits: Tensor, top_k: int | None) -> Tensor | None:
    """The `top_k` likeliest tokens; `None` for the whole vocabulary."""
    return likeliest(logits, top_k) if top_k is not None and top_k < logits.shape[-1] else None


def _ending(logits: Tensor, ends: Tensor) -> Tensor:
    """Probability of an end token, shape `(batch,)`."""
    # Not by a softmax, whose whole result would be kept for the gradient.
    return (logits[:, ends].logsumexp(dim=-1) - logits.logsumexp(dim=-1)).exp()


class _HeadIsNotLast(Exception):
    """Something follows the output layer, so that all logits are needed."""


def _scaled_table(embed: nn.Embedding) -> Tensor:
    """The rows as the module returns them, scaled perhaps, with their gradient."""
    return embed(torch.arange(embed.weight.shape[0], device=embed.weight.device))


def _rows(embed: nn.Embedding) -> tuple[Tensor, int | None]:
    """As `_scaled_table`, and the row without a gradient; the module's own tensor, not a copy, where that is the same.

    The gradient of the tensor itself, unlike that of a copy, has to leave that row out.
    """
    changed = embed._forward_hooks or embed._forward_pre_hooks or "forward" in embed.__dict__
    if type(embed) is not nn.Embedding or changed or embed.max_norm is not None or embed.scale_grad_by_freq:
        return _scaled_table(embed), None
    return embed.weight, embed.padding_idx


def _random_states(device: torch.device) -> list[Tensor]:
    """States of torch's generators that dropout draws from."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def _set_random_states(states: list[Tensor], device: torch.device):
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state, device)


def decoder_embeddings(model: PreTrainedModel) -> nn.Embedding:
    """The module that embeds the decoder's input tokens; its forward may scale the rows of its table."""
    return model.get_decoder().get_input_embeddings()


def check_rollout(model: PreTrainedModel):
    """Refuses a model that cannot be rolled out softly, with the reason; see `soft_rollout`."""
    name = type(model).__name__
    if not getattr(model.config, "is_encoder_decoder", False):
        raise ValueError(f"{name} is no encoder-decoder; a rollout needs one, such as `rnn_seq2seq`, T5 or BART.")
    if "decoder_inputs_embeds" not in inspect.signature(type(model).forward).parameters:
        raise ValueError(
            f"{name} takes no `decoder_inputs_embeds`, so that no mean of embeddings can be fed back. Use a model that "
            "does, such as `rnn_seq2seq`, T5 or BART."
        )
    saves_memory = getattr(model, "is_activation_checkpointing", None)  # its name since transformers 5.23
    if saves_memory is None:
        saves_memory = model.is_gradient_checkpointing
    if saves_memory and model.training:
        raise ValueError(
            "Gradient checkpointing returns no cache in training mode, and a rollout would see the last token only. "
            "Turn it off: `model.gradient_checkpointing_disable()`, or leave `gradient_checkpointing` out."
        )


def _special_tokens(model: PreTrainedModel) -> tuple[Tensor, int]:
    """Ids of the end tokens, shape `(ends,)`, and the decoder's first token."""
    start = special_token(model, "decoder_start_token_id")
    if not isinstance(start, int) or special_token(model, "eos_token_id") is None:
        raise ValueError("The model's configuration must name `eos_token_id` and `decoder_start_token_id`.")
    return torch.as_tensor(end_tokens(model), device=model.device), start


class _Step(NamedTuple):
    """What a step has made, of all rows or of those that had not ended."""

    tokens: RelaxedTokens
    ending: Tensor | None
    rows: Tensor | None

    def whole(self, ends: Tensor, batch: int) -> RelaxedTokens:
        """Its tokens for all rows: those that it left out have an end token, with the whole weight."""
        (weights, ids, best), rows = self.tokens, self.rows
        if rows is None:
            return self.tokens
        ending = torch.zeros_like(weights[0]).index_fill_(0, ends[:1] if ids is None else ends.new_zeros(1), 1.0)
        every = ends[0].expand(batch)
        return RelaxedTokens(
            ending.expand(batch, -1).index_copy(0, rows, weights),
            None if ids is None else every[:, None].expand(-1, ids.shape[1]).index_copy(0, rows, ids),
            every.index_copy(0, rows, best),
        )


def _stack(steps: list[_Step], ends: Tensor, batch: int) -> SoftRollout:
    tokens = [step.whole(ends, batch) for step in steps]
    ids = [step.ids for step in tokens if step.ids is not None]
    ending = [step.ending for step in steps if step.ending is not None]
    best = torch.stack([step.best for step in tokens], dim=1)
    before_end = torch.isin(best, ends).cumsum(dim=1) == 0
    return SoftRollout(
        weights=torch.stack([step.weights for step in tokens], dim=1),
        ids=torch.stack(ids, dim=1) if ids else None,
        best=best,
        mask=before_end.to(tokens[0].weights.dtype),
        end_probabilities=torch.stack(ending, dim=1) if ending else None,
    )
