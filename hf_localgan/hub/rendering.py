"""Rendering model cards: the templates, the pictures of a folder, and the texts that all cards share."""

import hashlib
import platform
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from jinja2 import Environment, FileSystemLoader

from hf_localgan.files import replacing

TEMPLATES = Path(__file__).parent / "templates"
NAME = "README.md"
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
LIBRARIES = ("hf-localgan", "transformers", "torch", "datasets", "tokenizers", "huggingface_hub")

# Pictures that trainings and evaluations write, with their captions.
PICTURES = {
    "training.png": "The course of the training.",
    "attention.png": "The decoder's attention for each token of some references.",
    "adversarial_training.png": "Diversity and relevance of the validation answers over the training.",
    "front.png": "Diversity against relevance, this generator and the one it started from.",
    "diversity_relevance.png": "Diversity against relevance over the sampling temperatures.",
    "radii.png": "Distances of answers from the centre of their query's responses.",
    "energy_histograms.png": "Radii of true and of other responses, and of noise, in nats.",
    "energy_gap.png": "The gap between a cluster's energy and its centre's, against its size and its spread.",
    "energy_clusters.png": "Radii around some queries' centres, in the plane of their responses' principal axes.",
}


def render_card(
    folder: Path, template: str, data: ModelCardData, *, with_pictures: bool = True, **context: Any
) -> Path:
    """Renders a template of the package, and writes `README.md` into the folder, whole or not at all.

    Args:
        folder: of the model.
        template: name of the template.
        data: the metadata.
        with_pictures: show the pictures in the folder.
        context: variables of the template, beside the pictures and the versions of this environment.

    Returns:
        The path of the card.
    """
    environment = Environment(loader=FileSystemLoader(TEMPLATES))
    content = environment.get_template(template).render(
        card_data=data.to_yaml(),
        pictures={file: text for file, text in PICTURES.items() if with_pictures and (folder / file).is_file()},
        versions={"python": platform.python_version()}
        | {name: version(name) for name in LIBRARIES if _installed(name)},
        **context,
    )
    card = ModelCard(content)
    card.text = re.sub(r"\n{3,}", "\n\n", card.text)  # left by parts without content
    with replacing(folder / NAME) as path:
        path.write_text(str(card).rstrip() + "\n", encoding="utf-8")
    return folder / NAME


def existing_folder(folder: str | Path, content: str) -> Path:
    """The folder as a path.

    Args:
        folder: of a model.
        content: "generator", "energy" or "discriminator", for the error.

    Raises:
        ValueError: if there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(
            f'There is no folder "{folder}" to describe. Save the {content} first: `trainer.save_model()`.'
        )
    return folder


def languages(language: str | Sequence[str] | None) -> str | list[str] | None:
    """Codes for the metadata: `zh` for the package's `zh-words`."""
    if language is None or isinstance(language, str):
        return None if language is None else language.removesuffix("-words")
    return [code.removesuffix("-words") for code in language]


def hub_id(dataset: str | None) -> str | None:
    """The data set's id on the Hub; `None` for a file or folder of this machine and for a name of the package's."""
    return dataset if dataset is not None and HUB_ID.fullmatch(dataset) and not Path(dataset).exists() else None


def data_names(dataset: str | None, datasets: str | Sequence[str] | None) -> tuple[str | None, list[str]]:
    """The data set's name, without folders of this machine, and its ids on the Hub.

    Args:
        dataset: name, path or id from an evaluation.
        datasets: ids on the Hub, which win over `dataset`.
    """
    name: str | None = hub_id(dataset)
    if name is not None:
        ids = [name]
    else:
        name, ids = None if dataset is None else Path(dataset).stem, []
    if datasets is not None:
        ids = [datasets] if isinstance(datasets, str) else list(datasets)
    return name or next(iter(ids), None), ids


def evaluation_facts(about: Mapping[str, Any], progress: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The facts that identify an evaluation, except those that a card states elsewhere or in `progress`."""
    elsewhere = ["model", "dataset", "objective", "seed", "weights"]
    if progress:
        elsewhere += ["step", "best_step", "last_evaluated_step"]
    known = {key.replace(" ", "_") for key in progress or ()}
    return {key: value for key, value in about.items() if key not in elsewhere and key not in known}


def interval_settings(
    low: float | None, high: float | None, level: float, method: str, **arguments: Any
) -> dict[str, Any]:
    """Arguments of a metric in the Hub's metadata, with its interval, for which the metadata have no field.

    Args:
        low, high: ends of the interval; with `None` or NaN there is none.
        level, method: of the interval.
        arguments: further ones of the metric.
    """
    if low is None or high is None or low != low or high != high:
        return arguments
    return {"interval": {"low": round(low, 6), "high": round(high, 6), "level": level, "method": method}, **arguments}


def quoted(*texts: str) -> list[str] | None:
    """Texts as Python literals for example code; `None` where one of them would end the block of code."""
    return None if any("```" in text for text in texts) else [repr(text) for text in texts]


def lowered(text: str) -> str:
    """Markdown with its headings one level lower."""
    return re.sub(r"^#", "##", text, flags=re.MULTILINE)


def weights_digest(folder: str | Path) -> str | None:
    """SHA-256 of the weights directly in a folder, the first 16 digits; `None` where there are none.

    It shows whether the scores beside weights are scores of these weights.
    """
    digest, files = hashlib.sha256(), sorted(Path(folder).glob("*model*.safetensors"))
    for path in files:
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:16] if files else None


def _installed(library: str) -> bool:
    try:
        version(library)
    except ImportError:  # the package may be on the path without being installed
        return False
    return True
