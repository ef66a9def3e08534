"""Tokens that carry a gradient: softmax, Gumbel-softmax and straight-through relaxations, whole or of the k best.

Of logits `(batch, vocab)` they make weights over tokens, and of weights and an embedding table the vector that is fed
back to a decoder or added into an utterance's mean (the approximate embedding layer of Xu et al. 2017).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

RELAXATIONS = ("softmax", "gumbel", "straight_through")
GROUP_SIZE = 8  # logits that `likeliest` compares at first


class RelaxedTokens(NamedTuple):
    """Weights over tokens that sum to one.

    Attributes:
        weights: shape `(batch, vocab)`, or `(batch, k)` where only the k best tokens have any.
        ids: the tokens of the k columns, shape `(batch, k)`; `None` where the columns are the vocabulary.
        best: the token with the largest weight, shape `(batch,)`.
    """

    weights: Tensor
    ids: Tensor | None
    best: Tensor


def relax_tokens(
    logits: Tensor,
    relaxation: str = "softmax",
    temperature: float = 1.0,
    *,
    noise_scale: float = 1.0,
    top_k: int | None = None,
    generator: torch.Generator | None = None,
    ids: Tensor | None = None,
    noise: Tensor | None = None,
) -> RelaxedTokens:
    """Weights over tokens with a gradient for the logits.

    * "softmax": `softmax(logits / temperature)`, no noise (Xu et al. 2017).
    * "gumbel": the same of `logits + noise_scale * g`, `g` standard Gumbel (Jang et al. 2017).
    * "straight_through": forward a single token, the best of `logits + noise_scale * g`, which at `noise_scale` 1 is a
      sample of the model and at 0 its greedy choice; backward the gradient of the Gumbel-softmax.

    Args:
        logits: shape `(batch, vocab)`.
        relaxation: one of the three.
        temperature: temperature of the softmax, no unit, above 0. It does not change what "straight_through" chooses.
        noise_scale: scale of the Gumbel noise, at least 0.
        top_k: keep the k likeliest tokens and give them the whole weight. They are chosen without gradient, and before
            the noise, which is then drawn for them alone.
        generator: generator of random numbers; by default torch's own.
        ids: tokens that the logits are of, shape `(batch, k)`, likeliest first; by default those of the vocabulary.
            `top_k` then has no effect.
        noise: `g`, of the shape of the weights; by default drawn, see `gumbel_noise`.

    Raises:
        ValueError: for other relaxations, a temperature that is not above 0, negative noise, and a `top_k` below 1.
    """
    check_relaxation(relaxation, temperature, noise_scale, top_k)
    if ids is None and top_k is not None and top_k < logits.shape[-1]:
        ids = likeliest(logits, top_k)
        logits = logits.gather(-1, ids)
    if relaxation != "softmax" and noise_scale:
        logits = logits + noise_scale * (gumbel_noise(logits, generator) if noise is None else noise)
    weights = (logits / temperature).softmax(dim=-1)
    column = logits.detach().argmax(dim=-1, keepdim=True)
    if relaxation == "straight_through":
        hard = torch.zeros_like(weights).scatter_(-1, column, 1.0)
        weights = hard + (weights - weights.detach())  # the difference is exactly 0, so that `hard` stays one-hot
    best = column if ids is None else ids.gather(-1, column)
    return RelaxedTokens(weights, ids, best.squeeze(-1))


def likeliest(logits: Tensor, k: int) -> Tensor:
    """The tokens with the k largest logits, likeliest first, shape `(batch, k)`; without gradient.

    On a processor the k best are looked for among 8 times k logits, for `topk` takes long to go through a wide
    vocabulary: the k best are in the k groups whose best is best.

    Args:
        logits: shape `(batch, vocab)`.
        k: at most `vocab`.
    """
    logits, vocab = logits.detach(), logits.shape[-1]
    if logits.dtype not in (torch.float32, torch.float64):  # of many equal logits, groups would give others
        return logits.float().topk(k, dim=-1).indices
    if logits.device.type != "cpu" or vocab < 4 * GROUP_SIZE * k:
        return logits.topk(k, dim=-1).indices
    groups = vocab // GROUP_SIZE
    # A group has every `groups`-th token, so that its largest logits are found by whole vectors.
    highest = logits[:, : groups * GROUP_SIZE].unflatten(1, (GROUP_SIZE, groups)).amax(dim=1)  # (batch, groups)
    chosen = highest.topk(k, dim=-1, sorted=False).indices
    ids = (chosen[:, None] + groups * torch.arange(GROUP_SIZE)[:, None]).flatten(1)
    rest = torch.arange(groups * GROUP_SIZE, vocab).expand(len(logits), -1)
    ids = torch.cat([ids, rest], dim=1)
    return ids.gather(1, logits.gather(1, ids).topk(k, dim=-1).indices)


def gumbel_noise(like: Tensor, generator: torch.Generator | None = None, *, rows: int | None = None) -> Tensor:
    """Standard Gumbel variables, `-ln(-ln u)` of uniform `u`.

    Args:
        like: of their type and shape, `(batch, columns)`.
        generator: generator of random numbers; by default torch's own.
        rows: their number of rows; by default that of `like`.
    """
    # A quarter of the time of `exponential_`; `rand` never returns 1, and may return 0.
    shape = (len(like) if rows is None else rows, *like.shape[1:])
    uniform = torch.rand(shape, generator=generator, device=like.device, dtype=like.dtype)
    return -(-uniform.clamp(min=torch.finfo(like.dtype).tiny).log()).log()


def expected_embedding(tokens: RelaxedTokens, table: Tensor) -> Tensor:
    """Mean of the table's rows with the tokens' weights, shape `(batch, dim)`, from a table `(vocab, dim)`."""
    weights = tokens.weights.to(table.dtype)
    if tokens.ids is None:
        return weights @ table
    return F.embedding_bag(tokens.ids, table, per_sample_weights=weights, mode="sum")  # without the rows in between


def check_relaxation(relaxation: str, temperature: float, noise_scale: float, top_k: int | None):
    """Refuses what `relax_tokens` does; arguments and errors as there."""
    if relaxation not in RELAXATIONS:
        raise ValueError(f'`relaxation` must be one of {", ".join(RELAXATIONS)}, got "{relaxation}".')
    if not temperature > 0:
        raise ValueError(f"`temperature` must be above 0, got {temperature}.")
    if not noise_scale >= 0:
        raise ValueError(f"`noise_scale` must be at least 0, got {noise_scale}. 0 is greedy, 1 samples.")
    if top_k is not None and top_k < 1:
        raise ValueError(f"`top_k` must be at least 1, or `None` for the whole vocabulary, got {top_k}.")
