"""Policy gradients: of a whole sample's reward (Norouzi et al. 2016, Eq. 10), and of a reward for every token.

    grad L_RL = E_{y ~ p} [ -(r(y, y*) - tau log p(y | x)) grad log p(y | x) ]

The term of the entropy is the `-tau log p`: the gradient of `-tau H(p)` is `tau E[(1 + log p) grad log p]`, and the
expectation of `grad log p` alone is 0. For the same reason a baseline that does not depend on the sample may be taken
from the reward without changing the expectation.

A reward `R(y)` of the whole response is also the sum of what each token changes: with `Q_t = E[R(y) | y_<=t]`, the
value of the response up to and with token `t`, and `b_t` anything that is known before token `t`,

    grad E R = E sum_t (Q_t - b_t) grad log p(y_t | q, y_<t)

which is the reward for every generation step, REGS, of Li et al. 2017. Two mistakes are common: to shift `Q` by one, so
that a token gets the value of what stood before it (nothing is left of the gradient), and to give the last token its
prefix's estimate in place of the reward itself.
"""

from typing import NamedTuple

import torch
from torch import Tensor

REWARDS = ("probability", "logit", "rank")


def leave_one_out_baseline(rewards: Tensor) -> Tensor:
    """For each sample the mean of the other samples' rewards for the same example (Kool et al. 2019).

    Args:
        rewards: shape `(batch, samples)`.

    Returns:
        The same shape, in units of the reward.

    Raises:
        ValueError: with fewer than two samples.
    """
    if rewards.dim() != 2 or rewards.shape[1] < 2:
        raise ValueError(
            f"`rewards` must have the shape (batch, samples) with at least 2 samples, got {tuple(rewards.shape)}. With "
            "one sample take another baseline."
        )
    return (rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1)


def regularised_rewards(rewards: Tensor, log_probs: Tensor, temperature: float) -> Tensor:
    """`r(y, y*) - tau log p(y | x)`: its mean over samples estimates the negative of Eq. 3.

    Args:
        rewards: rewards of samples of the model, any shape.
        log_probs: log-probabilities of the same samples under the model, in nats, summed over the tokens, the end token
            included.
        temperature: tau, the weight of the entropy, in units of the reward.

    Returns:
        The same shape, in units of the reward, without gradients.

    Raises:
        ValueError: if the shapes differ, the temperature is negative or a reward or log-probability is not finite.
    """
    if rewards.shape != log_probs.shape:
        raise ValueError(
            f"`rewards` and `log_probs` must have one shape, got {tuple(rewards.shape)} and {tuple(log_probs.shape)}."
        )
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"`temperature` must be a number of at least 0, got {temperature}. 0 leaves the entropy out.")
    for name, values in (("rewards", rewards), ("log_probs", log_probs)):
        if not values.isfinite().all():
            raise ValueError(f"`{name}` must be finite, got {values[~values.isfinite()][0].item()}.")
    return (rewards - temperature * log_probs).detach()


def policy_gradient_weights(
    rewards: Tensor, log_probs: Tensor, temperature: float = 0.0, baseline: Tensor | float | None = None
) -> Tensor:
    """What the negative log-likelihood of each sample is multiplied by, so that its mean has Eq. 10's gradient.

    The mean over examples and samples of `weights * -log p(y | x)`, the weights held constant, is an estimator of the
    gradient of Eq. 3, unbiased for every baseline that does not depend on the sample it is taken from.

    Args:
        rewards: shape `(batch, samples)`.
        log_probs: log-probabilities of the samples under the model they were drawn from, in nats, the same shape.
        temperature: tau, the weight of the entropy, in units of the reward.
        baseline: taken from `regularised_rewards`; a shape that broadcasts. `None` for the mean of the example's other
            samples.

    Returns:
        Shape `(batch, samples)`, in units of the reward, without gradients.

    Raises:
        ValueError: as `regularised_rewards` and `leave_one_out_baseline`.
    """
    regularised = regularised_rewards(rewards, log_probs, temperature)
    if baseline is None:
        baseline = leave_one_out_baseline(regularised)
    return regularised - torch.as_tensor(baseline, dtype=regularised.dtype, device=regularised.device)


# ---- a reward for every token ----


def discriminator_rewards(logits: Tensor, form: str = "probability") -> Tensor:
    """What a discriminator pays for responses.

    Args:
        logits: logits of responses, shape `(responses,)`.
        form: "probability": `D(q, y)` in (0, 1), as in Li et al. 2017; close to 0 for all where the discriminator wins.
            "logit": nats, which does not saturate. "rank": the share of the other responses with a smaller logit plus
            half of those with the same, 0 to 1, whatever the scale.

    Returns:
        The same shape, without gradient.

    Raises:
        ValueError: for another form.
    """
    if form not in REWARDS:
        raise ValueError(f"`form` must be one of {', '.join(REWARDS)}, got {form!r}.")
    logits = logits.detach()
    if form == "probability":
        return logits.sigmoid()
    if form == "logit":
        return logits
    flat = logits.flatten()
    others = max(1, flat.numel() - 1)
    below = (flat[None] < flat[:, None]).sum(dim=1) + ((flat[None] == flat[:, None]).sum(dim=1) - 1) / 2
    ranks = below / others if flat.numel() > 1 else torch.full_like(flat, 0.5)
    return ranks.to(logits.dtype).view_as(logits)


def shuffled_rewards(rewards: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Rewards that went to another response: the control, which must not train.

    The rows are moved along a random circle through all of them, so that none keeps its own.

    Args:
        rewards: shape `(responses, ...)`, at least two rows.
        generator: generator of random numbers, on the CPU; by default torch's own.

    Raises:
        ValueError: for fewer than two rows.
    """
    if len(rewards) < 2:
        raise ValueError(f"Rewards of {len(rewards)} response cannot be shuffled. Take a batch of at least 2.")
    circle = torch.randperm(len(rewards), generator=generator).to(rewards.device)
    shuffled = torch.empty_like(rewards)
    shuffled[circle] = rewards[circle.roll(1)]
    return shuffled


def rollout_values(rewards: Tensor, batch: int, steps: int, samples: int) -> Tensor:
    """Monte Carlo estimates of the values of prefixes: the mean reward of their continuations (Li et al. 2017, REGS).

    Args:
        rewards: of `samples` continuations of each of `steps` prefixes of each of `batch` responses, shape
            `(batch * steps * samples,)`: the continuations of one prefix stand together, then those of the same
            response's next prefix. Any other order mixes responses without an error.
        batch, steps, samples: sizes of the three axes.

    Returns:
        Shape `(batch, steps)`, in units of the reward.

    Raises:
        ValueError: for another number of rewards.
    """
    if rewards.shape != (batch * steps * samples,):
        raise ValueError(
            f"{batch} responses with {steps} prefixes and {samples} continuations have {batch * steps * samples} "
            f"rewards, shape ({batch * steps * samples},), got {tuple(rewards.shape)}."
        )
    return rewards.view(batch, steps, samples).mean(dim=2)


def step_values(prefix_values: Tensor | None, rewards: Tensor, mask: Tensor) -> Tensor:
    """`Q_t`: for each token the value of the response up to and with it; for the last one the reward itself.

    Args:
        prefix_values: estimates of `E[R(y) | y_<=t]` for token `t`, shape `(batch, time)` or `(batch, time - 1)`, for
            the last place has nothing to estimate: means of rollouts, or a discriminator's view of the prefix. What
            stands at a response's last token, and behind it, is not read. `None` gives every token the whole reward.
        rewards: rewards of whole responses, shape `(batch,)`.
        mask: 1 at tokens, the end token included, 0 behind; shape `(batch, time)`.

    Returns:
        Shape `(batch, time)`, in units of the reward, without gradient; 0 where there is no token.

    Raises:
        ValueError: for shapes that do not fit, a mask with a gap, and values that are read and not finite.
    """
    mask = mask.bool()
    if mask.dim() != 2 or rewards.shape != mask.shape[:1]:
        raise ValueError(
            f"`mask` must have the shape (batch, time) and `rewards` (batch,), got {tuple(mask.shape)} and "
            f"{tuple(rewards.shape)}."
        )
    if (mask[:, 1:] & ~mask[:, :-1]).any():
        raise ValueError("`mask` must be 1 at tokens and 0 behind them, got a token behind a place without one.")
    rewards = rewards.detach()
    values = rewards[:, None].expand(mask.shape).clone()
    if prefix_values is not None:
        batch, time = mask.shape
        if prefix_values.shape not in ((batch, time), (batch, time - 1)):
            raise ValueError(
                f"`prefix_values` must have the shape {(batch, time)} or {(batch, time - 1)}, got "
                f"{tuple(prefix_values.shape)}."
            )
        before_last = mask[:, 1:]  # a token follows
        values[:, :-1] = torch.where(before_last, prefix_values.detach()[:, : time - 1].to(values), values[:, :-1])
    values = values.masked_fill(~mask, 0.0)
    if not values.isfinite().all():
        raise ValueError(f"Values of prefixes and rewards must be finite, got {values[~values.isfinite()][0].item()}.")
    return values


def previous_values(values: Tensor, start_values: Tensor | float) -> Tensor:
    """The baseline `b_t = Q_(t-1)`: what the response was worth before token `t`.

    It is known before the token is drawn, so that the expected gradient is the same, and of the baselines here it
    leaves the least variance. `Q_t - b_t` is what this token changed; only as a baseline may values be shifted.

    Args:
        values: `Q_t`, shape `(batch, time)`.
        start_values: of an empty prefix, `E R(y)`: a number, or one for each response, shape `(batch,)`.

    Returns:
        Shape `(batch, time)`, in units of the reward.
    """
    start = torch.as_tensor(start_values, dtype=values.dtype, device=values.device).expand(len(values))
    return torch.cat([start[:, None], values[:, :-1]], dim=1).detach()


def batch_baseline(rewards: Tensor) -> Tensor:
    """For each response the mean reward of the batch's other responses; a constant for it, so that nothing is biased.

    Args:
        rewards: shape `(batch,)`, at least two.

    Returns:
        The same shape.

    Raises:
        ValueError: for fewer than two.
    """
    return leave_one_out_baseline(rewards[None])[0]


class StepAdvantages(NamedTuple):
    """What the negative log-likelihood of each token is multiplied by.

    Attributes:
        weights: constants, shape `(batch, time)`; 0 where there is no token.
        std: of the advantages before they were scaled, over all tokens, in units of the reward, shape `()`. Near 0 the
            policy learns nothing.
    """

    weights: Tensor
    std: Tensor


def step_advantages(
    values: Tensor, baseline: Tensor | float, mask: Tensor, *, scale: str = "none", by_length: bool = False
) -> StepAdvantages:
    """`Q_t - b_t`, so that `sum_t weights_t * -log p(y_t)`, averaged over responses, has the policy's gradient.

    Any positive reward without a baseline makes the model surer of whatever it draws, so there is always one; with a
    constant reward and its mean as the baseline the gradient is 0.

    Args:
        values: `Q_t`, shape `(batch, time)`.
        baseline: `b_t`, known before token `t`; a shape that broadcasts to `(batch, time)`, or `(batch,)`.
        mask: 1 at tokens, shape `(batch, time)`.
        scale: "none", or "batch_std": divided by the standard deviation over the batch's tokens, which keeps the step
            as large where rewards hardly differ, and depends on the samples.
        by_length: divide each response's by its number of tokens. The sum is the gradient; long samples weigh more
            there.

    Raises:
        ValueError: for another scale and shapes that do not fit.
    """
    if scale not in ("none", "batch_std"):
        raise ValueError(f'`scale` must be "none" or "batch_std", got "{scale}".')
    if values.shape != mask.shape:
        raise ValueError(f"`values` {tuple(values.shape)} must have the shape of `mask` {tuple(mask.shape)}.")
    mask = mask.bool()
    baseline = torch.as_tensor(baseline, dtype=values.dtype, device=values.device)
    baseline = baseline[:, None] if baseline.dim() == 1 else baseline
    weights = (values - baseline).detach().masked_fill(~mask, 0.0)
    inside = weights[mask]
    std = inside.std(correction=0) if inside.numel() else weights.new_zeros(())
    if scale == "batch_std":
        weights = weights / std.clamp(min=torch.finfo(weights.dtype).eps)
    if by_length:
        weights = weights / mask.sum(dim=1, keepdim=True).clamp(min=1)
    return StepAdvantages(weights, std)


def step_policy_loss(log_probs: Tensor, weights: Tensor) -> Tensor:
    """`-(1/B) sum_b sum_t w_bt log p(y_bt | q_b, y_b<t)`, a surrogate: its gradient is the policy's, its value nothing.

    Args:
        log_probs: log-probabilities of the sampled tokens, nats, with a gradient, shape `(batch, time)`.
        weights: from `step_advantages`, constants; places of weight 0 are not read.

    Returns:
        Shape `()`.
    """
    weights = weights.detach()
    return -(weights * torch.where(weights == 0, 0.0, log_probs)).sum() / len(log_probs)
