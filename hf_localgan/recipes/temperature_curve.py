"""BLEU or the error rate against the temperature of RAML, from finished runs: a picture and a table."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

from hf_localgan.evaluation.plots import plot_tau_curve
from hf_localgan.evaluation.recognition import BEST_OF, DEV_IS_BIASED
from hf_localgan.evaluation.runs import Run, check_comparable
from hf_localgan.evaluation.tables import spread
from hf_localgan.files import replacing
from hf_localgan.markdown import markdown_table
from hf_localgan.trainers.base.token_loss import MAXIMUM_LIKELIHOOD
from hf_localgan.trainers.raml.config import SERIES_FIELDS
from hf_localgan.trainers.raml.trainer import RamlTrainer


class Measured(NamedTuple):
    """The score of a curve.

    Attributes:
        score: its key among the scores of a decoding.
        label: as it is shown.
        validation: key among the facts of a run of its value on the validation split.
    """

    score: str
    label: str
    validation: str


MEASURES = {
    "translation": (Measured("bleu", "BLEU", "validation_bleu"),),
    "recognition": (
        Measured("per", "PER %", "validation_error_rate"), Measured("wer", "WER %", "validation_error_rate")
    ),
}  # fmt: skip


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
        if run.kind not in MEASURES or "objective" not in run.about:
            raise ValueError(f'"{run.folder}" is no evaluation of translations or of speech by a training recipe.')
    check_comparable(runs)
    return runs


def series_of(run: Run) -> str:
    """Name of the curve that a run belongs to: the payoff, its reward and what differs from the defaults.

    `""` for the baseline, maximum likelihood alone. Rivals without draws are named by their objective, or by the label
    smoothing that is added to maximum likelihood.
    """
    about = run.about
    objective, smoothing = about["objective"], about.get("label_smoothing")
    smoothed = [f"label smoothing {smoothing:g}"] if smoothing else []
    if objective == MAXIMUM_LIKELIHOOD.name:
        return ", ".join(smoothed)
    settings = [about["reward"]] if "reward" in about else []
    settings += [f"{name} {about[name]}" for name in SERIES_FIELDS if name in about]
    settings += ["CTC on draws"] if about.get("ctc_labels") == "drawn" else []
    settings += smoothed
    name = about["payoff"] if is_raml(run) else objective
    return f"{name} ({', '.join(settings)})" if settings else name


def is_raml(run: Run) -> bool:
    """Whether a run was trained on draws, which have a temperature."""
    return bool(run.about["objective"] == RamlTrainer.objective.name.lower())


def measured(runs: Sequence[Run], decoding: str) -> Measured:
    """The score that all runs have under a decoding."""
    choices = MEASURES[runs[0].kind]
    shared = [choice for choice in choices if all(run.value(decoding, choice.score) is not None for run in runs)]
    if not shared:
        raise ValueError(
            f"Not all runs have the same score of {', '.join(choice.score for choice in choices)} under {decoding}. "
            "Compare runs of one `target`."
        )
    return shared[0]


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
            with a band from its smallest to its largest seed. Rivals without draws, such as label smoothing, are lines.
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
    measure = measured(runs, chosen)
    # by curve and temperature
    found: dict[str, dict[float, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        found[series_of(run)][run.about.get("temperature", 0.0)].append(run)

    def points(read) -> dict[str, list[tuple[float | None, list[float]]]]:
        curves = {}
        for name, curve in sorted(found.items()):
            rows = []
            for tau, some in sorted(curve.items()):
                across = tau if against == "temperature" else some[0].about.get("edit_rate", 0.0)
                across = across if is_raml(some[0]) or not name else None
                rows.append((across, [value for value in map(read, some) if value is not None]))
            curves[name] = sorted((row for row in rows if row[1]), key=lambda row: row[0] or 0.0)
        return curves

    chosen_on_dev = any(BEST_OF in run.about for run in runs)
    panels = {
        f"{runs[0].about['split']}, {chosen}": points(lambda run: run.value(chosen, measure.score)),
        f"validation, {'best of all evaluations' if chosen_on_dev else 'while training'}": points(
            lambda run: run.about.get(measure.validation)
        ),
    }
    panels = {title: curves for title, curves in panels.items() if any(curves.values())}
    across = {"edit_rate": "edits per token"}.get(against, against)
    plot_tau_curve(panels, output, across=across, score=measure.label)

    errors = runs[0].kind == "recognition"
    columns = (
        "payoff", "temperature", "edits per token", "runs", f"dev {measure.label}", f"test {measure.label}, {chosen}",
        "less the baseline", *(("in per cent of it", "runaways") if errors else ()),
    )  # fmt: skip
    rows = []
    baseline = [cast(float, run.value(chosen, measure.score)) for some in found[""].values() for run in some]
    for name, curve in sorted(found.items()):
        for tau, some in sorted(curve.items()):
            scores = [cast(float, run.value(chosen, measure.score)) for run in some]  # see `measured`
            before = sum(baseline) / len(baseline) if name and baseline else None
            gain = None if before is None else sum(scores) / len(scores) - before
            row = [
                name or MAXIMUM_LIKELIHOOD.name,
                f"{tau:g}" if is_raml(some[0]) else "",
                spread([run.about.get("edit_rate") for run in some[:1]], ".4f"),
                len(some),
                spread([run.about.get(measure.validation) for run in some], ".2f"),
                spread(scores, ".2f"),
                "" if gain is None else f"{gain:+.2f}",
            ]
            if errors:
                row.append(f"{100 * gain / before:+.1f}" if gain is not None and before else "")
                row.append(spread([run.value(chosen, "runaways") for run in some], ".3g"))
            rows.append(row)
    text = "\n".join(markdown_table(columns, rows, "<>")) + "\n"
    if chosen_on_dev:
        text += f"\n{DEV_IS_BIASED}\n"
    with replacing(Path(output).with_suffix(".md")) as path:
        path.write_text(text, encoding="utf-8")
    return text
