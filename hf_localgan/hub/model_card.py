"""The model card of a trained generator: metadata for the Hub, and all a stranger needs to use and to judge it."""

import math
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from importlib.metadata import version
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import Seq2SeqTrainingArguments

from hf_localgan.files import replacing
from hf_localgan.hub.objectives import find_objective

TEMPLATE = Path(__file__).parent / "templates" / "model_card.md.jinja"
NAME = "README.md"

# Pictures that trainings and evaluations leave, as far as they are there.
PICTURES = {
    "training.png": "Loss over the training.",
    "adversarial_training.png": "Diversity and relevance of the validation answers over the training.",
    "front.png": "Diversity against relevance, this generator and the one it started from.",
    "diversity_relevance.png": "Diversity against relevance over the sampling temperatures.",
    "radii.png": "Distances of answers from the centre of their query's responses.",
}
# What of the framework's settings is told: where the others differ from their defaults they say nothing of the model.
ALWAYS = ("learning_rate", "per_device_train_batch_size", "seed")
OF_TRAINING = (
    "num_train_epochs", "max_steps", "gradient_accumulation_steps", "lr_scheduler_type", "warmup_steps", "optim",
    "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "label_smoothing_factor", "bf16",
    "fp16", "load_best_model_at_end", "metric_for_best_model", "train_sampling_strategy",
)  # fmt: skip
# Fields of the package's own that say nothing of the model either.
NOT_TOLD = ("report_to", "sample_rows", "sample_max_new_tokens", "fast_loss")
LIBRARIES = ("hf-localgan", "transformers", "torch", "datasets", "tokenizers")
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def write_model_card(
    folder: str | Path,
    *,
    objective: str,
    evaluation=None,
    args=None,
    samples: Sequence[Mapping[str, str]] | None = None,
    sections: Mapping[str, str] | None = None,
    repo_id: str | None = None,
    license: str | None = None,
    language: str | None = None,
    datasets: str | Sequence[str] | None = None,
    base_model: str | None = None,
) -> Path:
    """Writes `README.md` into the folder of a trained generator.

    What is not there is left out: scores without an evaluation, settings without arguments, pictures that the folder
    does not hold.

    Args:
        folder: of the generator, as `trainer.save_model()` and the end of a training left it.
        objective: "maximum likelihood", "RAML", "expected reward", "GAN-AEL" or "LocalGAN", in any case.
        evaluation (`Evaluation`): scores on the test split; its `about` names the data.
        args: of the trainer; those settings are told that differ from their defaults.
        samples: rows of the sample table, all with the same columns; by default queries, references and greedy answers
            of the evaluation.
        sections: further Markdown by title, below the scores; its own headings are set one level lower.
        repo_id: `owner/name` on the Hub, by which the example code loads the generator; by default `args.hub_model_id`,
            or the folder's name.
        license: identifier of the Hub, of the weights. Only who knows the data's licence can say it.
        language: `en`, `zh`, or the package's `zh-words`.
        datasets: ids on the Hub; by default the evaluation's data set, where that is such an id.
        base_model: id on the Hub of what the generator was fine-tuned from.

    Returns:
        The file.

    Raises:
        ValueError: for an objective that is not known, and a folder that is not there.
    """
    folder, found = Path(folder), find_objective(objective)
    if not folder.is_dir():
        raise ValueError(
            f'There is no folder "{folder}" to describe. Save the generator first: `trainer.save_model()`.'
        )
    name = repo_id or getattr(args, "hub_model_id", None) or folder.resolve().name
    about = {} if evaluation is None else dict(evaluation.about)
    data_set, hub_ids = _data_set(about.get("dataset"), datasets)
    query, response = _example(evaluation)
    results = _results(evaluation, data_set)
    card = ModelCard.from_template(
        ModelCardData(
            library_name="transformers", pipeline_tag="text2text-generation", tags=["hf-localgan", found.tag],
            language=None if language is None else language.removesuffix("-words"), license=license,
            datasets=hub_ids or None, base_model=base_model,
            model_name=name.split("/")[-1] if results else None, eval_results=results or None,
        ),
        template_str=TEMPLATE.read_text(encoding="utf-8"),
        name=name, title=name.split("/")[-1], objective=found, data_set=data_set, hub_ids=hub_ids, about=_told(about),
        query=query, response=response, scores=None if evaluation is None else _scores_table(evaluation),
        sections={title: _lowered(text) for title, text in (sections or {}).items()},
        pictures={file: text for file, text in PICTURES.items() if (folder / file).is_file()},
        samples=_samples_table(samples or _samples(evaluation)),
        settings=[] if args is None else changed_settings(args),
        parts=[part for part in ("discriminator", "energy", "start") if (folder / part).is_dir()],
        files=[file for file in ("evaluation.json", "adversarial.json") if (folder / file).is_file()],
        versions={"python": platform.python_version()} | {one: version(one) for one in LIBRARIES if _installed(one)},
    )  # fmt: skip
    card.text = re.sub(r"\n{3,}", "\n\n", card.text)  # of parts that were left out
    with replacing(folder / NAME) as path:
        path.write_text(str(card).rstrip() + "\n", encoding="utf-8")
    return folder / NAME


def changed_settings(args) -> list[tuple[str, str]]:
    """Names and values of what a trainer was told: the package's own fields and the framework's that shape a training.

    Learning rate, batch and seed are always there, the others where they differ from their defaults; folders, tokens
    and the like never are.

    Args:
        args: a configuration of this package.

    Raises:
        ValueError: for something else than a dataclass.
    """
    if not is_dataclass(args):
        raise ValueError(f"`args` must be a trainer's configuration such as `MleConfig`, got {args!r}.")
    framework = {one.name for one in fields(Seq2SeqTrainingArguments)}
    told = []
    for one in fields(args):
        value = getattr(args, one.name)
        value = getattr(value, "value", value)  # of an enumeration
        own = one.name not in framework and one.name not in NOT_TOLD
        if one.name in ALWAYS or ((own or one.name in OF_TRAINING) and value != _default(one)):
            told.append((one.name, str(value)))
    if getattr(args, "world_size", 1) > 1:
        told.append(("processes", str(args.world_size)))
    return told


def _default(one):
    if one.default is not MISSING:
        return getattr(one.default, "value", one.default)
    return None if one.default_factory is MISSING else one.default_factory()


def _data_set(told: str | None, datasets: str | Sequence[str] | None) -> tuple[str | None, list[str]]:
    """The data set's name, without folders of this machine, and its ids on the Hub."""
    if told is not None and HUB_ID.fullmatch(told) and not Path(told).exists():
        name, ids = told, [told]
    else:
        name, ids = None if told is None else Path(told).stem, []
    if datasets is not None:
        ids = [datasets] if isinstance(datasets, str) else list(datasets)
    return name or next(iter(ids), None), ids


def _told(about: Mapping[str, Any]) -> dict[str, Any]:
    """What an evaluation says of itself, without what the card says elsewhere."""
    return {key: value for key, value in about.items() if key not in ("model", "dataset", "objective", "seed")}


def _results(evaluation, data_set: str | None) -> list[EvalResult]:
    """The searches' scores for the `model-index`; sampling depends on a seed and stays in the text."""
    if evaluation is None:
        return []
    place = {
        "task_type": "text2text-generation",
        "dataset_type": data_set or "data",
        "dataset_name": data_set or "data",
        "dataset_split": evaluation.about.get("split"),
    }
    results = []
    for decoding in evaluation.decodings:
        if decoding.temperature is not None:
            continue
        for metric, title in evaluation.shown.items():
            score = evaluation.reports[decoding.name].scores.get(metric)
            if score is not None and math.isfinite(score.value):
                settings = {"metric_type": metric, "metric_value": round(score.value, 6)}
                results.append(EvalResult(**place, **settings, metric_name=f"{title}, {decoding.name}"))
    perplexity = evaluation.about.get("perplexity")
    if perplexity is not None and math.isfinite(perplexity):
        results.append(
            EvalResult(**place, metric_type="perplexity", metric_value=perplexity, metric_name="perplexity per token")
        )
    return results


def _scores_table(evaluation) -> list[str]:
    """The first table of the evaluation's own Markdown."""
    lines = evaluation.to_markdown(rows=1).splitlines()
    return [*takewhile(lambda line: line.startswith("|"), dropwhile(lambda line: not line.startswith("|"), lines))]


def _samples(evaluation, rows: int = 10) -> list[dict[str, str]]:
    """Evenly spaced queries with a reference and the first decoding's answer."""
    if evaluation is None:
        return []
    rows, decoding = min(rows, len(evaluation.queries)), evaluation.decodings[0].name
    chosen = [index * len(evaluation.queries) // rows for index in range(rows)]
    return [
        dict(
            zip(
                (*evaluation.columns, f"answer, {decoding}"),
                (evaluation.queries[row], evaluation.references[row][0], evaluation.answers[decoding][row]),
                strict=True,
            )
        )
        for row in chosen
    ]


def _samples_table(samples: Sequence[Mapping[str, str]]) -> list[str]:
    if not samples:
        return []
    columns = list(samples[0])
    return [_row(columns), "| --- " * len(columns) + "|", *(_row(one[column] for column in columns) for one in samples)]


def _row(cells) -> str:
    """A line of a table of texts; what Markdown or HTML would take for a sign of its own is shown as it is."""
    shown = (re.sub(r"([\\|`*_<>\[\]])", r"\\\1", " ".join(cell.split())) for cell in cells)
    return "| " + " | ".join(shown) + " |"


def _example(evaluation) -> tuple[str, str]:
    """A query and a response to it for the example code, as Python writes them."""
    if evaluation is not None:
        for query, references in zip(evaluation.queries, evaluation.references, strict=True):
            if "```" not in query + references[0]:  # which would end the code
                return repr(query), repr(references[0])
    return repr("How are you?"), repr("Fine, thanks.")


def _lowered(text: str) -> str:
    return re.sub(r"^#", "##", text, flags=re.MULTILINE)


def _installed(library: str) -> bool:
    try:
        version(library)
    except ImportError:  # the package may be on the path without being installed
        return False
    return True
