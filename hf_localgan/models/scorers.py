"""Loading an energy or a discriminator, with errors that name the fault of a checkpoint."""

import os
from pathlib import Path
from typing import Any, TypeVar, cast

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_localgan.files import missing_path
from hf_localgan.models.dbm.modeling_dbm import DbmModel
from hf_localgan.models.discriminator.modeling_discriminator import PairDiscriminator
from hf_localgan.models.places import CONFIG, TOKENIZER_FILES, describe_no_model, find_any, find_file, has_file
from hf_localgan.models.reading import load_config, load_whole, saved_as
from hf_localgan.models.reading import load_tokenizer as read_tokenizer

Scorer = TypeVar("Scorer", bound=PreTrainedModel)

# What each is called in errors, and its folder beside a generator.
LABELS: dict[type[PreTrainedModel], str] = {DbmModel: "energy model", PairDiscriminator: "discriminator"}
FOLDERS: dict[type[PreTrainedModel], str] = {DbmModel: "energy", PairDiscriminator: "discriminator"}


def load_scorer(
    model_class: type[Scorer],
    path_or_id: str | os.PathLike,
    *,
    subfolder: str = "",
    revision: str | None = None,
) -> Scorer:
    """Loads a model that scores pairs. Stricter than `from_pretrained`: all weights must be there, and no others.

    Args:
        model_class: `DbmModel` or `PairDiscriminator`.
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
    role, folder = LABELS[model_class], FOLDERS[model_class]
    file = f"{subfolder}/{CONFIG}" if subfolder else CONFIG
    advice = f"Give the folder of a saved {role}, with config.json and model.safetensors."
    if Path(place).is_file():
        raise FileNotFoundError(f'"{shown}" is no folder, so it holds no {role}. {advice}')

    def beside() -> str:
        there = not subfolder and has_file(place, f"{folder}/{CONFIG}", revision)
        return f" Its folder {folder}/ does: name `{place}/{folder}`." if there else ""

    if find_file(place, file, revision) is None:
        if hint := beside():
            raise FileNotFoundError(f'"{shown}" itself holds no {role}.{hint}')
        raise FileNotFoundError(
            f'"{shown}" has no config.json, so it holds no {role}. {describe_no_model(place, revision)} {advice}'
        )
    config = load_config(place, subfolder, revision=revision)
    if config.model_type != model_class.config_class.model_type:  # type: ignore[union-attr]
        raise ValueError(f'"{shown}" holds a {saved_as(config)}, and no {role}.{beside() or f" {advice}"}')
    return cast(Any, load_whole(model_class, place, subfolder, revision=revision)).eval()


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
    inside = f"{subfolder}/" if subfolder else ""
    if find_any(place, [f"{inside}{name}" for name in TOKENIZER_FILES], revision) is None:
        raise FileNotFoundError(
            f'"{shown}" has no tokenizer. Save the tokenizer there that the model was trained with: '
            "`tokenizer.save_pretrained(...)`."
        )
    return read_tokenizer(place, subfolder, revision=revision)


def _place(path_or_id: str | os.PathLike) -> str:
    name = os.fspath(path_or_id)
    folder = Path(name).expanduser()
    if folder.exists():
        return str(folder)
    problem = missing_path(name)
    if problem is not None:
        raise FileNotFoundError(problem)
    return name
