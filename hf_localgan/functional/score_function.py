"""The score-function estimator of a reward of hard tokens: samples, log-probabilities, baselines, credit by token.

With Gumbel noise of scale `s` a straight-through rollout chooses the best of `logits + s g`, which is a sample of
`softmax(logits / s)` among the `k` likeliest tokens. For a reward `R(y)` of the whole sample, which may be any function
of its tokens,

    grad E R(y) = E sum_t (R(y) - b) grad ln p(y_t | q, y_<t)

with any baseline `b` that does not depend on `y` (Williams 1992). Nothing has to be differentiated through the reward,
so that the gradient knows of length and of what follows a token, which that of a straight-through rollout does not.
Shapes: `(batch, samples)` for samples of each query, `(batch, samples, time)` for their tokens.
"""

import torch
from torch import Tensor

from .policy_gradient import leave_one_out_baseline

BASELINES = ("samples", "batch", "references")
CREDITS = ("answer", "token")


def chosen_log_probs(logits: Tensor, tokens: Tensor, temperature: float, top_k: int | None = None) -> Tensor:
    """`ln p` of chosen tokens at a temperature, among the k likeliest; nats, with the gradient of the logits.

    Args:
        logits: shape `(..., vocab)`.
        tokens: ids, shape `(...)`.
        temperature: above 0; that of a straight-through rollout is its scale of noise.
        top_k: number of tokens that could be chosen; `None`: all.

    Raises:
        ValueError: for a temperature that is not above 0, and a `top_k` below 1.
    """
    if not temperature > 0:
        raise ValueError(f"`temperature` must be above 0, got {temperature}: a choice without noise is no sample.")
    if top_k is not None and top_k < 1:
        raise ValueError(f"`top_k` must be at least 1, or `None` for all, got {top_k}.")
    scores = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    chosen = scores.gather(-1, tokens[..., None]).squeeze(-1)
    if top_k is None or top_k >= scores.shape[-1]:
        return chosen - scores.logsumexp(dim=-1)
    best = scores.topk(top_k, dim=-1)
    # Where rounding in another pass puts the chosen token just behind the k best, it stands for the last of them.
    inside = (best.indices == tokens[..., None]).any(dim=-1)
    last = torch.where(inside, best.values[..., -1], chosen)
    return chosen - torch.cat([best.values[..., :-1], last[..., None]], dim=-1).logsumexp(dim=-1)


def sample_advantages(
    rewards: Tensor, baseline: str = "samples", reference_rewards: Tensor | None = None, scaled: bool = False
) -> Tensor:
    """Rewards less a baseline that does not depend on the sample, so that the estimator stays unbiased.

    Args:
        rewards: shape `(batch, samples)`.
        baseline: "samples": for each sample the mean reward of the query's other ones. "batch": the mean of all other
            samples in the batch, whatever their query. "references": `reference_rewards`.
        reference_rewards: mean reward of each query's references, shape `(batch,)`.
        scaled: divide by the root mean square over the batch, so that the gradient's size does not depend on the
            reward's. The direction is then one of a batch: exact in the limit of large batches.

    Returns:
        The same shape, in units of the reward (without a unit if scaled), without gradient.

    Raises:
        ValueError: for another baseline, and for too few samples for it.
    """
    if baseline not in BASELINES:
        raise ValueError(f'`baseline` must be one of {", ".join(BASELINES)}, got "{baseline}".')
    rewards = rewards.detach()
    if baseline == "samples":
        advantages = rewards - leave_one_out_baseline(rewards)
    elif baseline == "batch":
        if rewards.numel() < 2:
            raise ValueError('`baseline="batch"` needs at least 2 samples in the batch, got 1.')
        advantages = rewards - leave_one_out_baseline(rewards.reshape(1, -1)).view_as(rewards)
    else:
        if reference_rewards is None or reference_rewards.shape != rewards.shape[:1]:
            shape = None if reference_rewards is None else tuple(reference_rewards.shape)
            raise ValueError(f"`reference_rewards` must have shape ({len(rewards)},), one per query, got {shape}.")
        advantages = rewards - reference_rewards[:, None]
    return unit_deviation(advantages) if scaled else advantages


def unit_deviation(advantages: Tensor, mask: Tensor | None = None) -> Tensor:
    """Advantages divided by their root mean square over the batch; zeros stay zeros.

    Args:
        advantages: any shape.
        mask: 1 where one counts, the same shape; by default all do.
    """
    weights = torch.ones_like(advantages) if mask is None else mask.to(advantages.dtype)
    mean_square = (advantages.square() * weights).sum() / weights.sum().clamp(min=1)
    root = mean_square.sqrt()
    return torch.where(root > 0, advantages / root, advantages)


def token_advantages(rewards: Tensor, without: Tensor, advantages: Tensor, is_content: Tensor) -> Tensor:
    """For each token the reward of the answer less that of the answer without this token.

    Less noise than the whole answer's reward for every token, at the price of a bias: what follows a token depends on
    it, and the answer without it keeps what follows. Tokens that are no content, the end token above all, keep the
    advantage of the whole answer, which is all that teaches length.

    Args:
        rewards: shape `(batch, samples)`.
        without: rewards without each token, shape `(batch, samples, time)`.
        advantages: those of whole answers, shape `(batch, samples)`.
        is_content: whether a token was taken out for `without`, shape `(batch, samples, time)`.
    """
    return torch.where(is_content, rewards[..., None] - without, advantages[..., None].expand_as(without)).detach()


def score_function_loss(log_probs: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """A loss whose gradient is the estimate of `-grad E R` for each query; its value means nothing. Shape `(batch,)`.

    Args:
        log_probs: of the tokens of samples, the end token included, shape `(batch, samples, time)`.
        advantages: constants, shape `(batch, samples)`, or `(batch, samples, time)` with credit by token.
        mask: 1 where there is a token, shape `(batch, samples, time)`.
    """
    weights = advantages[..., None] if advantages.dim() == 2 else advantages
    return -(weights.detach() * log_probs * mask).sum(dim=2).mean(dim=1)
