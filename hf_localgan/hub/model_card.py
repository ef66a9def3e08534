"""Model cards of generators and recognisers: metadata for the Hub, and what a stranger needs to use and judge them."""

import math
from collections.abc import Mapping, Sequence
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import EvalResult, ModelCardData

from hf_localgan.hub.citations import LISTEN_ATTEND_AND_SPELL
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
from hf_localgan.hub.scores import decodings_table, write_eval_results
from hf_localgan.hub.settings import changed_settings
from hf_localgan.markdown import markdown_table

EXAMPLE = ("How are you?", "Fine, thanks.")


class _Role(NamedTuple):
    """What cards say of all models of a role: the task on the Hub, the template, and the architecture's papers."""

    task: str
    template: str
    citations: tuple[str, ...] = ()


ROLES = {
    "generator": _Role("text2text-generation", "model_card.md.jinja"),
    "recogniser": _Role("automatic-speech-recognition", "recogniser_card.md.jinja", (LISTEN_ATTEND_AND_SPELL,)),
}


def write_model_card(
    folder: str | Path,
    *,
    trainer: type[Method],
    evaluation: Any = None,
    args: Any = None,
    settings: Sequence[tuple[str, str]] | None = None,
    progress: Mapping[str, Any] | None = None,
    example: tuple[str, str] | None = None,
    samples: Sequence[Mapping[str, str]] | None = None,
    sections: Mapping[str, str] | None = None,
    repo_id: str | None = None,
    license: str | None = None,
    language: str | Sequence[str] | None = None,
    datasets: str | Sequence[str] | None = None,
    base_model: str | None = None,
    tags: Sequence[str] = (),
    stale: bool = False,
) -> Path:
    """Writes `README.md` into the folder of a trained generator or recogniser.

    The card begins with use, scores under greedy decoding and beam search, and limits; all else is folded. Missing
    parts are left out: scores without an evaluation, settings without arguments, pictures that the folder does not
    hold. Intervals stand in the tables of the text and, as the metadata have no field for them, among the arguments of
    each metric of the `model-index`. Where the evaluated data set is one of the Hub, `.eval_results/hf-localgan.yaml`
    beside the card holds the same scores, see `write_eval_results`.

    Args:
        folder: the model's, as `trainer.save_model()` and the end of a training left it. It may hold the adapters of a
            PEFT model instead.
        trainer: class of the trainer, such as `RamlTrainer`, whose `objective` and `part_roles` the card states, and
            whose `role` says which card it is.
        evaluation (`Evaluation`): scores on the test split; its `about` names the data.
        args: the trainer's configuration; the card lists settings that differ from their defaults.
        settings: names and values to list instead, see `changed_settings`.
        progress: facts of the training by name, such as steps and validation scores.
        example: a query and a response for the example code; by default the evaluation's first ones.
        samples: rows of the sample table, all with the same columns; by default queries, references and greedy answers
            or transcripts of the evaluation.
        sections: further Markdown by title, below the scores; its own headings are set one level lower.
        repo_id: `owner/name` on the Hub, by which the example code loads the model; by default `args.hub_model_id`,
            or the folder's name.
        license: the Hub's identifier of the weights' licence. Only who knows the data's licence can say it.
        language: `en`, `zh`, or the package's `zh-words`; several for a translator.
        datasets: ids on the Hub; by default the evaluation's data set, where that is such an id.
        base_model: id on the Hub of the model that this one was fine-tuned from.
        tags: further tags on the Hub.
        stale: scores and pictures in the folder belong to other weights, and are not shown.

    Returns:
        The path of the card.

    Raises:
        ValueError: for a class without an objective or of another role, and a folder that does not exist.
    """
    objective = check_method(trainer)
    if trainer.role not in ROLES:
        raise ValueError(f"`{trainer.__name__}` trains no generator or recogniser; its role is `{trainer.role}`.")
    role, folder = ROLES[trainer.role], existing_folder(folder, trainer.role)
    objective = objective._replace(citations=objective.citations + role.citations)
    name = repo_id or getattr(args, "hub_model_id", None) or folder.resolve().name
    about = {} if evaluation is None else dict(evaluation.about)
    data_set, hub_ids = data_names(about.get("dataset"), datasets)
    query, response = _example(evaluation, example)
    results = _results(evaluation, data_set, role.task)
    adapter = (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file()
    tags = ["hf-localgan", objective.tag, *(["lora"] if adapter else []), *tags]
    data = ModelCardData(
        library_name="peft" if adapter else "transformers", pipeline_tag=role.task,
        tags=list(dict.fromkeys(tags)), language=languages(language), license=license, datasets=hub_ids or None,
        base_model=base_model, model_name=name.split("/")[-1] if results else None, eval_results=results or None,
    )  # fmt: skip
    path = render_card(
        folder, role.template, data, with_pictures=not stale,
        name=name, title=name.split("/")[-1], objective=objective, trainer=trainer.__name__,
        data_set=data_set, hub_ids=hub_ids,
        about=evaluation_facts(about, progress), query=query, response=response,
        brief=[] if evaluation is None else decodings_table(evaluation), verdict=verdict(sections or {}),
        scores=None if evaluation is None else _scores_table(evaluation),
        sections={title: lowered(text) for title, text in (sections or {}).items()},
        samples=_samples_table(samples or _samples(evaluation)), license=license, adapter=adapter,
        base_model=base_model,
        settings=settings if settings is not None else [] if args is None else changed_settings(args),
        progress=dict(progress or {}),
        parts=_parts(folder, trainer, stale),
        files=[file for file in ("evaluation.json", "adversarial.json") if (folder / file).is_file()],
    )  # fmt: skip
    write_eval_results(folder, results, dataset_id=hub_id(about.get("dataset")), repo_id=name, date=about.get("date"))
    return path


def verdict(sections: Mapping[str, str]) -> str | None:
    """What an adversarial training's comparison with its start comes to, in one sentence that stands unfolded.

    Args:
        sections: Markdown by title; `AdversarialReport.summary` has the sentence among its lines.
    """
    lines = (line for text in sections.values() for line in text.splitlines())
    sentence = next((line for line in lines if line.startswith("The front lies ")), None)
    start = "Beside the generator that the training began with, in diversity against relevance, the"
    return None if sentence is None else sentence.replace("The", start, 1)


def _parts(folder: Path, trainer: type[Method], stale: bool) -> dict[str, str]:
    """The folders beside the generator, with the role of each."""
    roles = dict(trainer.part_roles) | ({} if stale else {"start": "the scores of the generator it started from"})
    return {name: role for name, role in roles.items() if (folder / name).is_dir()}


def _results(evaluation: Any, data_set: str | None, task: str) -> list[EvalResult]:
    """The searches' scores for the `model-index`; sampling depends on a seed and stays in the text."""
    if evaluation is None:
        return []
    place = {
        "task_type": task,
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
                interval = score.interval
                arguments = interval_settings(
                    interval.low, interval.high, interval.level, interval.method, signature=score.signature
                )
                settings = {"metric_type": metric, "metric_value": round(score.value, 6), "metric_args": arguments}
                results.append(EvalResult(**place, **settings, metric_name=f"{title}, {decoding.name}"))
    perplexity = evaluation.about.get("perplexity")
    if perplexity is not None and math.isfinite(perplexity):
        results.append(
            EvalResult(**place, metric_type="perplexity", metric_value=perplexity, metric_name="perplexity per token")
        )
    return results


def _scores_table(evaluation: Any) -> list[str]:
    """The first table of the evaluation's own Markdown."""
    lines = evaluation.to_markdown(rows=1).splitlines()
    return [*takewhile(lambda line: line.startswith("|"), dropwhile(lambda line: not line.startswith("|"), lines))]


def _samples(evaluation: Any, rows: int = 10) -> list[dict[str, str]]:
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
    """Lines of a table; all samples have the columns of the first one."""
    if not samples:
        return []
    columns = list(samples[0])
    return markdown_table(columns, [[sample[column] for column in columns] for sample in samples])


def _example(evaluation: Any, example: tuple[str, str] | None) -> list[str]:
    """A query and a response to it for the example code, as Python literals."""
    pairs = [example] if example else []
    if evaluation is not None:
        pairs += [(query, group[0]) for query, group in zip(evaluation.queries, evaluation.references, strict=True)]
    return next(filter(None, (quoted(*pair) for pair in [*pairs, EXAMPLE])))
