"""Finished evaluations, read from their folders."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet

from hf_localgan.evaluation.chosen import chosen_evaluation
from hf_localgan.evaluation.dialogue import FILES
from hf_localgan.metrics import (
    BleuStatistics,
    Comparison,
    Interval,
    Score,
    ScoreReport,
    bleu,
    compare_systems,
    score_responses,
)

SEED_ENDING = re.compile(r"[-_.](?:seed|s)[-_]?\d+$")


@dataclass
class Run:
    """One evaluation of one trained generator.

    Attributes:
        folder: the folder that it was read from.
        kind: `dialogue`, `translation` or `recognition`.
        about: model, data set, split, seed: what identifies it.
        references: the references' own scores, `None` where they have none.
        decodings: scores, signatures and settings by the name of the decoding, as `evaluation.json` holds them.
        answers: columns of `generations.parquet`.
        query_scores: rows of `query_scores.parquet`.
        dev_nats: validation loss of the saved model, nats per token; `None` where its training left no record.
        history: `log_history` of its training, empty where that left no record.
    """

    folder: Path
    kind: str
    about: dict[str, Any]
    references: dict[str, Any] | None
    decodings: dict[str, Any]
    answers: dict[str, list]
    query_scores: list[dict]
    dev_nats: float | None
    history: list[dict] = field(default_factory=list, repr=False)

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """Reads the files that `Evaluation.write` wrote.

        Raises:
            ValueError: if a file is missing, damaged or no evaluation.
        """
        missing = [name for name in FILES if name != "evaluation.md" and not (folder / name).is_file()]
        if missing:
            near = sorted(str(path.parent) for path in folder.glob("evaluation/*/evaluation.json"))
            advice = (
                f"Did you mean {' or '.join(near)}?" if near else "Score the model by `hf-localgan evaluate` first."
            )
            raise ValueError(f'"{folder}" has no {", ".join(missing)}. {advice}')
        try:
            content = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
            parts = (content.get("kind", "dialogue"), content["about"], content["references"], content["decodings"])
            answers = parquet.read_table(folder / "generations.parquet").to_pydict()
            scores = parquet.read_table(folder / "query_scores.parquet").to_pylist()
        except (ValueError, KeyError) as error:
            raise ValueError(f'The files in "{folder}" are not what an evaluation writes: {error!r}.') from error
        return cls(folder, *parts, answers, scores, _dev_nats(folder), _history(folder))

    def value(self, decoding: str, metric: str) -> float | None:
        """One score, `None` where it is missing."""
        return self.decodings[decoding]["scores"].get(metric, {}).get("value")

    def temperature(self, decoding: str) -> float | None:
        """The temperature of a sampling that is a point of a sweep, `None` for every other decoding."""
        stored = self.decodings[decoding]
        return stored.get("temperature", stored["generate"].get("temperature"))

    def interval(self, decoding: str, metric: str) -> Interval:
        """One score with its interval, whose missing ends are NaN.

        Raises:
            KeyError: for a score that the decoding does not have.
        """
        return stored_interval(self.decodings[decoding]["scores"][metric])

    def report(self, decoding: str) -> ScoreReport:
        """The scores of one decoding of dialogue with those of single queries, which paired tests need.

        Most are computed again from the answers; those that need word vectors are read.

        Raises:
            ValueError: if the answers have other scores than the files.
        """
        stored = self.decodings[decoding]["scores"]
        settings = dict(part.split(":", 1) for part in stored["dist_1"]["signature"].split("|") if ":" in part)
        report = score_responses(
            self.answers[decoding], self.answers["references"], queries=self.answers["query"],
            tokenization=settings["tok"], lowercase=settings["case"] == "lower", resamples=0,
        )  # fmt: skip
        for name in ("dist_2", "mean_length"):
            self._check_stored(decoding, name, report[name].value)
        rows = [row for row in self.query_scores if row["decoding"] == decoding]
        for name, score in stored.items():
            if name not in report.scores:  # it needs word vectors, which are not kept
                values = [np.nan if row[name] is None else row[name] for row in rows]
                report.per_query[name] = np.array(values, dtype=float)
                report.scores[name] = Score(stored_interval(score), score["signature"])
        return report

    def bleu_statistics(self, decoding: str) -> BleuStatistics:
        """The counts that detokenised BLEU of one decoding is made of, computed again from the translations.

        Raises:
            ValueError: if the translations have another BLEU than the files.
        """
        signature = self.decodings[decoding]["scores"]["bleu"]["signature"]
        settings = dict(part.split(":", 1) for part in signature.split("|") if ":" in part)
        result = bleu(self.answers[decoding], self.answers["references"], tokenize=settings["tok"])
        self._check_stored(decoding, "bleu", result.score)
        return result.statistics

    def error_rate(self, decodings: Iterable[str]) -> str:
        """Name of the error rate of speech that these decodings have: `per`, of phones, or `wer`, of words."""
        scored = [self.decodings[name]["scores"] for name in decodings]
        return "per" if all("per" in scores for scores in scored) else "wer"

    def error_counts(self, decoding: str) -> tuple[np.ndarray, np.ndarray]:
        """Edits and reference tokens of each utterance under one decoding of speech, shape `(utterances,)` each.

        Raises:
            ValueError: if they have another error rate than the files.
        """
        rows = sorted(
            (row for row in self.query_scores if row["decoding"] == decoding), key=lambda row: int(row["query"])
        )
        edits, tokens = (np.array([row[name] for row in rows], float) for name in ("edits", "reference_tokens"))
        self._check_stored(decoding, self.error_rate([decoding]), 100 * float(edits.sum() / max(tokens.sum(), 1)))
        return edits, tokens

    def _check_stored(self, decoding: str, name: str, value: float):
        stored = self.decodings[decoding]["scores"][name]["value"]
        if abs(value - stored) > 1e-9:
            raise ValueError(
                f'In "{self.folder}" the `{name}` of {decoding} is {stored:.6g}, but the answers there have '
                f"{value:.6g}: the files belong to different evaluations. Run it again."
            )


def stored_interval(score: Mapping[str, Any]) -> Interval:
    """The value and interval of a score as `evaluation.json` holds it, where null stands for NaN."""
    ends = {key: math.nan if score[key] is None else score[key] for key in ("value", "low", "high")}
    return Interval(**{**{key: score[key] for key in Interval.__dataclass_fields__}, **ends})


def compare_runs(a: Run, b: Run, decoding: str, metrics: Iterable[str], permutations: int = 1000) -> Comparison:
    """Paired permutation tests of the scores of dialogue that both runs have, query by query, under one decoding.

    Args:
        a, b: runs on the same queries (`check_comparable`); differences are the scores of `a` less those of `b`.
        decoding: its name.
        metrics: names of scores; those that either run lacks are left out.
        permutations: number of random permutations.

    Raises:
        ValueError: if the answers of a run have other scores than its files.
    """
    reports = a.report(decoding), b.report(decoding)
    shared = [name for name in metrics if all(name in report.scores for report in reports)]
    return compare_systems(*reports, metrics=shared, permutations=permutations)


def _history(folder: Path) -> list[dict]:
    path = folder / "trainer_state.json"
    return json.loads(path.read_text(encoding="utf-8"))["log_history"] if path.is_file() else []


def _dev_nats(folder: Path) -> float | None:
    paths = folder / "trainer_state.json", folder / "training_args.json"
    if not all(path.is_file() for path in paths):
        return None
    state, args = (json.loads(path.read_text(encoding="utf-8")) for path in paths)
    chosen = chosen_evaluation(state, bool(args.get("load_best_model_at_end")), ["eval_loss"])
    return None if chosen is None else chosen.scores["eval_loss"]


def group_runs(folders: Sequence[str], named: Sequence[str] = ()) -> dict[str, list[Run]]:
    """Runs by model, in the order of their seeds.

    Args:
        folders: folders of evaluations. Those whose names differ only in an ending such as `-seed1` or `_s2` are runs
            of one model.
        named: further groups, each written `NAME=RUN,RUN,...`.

    Raises:
        ValueError: for a run that is given twice, two groups of one name, or no run.
    """
    groups: dict[str, list[Path]] = {}
    for folder in map(Path, folders):
        groups.setdefault(SEED_ENDING.sub("", folder.resolve().name), []).append(folder)
    for text in named:
        name, equals, members = text.partition("=")
        if not (name and equals and all(members.split(","))):
            raise ValueError(f"`--group` is written NAME=RUN,RUN,..., got {text!r}.")
        if name in groups:
            raise ValueError(f"Two groups are named `{name}`. Give the second another name by `--group`.")
        groups[name] = [Path(member) for member in members.split(",")]
    resolved = [folder.resolve() for members in groups.values() for folder in members]
    repeated = next((folder for folder in resolved if resolved.count(folder) > 1), None)
    if repeated is not None:
        raise ValueError(f'The run "{repeated.name}" is given twice. Name each run once.')
    if not groups:
        raise ValueError("Name at least one run: `hf-localgan compare RUN [RUN ...]`.")
    runs = {name: [Run.read(folder) for folder in members] for name, members in groups.items()}
    return {name: sorted(group, key=lambda run: run.about.get("seed") or 0) for name, group in runs.items()}


def check_comparable(runs: Sequence[Run]):
    """Refuses runs that answered different queries, or were scored by other metrics or with other references.

    Raises:
        ValueError: names the first two that differ, and how they differ.
    """
    first = runs[0]
    for run in runs[1:]:
        if run.kind != first.kind:
            raise ValueError(
                f'"{first.folder}" is an evaluation of {first.kind} and "{run.folder}" one of {run.kind}. Score both '
                "by one setting of `--scores` of `hf-localgan evaluate`."
            )
        if len(run.answers["query"]) != len(first.answers["query"]):
            raise ValueError(
                f'"{first.folder}" answered {len(first.answers["query"])} queries and "{run.folder}" '
                f"{len(run.answers['query'])}. Score both on the same ones by `hf-localgan evaluate`."
            )
        for column, name in (("query", "queries"), ("references", "references")):
            pairs = zip(first.answers[column], run.answers[column], strict=True)
            row = next((index for index, (a, b) in enumerate(pairs) if a != b), None)
            if row is not None:
                raise ValueError(
                    f'"{first.folder}" and "{run.folder}" have different {name}: in row {row} '
                    f"{first.answers[column][row]!r} and {run.answers[column][row]!r}. Score both on the same data."
                )
