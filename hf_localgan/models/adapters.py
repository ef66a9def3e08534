"""Adapters of PEFT, such as LoRA's: reading them, and merging them into their base model."""

import copy
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from transformers import PreTrainedModel
from transformers.utils import cached_file

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MAX_LISTED = 5  # names of weights in an error


def find_adapter(place: str, revision: str | None = None) -> bool:
    """Whether a folder or a repository of the Hub holds an adapter and no whole model beside it."""
    return not _has(place, "config.json", revision) and _has(place, CONFIG, revision)


def read_adapter_config(place: str, revision: str | None = None) -> "PeftConfig":
    """The configuration of an adapter, which names its base model.

    Raises:
        ValueError: if it cannot be read, or describes an adapter that cannot be merged, such as a soft prompt.
    """
    from peft import PeftConfig

    try:
        config = PeftConfig.from_pretrained(place, revision=revision)
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"The {CONFIG} of `{place}` cannot be read ({type(error).__name__}: {error}). It may be cut off, or from "
            "another version of PEFT. Save the adapter again: `model.save_pretrained(...)`."
        ) from error
    if config.peft_type is None:
        raise ValueError(f"The {CONFIG} of `{place}` has no `peft_type`, so it describes no adapter. Save it again.")
    if config.is_prompt_learning or config.is_adaption_prompt:
        raise ValueError(
            f"`{place}` holds a {config.peft_type.value} adapter, which cannot be merged into its base model. Load it "
            "by `peft.PeftModel.from_pretrained`."
        )
    return config


def base_of_adapter(place: str, config: "PeftConfig", base_model: str | os.PathLike | None = None) -> str:
    """Folder or Hub id of an adapter's base model: `base_model`, or else the one that its configuration names.

    Raises:
        ValueError: if neither is given.
    """
    if base_model is not None:
        return os.fspath(base_model)
    if not config.base_model_name_or_path:
        raise ValueError(
            f"The {CONFIG} of `{place}` names no base model: that model was made in memory and had no name. "
            "Save it and name its folder by `base_model`."
        )
    return config.base_model_name_or_path


def merge_into(base: PreTrainedModel, place: str, config: "PeftConfig", revision: str | None = None) -> PreTrainedModel:
    """Adds an adapter's weights to those of its base model, which is changed and returned.

    Args:
        base: the model that the adapter was trained on.
        place: folder or Hub id of the adapter.
        config: as `read_adapter_config` returned it.
        revision: branch, tag or commit on the Hub.

    Raises:
        FileNotFoundError: where the adapter has no safetensors file; nothing is unpickled.
        ValueError: if its weights are damaged, or do not belong to an adapter of this model.
    """
    from peft import get_peft_model

    if not _has(place, WEIGHTS, revision):
        raise FileNotFoundError(f"The adapter `{place}` has no {WEIGHTS}. Save it again: `model.save_pretrained(...)`.")
    try:
        config = copy.deepcopy(config)
        config.base_model_name_or_path = base.name_or_path  # else PEFT warns where the base model has moved
        adapted = get_peft_model(base, config)
        result = adapted.load_adapter(place, "default", torch_device="cpu", revision=revision)
    except SafetensorError as error:
        raise ValueError(
            f"The {WEIGHTS} of `{place}` is no complete safetensors file: {error}. It may have been cut off while it "
            "was saved, copied or downloaded. Get it again, or load another checkpoint."
        ) from error
    except (ValueError, RuntimeError) as error:  # modules that are not there, weights of another shape
        raise ValueError(_unfit(place, base, str(error))) from error
    except (AttributeError, KeyError, TypeError) as error:  # PEFT does not check what stands there
        raise ValueError(
            f"The {CONFIG} of `{place}` holds a value that PEFT cannot use ({type(error).__name__}: {error}). Save the "
            "adapter again: `model.save_pretrained(...)`."
        ) from error
    differences = {"missing": result.missing_keys, "unknown to the model": result.unexpected_keys}
    problems = [
        f"{len(keys)} {problem} ({', '.join(sorted(keys)[:MAX_LISTED])})"
        for problem, keys in differences.items()
        if keys
    ]
    if problems:
        raise ValueError(_unfit(place, base, "; ".join(problems)))
    return merge_in_memory(adapted, place)


def merge_in_memory(adapted: "PeftModel", name: str) -> PreTrainedModel:
    """Merges the adapter of a PEFT model into its base model, which is returned; the PEFT model is used up.

    Args:
        adapted: the PEFT model.
        name: name of the merged model, for errors and for adapters that are trained on it.

    Raises:
        ValueError: for adapters that cannot be merged, and weights that are not finite.
    """
    if not hasattr(adapted.base_model, "merge_and_unload"):
        raise ValueError(f"`{name}` holds an adapter that cannot be merged into its base model. Use LoRA, whose can.")
    try:
        merged = adapted.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise ValueError(f"The adapter `{name}` cannot be merged: {error}") from error
    # An adapter that is trained on this model names it as its base; the old name would be wrong.
    merged.name_or_path = merged.config.name_or_path = name
    return merged


def _unfit(place: str, base: PreTrainedModel, problems: str) -> str:
    return (
        f"The adapter `{place}` does not fit the model `{base.name_or_path}` ({type(base).__name__}): "
        f"{' '.join(problems.split())} Give the model that it was trained on by `base_model`."
    )


def _has(place: str, name: str, revision: str | None) -> bool:
    if Path(place).is_dir():
        return (Path(place) / name).is_file()
    try:
        return cached_file(place, name, revision=revision) is not None
    except OSError:
        return False
