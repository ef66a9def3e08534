"""How many ways a reference can be edited, and how probable they are (Norouzi et al. 2016, Sec. 2.2 and Eq. 11).

Everything is in log space: the counts overflow float64 for ordinary lengths and vocabularies. Costs are those of one
edit, in units of the reward; counts of edits, tokens and scripts are plain numbers.
"""

import math
from collections.abc import Callable
from functools import cache

import numpy as np

# Beyond this, `cost / temperature` would overflow when multiplied by a number of edits; exp(-1e290) is 0 anyway.
_LARGEST_PENALTY = 1e290
_CHUNK_ELEMENTS = 2**18


def log_edit_counts(length: int, vocab_size: int, max_edits: int | None = None, outside: int = 0) -> np.ndarray:
    """Logarithm of the number of edit scripts by number of edits and of substitutions: the summands of Eq. 11.

    A script with `e` edits chooses `s` tokens, replaces each by nothing or by another one of the `v` tokens, and puts
    `e - s` insertions into the `m - s + 1` gaps between the tokens it left alone:

        C(m, s) v^s * C(m + e - 2s, e - s) v^(e - s)

    A token outside of the set has one option more (nothing, or any of `v`), so with `u` of them `C(m, s) v^s` becomes
    the sum over `j` of `C(u, j) (v + 1)^j C(m - u, s - j) v^(s - j)`.

    Args:
        length: `m`, tokens of the reference without its end token.
        vocab_size: `v`, tokens that may be drawn.
        max_edits: largest number of edits; `2 m` if `None`.
        outside: `u`, tokens of the reference that may not be drawn themselves (an unknown word, for example).

    Returns:
        Nats, float64, shape `(max_edits + 1, min(m, max_edits) + 1)`; `-inf` where `s > e`. `2 m^2` numbers by default.

    Raises:
        ValueError: for a negative length, an empty set, or more tokens outside than there are.
    """
    max_edits = _check_counts(length, vocab_size, max_edits, outside)
    log_chosen = log_substitution_counts(length, vocab_size, outside)
    return _summands(np.arange(max_edits + 1), length, vocab_size, log_chosen[: max_edits + 1])


def log_edit_totals(length: int, vocab_size: int, max_edits: int | None = None, outside: int = 0) -> np.ndarray:
    """Logarithm of the number of edit scripts by number of edits: `ln c(e, m)` of Eq. 11.

    The same as `log_edit_counts` summed over substitutions, without holding that table: it takes time in proportion
    to `m^2` and memory in proportion to `m`. `v` does not matter.

    Returns:
        Nats, float64, shape `(max_edits + 1,)`.
    """
    max_edits = _check_counts(length, vocab_size, max_edits, outside)
    log_chosen = log_substitution_counts(length, vocab_size, outside)[: max_edits + 1]
    rows = max(1, _CHUNK_ELEMENTS // len(log_chosen))
    return np.concatenate(
        [
            logsumexp(_summands(np.arange(first, min(first + rows, max_edits + 1)), length, vocab_size, log_chosen))
            for first in range(0, max_edits + 1, rows)
        ]
    )


def log_substitution_counts(length: int, vocab_size: int, outside: int = 0) -> np.ndarray:
    """Logarithm of the number of ways to choose `s` of `m` tokens and what each becomes: nothing or another token.

    Returns:
        Nats for `s = 0 .. m`, float64, shape `(m + 1,)`.
    """
    inside = length - outside
    chosen_inside = log_binomials(inside) + np.arange(inside + 1) * math.log(vocab_size)
    if not outside:
        return chosen_inside
    chosen_outside = log_binomials(outside) + np.arange(outside + 1) * math.log(vocab_size + 1)
    return _log_convolution(chosen_inside, chosen_outside)


def edit_log_probs(
    length: int,
    vocab_size: int,
    temperature: float,
    edit_cost: float,
    max_edits: int | None = None,
    outside: int = 0,
) -> np.ndarray:
    """Log-probability of `0 .. max_edits` edits under Eq. 11, in proportion to `c(e, m) exp(-cost e / temperature)`.

    Args:
        length: `m`, tokens of the reference without its end token.
        vocab_size: `v`, tokens that may be drawn.
        temperature: in units of the reward. At 0 all is on no edit; infinity weighs all scripts alike.
        edit_cost: reward lost with each edit.
        max_edits: largest number of edits; `2 m` if `None`.
        outside: tokens of the reference that may not be drawn themselves.

    Returns:
        Nats, float64, shape `(max_edits + 1,)`.

    Raises:
        ValueError: for a negative or NaN temperature, and what `log_edit_counts` refuses.
    """
    penalty = penalty_per_edit(temperature, edit_cost)
    return log_softmax_edits(log_edit_totals(length, vocab_size, max_edits, outside), penalty)


def hamming_log_probs(
    length: int, vocab_size: int, temperature: float, edit_cost: float, outside: int = 0
) -> np.ndarray:
    """Log-probability of `e` replaced tokens under the Hamming payoff; binomial where all tokens are in the set.

    Arguments as `edit_log_probs`.

    Returns:
        Nats for `e = 0 .. m`, float64, shape `(m + 1,)`.
    """
    _check_counts(length, vocab_size, None, outside)
    inside, other = (
        _log_binomial_probs(number, hamming_replacement_prob(vocab_size, temperature, edit_cost, outside=is_outside))
        for number, is_outside in ((length - outside, False), (outside, True))
    )
    return _log_convolution(inside, other) if outside else inside


def hamming_replacement_prob(vocab_size: int, temperature: float, edit_cost: float, outside: bool = False) -> float:
    """Probability that the Hamming payoff replaces one token: `n w / (1 + n w)` with `w = exp(-cost / temperature)`.

    Args:
        vocab_size: `v`, tokens that may be drawn; `n` is `v - 1`.
        temperature: in units of the reward.
        edit_cost: reward lost with each replacement.
        outside: whether the token replaced is none of the `v`; then `n` is `v`.
    """
    others = vocab_size if outside else vocab_size - 1
    if others < 0 or vocab_size < 1:
        raise ValueError(f"`vocab_size` must be at least 1, got {vocab_size}.")
    penalty = penalty_per_edit(temperature, edit_cost)
    if others == 0:
        return 0.0
    log_odds = math.log(others) - penalty
    return math.exp(log_odds) / (1 + math.exp(log_odds)) if log_odds < 0 else 1 / (1 + math.exp(-log_odds))


def expected_edit_rate(
    length: int, vocab_size: int, temperature: float, edit_cost: float, max_edits: int | None = None
) -> float:
    """Expected edits per token of a reference of `length` tokens under Eq. 11; 0 for an empty reference.

    For the Hamming payoff this is `hamming_replacement_prob`, whatever the length.
    """
    probs = np.exp(edit_log_probs(length, vocab_size, temperature, edit_cost, max_edits))
    return float(probs @ np.arange(len(probs))) / length if length else 0.0


def temperature_for_edit_rate(
    edit_rate: float, length: int, vocab_size: int, edit_cost: float, max_edits: int | None = None
) -> float:
    """The temperature at which Eq. 11 makes `edit_rate` edits per token, by bisection.

    Args:
        edit_rate: expected edits per token of the reference; from 0 to what an infinite temperature gives.
        length: `m`, tokens of a typical reference, at least 1. Longer ones get more edits per token.
        vocab_size: `v`, tokens that may be drawn.
        edit_cost: reward lost with each edit.
        max_edits: largest number of edits; `2 m` if `None`.

    Raises:
        ValueError: if no temperature reaches the rate, or the length is 0.
    """
    if length < 1:
        raise ValueError(f"`length` must be at least 1 to speak of edits per token, got {length}.")
    log_totals = log_edit_totals(length, vocab_size, max_edits)
    edits = np.arange(len(log_totals))

    def rate(penalty: float) -> float:
        return float(np.exp(log_softmax_edits(log_totals, penalty)) @ edits) / length

    _check_rate(edit_rate, rate(0.0))
    if edit_rate == 0:
        return 0.0
    return edit_cost / penalty_where(rate, edit_rate)


def penalty_where(mean: Callable[[float], float], wanted: float) -> float:
    """The penalty per edit, `cost / tau` in nats, at which `mean(penalty)`, which falls as it grows, is `wanted`.

    Args:
        mean: mean number of edits, or of edits per token.
        wanted: above 0 and below `mean(0)`.
    """
    low, high = 0.0, 1.0
    while mean(high) > wanted:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if mean(middle) > wanted else (low, middle)
    return high


def hamming_temperature_for_edit_rate(edit_rate: float, vocab_size: int, edit_cost: float) -> float:
    """The temperature at which the Hamming payoff replaces `edit_rate` of the tokens, in closed form.

    Raises:
        ValueError: if no temperature reaches the rate.
    """
    _check_rate(edit_rate, (vocab_size - 1) / vocab_size)
    if edit_rate == 0:
        return 0.0
    return edit_cost / (math.log(vocab_size - 1) - math.log(edit_rate) + math.log1p(-edit_rate))


def penalty_per_edit(temperature: float, edit_cost: float) -> float:
    """`cost / temperature`, in nats for each edit; finite, also at temperature 0.

    Raises:
        ValueError: for a negative or NaN temperature.
    """
    if not temperature >= 0:
        raise ValueError(f"`temperature` must be at least 0, got {temperature}.")
    # Compared before the division: a tiny temperature would overflow.
    return edit_cost / temperature if edit_cost < temperature * _LARGEST_PENALTY else _LARGEST_PENALTY


def log_softmax_edits(log_totals: np.ndarray, penalty: float) -> np.ndarray:
    """Log-probabilities of `0, 1, ...` edits, whose scripts number `exp(log_totals)` and cost `penalty` nats an edit.

    Args:
        log_totals: nats, last dimension is the number of edits.
        penalty: `cost / temperature`.
    """
    weights = log_totals - penalty * np.arange(log_totals.shape[-1])
    return weights - logsumexp(weights)[..., None]


def logsumexp(values: np.ndarray) -> np.ndarray:
    """`ln sum exp` over the last dimension; `-inf` where all are."""
    largest = values.max(axis=-1, keepdims=True)
    largest = np.where(np.isfinite(largest), largest, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(values - largest).sum(axis=-1)) + largest[..., 0]


def log_factorials(largest: int) -> np.ndarray:
    """`ln n!` of 0 to at least `largest`, read-only; one table is shared by all callers."""
    return _log_factorials(max(8, int(largest).bit_length()))


@cache
def _log_factorials(bits: int) -> np.ndarray:
    table = np.array([math.lgamma(number + 1) for number in range(2**bits)])
    table.flags.writeable = False
    return table


def log_binomials(number: int) -> np.ndarray:
    """`ln C(number, k)` for `k = 0 .. number`."""
    logs = log_factorials(number)[: number + 1]
    return logs[number] - logs - logs[::-1]


def _summands(edits: np.ndarray, length: int, vocab_size: int, log_chosen: np.ndarray) -> np.ndarray:
    """Log-counts for these numbers of edits (rows) and 0, 1, ... substitutions (columns)."""
    edits = edits[:, None]
    substitutions = np.arange(len(log_chosen))
    insertions = np.maximum(edits - substitutions, 0)
    untouched = length - substitutions
    logs = log_factorials(length + int(edits.max()))
    log_placed = logs[untouched + insertions] - logs[insertions] - logs[untouched]
    counts = log_chosen + log_placed + insertions * math.log(vocab_size)
    return np.where(substitutions <= edits, counts, -np.inf)


def _log_convolution(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Log-coefficients of the product of two polynomials whose log-coefficients are given."""
    if len(second) > len(first):
        first, second = second, first
    total = np.full(len(first) + len(second) - 1, -np.inf)
    for shift, value in enumerate(second):
        part = total[shift : shift + len(first)]
        np.logaddexp(part, first + value, out=part)
    return total


def _log_binomial_probs(number: int, prob: float) -> np.ndarray:
    count = np.arange(number + 1)
    if prob == 0:
        return np.where(count == 0, 0.0, -np.inf)
    return log_binomials(number) + count * math.log(prob) + (number - count) * math.log1p(-prob)


def _check_counts(length: int, vocab_size: int, max_edits: int | None, outside: int) -> int:
    max_edits = 2 * length if max_edits is None else max_edits
    for name, value, least in (
        ("length", length, 0), ("vocab_size", vocab_size, 1), ("max_edits", max_edits, 0), ("outside", outside, 0),
    ):  # fmt: skip
        if value < least:
            raise ValueError(f"`{name}` must be at least {least}, got {value}.")
    if outside > length:
        raise ValueError(f"`outside` must be at most the length {length}, got {outside}.")
    return max_edits


def _check_rate(edit_rate: float, largest: float):
    if not 0 <= edit_rate < largest:
        raise ValueError(
            f"`edit_rate` must be at least 0 and under {largest:.4g}, which an infinite temperature reaches, "
            f"got {edit_rate}."
        )
