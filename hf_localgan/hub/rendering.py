"""What all model cards share: the environment of their templates, what a folder holds, texts as Markdown shows them."""

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

# Pictures that trainings and evaluations leave, as far as they are there.
PICTURES = {
    "training.png": "The course of the training.",
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
        template: its name.
        data: the metadata.
        with_pictures: show those in the folder.
        context: what the template shows, beside the folder's pictures and the versions of this environment.

    Returns:
        The file.
    """
    environment = Environment(loader=FileSystemLoader(TEMPLATES))
    content = environment.get_template(template).render(
        card_data=data.to_yaml(),
        pictures={file: text for file, text in PICTURES.items() if with_pictures and (folder / file).is_file()},
        versions={"python": platform.python_version()} | {one: version(one) for one in LIBRARIES if _installed(one)},
        **context,
    )
    card = ModelCard(content)
    card.text = re.sub(r"\n{3,}", "\n\n", card.text)  # of parts that were left out
    with replacing(folder / NAME) as path:
        path.write_text(str(card).rstrip() + "\n", encoding="utf-8")
    return folder / NAME


def existing_folder(folder: str | Path, what: str) -> Path:
    """The folder as a path.

    Raises:
        ValueError: if it is not there.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f'There is no folder "{folder}" to describe. Save the {what} first: `trainer.save_model()`.')
    return folder


def languages(language: str | Sequence[str] | None) -> str | list[str] | None:
    """Codes for the metadata: `zh` for the package's `zh-words`."""
    if language is None or isinstance(language, str):
        return None if language is None else language.removesuffix("-words")
    return [one.removesuffix("-words") for one in language]


def data_names(told: str | None, datasets: str | Sequence[str] | None) -> tuple[str | None, list[str]]:
    """The data set's name, without folders of this machine, and its ids on the Hub."""
    if told is not None and HUB_ID.fullmatch(told) and not Path(told).exists():
        name, ids = told, [told]
    else:
        name, ids = None if told is None else Path(told).stem, []
    if datasets is not None:
        ids = [datasets] if isinstance(datasets, str) else list(datasets)
    return name or next(iter(ids), None), ids


def told(about: Mapping[str, Any], progress: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What an evaluation says of itself, without what a card says elsewhere, in `progress` among others."""
    elsewhere = ["model", "dataset", "objective", "seed", "weights"]
    if progress:
        elsewhere += ["step", "best_step", "last_evaluated_step"]
    known = {key.replace(" ", "_") for key in progress or ()}
    return {key: value for key, value in about.items() if key not in elsewhere and key not in known}


def interval_settings(low: float | None, high: float | None, level: float, method: str, **more: Any) -> dict[str, Any]:
    """How the Hub's metadata hold an interval, for which they have no field: among the metric's arguments."""
    if low is None or high is None or low != low or high != high:
        return dict(more)
    return {"interval": {"low": round(low, 6), "high": round(high, 6), "level": level, "method": method}, **more}


def quoted(*texts: str) -> list[str] | None:
    """Texts as Python writes them, for example code; `None` where one of them would end the code."""
    return None if any("```" in text for text in texts) else [repr(text) for text in texts]


def lowered(text: str) -> str:
    """Markdown with its headings one level lower."""
    return re.sub(r"^#", "##", text, flags=re.MULTILINE)


def weights_digest(folder: str | Path) -> str | None:
    """SHA-256 of the weights right inside a folder, the first 16 digits; `None` where there are none.

    Says whether scores that lie beside weights are theirs.
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
