"""All systems side by side: the table and the figure of the LocalGAN paper, from what their runs left."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.stats import kendalltau

from hf_localgan.evaluation.adversarial.front import FrontPoint, run_front
from hf_localgan.evaluation.adversarial.plots import COLORS, DIVERSITIES, PANELS
from hf_localgan.evaluation.plots import new_figure, new_grid, save_figure
from hf_localgan.evaluation.runs import Run, check_comparable
from hf_localgan.evaluation.tables import spread
from hf_localgan.evaluation.web_page import write_page
from hf_localgan.evaluation.writing import write_report
from hf_localgan.markdown import markdown_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRICS = {"dist_1": "Dist-1", "dist_2": "Dist-2", "ent_4": "Ent-4", "relevance_mean": "Rel"}
LENGTH = "mean_length"  # stands beside them, for Ent-4 and Rel grow with it
# Table 1 as printed, OpenSubtitles and Weibo: orders can be compared, values cannot.
PRINTED = {
    "Seq2Seq": ((0.025, 0.081, 5.650, 1.090), (0.055, 0.153, 6.400, 0.315)),
    "Seq2Seq-MMI": ((0.027, 0.086, 5.698, 1.067), (0.059, 0.172, 6.860, 0.309)),
    "Adver-REGS": ((0.0296, 0.098, 5.701, 1.113), (0.061, 0.181, 7.658, 0.320)),
    "GAN-AEL": ((0.030, 0.100, 5.733, 1.106), (0.062, 0.183, 7.765, 0.318)),
    "AIM": ((0.0292, 0.095, 5.783, 1.120), (0.064, 0.189, 7.833, 0.321)),
    "DAIM": ((0.031, 0.103, 5.873, 1.098), (0.067, 0.195, 8.042, 0.316)),
    "LocalGAN": ((0.036, 0.110, 6.073, 1.132), (0.071, 0.212, 8.561, 0.327)),
}
CORPORA = ("OpenSubtitles", "Weibo")
SAMPLES = 5  # queries in the table of samples
RIVALS = ("Seq2Seq", "Seq2Seq, longer")  # whose temperatures every system has to beat
# Eleven systems in one picture; grey is left to what belongs to all of them.
SYSTEM_COLORS = (*(color for color in COLORS if color != "C7"), "black", "gold")
MARKS = "s^Dv*PX"  # of the decodings that are no point of a sweep


class Row(NamedTuple):
    """A system under one decoding.

    Attributes:
        system: its name.
        decoding: the name of the decoding, without the folders that it reads, and without numbers that the validation
            split chose, for they differ between seeds.
        runs: one for each seed.
        place: of the decoding among those of each run.
        margins: relevance less that of a rival's front of temperatures, beams and greedy decoding at equal Dist-2, one
            for each seed, by the name of the rival; NaN where the rival is never as diverse, or never as little.
    """

    system: str
    decoding: str
    runs: Sequence[Run]
    place: int
    margins: Mapping[str, list[float]] = {}

    def values(self, metric: str) -> list[float | None]:
        """The scores of all seeds."""
        return [run.value(list(run.decodings)[self.place], metric) for run in self.runs]


def write_systems(
    folder: Path,
    systems: Mapping[str, Sequence[Run]],
    *,
    title: str,
    about: Mapping[str, object],
    fronts: Mapping[str, Sequence[Run]] | None = None,
) -> list[Path]:
    """Writes `table1.md`, `.json` and `.html`, `front.png` and `entropy.png`.

    Args:
        folder: for the files.
        systems: runs by the name of the system, one for each seed, of the same queries.
        title: first line of the Markdown.
        about: what names the whole, for the JSON.
        fronts: evaluations of the `RIVALS` with more decodings than their rows have, one for each seed; by default
            their rows'.

    Raises:
        ValueError: for evaluations of different queries.
    """
    rivals = {name: systems[name] for name in RIVALS if name in systems} | dict(fronts or {})
    check_comparable([run for group in (systems, rivals) for runs in group.values() for run in runs])
    rows = _rows(systems, rivals)
    orders = _orders(rows)
    plot_system_fronts(systems, folder / "front.png")
    drawn = plot_entropies({name: [run.history for run in runs] for name, runs in systems.items()}, folder)
    lines = [f"# {title}", "", *_scores(rows), *_order_table(orders), *_printed(), *_tuned(rows), *_collapses(systems)]
    lines += ["## Samples", "", *_samples(systems), ""]
    lines += ["![Diversity against relevance](front.png)", ""]
    if drawn is not None:
        lines += ["![Ent-4 of the validation answers over the updates of the generator](entropy.png)", ""]
    content = {
        **about,
        "rows": [
            {
                "system": row.system, "decoding": row.decoding,
                **{metric: row.values(metric) for metric in (*METRICS, LENGTH)},
                "above": row.margins,
            }
            for row in rows
        ],
        "orders": orders,
        "printed": {
            corpus: {name: dict(zip(METRICS, both[number], strict=True)) for name, both in PRINTED.items()}
            for number, corpus in enumerate(CORPORA)
        },
        "collapsed": _stopped(systems),
    }  # fmt: skip
    markdown = "\n".join(lines)
    written = write_report(folder, ("table1.json", "table1.md"), content, markdown)
    written.append(write_page(folder / "table1.html", markdown))
    return [*written, folder / "front.png", *([] if drawn is None else [drawn])]


def _rows(systems: Mapping[str, Sequence[Run]], rivals: Mapping[str, Sequence[Run]]) -> list[Row]:
    rows = []
    for name, runs in systems.items():
        fronts: dict[str, list[list[FrontPoint]]] = {}
        for rival, starts in rivals.items():
            if rival != name and len(starts) == len(runs):
                found = [run_front(run, start, resamples=0) for run, start in zip(runs, starts, strict=True)]
                points = [points for points in found if points is not None]
                fronts |= {rival: points} if len(points) == len(runs) else {}
        for place, decoding in enumerate(runs[0].decodings):
            margins = {rival: [points[place].margin.value for points in seeds] for rival, seeds in fronts.items()}
            rows.append(Row(name, _label(runs[0], decoding), runs, place, margins))
    return rows


def _scores(rows: Sequence[Row]) -> list[str]:
    lines = []
    by_decoding: dict[str, list[Row]] = {}
    for row in rows:
        by_decoding.setdefault(row.decoding, []).append(row)
    rivals = [rival for rival in RIVALS if any(rival in row.margins for row in rows)]
    columns = ["system", "seeds", *METRICS.values(), "words", *(f"Rel above {rival}" for rival in rivals)]
    for decoding, group in by_decoding.items():
        cells = [
            (
                row.system,
                len(row.runs),
                *(spread(row.values(metric), ".4g") for metric in METRICS),
                spread(row.values(LENGTH), ".1f"),
                *(spread([round(value, 4) + 0.0 for value in row.margins.get(rival, ())], "+.4f") for rival in rivals),
            )
            for row in group
        ]
        lines += [f"## {decoding}", "", *markdown_table(columns, cells, "<>"), ""]
    lines += ["Mean over the seeds, with the smallest and the largest; Ent-4 and Rel grow with the number of words."]
    own = _reference_length(rows)
    if own is not None:
        lines += [f"The references have {own:.1f} words."]
    if rivals:
        lines += [
            "`Rel above` a rival: relevance less that of the rival's own front (greedy, beams, temperatures) at the "
            "same Dist-2, seed by seed; empty where the rival has no answers so varied, or so little.",
            "A system that is above it does what no temperature does.",
        ]
    return [*lines, ""]


def _reference_length(rows: Sequence[Row]) -> float | None:
    found = [run.references["scores"].get(LENGTH) for row in rows for run in row.runs if run.references is not None]
    lengths = [score["value"] for score in found if score is not None]
    return float(np.mean(lengths)) if lengths else None


def _printed() -> list[str]:
    lines = []
    for number, corpus in enumerate(CORPORA):
        printed = [(name, *(f"{value:.4g}" for value in both[number])) for name, both in PRINTED.items()]
        lines += [f"## As printed, {corpus}", "", *markdown_table(["system", *METRICS.values()], printed, "<>"), ""]
    return [*lines, "Other data and other vectors: the order of the systems can be compared, their values cannot.", ""]


def _orders(rows: Sequence[Row]) -> dict[str, dict]:
    """The systems of the paper from the highest mean to the lowest, and how far the paper's orders agree with it.

    Every system stands with its first decoding. Agreement is Kendall's tau-b with its exact two-sided p (scipy); with
    seven systems, p is below .05 from a tau of .71 on.
    """
    firsts = {row.system: row for row in reversed(rows) if row.place == 0 and row.system in PRINTED}
    orders = {}
    for place, metric in enumerate(METRICS):
        values = {name: np.array(row.values(metric), dtype=float) for name, row in firsts.items()}  # None becomes NaN
        means = {name: float(seeds.mean()) for name, seeds in values.items() if not np.isnan(seeds).any()}
        if len(means) < 2:
            continue
        agreement = {}
        for number, corpus in enumerate(CORPORA):
            result = kendalltau(list(means.values()), [PRINTED[name][number][place] for name in means])
            agreement[corpus] = {"tau": float(result.statistic), "p": float(result.pvalue)}
        orders[metric] = {"order": sorted(means, key=lambda name: -means[name]), "agreement": agreement}
    return orders


def _order_table(orders: Mapping[str, dict]) -> list[str]:
    if not orders:
        return []
    rows = [
        (
            METRICS[metric],
            " > ".join(entry["order"]),
            *(f"{found['tau']:+.2f} (p {found['p']:.2f})" for found in entry["agreement"].values()),
        )
        for metric, entry in orders.items()
    ]
    columns = ["score", "order found", *(f"agreement with {corpus} as printed" for corpus in CORPORA)]
    return [
        "## The order of the systems", "", *markdown_table(columns, rows), "",
        "Each system with its first decoding; agreement is Kendall's tau, from -1 to 1, with its exact p.", "",
    ]  # fmt: skip


def _label(run: Run, decoding: str) -> str:
    word, *rest = decoding.split()
    if "tuned" in run.decodings[decoding]:
        return f"{word}, tuned"
    return " ".join([word, *(part for part in rest if "/" not in part)])


def _tuned(rows: Sequence[Row]) -> list[str]:
    """What the validation split chose, a row for each seed."""
    chosen = []
    for row in rows:
        for run in row.runs:
            entry = list(run.decodings.values())[row.place].get("tuned")
            if entry is not None:
                numbers = ", ".join(f"{name} {value}" for name, value in entry["settings"].items())
                chosen.append((row.system, row.decoding, run.about.get("seed"), numbers, entry["queries"]))
    if not chosen:
        return []
    columns = ["system", "decoding", "seed", "numbers", "validation queries"]
    return ["## Numbers that the validation split chose", "", *markdown_table(columns, chosen), ""]


def _stopped(systems: Mapping[str, Sequence[Run]]) -> dict[str, list[str]]:
    found = {
        name: [str(run.about["training"]) for run in runs if "training" in run.about] for name, runs in systems.items()
    }
    return {name: reasons for name, reasons in found.items() if reasons}


def _collapses(systems: Mapping[str, Sequence[Run]]) -> list[str]:
    stopped = _stopped(systems)
    if not stopped:
        return []
    rows = [(name, reason) for name, reasons in stopped.items() for reason in reasons]
    return ["## Stopped", "", *markdown_table(["system", "why"], rows), ""]


def _samples(systems: Mapping[str, Sequence[Run]]) -> list[str]:
    first = next(iter(systems.values()))[0]
    number = min(SAMPLES, len(first.answers["query"]))
    columns = ["query", *systems]
    rows = []
    for index in range(number):
        answers = []
        for runs in systems.values():
            decoding = next(iter(runs[0].decodings))
            answer = runs[0].answers[decoding][index]
            answers.append(answer if isinstance(answer, str) else answer[0])
        rows.append((first.answers["query"][index], *answers))
    return markdown_table(columns, rows)


def plot_system_fronts(systems: Mapping[str, Sequence[Run]], path: Path):
    """Diversity (Dist-2, and Ent-4) against relevance: a colour for each system, means over its seeds.

    The line of a system is its sweep of temperatures, a mark is a decoding without one. A system is better than another
    where its line is outside the other's.

    Args:
        systems: runs by the name of the system, one for each seed, of the same queries.
        path: of the picture.
    """
    from matplotlib.lines import Line2D

    labels = list(dict.fromkeys(
        _label(runs[0], name) for runs in systems.values() for name in runs[0].decodings
        if runs[0].temperature(name) is None
    ))  # fmt: skip
    marks = dict(zip(labels, cycle(MARKS), strict=False))
    figure, axes = new_figure(columns=len(DIVERSITIES))
    for axis, diversity in zip(axes, DIVERSITIES, strict=True):
        for color, runs in zip(cycle(SYSTEM_COLORS), systems.values(), strict=False):
            _draw_system(axis, runs, diversity, color, marks)
        references = next(iter(systems.values()))[0].references
        own = {} if references is None else references["scores"]
        for metric, draw in ((diversity, axis.axvline), ("relevance_mean", axis.axhline)):
            if metric in own:
                draw(own[metric]["value"], color="grey", linestyle="--", linewidth=1)
        axis.set_xlabel(DIVERSITIES[diversity])
        axis.set_ylabel("Rel (mean over references)")
        axis.grid(alpha=0.3)
    handles = [
        Line2D([], [], color=color, marker="o", markersize=4, label=name)
        for color, name in zip(cycle(SYSTEM_COLORS), systems, strict=False)
    ]
    handles += [Line2D([], [], color="grey", marker=mark, linestyle="", label=name) for name, mark in marks.items()]
    handles.append(Line2D([], [], color="grey", linestyle="--", linewidth=1, label="the references' own"))
    figure.legend(handles=handles, loc="outside right upper", fontsize=8)
    seeds = max(len(runs) for runs in systems.values())
    figure.suptitle(f"diversity against relevance; means over {seeds} seed{'s' if seeds > 1 else ''}")
    save_figure(figure, path)


def _draw_system(axis: "Axes", runs: Sequence[Run], diversity: str, color: str, marks: Mapping[str, str]):
    sweep = []
    for place, name in enumerate(runs[0].decodings):
        point = [
            [run.value(list(run.decodings)[place], metric) for run in runs] for metric in (diversity, "relevance_mean")
        ]
        if any(value is None for values in point for value in values):
            continue
        across, up = (float(np.mean(values)) for values in point)  # type: ignore[arg-type]
        temperature = runs[0].temperature(name)
        if temperature is None:
            axis.plot(across, up, marker=marks[_label(runs[0], name)], color=color, markersize=7, linestyle="")
        else:
            sweep.append((temperature, across, up))
    if sweep:
        _, across_all, up_all = zip(*sorted(sweep), strict=True)
        axis.plot(across_all, up_all, marker="o", markersize=4, color=color, linewidth=1)


def plot_entropies(histories: Mapping[str, Sequence[list[dict]]], folder: Path) -> Path | None:
    """Ent-4 of the validation answers over the generator's updates, a panel for each system (LocalGAN, Fig. 2).

    The line is the mean over seeds, the band goes from the smallest to the largest.

    Args:
        histories: of the seeds' trainings, by the name of the system; systems without answers are left out.
        folder: for `entropy.png`.

    Returns:
        The file; `None` where nobody answered.
    """
    curves = {name: [_curve(history) for history in seeds] for name, seeds in histories.items()}
    curves = {name: [curve for curve in seeds if curve] for name, seeds in curves.items()}
    curves = {name: seeds for name, seeds in curves.items() if seeds}
    if not curves:
        return None
    figure, axes = new_grid(len(curves), columns=3, width=4.2, height=3.4)
    for axis, color, (name, seeds) in zip(axes, cycle(SYSTEM_COLORS), curves.items(), strict=False):
        steps = sorted(set.intersection(*(set(curve) for curve in seeds)))
        values = np.array([[curve[step] for step in steps] for curve in seeds])
        axis.plot(steps, values.mean(axis=0), color=color, marker=".")
        axis.fill_between(steps, values.min(axis=0), values.max(axis=0), color=color, alpha=0.25)
        axis.set_title(f"{name}, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}")
        axis.set_xlabel("updates of the generator")
        axis.set_ylabel(PANELS["eval_ent_4"])
        axis.grid(alpha=0.3)
    lowest, highest = (pick(axis.get_ylim()[side] for axis in axes) for side, pick in enumerate((min, max)))
    for axis in axes:
        axis.set_ylim(lowest, highest)
    save_figure(figure, folder / "entropy.png")
    return folder / "entropy.png"


def _curve(history: list[dict]) -> dict[int, float]:
    """Ent-4 by the number of the generator's updates; during a warm-up the last value counts."""
    updates, curve = 0, {}
    for entry in history:
        updates = int(entry.get("gan/generator_updates", updates))
        if entry.get("eval_ent_4") is not None:
            curve[updates] = entry["eval_ent_4"]
    return curve
