"""All systems side by side: the table and the figure of the LocalGAN paper, from what their runs left."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hf_localgan.evaluation.adversarial.plots import COLORS, PANELS, plot_fronts
from hf_localgan.evaluation.plots import new_figure, save_figure
from hf_localgan.evaluation.runs import Run, check_comparable
from hf_localgan.evaluation.tables import spread
from hf_localgan.evaluation.writing import write_report
from hf_localgan.markdown import markdown_table

METRICS = {"dist_1": "Dist-1", "dist_2": "Dist-2", "ent_4": "Ent-4", "relevance_mean": "Rel"}
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


class Row(NamedTuple):
    """A system under one decoding.

    Attributes:
        system: its name.
        decoding: the name of the decoding, without the folders that it reads, and without numbers that the validation
            split chose, for they differ between seeds.
        runs: one for each seed.
        place: of the decoding among those of each run.
    """

    system: str
    decoding: str
    runs: Sequence[Run]
    place: int

    def values(self, metric: str) -> list[float | None]:
        """The scores of all seeds."""
        return [run.value(list(run.decodings)[self.place], metric) for run in self.runs]


def write_systems(
    folder: Path, systems: Mapping[str, Sequence[Run]], *, title: str, about: Mapping[str, object]
) -> list[Path]:
    """Writes `table1.md`, `table1.json`, `front.png` and `entropy.png`.

    Args:
        folder: for the files.
        systems: runs by the name of the system, one for each seed, of the same queries.
        title: first line of the Markdown.
        about: what names the whole, for the JSON.

    Raises:
        ValueError: for evaluations of different queries.
    """
    check_comparable([run for runs in systems.values() for run in runs])
    rows = [
        Row(name, _label(runs[0], decoding), runs, place)
        for name, runs in systems.items()
        for place, decoding in enumerate(runs[0].decodings)
    ]
    fronts = {name: runs[0] for name, runs in systems.items()}
    plot_fronts(fronts, folder / "front.png")
    drawn = plot_entropies({name: [run.history for run in runs] for name, runs in systems.items()}, folder)
    lines = [f"# {title}", "", *_scores(rows), *_tuned(rows), *_collapses(systems)]
    lines += ["## Samples", "", *_samples(systems), ""]
    lines += ["![Diversity against relevance](front.png)", ""]
    if drawn is not None:
        lines += ["![Ent-4 of the validation answers over the updates of the generator](entropy.png)", ""]
    content = {
        **about,
        "rows": [
            {"system": row.system, "decoding": row.decoding, **{metric: row.values(metric) for metric in METRICS}}
            for row in rows
        ],
        "printed": {
            corpus: {name: dict(zip(METRICS, both[number], strict=True)) for name, both in PRINTED.items()}
            for number, corpus in enumerate(CORPORA)
        },
        "collapsed": _stopped(systems),
    }
    written = write_report(folder, ("table1.json", "table1.md"), content, "\n".join(lines))
    return [*written, folder / "front.png", *([] if drawn is None else [drawn])]


def _scores(rows: Sequence[Row]) -> list[str]:
    lines = []
    by_decoding: dict[str, list[Row]] = {}
    for row in rows:
        by_decoding.setdefault(row.decoding, []).append(row)
    for decoding, group in by_decoding.items():
        cells = [
            (row.system, len(row.runs), *(spread(row.values(metric), ".4g") for metric in METRICS)) for row in group
        ]
        lines += [f"## {decoding}", "", *markdown_table(["system", "seeds", *METRICS.values()], cells, "<>"), ""]
    lines += ["Mean over the seeds, with the smallest and the largest.", ""]
    for number, corpus in enumerate(CORPORA):
        printed = [(name, *(f"{value:.4g}" for value in both[number])) for name, both in PRINTED.items()]
        lines += [f"## As printed, {corpus}", "", *markdown_table(["system", *METRICS.values()], printed, "<>"), ""]
    return [*lines, "Other data and other vectors: the order of the systems can be compared, their values cannot.", ""]


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
    figure, axes = new_figure(columns=len(curves))
    for axis, color, (name, seeds) in zip(axes, cycle(COLORS), curves.items(), strict=False):
        steps = sorted(set.intersection(*(set(curve) for curve in seeds)))
        values = np.array([[curve[step] for step in steps] for curve in seeds])
        axis.plot(steps, values.mean(axis=0), color=color, marker=".")
        axis.fill_between(steps, values.min(axis=0), values.max(axis=0), color=color, alpha=0.25)
        axis.set_title(f"{name}, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}")
        axis.set_xlabel("updates of the generator")
        axis.grid(alpha=0.3)
    lowest, highest = (pick(axis.get_ylim()[side] for axis in axes) for side, pick in enumerate((min, max)))
    for axis in axes:
        axis.set_ylim(lowest, highest)
    axes[0].set_ylabel(PANELS["eval_ent_4"])
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
