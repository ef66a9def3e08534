"""Loading the models of the page: generators, an energy with its tokenizer, radii of references."""

import json
import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as parquet
import torch
from huggingface_hub import snapshot_download
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_localgan.data import load_pairs
from hf_localgan.data.vocabulary import check_same_vocabulary
from hf_localgan.demo.references import Reader, ReferenceRadii, measure_references
from hf_localgan.models import DbmModel
from hf_localgan.models.loading import load_generator
from hf_localgan.models.scorers import load_scorer
from hf_localgan.recipes.parser import expand_path
from hf_localgan.recipes.parts import load_energy

ENERGY = "energy"  # folder of the energy in an output of LocalGAN's trainer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Speaker:
    """A generator on the page.

    Attributes:
        name: its name on the page.
        path: folder or Hub id.
        objective: its objective according to its evaluation; may be empty.
        model: in evaluation mode.
        tokenizer: the model's.
    """

    name: str
    path: str
    objective: str
    model: PreTrainedModel = field(repr=False)
    tokenizer: PreTrainedTokenizerBase = field(repr=False)


@dataclass(frozen=True)
class PageModels:
    """The models of the page and the references that answers are compared with.

    Attributes:
        speakers: the generators.
        reader: the energy; `None` without one.
        references: radii of a data set; `None` without an energy or a data set.
        notes: missing parts with the reason, for the page and the terminal.
    """

    speakers: list[Speaker]
    reader: Reader | None = None
    references: ReferenceRadii | None = None
    notes: tuple[str, ...] = ()


def load_page_models(
    models: Sequence[str],
    *,
    energy: str | None = None,
    dataset: str | None = None,
    split: str | None = None,
    reference_queries: int = 1000,
    device: str | None = None,
    trust_remote_code: bool = False,
    progress: bool = True,
) -> PageModels:
    """Loads the generators and the energy, and measures the references. Arguments as in `launch`.

    Args:
        progress: show a bar while references are measured.

    Raises:
        OSError: if a model or the energy does not exist.
        ValueError: for models that are no generators or no energy, an energy of another vocabulary without a tokenizer,
            and a `dataset` that cannot be read. The data set of an evaluation is left out then, with a note.
    """
    if isinstance(models, str) or not len(models):
        raise ValueError(f"`models` must be a list of at least one folder or Hub id, got {models!r}.")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    speakers = _load_speakers(models, device, trust_remote_code)
    place = energy or next(filter(None, map(find_energy, models)), None)
    if place is None:
        note = "No model has an energy in its folder energy/, so no radius is measured: give one with --energy FOLDER."
        return PageModels(speakers, notes=(note,))
    reader = load_reader(place, speakers[0], device)
    source, split, note = (dataset, split or "test", "") if dataset else _evaluated_on(models, split)
    if note:
        return PageModels(speakers, reader, notes=(note,))
    name = f"{Path(source).name}, {split}"
    try:
        grouped = load_pairs(expand_path(source, "dataset"), splits=[split]).grouped[split]
    except (ValueError, OSError) as error:
        if dataset:
            raise
        note = f"Without references: the data set of the evaluation, {name}, cannot be read. {error} Give --dataset."
        return PageModels(speakers, reader, notes=(note,))
    references = measure_references(reader, grouped, name, queries=reference_queries, progress=progress)
    return PageModels(speakers, reader, references)


def find_energy(model: str) -> str | None:
    """The folder of the energy beside a generator, local or from the Hub; `None` where there is none."""
    folder = Path(model).expanduser()
    if not folder.is_dir():
        try:
            folder = Path(snapshot_download(model, allow_patterns=f"{ENERGY}/*"))
        except (OSError, ValueError) as error:  # no connection, and not in the cache
            logger.warning("Whether `%s` has an energy beside it cannot be told: %s", model, error)
            return None
    energy = folder / ENERGY
    return str(energy) if (energy / "config.json").is_file() else None


def load_reader(path: str, speaker: Speaker, device: str = "cpu") -> Reader:
    """An energy with its own tokenizer, or without one with the generator's, if that has the same tokens.

    Args:
        path: folder of the energy.
        speaker: the generator.
        device: device of the energy.

    Raises:
        OSError: if there is no model.
        ValueError: for another type of model, an energy that reads no text, or a tokenizer that is not its own.
    """
    folder = Path(path).expanduser()
    if (
        folder.is_dir()
        and not (folder / "tokenizer.json").is_file()
        and not (folder / "tokenizer_config.json").is_file()
    ):
        energy = load_scorer(DbmModel, folder)
        rows = cast(nn.Embedding, speaker.model.get_input_embeddings()).num_embeddings
        check_same_vocabulary(f"energy `{path}`", energy.config, rows, speaker.tokenizer)
        tokenizer = speaker.tokenizer
    else:
        energy, tokenizer = load_energy(str(folder) if folder.is_dir() else path)
    energy.to(device)  # type: ignore[arg-type]  # the stubs lose `self` in a decorator
    return Reader(path, energy.eval(), tokenizer)


def _load_speakers(models: Sequence[str], device: str, trust_remote_code: bool) -> list[Speaker]:
    ends = Counter(_short(path) for path in models)
    names = [_short(path) if ends[_short(path)] == 1 else str(path) for path in models]
    repeated = [name for name, number in Counter(names).items() if number > 1]
    if repeated:
        raise ValueError(f"Each model can be shown once, got `{repeated[0]}` several times.")
    loaded = [load_generator(path, device=device, trust_remote_code=trust_remote_code) for path in models]
    objectives = [str(_about(path).get("objective", "")) for path in models]
    return [
        Speaker(name, str(path), objective, model, tokenizer)
        for name, path, objective, (model, tokenizer) in zip(names, models, objectives, loaded, strict=True)
    ]


def _short(path: str) -> str:
    folder = Path(path).expanduser()
    return Path(os.path.abspath(folder)).name if folder.is_dir() else str(path)  # a link keeps its own name


def _about(model: str) -> dict[str, Any]:
    """The facts of the evaluation in a model's folder; empty where there is none."""
    try:
        read = json.loads((Path(model).expanduser() / "evaluation.json").read_text(encoding="utf-8"))
        return dict(read["about"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def evaluated_references(path: str) -> list[list[str]]:
    """The references of a model's evaluation, a list for each query; none where its folder has no evaluation."""
    file = Path(path) / "generations.parquet"
    try:
        column = parquet.read_table(file, columns=["references"]).column("references").to_pylist()
    except (OSError, ValueError):  # a model of the Hub, a folder without an evaluation, another file of that name
        return []
    return [[text for text in group if isinstance(text, str)] for group in column if isinstance(group, list)]


def _evaluated_on(models: Sequence[str], split: str | None) -> tuple[str, str, str]:
    """Data set and split of the first model with an evaluation, or a note. A data set on the Hub is not downloaded."""
    evaluated = next((about for about in map(_about, models) if about.get("dataset")), None)
    if evaluated is None:
        return "", "", "Without references: no model says what it was evaluated on. Give --dataset DATA."
    source, split = str(evaluated["dataset"]), split or str(evaluated.get("split") or "test")
    try:
        is_local = source == "smalltalk" or Path(expand_path(source, "dataset")).exists()
    except ValueError:  # an environment variable that is not set
        is_local = False
    if not is_local:
        note = f"Without references: the data set {source} of the evaluation is not here. Give --dataset DATA."
        return "", "", note
    return source, split, ""
