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
best factorised `Q` that coordinate ascent finds; `exact_free_energy` serves small models.
"""

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
from .likelihood_dbm import DbmLikelihoodMixin
from .mean_field_dbm import MeanField, iterate_means, movement
from .weights_dbm import Weights, affine, draw


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


class DbmModel(DbmLikelihoodMixin, PreTrainedModel):
    """The energy of a query and a response, with the word vectors and scalers that make their vectors.

    Methods take standardised vectors, `(batch, query_size)` and `(batch, response_size)`, of any floating-point type,
    and compute in float32, or in float64 where the parameters are float64. `query_features` and `response_features`
    make such vectors from token ids, where the model holds word vectors. The result for an example does not depend on
    its neighbours in the batch.
    """

    config: DbmConfig
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
        self.query_scaler = FeatureScaler(config.query_size, config.whiten)
        self.response_scaler = FeatureScaler(config.response_size, config.whiten)
        self.word_vectors: WordVectorTable | None = None
        if config.vocab_size is not None:
            self.word_vectors = WordVectorTable(config.vocab_size, config.query_size, config.pooling)
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
            if module.whitening is not None:
                init.eye_(module.whitening)
        elif isinstance(module, WordVectorTable):
            init.zeros_(module.vectors)
            init.zeros_(module.regular)

    # ---- vectors ----

    def query_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Standardised vectors of queries, shape `(batch, query_size)`, from token ids, shape `(batch, time)`.

        The frozen word vectors of the regular tokens, joined by `config.pooling`. -100 and what `attention_mask` hides
        do not count; an utterance without a regular token lies at the scaler's mean.
        """
        return self._features(self.query_scaler, input_ids, attention_mask)

    def response_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Standardised vectors of responses, shape `(batch, response_size)`; see `query_features`."""
        return self._features(self.response_scaler, input_ids, attention_mask)

    def soft_response_features(self, probabilities: Tensor, mask: Tensor, ids: Tensor | None = None) -> Tensor:
        """Standardised vectors of responses given as distributions over tokens, with a gradient for these.

        Args:
            probabilities: shape `(batch, time, vocab_size)`, or `(batch, time, k)` of the tokens `ids`.
            mask: weight of each place, 0 to 1, shape `(batch, time)`.
            ids: tokens of the k columns, shape `(batch, time, k)`.

        Returns:
            Shape `(batch, response_size)`.
        """
        with torch.autocast(mask.device.type, enabled=False):
            vectors, counted = self._table().soft(probabilities, mask, ids)
            return torch.where(counted[:, None], self.response_scaler(vectors), 0.0)

    def _features(self, scaler: FeatureScaler, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        vectors, counted = self._table()(input_ids, attention_mask)
        return torch.where(counted[:, None], scaler(vectors), 0.0)

    def _table(self) -> WordVectorTable:
        if self.word_vectors is None:
            raise ValueError(
                "This model holds no word vectors (`vocab_size` is `None`). Give vectors of utterances, or make it "
                "with `DbmConfig(vocab_size=...)` and `model.word_vectors.load(...)`."
            )
        return self.word_vectors

    # ---- the energy ----

    def energy(self, query: Tensor, response: Tensor, hidden: Tensor, top: Tensor) -> Tensor:
        """Energy of each example's state (Eq. 8 with the quadratic term and biases), nats, shape `(batch,)`.

        Args:
            query, response: standardised vectors.
            hidden, top: states 0 or 1 of the binary units, or means in between.
        """
        weights = self._weights()
        visible = weights.visible(query, response)
        hidden, top = weights.binary(hidden, top, len(visible))
        energy = weights.quadratic(visible) - (hidden * weights.hidden_input(visible)).sum(dim=1)
        return energy - (top * weights.top_input(visible, hidden)).sum(dim=1)

    def free_energy(self, query: Tensor, response: Tensor, means: MeanField | None = None) -> Tensor:
        """Variational free energy `F~(q, r)` at the mean field's fixed point, nats, shape `(batch,)`.

        Its gradient, for the vectors and for the parameters, is the partial derivative with the means held fixed, which
        at the fixed point is the whole one: nothing is unrolled. For one layer, and for a pair of RBMs, it is exact.

        Args:
            query, response: standardised vectors.
            means: the result of `mean_field(query, response)`, if it is there already.
        """
        weights = self._weights()
        visible = weights.visible(query, response)
        if not weights.coupled:
            free_energy = weights.quadratic(visible) - F.softplus(weights.hidden_input(visible)).sum(dim=1)
            if weights.second is None:
                return free_energy
            return free_energy - F.softplus(weights.top_input(visible, None)).sum(dim=1)
        if means is None:
            means = self.mean_field(query, response)
        top = weights.binary(means.hidden, means.top, len(visible))[1].detach()
        # The best `hidden` for these means of `top` is summed out in closed form, a bound at least as good as that at
        # both means; its derivative is one step fresher.
        softened = F.softplus(weights.hidden_input(visible) + weights.from_top(top)).sum(dim=1)
        entropy = (torch.special.entr(top) + torch.special.entr(1 - top)).sum(dim=1)
        return weights.quadratic(visible) - softened - (top * weights.top_bias).sum(dim=1) - entropy

    @torch.no_grad()
    def mean_field(
        self, query: Tensor, response: Tensor, *, steps: int | None = None, tolerance: float | None = None
    ) -> MeanField:
        """Means of the binary units given the visible ones, by coordinate ascent from means of 1/2 in the top layer.

        A step renews `hidden` and then `top`; no step makes the bound worse. An example that has converged stays as it
        is, so that its neighbours do not matter. Where the two layers do not depend on each other (`top_size=0`, a pair
        of RBMs), one step is exact and the only one.

        Args:
            query, response: standardised vectors.
            steps: largest number of steps; by default `config.mean_field_steps`.
            tolerance: by default `config.mean_field_tolerance`. With 0 all `steps` are taken, and nothing waits for the
                device.
        """
        steps, tolerance = self._limits(steps, tolerance)
        weights = self._weights()
        visible = weights.visible(query, response)
        base = weights.hidden_input(visible)
        if not weights.coupled:
            hidden, top = torch.sigmoid(base), base.new_empty(len(base), 0)
            if weights.second is not None:
                top = torch.sigmoid(weights.top_input(visible, None))
            counts = torch.ones(len(base), dtype=torch.long, device=base.device)
            return MeanField(hidden, top, counts, movement(hidden, top, hidden, top))  # residual 0, or NaN

        def step(hidden: Tensor, top: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
            hidden = torch.sigmoid(base + weights.from_top(top))
            return hidden, torch.sigmoid(weights.top_input(None, hidden))

        half = base.new_full((len(base), self.config.top_size), 0.5)
        return iterate_means(step, torch.full_like(base, 0.5), half, base, steps, tolerance)

    def unrolled_means(self, query: Tensor, response: Tensor, steps: int = 5) -> tuple[Tensor, Tensor]:
        """Means of `hidden` and `top` after a fixed number of steps of the mean field, with the gradient of all steps.

        For networks that read the means, such as a discriminator; the free energy does not need the unrolled steps.

        Args:
            query, response: standardised vectors.
            steps: of the mean field, at least 0.

        Returns:
            Shapes `(batch, hidden_size)` and `(batch, top_size)`.
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
            steps: largest number of steps of the coordinate ascent; by default ten times
                `config.mean_field_steps`, for the response and the units follow each other more slowly than the units
                of two layers.
            tolerance: of the means, as in `mean_field`.

        Raises:
            ValueError: for another method, and with the energy as printed, which has no lowest point.
        """
        self._require_bounded("A centre")
        if method not in ("mean_field", "single_pass"):
            raise ValueError(f'`method` must be "mean_field" or "single_pass", got "{method}".')
        steps, tolerance = self._limits(10 * self.config.mean_field_steps if steps is None else steps, tolerance)
        weights = self._weights()
        neutral = weights.response_mean(None, None).expand(len(query), -1)
        if method == "single_pass":
            # The query alone: response and top layer add nothing to the input.
            queries = weights.visible(query, neutral)
            queries = torch.cat([queries[:, : query.shape[1]], torch.zeros_like(neutral)], dim=1)
            hidden = torch.sigmoid(weights.hidden_input(queries))
            top = torch.sigmoid(weights.top_input(queries, None)) if weights.second is not None else None
            return weights.response_mean(hidden, top)

        visible = weights.visible(query, neutral)
        base, top = weights.hidden_input(visible), visible.new_full((len(visible), self.config.top_size), 0.5)
        if weights.second is None:
            loop = weights.response_loop()  # from `hidden` to the response's mean and back

            def step(hidden: Tensor, top: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
                if top.shape[1]:
                    top = torch.sigmoid(weights.top_input(None, hidden))
                return torch.sigmoid(inputs + affine(hidden, loop, None) + weights.from_top(top)), top

            inputs = base
        else:

            def step(hidden: Tensor, top: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
                visible = weights.visible(inputs, weights.response_mean(hidden, top))
                return torch.sigmoid(weights.hidden_input(visible)), torch.sigmoid(weights.top_input(visible, None))

            inputs, top = query, torch.sigmoid(weights.top_input(visible, None))
        hidden = torch.sigmoid(base + weights.from_top(top))
        means = iterate_means(step, hidden, top, inputs, steps, tolerance)
        return weights.response_mean(means.hidden, means.top)

    def radius(self, query: Tensor, response: Tensor, center: Tensor | None = None) -> Tensor:
        """`F~(q, r) - F~(q, rc)`: how far a response lies from the centre, nats, shape `(batch,)`; may be negative.

        The gradient for the response flows; the centre is a constant.

        Args:
            query, response: standardised vectors.
            center: the result of `center(query)`, if it is there already.
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
            state: state of the chains; its `hidden` is not read.
            steps: full sweeps, at least 1.
            clamp_query: keep the query, so that the chains sample responses to it.
            generator: source of random numbers; by default torch's own.

        Returns:
            The state after these sweeps.

        Raises:
            ValueError: for less than one sweep, and with the energy as printed, which is no distribution.
        """
        self._require_bounded("Sampling")
        if steps < 1:
            raise ValueError(f"`steps` must be at least 1, got {steps}.")
        weights = self._weights()
        visible, top = weights.visible(state.query, state.response), state.top.to(weights.couplings.dtype)
        size = self.config.query_size
        for _ in range(steps):
            hidden = draw(torch.sigmoid(weights.hidden_input(visible) + weights.from_top(top)), generator)
            top = draw(torch.sigmoid(weights.top_input(visible, hidden)), generator)
            noise = torch.empty_like(visible).normal_(generator=generator)
            drawn = weights.visible_mean(hidden, top) + weights.noise_std * noise
            visible = torch.cat([visible[:, :size], drawn[:, size:]], dim=1) if clamp_query else drawn
        return DbmState(visible[:, :size], visible[:, size:], hidden, top)

    @torch.no_grad()
    def initial_state(self, chains: int, generator: torch.Generator | None = None) -> DbmState:
        """First states of `chains` chains: fair coins for the binary units, and visible units drawn given them."""
        self._require_bounded("Sampling")
        if chains < 1:
            raise ValueError(f"`chains` must be at least 1, got {chains}.")
        weights = self._weights()
        fair = weights.couplings.new_full((chains, self.config.hidden_size + self.config.top_size), 0.5)
        hidden, top = draw(fair, generator).split([self.config.hidden_size, self.config.top_size], dim=1)
        noise = weights.couplings.new_empty(chains, len(self.visible_bias)).normal_(generator=generator)
        visible = weights.visible_mean(hidden, top) + weights.noise_std * noise
        query, response = visible.split([self.config.query_size, self.config.response_size], dim=1)
        return DbmState(query, response, hidden, top)

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

        Raises:
            ValueError: unless each side is given once.
        """
        if (query is None) == (input_ids is None) or (response is None) == (labels is None):
            raise ValueError("Give either `query` or `input_ids`, and either `response` or `labels`.")
        if query is None:
            assert input_ids is not None
            query = self.query_features(input_ids, attention_mask)
        if response is None:
            assert labels is not None
            response = self.response_features(labels)
        means = self.mean_field(query, response)
        return DbmOutput(self.free_energy(query, response, means), *means)

    def _limits(self, steps: int | None, tolerance: float | None) -> tuple[int, float]:
        steps = self.config.mean_field_steps if steps is None else steps
        tolerance = self.config.mean_field_tolerance if tolerance is None else tolerance
        if steps < 1 or not tolerance >= 0:
            raise ValueError(f"`steps` must be at least 1 and `tolerance` at least 0, got {steps} and {tolerance}.")
        return steps, tolerance

    def _weights(self) -> Weights:
        return Weights(self)
