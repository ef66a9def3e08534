"""Finished evaluations, read for model cards."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_localgan.decoding.answers import Decoding
from hf_localgan.evaluation.dialogue import Evaluation
from hf_localgan.evaluation.recognition import RecognitionEvaluation
from hf_localgan.evaluation.runs import Run, stored_interval
from hf_localgan.evaluation.translation import TranslationEvaluation
from hf_localgan.metrics import Score, ScoreReport

START = "start"


def stored_evaluation(folder: str | Path) -> Evaluation:
    """The evaluation that `Evaluation.write` wrote, without the scores per query, which only paired tests need.

    Raises:
        ValueError: if a file is missing, damaged or no evaluation.
    """
    run = Run.read(Path(folder))
    classes = {evaluation.kind: evaluation for evaluation in (Evaluation, TranslationEvaluation, RecognitionEvaluation)}
    if run.kind not in classes:
        raise ValueError(f'"{folder}" holds an evaluation of `{run.kind}`; known are {", ".join(classes)}.')
    decodings = [Decoding(name, entry["generate"], run.temperature(name)) for name, entry in run.decodings.items()]
    return classes[run.kind](
        run.about, run.answers["query"], run.answers["references"],
        {name: _report(entry) for name, entry in run.decodings.items()},
        None if run.references is None else _report(run.references),
        {decoding.name: run.answers[decoding.name] for decoding in decodings}, decodings,
        {name: entry.get("seconds", 0.0) for name, entry in run.decodings.items()},
    )  # fmt: skip


def stored_comparison(folder: str | Path, rows: int = 12) -> tuple[str, list[dict[str, str]]] | None:
    """The comparison with the start on an adversarial training's card: `AdversarialReport.summary` and its samples.

    Args:
        folder: as `finish_adversarial_training` left it.
        rows: number of rows of the sample table.

    Returns:
        Markdown, and evenly spaced queries with a reference, the start's and the trained generator's answers; `None`
        where the folder holds no such report.

    Raises:
        ValueError: if a file of either evaluation is missing or damaged.
    """
    folder = Path(folder)
    if not all((folder / name).is_file() for name in ("adversarial.json", "adversarial.md")):
        return None
    objective = json.loads((folder / "adversarial.json").read_text(encoding="utf-8"))["objective"]
    trained, start = Run.read(folder), Run.read(folder / START)
    samplings = [f"## Scores: {name}" for name in trained.decodings if trained.temperature(name) is not None]
    _, *sections = (folder / "adversarial.md").read_text(encoding="utf-8").split("\n## ")
    left_out = (*samplings, "## Sample responses, greedy")
    kept = [f"## {section}" for section in sections if f"## {section}".splitlines()[0] not in left_out]
    name = "greedy" if "greedy" in trained.decodings else next(iter(trained.decodings))
    queries, references = trained.answers["query"], trained.answers["references"]
    rows = min(rows, len(queries))
    samples = [
        {
            "query": queries[index], "a reference": references[index][0], "start": start.answers[name][index],
            objective: trained.answers[name][index],
        }
        for index in (row * len(queries) // rows for row in range(rows))
    ]  # fmt: skip
    return "\n".join(section.rstrip("\n") + "\n" for section in kept), samples


def _report(entry: Mapping[str, Any]) -> ScoreReport:
    scores = {name: Score(stored_interval(score), score["signature"]) for name, score in entry["scores"].items()}
    return ScoreReport(scores, entry.get("queries", 0), entry.get("notes", {}))
