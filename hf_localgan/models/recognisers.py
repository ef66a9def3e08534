"""Loading a recogniser of speech and its processor."""

import os
from typing import Any, cast

import torch
from transformers import (
    AutoModelForSpeechSeq2Seq,
    AutoProcessor,
    PreTrainedModel,
    ProcessorMixin,
)

from .loading import load_merged, locate, read_config
from .places import find_any
from .reading import damage_named, load_whole
from .ties import untied_without_warning

PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")


def load_recogniser(
    path_or_id: str | os.PathLike,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    device: str | torch.device | None = None,
    base_model: str | os.PathLike | None = None,
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Loads a model of speech and its processor for inference.

    Adapters of a PEFT model (LoRA) are loaded with their base model and merged into it.

    Args:
        path_or_id: a folder, or the id of a model or an adapter on the Hub. Weights are read from safetensors files
            only.
        revision: branch, tag or commit on the Hub.
        trust_remote_code: run the code that comes with the checkpoint. Read it first.
        device: device that the model is moved to; by default it stays on the CPU.
        base_model: folder or Hub id of an adapter's base model; by default the one that the adapter names.

    Returns:
        The model in evaluation mode, and its processor, with `feature_extractor` and `tokenizer`.

    Raises:
        OSError: if there is no such folder or Hub id, or a file is missing in it.
        ValueError: if it is no encoder-decoder of speech, or its weights are not those of its configuration.
    """
    hub = {"revision": revision, "trust_remote_code": trust_remote_code}
    place = locate(path_or_id)
    model, place_of_processor, processor_hub = load_merged(place, hub, base_model, _load_model)
    if find_any(place, PROCESSOR_FILES, revision):  # else that of the base model
        place_of_processor, processor_hub = place, hub
    with damage_named(place_of_processor, "processor", "Save it there again."):
        processor = AutoProcessor.from_pretrained(place_of_processor, **processor_hub)
    if not isinstance(processor, ProcessorMixin) or not hasattr(processor, "feature_extractor"):
        raise ValueError(
            f"`{place_of_processor}` has no processor with a feature extractor: its processor_config.json is missing."
        )
    _check_fit(model, processor, place_of_processor)
    if device is not None:
        model.to(device)  # type: ignore[arg-type]  # the stub of this method lacks `self`
    return model.eval(), processor


def _load_model(place: str, hub: dict[str, Any]) -> PreTrainedModel:
    config = read_config(place, hub)
    remote = "AutoModelForSpeechSeq2Seq" in (getattr(config, "auto_map", None) or {})
    if not remote and type(config) not in AutoModelForSpeechSeq2Seq._model_mapping:
        raise ValueError(
            f"`{place}` is no recogniser of speech (model type `{config.model_type}`). Give a checkpoint of "
            "`hf-localgan train-speech`, or another one for `AutoModelForSpeechSeq2Seq`."
        )
    with untied_without_warning():
        return load_whole(AutoModelForSpeechSeq2Seq, place, **hub)


def _check_fit(model: PreTrainedModel, processor: ProcessorMixin, place: str):
    """Refuses a processor whose tokens or features the model does not have."""
    tokenizer = getattr(processor, "tokenizer", None)
    absent = [name for name in ("pad_token", "eos_token") if getattr(tokenizer, f"{name}_id", None) is None]
    if absent:
        raise ValueError(
            f"The tokenizer of `{place}` has no {' and no '.join(f'`{name}`' for name in absent)}: transcripts cannot "
            "be padded or cannot end. Save the processor that the model was trained with there."
        )
    largest, vocab_size = max(cast(Any, tokenizer).get_vocab().values()), model.config.vocab_size
    if largest >= vocab_size:
        raise ValueError(
            f"The tokenizer of `{place}` has ids up to {largest}, but the model has {vocab_size} tokens. Save the "
            "processor that the model was trained with there."
        )
