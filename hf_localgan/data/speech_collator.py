"""Batches of utterances."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, ProcessorMixin

from hf_localgan.models.rnn_seq2seq import LogMelFeatureExtractor

IGNORED = -100


@dataclass
class SpeechCollator:
    """Pads features and labels of utterances to a batch.

    Reads `input_features` (shape `(frames, features)`) and `labels`; other columns are left behind. Returns
    `input_features`, `attention_mask` and, where there are labels, `labels`, with -100 at padding. Features are padded
    on the extractor's side, labels on the right.

    Args:
        processor: its extractor pads.
        pad_to_multiple_of: rounds the number of frames up to a multiple of this, such as the model's reduction.
    """

    processor: ProcessorMixin
    pad_to_multiple_of: int | None = None

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The processor's tokenizer, which makes the labels; `RamlCollator` reads it."""
        return self.processor.tokenizer

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """The batch.

        Raises:
            ValueError: for examples without features, or of which some have labels and some none.
        """
        if any(example.get("input_features") is None for example in examples):
            names = ", ".join(f"`{name}`" for name in examples[0])
            raise ValueError(f"The examples have no `input_features` (found: {names}). Make them by `encode_speech`.")
        extractor: LogMelFeatureExtractor = self.processor.feature_extractor
        features: list[Any] = [
            {"input_features": np.asarray(example["input_features"], np.float32)} for example in examples
        ]
        padded = extractor.pad(
            features, return_attention_mask=True, return_tensors="pt", pad_to_multiple_of=self.pad_to_multiple_of
        )
        batch = {"input_features": padded["input_features"], "attention_mask": padded["attention_mask"].long()}
        rows = [example["labels"] for example in examples if example.get("labels") is not None]
        if rows:
            if len(rows) < len(examples):
                raise ValueError(
                    "Some examples of the batch have `labels` and some have none. All need the same columns."
                )
            longest = max(map(len, rows))
            labels = torch.full((len(rows), longest), IGNORED)
            for number, row in enumerate(rows):
                labels[number, : len(row)] = torch.as_tensor(np.asarray(row))
            batch["labels"] = labels
        return batch
