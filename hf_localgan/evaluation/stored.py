"""Finished evaluations read back whole, for model cards."""

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
    """The evaluation that `Evaluation.write` wrote, without what only tests between systems need.

    Raises:
        ValueError: if a file is missing, damaged or something else.
    """
    run = Run.read(Path(folder))
    kinds = {one.kind: one for one in (Evaluation, TranslationEvaluation, RecognitionEvaluation)}
    if run.kind not in kinds:
        raise ValueError(f'"{folder}" holds an evaluation of `{run.kind}`; known are {", ".join(kinds)}.')
    decodings = [Decoding(name, one["generate"], run.temperature(name)) for name, one in run.decodings.items()]
    return kinds[run.kind](
        run.about, run.answers["query"], run.answers["references"],
        {name: _report(one) for name, one in run.decodings.items()},
        None if run.references is None else _report(run.references),
        {one.name: run.answers[one.name] for one in decodings}, decodings,
        {name: one.get("seconds", 0.0) for name, one in run.decodings.items()},
    )  # fmt: skip


def stored_comparison(folder: str | Path, rows: int = 12) -> tuple[str, list[dict[str, str]]] | None:
    """What an adversarial training's card shows beside its scores: `AdversarialReport.summary` and its samples.

    Args:
        folder: as `finish_adversarial_training` left it.
        rows: of the sample table.

    Returns:
        Markdown, and evenly spaced queries with a reference, the start's and the trained generator's answers; `None`
        where the folder holds no such report.
    """
    folder = Path(folder)
    if not all((folder / name).is_file() for name in ("adversarial.json", "adversarial.md")):
        return None
    found = json.loads((folder / "adversarial.json").read_text(encoding="utf-8"))
    trained, start = Run.read(folder), Run.read(folder / START)
    sampled = [f"## Scores: {name}" for name in trained.decodings if trained.temperature(name) is not None]
    _, *sections = (folder / "adversarial.md").read_text(encoding="utf-8").split("\n## ")
    left_out = (*sampled, "## Sample responses, greedy")
    kept = [f"## {one}" for one in sections if f"## {one}".splitlines()[0] not in left_out]
    name = "greedy" if "greedy" in trained.decodings else next(iter(trained.decodings))
    queries, references = trained.answers["query"], trained.answers["references"]
    rows = min(rows, len(queries))
    samples = [
        {
            "query": queries[index], "a reference": references[index][0], "start": start.answers[name][index],
            found["objective"]: trained.answers[name][index],
        }
        for index in (row * len(queries) // rows for row in range(rows))
    ]  # fmt: skip
    return "\n".join(one.rstrip("\n") + "\n" for one in kept), samples


def _report(found: Mapping[str, Any]) -> ScoreReport:
    scores = {name: Score(stored_interval(one), one["signature"]) for name, one in found["scores"].items()}
    return ScoreReport(scores, found.get("queries", 0), found.get("notes", {}))
