"""Pictures of attention and of trainings on speech; they need matplotlib, from the `plots` extra."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_localgan.evaluation.plots import new_figure, new_grid, save_figure


def plot_attention(maps: Sequence[tuple[str, Sequence[str], np.ndarray]], path: str | Path):
    """The decoder's attention for each token; in a model that aligns, a staircase from top left to bottom right.

    Args:
        maps: name, tokens, and weights of each utterance, shape `(tokens, steps)`.
        path: of the picture.
    """
    figure, axes = new_grid(len(maps), columns=2, height=3.2)
    for axis, (name, tokens, weights) in zip(axes, maps, strict=True):
        axis.imshow(weights, aspect="auto", cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
        axis.set_yticks(range(len(tokens)), tokens, fontsize=max(3, min(8, 160 // max(len(tokens), 1))))
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("encoder step")
    save_figure(figure, path)


def plot_speech_training(history: list[dict[str, Any]], path: str | Path):
    """Nats per label, the error rate, and the attention's movement, over the optimizer steps.

    Args:
        history: `trainer.state.log_history`.
        path: of the picture.
    """
    panels = [
        ("nats per label", {"loss": "training (all terms)", "eval_loss": "validation", "loss/ctc": "CTC"}),
        ("error rate", {"eval_per": "PER, validation", "eval_wer": "WER, validation"}),
        ("attention", {"speech/attention_forward": "share that moves on", "speech/attention_peak": "peak weight"}),
    ]
    figure, axes = new_figure(columns=len(panels))
    for axis, (unit, lines) in zip(axes, panels, strict=True):
        for key, label in lines.items():
            points = [(entry["step"], entry[key]) for entry in history if key in entry]
            if points:
                axis.plot(*zip(*points, strict=True), label=label)
        axis.set_xlabel("step")
        axis.set_ylabel(unit)
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend(fontsize=8)
    save_figure(figure, path)
