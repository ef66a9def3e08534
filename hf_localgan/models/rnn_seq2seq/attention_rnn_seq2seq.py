"""Attention of the decoder to the encoder's states. Shapes as in `encoder_rnn_seq2seq.py`."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class AttentionMemory(NamedTuple):
    """The attention's view of the encoder; see `RnnSeq2SeqAttention.forward`."""

    states: Tensor
    keys: Tensor | None
    mask: Tensor | None


class RnnSeq2SeqAttention(nn.Module):
    """Scores the encoder's states against a decoder state and averages them by these weights.

    dot: `q' m`; general: `q' W m` (Luong et al. 2015, Eq. 8); additive: `v' tanh(W q + U m)` (Bahdanau et al. 2015);
    location: `v' tanh(W q + U m + F f)`, `f` the last step's weights after a convolution (Chorowski et al. 2015), which
    tells places of equal content apart.
    """

    def __init__(self, scoring: str, size: int, filters: int = 10, width: int = 31):
        super().__init__()
        self.scoring = scoring
        self.adds = scoring in ("additive", "location")
        if scoring == "general" or self.adds:
            self.query = nn.Linear(size, size, bias=self.adds)
        if self.adds:
            self.key = nn.Linear(size, size, bias=False)
            self.score = nn.Linear(size, 1, bias=False)
        if scoring == "location":
            self.neighbours = nn.Conv1d(1, filters, width, padding=width // 2, bias=False)
            self.location = nn.Linear(filters, size, bias=False)

    def project_keys(self, memory: Tensor) -> Tensor | None:
        """Keys of additive scores, made once per source, shape `(batch, source_time, hidden)`; else `None`."""
        return self.key(memory) if self.adds else None

    def forward(
        self, query: Tensor, memory: Tensor, keys: Tensor | None, mask: Tensor | None, alignment: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attends from each of `time` queries.

        Args:
            query: shape `(batch, time, hidden)`; `time` is 1 for location-aware attention.
            memory: the encoder's states, shape `(batch, source_time, hidden)`.
            keys: `project_keys(memory)`.
            mask: true at tokens, shape `(batch, source_time)`, or `None`.
            alignment: the weights of the step before, shape `(batch, source_time)`, which only location-aware attention
                reads; `None` at the first step.

        Returns:
            The contexts, shape `(batch, time, hidden)`, and the weights, shape `(batch, time, source_time)`.
        """
        if self.adds:
            assert keys is not None
            if self.scoring == "location" and alignment is not None:
                context = self.neighbours(alignment[:, None].to(keys.dtype)).transpose(1, 2)
                keys = keys + self.location(context)
            scores = self.score(torch.tanh(self.query(query)[:, :, None] + keys[:, None])).squeeze(-1)
        else:
            scores = torch.bmm(self.query(query) if self.scoring == "general" else query, memory.transpose(1, 2))
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-1)  # (batch, time, source_time)
        return torch.bmm(weights, memory), weights


__all__ = ["AttentionMemory", "RnnSeq2SeqAttention"]
