"""Plots of evaluations and of training; they need matplotlib, from the `plots` extra."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_localgan.files import replacing
from hf_localgan.metrics.intervals import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NATS = "nats per token"


def require_matplotlib():
    """Raises an `ImportError` that names the extra where matplotlib is missing, before hours of training."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError('Plots need matplotlib: `pip install "hf-localgan[plots]"`.') from error


def new_figure(columns: int = 1, heights: Sequence[float] = (1,)) -> tuple["Figure", np.ndarray]:
    """A figure that needs no screen, and its axes row by row, shape `(rows * columns,)`.

    Args:
        columns: panels side by side.
        heights: relative heights of the panels above each other, which share the horizontal axis.

    Raises:
        ImportError: without matplotlib.
    """
    height = 4.8 if len(heights) == 1 else 2.4 * len(heights)
    figure = _empty_figure(6.4 * columns, height)
    rows: dict[str, Any] = {"sharex": "col", "height_ratios": heights} if len(heights) > 1 else {}
    return figure, figure.subplots(len(heights), columns, squeeze=False, **rows).ravel()


def new_grid(panels: int, columns: int, width: float = 6.4, height: float = 4.8) -> tuple["Figure", np.ndarray]:
    """A figure of panels with axes of their own, row by row, and the panels' axes, shape `(panels,)`.

    Args:
        panels: how many.
        columns: the most side by side; places that are left over stay empty.
        width, height: of a panel, in inches.

    Raises:
        ImportError: without matplotlib.
    """
    columns = min(columns, panels)
    rows = math.ceil(panels / columns)
    figure = _empty_figure(width * columns, height * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[panels:]:
        axis.set_axis_off()
    return figure, axes[:panels]


def _empty_figure(width: float, height: float) -> "Figure":
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: "Figure", path: str | Path):
    """Writes a figure as a picture, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)


def plot_diversity_relevance(evaluation: Any, path: str | Path):
    """Diversity (Dist-2, and Ent-4) against relevance over the sampling temperatures, searches and references marked.

    Further up and further right is better. A system is better than another if its curve is outside the other's, not if
    one of its points is further along the same curve.

    Relevance is that to the mean over references; without word vectors BLEU-2 stands for it.

    Args:
        evaluation (`Evaluation`): of dialogue.
        path: of the picture.
    """
    has_relevance = all("relevance_mean" in report.scores for report in evaluation.reports.values())
    relevance = "relevance_mean" if has_relevance else "bleu_2"
    labels = {"relevance_mean": "relevance (mean over references)", "bleu_2": "BLEU-2", "dist_2": "Dist-2"}
    figure, axes = new_figure(columns=2)
    for axis, diversity in zip(axes, ("dist_2", "ent_4"), strict=True):
        temperatures = {decoding.name: decoding.temperature for decoding in evaluation.decodings}
        sweep = [(value, name) for name, value in temperatures.items() if value is not None]
        sweep.sort(key=lambda point: point[0])
        columns = [[evaluation.reports[name][score].interval for _, name in sweep] for score in (diversity, relevance)]
        across, up = ([interval.value for interval in intervals] for intervals in columns)
        bars = [error_bars(intervals) for intervals in columns]
        axis.errorbar(across, up, xerr=bars[0], yerr=bars[1], marker="o", capsize=2, label="sampling, by temperature")
        for (temperature, _), x, y in zip(sweep, across, up, strict=True):
            axis.annotate(f"{temperature:g}", (x, y), textcoords="offset points", xytext=(5, 5), fontsize=8)
        searches = [name for name, value in temperatures.items() if value is None]
        for marker, name in zip(cycle("s^Dv*"), searches, strict=False):
            report = evaluation.reports[name]
            axis.plot(report[diversity].value, report[relevance].value, marker, markersize=8, label=name)
        own = evaluation.references_report
        assert own is not None  # dialogue always has one
        axis.axvline(own[diversity].value, color="grey", linestyle="--", label="the references' own")
        if relevance in own.scores:
            axis.axhline(own[relevance].value, color="grey", linestyle="--")
        axis.set_xlabel(labels.get(diversity, "Ent-4 (nats)"))
        axis.set_ylabel(labels[relevance])
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.suptitle(f"{evaluation.about.get('model', 'generator')}: diversity against relevance")
    save_figure(figure, path)


def error_bars(intervals: Sequence[Interval]) -> list[list[float]] | None:
    """Lengths of error bars below and above each value, two lists; `None` where an interval is missing."""
    below = [max(0.0, interval.value - interval.low) for interval in intervals]
    above = [max(0.0, interval.high - interval.value) for interval in intervals]
    return [below, above] if all(length == length for length in below + above) else None


def plot_training(history: list[dict[str, Any]], path: str | Path, unit: str = NATS):
    """Training and validation loss in nats per token over the optimizer steps, and BLEU where it was logged.

    A training loss in another unit has a panel of its own.

    Args:
        history: `trainer.state.log_history`.
        path: of the picture.
        unit: unit of the training loss, a trainer's `loss_unit`.
    """
    training = [("loss", "training")]
    panels = {NATS: [*(training if unit == NATS else ()), ("eval_loss", "validation")]}
    if unit != NATS:
        panels[f"loss ({unit})"] = training
    if any("eval_bleu" in entry for entry in history):
        panels["BLEU"] = [("eval_bleu", "validation")]
    figure, axes = new_figure(columns=len(panels))
    for axis, (label, lines) in zip(axes, panels.items(), strict=True):
        draw_curves(axis, history, lines, label)
        axis.set_xlabel("step")
    save_figure(figure, path)


def draw_curves(axis: "Axes", history: list[dict[str, Any]], lines: Sequence[tuple[str, str]], unit: str):
    """Values over the optimizer steps, as far as they were logged.

    Args:
        axis: of the panel.
        history: `trainer.state.log_history`.
        lines: logged keys with their labels.
        unit: of the vertical axis.
    """
    for key, label in lines:
        points = [(entry["step"], entry[key]) for entry in history if entry.get(key) is not None]
        if points:  # one point alone makes no line
            marked = len(points) == 1 or key == "eval_bleu"
            axis.plot(*zip(*points, strict=True), label=label, marker="." if marked else None)
    axis.set_ylabel(unit)
    axis.grid(alpha=0.3)
    if axis.lines:
        axis.legend(fontsize=8)


def plot_tau_curve(
    panels: Mapping[str, Mapping[str, Sequence[tuple[float | None, Sequence[float]]]]],
    path: str | Path,
    across: str = "temperature",
    score: str = "BLEU",
):
    """A score against the temperature: a line for each payoff, its seeds as dots, the baseline as a line with a band.

    Args:
        panels: by title, then by name of the payoff, each temperature with the scores of all its seeds. The name `""`
            is the baseline's, whose band goes from its smallest score to its largest. A rival without a temperature,
            whose place is `None`, is a dotted line.
        path: of the picture.
        across: label of the horizontal axis.
        score: label of the vertical axis.
    """
    figure, axes = new_figure(columns=len(panels))
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        baseline = [score for _, scores in curves.get("", ()) for score in scores]
        if baseline:
            axis.axhline(sum(baseline) / len(baseline), color="grey", linestyle="--", label="maximum likelihood")
            axis.axhspan(min(baseline), max(baseline), color="grey", alpha=0.2, linewidth=0)
        for name, curve in curves.items():
            if not name or not curve:
                continue
            means = [(tau, sum(scores) / len(scores)) for tau, scores in curve]
            if means[0][0] is None:
                (line,) = axis.plot([], [])  # takes the next colour
                axis.axhline(means[0][1], color=line.get_color(), linestyle=":", label=name)
                continue
            (line,) = axis.plot(*zip(*means, strict=True), marker="o", label=name)
            seeds = [(tau, score) for tau, scores in curve for score in scores]
            axis.plot(*zip(*seeds, strict=True), ".", color=line.get_color(), alpha=0.5)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(across)
        axis.set_ylabel(score)
        axis.grid(alpha=0.3)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=8)
    save_figure(figure, path)
