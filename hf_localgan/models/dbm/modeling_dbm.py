"""A deep Boltzmann machine over the vectors of a query and a response (LocalGAN, Eq. 8; Salakhutdinov & Hinton 2009).

Real-valued visible units `v = [q; r]` with biases `b` and standard deviations `s` (1 in the paper), binary units `hq`
(here `hidden`) with biases `c1`, binary units `h` (`top`) with biases `c2`:

    E(q, r, hq, h) = sum_i (v_i - b_i)^2 / (2 s_i^2) - hq' W (v / s^2) - h' U hq - c1' hq - c2' h

with `W = [Wqq, Wqr]` (`visible_to_hidden`) and `U = Wqh` (`hidden_to_top`). Energies and free energies are in nats.
Vectors are standardised; shapes are `(batch, size)` of each layer. With real-valued units conditionally independent,

    hq_j = 1 | v, h  with probability sigmoid(W (v / s^2) + U' h + c1)
    h_k = 1 | hq     with probability sigmoid(U hq + c2)
    v | hq           normal with mean b + W' hq and standard deviations s

The free energy `F(q, r) = -ln sum over hq, h of exp(-E)` is replaced by its bound `F~ = E_Q[E] - H(Q) >= F` for the
best factorised `Q` that coordinate ascent finds; `exact_free_energy` is there for small models.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput, can_return_tuple

from .configuration_dbm import DbmConfig
from .features_dbm import FeatureScaler, WordVectorTable

MOST_ENUMERATED = 20  # binary units: a million states
_ENUMERATED_AT_ONCE = 2**20  # elements


class MeanField(NamedTuple):
    """The fixed point that the mean field has reached, without gradient.

    Attributes:
        hidden: means of `hq`, shape `(batch, hidden_size)`.
        top: means of `h`, shape `(batch, top_size)`.
        steps: taken for each example, shape `(batch,)`.
        residual: how far the farthest mean of each example moved in its last step, shape `(batch,)`.
    """

    hidden: Tensor
    top: Tensor
    steps: Tensor
    residual: Tensor


class DbmState(NamedTuple):
    """One state of every unit for each chain: `(chains, query_size)`, `(chains, response_size)`, and so on."""

    query: Tensor
    response: Tensor
    hidden: Tensor
    top: Tensor


@dataclass
class DbmOutput(ModelOutput):
    """What the forward of `DbmModel` returns.

    Args:
        free_energy: `F~(q, r)`, nats, shape `(batch,)`.
        hidden: means of `hq`, shape `(batch, hidden_size)`.
        top: means of `h`, shape `(batch, top_size)`.
        steps: of the mean field, shape `(batch,)`.
        residual: of the mean field, shape `(batch,)`.
    """

    free_energy: Tensor | None = None
    hidden: Tensor | None = None
    top: Tensor | None = None
    steps: Tensor | None = None
    residual: Tensor | None = None


class DbmModel(PreTrainedModel):
    """The energy of a query and a response, how it is computed, and the vectors it is computed from.

    Methods take standardised vectors, `(batch, query_size)` and `(batch, response_size)`, of any floating-point type,
    and compute in float32, or in float64 where the parameters are float64. `query_features` and `response_features`
    make such vectors from token ids, where the model holds word vectors. The result for an example does not depend on
    its neighbours in the batch.
    """

    config_class = DbmConfig
    main_input_name = "query"
    base_model_prefix = "dbm"

    def __init__(self, config: DbmConfig):
        super().__init__(config)
        visible = config.query_size + config.response_size
        self.visible_to_hidden = nn.Parameter(torch.empty(config.hidden_size, visible))
        self.hidden_bias = nn.Parameter(torch.empty(config.hidden_size))
        self.top_bias = nn.Parameter(torch.empty(config.top_size))
        if config.energy == "rbm_pair":
            self.visible_to_top = nn.Parameter(torch.empty(config.top_size, visible))
            self.top_visible_bias = nn.Parameter(torch.empty(visible))
        else:
            self.hidden_to_top = nn.Parameter(torch.empty(config.top_size, config.hidden_size))
        self.visible_bias = nn.Parameter(torch.empty(visible))
        if config.visible_std == "learned":
            self.visible_log_std = nn.Parameter(torch.empty(visible))
        self.query_scaler = FeatureScaler(config.query_size)
        self.response_scaler = FeatureScaler(config.response_size)
        self.word_vectors = None
        if config.vocab_size is not None:
            self.word_vectors = WordVectorTable(config.vocab_size, config.query_size)
        self.post_init()

    def _init_weights(self, module: nn.Module):
        if module is self:
            for name, parameter in self.named_parameters(recurse=False):
                if "_to_" in name:
                    init.normal_(parameter, mean=0.0, std=self.config.initializer_range)
                else:
                    init.zeros_(parameter)
        elif isinstance(module, FeatureScaler):
            init.zeros_(module.mean)
            init.ones_(module.std)
            init.zeros_(module.count)
        elif isinstance(module, WordVectorTable):
            init.zeros_(module.vectors)
            init.zeros_(module.regular)

    # ---- vectors ----

    def query_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Standardised vectors of queries, shape `(batch, query_size)`, from token ids, shape `(batch, time)`.

        The mean of the frozen word vectors of the regular tokens. -100 and what `attention_mask` hides do not count; an
        utterance without a regular token lies at the scaler's mean.
        """
        return self._features(self.query_scaler, input_ids, attention_mask)

    def response_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Standardised vectors of responses; see `query_features`. Labels with -100 may be given as they are."""
        return self._features(self.response_scaler, input_ids, attention_mask)

    def _features(self, scaler: FeatureScaler, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        if self.word_vectors is None:
            raise ValueError(
                "This model holds no word vectors (`vocab_size` is `None`). Give vectors of utterances, or make it "
                "with `DbmConfig(vocab_size=...)` and `model.word_vectors.load(...)`."
            )
        vectors, found = self.word_vectors(input_ids, attention_mask)
        return torch.where(found[:, None], scaler(vectors), 0.0)

    # ---- the energy ----

    def energy(self, query: Tensor, response: Tensor, hidden: Tensor, top: Tensor) -> Tensor:
        """Energy of each example's state (Eq. 8 with the quadratic term and biases), nats, shape `(batch,)`.

        Args:
            query, response: standardised vectors.
            hidden, top: states 0 or 1 of the binary units, or means in between.
        """
        weights = self._weights()
        visible = weights.visible(query, response)
        hidden, top = hidden.to(visible.dtype), top.to(visible.dtype)
        energy = weights.quadratic(visible) - (hidden * weights.hidden_input(visible)).sum(dim=1)
        return energy - (top * weights.top_input(visible, hidden)).sum(dim=1)

    def free_energy(self, query: Tensor, response: Tensor, means: MeanField | None = None) -> Tensor:
        """Variational free energy `F~(q, r)` at the mean field's fixed point, nats, shape `(batch,)`.

        Its gradient, for the vectors and for the parameters, is the partial derivative with the means held fixed, which
        at the fixed point is the whole one: nothing is unrolled. For one layer, and for a pair of RBMs, it is exact.

        Args:
            query, response: standardised vectors.
            means: what `mean_field(query, response)` returned, if it is there already.
        """
        if means is None:
            means = self.mean_field(query, response)
        weights = self._weights()
        visible = weights.visible(query, response)
        top = means.top.detach().to(visible.dtype)
        # The best `hidden` for these means of `top` is summed out in closed form, a bound at least as good as that at
        # both means; its derivative is one step fresher.
        softened = F.softplus(weights.hidden_input(visible) + weights.from_top(top)).sum(dim=1)
        if weights.second is not None:
            return weights.quadratic(visible) - softened - F.softplus(weights.top_input(visible, None)).sum(dim=1)
        entropy = (torch.special.entr(top) + torch.special.entr(1 - top)).sum(dim=1)
        return weights.quadratic(visible) - softened - top @ weights.top_bias - entropy

    @torch.no_grad()
    def mean_field(
        self, query: Tensor, response: Tensor, *, steps: int | None = None, tolerance: float | None = None
    ) -> MeanField:
        """Means of the binary units given the visible ones, by coordinate ascent from means of 1/2 in the top layer.

        A step renews `hidden` and then `top`; no step makes the bound worse. An example that has converged is left
        alone from there on, so that its neighbours do not matter.

        Args:
            query, response: standardised vectors.
            steps: at most so many; by default `config.mean_field_steps`.
            tolerance: by default `config.mean_field_tolerance`. With 0 all `steps` are taken.
        """
        steps, tolerance = self._limits(steps, tolerance)
        weights = self._weights()
        visible = weights.visible(query, response)
        base = weights.hidden_input(visible)

        def step(hidden: Tensor, top: Tensor, rows: Tensor | None):
            base_here = base if rows is None else base[rows]
            hidden = torch.sigmoid(base_here + weights.from_top(top))
            if weights.second is None:
                top = torch.sigmoid(weights.top_input(None, hidden))
            return hidden, top

        top = visible.new_full((len(visible), self.config.top_size), 0.5)
        if weights.second is not None:  # independent of `hidden`
            top = torch.sigmoid(weights.top_input(visible, None))
        return MeanField(*_iterate(step, torch.sigmoid(base + weights.from_top(top)), top, steps, tolerance))

    def unrolled_means(self, query: Tensor, response: Tensor, steps: int = 5) -> tuple[Tensor, Tensor]:
        """Means of `hidden` and `top` after so many steps of the mean field, with their gradient, step by step.

        For a body that hands the means on, such as a discriminator's; for the free energy nothing need be unrolled.
        """
        weights = self._weights()
        visible = weights.visible(query, response)
        base = weights.hidden_input(visible)
        if weights.second is not None:
            return torch.sigmoid(base), torch.sigmoid(weights.top_input(visible, None))
        top = visible.new_full((len(visible), self.config.top_size), 0.5)
        hidden = torch.sigmoid(base + weights.from_top(top))
        for _ in range(steps):
            top = torch.sigmoid(weights.top_input(None, hidden))
            hidden = torch.sigmoid(base + weights.from_top(top))
        return hidden, top

    # ---- the centre of a query's responses ----

    @torch.no_grad()
    def center(
        self, query: Tensor, method: str = "mean_field", *, steps: int | None = None, tolerance: float | None = None
    ) -> Tensor:
        """The response `rc(q)` that the model makes of the query alone, shape `(batch, response_size)`, standardised.

        Args:
            query: standardised vectors.
            method: "mean_field": the response and all means together by coordinate ascent from the response's bias and
                means of 1/2, a stationary point of `F~(q, r)` in `r`. "single_pass": `q -> hq -> r` once, as the
                paper's authors do.
            steps, tolerance: of the coordinate ascent, as in `mean_field`; the tolerance is of the means.

        Raises:
            ValueError: for another method, and with the energy as printed, which has no lowest point.
        """
        self._require_bounded("A centre")
        if method not in ("mean_field", "single_pass"):
            raise ValueError(f'`method` must be "mean_field" or "single_pass", got "{method}".')
        steps, tolerance = self._limits(steps, tolerance)
        weights = self._weights()
        neutral = weights.response_mean(None, None).expand(len(query), -1)
        if method == "single_pass":
            # The query alone: neither the response nor the top layer says anything.
            queries = weights.visible(query, neutral)
            queries = torch.cat([queries[:, : query.shape[1]], torch.zeros_like(neutral)], dim=1)
            hidden = torch.sigmoid(weights.hidden_input(queries))
            top = torch.sigmoid(weights.top_input(queries, None)) if weights.second is not None else None
            return weights.response_mean(hidden, top)

        def step(hidden: Tensor, top: Tensor, rows: Tensor | None):
            response = weights.response_mean(hidden, top)
            visible = weights.visible(query if rows is None else query[rows], response)
            if weights.second is None:
                top = torch.sigmoid(weights.top_input(None, hidden))
            else:
                top = torch.sigmoid(weights.top_input(visible, None))
            return torch.sigmoid(weights.hidden_input(visible) + weights.from_top(top)), top

        visible = weights.visible(query, neutral)
        top = visible.new_full((len(visible), self.config.top_size), 0.5)
        if weights.second is not None:
            top = torch.sigmoid(weights.top_input(visible, None))
        hidden = torch.sigmoid(weights.hidden_input(visible) + weights.from_top(top))
        hidden, top, *_ = _iterate(step, hidden, top, steps, tolerance)
        return weights.response_mean(hidden, top)

    def radius(self, query: Tensor, response: Tensor, center: Tensor | None = None) -> Tensor:
        """`F~(q, r) - F~(q, rc)`: how far a response lies from the centre, nats, shape `(batch,)`; may be negative.

        The gradient for the response flows; the centre is a constant.

        Args:
            query, response: standardised vectors.
            center: what `center(query)` returned, if it is there already.
        """
        center = self.center(query) if center is None else center.detach()
        return self.free_energy(query, response) - self.free_energy(query, center)

    # ---- samples ----

    @torch.no_grad()
    def gibbs(
        self, state: DbmState, steps: int = 1, *, clamp_query: bool = False, generator: torch.Generator | None = None
    ) -> DbmState:
        """Block Gibbs sampling: `hidden` given the rest, then visible units and `top` given `hidden`.

        Args:
            state: where the chains are; its `hidden` is not looked at.
            steps: full sweeps.
            clamp_query: leaves the query as it is, so that the chains sample responses to it.
            generator: of random numbers; by default torch's own.

        Raises:
            ValueError: with the energy as printed, which is no distribution.
        """
        self._require_bounded("Sampling")
        weights = self._weights()
        visible, top = weights.visible(state.query, state.response), state.top.to(weights.couplings.dtype)
        size, hidden = self.config.query_size, state.hidden
        for _ in range(steps):
            hidden = _draw(torch.sigmoid(weights.hidden_input(visible) + weights.from_top(top)), generator)
            if weights.second is None:
                top = _draw(torch.sigmoid(weights.top_input(None, hidden)), generator)
            else:
                top = _draw(torch.sigmoid(weights.top_input(visible, None)), generator)
            noise = torch.empty_like(visible).normal_(generator=generator)
            drawn = weights.visible_mean(hidden, top) + weights.noise_std * noise
            visible = torch.cat([visible[:, :size], drawn[:, size:]], dim=1) if clamp_query else drawn
        return DbmState(visible[:, :size], visible[:, size:], hidden, top)

    @torch.no_grad()
    def initial_state(self, chains: int, generator: torch.Generator | None = None) -> DbmState:
        """States with fair coins for the binary units and the visible units drawn given them, `chains` of them."""
        self._require_bounded("Sampling")
        weights = self._weights()
        fair = weights.couplings.new_full((chains, self.config.hidden_size + self.config.top_size), 0.5)
        hidden, top = _draw(fair, generator).split([self.config.hidden_size, self.config.top_size], dim=1)
        noise = weights.couplings.new_empty(chains, len(self.visible_bias)).normal_(generator=generator)
        visible = weights.visible_mean(hidden, top) + weights.noise_std * noise
        return DbmState(*visible.split([self.config.query_size, self.config.response_size], dim=1), hidden, top)

    # ---- exact, for small models ----

    def exact_free_energy(self, query: Tensor, response: Tensor) -> Tensor:
        """`F(q, r)` by summing over all states of `hidden`; `top` is summed in closed form. Nats, shape `(batch,)`.

        Raises:
            ValueError: above 20 hidden units, where there are more than a million states.
        """
        weights = self._weights()
        visible = weights.visible(query, response)
        if weights.second is not None:
            return self.free_energy(query, response)  # exact already
        states = self.hidden_states(visible.dtype).to(visible.device)
        base = weights.hidden_input(visible)
        parts = []
        for chunk in states.split(max(1, _ENUMERATED_AT_ONCE // max(len(visible), self.config.top_size + 1))):
            top = F.softplus(weights.top_input(None, chunk)).sum(dim=1)
            parts.append(torch.logsumexp(base @ chunk.T + top, dim=1))
        return weights.quadratic(visible) - torch.logsumexp(torch.stack(parts), dim=0)

    def hidden_states(self, dtype: torch.dtype | None = None) -> Tensor:
        """All states of the hidden layer, shape `(2 ** hidden_size, hidden_size)`; refused above 20 units."""
        if self.config.hidden_size > MOST_ENUMERATED:
            raise ValueError(
                f"Enumeration needs 2 ** hidden_size states and takes at most {MOST_ENUMERATED} hidden units, got "
                f"{self.config.hidden_size}. Use `free_energy`, the variational bound, or `log_partition`."
            )
        bits = torch.arange(self.config.hidden_size)
        states = torch.arange(2**self.config.hidden_size)[:, None] >> bits & 1
        return states.to(dtype or self.visible_to_hidden.dtype)

    @can_return_tuple
    def forward(
        self,
        query: Tensor | None = None,
        response: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs,
    ) -> DbmOutput:
        """Free energy and means of pairs, given as standardised vectors or as token ids.

        Args:
            query, response: standardised vectors.
            input_ids, attention_mask: the queries' tokens, shape `(batch, time)`.
            labels: the responses' tokens, -100 where there is none, shape `(batch, time)`.
        """
        if (query is None) == (input_ids is None) or (response is None) == (labels is None):
            raise ValueError("Give `query` or `input_ids`, and `response` or `labels`; one of each two.")
        if query is None:
            query = self.query_features(input_ids, attention_mask)
        if response is None:
            response = self.response_features(labels)
        means = self.mean_field(query, response)
        return DbmOutput(self.free_energy(query, response, means), *means)

    def _limits(self, steps: int | None, tolerance: float | None) -> tuple[int, float]:
        steps = self.config.mean_field_steps if steps is None else steps
        tolerance = self.config.mean_field_tolerance if tolerance is None else tolerance
        if steps < 1 or not tolerance >= 0:
            raise ValueError(f"`steps` must be at least 1 and `tolerance` at least 0, got {steps} and {tolerance}.")
        return steps, tolerance

    def _require_bounded(self, what: str):
        if self.config.energy == "printed":
            raise ValueError(
                f"{what} needs an energy with a lower bound, and Eq. 8 as printed has none: without the quadratic term "
                'it falls without end along the couplings. Use `energy="dbm"`.'
            )

    def _weights(self) -> "Weights":
        return Weights(self)


class Weights:
    """The parameters in the precision that is computed in, and the linear maps between the layers.

    Autocast is off for them: an energy is a difference of large numbers, which half precision cannot hold.
    """

    def __init__(self, model: DbmModel):
        dtype = torch.float64 if model.visible_to_hidden.dtype == torch.float64 else torch.float32
        self.model, self.energy = model, model.config.energy
        self.couplings = model.visible_to_hidden.to(dtype)
        self.hidden_bias, self.top_bias = model.hidden_bias.to(dtype), model.top_bias.to(dtype)
        self.bias = model.visible_bias.to(dtype)
        self.log_std = model.visible_log_std.to(dtype) if model.config.visible_std == "learned" else None
        self.second = self.second_bias = self.top = None
        if self.energy == "rbm_pair":
            self.second, self.second_bias = model.visible_to_top.to(dtype), model.top_visible_bias.to(dtype)
        else:
            self.top = model.hidden_to_top.to(dtype)
        if self.energy == "printed":
            self.bias, self.hidden_bias, self.top_bias = (
                torch.zeros_like(bias) for bias in (self.bias, self.hidden_bias, self.top_bias)
            )

    def visible(self, query: Tensor, response: Tensor) -> Tensor:
        """`[q; r]`, shape `(batch, visible)`."""
        config = self.model.config
        for name, vectors, size in (("query", query, config.query_size), ("response", response, config.response_size)):
            if vectors.dim() != 2 or vectors.shape[1] != size:
                raise ValueError(f"`{name}` must have shape (batch, {size}), got {tuple(vectors.shape)}.")
        if len(query) != len(response):
            raise ValueError(f"There must be one response for each query, got {len(response)} and {len(query)}.")
        return torch.cat([query.to(self.couplings.dtype), response.to(self.couplings.dtype)], dim=1)

    @property
    def noise_std(self) -> Tensor | float:
        """Standard deviation of the visible units given all others."""
        if self.second is not None:
            return math.sqrt(0.5)  # two quadratic terms
        return 1.0 if self.log_std is None else self.log_std.exp()

    def quadratic(self, visible: Tensor) -> Tensor:
        """`sum_i (v_i - b_i)^2 / (2 s_i^2)`, of both RBMs where there are two; shape `(batch,)`."""
        if self.energy == "printed":
            return visible.new_zeros(len(visible))
        distance = visible - self.bias
        if self.log_std is not None:
            distance = distance * (-self.log_std).exp()
        quadratic = distance.square().sum(dim=1) / 2
        if self.second is not None:
            quadratic = quadratic + (visible - self.second_bias).square().sum(dim=1) / 2
        return quadratic

    def hidden_input(self, visible: Tensor) -> Tensor:
        """What the visible units and the bias put into `hidden`, shape `(batch, hidden)`."""
        if self.log_std is not None:
            visible = visible * (-2 * self.log_std).exp()
        return _affine(visible, self.couplings, self.hidden_bias)

    def from_top(self, top: Tensor) -> Tensor | float:
        """What `top` puts into `hidden`, shape `(batch, hidden)`; nothing from a second RBM."""
        return 0.0 if self.second is not None else _affine(top, self.top.T, None)

    def top_input(self, visible: Tensor | None, hidden: Tensor | None) -> Tensor:
        """What is put into `top`: by `hidden`, or in a pair of RBMs by the visible units; shape `(batch, top)`."""
        if self.second is not None:
            return _affine(visible, self.second, self.top_bias)
        return _affine(hidden, self.top, self.top_bias)

    def visible_mean(self, hidden: Tensor, top: Tensor) -> Tensor:
        """Mean of the visible units given the binary ones, shape `(batch, visible)`."""
        mean = _affine(hidden, self.couplings.T, self.bias)
        if self.second is not None:
            mean = (mean + _affine(top, self.second.T, self.second_bias)) / 2
        return mean

    def response_mean(self, hidden: Tensor | None, top: Tensor | None) -> Tensor:
        """The responses' part of `visible_mean`; without means the bias alone."""
        size = self.model.config.query_size
        mean = self.bias[size:]
        if hidden is not None:
            mean = _affine(hidden, self.couplings[:, size:].T, mean)
        if self.second is not None:
            other = self.second_bias[size:]
            if top is not None:
                other = _affine(top, self.second[:, size:].T, other)
            mean = (mean + other) / 2
        return mean


def _affine(inputs: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    with torch.autocast(inputs.device.type, enabled=False):
        return F.linear(inputs, matrix, bias)


def _draw(probabilities: Tensor, generator: torch.Generator | None) -> Tensor:
    # Several times as fast as `torch.bernoulli`.
    uniform = torch.empty_like(probabilities).uniform_(generator=generator)
    return (uniform < probabilities).to(probabilities.dtype)


def _iterate(step, hidden: Tensor, top: Tensor, steps: int, tolerance: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Applies `step(hidden, top, rows)` to the rows that still move; returns means, steps taken and last movements."""
    taken = torch.full((len(hidden),), steps, device=hidden.device)
    if tolerance == 0:
        moved = hidden.new_zeros(len(hidden))
        for index in range(steps):
            last = hidden, top
            hidden, top = step(hidden, top, None)
            if index == steps - 1:
                moved = _movement(*last, hidden, top)
        return hidden, top, taken, moved
    all_hidden, all_top, residual = hidden.clone(), top.clone(), hidden.new_zeros(len(hidden))
    rows = torch.arange(len(hidden), device=hidden.device)
    for number in range(1, steps + 1):
        new = step(hidden, top, rows)
        moved = _movement(hidden, top, *new)
        hidden, top = new
        still = moved > tolerance
        if number == steps or not still.all():
            ended = torch.ones_like(still) if number == steps else ~still
            done = rows[ended]
            all_hidden[done], all_top[done] = hidden[ended], top[ended]
            residual[done], taken[done] = moved[ended], number
            rows, hidden, top = rows[~ended], hidden[~ended], top[~ended]
            if not len(rows):
                break
    return all_hidden, all_top, taken, residual


def _movement(hidden: Tensor, top: Tensor, new_hidden: Tensor, new_top: Tensor) -> Tensor:
    moved = (new_hidden - hidden).abs().amax(dim=1)
    return torch.maximum(moved, (new_top - top).abs().amax(dim=1)) if top.shape[1] else moved
