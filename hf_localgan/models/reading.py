"""Reading model folders as strictly as they were written: damaged files are named, and no weight is made up."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from .places import CONFIG, find_any, find_file, first_line, list_files

MAX_LISTED = 5  # names of weights in an error
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")
# Files that hold an object of JSON, where they exist.
JSON_FILES = (
    "config.json", "generation_config.json", "model.safetensors.index.json", "adapter_config.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "processor_config.json",
    "preprocessor_config.json",
)  # fmt: skip


def check_files(folder: str | os.PathLike):
    """Refuses a folder in which a file of a model or its tokenizer is cut off or damaged.

    transformers reads some of them without a word: a generation_config.json that is no JSON counts as none.

    Args:
        folder: what is no folder here, such as a Hub id, is not looked at.

    Raises:
        ValueError: with the first such file.
    """
    for path in (Path(folder) / name for name in JSON_FILES):
        if not path.is_file():
            continue
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"`{path}` is not valid JSON and cannot be read; it may be cut off ({error}). Save or copy it again, "
                "or load another checkpoint."
            ) from error
        if not isinstance(values, dict):
            raise ValueError(
                f"`{path}` cannot be read: it must hold an object of JSON, got {type(values).__name__}. It may be "
                "another file's copy: save or copy it again."
            )
    for path in sorted(Path(folder).glob("*.safetensors")) if Path(folder).is_dir() else ():
        try:
            with safe_open(path, framework="pt"):
                continue
        except SafetensorError as error:
            raise ValueError(
                f"`{path}` ({path.stat().st_size:,} bytes) is no complete safetensors file: {error}. It may have been "
                "cut off while it was saved, copied or downloaded. Get it again, or load another checkpoint."
            ) from error


@contextmanager
def damage_named(place: str | os.PathLike, contents: str, advice: str) -> Iterator[None]:
    """Turns what libraries raise over a value that they cannot use into an error that names the place.

    They raise almost anything: `KeyError` and `TypeError` for a configuration, bare exceptions for a tokenizer.json.
    Missing packages and memory stay what they are.

    Args:
        place: folder or Hub id.
        contents: what is read, for the error.
        advice: what to do, for the error.

    Raises:
        OSError: for an `OSError`.
        ValueError: for any other.
    """
    try:
        yield
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, (OSError, ValueError)) and os.fspath(place) in str(error):
            raise
        reason = first_line(error)
        if not isinstance(error, (OSError, ValueError)):
            reason = f"{type(error).__name__}: {reason}"
        cause = OSError if isinstance(error, OSError) else ValueError
        raise cause(f"The {contents} of `{place}` cannot be read: {reason} {advice}") from error


def load_config(place: str, subfolder: str = "", **options: Any) -> PreTrainedConfig:
    """The configuration in a folder or a repository.

    Args:
        place: folder or Hub id.
        subfolder: folder in it.
        options: of `from_pretrained`.

    Raises:
        OSError: if there is none.
        ValueError: if it is damaged.
    """
    check_files(Path(place) / subfolder)
    inside = str(Path(place) / subfolder) if subfolder else place
    with damage_named(inside, "configuration", "Save the model there again, or load another checkpoint."):
        return AutoConfig.from_pretrained(place, subfolder=subfolder, **options)


def load_whole(auto_class: Any, place: str, subfolder: str = "", **options: Any) -> PreTrainedModel:
    """A model all of whose weights are in its folder, and which takes all that are there.

    `from_pretrained` draws missing weights at random, and drops unknown ones. Nothing is unpickled.

    Args:
        auto_class: an Auto class of transformers, or a class of models.
        place: folder or Hub id.
        subfolder: folder in it.
        options: of `from_pretrained`.

    Raises:
        OSError: if a file is missing.
        ValueError: if a file is damaged, or the weights are not those of the configuration.
    """
    check_files(Path(place) / subfolder)
    inside = str(Path(place) / subfolder) if subfolder else place
    revision = options.get("revision")
    try:
        with damage_named(inside, "model", "Save the whole model again, with its configuration."):
            model, info = auto_class.from_pretrained(
                place, subfolder=subfolder, use_safetensors=True, output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are in `info`, too, and are refused below
                **options,
            )  # fmt: skip
    except ValueError as error:
        if isinstance(error.__cause__, SafetensorError):  # of a download; files in a folder were looked at before
            config = find_file(place, f"{subfolder}/{CONFIG}" if subfolder else CONFIG, revision)
            assert config is not None  # for it was read
            check_files(config.parent)
        raise
    except OSError as error:
        raise FileNotFoundError(_describe_missing_weights(place, subfolder, revision, error)) from error
    check_weights(model, info, inside)
    return model


def _describe_missing_weights(place: str, subfolder: str, revision: str | None, error: OSError) -> str:
    inside = f"{subfolder}/" if subfolder else ""
    start = f"The weights of `{Path(place) / subfolder if subfolder else place}` cannot be found:"
    try:
        if find_any(place, [f"{inside}{name}" for name in WEIGHT_FILES], revision):  # the index, and not all parts
            return f"{start} {first_line(error)} Give model.safetensors, or its parts with {WEIGHT_FILES[1]}."
    except OSError as cause:
        return f"{start} {cause}"
    folder = Path(place) / subfolder
    files = [path.name for path in folder.iterdir()] if folder.is_dir() else list_files(place, revision)
    text = f"{start} it has no {WEIGHT_FILES[0]}. Give that, or its parts with {WEIGHT_FILES[1]}."
    pickled = sorted(name.removeprefix(inside) for name in files if name.endswith(".bin"))
    if pickled:
        text += (
            f" It holds {', '.join(pickled[:MAX_LISTED])}, which could run code when unpickled. Convert it with "
            "`model.save_pretrained` if you trust it."
        )
    return text


def load_tokenizer(place: str, subfolder: str = "", **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer in a folder or a repository.

    Args:
        place: folder or Hub id.
        subfolder: folder in it.
        options: of `from_pretrained`.

    Raises:
        OSError: if there is none.
        ValueError: if a file of it is damaged.
    """
    check_files(Path(place) / subfolder)
    inside = str(Path(place) / subfolder) if subfolder else place
    with damage_named(inside, "tokenizer", "Save the tokenizer there again: `tokenizer.save_pretrained(...)`."):
        return AutoTokenizer.from_pretrained(place, subfolder=subfolder, **options)


def check_weights(model: PreTrainedModel, info: dict[str, Any], place: str):
    """Refuses weights that are missing, unknown or of another shape.

    Args:
        model: as it was loaded.
        info: what `from_pretrained` returns with `output_loading_info`.
        place: folder or Hub id, for the error.
    """
    mismatched = [
        f"{name} {tuple(file_shape)} in the file, {tuple(model_shape)} in the model"
        for name, file_shape, model_shape in info["mismatched_keys"]
    ]
    problems = [
        f"{len(names)} {problem} ({', '.join(sorted(names)[:MAX_LISTED])}{', ...' if len(names) > MAX_LISTED else ''})"
        for problem, names in (
            ("missing", info["missing_keys"]),
            ("unknown to the model", info["unexpected_keys"]),
            ("of another shape", mismatched),
        )
        if names
    ]
    if problems:
        raise ValueError(
            f"The weights of `{place}` are not those of {type(model).__name__}, which its configuration "
            f'(`model_type` "{model.config.model_type}", saved as {saved_as(model.config)}) asks for: '
            f"{'; '.join(problems)}. All weights are needed: save the whole model again, with its configuration."
        )


def saved_as(config: Any) -> str:
    """The classes that a configuration names."""
    return ", ".join(config.architectures or []) or f'an unnamed architecture of `model_type` "{config.model_type}"'
