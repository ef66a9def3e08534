"""Vectors of utterances: the mean of their word vectors or a sum whose spread is that of any length, standardised."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALLEST_EIGENVALUE = 1e-3  # of standardised dimensions, whose mean eigenvalue is 1; below, a direction is rounding


class FeatureScaler(nn.Module):
    """Standardises vectors by the statistics of scikit-learn's `StandardScaler`, with a gradient for the input.

    With `whiten` the standardised dimensions are also made uncorrelated, by the symmetric inverse root of their
    correlation matrix, which changes them least. The statistics are buffers, so that they travel with the model;
    before `load_statistics` the scaler changes nothing.

    Args:
        size: dimensions of the vectors.
        whiten: whether correlations are taken out.
    """

    mean: Tensor
    std: Tensor
    count: Tensor
    whitening: Tensor | None

    def __init__(self, size: int, whiten: bool = False):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.register_buffer("whitening", torch.eye(size) if whiten else None)

    def load_statistics(self, scaler: Any, covariance: Any = None) -> "FeatureScaler":
        """Takes over the statistics of a fitted `sklearn.preprocessing.StandardScaler`.

        A dimension that never varies has the standard deviation 1 there, and is only shifted.

        Args:
            scaler (`StandardScaler`): fitted.
            covariance (`np.ndarray` or `Tensor`): covariance of the vectors before they are standardised, divided by
                their number, shape `(size, size)`; for `whiten` alone. Directions of hardly any variance are divided by
                `sqrt(1e-3)` and no less.

        Raises:
            ValueError: if the scaler was not fitted, was fitted without mean or standard deviation, on vectors of
                another size or on numbers that are not finite; or if `whiten` lacks its covariance.
        """
        if getattr(scaler, "n_samples_seen_", None) is None:
            raise ValueError(
                "`scaler` must be a fitted `StandardScaler`. Call its `partial_fit` on the training split."
            )
        if not (scaler.with_mean and scaler.with_std):
            raise ValueError("`scaler` must shift and scale. Fit a `StandardScaler()` with its defaults.")
        if len(scaler.mean_) != len(self.mean):
            raise ValueError(
                f"`scaler` was fitted on {len(scaler.mean_)} dimensions, but this one has {len(self.mean)}."
            )
        mean, std = torch.as_tensor(scaler.mean_), torch.as_tensor(scaler.scale_)
        if not (mean.isfinite() & std.isfinite()).all():
            raise ValueError("`scaler` was fitted on NaN or infinity. Leave such vectors out.")
        with torch.no_grad():
            self.mean.copy_(mean)
            self.std.copy_(std)
            if self.whitening is not None:
                self.whitening.copy_(_inverse_root(covariance, std.double()))
            # One number for each dimension, or one for all.
            self.count.fill_(int(torch.as_tensor(scaler.n_samples_seen_).max()))
        return self

    @property
    def is_fitted(self) -> bool:
        return bool(self.count > 0)

    def forward(self, vectors: Tensor) -> Tensor:
        """Standardised vectors, without units, shape `(batch, size)` as the vectors."""
        standardised = (vectors - self.mean) / self.std
        if self.whitening is None:
            return standardised
        with torch.autocast(vectors.device.type, enabled=False):
            return standardised.to(self.whitening.dtype) @ self.whitening

    def inverse(self, standardised: Tensor) -> Tensor:
        """The vectors whose standardised form is `standardised`; shape `(batch, size)`."""
        if self.whitening is not None:
            standardised = torch.linalg.solve(self.whitening, standardised, left=False)
        return standardised * self.std + self.mean


def _inverse_root(covariance: Any, std: Tensor) -> Tensor:
    """`R^(-1/2)` of the correlation matrix `R`, symmetric, in double precision."""
    if covariance is None or tuple(covariance.shape) != (len(std), len(std)):
        shape = None if covariance is None else tuple(covariance.shape)
        raise ValueError(f"Whitening needs the `covariance` of the vectors, shape {(len(std), len(std))}, got {shape}.")
    correlation = torch.as_tensor(covariance, dtype=torch.float64) / (std[:, None] * std)
    if not correlation.isfinite().all():
        raise ValueError("`covariance` must be finite, got NaN or infinity.")
    values, directions = torch.linalg.eigh((correlation + correlation.T) / 2)
    return directions / values.clamp(min=SMALLEST_EIGENVALUE).sqrt() @ directions.T


class WordVectorTable(nn.Module):
    """Frozen word vectors, and the vector of an utterance that they make.

    Args:
        vocab_size: tokens.
        size: dimensions of a vector.
        pooling: "mean", "sqrt" or "distinct_sqrt", see `DbmConfig`.
    """

    vectors: Tensor
    regular: Tensor

    def __init__(self, vocab_size: int, size: int, pooling: str = "mean"):
        super().__init__()
        self.pooling = pooling
        self.register_buffer("vectors", torch.zeros(vocab_size, size))
        self.register_buffer("regular", torch.zeros(vocab_size, dtype=torch.bool))

    def load(self, vectors: Tensor, regular_tokens: Iterable[int]) -> "WordVectorTable":
        """Takes over word vectors and the ids of regular tokens; all other tokens are left out of every vector.

        Args:
            vectors: shape `(vocab_size, size)`, finite.
            regular_tokens: ids, as `regular_tokens(tokenizer)` gives them: no pad, bos, eos or unk.

        Raises:
            ValueError: for another shape, numbers that are not finite, and ids outside the vocabulary.
        """
        ids = torch.as_tensor(list(regular_tokens), dtype=torch.long)
        if vectors.shape != self.vectors.shape:
            raise ValueError(f"`vectors` must have shape {tuple(self.vectors.shape)}, got {tuple(vectors.shape)}.")
        if not torch.isfinite(vectors).all():
            raise ValueError("`vectors` must be finite, got NaN or infinity.")
        if len(ids) == 0 or ids.min() < 0 or ids.max() >= len(self.vectors):
            raise ValueError(
                f"`regular_tokens` must be ids from 0 to {len(self.vectors) - 1}, at least one, got {len(ids)} ids."
            )
        with torch.no_grad():
            self.vectors.copy_(vectors)
            self.regular.zero_()
            self.regular[ids.to(self.regular.device)] = True
        return self

    def forward(self, ids: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Vector of the regular tokens of each utterance, and whether it has any.

        Padding and batch neighbours change nothing. An utterance without regular tokens gets zeros.

        Args:
            ids: token ids, -100 counts as padding, shape `(batch, time)`.
            attention_mask: 0 where a token does not count, shape `(batch, time)`.

        Returns:
            Vectors, shape `(batch, size)`, and truth values, shape `(batch,)`.

        Raises:
            ValueError: for ids outside the vocabulary.
        """
        if ids.shape[1] == 0:
            ids, attention_mask = ids.new_full((len(ids), 1), -100), None
        unknown = (ids >= len(self.vectors)) | ((ids < 0) & (ids != -100))
        if unknown.any():  # on an accelerator the look-up would end the process without a message
            raise ValueError(
                f"There are ids outside the vocabulary of {len(self.vectors)} tokens, such as {int(ids[unknown][0])}. "
                "The tokenizer is not the one that these word vectors were made for."
            )
        tokens = ids.clamp(min=0)
        counted = self.regular[tokens] & (ids >= 0)
        if attention_mask is not None:
            counted = counted & attention_mask.bool()
        if self.pooling == "distinct_sqrt":
            counted = counted & _first_places(tokens, counted)
        weights = counted.to(self.vectors.dtype)
        number = weights.sum(dim=1, keepdim=True)
        summed = F.embedding_bag(tokens, self.vectors, mode="sum", per_sample_weights=weights)
        return summed / self._divisor(number.clamp(min=1)), number.squeeze(1) > 0

    def soft(self, probabilities: Tensor, mask: Tensor, ids: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Vector of utterances that are given as distributions over tokens, with a gradient for these.

        With the expected counts `c_w = sum_t m_t p_tw` of regular tokens `w` it is `sum_w c_w e_w` divided by
        `sum_w c_w` ("mean") or by its square root ("sqrt"); "distinct_sqrt" has `min(c_w, 1)` in place of `c_w`. The
        probability of special tokens is dropped, and the rest is not scaled up for it. Distributions that are certain
        give what their ids give.

        Args:
            probabilities: shape `(batch, time, vocab_size)`, or `(batch, time, k)` of the tokens `ids`.
            mask: how much each place counts, 0 to 1, shape `(batch, time)`.
            ids: tokens of the k columns, shape `(batch, time, k)`.

        Returns:
            Vectors, shape `(batch, size)`, and truth values, shape `(batch,)`: whether any regular token counted.

        Raises:
            ValueError: for probabilities of another number of tokens.
        """
        if ids is None and probabilities.shape[-1] != len(self.vectors):
            raise ValueError(
                f"The distributions are over {probabilities.shape[-1]} tokens, but there are word vectors of "
                f"{len(self.vectors)}. Generator and energy must have one tokenizer."
            )
        weights = probabilities.to(self.vectors.dtype) * mask.to(self.vectors.dtype)[:, :, None]
        if ids is None or self.pooling == "distinct_sqrt":
            counts = weights.sum(dim=1) if ids is None else expected_counts(weights, ids, len(self.vectors))
            counts = counts * self.regular  # (batch, vocab_size)
            if self.pooling == "distinct_sqrt":
                counts = counts.clamp(max=1)
            summed, mass = counts @ self.vectors, counts.sum(dim=1, keepdim=True)
        else:
            weights, ids = (weights * self.regular[ids]).flatten(1), ids.flatten(1)
            summed = F.embedding_bag(ids, self.vectors, per_sample_weights=weights, mode="sum")
            mass = weights.sum(dim=1, keepdim=True)
        return summed / self._divisor(mass.masked_fill(mass == 0, 1.0)), mass.squeeze(1) > 0

    def _divisor(self, number: Tensor) -> Tensor:
        """What a sum over `number` tokens is divided by."""
        return number if self.pooling == "mean" else number.sqrt()


def expected_counts(weights: Tensor, ids: Tensor, vocab_size: int) -> Tensor:
    """How often each token of the vocabulary is expected, shape `(batch, vocab_size)`, with the weights' gradient.

    Args:
        weights: of the tokens `ids`, shape `(batch, time, k)`.
        ids: the same shape.
        vocab_size: tokens.
    """
    return weights.new_zeros(len(weights), vocab_size).scatter_add(1, ids.flatten(1), weights.flatten(1))


def _first_places(tokens: Tensor, counted: Tensor) -> Tensor:
    """Whether no counted place before has the same token; shape `(batch, time)` as both arguments."""
    order = tokens.masked_fill(~counted, -1).sort(dim=1, stable=True)
    first = torch.ones_like(counted)
    first[:, 1:] = order.values[:, 1:] != order.values[:, :-1]
    return torch.empty_like(first).scatter_(1, order.indices, first)
