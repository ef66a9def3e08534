"""Scores as they leave the package with a model: the short table of a card, and the Hub's files of results."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, constants, eval_result_entries_to_yaml

from hf_localgan.files import replacing
from hf_localgan.markdown import markdown_table

RESULTS_FOLDER = ".eval_results"
# The package's own file among those of the folder, which may also hold results of other benchmarks.
RESULTS_FILE = f"{RESULTS_FOLDER}/hf-localgan.yaml"


def plus_minus(value: float, low: float | None = None, high: float | None = None) -> str:
    """`20.63 ± 1.09`: the value and half the width of its interval, with as many decimals as the value.

    The value alone stands where there is no interval, and where its ends are equal, which shows nothing.

    Args:
        value: a finite number.
        low, high: ends of the interval; with `None` or NaN there is none.
    """
    decimals = 4 if abs(value) < 1 else 3 if abs(value) < 10 else 2
    text = f"{value:.{decimals}f}"
    if low is None or high is None or math.isnan(low) or math.isnan(high) or low == high:
        return text
    half = (high - low) / 2
    rounded = f"{half:.{decimals}f}"
    return f"{text} ± {rounded if float(rounded) else f'{half:.1g}'}"  # an interval is never shown as none


def _count(value: float, *interval: float) -> str:
    return f"{value:.0f}"


def decodings_table(evaluation: Any) -> list[str]:
    """Lines of a table of the scores under greedy decoding and the widest beam search, a row for each score.

    Args:
        evaluation (`Evaluation`): without either decoding its first one is shown.
    """
    names = [decoding.name for decoding in evaluation.decodings]
    beams = sorted((name for name in names if re.fullmatch(r"beam \d+", name)), key=lambda name: int(name.split()[1]))
    shown = [name for name in names if name == "greedy"] + beams[-1:] or names[:1]
    rows = []
    for metric, title in evaluation.shown.items():
        scores = [evaluation.reports[name].scores.get(metric) for name in shown]
        intervals = [None if score is None or not math.isfinite(score.value) else score.interval for score in scores]
        form = _count if metric in evaluation.counts else plus_minus
        if any(intervals):
            cells = ("" if score is None else form(score.value, score.low, score.high) for score in intervals)
            rows.append((title, *cells))
    return markdown_table(("score", *shown), rows, "<>") if rows else []


def results_table(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of a table of scores, a row each.

    Args:
        results: arguments of `EvalResult`: `metric_name`, `metric_value`, and `metric_args` with an `interval`.
    """
    rows = []
    for result in results:
        interval = (result.get("metric_args") or {}).get("interval", {})
        value = plus_minus(result["metric_value"], interval.get("low"), interval.get("high"))
        rows.append((result["metric_name"], value))
    return markdown_table(("score", "value"), rows, "<>") if rows else []


def write_eval_results(
    folder: str | Path,
    results: Sequence[EvalResult],
    *,
    dataset_id: str | None,
    repo_id: str | None = None,
    report: str = "evaluation.json",
    date: str | None = None,
) -> Path | None:
    """Writes the scores of a card's `model-index` as `.eval_results/hf-localgan.yaml`, or removes that file.

    The Hub reads the files of `.eval_results` for the page of a model and for the leaderboard of a data set that its
    owner registered as a benchmark. An entry has the data set's id, the id of a task and a value; with them go date,
    source, and the interval and the split as notes. The task's id is the score's name in lower case, with an underscore
    for all other signs: `bleu_2_greedy`.

    Args:
        folder: folder of the model. Other files in its `.eval_results` stay as they are.
        results: the scores; without any the file is removed.
        dataset_id: `owner/name` of the data set on the Hub; without one the file is removed, for there is no place that
            the scores could be shown at.
        repo_id: `owner/name` of the model, whose file `report` is the source.
        report: name of the file with all scores.
        date: of the evaluation, in ISO 8601. Without it the Hub takes the commit's.

    Returns:
        The path of the file; `None` where there is none.
    """
    path = Path(folder) / RESULTS_FILE
    if dataset_id is None or not results:
        path.unlink(missing_ok=True)
        if path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()
        return None
    source: dict[str, Any] = {}
    if repo_id is not None and "/" in repo_id:
        source["source_url"] = f"{constants.ENDPOINT}/{repo_id}/blob/main/{report}"
        source["source_name"] = "Scores of all decodings"
    entries = [
        EvalResultEntry(
            dataset_id, task_id(str(result.metric_name)), result.metric_value, result.dataset_revision,
            date=date, notes=_notes(result), **source,
        )
        for result in results
    ]  # fmt: skip
    with replacing(path) as temporary:
        text = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True, width=1000)
        temporary.write_text(text, encoding="utf-8")
    return path


def task_id(name: str) -> str:
    """The id of a benchmark's task for a score: `BLEU-2, greedy` is `bleu_2_greedy`."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _notes(result: EvalResult) -> str:
    arguments = result.metric_args or {}
    notes = [str(result.metric_name)]
    if result.dataset_split is not None:
        notes.append(f"{result.dataset_split} split")
    if interval := arguments.get("interval"):
        notes.append(f"{interval['level']:.0%} interval {interval['low']} to {interval['high']} ({interval['method']})")
    if signature := arguments.get("signature"):
        notes.append(str(signature))
    return "; ".join(notes)
