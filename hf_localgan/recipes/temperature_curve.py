"""BLEU against the temperature of RAML, from finished runs: a picture and a table."""

from collections import defaultdict
from pathlib import Path
from typing import cast

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


def draw_temperature_curve(
    folder: str | Path,
    output: str | Path,
    *,
    against: str = "temperature",
    decoding: str | None = None,
    evaluation: str | None = None,
) -> str:
    """Draws the curve of each payoff over the runs below a folder.

    Args:
        folder: holds the output folders of trainings by RAML and by maximum likelihood, which is the baseline: a line
            with a band from its smallest to its largest seed.
        output: the picture; the table goes beside it, with the ending `.md`.
        against: "temperature", or "edit_rate", over which curves of different payoffs can be compared.
        decoding: name; by default the last one that all runs share.
        evaluation: take the scores of `RUN/evaluation/NAME` in place of the training's own.

    Returns:
        The table, Markdown.

    Raises:
        ValueError: for a folder without runs, runs that cannot be compared, and a decoding that not all of them have.
    """
    runs = read_runs(Path(folder), evaluation)
    decodings = [name for name in runs[0].decodings if all(name in run.decodings for run in runs)]
    chosen = decoding or (decodings[-1] if decodings else None)
    if chosen is None or chosen not in decodings:
        raise ValueError(f"Not all runs were decoded by {chosen}. All of them have: {', '.join(decodings) or 'none'}.")
    # by curve and temperature
    found: dict[str, dict[float, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        found[series_of(run)][run.about.get("temperature", 0.0)].append(run)

    def points(read) -> dict[str, list[tuple[float, list[float]]]]:
        curves = {}
        for name, curve in sorted(found.items()):
            rows = []
            for tau, some in sorted(curve.items()):
                across = tau if against == "temperature" else some[0].about.get("edit_rate", 0.0)
                rows.append((across, [value for value in map(read, some) if value is not None]))
            curves[name] = sorted((row for row in rows if row[1]), key=lambda row: row[0])
        return curves

    panels = {
        f"{runs[0].about['split']}, {chosen}": points(lambda run: run.value(chosen, "bleu")),
        "validation, while training": points(lambda run: run.about.get("validation_bleu")),
    }
    panels = {title: curves for title, curves in panels.items() if any(curves.values())}
    plot_tau_curve(panels, output, across={"edit_rate": "edits per token"}.get(against, against))

    columns = (
        "payoff", "temperature", "edits per token", "runs", "dev BLEU", f"test BLEU, {chosen}", "less the baseline"
    )  # fmt: skip
    rows = []
    baseline = [cast(float, run.value(chosen, "bleu")) for some in found[""].values() for run in some]
    for name, curve in sorted(found.items()):
        for tau, some in sorted(curve.items()):
            bleus = [cast(float, run.value(chosen, "bleu")) for run in some]  # scored by every evaluation
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
    with replacing(Path(output).with_suffix(".md")) as path:
        path.write_text(text, encoding="utf-8")
    return text
