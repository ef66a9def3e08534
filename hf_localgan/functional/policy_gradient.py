"""Estimating the gradient of the regularised expected reward from samples of the model (Norouzi et al. 2016, Eq. 10).

    grad L_RL = E_{y ~ p} [ -(r(y, y*) - tau log p(y | x)) grad log p(y | x) ]

The term of the entropy is the `-tau log p`: the gradient of `-tau H(p)` is `tau E[(1 + log p) grad log p]`, and the
expectation of `grad log p` alone is 0. For the same reason a baseline that does not depend on the sample may be taken
from the reward without changing the expectation.
"""

import torch
from torch import Tensor


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
        rewards: of samples of the model, any shape.
        log_probs: of the same samples under the model, in nats, summed over the tokens, the end token included.
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
        log_probs: of the samples under the model they were drawn from, in nats, the same shape.
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
