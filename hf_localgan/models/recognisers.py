"""Loading a recogniser of speech and its processor."""

import os
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForSpeechSeq2Seq,
    AutoProcessor,
    PreTrainedModel,
    ProcessorMixin,
)

from hf_localgan.files import missing_path


def load_recogniser(
    path_or_id: str | os.PathLike,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    device: str | torch.device | None = None,
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Loads a model of speech and its processor for inference.

    Args:
        path_or_id: a folder, or the id of a model on the Hub. Weights are read from safetensors files only.
        revision: branch, tag or commit on the Hub.
        trust_remote_code: run the code that comes with the checkpoint. Read it first.
        device: device that the model is moved to; by default it stays on the CPU.

    Returns:
        The model in evaluation mode, and its processor, with `feature_extractor` and `tokenizer`.

    Raises:
        OSError: if there is no such folder or Hub id, or a file is missing in it.
        ValueError: if it is no encoder-decoder of speech, or its weights are not those of its configuration.
    """
    folder = Path(path_or_id).expanduser()
    problem = None if folder.is_dir() else missing_path(path_or_id)
    if problem is not None:
        raise FileNotFoundError(problem)
    place = str(folder) if folder.is_dir() else os.fspath(path_or_id)
    hub = {"revision": revision, "trust_remote_code": trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(place, **hub)
    except (ValueError, KeyError, TypeError, AttributeError, StrictDataclassError) as error:
        raise ValueError(f"The configuration of `{place}` cannot be read: {error}") from error
    except OSError as error:
        if (folder / "config.json").is_file():
            raise ValueError(f"`{folder / 'config.json'}` is no valid JSON; it may be cut off.") from error
        raise
    remote = "AutoModelForSpeechSeq2Seq" in (getattr(config, "auto_map", None) or {})
    if not remote and type(config) not in AutoModelForSpeechSeq2Seq._model_mapping:
        raise ValueError(
            f"`{place}` is no recogniser of speech (model type `{config.model_type}`). Give a checkpoint of "
            "`hf-localgan train-speech`, or another one for `AutoModelForSpeechSeq2Seq`."
        )
    try:
        model, info = AutoModelForSpeechSeq2Seq.from_pretrained(
            place, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True, **hub
        )
    except SafetensorError as error:
        raise ValueError(
            f"The weights of `{place}` are damaged or cut off: {error}. Get model.safetensors again."
        ) from error
    faults = sorted({*info["missing_keys"], *info["unexpected_keys"], *(key[0] for key in info["mismatched_keys"])})
    if faults:
        raise ValueError(
            f"The weights of `{place}` are not those of a {type(model).__name__}: {', '.join(faults[:5])}"
            f"{', ...' if len(faults) > 5 else ''}."
        )
    try:
        processor = AutoProcessor.from_pretrained(place, **hub)
    except OSError:
        raise
    except Exception as error:  # tokenizers raises bare exceptions for a damaged tokenizer.json
        raise ValueError(f"The processor of `{place}` cannot be read: {error}. Save it there again.") from error
    if not isinstance(processor, ProcessorMixin) or not hasattr(processor, "feature_extractor"):
        raise ValueError(f"`{place}` has no processor with a feature extractor: its processor_config.json is missing.")
    if device is not None:
        model.to(device)
    return model.eval(), processor
