"""The linear maps between the layers of a deep Boltzmann machine, in the precision that is computed in."""

import math
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_dbm import DbmConfig


class BinaryLayers(NamedTuple):
    """The distribution of the binary units when the visible units have been integrated out.

    With `C = W / s` and the visible units `u = (v - b) / s` of unit variance, at inverse temperature `beta` of the
    couplings (Salakhutdinov & Murray 2008 for binary visible units; the Gaussian integral replaces their sum),

        ln p*(hq) = constant + hq' (c1 + beta W (b / s^2)) + beta^2 |C' hq|^2 / 2 + sum softplus(c2 + beta U hq)

    A pair of RBMs is one such machine without `top`: both layers are its `hidden`, with `s^2 = 1 / 2`.

    Attributes:
        couplings: `C`, shape `(hidden, visible)`.
        field: `W (b / s^2)`, the input to `hidden` from the visible units' bias, shape `(hidden,)`.
        hidden_bias: `c1`, shape `(hidden,)`.
        top: `U`, shape `(top, hidden)`.
        top_bias: `c2`, shape `(top,)`.
        constant: `D / 2 ln 2 pi + sum ln s`, for a pair less the least value of its two quadratic terms together; nats.
    """

    couplings: Tensor
    field: Tensor
    hidden_bias: Tensor
    top: Tensor
    top_bias: Tensor
    constant: Tensor


class SecondRbm(NamedTuple):
    """The second machine of a pair of RBMs, whose binary units are `top`.

    Attributes:
        couplings: shape `(top, visible)`.
        bias: of the visible units, shape `(visible,)`.
    """

    couplings: Tensor
    bias: Tensor


class DbmParameters(Protocol):
    """The parameters of a `DbmModel`; which of the last four it has is up to its configuration."""

    config: DbmConfig
    visible_to_hidden: nn.Parameter
    hidden_bias: nn.Parameter
    top_bias: nn.Parameter
    visible_bias: nn.Parameter
    hidden_to_top: nn.Parameter
    visible_to_top: nn.Parameter
    top_visible_bias: nn.Parameter
    visible_log_std: nn.Parameter


class Weights:
    """The parameters of a `DbmModel` in float32, or in float64 where they are float64, and the maps they define.

    Autocast is off for them: an energy is a difference of large numbers, which half precision cannot hold.

    Args:
        model: a `DbmModel`. Gradients flow to its parameters.

    Attributes:
        couplings: `W`, shape `(hidden, visible)`.
        bias, hidden_bias, top_bias: of each layer.
        log_std: `ln s`, shape `(visible,)`; `None` where `s` is 1.
        top: `U`, shape `(top, hidden)`; without rows in a pair of RBMs.
        second: the other machine of a pair of RBMs.
    """

    def __init__(self, model: DbmParameters):
        dtype = torch.float64 if model.visible_to_hidden.dtype == torch.float64 else torch.float32
        config = model.config
        self.sizes, self.energy = (config.query_size, config.response_size), config.energy
        self.couplings = model.visible_to_hidden.to(dtype)
        self.hidden_bias, self.top_bias = model.hidden_bias.to(dtype), model.top_bias.to(dtype)
        self.bias = model.visible_bias.to(dtype)
        self.log_std = model.visible_log_std.to(dtype) if config.visible_std == "learned" else None
        self.second: SecondRbm | None = None
        if self.energy == "rbm_pair":
            self.second = SecondRbm(model.visible_to_top.to(dtype), model.top_visible_bias.to(dtype))
            self.top = self.couplings.new_empty(0, len(self.couplings))
        else:
            self.top = model.hidden_to_top.to(dtype)
        if self.energy == "printed":
            self.bias, self.hidden_bias, self.top_bias = (
                torch.zeros_like(bias) for bias in (self.bias, self.hidden_bias, self.top_bias)
            )

    @property
    def coupled(self) -> bool:
        """Whether the binary layers depend on each other once the visible units are known."""
        return len(self.top) > 0

    def visible(self, query: Tensor, response: Tensor) -> Tensor:
        """`[q; r]`, shape `(batch, visible)`.

        Raises:
            ValueError: for vectors of another shape, and for another number of responses than of queries.
        """
        for name, vectors, size in zip(("query", "response"), (query, response), self.sizes, strict=True):
            if vectors.dim() != 2 or vectors.shape[1] != size:
                raise ValueError(f"`{name}` must have shape (batch, {size}), got {tuple(vectors.shape)}.")
        if len(query) != len(response):
            raise ValueError(f"There must be one response for each query, got {len(response)} and {len(query)}.")
        return torch.cat([query.to(self.couplings.dtype), response.to(self.couplings.dtype)], dim=1)

    def binary(self, hidden: Tensor, top: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        """States or means of both binary layers, in the precision that is computed in.

        Raises:
            ValueError: unless they have the shapes `(batch, hidden_size)` and `(batch, top_size)`.
        """
        for name, units, bias in (("hidden", hidden, self.hidden_bias), ("top", top, self.top_bias)):
            if units.shape != (batch, len(bias)):
                raise ValueError(f"`{name}` must have shape {(batch, len(bias))}, got {tuple(units.shape)}.")
        return hidden.to(self.couplings.dtype), top.to(self.couplings.dtype)

    @property
    def noise_std(self) -> Tensor | float:
        """Standard deviation of the visible units given all others."""
        if self.second is not None:
            return math.sqrt(0.5)  # two quadratic terms
        return 1.0 if self.log_std is None else self.log_std.exp()

    def quadratic(self, visible: Tensor) -> Tensor:
        """`sum_i (v_i - b_i)^2 / (2 s_i^2)`, of both RBMs where there are two; nats, shape `(batch,)`."""
        if self.energy == "printed":
            return visible.new_zeros(len(visible))
        distance = visible - self.bias
        if self.log_std is not None:
            distance = distance * (-self.log_std).exp()
        quadratic = distance.square().sum(dim=1) / 2
        if self.second is not None:
            quadratic = quadratic + (visible - self.second.bias).square().sum(dim=1) / 2
        return quadratic

    def hidden_input(self, visible: Tensor) -> Tensor:
        """Input to `hidden` from the visible units and the bias, shape `(batch, hidden)`."""
        if self.log_std is not None:
            visible = visible * (-2 * self.log_std).exp()
        return affine(visible, self.couplings, self.hidden_bias)

    def from_top(self, top: Tensor) -> Tensor | float:
        """Input to `hidden` from `top`, shape `(batch, hidden)`; 0 where the layers are not coupled."""
        return affine(top, self.top.T, None) if self.coupled else 0.0

    def top_input(self, visible: Tensor | None, hidden: Tensor | None) -> Tensor:
        """Input to `top` from `hidden`, or in a pair of RBMs from the visible units; shape `(batch, top)`."""
        if self.second is not None:
            assert visible is not None
            return affine(visible, self.second.couplings, self.top_bias)
        assert hidden is not None
        return affine(hidden, self.top, self.top_bias)

    def visible_mean(self, hidden: Tensor, top: Tensor | None) -> Tensor:
        """Mean of the visible units given the binary ones, shape `(batch, visible)`; `top` is for a pair of RBMs."""
        mean = affine(hidden, self.couplings.T, self.bias)
        if self.second is not None:
            assert top is not None
            mean = (mean + affine(top, self.second.couplings.T, self.second.bias)) / 2
        return mean

    def response_mean(self, hidden: Tensor | None, top: Tensor | None) -> Tensor:
        """The responses' part of `visible_mean`; without means the bias alone, shape `(response,)`."""
        size = self.sizes[0]
        mean = self.bias[size:]
        if hidden is not None:
            mean = affine(hidden, self.couplings[:, size:].T, mean)
        if self.second is not None:
            second_mean = self.second.bias[size:]
            if top is not None:
                second_mean = affine(top, self.second.couplings[:, size:].T, second_mean)
            mean = (mean + second_mean) / 2
        return mean

    def response_loop(self) -> Tensor:
        """`Wqr (Wqr / s^2)'`: couplings of `hidden` with itself through a response's mean, shape `(hidden, hidden)`.

        `hidden_input` of a response's mean is that of the bias plus this times `hidden`. Not for a pair of RBMs.
        """
        couplings = self.couplings[:, self.sizes[0] :]
        if self.log_std is None:
            return affine(couplings, couplings, None)
        return affine(couplings * (-2 * self.log_std[self.sizes[0] :]).exp(), couplings, None)

    def binary_layers(self) -> BinaryLayers:
        """The visible units integrated out. Not for the energy as printed, whose integral is infinite."""
        couplings, hidden_bias, center = self.couplings, self.hidden_bias, self.bias
        top, top_bias = self.top, self.top_bias
        constant = len(center) / 2 * math.log(2 * math.pi) + center.new_zeros(())
        if self.second is not None:
            couplings, hidden_bias = torch.cat([couplings, self.second.couplings]), torch.cat([hidden_bias, top_bias])
            top, top_bias = couplings.new_zeros(0, len(couplings)), couplings.new_zeros(0)
            # |v - b|^2 / 2 + |v - b'|^2 / 2 = |v - (b + b') / 2|^2 + |b - b'|^2 / 4, and v x = (v / s^2) (x s^2).
            center = (self.bias + self.second.bias) / 2
            field = affine(center[None], couplings, None)[0]
            constant = constant - len(center) / 2 * math.log(2) - (self.bias - self.second.bias).square().sum() / 4
            couplings = couplings * math.sqrt(0.5)
        elif self.log_std is not None:
            constant = constant + self.log_std.sum()
            couplings = couplings * (-self.log_std).exp()
            field = affine((center * (-self.log_std).exp())[None], couplings, None)[0]
        else:
            field = affine(center[None], couplings, None)[0]
        return BinaryLayers(couplings, field, hidden_bias, top, top_bias, constant)


def affine(inputs: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    """`inputs matrix' + bias`, autocast or not: `(batch, inputs)` and `(outputs, inputs)` to `(batch, outputs)`."""
    if inputs.is_meta or not torch.is_autocast_enabled(inputs.device.type):  # asking costs less than the context
        return F.linear(inputs, matrix, bias)
    with torch.autocast(inputs.device.type, enabled=False):
        return F.linear(inputs, matrix, bias)


def draw(probabilities: Tensor, generator: torch.Generator | None) -> Tensor:
    """0 or 1, with these probabilities of a 1, in their shape and type; NaN stays NaN.

    Several times as fast as `torch.bernoulli`.
    """
    uniform = torch.empty_like(probabilities).uniform_(generator=generator)
    return (probabilities - uniform).ceil_().abs_()  # a negative difference becomes -0
