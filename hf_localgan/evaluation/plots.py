"""Plots of evaluations and of training; they need matplotlib, of the `plots` extra."""

from itertools import cycle
from pathlib import Path

from hf_localgan.files import replacing


def require_matplotlib():
    """Raises an `ImportError` that names the extra where matplotlib is missing, before hours are spent."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError('Plots need matplotlib: `pip install "hf-localgan[plots]"`.') from error


def new_figure(columns: int = 1):
    """A figure that needs no screen, and its axes.

    Raises:
        ImportError: without matplotlib.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4 * columns, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def save_figure(figure, path: str | Path):
    """Writes a figure as a picture, under a temporary name first."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)


def plot_diversity_relevance(evaluation, path: str | Path):
    """Diversity (Dist-2, and Ent-4) against relevance over the sampling temperatures, searches and references marked.

    Further up and further right is better. A system is better than another if its curve is outside the other's, not if
    one of its points is further along the same curve.

    Args:
        evaluation: an `Evaluation`.
        path: where the picture goes.
    """
    scored = (
        "relevance_mean" if all("relevance_mean" in one.scores for one in evaluation.reports.values()) else "bleu_2"
    )
    labels = {"relevance_mean": "relevance (mean over references)", "bleu_2": "BLEU-2", "dist_2": "Dist-2"}
    figure, axes = new_figure(columns=2)
    for axis, diversity in zip(axes, ("dist_2", "ent_4"), strict=True):
        sampled = [one for one in evaluation.decodings if one.temperature is not None]
        sampled.sort(key=lambda one: one.temperature)
        points = [[evaluation.reports[one.name][name].interval for one in sampled] for name in (diversity, scored)]
        across, up = ([interval.value for interval in some] for some in points)
        bars = [_bars(some) for some in points]
        axis.errorbar(across, up, xerr=bars[0], yerr=bars[1], marker="o", capsize=2, label="sampling, by temperature")
        for one, x, y in zip(sampled, across, up, strict=True):
            axis.annotate(f"{one.temperature:g}", (x, y), textcoords="offset points", xytext=(5, 5), fontsize=8)
        searches = [one for one in evaluation.decodings if one.temperature is None]
        for marker, one in zip(cycle("s^Dv*"), searches, strict=False):
            report = evaluation.reports[one.name]
            axis.plot(report[diversity].value, report[scored].value, marker, markersize=8, label=one.name)
        own = evaluation.references_report
        axis.axvline(own[diversity].value, color="grey", linestyle="--", label="the references' own")
        if scored in own.scores:
            axis.axhline(own[scored].value, color="grey", linestyle="--")
        axis.set_xlabel(labels.get(diversity, "Ent-4 (nats)"))
        axis.set_ylabel(labels[scored])
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.suptitle(f"{evaluation.about.get('model', 'generator')}: diversity against relevance")
    save_figure(figure, path)


def _bars(intervals) -> list[list[float]]:
    """Lengths of error bars below and above each value; none where an interval is missing."""
    below = [max(0.0, interval.value - interval.low) for interval in intervals]
    above = [max(0.0, interval.high - interval.value) for interval in intervals]
    return [below, above] if all(length == length for length in below + above) else None


def plot_training(history: list[dict], path: str | Path):
    """Training and validation loss in nats per token over the optimizer steps.

    Args:
        history: `trainer.state.log_history`.
        path: where the picture goes.
    """
    figure, (axis,) = new_figure()
    for key, label in (("loss", "training"), ("eval_loss", "validation")):
        points = [(entry["step"], entry[key]) for entry in history if key in entry]
        if points:
            axis.plot(*zip(*points, strict=True), label=label)
    axis.set_xlabel("step")
    axis.set_ylabel("nats per token")
    axis.grid(alpha=0.3)
    if axis.lines:
        axis.legend()
    save_figure(figure, path)
