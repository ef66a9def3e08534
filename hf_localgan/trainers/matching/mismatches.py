"""Mismatched pairs, queries with responses to other queries, from a batch and from a whole split."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from hf_localgan.metrics.energy import other_query_responses


def draw_mismatches(
    queries: Tensor, responses: Tensor, negatives: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Draws, for each pair of a batch, rows whose responses belong to other queries.

    The draws are uniform, with replacement, over the rows with another query and another response. So a mismatched pair
    is never a pair of the batch, and a response is about as often part of a mismatched pair as of a true one.

    Args:
        queries, responses: token ids, padding -100, shape `(batch, time)` of each.
        negatives: number of draws for each pair.
        generator: random numbers on the CPU; by default torch's global ones.

    Returns:
        Rows, shape `(batch, negatives)`, and whether the batch has a mismatch for each pair, shape `(batch,)`. Where it
        has none, the rows are meaningless.
    """
    query, response = (_distinct(ids).cpu() for ids in (queries, responses))
    allowed = (query[:, None] != query) & (response[:, None] != response)
    has_mismatch = allowed.any(dim=1)
    weights = (allowed | ~has_mismatch[:, None]).float()
    rows = torch.multinomial(weights, negatives, replacement=True, generator=generator)
    return rows.to(queries.device), has_mismatch.to(queries.device)


def _distinct(ids: Tensor) -> Tensor:
    """A number for each different row, shape `(batch,)`."""
    return torch.unique(ids, dim=0, return_inverse=True)[1]


def matching_loss(logits: Tensor, mismatch_logits: Tensor) -> Tensor:
    """Cross-entropy of true against mismatched pairs, half of the weight for each side; nats, shape `(batch,)`.

    `(softplus(-s(q, r)) + mean over r' of softplus(s(q, r'))) / 2`. The optimal logit is `ln p(r | q) / p(r)` for any
    number of mismatches, and a logit of 0, without any learning, costs ln 2.

    Args:
        logits: logits of the true pairs, shape `(batch,)`.
        mismatch_logits: logits of the same queries with other responses, shape `(batch, negatives)`.
    """
    return (F.softplus(-logits) + F.softplus(mismatch_logits).mean(dim=1)) / 2


def matching_metrics(logits: Tensor, mismatch_logits: Tensor) -> dict[str, float]:
    """Metrics of the logits of a whole split.

    Args:
        logits: logits of the true pairs, shape `(pairs,)`.
        mismatch_logits: logits of the same queries with other responses, shape `(pairs, negatives)`.

    Returns:
        `matching`: probability that the true response has a higher logit than another query's, ties count one half.
        `accuracy`: share of pairs on the correct side of logit 0, true and mismatched pairs with equal weight.
        `loss`: mean `matching_loss`, nats. `real` and `mismatched`: mean probability that the discriminator gives to
        true and to mismatched pairs.
    """
    higher, equal = logits[:, None] > mismatch_logits, logits[:, None] == mismatch_logits
    return {
        "matching": (higher.double() + 0.5 * equal).mean().item(),
        "accuracy": ((logits > 0).double().mean() + (mismatch_logits <= 0).double().mean()).item() / 2,
        "loss": matching_loss(logits, mismatch_logits).mean().item(),
        "real": logits.sigmoid().mean().item(),
        "mismatched": mismatch_logits.sigmoid().mean().item(),
    }


class ContrastedRows(Dataset):
    """The rows of a split, each followed by its query with responses to other queries.

    The choice of these responses depends on the split and the seed alone.

    Args:
        rows: rows of `input_ids` and `labels`, all of which are read.
        negatives: number of other responses for each row.
        seed: seed of their choice.

    Attributes:
        groups: number of each row's query, shape `(rows,)`.

    Raises:
        ValueError: if all rows have one query.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]], negatives: int, seed: int):
        self.rows, self.negatives = list(rows), negatives
        numbers: dict[tuple[int, ...], int] = {}
        keys = (tuple(map(int, row["input_ids"])) for row in self.rows)
        self.groups = np.array([numbers.setdefault(key, len(numbers)) for key in keys])
        if len(numbers) < 2:
            raise ValueError(
                f"Matching needs responses of other queries, but the {len(self.rows):,} rows to evaluate have "
                f"{len(numbers)} different {'query' if len(numbers) == 1 else 'queries'}. Give a larger split."
            )
        rng = np.random.default_rng(seed)
        self.others = np.stack([other_query_responses(self.groups, rng) for _ in range(negatives)], axis=1)

    def __len__(self) -> int:
        return len(self.rows) * (1 + self.negatives)

    def __getitem__(self, index: int) -> dict[str, Any]:
        number, other = divmod(index, 1 + self.negatives)
        row = dict(self.rows[number])
        if other:
            row["labels"] = self.rows[self.others[number, other - 1]]["labels"]
        return row
