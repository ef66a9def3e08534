"""Plots of a report on an energy model and of its training; they need matplotlib, from the `plots` extra."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from hf_localgan.evaluation.plots import new_figure, new_grid, save_figure

PANELS = (
    ("matching", (("eval_matching", "validation"),)),
    ("reconstruction, mean square", (("dbm/reconstruction", "training"), ("eval_reconstruction", "validation"))),
    ("nats", (("dbm/free_energy_gap", "free energy: chains less data"),)),
)


def plot_radii(report: Any, path: str | Path):
    """Histograms of the radii `F(q, r) - F(q, rc)` of true, other and random responses.

    Args:
        report (`EnergyReport`): the measurements of an energy.
        path: of the picture.
    """
    figure, (axis,) = new_figure()
    labels = {
        "true": "true responses",
        "other": "responses to other queries",
        "shuffled": "dimensions of different responses",
        "noise": "normal noise",
    }
    radii = report.radii._asdict()
    low, high = np.quantile(np.concatenate(list(radii.values())), [0.001, 0.999])
    bins = np.linspace(low, high, 80)
    for name, values in radii.items():
        axis.hist(values, bins=bins, density=True, histtype="step", linewidth=1.5, label=labels[name])
    axis.axvline(0, color="grey", linestyle="--", label="the centre")
    axis.set_xlabel("radius (nats)")
    axis.set_ylabel("density")
    axis.legend(fontsize=8)
    figure.suptitle(_title(report, "how far responses are from the centre"))
    save_figure(figure, path)


def plot_gap(report: Any, path: str | Path):
    """The gap against the number of responses, and against their spread.

    Args:
        report (`EnergyReport`): the measurements of an energy.
        path: of the picture.
    """
    gap = report.gap
    figure, axes = new_figure(columns=1 if gap.by_spread is None else 2)
    size = gap.by_size
    values = np.array([interval.value for interval in size.gap])
    ends = np.array([[interval.low, interval.high] for interval in size.gap]).T
    bars = np.maximum(np.stack([values - ends[0], ends[1] - values]), 0) if np.isfinite(ends).all() else None
    axes[0].errorbar(size.sizes, values, yerr=bars, marker="o", capsize=2, label="|F(q, R_q) - F(q, rc)|")
    axes[0].axhline(gap.signed.value, color="grey", linestyle="--", label="F(q, r) - F(q, rc), mean")
    if max(size.sizes) > 10:
        axes[0].set_xscale("log")
    axes[0].set_ylim(min(0.0, 1.1 * float(values.min())), 1.1 * max(float(values.max()), gap.signed.value, 0.0) + 0.1)
    axes[0].set_xlabel("responses")
    axes[0].set_ylabel("nats")
    axes[0].legend(fontsize=8)
    if gap.by_spread is not None:
        spread = gap.by_spread
        axes[1].plot(gap.spreads, gap.gaps, ".", color="tab:blue", alpha=0.3, markersize=4, label="queries")
        averages = [interval.value for interval in spread.gap]
        axes[1].plot(spread.spread, averages, "o-", color="tab:blue", label="mean of a fifth of them")
        if not all(map(math.isnan, spread.predicted)):
            axes[1].plot(spread.spread, spread.predicted, "s--", color="tab:orange", label="by curvature and spread")
        axes[1].set_xlabel("spread: trace of the covariance of a query's responses")
        axes[1].legend(fontsize=8)
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.suptitle(_title(report, "the gap between a cluster's energy and its centre's"))
    save_figure(figure, path)


def plot_clusters(report: Any, path: str | Path, columns: int = 3):
    """Clusters of responses in the plane of their principal axes about the centre, over lines of equal radius.

    Args:
        report (`EnergyReport`): with clusters.
        path: of the picture.
        columns: panels side by side.
    """
    figure, axes = new_grid(len(report.clusters), columns, width=4.6, height=4.4)
    for number, (axis, plane) in enumerate(zip(axes, report.clusters, strict=True), start=1):
        lines = axis.contour(plane.ticks, plane.ticks, plane.radii, levels=8, cmap="viridis", linewidths=0.8)
        axis.clabel(lines, fontsize=6)
        axis.plot(*plane.others.T, ".", color="grey", alpha=0.4, markersize=3, label="responses to other queries")
        axis.plot(*plane.responses.T, "o", color="tab:blue", markersize=5, label="responses")
        axis.plot(0, 0, "*", color="tab:red", markersize=12, label="centre rc(q)")
        limits = plane.ticks[0], plane.ticks[-1]
        axis.set_xlim(limits)
        axis.set_ylim(limits)
        title = f"{_legible(plane.title, number)}\n{plane.share:.0%} of the distance in the plane"
        axis.set_title(title, fontsize=8, parse_math=False)
    axes[0].legend(fontsize=7)
    figure.suptitle(_title(report, "radius in nats around the centres"))
    save_figure(figure, path)


def plot_energy_training(history: list[dict[str, Any]], path: str | Path):
    """Matching, reconstruction and the free-energy gap over the optimizer steps, as far as they were logged.

    Args:
        history: `trainer.state.log_history`.
        path: of the picture.
    """
    panels = [(unit, lines) for unit, lines in PANELS if any(key in entry for entry in history for key, _ in lines)]
    figure, axes = new_figure(columns=max(1, len(panels)))
    for axis, (unit, lines) in zip(axes, panels, strict=False):
        for key, label in lines:
            points = [(entry["step"], entry[key]) for entry in history if key in entry]
            if points:
                axis.plot(*zip(*points, strict=True), label=label, marker="." if key.startswith("eval_") else None)
        axis.set_xlabel("step")
        axis.set_ylabel(unit)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    save_figure(figure, path)


def _title(report: Any, subject: str) -> str:
    return f"{report.about.get('model', 'energy')}: {subject}"


def _legible(text: str, number: int) -> str:
    """The text, shortened to fit, or a number where matplotlib's font lacks its script."""
    if any(ord(sign) > 0x2E7F for sign in text):
        return f"query {number}"
    return text if len(text) <= 50 else text[:49] + "…"
