"""Draws BLEU against the temperature of RAML, from runs that have finished.

    python recipes/tau_curve.py RUNS_FOLDER [--output PNG] [--against edit_rate] [--decoding "beam 8"]

RUNS_FOLDER holds the output folders of `train_raml.py` and of `train_mle.py`, whose runs are the baseline: a line with
a band from its smallest to its largest seed. Writes the picture and prints the numbers as a Markdown table, which goes
beside the picture, too. Temperatures of different payoffs cannot be compared, but edits per token can: `--against
edit_rate` draws all curves over these.
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path

from hf_localgan.evaluation.plots import plot_tau_curve
from hf_localgan.evaluation.runs import Run, check_comparable
from hf_localgan.evaluation.tables import spread
from hf_localgan.files import replacing
from hf_localgan.markdown import markdown_table
from hf_localgan.trainers.raml.config import SERIES_FIELDS


def read_runs(folder: Path, evaluation: str | None) -> list[Run]:
    """The runs below `folder`, with their test scores, or those of the evaluation that lies inside each of them."""
    places = sorted(path.parent for path in folder.glob("*/evaluation.json"))
    if not places:
        raise ValueError(f'"{folder}" holds no folder with an evaluation.json. Train runs into it, or name another.')
    runs = [Run.read(place) for place in places]
    if evaluation is not None:
        others = [Run.read(place / "evaluation" / evaluation) for place in places]
        for run, other in zip(runs, others, strict=True):
            other.about = {**run.about, "split": other.about["split"]}  # how it was trained stands beside the model
        runs = others
    for run in runs:
        if run.kind != "translation" or "objective" not in run.about:
            raise ValueError(f'"{run.folder}" is no evaluation of translations that a training recipe wrote.')
    check_comparable(runs)
    return runs


def series_of(run: Run) -> str:
    """Name of the curve that a run belongs to: the payoff, its reward and what differs from the defaults.

    `""` for the baseline.
    """
    if run.about["objective"] != "raml":
        return ""
    told = [run.about["reward"]] if "reward" in run.about else []
    told += [f"{name} {run.about[name]}" for name in SERIES_FIELDS if name in run.about]
    return f"{run.about['payoff']} ({', '.join(told)})" if told else run.about["payoff"]


def main(args: argparse.Namespace):
    runs = read_runs(Path(args.runs), args.evaluation)
    decodings = [name for name in runs[0].decodings if all(name in run.decodings for run in runs)]
    decoding = args.decoding or (decodings or [None])[-1]
    if decoding not in decodings:
        raise ValueError(
            f"Not all runs were decoded by {decoding}. All of them have: {', '.join(decodings) or 'none'}."
        )
    found = defaultdict(lambda: defaultdict(list))  # curve, temperature, runs
    for run in runs:
        found[series_of(run)][run.about.get("temperature", 0.0)].append(run)

    def points(read) -> dict[str, list[tuple[float, list[float]]]]:
        curves = {}
        for name, curve in sorted(found.items()):
            rows = []
            for tau, some in sorted(curve.items()):
                across = tau if args.against == "temperature" else some[0].about.get("edit_rate", 0.0)
                rows.append((across, [value for value in map(read, some) if value is not None]))
            curves[name] = sorted((row for row in rows if row[1]), key=lambda row: row[0])
        return curves

    panels = {
        f"{runs[0].about['split']}, {decoding}": points(lambda run: run.value(decoding, "bleu")),
        "validation, while training": points(lambda run: run.about.get("validation_bleu")),
    }
    panels = {title: curves for title, curves in panels.items() if any(curves.values())}
    plot_tau_curve(panels, args.output, across={"edit_rate": "edits per token"}.get(args.against, args.against))

    columns = (
        "payoff", "temperature", "edits per token", "runs", "dev BLEU", f"test BLEU, {decoding}", "less the baseline"
    )  # fmt: skip
    rows = []
    baseline = [run.value(decoding, "bleu") for some in found[""].values() for run in some]
    for name, curve in sorted(found.items()):
        for tau, some in sorted(curve.items()):
            bleus = [run.value(decoding, "bleu") for run in some]
            gain = sum(bleus) / len(bleus) - sum(baseline) / len(baseline) if name and baseline else None
            rows.append((
                name or "maximum likelihood",
                f"{tau:g}" if name else "",
                spread([run.about.get("edit_rate") for run in some[:1]], ".4f"),
                len(some),
                spread([run.about.get("validation_bleu") for run in some], ".2f"),
                spread(bleus, ".2f"),
                "" if gain is None else f"{gain:+.2f}",
            ))  # fmt: skip
    text = "\n".join(markdown_table(columns, rows, "<>")) + "\n"
    print(text, end="")
    with replacing(Path(args.output).with_suffix(".md")) as path:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("runs", metavar="RUNS_FOLDER", help="folder of the output folders of trainings")
    parser.add_argument("--output", metavar="PNG", default="tau_curve.png", help="(default: tau_curve.png)")
    parser.add_argument(
        "--against", choices=("temperature", "edit_rate"), default="temperature", help="(default: temperature)"
    )
    parser.add_argument("--decoding", metavar="NAME", help='such as greedy (default: the last one, "beam 8")')
    parser.add_argument(
        "--evaluation", metavar="NAME", help="test scores of RUN/evaluation/NAME, as evaluate.py writes them"
    )
    try:
        main(parser.parse_args())
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"{parser.prog}: {' '.join(str(error).split())}")
