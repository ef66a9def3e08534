"""Model cards of models that score a response to a query: energies and discriminators."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from hf_localgan.hub.objective import Method, check_method
from hf_localgan.hub.rendering import (
    data_names,
    evaluation_facts,
    existing_folder,
    hub_id,
    interval_settings,
    languages,
    lowered,
    quoted,
    render_card,
)
from hf_localgan.hub.scores import plus_minus, results_table, write_eval_results

TASK = "text-ranking"
# A query, a response to it, and a response to another query.
EXAMPLES = {
    "en": ("How are you?", "I am fine.", "It is on the table."),
    "zh": ("你好吗？", "我很好。", "在桌子上。"),
}


def write_energy_card(
    folder: str | Path,
    *,
    trainer: type[Method],
    report: Mapping[str, Any] | None = None,
    text: str | None = None,
    shape: Mapping[str, Any] | None = None,
    **described: Any,
) -> Path:
    """Writes `README.md` into the folder of a trained energy, a `DbmModel`.

    Args:
        folder: as `DbmTrainer` and `finish_energy_training` left it.
        trainer: class of the trainer, whose `objective` the card states.
        report: content of `energy.json`.
        text: content of `energy.md`.
        shape: content of the energy's `config.json`; without word vectors the example code reads vectors.
        described: see `write_discriminator_card`.

    Returns:
        The path of the card.

    Raises:
        ValueError: for a class without an objective, and a folder that does not exist.
    """
    shape = shape or {}
    results = [] if report is None else _energy_results(report)
    reads_text = shape.get("vocab_size", 0) is not None
    return _write(
        existing_folder(folder, "energy"), "energy_card.md.jinja", trainer, report, results,
        scores_file="energy.json", rival=None if report is None else _rival(report),
        scores=None if text is None else lowered(_without_facts(text, report)), shape=shape, reads_text=reads_text,
        **described,
    )  # fmt: skip


def write_discriminator_card(
    folder: str | Path,
    *,
    trainer: type[Method],
    report: Mapping[str, Any] | None = None,
    text: str | None = None,
    **described: Any,
) -> Path:
    """Writes `README.md` into the folder of a trained `PairDiscriminator`.

    Args:
        folder: as `MatchingTrainer` and `finish_matching` left it.
        trainer: class of the trainer, whose `objective` the card states.
        report: content of `matching.json`.
        text: content of `matching.md`.
        described: `settings`, names and values of the training's settings; `progress`, facts of the training by name;
            `example`, a query, a response to it and a response to another query; and `repo_id`, `license`, `language`,
            `datasets`, `base_model`, `tags`, `stale` as in `write_model_card`.

    Returns:
        The path of the card.

    Raises:
        ValueError: for a class without an objective, and a folder that does not exist.
    """
    results = [] if report is None else _matching_results(report)
    lines = [] if text is None else [line for line in text.splitlines() if line.startswith("|")]
    return _write(
        existing_folder(folder, "discriminator"), "discriminator_card.md.jinja", trainer, report, results,
        scores_file="matching.json", scores="\n".join(lines) or None, **described,
    )  # fmt: skip


def _write(
    folder: Path, template: str, trainer: type[Method], report: Mapping[str, Any] | None, results: list[dict], *,
    scores_file: str,
    settings: Sequence[tuple[str, str]] = (), progress: Mapping[str, Any] | None = None,
    example: Sequence[str] | None = None, repo_id: str | None = None, license: str | None = None,
    language: str | Sequence[str] | None = None, datasets: str | Sequence[str] | None = None,
    base_model: str | None = None, tags: Sequence[str] = (), stale: bool = False, **context: Any,
) -> Path:  # fmt: skip
    name, objective = repo_id or folder.resolve().name, check_method(trainer)
    about = {} if report is None else dict(report["about"])
    data_set, hub_ids = data_names(about.get("dataset"), datasets)
    place: dict[str, Any] = {
        "task_type": TASK, "dataset_type": data_set or "data", "dataset_name": data_set or "data",
        "dataset_split": about.get("split"),
    }  # fmt: skip
    eval_results = [EvalResult(**place, **result) for result in results]
    data = ModelCardData(
        library_name="transformers", tags=list(dict.fromkeys(["hf-localgan", objective.tag, *tags])),
        language=languages(language), license=license, datasets=hub_ids or None, base_model=base_model,
        model_name=name.split("/")[-1] if results else None,
        eval_results=eval_results or None,
    )  # fmt: skip
    code = languages(language)
    examples = (example, EXAMPLES.get(code if isinstance(code, str) else "en", EXAMPLES["en"]))
    query, response, other = next(filter(None, (quoted(*texts) for texts in examples if texts)))
    path = render_card(
        folder, template, data, with_pictures=not stale, name=name, title=name.split("/")[-1],
        objective=objective, trainer=trainer.__name__, data_set=data_set, hub_ids=hub_ids,
        about=evaluation_facts(about, progress), query=query, response=response, other=other,
        settings=list(settings), progress=dict(progress or {}),
        license=license, report=report, brief=results_table(results), **context,
    )  # fmt: skip
    write_eval_results(
        folder, eval_results, dataset_id=hub_id(about.get("dataset")), repo_id=name, report=scores_file,
        date=about.get("date"),
    )  # fmt: skip
    return path


def _energy_results(report: Mapping[str, Any]) -> list[dict]:
    own = report["matching"].get("DBM") or next(iter(report["matching"].values()))
    results = [
        _result("matching_accuracy", "matching by F(q, r) - F(bq, r)", own["difference"]),
        _result("matching_accuracy", "matching by F(q, r)", own["energy"]),
        _result("recall_at_1", f"first of {own['candidates']}", own["recall_at_1"]),
    ]
    likelihood = report["likelihood"].get("DBM")
    if likelihood is not None:
        results.append(_result("log_likelihood", "log-likelihood, nats per pair", likelihood["test"]))
    return [result for result in results if result is not None]


def _rival(report: Mapping[str, Any]) -> tuple[str, str] | None:
    """What a Gaussian over the same vectors reaches, which a card of an energy must not keep silent about.

    Returns:
        Its matching by `F(q, r) - F(bq, r)` and how often it puts the true response first; `None` where neither was
        measured.
    """
    gaussian = report["matching"].get("Gaussian")
    if gaussian is None or None in (gaussian["difference"]["value"], gaussian["recall_at_1"]["value"]):
        return None
    matching, first = (
        plus_minus(*(gaussian[name][key] for key in ("value", "low", "high"))) for name in ("difference", "recall_at_1")
    )
    return matching, f"{first} first of {gaussian['candidates']}"


def _matching_results(report: Mapping[str, Any]) -> list[dict]:
    results = [
        _result("matching_accuracy", "matching", report["matching"]),
        _result("recall_at_1", f"recall@1 of {report['candidates']}", report["recall_at_1"]),
        {"metric_type": "accuracy", "metric_name": "accuracy at logit 0", "metric_value": round(report["accuracy"], 6)},
    ]
    return [result for result in results if result is not None]


def _result(metric: str, name: str, interval: Mapping[str, Any]) -> dict | None:
    if interval["value"] is None or not math.isfinite(interval["value"]):
        return None
    arguments = interval_settings(interval["low"], interval["high"], interval["level"], interval["method"])
    return {
        "metric_type": metric, "metric_name": name, "metric_value": round(interval["value"], 6),
        "metric_args": arguments or None,
    }  # fmt: skip


def _without_facts(text: str, report: Mapping[str, Any] | None) -> str:
    """The report's Markdown without the list of its `about`, which the card shows elsewhere."""
    facts = {f"* {name}: {value}" for name, value in (report or {}).get("about", {}).items()}
    return "\n".join(line for line in text.splitlines() if line not in facts).strip()
