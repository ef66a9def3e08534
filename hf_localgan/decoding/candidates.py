"""Candidate answers to a query: beams, which are likely and alike, and samples, which differ."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hf_localgan.data.padding import PADDING, pad_ids
from hf_localgan.decoding.special_tokens import end_tokens

SEARCH_ARGUMENTS = (
    "num_beams",
    "do_sample",
    "num_return_sequences",
    "temperature",
    "top_k",
    "top_p",
    "num_beam_groups",
)


class Candidates(NamedTuple):
    """Different responses to the queries of a batch; those to one query stand together, beams before samples.

    Attributes:
        labels: tokens up to and with the end token, then -100, shape `(candidates, time)`.
        groups: index of each candidate's query, shape `(candidates,)`, in ascending order.
        finished: whether a candidate has an end token, bool, shape `(candidates,)`.
    """

    labels: Tensor
    groups: Tensor
    finished: Tensor

    @property
    def lengths(self) -> Tensor:
        """Number of tokens, the end token included, shape `(candidates,)`."""
        return (self.labels != PADDING).sum(dim=1)


def draw_candidates(
    model: PreTrainedModel,
    batch: Mapping[str, Tensor],
    *,
    beams: int = 20,
    samples: int = 30,
    max_new_tokens: int,
    **arguments: Any,
) -> Candidates:
    """Candidates to each query: the hypotheses of one beam search and samples, each different response once.

    Args:
        model: an encoder-decoder in evaluation mode.
        batch: `input_ids` and `attention_mask`, shape `(batch, source_time)`.
        beams: number of hypotheses; 1 is the greedy answer, 0 none.
        samples: number of samples of the model's plain distribution, at temperature 1, drawn by torch's global random
            numbers.
        max_new_tokens: longest response, in tokens. A response of this length without an end token was cut.
        arguments: further ones of the model's `generate`; arguments of the search have no effect.

    Raises:
        ValueError: for negative numbers, and if both are 0.
    """
    if min(beams, samples) < 0 or beams + samples < 1:
        raise ValueError(f"`beams` and `samples` must be at least 0 and one of them more, got {beams} and {samples}.")
    shared = {name: value for name, value in arguments.items() if name not in SEARCH_ARGUMENTS}
    shared["forced_eos_token_id"] = None  # BART's, which would make a response that was cut look like one that ended
    ends, queries, drawn = end_tokens(model), len(batch["input_ids"]), []
    searches: list[dict[str, Any]] = []
    if beams:
        searches.append({"num_beams": beams, "num_return_sequences": beams, "do_sample": False})
    if samples:
        sampling = {"do_sample": True, "num_beams": 1, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
        searches.append({**sampling, "num_return_sequences": samples})
    for search in searches:
        ids: Tensor = model.generate(  # type: ignore[operator]  # not declared by `PreTrainedModel`
            **batch, **search, max_new_tokens=max_new_tokens, **shared
        )  # (queries * returned, time)
        drawn.append(ids.view(queries, search["num_return_sequences"], -1))
    rows: list[tuple[int, ...]] = []
    groups, finished = [], []
    for query in range(queries):
        seen = set()
        for part in drawn:
            for row in part[query, :, 1:].tolist():  # behind the start token
                end = next((place for place, token in enumerate(row) if token in ends), None)
                tokens = tuple(row if end is None else row[: end + 1])
                if tokens not in seen:
                    seen.add(tokens)
                    rows.append(tokens)
                    groups.append(query)
                    finished.append(end is not None)
    device = batch["input_ids"].device
    return Candidates(
        pad_ids(rows).to(device), torch.tensor(groups, device=device), torch.tensor(finished, device=device)
    )
