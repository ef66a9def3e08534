"""Free-running generation with a gradient: each step feeds back the expected embedding of its own distribution."""

import copy
import inspect
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_localgan.decoding.special_tokens import end_tokens, special_token, unadapted
from hf_localgan.functional.relaxation import RelaxedTokens, expected_embedding, relax_tokens


class SoftRollout(NamedTuple):
    """Responses that have, at each step, weights over tokens instead of a token.

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
) -> SoftRollout:
    """Lets the generator run free for `max_length` steps, and keeps the gradient of every step for the parameters.

    Each step feeds back the mean of the decoder's own embeddings under its weights (Xu et al. 2017), which
    `functional.relaxation` makes. Ends early when every response has ended. In training mode dropout is on, as in a
    teacher-forced pass.

    Args:
        model: an encoder-decoder `PreTrainedModel` or a PEFT model around one; not wrapped for distribution.
        input_ids, attention_mask: the queries, shape `(batch, time)`.
        max_length: largest number of steps, at least 1.
        relaxation, temperature, noise_scale, top_k, generator: see `functional.relaxation.relax_tokens`.
        use_cache: feed one step at a time. Without it every step decodes the whole prefix again, with equal results.
        encoder_outputs: the encoder's outputs for these queries, if they are computed already.
        end_probabilities: keep them; they cost a sum over the vocabulary at each step.

    Returns:
        The responses, `time` steps long, at most `max_length`.

    Raises:
        ValueError: for a model without `decoder_inputs_embeds`, with gradient checkpointing (which returns no cache in
            training mode, so that every step would see the last token only), and for `max_length` below 1.
    """
    if max_length < 1:
        raise ValueError(f"`max_length` must be at least 1, got {max_length}.")
    base = unadapted(model)
    check_rollout(base)
    ends, start = _special_tokens(base)
    embed = decoder_embeddings(base)
    table = embed(torch.arange(embed.weight.shape[0], device=embed.weight.device))  # scaled as the module does
    if encoder_outputs is None:
        encoder_outputs = base.get_encoder()(input_ids=input_ids, attention_mask=attention_mask, return_dict=True)
    feed = embed(torch.full((len(input_ids), 1), start, device=input_ids.device))
    prefix, cache = feed, cast(Any, None)
    steps: list[tuple[RelaxedTokens, Tensor | None]] = []
    ended = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
    for _ in range(max_length):
        outputs = model(
            encoder_outputs=copy.copy(encoder_outputs), attention_mask=attention_mask, past_key_values=cache,
            decoder_inputs_embeds=feed if use_cache else prefix, use_cache=use_cache, return_dict=True,
        )  # fmt: skip
        logits = outputs.logits[:, -1].to(torch.promote_types(outputs.logits.dtype, torch.float32))
        if use_cache and (cache := outputs.past_key_values) is None:
            raise ValueError(f"{type(base).__name__} returned no cache. Roll out with `use_cache=False`.")
        tokens = relax_tokens(
            logits, relaxation, temperature, noise_scale=noise_scale, top_k=top_k, generator=generator
        )
        # Not by a softmax, whose whole result would be kept for the gradient.
        ending = (logits[:, ends].logsumexp(dim=-1) - logits.logsumexp(dim=-1)).exp() if end_probabilities else None
        steps.append((tokens, ending))
        ended = ended | torch.isin(tokens.best, ends)
        if ended.all():
            break
        feed = expected_embedding(tokens, table)[:, None]
        prefix = torch.cat([prefix, feed], dim=1)
    return _stack(steps, ends)


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


def _stack(steps: list[tuple[RelaxedTokens, Tensor | None]], ends: Tensor) -> SoftRollout:
    tokens, ending = zip(*steps, strict=True)
    best = torch.stack([step.best for step in tokens], dim=1)
    before_end = torch.isin(best, ends).cumsum(dim=1) == 0
    return SoftRollout(
        weights=torch.stack([step.weights for step in tokens], dim=1),
        ids=None if tokens[0].ids is None else torch.stack([step.ids for step in tokens], dim=1),
        best=best,
        mask=before_end.to(tokens[0].weights.dtype),
        end_probabilities=None if ending[0] is None else torch.stack(ending, dim=1),
    )
