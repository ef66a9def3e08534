"""Samples of the policy that a straight-through rollout follows, and their log-probabilities with a gradient."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hf_localgan.data.padding import PADDING
from hf_localgan.decoding.likelihood import select_rows, shift_right
from hf_localgan.decoding.sampling import repeat_rows
from hf_localgan.decoding.soft_rollout import soft_rollout
from hf_localgan.decoding.special_tokens import unadapted
from hf_localgan.functional.score_function import chosen_log_probs


class NoisySamples(NamedTuple):
    """Hard tokens of samples, those of one query side by side.

    Attributes:
        labels: tokens up to and with the end token, -100 behind it, shape `(batch * samples, time)`.
        content: 1 at tokens before the end, else 0; shape as `labels`.
        log_probs: `ln p` of each token given those before it, nats, 0 at -100, with gradient; shape as `labels`.
    """

    labels: Tensor
    content: Tensor
    log_probs: Tensor


def noisy_samples(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    *,
    samples: int,
    max_length: int,
    temperature: float,
    top_k: int | None = None,
    generator: torch.Generator | None = None,
) -> NoisySamples:
    """Samples at a temperature among the k likeliest tokens, as `soft_rollout` chooses them with that noise.

    The log-probabilities are computed on the hard tokens by one teacher-forced pass, so that no gradient goes from a
    later token through an earlier one. With dropout the pass would see another model than the samples are of: call this
    inside of `without_dropout`.

    Args:
        model: an encoder-decoder that takes `decoder_inputs_embeds`; not wrapped for distribution.
        inputs: `input_ids` and `attention_mask` of the queries, shape `(batch, time)`.
        samples: for each query, at least 1.
        max_length: largest number of tokens, the end token included.
        temperature: scale of the Gumbel noise, above 0.
        top_k, generator: as in `soft_rollout`.

    Raises:
        ValueError: for `samples` below 1, and as `soft_rollout` and `chosen_log_probs`.
    """
    if samples < 1:
        raise ValueError(f"`samples` must be at least 1, got {samples}.")
    base = unadapted(model)
    queries = {name: inputs[name] for name in ("input_ids", "attention_mask") if inputs.get(name) is not None}
    encoded = base.get_encoder()(**queries, return_dict=True)
    repeated = repeat_rows(queries, samples)
    rows = torch.arange(len(queries["input_ids"]), device=queries["input_ids"].device).repeat_interleave(samples)
    encoded = select_rows(encoded, rows)
    with torch.no_grad():
        rollout = soft_rollout(
            model, repeated["input_ids"], repeated.get("attention_mask"), max_length=max_length,
            relaxation="straight_through", noise_scale=temperature, top_k=top_k, encoder_outputs=encoded,
            generator=generator, end_probabilities=False,
        )  # fmt: skip
    content = rollout.mask
    before_end = torch.cat([torch.ones_like(content[:, :1]), content[:, :-1]], dim=1) > 0
    labels = rollout.best.masked_fill(~before_end, PADDING)
    masks: dict[str, Any] = {} if "attention_mask" not in repeated else {"attention_mask": repeated["attention_mask"]}
    decoder_ids = shift_right(model, labels)
    logits = model(
        encoder_outputs=encoded, decoder_input_ids=decoder_ids, use_cache=False, return_dict=True, **masks
    ).logits
    log_probs = chosen_log_probs(logits, labels.clamp(min=0), temperature, top_k)
    return NoisySamples(labels, content, log_probs.masked_fill(~before_end, 0.0))
