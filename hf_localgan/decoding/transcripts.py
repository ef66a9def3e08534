"""Transcripts of many utterances by a recogniser, and its attention."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin
from transformers.utils.logging import tqdm

from hf_localgan.decoding.answers import Decoding


@torch.no_grad()
def transcribe(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    features: Sequence[Any],
    decoding: Decoding | None = None,
    *,
    max_new_tokens: int | None = None,
    batch_size: int = 32,
) -> list[str]:
    """The transcript of each utterance.

    Utterances are sorted by length for the batches and put back in order.

    Args:
        model: a recogniser.
        processor: its feature extractor pads, its tokenizer decodes.
        features: normalised features of each utterance, shape `(frames, feature_size)`: the column `input_features` of
            `encode_speech`.
        decoding: by default greedy.
        max_new_tokens: longest transcript in tokens. By default one token for each step of the encoder's output, if the
            model's configuration has a `reduction`, else 256.
        batch_size: utterances at a time.

    Returns:
        As many texts, in the order of the features.
    """
    arguments = (decoding or Decoding.greedy()).arguments
    lengths = [len(rows) for rows in features]
    order = sorted(range(len(features)), key=lambda index: lengths[index], reverse=True)
    texts = [""] * len(features)
    training = model.training
    model.eval()
    try:
        for start in tqdm(range(0, len(order), batch_size), desc="transcripts", leave=False):
            rows = order[start : start + batch_size]
            batch = pad_features(processor, [features[row] for row in rows], model)
            limit = max_new_tokens or _steps(model, batch["attention_mask"])
            generated = model.generate(  # type: ignore[operator]  # not declared by `PreTrainedModel`
                **batch, **arguments, max_new_tokens=limit
            )
            for row, text in zip(
                rows, processor.tokenizer.batch_decode(generated, skip_special_tokens=True), strict=True
            ):
                texts[row] = text.strip()
    finally:
        model.train(training)
    return texts


@torch.no_grad()
def attention_maps(
    model: PreTrainedModel, processor: ProcessorMixin, rows: Sequence[Mapping[str, Any]]
) -> Iterator[np.ndarray]:
    """The decoder's attention while it reads each reference, end token included, shape `(tokens, encoder steps)`.

    Args:
        model: a recogniser whose forward returns `cross_attentions`.
        processor: as in `transcribe`.
        rows: utterances with `input_features` and `labels`.
    """
    training = model.training
    model.eval()
    try:
        for row in rows:
            batch = pad_features(processor, [row["input_features"]], model)
            labels = torch.as_tensor(np.asarray(row["labels"]), device=model.device)[None]
            outputs = model(**batch, labels=labels, output_attentions=True)
            yield outputs.cross_attentions[-1][0].float().mean(dim=0).cpu().numpy()
    finally:
        model.train(training)


def pad_features(processor: ProcessorMixin, features: Sequence[Any], model: PreTrainedModel) -> dict[str, Tensor]:
    """`input_features` and `attention_mask` of a batch, on the model's device.

    Args:
        processor: its feature extractor pads.
        features: features of each utterance, shape `(frames, feature_size)`.
        model: a recogniser.
    """
    rows = [{"input_features": np.asarray(frames, dtype=np.float32)} for frames in features]
    batch = processor.feature_extractor.pad(rows, return_attention_mask=True, return_tensors="pt")
    tensors = {
        "input_features": batch["input_features"].to(model.dtype),
        "attention_mask": batch["attention_mask"].long(),
    }
    return {name: value.to(model.device) for name, value in tensors.items()}


def _steps(model: PreTrainedModel, attention_mask: Tensor) -> int:
    reduction = getattr(model.config, "reduction", None)
    return 256 if reduction is None else -(-int(attention_mask.sum(dim=1).max()) // reduction) + 1  # and the end token
