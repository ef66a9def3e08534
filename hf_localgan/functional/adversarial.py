"""Losses of discriminators on pairs of a query and a response. Logits have shape `(batch,)`; losses are not reduced."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class DiscriminatorLoss(NamedTuple):
    """Terms of the discriminator's objective, nats, each a mean over its batch, shape `()`.

    Attributes:
        total: the sum of the others, each with its weight.
        real: `-ln D(q, r)` of pairs from the data, smoothed where that is asked for.
        fake: `-ln (1 - D(q, r^))` of generations.
        mismatched: `-ln (1 - D(q, r'))` of responses to other queries, 0 without any.
    """

    total: Tensor
    real: Tensor
    fake: Tensor
    mismatched: Tensor


def discriminator_loss(
    real_logits: Tensor,
    fake_logits: Tensor,
    mismatched_logits: Tensor | None = None,
    *,
    mismatched_weight: float = 1.0,
    real_smoothing: float = 0.0,
) -> DiscriminatorLoss:
    """Cross-entropy of telling pairs from the data from generations (Goodfellow et al. 2014, Eq. 1).

    Args:
        real_logits, fake_logits: of the pairs of the data and of generations to the same or other queries.
        mismatched_logits: of real responses to other queries, so that the discriminator has to read the query (Reed et
            al. 2016). They are negatives, too.
        mismatched_weight: weight of their term.
        real_smoothing: probability with which a pair of the data is labelled as a generation, 0 to 1 (one-sided label
            smoothing, Salimans et al. 2016). Then the loss of a sure discriminator grows again.
    """
    real = (F.softplus(-real_logits) + real_smoothing * real_logits).mean()
    fake = F.softplus(fake_logits).mean()
    mismatched = torch.zeros_like(real) if mismatched_logits is None else F.softplus(mismatched_logits).mean()
    return DiscriminatorLoss(real + fake + mismatched_weight * mismatched, real, fake, mismatched)


def critic_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """`mean f(fake) - mean f(real)`, the Wasserstein critic's objective (Arjovsky et al. 2017), shape `()`.

    The scores are unbounded; the critic's weights must be kept small, for instance by clipping.
    """
    return fake_scores.mean() - real_scores.mean()


def accuracies(real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of real pairs above and of generations below probability 1/2, each shape `()`, without gradient."""
    return (real_logits > 0).float().mean(), (fake_logits < 0).float().mean()
