"""Plots of adversarial training and of its results; they need matplotlib, from the `plots` extra."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_localgan.evaluation.plots import NATS, draw_curves, error_bars, new_figure, save_figure
from hf_localgan.evaluation.runs import SEED_ENDING, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS = {"eval_ent_4": "Ent-4 (nats)", "eval_relevance": "Rel", "gan/phase2_fraction": "phase-2 share"}
DIVERSITIES = {"dist_2": "Dist-2", "ent_4": "Ent-4 (nats)"}
COLORS = [f"C{number}" for number in range(10)]
RELEVANCES = {"relevance_mean": "relevance (mean over references)", "bleu_2": "BLEU-2"}


def plot_adversarial_training(history: list[dict[str, Any]], path: str | Path):
    """Ent-4 and Rel of the validation answers over the steps, and beneath them the phase-2 share (LocalGAN, Fig. 2).

    The three share the horizontal axis; values that were not logged are left out.

    Args:
        history: `trainer.state.log_history`.
        path: of the picture.
    """
    curves = {key: _curve(history, key) for key in PANELS}
    shown = [key for key in PANELS if curves[key]] or ["eval_ent_4"]
    figure, axes = new_figure(heights=[1 if key.startswith("gan/") else 2 for key in shown])
    for axis, key in zip(axes, shown, strict=True):
        if curves[key]:
            axis.plot(*zip(*curves[key], strict=True), marker="." if key.startswith("eval_") else None)
        axis.set_ylabel(PANELS[key])
        axis.grid(alpha=0.3)
        if key == "gan/phase2_fraction":
            axis.set_ylim(0, 1)
            axis.axhline(0.5, color="grey", linestyle="--", linewidth=0.8)
    axes[-1].set_xlabel("step")
    save_figure(figure, path)


def plot_player_losses(history: list[dict[str, Any]], path: str | Path, players: Sequence[str]):
    """Each player's own loss over the optimizer steps, beneath the references' nats per token.

    The Trainer's `loss` is that of whoever's turn it was, a mixture that is not drawn. The panels share the horizontal
    axis; a player has values where it had a turn.

    Args:
        history: `trainer.state.log_history`.
        path: of the picture.
        players: their names; of each `loss/PLAYER` is drawn.
    """
    panels = {NATS: [("loss/teacher_forcing", "training (teacher forcing)"), ("eval_loss", "validation")]}
    panels |= {f"loss of the\n{player.replace('_', ' ')}": [(f"loss/{player}", "training")] for player in players}
    figure, axes = new_figure(heights=[1.5, *(1 for _ in players)])
    for axis, (unit, lines) in zip(axes, panels.items(), strict=True):
        draw_curves(axis, history, lines, unit)
    axes[-1].set_xlabel("step")
    save_figure(figure, path)


def plot_answer_radii(radii: Mapping[str, np.ndarray], path: str | Path):
    """Histograms of the radii `F(q, r) - F(q, rc)` of references and of systems' answers.

    Args:
        radii: nats, by name, shape `(responses,)`; NaN is left out.
        path: of the picture.
    """
    figure, (axis,) = new_figure()
    known = {name: np.asarray(values)[np.isfinite(values)] for name, values in radii.items()}
    known = {name: values for name, values in known.items() if len(values)}
    if known:
        low, high = np.quantile(np.concatenate([*known.values()]), [0.001, 0.999])
        bins = np.linspace(low, max(high, low + 1e-6), 50)
        colors = dict(zip((name for name in known if name != "references"), cycle(COLORS), strict=False))
        for name, values in known.items():
            color = colors.get(name, "grey")
            axis.hist(
                values.clip(low, high), bins=bins, density=True, histtype="step", linewidth=1.5, color=color, label=name
            )
            axis.axvline(values.mean(), color=color, linestyle=":", linewidth=1)
        axis.legend(fontsize=8)
    axis.set_xlabel("radius (nats); dotted: the mean")
    axis.set_ylabel("density")
    figure.suptitle("how far answers are from the centre of their query's responses")
    save_figure(figure, path)


def plot_fronts(systems: Mapping[str, Run], path: str | Path):
    """Diversity (Dist-2, and Ent-4) against relevance of several systems: sweeps with intervals, searches marked.

    A system is better than another where its curve is outside the other's. Without relevance, BLEU-2 stands for it.

    Args:
        systems: evaluations by name, on the same queries.
        path: of the picture.
    """
    scores = [entry["scores"] for run in systems.values() for entry in run.decodings.values()]
    relevance = next(name for name in RELEVANCES if name == "bleu_2" or all(name in table for table in scores))
    figure, axes = new_figure(columns=len(DIVERSITIES))
    for axis, diversity in zip(axes, DIVERSITIES, strict=True):
        for color, (system, run) in zip(cycle(COLORS), systems.items(), strict=False):
            _draw_front(axis, run, diversity, relevance, system, color)
        own = None if run.references is None else run.references["scores"]
        if own:
            axis.axvline(own[diversity]["value"], color="grey", linestyle="--", label="the references' own")
            if relevance in own:
                axis.axhline(own[relevance]["value"], color="grey", linestyle="--")
        axis.set_xlabel(DIVERSITIES[diversity])
        axis.set_ylabel(RELEVANCES[relevance])
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.suptitle("diversity against relevance")
    save_figure(figure, path)


def plot_stability(histories: Mapping[str, list[dict[str, Any]]], path: str | Path):
    """Ent-4 of the validation answers over the steps of several runs (LocalGAN, Fig. 2).

    Args:
        histories: `trainer.state.log_history` by the name of the run. Runs whose names differ only in an ending such as
            `-seed1` or `_s2` are of one system and have one colour.
        path: of the picture.

    Raises:
        ValueError: if no run logged `eval_ent_4`.
    """
    curves = {name: _curve(history, "eval_ent_4") for name, history in histories.items()}
    curves = {name: curve for name, curve in curves.items() if curve}
    if not curves:
        raise ValueError("No run logged `eval_ent_4`: train with evaluations (`eval_strategy`) and a `monitor`.")
    figure, (axis,) = new_figure()
    systems = dict.fromkeys(SEED_ENDING.sub("", name) for name in curves)
    colors = dict(zip(systems, cycle(COLORS), strict=False))
    for name, curve in curves.items():
        system = SEED_ENDING.sub("", name)
        label = None if systems[system] else system
        systems[system] = True
        axis.plot(*zip(*curve, strict=True), marker=".", linewidth=1, color=colors[system], label=label)
    axis.set_xlabel("step")
    axis.set_ylabel(PANELS["eval_ent_4"])
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    save_figure(figure, path)


def _curve(history: list[dict[str, Any]], key: str) -> list[tuple[int, float]]:
    return [(entry["step"], entry[key]) for entry in history if entry.get(key) is not None]


def _draw_front(axis: "Axes", run: Run, diversity: str, relevance: str, system: str, color: str):
    """The sweep of temperatures as a line, searches as marks of the same colour."""
    temperatures = {name: value for name in run.decodings if (value := run.temperature(name)) is not None}
    sweep = sorted(temperatures, key=lambda name: temperatures[name])
    searches = [name for name in run.decodings if name not in temperatures]
    lines = [(sweep, "o", f"{system}, by temperature")]
    lines += [([name], marker, f"{system}, {name}") for marker, name in zip(cycle("s^Dv*"), searches, strict=False)]
    for names, marker, label in lines:
        if names:
            intervals = [[run.interval(name, score) for name in names] for score in (diversity, relevance)]
            across, up = ([interval.value for interval in column] for column in intervals)
            bars = [error_bars(column) for column in intervals]
            axis.errorbar(
                across, up, xerr=bars[0], yerr=bars[1], marker=marker, color=color, capsize=2, label=label,
                markersize=4 if marker == "o" else 8, linewidth=1,
            )  # fmt: skip
    for name in sweep:
        point = run.interval(name, diversity).value, run.interval(name, relevance).value
        text = f"{temperatures[name]:g}"
        axis.annotate(text, point, textcoords="offset points", xytext=(4, 4), fontsize=7, color=color)
