"""How a deep Boltzmann machine learns (Salakhutdinov & Hinton 2009): the three periods, as plain functions.

Each period first computes two phases without gradient, one at the data and one at the model's own samples, and
then the difference of their mean energies. The energy is linear in a few statistics of a phase, such as the mean of
`hq v'`, so that the loss is computed from the difference of these: one matrix product for each coupling and phase, and
autograd, which sees elementwise products of the parameters' own size, returns the learning rule itself.

    bottom  the Gaussian-Bernoulli RBM of `[q; r]` and `hq`, by contrastive divergence; bottom-up input doubled
    top     the Bernoulli RBM of the means of `hq` and `h`, by contrastive divergence; top-down input doubled
    joint   the whole machine: mean field at the data, persistent Gibbs chains for the model

Doubling stands in for the layer that is not there yet. A machine without a top layer lacks none, so nothing is
doubled. Shapes are `(batch, size)` of each layer, energies are in nats, `v` is `[q; r]`, standardised.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .modeling_dbm import DbmModel
from .weights_dbm import Weights, affine, draw

_JITTER = 1e-10  # share of the mean variance, so that a covariance without full rank has a Cholesky factor


class Phase(NamedTuple):
    """States, or means given some of the others, of the units that a period trains.

    Attributes:
        visible: shape `(batch, query_size + response_size)`; `None` in the top period.
        hidden: shape `(batch, hidden_size)`.
        top: shape `(batch, top_size)`; `None` in the bottom period.
        visible_variance: variance of each visible unit around `visible` where that is a mean, shape
            `(query_size + response_size,)`; `None` stands for 0.
    """

    visible: Tensor | None
    hidden: Tensor
    top: Tensor | None = None
    visible_variance: Tensor | None = None


# ---- bottom ----


@torch.no_grad()
def bottom_phases(
    model: DbmModel, visible: Tensor, *, steps: int = 1, generator: torch.Generator | None = None
) -> tuple[Phase, Phase]:
    """Contrastive divergence for the Gaussian-Bernoulli RBM of the visible units and `hidden`.

    `hq | v` has the probabilities `sigmoid(2 W (v / s^2) + c1)`: the same input again stands for the top layer. The
    reconstruction is the mean `b + W' hq` of sampled `hq`, not doubled and without noise; its variance `s^2` is carried
    along, for `s` to learn from.

    Args:
        model: its `visible_to_hidden`, `visible_bias`, `hidden_bias` and `visible_log_std` are read.
        visible: data.
        steps: steps of the chain that starts at the data.
        generator: source of random numbers; by default torch's own.

    Returns:
        The phase at the data and the phase at the reconstruction; `hidden` holds probabilities in both.
    """
    weights = Weights(model)
    couplings, variance = _by_variance(weights)
    visible = visible.to(couplings.dtype)
    means = _hidden_of_bottom(model, weights, visible, couplings)
    positive = Phase(visible, means)
    for _ in range(steps):
        visible = _addmm(weights.bias, draw(means, generator), weights.couplings)
        means = _hidden_of_bottom(model, weights, visible, couplings)
    return positive, Phase(visible, means, visible_variance=variance)


@torch.no_grad()
def bottom_means(model: DbmModel, visible: Tensor, hidden_bias: Tensor | None = None) -> Tensor:
    """Probabilities of `hq` in the bottom RBM, the data of the top RBM, shape `(batch, hidden_size)`.

    Args:
        model: as in `bottom_phases`.
        visible: data.
        hidden_bias: replaces the model's.
    """
    weights = Weights(model)
    if hidden_bias is not None:
        weights.hidden_bias = hidden_bias.to(weights.couplings.dtype)
    couplings, _ = _by_variance(weights)
    return _hidden_of_bottom(model, weights, visible.to(couplings.dtype), couplings)


def bottom_loss(model: DbmModel, positive: Phase, negative: Phase) -> Tensor:
    """Mean energy of the RBM at the data minus that at the reconstruction, nats; its gradient is the learning rule.

    For the couplings it is `-(<hq v'>_data - <hq v'>_reconstruction) / s^2`.
    """
    return _visible_difference(Weights(model), positive, negative)


def _hidden_of_bottom(model: DbmModel, weights: Weights, visible: Tensor, couplings: Tensor) -> Tensor:
    """Probabilities of `hq`; `couplings` is `W / s^2`."""
    doubled = 2 if model.config.top_size else 1
    return _addmm(weights.hidden_bias, visible, couplings.T, alpha=doubled).sigmoid_()


# ---- top ----


@torch.no_grad()
def top_phases(
    model: DbmModel, hidden: Tensor, *, steps: int = 1, generator: torch.Generator | None = None
) -> tuple[Phase, Phase]:
    """Contrastive divergence for the Bernoulli RBM of `hidden` and `top`.

    `hq | h` has the probabilities `sigmoid(2 U' h + c1)`: the same input again stands for the visible units. `h | hq`
    is as in the whole machine.

    Args:
        model: its `hidden_to_top`, `top_bias` and `hidden_bias`, here the bias of this RBM, are read.
        hidden: probabilities of `hq` at the data (`bottom_means`).
        steps: steps of the chain that starts at the data.
        generator: source of random numbers; by default torch's own.

    Returns:
        The phase at the data and the phase at the reconstruction; both hold probabilities.
    """
    weights = Weights(model)
    hidden = hidden.to(weights.couplings.dtype)
    means = torch.sigmoid(weights.top_input(None, hidden))
    positive = Phase(None, hidden, means)
    for _ in range(steps):
        hidden = torch.sigmoid(2 * weights.from_top(draw(means, generator)) + weights.hidden_bias)
        means = torch.sigmoid(weights.top_input(None, hidden))
    return positive, Phase(None, hidden, means)


def top_loss(model: DbmModel, positive: Phase, negative: Phase) -> Tensor:
    """Mean energy of the top RBM, `-h' U hq - c1' hq - c2' h`, at the data minus that at the reconstruction, nats."""
    weights = Weights(model)
    hidden = positive.hidden.mean(dim=0) - negative.hidden.mean(dim=0)
    return _top_difference(weights, positive, negative) - torch.dot(weights.hidden_bias, hidden)


# ---- joint ----


class Chains(NamedTuple):
    """States 0 or 1 of both binary layers, `(chains, hidden_size)` and `(chains, top_size)`, of persistent chains.

    The visible units of a chain are drawn from the means that its `hidden` gives them and need not be kept.
    """

    hidden: Tensor
    top: Tensor

    def visible(self, model: DbmModel, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Queries and responses drawn given `hidden`: `(chains, query_size)` and `(chains, response_size)`."""
        weights = Weights(model)
        mean = weights.visible_mean(self.hidden, None)
        drawn = mean + weights.noise_std * torch.empty_like(mean).normal_(generator=generator)
        return drawn.split([model.config.query_size, model.config.response_size], dim=1)


@torch.no_grad()
def joint_phases(
    model: DbmModel,
    query: Tensor,
    response: Tensor,
    chains: Chains,
    *,
    mean_field_steps: int = 10,
    gibbs_steps: int = 5,
    generator: torch.Generator | None = None,
) -> tuple[Phase, Phase, Chains]:
    """Mean field at the data and, for the model, persistent Gibbs chains.

    A chain enters with its sampled `hidden`, with the means of the visible units and of `top` given it, and with the
    variance of the visible units: expectations of the states it continues with, less noisy and free.

    Args:
        model: all its parameters are read.
        query, response: data.
        chains: their states; their number need not be that of the data.
        mean_field_steps: steps of the mean field; all are taken, 1 without a top layer.
        gibbs_steps: full sweeps, at least 1.
        generator: source of random numbers; by default torch's own.

    Returns:
        The phase at the data, the phase of the chains, and their new states.
    """
    weights = Weights(model)
    data = weights.visible(query, response)
    positive = Phase(data, *_means(weights, data, mean_field_steps))
    hidden, top_means, chains = _sweep(weights, chains, gibbs_steps, generator)
    mean = weights.visible_mean(hidden, None)
    return positive, Phase(mean, hidden, top_means, _by_variance(weights)[1]), chains


def _means(weights: Weights, visible: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """The means of `model.mean_field(..., steps=steps, tolerance=0)`, with one library call for each product."""
    base = weights.hidden_input(visible)
    if not weights.coupled:
        return base.sigmoid_(), base.new_zeros(len(base), 0)
    top = base.new_full((len(base), len(weights.top_bias)), 0.5)
    with torch.autocast(base.device.type, enabled=False):
        for _ in range(steps):
            hidden = torch.addmm(base, top, weights.top).sigmoid_()
            top = torch.addmm(weights.top_bias, hidden, weights.top.T).sigmoid_()
    return hidden, top


def _sweep(
    weights: Weights, chains: Chains, steps: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor, Chains]:
    """Block Gibbs sampling; the last `hidden`, the means of `top` given it, and the chains' new states.

    The input to `hidden` from visible units that are drawn given the last `hidden` is normal: with `C = W / s` its mean
    is `W (b / s^2) + C C' hq` and its covariance `C C'`. So the input is drawn directly, without the visible units.
    """
    couplings = weights.couplings if weights.log_std is None else weights.couplings * (-weights.log_std).exp()
    covariance, root = _covariance(couplings)
    bias = weights.hidden_bias + weights.binary_layers().field
    hidden, top = (states.to(couplings.dtype) for states in (chains.hidden, chains.top))
    noise, top_means = hidden.new_empty(len(hidden), len(root)), top
    with torch.autocast(hidden.device.type, enabled=False):
        for _ in range(steps):
            total = torch.addmm(bias, hidden, covariance).addmm_(noise.normal_(generator=generator), root)
            if weights.coupled:
                total.addmm_(top, weights.top)
            hidden = draw(total.sigmoid_(), generator)
            if weights.coupled:
                top_means = torch.addmm(weights.top_bias, hidden, weights.top.T).sigmoid_()
                top = draw(top_means, generator)
    return hidden, top_means, Chains(hidden, top)


def _covariance(couplings: Tensor) -> tuple[Tensor, Tensor]:
    """`C C'`, shape `(hidden, hidden)`, and an `R` with `R' R = C C'`, shape `(rows, hidden)`, few rows on a CPU."""
    hidden, visible = couplings.shape
    if couplings.device.type != "cpu" or visible <= hidden:
        return affine(couplings, couplings, None), couplings.T
    wide = couplings.double()  # `C C'` may lack full rank
    covariance = wide @ wide.T
    jitter = _JITTER * covariance.diagonal().mean() + torch.finfo(couplings.dtype).tiny
    factor, _ = torch.linalg.cholesky_ex(covariance + jitter * torch.eye(hidden, dtype=wide.dtype))
    return covariance.to(couplings.dtype), factor.T.to(couplings.dtype).contiguous()


def joint_loss(model: DbmModel, positive: Phase, negative: Phase) -> Tensor:
    """Mean of `E(data, means)` minus the mean of `E(chain)`, nats, shape `()`; its gradient is the learning rule.

    Salakhutdinov & Hinton 2009, Sec. 2: `dL/dW = <hq v'>_data - <hq v'>_model` with the variational means at the data,
    here for the energy with visible noise; the loss falls along it.
    """
    weights = Weights(model)
    return _visible_difference(weights, positive, negative) + _top_difference(weights, positive, negative)


# ---- a pair of RBMs ----


@torch.no_grad()
def pair_phases(
    model: DbmModel, query: Tensor, response: Tensor, *, steps: int = 1, generator: torch.Generator | None = None
) -> tuple[tuple[Phase, Phase], tuple[Phase, Phase]]:
    """Contrastive divergence for the two RBMs of `energy="rbm_pair"`, each by itself.

    The first one models responses to a query (`q -> r`), the second one queries of a response (`r -> q`), so the chain
    of each renews what it models and keeps the other vector as it is in the data; the rule is that of
    `ln p1(r | q) + ln p2(q | r)`, and vanishes on average where the data follow both. Such a chain belongs to its
    example: nothing persists.

    Args:
        model: with `energy="rbm_pair"`.
        query, response: data.
        steps: steps of each chain that starts at the data.
        generator: source of random numbers; by default torch's own.

    Returns:
        Phases at the data and at the reconstruction, drawn with its noise, of the first RBM and of the second one; the
        units of both are called `hidden`.
    """
    weights, size = Weights(model), model.config.query_size
    data = weights.visible(query, response)
    assert weights.second is not None
    couplings, bias = weights.second
    first = _clamped_chain(
        data, weights.couplings, weights.hidden_bias, weights.bias, slice(size, None), steps, generator
    )
    return first, _clamped_chain(data, couplings, weights.top_bias, bias, slice(0, size), steps, generator)


def pair_loss(model: DbmModel, first: tuple[Phase, Phase], second: tuple[Phase, Phase]) -> Tensor:
    """Sum over both RBMs of the mean energy at the data minus that at the reconstruction, nats."""
    weights = Weights(model)
    assert weights.second is not None
    couplings, bias = weights.second
    total = _rbm_difference(*first, weights.couplings, weights.bias, weights.hidden_bias, None)
    return total + _rbm_difference(*second, couplings, bias, weights.top_bias, None)


def _clamped_chain(
    data: Tensor,
    couplings: Tensor,
    hidden_bias: Tensor,
    visible_bias: Tensor,
    renewed: slice,
    steps: int,
    generator: torch.Generator | None,
) -> tuple[Phase, Phase]:
    """Contrastive divergence of one RBM of a pair; its chain renews a slice of the visible units."""
    visible = data
    means = affine(visible, couplings, hidden_bias).sigmoid_()
    positive = Phase(data, means)
    for _ in range(steps):
        drawn = affine(draw(means, generator), couplings[:, renewed].T, visible_bias[renewed])
        visible = data.clone()
        visible[:, renewed] = drawn + torch.empty_like(drawn).normal_(generator=generator)
        means = affine(visible, couplings, hidden_bias).sigmoid_()
    return positive, Phase(visible, means)


# ---- differences of energies ----


def _visible_difference(weights: Weights, positive: Phase, negative: Phase) -> Tensor:
    return _rbm_difference(positive, negative, weights.couplings, weights.bias, weights.hidden_bias, weights.log_std)


def _rbm_difference(
    positive: Phase,
    negative: Phase,
    couplings: Tensor,
    visible_bias: Tensor,
    hidden_bias: Tensor,
    log_std: Tensor | None,
) -> Tensor:
    """Difference of the means of `sum_i (v_i - b_i)^2 / (2 s_i^2) - hq' W (v / s^2) - c1' hq`, nats."""
    assert positive.visible is not None and negative.visible is not None
    with torch.no_grad():
        visible = positive.visible.mean(dim=0) - negative.visible.mean(dim=0)
        square = _mean_square(positive, log_std) - _mean_square(negative, log_std)
        hidden = positive.hidden.mean(dim=0) - negative.hidden.mean(dim=0)
        correlation = _correlation(positive.hidden, positive.visible, negative.hidden, negative.visible)
    hidden_term = torch.dot(hidden_bias, hidden)
    if log_std is None:
        return (
            square / 2
            - torch.dot(visible_bias, visible)
            - torch.dot(couplings.flatten(), correlation.flatten())
            - hidden_term
        )
    # Sums over the visible units, so that `s^2` divides once; the squares of `b` cancel.
    visible_terms = square / 2 - visible_bias * visible - (couplings * correlation).sum(dim=0)
    return torch.dot(visible_terms, (-2 * log_std).exp()) - hidden_term


def _top_difference(weights: Weights, positive: Phase, negative: Phase) -> Tensor:
    """Difference of the means of `-h' U hq - c2' h`, nats."""
    assert positive.top is not None and negative.top is not None
    with torch.no_grad():
        top = positive.top.mean(dim=0) - negative.top.mean(dim=0)
        correlation = _correlation(positive.top, positive.hidden, negative.top, negative.hidden)
    return -torch.dot(weights.top.flatten(), correlation.flatten()) - torch.dot(weights.top_bias, top)


def _mean_square(phase: Phase, log_std: Tensor | None) -> Tensor:
    """Mean of `v^2` of each visible unit; their sum where all have one standard deviation."""
    assert phase.visible is not None
    if log_std is None:
        values = phase.visible.flatten()
        square, variance = torch.dot(values, values) / len(phase.visible), phase.visible_variance
        return square if variance is None else square + variance.sum()
    square = phase.visible.square().mean(dim=0)
    return square if phase.visible_variance is None else square + phase.visible_variance


def _correlation(upper: Tensor, lower: Tensor, negative_upper: Tensor, negative_lower: Tensor) -> Tensor:
    """Mean of `upper lower'` in the one phase minus that in the other, shape `(upper size, lower size)`."""
    negative = _addmm(upper.new_zeros(()), negative_upper.T, negative_lower, beta=0)
    return _addmm(negative, upper.T, lower, beta=-1 / len(negative_upper), alpha=1 / len(upper))


def _addmm(added: Tensor, first: Tensor, second: Tensor, **factors) -> Tensor:
    """`torch.addmm` without autocast; entering a context costs as much as a small product."""
    if torch.is_autocast_enabled(first.device.type):
        with torch.autocast(first.device.type, enabled=False):
            return torch.addmm(added, first, second, **factors)
    return torch.addmm(added, first, second, **factors)


def _by_variance(weights: Weights) -> tuple[Tensor, Tensor]:
    """`W / s^2` and `s^2`."""
    if weights.log_std is None:
        return weights.couplings, torch.ones_like(weights.bias)
    variance = (2 * weights.log_std).exp()
    return weights.couplings / variance, variance
