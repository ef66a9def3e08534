"""What the page needs, read once at its start: generators, an energy with its tokenizer, radii of references."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from hf_localgan.data import load_pairs
from hf_localgan.data.vocabulary import check_same_vocabulary, vocabulary_fingerprint
from hf_localgan.demo.references import Reader, ReferenceRadii, measure_references
from hf_localgan.models import DbmModel
from hf_localgan.models.loading import load_generator
from hf_localgan.recipes.parser import expand_path
from hf_localgan.recipes.parts import load_energy

ENERGY = "energy"  # folder of the energy in an output of LocalGAN's trainer


@dataclass(frozen=True)
class Speaker:
    """A generator on the page.

    Attributes:
        name: as the page shows it.
        path: folder or Hub id.
        objective: what it was trained for, as its evaluation says; may be empty.
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
    """All that the page works with.

    Attributes:
        speakers: the generators.
        reader: the energy; `None` without one.
        references: of the data set; `None` without an energy or a data set.
        notes: what is not there and why, for the page and the terminal.
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
    """Loads everything. Arguments as `launch`.

    Raises:
        OSError: if a model or the energy is not there.
        ValueError: for what is no generator or no energy, an energy of another vocabulary that brings no tokenizer, and
            a data set that was named and cannot be read. One that was not named is left out with a note.
    """
    if isinstance(models, str) or not len(models):
        raise ValueError(f"`models` must be a list of at least one folder or Hub id, got {models!r}.")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    speakers = _load_speakers(models, device, trust_remote_code)
    place = energy or next(filter(None, map(find_energy, models)), None)
    if place is None:
        note = (
            "No model has an energy in its folder `energy/`, so no radius is measured: give one with `--energy FOLDER`."
        )
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
        note = f"Without references: the data set of the evaluation, {name}, cannot be read. {error} Give `--dataset`."
        return PageModels(speakers, reader, notes=(note,))
    references = measure_references(reader, grouped, name, queries=reference_queries, progress=progress)
    return PageModels(speakers, reader, references)


def find_energy(model: str) -> str | None:
    """The folder of the energy that a generator brings along, local or on the Hub; `None` where there is none."""
    folder = Path(model).expanduser()
    if not folder.is_dir():
        try:
            folder = Path(snapshot_download(model, allow_patterns=f"{ENERGY}/*"))
        except (OSError, ValueError):  # not there, or no connection and not there from before
            return None
    found = folder / ENERGY
    return str(found) if (found / "config.json").is_file() else None


def load_reader(path: str, speaker: Speaker, device: str = "cpu") -> Reader:
    """An energy with its own tokenizer; one that has none reads with the generator's, if that has the same tokens.

    Args:
        path: folder of the energy.
        speaker: the generator.
        device: where the energy goes.

    Raises:
        OSError: if there is none.
        ValueError: for another kind of model, an energy that reads no text, or a tokenizer that is not its own.
    """
    folder = Path(path).expanduser()
    if (
        folder.is_dir()
        and not (folder / "tokenizer.json").is_file()
        and not (folder / "tokenizer_config.json").is_file()
    ):
        energy = AutoModel.from_pretrained(str(folder))
        if not isinstance(energy, DbmModel):
            raise ValueError(f'"{path}" holds a {type(energy).__name__}, and no energy model.')
        rows = speaker.model.get_input_embeddings().num_embeddings
        check_same_vocabulary(f"energy `{path}`", energy.config, rows, speaker.tokenizer)
        tokenizer = speaker.tokenizer
    else:
        energy, tokenizer = load_energy(str(folder) if folder.is_dir() else path)
        _check_own_tokenizer(path, energy, tokenizer)
    return Reader(path, energy.to(device).eval(), tokenizer)


def _check_own_tokenizer(path: str, energy: DbmModel, tokenizer: PreTrainedTokenizerBase):
    known, made_for = energy.config.vocab_size, energy.config.vocabulary
    if len(tokenizer) > known or (made_for is not None and made_for != vocabulary_fingerprint(tokenizer)):
        raise ValueError(
            f"The tokenizer in `{path}` ({len(tokenizer):,} tokens) is not the one that its energy was made with "
            f"({known:,} tokens). Put the energy's own tokenizer there."
        )


def _load_speakers(models: Sequence[str], device: str, trust_remote_code: bool) -> list[Speaker]:
    ends = Counter(_short(path) for path in models)
    names = [_short(path) if ends[_short(path)] == 1 else str(path) for path in models]
    repeated = [name for name, number in Counter(names).items() if number > 1]
    if repeated:
        raise ValueError(f"Each model can be shown once, got `{repeated[0]}` several times.")
    loaded = [load_generator(path, device=device, trust_remote_code=trust_remote_code) for path in models]
    objectives = [str(_about(path).get("objective", "")) for path in models]
    return [Speaker(*one) for one in zip(names, map(str, models), objectives, *zip(*loaded, strict=True), strict=True)]


def _short(path: str) -> str:
    folder = Path(path).expanduser()
    return Path(os.path.abspath(folder)).name if folder.is_dir() else str(path)  # of a link its own name


def _about(model: str) -> dict:
    """What the evaluation of a folder says about itself; nothing where there is none."""
    try:
        read = json.loads((Path(model).expanduser() / "evaluation.json").read_text(encoding="utf-8"))
        return dict(read["about"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _evaluated_on(models: Sequence[str], split: str | None) -> tuple[str, str, str]:
    """Data set and split of the first evaluation found, or a note. A data set on the Hub has to be asked for."""
    found = next((about for about in map(_about, models) if about.get("dataset")), None)
    if found is None:
        return "", "", "Without references: no model says what it was evaluated on. Give `--dataset DATA`."
    source, split = str(found["dataset"]), split or str(found.get("split") or "test")
    try:
        here = source == "smalltalk" or Path(expand_path(source, "dataset")).exists()
    except ValueError:  # an environment variable that is not set
        here = False
    if not here:
        return (
            "",
            "",
            f"Without references: the data set {source} of the evaluation is not here. Give `--dataset DATA`.",
        )
    return source, split, ""
