"""Stopping at a text, for vocabularies of whole words, which the `stop_strings` of `generate` cannot read."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, StoppingCriteria


class StopAtText(StoppingCriteria):
    """Ends a sequence once its text contains one of `stops`. (A copy of the pipeline's, as each travels on its own.)

    Args:
        tokenizer: decodes the sequences.
        stops: a non-empty string, or several.

    Raises:
        ValueError: for other `stops`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: str | Iterable[str]):
        self.tokenizer = tokenizer
        self.stops = (stops,) if isinstance(stops, str) else tuple(stops)
        if not self.stops or not all(isinstance(stop, str) and stop for stop in self.stops):
            raise ValueError(f"`stop_strings` must be a non-empty string or several, got {list(self.stops)}.")

    def __call__(  # type: ignore[override]  # its class is a `BoolTensor`, which no function of torch returns
        self, input_ids: Tensor, scores: Tensor, **kwargs: Any
    ) -> Tensor:
        texts = self.tokenizer.batch_decode(input_ids, skip_special_tokens=True)
        return torch.tensor([any(stop in text for stop in self.stops) for text in texts], device=input_ids.device)


__all__ = ["StopAtText"]
