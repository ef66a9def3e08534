"""What a temperature does to references of a given length, as a table and as a picture."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from hf_localgan.files import replacing
from hf_localgan.markdown import markdown_table
from hf_localgan.payoff.edit import EditPayoff
from hf_localgan.payoff.hamming import HammingPayoff


def edit_table(
    payoff: EditPayoff | HammingPayoff,
    length: int,
    temperatures: Iterable[float] | None = None,
    *,
    edits: Iterable[int] = range(11),
) -> str:
    """The distribution of the number of edits, one line for each temperature.

    `print(edit_table(EditPayoff(range(61), 0.9), 20, (0.6, 0.7, 0.8, 0.9, 1.0)))` shows the paper's Figure 1.

    Args:
        payoff: whose vocabulary and cost are meant.
        length: tokens of the reference, without its end token.
        temperatures: one line each; the sampler's own if `None`.
        edits: numbers of edits, one column each.

    Returns:
        A Markdown table: temperature, mean number of edits, edits per token, probability of each number of edits.
    """
    edits = list(edits)
    columns = ["tau", "mean edits", "edits per token", *(f"P(e={number})" for number in edits)]
    rows = []
    for temperature, probs in _distributions(payoff, length, temperatures):
        mean = float(probs @ np.arange(len(probs)))
        shown = [probs[number] if number < len(probs) else 0.0 for number in edits]
        rate = f"{mean / length:.3f}" if length else "0.000"
        rows.append([f"{temperature:g}", f"{mean:.2f}", rate, *(f"{prob:.3f}" for prob in shown)])
    return "\n".join(markdown_table(columns, rows, ">"))


def plot_edit_probs(
    payoff: EditPayoff | HammingPayoff,
    length: int,
    path: str | Path,
    temperatures: Iterable[float] | None = None,
):
    """Draws the distribution of the number of edits, one curve for each temperature: the paper's Figure 1.

    Args:
        payoff: whose vocabulary and cost are meant.
        length: tokens of the reference, without its end token.
        path: where the picture goes; its suffix is its format.
        temperatures: one curve each; the sampler's own if `None`.

    Raises:
        ImportError: without matplotlib.
    """
    distributions = _distributions(payoff, length, temperatures)
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('Plots need matplotlib: `pip install "hf-localgan[plots]"`.') from error
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    FigureCanvasAgg(figure)  # needs no screen
    axis = figure.subplots()
    for temperature, probs in distributions:
        axis.plot(np.arange(len(probs)), probs, marker=".", label=f"τ = {temperature:g}")
    axis.set_xlabel("number of edits")
    axis.set_ylabel("probability")
    axis.set_title(f"{length} tokens, {len(payoff.tokens):,} in the vocabulary, an edit costs {payoff.edit_cost:.2f}")
    axis.grid(alpha=0.3)
    axis.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _distributions(payoff, length: int, temperatures: Iterable[float] | None) -> list[tuple[float, np.ndarray]]:
    if not isinstance(payoff, (EditPayoff, HammingPayoff)):
        raise ValueError(
            f"`payoff` must be an `EditPayoff` or a `HammingPayoff`, got {type(payoff).__name__}: with other samplers "
            "the number of edits depends on more than the length of the reference."
        )
    temperatures = [payoff.temperature] if temperatures is None else list(temperatures)
    return [(tau, payoff.edit_probs(length, temperature=tau)) for tau in temperatures]
