"""LocalGAN with its radial term against the same training without it: the table of the ablation."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hf_localgan.evaluation.adversarial.front import EQUAL, FrontPoint, run_front
from hf_localgan.evaluation.runs import Run, check_comparable
from hf_localgan.evaluation.tables import spread
from hf_localgan.evaluation.writing import write_report
from hf_localgan.markdown import markdown_table

SCORES = {
    "dist_2": "Dist-2",
    "ent_4": "Ent-4",
    "relevance_mean": "Rel",
    "local_coverage": "coverage",
    "radius_distance": "radius W1",
    "mean_length": "words",
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
    decodings = list(arms[0].runs[0].decodings)
    lines = [f"# {title}", ""]
    lines += [
        "Each setting of the radial term against the same training without it: mean over the seeds, with the smallest "
        "and the largest. The margin is Rel less that of the other's front at equal Dist-2; the gains are differences "
        "of the same seed. A smaller radius W1 is better: the answers' radii are more like the references'.",
        "",
    ]
    for decoding in decodings:
        columns = [
            "discriminator", "radial term", "seeds", *SCORES.values(), "margin", "margins above 0", "coverage gain",
            "radius W1 gain",
        ]  # fmt: skip
        lines += [f"## {decoding}", "", *markdown_table(columns, [_cells(e, decoding) for e in entries], "<<>"), ""]
    seeds = [[run.about.get("seed") for run in arm.runs] for arm in arms]
    content = {**about, "seeds_of_arms": seeds, "arms": entries}
    return write_report(folder, ("radial.json", "radial.md"), content, "\n".join(lines))


def _entry(arm: Arm, rival: Arm, resamples: int) -> dict[str, Any]:
    """All scores of an arm by decoding, a list over the seeds of each."""
    fronts: list[dict[str, FrontPoint]] = [
        {} if arm is rival else {point.decoding: point for point in run_front(run, other, resamples=resamples) or ()}
        for run, other in zip(arm.runs, rival.runs, strict=True)
    ]
    decodings = {}
    for decoding in arm.runs[0].decodings:
        scores = {name: [run.value(decoding, name) for run in arm.runs] for name in SCORES}
        gains = {
            f"{name}_gain": [
                None if own is None or other is None else own - other
                for own, other in zip(scores[name], (run.value(decoding, name) for run in rival.runs), strict=True)
            ]
            for name in ("local_coverage", "radius_distance")
        }
        margins = [front[decoding].margin if decoding in front else None for front in fronts]
        known = [None if margin is None or math.isnan(margin.value) else dict(vars(margin)) for margin in margins]
        decodings[decoding] = {**scores, **({} if arm is rival else gains), "margin": known}
    return {"discriminator": arm.discriminator, "term": arm.term, "decodings": decodings}


def _cells(entry: Mapping[str, Any], decoding: str) -> tuple[Any, ...]:
    values = entry["decodings"][decoding]
    margins = [margin["value"] for margin in values["margin"] if margin is not None]
    lows = [margin["low"] for margin in values["margin"] if margin is not None]
    above = "" if not margins else f"{sum(value > EQUAL for value in margins)} of {len(margins)}"
    sure = sum(low > EQUAL for low in lows)
    return (
        entry["discriminator"], entry["term"], len(values["dist_2"]),
        *(spread(values[name], ".4g") for name in SCORES), spread(margins, "+.3f"),
        above + (f", {sure} by the whole interval" if sure else ""),
        spread(values.get("local_coverage_gain", []), "+.3f"), spread(values.get("radius_distance_gain", []), "+.3g"),
    )  # fmt: skip
