"""LocalGAN with its radial term against the same training without it: the table of the ablation."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hf_localgan.evaluation.adversarial.front import EQUAL, FrontPoint, query_scores, run_front
from hf_localgan.evaluation.runs import Run, check_comparable
from hf_localgan.evaluation.tables import spread
from hf_localgan.evaluation.writing import write_report
from hf_localgan.markdown import markdown_table
from hf_localgan.metrics import Interval, bootstrap_interval
from hf_localgan.metrics.intervals import no_interval

SCORES = {
    "dist_2": "Dist-2",
    "ent_4": "Ent-4",
    "relevance_mean": "Rel",
    "local_coverage": "coverage",
    "radius_distance": "radius W1",
    "mean_length": "words",
}
# What is compared with the training without the term: how a difference is written, and the sign of a gain.
GAINS = {
    "dist_2": ("Dist-2", "+.3f", 1),
    "relevance_mean": ("Rel", "+.3f", 1),
    "local_coverage": ("coverage", "+.3f", 1),
    "radius_distance": ("radius W1, nearer", "+.3g", -1),
}
NONE = "none"  # the name of the term where there is none


class Arm(NamedTuple):
    """One setting of the radial term.

    Attributes:
        discriminator: beside which it was trained.
        term: its gradient, pooling and weight, or `NONE`.
        runs: one for each seed.
    """

    discriminator: str
    term: str
    runs: Sequence[Run]


def write_radial_table(
    folder: Path, arms: Sequence[Arm], *, title: str, about: Mapping[str, Any], resamples: int = 1000
) -> list[Path]:
    """Writes `radial.md` and `radial.json`: each arm against the one without the term beside the same discriminator.

    Args:
        folder: for the files.
        arms: for each discriminator one named `NONE` and others, with as many runs each, of the same queries and seeds.
        title: first line of the Markdown.
        about: what names the whole, for the JSON.
        resamples: number of bootstrap samples of each margin.

    Raises:
        ValueError: for evaluations of different queries, and a discriminator without an arm `NONE`.
    """
    check_comparable([run for arm in arms for run in arm.runs])
    rivals = {arm.discriminator: arm for arm in arms if arm.term == NONE}
    alone = [arm.discriminator for arm in arms if arm.discriminator not in rivals]
    if alone:
        raise ValueError(f"The discriminator {alone[0]} has no run without the radial term to compare with.")
    entries = [_entry(arm, rivals[arm.discriminator], resamples) for arm in arms]
    lines = [f"# {title}", ""]
    lines += [
        "Each setting of the radial term against the same training without it: mean over the seeds, with the smallest "
        "and the largest.",
        "The best setting is the one with the highest dev quality, not the best of the tables below.",
        "",
    ]
    heads = ["discriminator", "radial term", "seeds", "dev quality", "updates"]
    trainings = [
        (e["discriminator"], e["term"], len(e["steps"]), spread(e["dev_quality"], ".3f"), spread(e["steps"], ".4g"))
        for e in entries
    ]
    lines += ["## Trainings", "", *markdown_table(heads, trainings, "<<>"), ""]
    for decoding in arms[0].runs[0].decodings:
        heads = ["discriminator", "radial term", *SCORES.values()]
        rows = [_score_cells(entry, decoding) for entry in entries]
        lines += [f"## {decoding}", "", *markdown_table(heads, rows, "<<>"), ""]
        heads = ["discriminator", "radial term", *(name for name, _, _ in GAINS.values()), "margin"]
        rows = [_gain_cells(entry, decoding) for entry in entries if entry["term"] != NONE]
        if rows:
            lines += ["Against the same training without the term:", "", *markdown_table(heads, rows, "<<>"), ""]
    lines += [
        "Differences are of the same seed; a gain is above 0. "
        "The margin is Rel less that of the other's front at equal Dist-2; a setting that is less diverse than all of "
        "that front, or more, has none. "
        '"3 of 3 up" counts seeds whose difference is above 0, "sure" those whose 95 % interval over queries is.',
        "",
    ]
    seeds = [[run.about.get("seed") for run in arm.runs] for arm in arms]
    content = {**about, "seeds_of_arms": seeds, "arms": entries}
    return write_report(folder, ("radial.json", "radial.md"), content, "\n".join(lines))


def _entry(arm: Arm, rival: Arm, resamples: int) -> dict[str, Any]:
    """All scores of an arm by decoding, a list over the seeds of each, and its differences from the rival's."""
    fronts: list[dict[str, FrontPoint]] = [
        {} if arm is rival else {point.decoding: point for point in run_front(run, other, resamples=resamples) or ()}
        for run, other in zip(arm.runs, rival.runs, strict=True)
    ]
    decodings = {}
    for decoding in arm.runs[0].decodings:
        entry: dict[str, Any] = {name: [run.value(decoding, name) for run in arm.runs] for name in SCORES}
        if arm is not rival:
            entry["gains"] = {
                name: [
                    _stored(_gain(run, other, decoding, name, resamples))
                    for run, other in zip(arm.runs, rival.runs, strict=True)
                ]
                for name in GAINS
            }
        entry["margin"] = [_stored(front[decoding].margin if decoding in front else None) for front in fronts]
        decodings[decoding] = entry
    steps = [run.about.get("best_step", run.about.get("last_evaluated_step")) for run in arm.runs]
    quality = [_dev_quality(run, step) for run, step in zip(arm.runs, steps, strict=True)]
    return {
        "discriminator": arm.discriminator, "term": arm.term, "steps": steps, "dev_quality": quality,
        "decodings": decodings,
    }  # fmt: skip


def _dev_quality(run: Run, step: int | None) -> float | None:
    """`eval_quality` of the saved model on the validation split."""
    return next((row["eval_quality"] for row in run.history if row["step"] == step and "eval_quality" in row), None)


def _gain(run: Run, other: Run, decoding: str, score: str, resamples: int) -> Interval | None:
    """By how much a run is better; over queries where the score is a mean over them, else without an interval."""
    own, rival = run.value(decoding, score), other.value(decoding, score)
    if own is None or rival is None:
        return None
    sign = GAINS[score][2]
    rows = [row for side in (run, other) for row in side.query_scores if row["decoding"] == decoding]
    if score != "dist_2" and all(score in row for row in rows):
        differences = query_scores(run, decoding, score) - query_scores(other, decoding, score)
        return bootstrap_interval(sign * differences, resamples=resamples)
    return no_interval(sign * (own - rival))


def _stored(interval: Interval | None) -> dict[str, Any] | None:
    """An interval as JSON holds it; `None` where there is no value."""
    if interval is None or math.isnan(interval.value):
        return None
    return {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in vars(interval).items()}


def _score_cells(entry: Mapping[str, Any], decoding: str) -> tuple[str, ...]:
    values = entry["decodings"][decoding]
    return (entry["discriminator"], entry["term"], *(spread(values[name], ".4g") for name in SCORES))


def _gain_cells(entry: Mapping[str, Any], decoding: str) -> tuple[str, ...]:
    values = entry["decodings"][decoding]
    gains = [_counted(values["gains"][name], form) for name, (_, form, _) in GAINS.items()]
    return (entry["discriminator"], entry["term"], *gains, _counted(values["margin"], "+.3f"))


def _counted(differences: Sequence[Mapping[str, Any] | None], form: str) -> str:
    """Mean and spread over the seeds, and how many are above 0."""
    known = [difference for difference in differences if difference is not None]
    if not known:
        return ""
    up = sum(difference["value"] > EQUAL for difference in known)
    sure = sum(difference["low"] is not None and difference["low"] > EQUAL for difference in known)
    count = f"{up} of {len(known)} up" + (f", {sure} sure" if sure else "")
    return f"{spread([difference['value'] for difference in known], form)}; {count}"
