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
CTC_LABELS = "ctc_labels"
LABELS = ("labels", CTC_LABELS)


@dataclass
class SpeechCollator:
    """Pads features and labels of utterances to a batch.

    Reads `input_features` (shape `(frames, features)`), `labels` and `ctc_labels`, which CTC is trained on where they
    are others; other columns are left behind. Returns `input_features`, `attention_mask` and, where there are such,
    `labels` and `ctc_labels`, each padded to its own longest row, with -100 at padding. Features are padded on the
    extractor's side, labels on the right.

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
        for name in LABELS:
            rows = [example[name] for example in examples if example.get(name) is not None]
            if rows and len(rows) < len(examples):
                raise ValueError(
                    f"Some examples of the batch have `{name}` and some have none. All need the same columns."
                )
            if rows:
                batch[name] = _pad_labels(rows)
        return batch


def _pad_labels(rows: Sequence[Any]) -> Tensor:
    """Rows of ids as one tensor, shape `(rows, longest)`."""
    labels = torch.full((len(rows), max(map(len, rows))), IGNORED)
    for number, row in enumerate(rows):
        labels[number, : len(row)] = torch.as_tensor(np.asarray(row))
    return labels
