"""Pairs that do not belong together: queries with responses of other queries, in a batch and over a whole split."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from hf_localgan.metrics.energy import other_query_responses


def draw_mismatches(
    queries: Tensor, responses: Tensor, negatives: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """For each pair of a batch, rows of responses that do not belong to its query.

    Drawn uniformly, with replacement, from the rows with another query and another response, so that a mismatched pair
    is never a pair of the batch, and a response is about as often part of a mismatched pair as of a true one.

    Args:
        queries, responses: token ids, padding -100, shape `(batch, time)` of each.
        negatives: draws for each pair.
        generator: of random numbers on the CPU; by default torch's own.

    Returns:
        Rows, shape `(batch, negatives)`, and whether a pair has any, shape `(batch,)`; rows of one that has none mean
        nothing.
    """
    query, response = (_distinct(ids).cpu() for ids in (queries, responses))
    allowed = (query[:, None] != query) & (response[:, None] != response)
    found = allowed.any(dim=1)
    weights = (allowed | ~found[:, None]).float()
    rows = torch.multinomial(weights, negatives, replacement=True, generator=generator)
    return rows.to(queries.device), found.to(queries.device)


def _distinct(ids: Tensor) -> Tensor:
    """A number for each different row, shape `(batch,)`."""
    return torch.unique(ids, dim=0, return_inverse=True)[1]


def matching_loss(logits: Tensor, mismatch_logits: Tensor) -> Tensor:
    """Cross-entropy of true against mismatched pairs, either with half of the weight; nats, shape `(batch,)`.

    `(softplus(-s(q, r)) + mean over r' of softplus(s(q, r'))) / 2`. At best the logit is `ln p(r | q) / p(r)`, whatever
    the number of mismatches, and a logit of 0 without any learning costs ln 2.

    Args:
        logits: of true pairs, shape `(batch,)`.
        mismatch_logits: of the same queries with other responses, shape `(batch, negatives)`.
    """
    return (F.softplus(-logits) + F.softplus(mismatch_logits).mean(dim=1)) / 2


def matching_metrics(logits: Tensor, mismatch_logits: Tensor) -> dict[str, float]:
    """What an evaluation tells of the scores of a split; arguments as in `matching_loss`.

    Returns:
        `matching`: probability that the true response has a higher logit than another query's, ties count one half.
        `accuracy`: share of pairs on the right side of logit 0, true and mismatched ones with equal weight.
        `loss`: `matching_loss`, nats. `real` and `mismatched`: mean probability of belonging together.
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
    """The rows of a split, each followed by its query with responses of other queries.

    Which responses these are depends on the split and the seed alone.

    Args:
        rows: of `input_ids` and `labels`, read whole.
        negatives: other responses for each row.
        seed: of their choice.

    Attributes:
        groups: number of the query of each row, shape `(rows,)`.

    Raises:
        ValueError: if all rows have one query.
    """

    def __init__(self, rows: Iterable[Mapping], negatives: int, seed: int):
        self.rows, self.negatives = list(rows), negatives
        numbers: dict[tuple, int] = {}
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

    def __getitem__(self, index: int) -> dict:
        number, other = divmod(index, 1 + self.negatives)
        row = dict(self.rows[number])
        if other:
            row["labels"] = self.rows[self.others[number, other - 1]]["labels"]
        return row
