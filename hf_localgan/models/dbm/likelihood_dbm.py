"""Partition function, likelihood and exact sums of a deep Boltzmann machine."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .annealing_dbm import (
    LogPartition,
    annealed_log_weights,
    binary_states,
    enumerated_log_partition,
    inverse_temperatures,
)
from .configuration_dbm import DbmConfig
from .mean_field_dbm import MeanField
from .weights_dbm import Weights, affine, draw

_CHUNK_ELEMENTS = 2**20


class DbmLikelihoodMixin:
    """The methods of `DbmModel` that sum over states, exactly or by samples. They take standardised vectors."""

    config: DbmConfig
    visible_to_hidden: nn.Parameter

    def free_energy(self, query: Tensor, response: Tensor, means: MeanField | None = None) -> Tensor:
        raise NotImplementedError

    def mean_field(
        self, query: Tensor, response: Tensor, *, steps: int | None = None, tolerance: float | None = None
    ) -> MeanField:
        raise NotImplementedError

    def _weights(self) -> Weights:
        raise NotImplementedError

    def log_partition(
        self,
        chains: int = 100,
        temperatures: int | Sequence[float] | Tensor = 1000,
        *,
        generator: torch.Generator | None = None,
        chains_at_once: int | None = None,
        progress: bool = False,
    ) -> LogPartition:
        """`ln Z` by annealed importance sampling (Salakhutdinov & Murray 2008), nats, with an error estimate.

        The couplings rise from 0, where the units are independent, to full strength; the quadratic term and the biases
        keep theirs. See `annealed_log_weights` for the distributions in between.

        Args:
            chains: number of independent chains; the error falls with its square root.
            temperatures: number of inverse temperatures, evenly spaced from 0 to 1, or the inverse temperatures
                themselves. More of them raise the effective sample size, the number to look at first.
            generator: source of random numbers; by default torch's own.
            chains_at_once: chains that run together, which bounds the memory to a few times
                `chains_at_once * (visible + hidden + top)` numbers; by default all.
            progress: show a bar.

        Raises:
            ValueError: with the energy as printed, whose sum is infinite; for less than two chains; and for inverse
                temperatures that do not rise from 0 to 1.
        """
        self._require_bounded("A partition function")
        if chains < 2 or (chains_at_once is not None and chains_at_once < 1):
            raise ValueError(
                f"`chains` must be at least 2, for an error estimate, and `chains_at_once` at least 1, got {chains} "
                f"and {chains_at_once}."
            )
        schedule = inverse_temperatures(temperatures)
        with torch.no_grad():
            layers = self._weights().binary_layers()
        chunk_size = chains_at_once or chains
        parts = [
            annealed_log_weights(
                layers, schedule, min(chunk_size, chains - start), generator=generator, progress=progress
            )
            for start in range(0, chains, chunk_size)
        ]
        return LogPartition.from_log_weights(torch.cat(parts))

    def exact_log_partition(self) -> Tensor:
        """`ln Z` by summing over all states of `hidden` (for a pair of RBMs of both layers), nats, with its gradient.

        Raises:
            ValueError: above 20 such units, and with the energy as printed, whose sum is infinite.
        """
        self._require_bounded("A partition function")
        return enumerated_log_partition(self._weights().binary_layers())

    def log_likelihood(self, query: Tensor, response: Tensor, log_partition: LogPartition | Tensor | float) -> Tensor:
        """`-F~(q, r) - ln Z`: the log-density of the standardised vectors, nats per example, shape `(batch,)`.

        A bound neither from above nor from below when `ln Z` is an estimate: `F~ >= F` makes it too low, by the gap of
        the mean field, and an estimate of `ln Z` that is too low, as it is on average, makes it too high. Report both
        parts. `-model.sampled_free_energy(...) - log_partition.value` has a smaller gap.

        Args:
            query, response: standardised vectors.
            log_partition: `ln Z`, as `log_partition()` or `exact_log_partition()` returned it.
        """
        self._require_bounded("A likelihood")
        value = log_partition.value if isinstance(log_partition, LogPartition) else log_partition
        return -self.free_energy(query, response) - value

    def exact_free_energy(self, query: Tensor, response: Tensor) -> Tensor:
        """`F(q, r)` by summing over all states of `hidden`; `top` is summed in closed form. Nats, shape `(batch,)`.

        Where the sum has a closed form (`top_size=0`, a pair of RBMs) it is `free_energy`, for any size.

        Raises:
            ValueError: above 20 hidden units, where there are more than a million states.
        """
        weights = self._weights()
        visible = weights.visible(query, response)
        if not weights.coupled:
            return self.free_energy(query, response)
        base, parts = weights.hidden_input(visible), []
        chunk_size = _CHUNK_ELEMENTS // max(len(visible), self.config.top_size, self.config.hidden_size)
        for states in binary_states(self.config.hidden_size, base.dtype, base.device, chunk_size):
            top = F.softplus(weights.top_input(None, states)).sum(dim=1)
            parts.append(torch.logsumexp(affine(base, states, top), dim=1))
        return weights.quadratic(visible) - torch.logsumexp(torch.stack(parts), dim=0)

    def hidden_states(self, dtype: torch.dtype | None = None) -> Tensor:
        """All states of the hidden layer, shape `(2 ** hidden_size, hidden_size)`.

        Raises:
            ValueError: above 20 hidden units.
        """
        units, couplings = self.config.hidden_size, self.visible_to_hidden
        return torch.cat(list(binary_states(units, dtype or couplings.dtype, couplings.device, 2**units)))

    @torch.no_grad()
    def sampled_free_energy(
        self,
        query: Tensor,
        response: Tensor,
        samples: int = 100,
        *,
        means: MeanField | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """An estimate of `F(q, r)` from states drawn from the mean field, nats, shape `(batch,)`.

            -ln mean over samples of sum over h of exp(-E(q, r, hq, h)) / Q(hq),   hq ~ Q

        In expectation it lies between `F`, which it tends to with the number of samples, and `F~` (Burda et al. 2016,
        for bounds of this kind). Without gradient; for one layer, and for a pair of RBMs, it is `free_energy`.

        Args:
            query, response: standardised vectors.
            samples: number of samples for each example.
            means: the result of `mean_field(query, response)`, if it is there already.
            generator: source of random numbers; by default torch's own.

        Raises:
            ValueError: for less than one sample.
        """
        if samples < 1:
            raise ValueError(f"`samples` must be at least 1, got {samples}.")
        weights = self._weights()
        visible = weights.visible(query, response)
        if not weights.coupled:
            return self.free_energy(query, response)
        if means is None:
            means = self.mean_field(query, response)
        top_input = weights.from_top(weights.binary(means.hidden, means.top, len(visible))[1])
        logits = weights.hidden_input(visible) + top_input
        probabilities = torch.sigmoid(logits)
        # ln p*(hq) - ln Q(hq), without the terms that do not depend on the sample.
        terms = visible.new_empty(samples, len(visible))
        for term in terms:
            hidden = draw(probabilities, generator)
            term.copy_(F.softplus(weights.top_input(None, hidden)).sum(dim=1) - (hidden * top_input).sum(dim=1))
        log_mean = torch.logsumexp(terms, dim=0) - math.log(samples)
        return weights.quadratic(visible) - F.softplus(logits).sum(dim=1) - log_mean

    def _require_bounded(self, subject: str):
        if self.config.energy == "printed":
            raise ValueError(
                f"{subject} needs an energy with a lower bound, and Eq. 8 as printed has none: without the quadratic "
                'term it falls without end along the couplings. Use `energy="dbm"`.'
            )
