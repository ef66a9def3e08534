"""Draws what RAML's equations say, on spaces of strings that are small enough to list.

    python recipes/raml_theory.py [FOLDER]

Writes four pictures into FOLDER (`docs/pictures` if none is given), and prints the numbers under them:

* `raml_payoff.png`: the exponentiated payoff distribution `q(y | y*)` at several temperatures (Eq. 4);
* `raml_edits.png`: how many edits Eq. 11 makes with 61 tokens in a reference of 20 (Figure 1), for two costs;
* `raml_objectives.png`: the two objectives and the terms by which they differ (Proposition 2);
* `raml_double_counting.png`: how far Eq. 11 is from Eq. 4, by the size of the vocabulary.

Nothing is trained or read. It takes some seconds.
"""

import argparse
import math
import sys
from itertools import product
from pathlib import Path

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein

from hf_localgan.evaluation.plots import require_matplotlib, save_figure
from hf_localgan.functional.edit_scripts import log_edit_script_counts
from hf_localgan.functional.exponentiated import (
    direction_gap,
    entropy,
    expected_reward_loss,
    exponentiated_payoff,
    log_partition,
    raml_loss,
)
from hf_localgan.functional.payoff import edit_log_probs

ROOT = Path(__file__).parents[1]
LETTERS, REFERENCE = "abc", "ab"
STRINGS = ["".join(string) for length in range(5) for string in product(LETTERS, repeat=length)]  # 121
PHONES, LENGTH = 61, 20  # of the paper's Figure 1
FIGURE_1 = (0.6, 0.7, 0.8, 0.85, 0.9, 1.0)
VOCABULARIES = (3, 4, 5, 8, 16, 32, 61, 128, 512, 2048, 8192)


def edit_cost(vocab_size: int) -> float:
    return 1 + math.log(vocab_size)


def payoff_picture(path: Path):
    """`q(y | y*)` of single strings, and the mass at each distance from the reference."""
    distances = np.array([Levenshtein.distance(string, REFERENCE) for string in STRINGS])
    rewards = torch.from_numpy(-edit_cost(len(LETTERS)) * distances)
    shown = sorted(range(len(STRINGS)), key=lambda i: (distances[i], len(STRINGS[i]), STRINGS[i]))[:18]
    temperatures = np.linspace(0.2, 2.0, 91)

    figure, (single, mass) = new_panels(2)
    for temperature, marker in zip((0.3, 0.6, 0.9, 1.5), "osD^", strict=True):
        probs = exponentiated_payoff(rewards, temperature).exp().numpy()
        single.semilogy(probs[shown], marker + "-", markersize=4, linewidth=1, label=f"τ = {temperature:g}")
        print(f"tau {temperature:g}: q(y*) = {probs[distances == 0][0]:.3f}")
    single.set_xticks(range(len(shown)), [STRINGS[i] or "∅" for i in shown], rotation=90)
    single.set_ylim(1e-6, 1.5)
    single.set_ylabel("q(y | y* = ab)")
    single.legend(ncols=2)
    by_distance = np.array([
        [exponentiated_payoff(rewards, float(tau)).exp().numpy()[distances == d].sum() for tau in temperatures]
        for d in range(distances.max() + 1)
    ])  # fmt: skip
    mass.stackplot(temperatures, by_distance, labels=["y*", "1 edit", "2 edits", "3 edits", "4 edits"])
    mass.set_xlabel("temperature τ")
    mass.set_ylabel("share of the mass")
    mass.set_xlim(temperatures[0], temperatures[-1])
    mass.set_ylim(0, 1)
    mass.legend(loc="lower left", fontsize=9)
    save_figure(figure, path)


def edits_picture(path: Path):
    """Figure 1 with the cost that reproduces it, and with the printed formula."""
    figure, axes = new_panels(2)
    for axis, cost, name in zip(axes, (edit_cost(PHONES), 1.0), ("1 + ln v", "1"), strict=True):
        for temperature in FIGURE_1:
            probs = np.exp(edit_log_probs(LENGTH, PHONES, temperature, cost))
            axis.plot(probs, ".-", linewidth=1, markersize=4, label=f"τ = {temperature:g}")
            mean = probs @ np.arange(len(probs))
            print(f"cost {name}, tau {temperature:g}: {mean:.2f} edits, P(0) = {probs[0]:.3f}")
        axis.set_title(f"one edit costs {name}", fontsize=11)
        axis.set_ylabel("probability")
        axis.legend(ncols=2, fontsize=9)
    axes[0].set_xlim(-0.5, 25)
    axes[1].set_xlim(-0.5, 2 * LENGTH + 0.5)
    axes[1].set_xlabel(f"edits in a reference of {LENGTH} tokens (v = {PHONES})")
    save_figure(figure, path)


def objectives_picture(path: Path, temperature: float = 0.9):
    """The objectives over models from too sure to too flat, `p` in proportion to `exp(r / sigma)`."""
    distances = torch.tensor([Levenshtein.distance(string, REFERENCE) for string in STRINGS], dtype=torch.float64)
    rewards = -edit_cost(len(LETTERS)) * distances
    log_q = exponentiated_payoff(rewards, temperature)
    sigmas = torch.logspace(math.log10(0.35), math.log10(4), 60, dtype=torch.float64)
    log_p = (rewards / sigmas[:, None]).log_softmax(dim=-1)  # (models, strings)
    expected = expected_reward_loss(rewards.expand_as(log_p), log_p, temperature)
    constant = temperature * (entropy(log_q) + log_partition(rewards, temperature))
    augmented = temperature * raml_loss(log_q.expand_as(log_p), log_p) - constant
    gap = direction_gap(temperature * log_p, rewards.expand_as(log_p), temperature)
    first, second = (variance / (4 * temperature) for variance in (gap.variance_a, gap.variance_b))
    print(f"largest error of the identity: {(augmented + first - second - expected).abs().max():.1e}")

    figure, (losses, terms) = new_panels(2)
    losses.plot(sigmas, expected, label="$L_{RL}$")
    losses.plot(sigmas, augmented, label=r"$\tau L_{RAML} - \tau(H(q) + \log Z)$")
    losses.plot(sigmas[::4], (augmented + first - second)[::4], "k.", label="the second, plus the difference below")
    losses.set_ylim(float(expected.min()) - 0.1, float(expected.min()) + 2.6)
    losses.set_ylabel("units of the reward")
    terms.plot(sigmas, first, label=r"$\mathrm{Var}_a / 4\tau$")
    terms.plot(sigmas, second, label=r"$\mathrm{Var}_b / 4\tau$")
    terms.plot(sigmas, first - second, "k--", linewidth=1, label="difference")
    terms.set_ylim(-1.3, 1.7)
    terms.set_ylabel("units of the reward")
    terms.set_xlabel("temperature σ of the model p ∝ exp(r / σ)")
    for axis in (losses, terms):
        axis.axvline(temperature, color="grey", linewidth=1, linestyle=":")
        axis.set_xscale("log")
        axis.set_xticks([0.4, temperature, 2, 4], ["0.4 (too sure)", "τ = 0.9", "2", "4 (too flat)"])
        axis.minorticks_off()
        axis.legend(fontsize=9)
    save_figure(figure, path)


def double_counting(length: int, vocab_sizes, temperatures, max_edits: int) -> np.ndarray:
    """Total variation between Eq. 11's strings and Eq. 4 over strings within `max_edits` of a reference.

    The reference has `length` different tokens. Strings that a permutation of all other tokens turns into each other
    are as probable as each other, so that one of each kind is enough, whatever the vocabulary.

    Returns:
        Shape `(vocabularies, temperatures)`.
    """
    kinds = list(_kinds(length, length + max_edits))
    lengths = np.array([len(kind) for kind in kinds])
    strings = np.full((len(kinds), length + max_edits), -1)
    for string, kind in zip(strings, kinds, strict=True):
        string[: len(kind)] = kind
    references = np.broadcast_to(np.arange(length), (len(kinds), length))
    scripts = log_edit_script_counts(  # (kinds, edits)
        strings, references, strings >= 0, lengths, np.full(len(kinds), length), max_edits
    )
    reached = np.isfinite(scripts).any(axis=1)
    scripts = scripts[reached]
    others = (strings.max(axis=1).clip(min=length - 1) + 1 - length)[reached]  # different tokens not of the reference
    fewest = np.isfinite(scripts).argmax(axis=1)
    distances = np.empty((len(vocab_sizes), len(temperatures)))
    for row, vocab_size in enumerate(vocab_sizes):
        free = vocab_size - length
        log_strings = np.array([
            sum(math.log(free - i) for i in range(number)) if number <= free else -math.inf for number in others
        ])  # fmt: skip
        for column, temperature in enumerate(temperatures):
            cost = edit_cost(vocab_size) / temperature
            printed = np.logaddexp.reduce(scripts - cost * np.arange(max_edits + 1), axis=1) + log_strings
            exact = -cost * fewest + log_strings
            printed, exact = (np.exp(some - np.logaddexp.reduce(some)) for some in (printed, exact))
            distances[row, column] = np.abs(printed - exact).sum() / 2
    return distances


def _kinds(length: int, longest: int):
    """Strings up to a length whose tokens from `length` on appear in order: one of each kind."""
    strings = [[]]
    for _ in range(longest + 1):
        yield from strings
        strings = [[*string, token] for string in strings for token in range(max([length - 1, *string]) + 2)]


def double_counting_picture(path: Path):
    temperatures = (0.6, 0.75, 0.9, 1.0)
    distances = double_counting(2, VOCABULARIES, temperatures, max_edits=4)
    figure, (axis,) = new_panels(1)
    for temperature, values in zip(temperatures, distances.T, strict=True):
        axis.loglog(VOCABULARIES, values, "o-", markersize=4, linewidth=1, label=f"τ = {temperature:g}")
        pairs = zip(VOCABULARIES, values, strict=True)
        print(f"tau {temperature:g}: " + ", ".join(f"v = {v}: {value:.3f}" for v, value in pairs))
    axis.set_xlabel("tokens v in the vocabulary")
    axis.set_ylabel("total variation from Eq. 4")
    axis.set_title("strings that Eq. 11 counts twice (m = 2)", fontsize=11)
    axis.legend(fontsize=9)
    save_figure(figure, path)


def new_panels(number: int):
    """A figure as wide as a phone, with panels one above the other."""
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.7, 0.6 + 2.7 * number), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(number, 1, squeeze=False)[:, 0]
    for axis in axes:
        axis.grid(alpha=0.3)
    return figure, axes


def main(folder: Path):
    require_matplotlib()
    payoff_picture(folder / "raml_payoff.png")
    edits_picture(folder / "raml_edits.png")
    objectives_picture(folder / "raml_objectives.png")
    double_counting_picture(folder / "raml_double_counting.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folder", nargs="?", type=Path, default=ROOT / "docs" / "pictures", help="where the pictures go"
    )
    try:
        main(parser.parse_args().folder)
    except (ImportError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")
