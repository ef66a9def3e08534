"""How many seeds a difference between two ways of training needs to be seen."""

import math
from collections.abc import Sequence

from scipy import stats

from hf_localgan.markdown import markdown_table

MOST = 1_000


def seed_power(difference: float, deviation: float, seeds: int, alpha: float = 0.05, *, paired: bool = False) -> float:
    """Probability that a two-sided t-test of two systems, each trained with so many seeds, shows their difference.

    The scores of the seeds of one system are taken for normal, with the same standard deviation for both, and seeds are
    not paired: what a seed does to one system it does not do to another. With `paired` the differences of runs with the
    same seed are normal.

    Args:
        difference: true difference of the systems' mean scores, such as 0.4 BLEU.
        deviation: standard deviation of one system's scores over seeds, with `paired` of the differences; in the same
            unit, above 0.
        seeds: of each system, at least 2.
        alpha: level of the test.
        paired: whether the test is paired by seeds.

    Raises:
        ValueError: for a deviation of 0 or less, fewer than 2 seeds, a level outside of (0, 1).
    """
    _check(deviation, alpha)
    if seeds < 2:
        raise ValueError(f"`seeds` must be at least 2, got {seeds}: one run of each tells nothing of their spread.")
    freedom = seeds - 1 if paired else 2 * seeds - 2
    shift = abs(difference) / (deviation * math.sqrt((1 if paired else 2) / seeds))
    bound = stats.t.isf(alpha / 2, freedom)
    wrong_side = float(stats.nct.cdf(-bound, freedom, shift))
    # Under 1e-12 scipy may give NaN there; the other side is 1 then.
    return float(stats.nct.sf(bound, freedom, shift)) + (0.0 if math.isnan(wrong_side) else wrong_side)


def seeds_needed(
    difference: float, deviation: float, *, target: float = 0.8, alpha: float = 0.05, paired: bool = False
) -> int | None:
    """The fewest seeds of each system with which `seed_power` reaches `target`; `None` for more than a thousand."""
    if not alpha < target < 1:
        raise ValueError(f"`target` must lie between `alpha` ({alpha}) and 1, for example 0.8, got {target}.")
    _check(deviation, alpha)
    numbers = range(2, MOST + 1)
    powers = ((seeds, seed_power(difference, deviation, seeds, alpha, paired=paired)) for seeds in numbers)
    return next((seeds for seeds, power in powers if power >= target), None)


def seeds_table(difference: float, deviations: Sequence[float], seeds: Sequence[int] = (3, 4, 6, 8, 12)) -> str:
    """Markdown: for each deviation the probability to see the difference by the number of seeds, and seeds for 80 %."""
    columns = ["deviation over seeds", *(f"{number} seeds" for number in seeds), "seeds for 80 %"]
    rows = []
    for deviation in deviations:
        needed = seeds_needed(difference, deviation)
        powers = (f"{seed_power(difference, deviation, number):.2f}" for number in seeds)
        rows.append([f"{deviation:.2f}", *powers, "more than a thousand" if needed is None else needed])
    title = f"Probability to see a difference of {difference:g} at level 0.05, two-sided, seeds of each system:"
    return "\n".join([title, "", *markdown_table(columns, rows, ">")]) + "\n"


def _check(deviation: float, alpha: float):
    if not 0 < deviation < math.inf:
        raise ValueError(f"`deviation` must be above 0, got {deviation}.")
    if not 0 < alpha < 1:
        raise ValueError(f"`alpha` must lie between 0 and 1, got {alpha}.")
