"""Transcripts of many utterances by a recogniser, and its attention."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin
from transformers.utils.logging import tqdm

from hf_localgan.decoding.answers import Decoding

ROOM = 1.3  # longest transcript, as a multiple of the longest label of the training


def transcript_limit(labels: Iterable[Sequence[int]]) -> int:
    """The `max_length` of all transcripts of a recogniser: 1.3 times its longest training label, and 2 more.

    It counts the start token, and belongs into `model.generation_config.max_length`, where every evaluation and every
    user of the saved model finds the same one. A transcript without an end then weighs as much on one split as on
    another, whatever is longest there.

    Args:
        labels: ids of each training label, end token included.

    Raises:
        ValueError: without a label.
    """
    longest = max(map(len, labels), default=0)
    if not longest:
        raise ValueError("`labels` holds no label. The limit is a multiple of the longest one.")
    return int(ROOM * longest) + 2


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
        max_new_tokens: longest transcript in tokens. By default the limit in `model.generation_config`; where there is
            none, one token for each step of the encoder's output, if the model's configuration has a `reduction`, else
            256.
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
            limit = _limit(model, max_new_tokens, batch["attention_mask"])
            generated = model.generate(  # type: ignore[operator]  # not declared by `PreTrainedModel`
                **batch, **arguments, **limit
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


def _limit(model: PreTrainedModel, max_new_tokens: int | None, attention_mask: Tensor) -> dict[str, int]:
    """The argument of `generate` that bounds the transcripts; none where the model's own limit holds."""
    kept = getattr(model, "generation_config", None)
    if max_new_tokens is not None:
        return longest_transcript(model, max_new_tokens)
    if kept is not None and not (kept.max_length is None and kept.max_new_tokens is None):
        return {}
    return {"max_new_tokens": _steps(model, attention_mask)}


def longest_transcript(model: PreTrainedModel, tokens: int) -> dict[str, int]:
    """The argument of `generate` for transcripts of so many tokens, by the name that the model's own limit has.

    With both names at once transformers warns at each call.

    Args:
        model: a recogniser that starts with one token.
        tokens: largest number of tokens, the start token not counted.
    """
    kept = getattr(model, "generation_config", None)
    if kept is not None and kept.max_length is not None and kept.max_new_tokens is None:
        return {"max_length": tokens + 1}
    return {"max_new_tokens": tokens}


def _steps(model: PreTrainedModel, attention_mask: Tensor) -> int:
    reduction = getattr(model.config, "reduction", None)
    return 256 if reduction is None else -(-int(attention_mask.sum(dim=1).max()) // reduction) + 1  # and the end token
