"""The partition function of a deep Boltzmann machine: by enumeration, and by annealed importance sampling.

Both work on `BinaryLayers`, where the visible units have been integrated out.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.utils import logging

from .weights_dbm import BinaryLayers, affine, draw

MAX_ENUMERATED = 20  # binary units: a million states
_CHUNK_ELEMENTS = 2**20


class LogPartition(NamedTuple):
    """An estimate of `ln Z`, nats, from independent chains of annealed importance sampling.

    `exp(value)` is unbiased for `Z`, so that `value` is too low on average (Jensen), by about half the square of the
    error where the error is small.

    Attributes:
        value: `ln` of the mean of the chains' weights.
        standard_error: of `value`, nats: the jackknife's, which leaves each chain out in turn. It agrees with the delta
            method (`std(w) / (mean(w) sqrt(chains))`) where many chains carry the weight, and is larger where few do.
            A mode that no chain has found is missing from the value and from the error. Do not trust the error where
            the effective sample size is a few chains.
        effective_sample_size: `(sum w)^2 / sum w^2`, between 1 and the number of chains.
        log_weights: `ln w` of each chain, the base distribution's `ln Z` included, float64, shape `(chains,)`.
    """

    value: float
    standard_error: float
    effective_sample_size: float
    log_weights: Tensor

    @classmethod
    def from_log_weights(cls, log_weights: Tensor) -> "LogPartition":
        """The estimate that these log-weights give; there must be at least two."""
        log_weights = log_weights.double().cpu()
        chains, total = len(log_weights), torch.logsumexp(log_weights, dim=0)
        shares = (log_weights - total).exp()
        # ln of the sum without each chain, less `total`; constants do not change the variance.
        log_rest = torch.log1p(-shares.clamp(max=1))
        variance = (chains - 1) * log_rest.var(unbiased=False)
        error = math.inf if torch.isneginf(log_rest).any() else float(variance.sqrt())
        return cls(float(total) - math.log(chains), error, float(1 / shares.square().sum()), log_weights)


def binary_states(units: int, dtype: torch.dtype, device: torch.device, chunk_size: int) -> Iterator[Tensor]:
    """All `2 ** units` states of `units` binary units, in chunks of at most `chunk_size`: shape `(states, units)`.

    Raises:
        ValueError: above 20 units.
    """
    if units > MAX_ENUMERATED:
        raise ValueError(
            f"Enumeration goes through 2 ** units states and takes at most {MAX_ENUMERATED} binary units, got {units}."
            " Use `free_energy`, the variational bound, or `log_partition`, the estimate."
        )
    bits = torch.arange(units, device=device)
    for numbers in torch.arange(2**units, device=device).split(max(1, chunk_size)):
        yield (numbers[:, None] >> bits & 1).to(dtype)


def log_marginal(layers: BinaryLayers, hidden: Tensor) -> Tensor:
    """`ln p*(hq)`, from `exp(-E)` with all other units summed or integrated out; nats, shape `(states,)`."""
    visible_input = affine(hidden, layers.couplings.T, None)
    linear = (hidden * (layers.hidden_bias + layers.field)).sum(dim=1)
    top = F.softplus(affine(hidden, layers.top, layers.top_bias)).sum(dim=1)
    return layers.constant + linear + visible_input.square().sum(dim=1) / 2 + top


def enumerated_log_partition(layers: BinaryLayers) -> Tensor:
    """`ln Z = ln sum over hq of p*(hq)`, nats, with its gradient; a `ValueError` above 20 units of `hq`."""
    bias = layers.hidden_bias
    chunk_size = _CHUNK_ELEMENTS // max(layers.couplings.shape[1], len(layers.top_bias), len(bias))
    states = binary_states(len(bias), bias.dtype, bias.device, chunk_size)
    return torch.logsumexp(torch.cat([log_marginal(layers, chunk) for chunk in states]), dim=0)


def inverse_temperatures(temperatures: int | Sequence[float] | Tensor) -> list[float]:
    """A schedule of inverse temperatures from 0 to 1: evenly spaced if `temperatures` is a number, else as given.

    Raises:
        ValueError: unless there are at least two, from 0 to 1, each larger than the one before.
    """
    if isinstance(temperatures, int):
        if temperatures < 2:
            raise ValueError(f"`temperatures` must be at least 2, the ends 0 and 1, got {temperatures}.")
        return torch.linspace(0, 1, temperatures, dtype=torch.float64).tolist()
    schedule = torch.as_tensor(temperatures, dtype=torch.float64).flatten()
    if len(schedule) < 2 or schedule[0] != 0 or schedule[-1] != 1 or not (schedule.diff() > 0).all():
        raise ValueError(
            "`temperatures` must be a number of inverse temperatures, or these, rising from 0 to 1, got "
            f"{len(schedule)} from {schedule[:1].tolist()} to {schedule[-1:].tolist()}."
        )
    return schedule.tolist()


@torch.no_grad()
def annealed_log_weights(
    layers: BinaryLayers,
    schedule: Sequence[float],
    chains: int,
    *,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Tensor:
    """Log-weights of annealed importance sampling (Salakhutdinov & Murray 2008), the base's `ln Z` included.

    The distribution at inverse temperature `beta` has the couplings `beta C` and `beta U`, and biases and visible units
    of full strength: tempering their quadratic term would make `Z` infinite at the start. At 0 the units are
    independent, `ln Z = constant + sum softplus(c1) + sum softplus(c2)`. The chain runs on `hq`: the weight is that of
    `p*_beta(hq)` with all other units integrated out (see `BinaryLayers`), and the transition draws the visible units
    and `h` given `hq`, then `hq` given both.

    Args:
        layers: the model's, in the precision that the chains run in; the weights are summed in float64.
        schedule: inverse temperatures, rising from 0 to 1.
        chains: number of independent chains, which run side by side.
        generator: source of random numbers, on the layers' device.
        progress: show a bar.

    Returns:
        Float64, shape `(chains,)`.
    """
    visible, top_bias = layers.couplings.shape[1], layers.top_bias.double()
    # Both neighbours of `hidden` side by side, so that a step takes two products.
    matrix = torch.cat([layers.couplings, layers.top.T], dim=1)
    hidden = draw(torch.sigmoid(layers.hidden_bias).expand(chains, -1), generator)
    base = layers.constant.double() + F.softplus(layers.hidden_bias.double()).sum() + F.softplus(top_bias).sum()
    log_weights = base.repeat(chains)
    steps = zip(schedule, schedule[1:], strict=False)
    for last, beta in logging.tqdm(steps, total=len(schedule) - 1, desc="Annealing", disable=not progress):
        visible_input, top_input = affine(hidden, matrix.T, None).split([visible, len(top_bias)], dim=1)
        linear, square = (hidden * layers.field).sum(dim=1), visible_input.square().sum(dim=1)
        log_weights += (beta - last) * linear.double() + (beta**2 - last**2) / 2 * square.double()
        before, after = (torch.add(top_bias, top_input.double(), alpha=value) for value in (last, beta))
        log_weights += (F.softplus(after) - F.softplus(before)).sum(dim=1)
        top = draw(torch.sigmoid(after.to(hidden.dtype)), generator)
        noise = torch.empty_like(visible_input).normal_(generator=generator)
        above_and_below = torch.cat([torch.add(noise, visible_input, alpha=beta), top], dim=1)
        inputs = affine(above_and_below, matrix, None).mul_(beta).add_(layers.hidden_bias + beta * layers.field)
        hidden = draw(torch.sigmoid(inputs), generator)
    return log_weights
