"""The responses `R_q` of every training query, and how far they lie from the centre."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from hf_localgan.functional.radial import cluster_mean


class ClusterRadii:
    """The radii of all training responses by query, for comparisons with the whole cluster (Eq. 9 and 10).

    The energy is frozen, so that they are measured once. Queries are the same where their tokens are.

    Args:
        batches: collated batches with `input_ids`, `attention_mask` and `labels`, in any order.
        measure: measures the responses of a batch, shape `(batch,)`: energies or distances.
    """

    def __init__(self, batches: Iterable[Mapping[str, Any]], measure: Callable[[Mapping[str, Any]], Tensor]):
        numbers: dict[bytes, int] = {}
        queries, values = [], []
        for batch in batches:
            queries += [numbers.setdefault(key, len(numbers)) for key in query_keys(batch)]
            values.append(measure(batch).float().cpu())
        self._numbers = numbers
        order = torch.tensor(queries).argsort(stable=True)
        self._values = torch.cat(values)[order]
        self._queries = torch.tensor(queries)[order]
        self._sizes = torch.bincount(self._queries)
        self._ends = self._sizes.cumsum(0)
        self._means = cluster_mean(self._values, self._queries, len(numbers))

    def __len__(self) -> int:
        return len(self._numbers)

    def means(self, batch: Mapping[str, Any]) -> Tensor:
        """Mean over the responses of each query of a batch, shape `(batch,)`.

        Raises:
            ValueError: for a query that is none of the training split.
        """
        rows = self._rows(batch)
        return self._means[rows].to(batch["input_ids"].device)

    def mean_of(self, batch: Mapping[str, Any], function: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Mean over the responses of each query of a function of their radii, shape `(batch,)`.

        Args:
            batch: as above.
            function: called with the radii of all these responses and the place of their query in the batch, both of
                shape `(responses,)`, on the CPU; returns a number for each.
        """
        rows = self._rows(batch)
        ends = self._ends[rows]
        spans = list(zip((ends - self._sizes[rows]).tolist(), ends.tolist(), strict=True))
        values = torch.cat([self._values[start:end] for start, end in spans])
        places = torch.repeat_interleave(torch.arange(len(spans)), self._sizes[rows])
        return cluster_mean(function(values, places), places, len(spans)).to(batch["input_ids"].device)

    def _rows(self, batch: Mapping[str, Any]) -> Tensor:
        rows = [self._numbers.get(key, -1) for key in query_keys(batch)]
        if -1 in rows:
            raise ValueError(
                "A query of the batch is none of the training split's, so that its responses are not known. Leave the "
                'queries as they are, or set `radial_target="reference"` and another `radial_baseline`.'
            )
        return torch.tensor(rows)


def query_keys(batch: Mapping[str, Any]) -> list[bytes]:
    """What tells the queries of a batch apart: their tokens without padding.

    Args:
        batch: with `input_ids`, shape `(batch, time)`, and perhaps `attention_mask`.
    """
    ids, mask = batch["input_ids"].cpu(), batch.get("attention_mask")
    kept = ids >= 0 if mask is None else mask.cpu() > 0
    return [row[keep].numpy().tobytes() for row, keep in zip(ids, kept, strict=True)]
