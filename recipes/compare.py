"""Compares trained generators by what their evaluations left behind, over several seeds of each.

    python recipes/compare.py RUN [RUN ...] [--group NAME=RUN,RUN,...] [--output compare.md]

RUN is a folder with `evaluation.json`, `generations.parquet` and `query_scores.parquet`, as `train_mle.py` and
`evaluate.py` write them. Runs whose names differ in an ending such as `-seed1` or `_s2` alone are seeds of one model;
`--group` says so for other names. Prints, as Markdown, each model's scores (mean, smallest and largest over its seeds),
and for every model against the first one the differences with a paired permutation test over queries, seed by seed.
"""

import argparse
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet

from hf_localgan.evaluation.sweep import FILES, SHOWN
from hf_localgan.files import replacing
from hf_localgan.metrics import Interval, Score, ScoreReport, compare_systems, score_responses

SEED_ENDING = re.compile(r"[-_.](?:seed|s)[-_]?\d+$")


@dataclass
class Run:
    """One evaluation of one trained generator."""

    folder: Path
    about: dict[str, Any]
    references: dict[str, Any]  # their own scores
    decodings: dict[str, Any]
    answers: dict[str, list]
    query_scores: list[dict]
    dev_nats: float | None

    @classmethod
    def read(cls, folder: Path) -> "Run":
        missing = [name for name in FILES if name != "evaluation.md" and not (folder / name).is_file()]
        if missing:
            near = sorted(str(path.parent) for path in folder.glob("evaluation/*/evaluation.json"))
            advice = f"Did you mean {' or '.join(near)}?" if near else "Score the model by recipes/evaluate.py first."
            raise ValueError(f'"{folder}" has no {", ".join(missing)}. {advice}')
        try:
            found = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
            parts = (found["about"], found["references"], found["decodings"])
            answers = parquet.read_table(folder / "generations.parquet").to_pydict()
            scores = parquet.read_table(folder / "query_scores.parquet").to_pylist()
        except (ValueError, KeyError) as error:
            raise ValueError(f'The files in "{folder}" are not what an evaluation writes: {error!r}.') from error
        return cls(folder, *parts, answers, scores, _dev_nats(folder))

    def report(self, decoding: str) -> ScoreReport:
        """The scores of one decoding with what paired tests need: made anew from the answers, or read."""
        stored = self.decodings[decoding]["scores"]
        settings = dict(part.split(":", 1) for part in stored["dist_1"]["signature"].split("|") if ":" in part)
        report = score_responses(
            self.answers[decoding], self.answers["references"], queries=self.answers["query"],
            tokenization=settings["tok"], lowercase=settings["case"] == "lower", resamples=0,
        )  # fmt: skip
        for name in ("dist_2", "mean_length"):
            if abs(report[name].value - stored[name]["value"]) > 1e-9:
                raise ValueError(
                    f'In "{self.folder}" the `{name}` of {decoding} is {stored[name]["value"]:.6g}, but the answers '
                    f"there have {report[name].value:.6g}: the files are not of one evaluation. Run it again."
                )
        rows = [row for row in self.query_scores if row["decoding"] == decoding]
        for name, score in stored.items():
            if name not in report.scores:  # needs word vectors, which are not kept
                values = [np.nan if row[name] is None else row[name] for row in rows]
                report.per_query[name] = np.array(values, dtype=float)
                interval = Interval(**{key: score[key] for key in Interval.__dataclass_fields__})
                report.scores[name] = Score(interval, score["signature"])
        return report


def _dev_nats(folder: Path) -> float | None:
    """Validation loss of the model that was saved, where its training left a record."""
    state, args = folder / "trainer_state.json", folder / "training_args.json"
    if not (state.is_file() and args.is_file()):
        return None
    state, args = (json.loads(path.read_text(encoding="utf-8")) for path in (state, args))
    losses = {entry["step"]: entry["eval_loss"] for entry in state["log_history"] if "eval_loss" in entry}
    best = state.get("best_global_step") if args.get("load_best_model_at_end") else None
    return losses.get(best, next(reversed(losses.values()), None))


def group_runs(folders: list[str], named: list[str]) -> dict[str, list[Run]]:
    """Seeds of one model together, in the order of their seeds."""
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
    every = [folder.resolve() for members in groups.values() for folder in members]
    twice = next((folder for folder in every if every.count(folder) > 1), None)
    if twice is not None:
        raise ValueError(f'The run "{twice.name}" is given twice.')
    if not groups:
        raise ValueError("Name at least one run: `python recipes/compare.py RUN [RUN ...]`.")
    runs = {name: [Run.read(folder) for folder in members] for name, members in groups.items()}
    return {name: sorted(some, key=lambda run: run.about.get("seed") or 0) for name, some in runs.items()}


def check_comparable(runs: list[Run]):
    """Refuses runs that did not answer the same queries, or were scored against other references."""
    first = runs[0]
    for run in runs[1:]:
        if len(run.answers["query"]) != len(first.answers["query"]):
            raise ValueError(
                f'"{first.folder}" answered {len(first.answers["query"])} queries and "{run.folder}" '
                f"{len(run.answers['query'])}. Score both on the same ones by recipes/evaluate.py."
            )
        for column, what in (("query", "queries"), ("references", "references")):
            pairs = zip(first.answers[column], run.answers[column], strict=True)
            at = next((index for index, (a, b) in enumerate(pairs) if a != b), None)
            if at is not None:
                raise ValueError(
                    f'"{first.folder}" and "{run.folder}" have different {what}: in row {at} '
                    f"{first.answers[column][at]!r} and {run.answers[column][at]!r}."
                )


def spread(values: list[float | None], form: str = ".3g") -> str:
    """Mean, smallest and largest: `0.25 (0.2 to 0.3)`."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean = f"{sum(known) / len(known):{form}}"
    return mean if len(known) == 1 else f"{mean} ({min(known):{form}} to {max(known):{form}})"


def row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def heading(*cells: str) -> list[str]:
    return [row(*cells), "| --- " + "| ---: " * (len(cells) - 1) + "|"]


def likelihood_table(groups: dict[str, list[Run]]) -> list[str]:
    lines = ["## Likelihood", ""]
    lines += heading("model", "runs", "dev nats per token", "test nats per token", "test perplexity")
    for name, runs in groups.items():
        nats = [run.about.get("nats_per_token") for run in runs]
        perplexity = [run.about.get("perplexity") for run in runs]
        dev = spread([run.dev_nats for run in runs], ".3f")
        lines.append(row(name, str(len(runs)), dev, spread(nats, ".3f"), spread(perplexity, ".2f")))
    if len({run.about.get("tokens") for runs in groups.values() for run in runs}) > 1:
        lines += ["", "The test sets differ in tokens: nats per token and perplexities cannot be compared."]
    return [*lines, ""]


def score_table(title: str, first: str, rows: dict[str, list[dict]], metrics: list[str]) -> list[str]:
    """One line for each entry of `rows`, which holds the scores of the runs that the line is about."""
    lines = [f"## {title}", "", *heading(first, *(SHOWN.get(name, name) for name in metrics))]
    for name, scores in rows.items():
        cells = (spread([one[metric]["value"] if metric in one else None for one in scores]) for metric in metrics)
        lines.append(row(name, *cells))
    return [*lines, ""]


def difference_table(names, groups, decoding: str, metrics: list[str], permutations: int) -> list[str]:
    first, second = (groups[name] for name in names)
    if len(first) != len(second):
        raise ValueError(
            f"`{names[0]}` has {len(first)} runs and `{names[1]}` {len(second)}, and they are compared run by run. "
            "Give as many of each."
        )
    tests = []
    for a, b in zip(first, second, strict=True):
        reports = a.report(decoding), b.report(decoding)
        shared = [name for name in metrics if all(name in report.scores for report in reports)]
        tests.append(compare_systems(*reports, metrics=shared, permutations=permutations).rows)
    lines = [f"## {names[1]} less {names[0]}: {decoding}", "", *heading("metric", "difference", "p, run by run")]
    for name in tests[0]:
        differences = [-one[name].test.difference for one in tests]
        values = ", ".join(f"{one[name].test.p_value:.3f}" for one in tests)
        lines.append(row(SHOWN.get(name, name), spread(differences, "+.3g"), values))
    return [*lines, ""]


def main(args: argparse.Namespace):
    groups = group_runs(args.runs, args.group)
    runs = [run for some in groups.values() for run in some]
    check_comparable(runs)
    decodings = [name for name in runs[0].decodings if all(name in run.decodings for run in runs)]
    unknown = [name for name in args.decodings or decodings if name not in decodings]
    if unknown or not decodings:
        raise ValueError(
            f"Not all runs were decoded by {', '.join(unknown) or 'one and the same way'}. All of them have: "
            f"{', '.join(decodings) or 'nothing'}."
        )
    decodings = args.decodings or decodings
    scored = set.intersection(*(set(run.decodings[name]["scores"]) for run in runs for name in decodings))
    metrics = args.metrics or [name for name in SHOWN if name in scored]
    if not set(metrics) <= scored:
        raise ValueError(
            f"Not all runs have the scores {', '.join(sorted(set(metrics) - scored))}. All of them have: "
            f"{', '.join(sorted(scored))}."
        )

    lines = likelihood_table(groups)
    own = {"references": [run.references["scores"] for run in runs]}
    if len(groups) == 1:
        rows = {name: [run.decodings[name]["scores"] for run in runs] for name in decodings}
        lines += score_table("Scores", "decoding", rows | own, metrics)
    else:
        for decoding in decodings:
            rows = {name: [run.decodings[decoding]["scores"] for run in some] for name, some in groups.items()}
            lines += score_table(f"Scores: {decoding}", "model", rows | own, metrics)
    baseline, *others = groups
    for other in others:
        for decoding in decodings:
            lines += difference_table((baseline, other), groups, decoding, metrics, args.permutations)
    lines.append(
        f"{len(runs[0].answers['query']):,} queries. Over several runs: the mean, and in brackets the smallest and the "
        "largest. The references' own scores are of one reference per query against the others."
    )
    if others:
        lines[-1] += (
            f" p: two-sided paired permutation test over queries, {args.permutations} swaps, the seeds paired in "
            "order; not corrected for the number of tests. It says whether two runs differ, not whether two ways of "
            "training do: for that the differences must agree over seeds."
        )
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if args.output:
        with replacing(args.output) as path:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help="folder of an evaluation")
    parser.add_argument("--group", action="append", default=[], metavar="NAME=RUN,...", help="seeds of one model")
    parser.add_argument("--decodings", nargs="+", metavar="NAME", help='such as greedy "beam 5" (default: all)')
    parser.add_argument("--metrics", nargs="+", metavar="NAME", help="keys of evaluation.json (default: the usual)")
    parser.add_argument("--permutations", type=int, default=1000, help="swaps of a test (default: 1000)")
    parser.add_argument("--output", metavar="FILE", help="write the Markdown there too")
    try:
        main(parser.parse_args())
    except (ValueError, OSError) as error:
        sys.exit(f"{parser.prog}: {' '.join(str(error).split())}")
