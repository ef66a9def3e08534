"""Learning which response belongs to which query, from the energy of pairs whose responses have changed places."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .modeling_dbm import DbmModel

ROUNDING = 64  # units in the last place by which equal vectors may differ


def swap_loss(model: DbmModel, query: Tensor, response: Tensor, *, mean_field_steps: int = 10) -> Tensor:
    """How surely the model tells two pairs from the same two with their responses exchanged: a log-loss, nats.

    For pairs `(q, r)` and `(q', r')` of different queries,

        softplus(F(q, r) + F(q', r') - F(q, r') - F(q', r))

    is `-ln` of the probability that the model gives to the right one of the two ways to match them. Terms
    of a query alone or of a response alone cancel, and so does `ln Z`: the loss is about their dependence only, of
    which maximum likelihood learns little beside the much larger rest. Free energies are variational, with the
    gradient of `DbmModel.free_energy`.

    Args:
        model: with any `energy` of its configuration.
        query, response: standardised vectors of pairs in random order; the first half is matched with the second.
        mean_field_steps: steps of the mean field; all are taken.

    Returns:
        Mean over the matches, shape `()`; 0 where a batch has no two different queries.
    """
    half = len(query) // 2
    first, second = slice(0, half), slice(half, 2 * half)
    queries = torch.cat([query[: 2 * half], query[: 2 * half]])
    responses = torch.cat([response[: 2 * half], response[second], response[first]])
    means = model.mean_field(queries, responses, steps=mean_field_steps, tolerance=0)
    energies = model.free_energy(queries, responses, means)
    matched, swapped = energies[: 2 * half].view(2, half).sum(dim=0), energies[2 * half :].view(2, half).sum(dim=0)
    # Equal queries differ by rounding where they were multiplied by a matrix, as in whitening.
    distance, length = (query[first] - query[second]).norm(dim=1), query.norm(dim=1)
    rounding = ROUNDING * torch.finfo(query.dtype).eps * torch.maximum(length[first], length[second])
    different = (distance > rounding).to(matched.dtype)
    return (F.softplus(matched - swapped) * different).sum() / different.sum().clamp(min=1)
