"""The two objectives of RAML on a space of outputs small enough to list (Norouzi et al. 2016, Sec. 2 and 3).

Every tensor has the outputs along its last dimension, and any dimensions (examples) before it. Distributions are given
by their log-probabilities. Values are in nats, or in units of the reward where `temperature` multiplies them.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

_GRID = 257  # points at which a change of sign is looked for
_BISECTIONS = 60  # halvings: more than a float64 can resolve


def exponentiated_payoff(rewards: Tensor, temperature: float) -> Tensor:
    """Log-probabilities of `q(y | y*; tau) = exp(r(y, y*) / tau) / Z` (Eq. 4).

    Args:
        rewards: reward of every output, shape `(..., outputs)`. `-inf` excludes an output.
        temperature: tau, in units of the reward.

    Returns:
        Nats, the shape of `rewards`.

    Raises:
        ValueError: if the temperature is not positive: in the limit of 0 all mass is on the best output.
    """
    return (rewards / _positive(temperature)).log_softmax(dim=-1)


def log_partition(rewards: Tensor, temperature: float) -> Tensor:
    """`log Z`, the normaliser of Eq. 4, in nats, shape `(...)`.

    Raises:
        ValueError: if the temperature is not positive.
    """
    return (rewards / _positive(temperature)).logsumexp(dim=-1)


def entropy(log_p: Tensor) -> Tensor:
    """`H(p) = -sum_y p(y) log p(y)` in nats, shape `(...)`."""
    return -_expectation(log_p, log_p)


def kl_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """`KL(p || q) = sum_y p(y) log(p(y) / q(y))` in nats, shape `(...)`.

    Infinite where `q` excludes an output that `p` does not.
    """
    return _expectation(log_p, log_p) - _expectation(log_p, log_q)


def raml_loss(log_q: Tensor, log_p: Tensor) -> Tensor:
    """`-sum_y q(y | y*) log p(y | x)`, the cross-entropy that RAML minimises (Eq. 7), of each example.

    It is `KL(q || p) + H(q)` (Eq. 8), so that it is least where the model `p` equals the payoff distribution `q`.

    Args:
        log_q: log-probabilities under the payoff distribution, shape `(..., outputs)`.
        log_p: log-probabilities under the model, the same shape.

    Returns:
        Nats, shape `(...)`.
    """
    return -_expectation(log_q, log_p)


def expected_reward_loss(rewards: Tensor, log_p: Tensor, temperature: float = 0.0) -> Tensor:
    """`-tau H(p) - sum_y p(y | x) r(y, y*)`, the regularised expected reward as a loss (Eq. 3), of each example.

    It is `tau KL(p || q) - tau log Z` (Eq. 5), so that it, too, is least where `p` equals `q`.

    Args:
        rewards: shape `(..., outputs)`.
        log_p: log-probabilities under the model, the same shape.
        temperature: tau, the weight of the entropy, in units of the reward; 0 for the reward alone.

    Returns:
        Units of the reward, shape `(...)`.

    Raises:
        ValueError: if the temperature is negative.
    """
    if not temperature >= 0:
        raise ValueError(f"`temperature` must be at least 0, got {temperature}.")
    return -temperature * entropy(log_p) - _expectation(log_p, rewards)


class DirectionGap(NamedTuple):
    """By what the two directions of the KL divergence differ (Proposition 2), each term of one example.

    Attributes:
        difference: `KL(p || q) - KL(q || p)`, which is `(variance_a - variance_b) / (4 tau^2)`, in nats.
        position_a: where between the scores `s` (0) and the rewards `r` (1) the first variance is taken, up to 1/2.
        position_b: where the second one is taken, from 1/2.
        variance_a: of `s(y) - r(y)` under `exp(a(y) / tau)`, normalised, with `a = s + position_a (r - s)`.
        variance_b: likewise at `position_b`.
        bound: `spread^2 / (16 tau^2)`, above which the difference cannot be, in nats. `spread` is the largest minus
            the smallest `s(y) - r(y)`.
    """

    difference: Tensor
    position_a: Tensor
    position_b: Tensor
    variance_a: Tensor
    variance_b: Tensor
    bound: Tensor


def direction_gap(scores: Tensor, rewards: Tensor, temperature: float) -> DirectionGap:
    """The terms of Proposition 2, found numerically.

    Let `p` be proportional to `exp(s / tau)` and `q` to `exp(r / tau)`, and `f(t)` the log-partition `log sum_y
    exp((s + t (r - s)) / tau)`, whose second derivative is the variance of `s - r` at `t`, divided by `tau^2`. Both
    expansions of `f(1/2)`, from 0 and from 1, end with such a second derivative at a place in between (Taylor's theorem
    with Lagrange's remainder); their difference is the proposition. The places are found by bisection.

    The proposition's second statement bounds the difference by a multiple of `|s - r|^2 / tau^2`. The tightest bound
    of that kind comes from `variance <= spread^2 / 4` (Popoviciu) and, for any constant that is added to the scores,
    `spread^2 <= 2 |s - r|^2`: `spread^2 / (16 tau^2) <= |s - r|^2 / (8 tau^2)`.

    The two objectives are then related by

        L_RL = tau L_RAML + (variance_a - variance_b) / (4 tau) - tau (H(q) + log Z),

    in which the last term, constant in the model, is left out where the identity is displayed in Sec. 3.

    Args:
        scores: `s(y)` of the model, such as `tau log p(y)`; any constant may be added. Shape `(..., outputs)`.
        rewards: `r(y)`, the same shape.
        temperature: tau.

    Returns:
        Float64 tensors of shape `(...)`.

    Raises:
        ValueError: if the temperature is not positive, the shapes differ or a value is not finite.
    """
    tau = _positive(temperature)
    if scores.shape != rewards.shape or not (scores.isfinite().all() and rewards.isfinite().all()):
        raise ValueError(
            f"`scores` and `rewards` must be finite and of one shape, got {tuple(scores.shape)} and "
            f"{tuple(rewards.shape)}. Leave outputs of probability 0 out."
        )
    scores, rewards = scores.double(), rewards.double()
    towards = rewards - scores  # (..., outputs)

    def log_q(position: Tensor) -> Tensor:
        return exponentiated_payoff(scores + position.unsqueeze(-1) * towards, tau)

    def variance(position: Tensor) -> Tensor:
        at = log_q(position)
        centred = towards - _expectation(at, towards).unsqueeze(-1)
        return _expectation(at, centred.square())

    start, middle, end = (torch.full(scores.shape[:-1], where, dtype=torch.float64) for where in (0.0, 0.5, 1.0))
    log_p, between, log_payoff = log_q(start), log_q(middle), log_q(end)
    # Remainders of the expansions: f(1/2) - f(0) - f'(0) / 2 = KL(p || between) = variance_a / (8 tau^2), and so for q.
    wanted_a = 8 * tau**2 * kl_divergence(log_p, between)
    wanted_b = 8 * tau**2 * kl_divergence(log_payoff, between)
    position_a = _crossing(variance, wanted_a, 0.0, 0.5)
    position_b = _crossing(variance, wanted_b, 0.5, 1.0)
    spread = towards.amax(dim=-1) - towards.amin(dim=-1)
    return DirectionGap(
        difference=kl_divergence(log_p, log_payoff) - kl_divergence(log_payoff, log_p),
        position_a=position_a, position_b=position_b,
        variance_a=variance(position_a), variance_b=variance(position_b),
        bound=spread.square() / (16 * tau**2),
    )  # fmt: skip


def _crossing(function: Callable[[Tensor], Tensor], wanted: Tensor, low: float, high: float) -> Tensor:
    """For each example a place in `[low, high]` where `function`, which is continuous, has the wanted value."""
    grid = torch.linspace(low, high, _GRID, dtype=torch.float64)
    above = function(grid.view(-1, *[1] * wanted.dim()).expand(-1, *wanted.shape)) - wanted  # (grid, ...)
    changes = (above[:-1] >= 0) != (above[1:] >= 0)
    first = changes.to(torch.int8).argmax(dim=0)  # the first change of sign
    # Without a change the function is constant to rounding (p and q are nearly equal): the nearest value is as good.
    nearest = grid[above.abs().argmin(dim=0)]
    left, right, rising = grid[first], grid[first + 1], above.gather(0, first.unsqueeze(0)).squeeze(0) < 0
    for _ in range(_BISECTIONS):
        middle = (left + right) / 2
        beyond = (function(middle) >= wanted) == rising
        left, right = torch.where(beyond, left, middle), torch.where(beyond, middle, right)
    return torch.where(changes.any(dim=0), (left + right) / 2, nearest)


def _expectation(log_p: Tensor, values: Tensor) -> Tensor:
    """`sum_y p(y) values(y)`, where outputs of probability 0 count nothing, infinite values included."""
    p = log_p.exp()
    return (p * values.masked_fill(p == 0, 0.0)).sum(dim=-1)


def _positive(temperature: float) -> float:
    if not temperature > 0:
        raise ValueError(
            f"`temperature` must be positive, got {temperature}. In the limit of 0 the distribution is the best output."
        )
    return float(temperature)
