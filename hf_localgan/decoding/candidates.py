"""Candidate answers of one query: beams, which are likely and alike, and samples, which differ."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_localgan.decoding.likelihood import PADDING
from hf_localgan.decoding.special_tokens import end_tokens

OF_THE_SEARCH = ("num_beams", "do_sample", "num_return_sequences", "temperature", "top_k", "top_p", "num_beam_groups")


class Candidates(NamedTuple):
    """Different responses to the queries of a batch; those to one query stand together, beams before samples.

    Attributes:
        labels: tokens up to and with the end token, then -100, shape `(candidates, time)`.
        groups: the query of each, shape `(candidates,)`, in ascending order.
        finished: which have an end token, bool, shape `(candidates,)`.
    """

    labels: Tensor
    groups: Tensor
    finished: Tensor

    @property
    def lengths(self) -> Tensor:
        """Tokens, the end token included, shape `(candidates,)`."""
        return (self.labels != PADDING).sum(dim=1)


def draw_candidates(
    model: PreTrainedModel,
    batch: Mapping[str, Tensor],
    *,
    beams: int = 20,
    samples: int = 30,
    max_new_tokens: int,
    **more,
) -> Candidates:
    """Candidates to each query: the hypotheses of one beam search and samples, each different response once.

    Args:
        model: an encoder-decoder in evaluation mode.
        batch: `input_ids` and `attention_mask`, shape `(batch, source_time)`.
        beams: hypotheses; 1 is the greedy answer, 0 none.
        samples: of the plain distribution of the model, at temperature 1, drawn by torch's global random numbers.
        max_new_tokens: longest response, in tokens. What reaches it without an end token was cut.
        more: further arguments of `generate`. Those that say how to search have no effect.

    Raises:
        ValueError: for negative numbers, and for none of both.
    """
    if min(beams, samples) < 0 or beams + samples < 1:
        raise ValueError(f"`beams` and `samples` must be at least 0 and one of them more, got {beams} and {samples}.")
    more = {name: value for name, value in more.items() if name not in OF_THE_SEARCH}
    more["forced_eos_token_id"] = None  # BART's, which would make a response that was cut look like one that ended
    ends, queries, drawn = end_tokens(model), len(batch["input_ids"]), []
    if beams:
        search = {"num_beams": beams, "num_return_sequences": beams, "do_sample": False}
        drawn.append(model.generate(**batch, **search, max_new_tokens=max_new_tokens, **more).view(queries, beams, -1))
    if samples:
        search = {"do_sample": True, "num_beams": 1, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
        ids = model.generate(
            **batch, **search, num_return_sequences=samples, max_new_tokens=max_new_tokens, **more
        )  # (queries * samples, time)
        drawn.append(ids.view(queries, samples, -1))
    labels, groups, finished = [], [], []
    for query in range(queries):
        seen = set()
        for part in drawn:
            for row in part[query, :, 1:].tolist():  # behind the start token
                end = next((place for place, token in enumerate(row) if token in ends), None)
                tokens = tuple(row if end is None else row[: end + 1])
                if tokens not in seen:
                    seen.add(tokens)
                    labels.append(torch.tensor(tokens, dtype=torch.long))
                    groups.append(query)
                    finished.append(end is not None)
    device = batch["input_ids"].device
    labels = nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=PADDING).to(device)
    return Candidates(labels, torch.tensor(groups, device=device), torch.tensor(finished, device=device))
