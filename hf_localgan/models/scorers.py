"""Loading an energy or a discriminator, with errors that name the fault of a checkpoint."""

import os
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from hf_localgan.files import missing_path

Scorer = TypeVar("Scorer", bound=PreTrainedModel)

MAX_LISTED = 5  # names of weights in an error


def load_scorer(
    model_class: type[Scorer],
    role: str,
    path_or_id: str | os.PathLike,
    *,
    subfolder: str = "",
    revision: str | None = None,
) -> Scorer:
    """Loads a model that scores pairs. Stricter than `from_pretrained`: all weights must be there, and no others.

    Args:
        model_class: `DbmModel` or `PairDiscriminator`.
        role: what it is called in errors, such as `energy model`.
        path_or_id: a folder, or an id on the Hub. Weights are read from safetensors files only.
        subfolder: folder of a repository that holds the model.
        revision: branch, tag or commit on the Hub.

    Returns:
        The model in evaluation mode.

    Raises:
        OSError: if there is no such folder or id, or a file is missing in it.
        ValueError: for another architecture, a damaged configuration, and weights that are cut off or do not fit it.
    """
    place = _place(path_or_id)
    shown = f"{place}/{subfolder}" if subfolder else place
    hub: dict[str, Any] = {"subfolder": subfolder, "revision": revision}
    folder = Path(place) / subfolder
    advice = f"Give the folder of a saved {role}, with config.json and model.safetensors."
    if Path(place).exists() and not (folder / "config.json").is_file():
        what = f'The folder "{shown}" has no config.json' if folder.is_dir() else f'"{shown}" is no folder'
        raise FileNotFoundError(f"{what}, so it holds no {role}. {advice}")
    try:
        config = AutoConfig.from_pretrained(place, **hub)
    except (ValueError, KeyError, TypeError, AttributeError, StrictDataclassError) as error:
        raise ValueError(
            f'The configuration of "{shown}" cannot be read: {_line(error)} Save the {role} again, or get its '
            "config.json anew."
        ) from error
    except OSError as error:
        if folder.is_dir():
            raise ValueError(f'"{folder / "config.json"}" is no valid JSON; it may be cut off.') from error
        raise OSError(f'"{shown}" holds no {role} that can be loaded: {_line(error)}') from error
    if config.model_type != model_class.config_class.model_type:  # type: ignore[union-attr]
        found = (config.architectures or [f"model of the type {config.model_type}"])[0]
        raise ValueError(f'"{shown}" holds a {found}, and no {role}. {advice}')
    try:
        loaded: Any = model_class.from_pretrained(
            place, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True, **hub
        )
    except SafetensorError as error:
        raise ValueError(
            f'The weights of "{shown}" are damaged or cut off: {_line(error)} Get model.safetensors again, or take '
            "another checkpoint."
        ) from error
    except OSError as error:
        raise FileNotFoundError(f'The weights of "{shown}" cannot be found: {_line(error)} {advice}') from error
    model, info = loaded
    sizes = [
        f"{name} {tuple(saved)} in the file, {tuple(own)} in the model" for name, saved, own in info["mismatched_keys"]
    ]
    faults = {"missing": info["missing_keys"], "unknown": info["unexpected_keys"], "of another shape": sizes}
    if any(faults.values()):
        listed = "; ".join(
            f"{label}: {', '.join(sorted(names)[:MAX_LISTED])}{', ...' if len(names) > MAX_LISTED else ''}"
            for label, names in faults.items()
            if names
        )
        raise ValueError(
            f'The weights of "{shown}" are not those that its configuration asks for; {listed}. Save the whole '
            f"{role} again, with its configuration."
        )
    return model.eval()


def load_tokenizer(
    path_or_id: str | os.PathLike, *, subfolder: str = "", revision: str | None = None
) -> PreTrainedTokenizerBase:
    """A tokenizer, or the one that is saved with a scorer.

    Raises:
        OSError: if there is none.
        ValueError: if it cannot be read.
    """
    place = _place(path_or_id)
    shown = f"{place}/{subfolder}" if subfolder else place
    advice = "Save the tokenizer there that the model was trained with: `tokenizer.save_pretrained(...)`."
    folder = Path(place) / subfolder
    if folder.is_dir() and not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
        raise FileNotFoundError(f'"{shown}" has no tokenizer. {advice}')
    try:
        return AutoTokenizer.from_pretrained(place, subfolder=subfolder, revision=revision)
    except OSError:
        raise
    except Exception as error:  # tokenizers raises bare exceptions for a damaged tokenizer.json
        raise ValueError(f'The tokenizer of "{shown}" cannot be read: {_line(error)} {advice}') from error


def _place(path_or_id: str | os.PathLike) -> str:
    name = os.fspath(path_or_id)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder)
    problem = missing_path(name)
    if problem is not None:
        raise FileNotFoundError(problem)
    return name


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if text.endswith(".") else f"{text}."
