"""How many edit scripts of Eq. 11 (Norouzi et al. 2016) make one string of another.

A script leaves tokens of the reference alone or replaces them by nothing or by another token that may be drawn, and
inserts tokens that may be drawn. Between two tokens left alone all substitutions come before all insertions.
"""

from collections.abc import Callable

import numpy as np

# Two strings of together k tokens have no more scripts than (1 + sqrt 2)^k, a bound on the Delannoy numbers, which
# count alignments. Up to this many tokens the counts fit float64.
LOG_SCRIPTS_PER_TOKEN = float(np.log(1 + np.sqrt(2)))
_LINEAR_TOKENS = 600
# Logarithms of what single edits weigh: of the token that an edit brings in, by its place in the candidate; and what is
# added for a substitute, by the place of the token that it replaces in the reference.
EditWeights = tuple[np.ndarray, np.ndarray]


def log_edit_script_counts(
    candidates: np.ndarray,
    references: np.ndarray,
    drawable: np.ndarray,
    candidate_lengths: np.ndarray,
    reference_lengths: np.ndarray,
    max_edits: int,
    edit_weights: EditWeights | None = None,
) -> np.ndarray:
    """Logarithm of the number of edit scripts that make each candidate of its reference, by their number of edits.

    Time grows with the product of both lengths and the number of edits.

    Args:
        candidates: token ids, padded, shape `(batch, new)`.
        references: token ids, padded, shape `(batch, time)`.
        drawable: which tokens of the candidates may be drawn, bool, shape `(batch, new)`.
        candidate_lengths: shape `(batch,)`.
        reference_lengths: shape `(batch,)`.
        max_edits: largest number of edits looked at.
        edit_weights: a script then counts by the product of its edits' weights: logarithms of shapes `(batch, new)` and
            `(batch, time)`; a deletion weighs 1.

    Returns:
        Nats, float64, shape `(batch, max_edits + 1)`; `-inf` where there is no script.
    """
    linear = candidates.shape[1] + references.shape[1] <= _LINEAR_TOKENS
    add, nothing, one = (np.add, 0.0, 1.0) if linear else (np.logaddexp, -np.inf, 0.0)
    start = np.full(max_edits + 1, nothing)
    start[0] = one

    def one_more(counts: np.ndarray) -> np.ndarray:
        shifted = np.empty_like(counts)
        shifted[..., 0] = nothing
        shifted[..., 1:] = counts[..., :-1]
        return shifted

    lengths = candidate_lengths, reference_lengths

    def weigh(counts: np.ndarray, log_weights: np.ndarray) -> np.ndarray:
        return counts * np.exp(log_weights)[..., None] if linear else counts + log_weights[..., None]

    weights = None if edit_weights is None else (*edit_weights, weigh)
    totals = _sum_over_scripts(candidates, references, drawable, lengths, start, one_more, add, nothing, weights)
    if not linear:
        return totals
    with np.errstate(divide="ignore"):
        return np.log(totals)


def log_edit_script_weights(
    candidates: np.ndarray,
    references: np.ndarray,
    drawable: np.ndarray,
    candidate_lengths: np.ndarray,
    reference_lengths: np.ndarray,
    penalty: float,
    edit_weights: EditWeights | None = None,
) -> np.ndarray:
    """Logarithm of the sum of `exp(-penalty * edits)` over all scripts, of any number of edits.

    Time grows with the product of both lengths. Arguments as `log_edit_script_counts`.

    Args:
        penalty: nats lost with each edit.
        edit_weights: see `log_edit_script_counts`.

    Returns:
        Nats, float64, shape `(batch,)`; `-inf` where there is no script.
    """
    lengths, start = (candidate_lengths, reference_lengths), np.zeros(1)

    def one_more(weights: np.ndarray) -> np.ndarray:
        return weights - penalty

    def weigh(weights: np.ndarray, log_weights: np.ndarray) -> np.ndarray:
        return weights + log_weights[..., None]

    arguments = start, one_more, np.logaddexp, -np.inf, None if edit_weights is None else (*edit_weights, weigh)
    return _sum_over_scripts(candidates, references, drawable, lengths, *arguments)[:, 0]


def _sum_over_scripts(
    candidates: np.ndarray,
    references: np.ndarray,
    drawable: np.ndarray,
    lengths: tuple[np.ndarray, np.ndarray],
    start: np.ndarray,
    one_more: Callable[[np.ndarray], np.ndarray],
    add: Callable[[np.ndarray, np.ndarray], np.ndarray],
    nothing: float,
    edit_weights: tuple[np.ndarray, np.ndarray, Callable[[np.ndarray, np.ndarray], np.ndarray]] | None,
) -> np.ndarray:
    """The dynamic programme over both strings, for whatever is summed over scripts.

    Args:
        lengths: lengths of candidates and references.
        start: what the script without edits counts, shape `(values,)`.
        one_more: values of scripts to those of the same scripts with one more edit, last dimension `values`.
        add: elementwise sum.
        nothing: its neutral element.
        edit_weights: `EditWeights`, and what multiplies values of shape `(..., values)` by weights of shape `(...)`
            given by their logarithms.

    Returns:
        Shape `(batch, values)`.
    """
    batch, new = candidates.shape
    candidates, can_draw = candidates.T, drawable.T[..., None]
    totals = np.full((batch, len(start)), nothing)
    # By tokens of the candidate made so far: since the last token left alone only substitutions, or insertions too.
    substituting = np.full((new + 1, batch, len(start)), nothing)
    substituting[0] = start
    inserting = np.full_like(substituting, nothing)
    for row in range(references.shape[1] + 1):
        for column in range(new):
            both = add(substituting[column], inserting[column])
            inserted = one_more(both)
            if edit_weights is not None:
                inserted = edit_weights[2](inserted, edit_weights[0][:, column])
            inserting[column + 1] = np.where(can_draw[column], inserted, nothing)
        either = add(substituting, inserting)
        ended = np.flatnonzero(lengths[1] == row)
        totals[ended] = either[lengths[0][ended], ended]
        if row == references.shape[1]:
            break
        is_same = (candidates == references[:, row])[..., None]
        following = one_more(substituting)  # the token becomes nothing
        replaced = following[:-1]
        if edit_weights is not None:
            replaced = edit_weights[2](replaced, edit_weights[0].T + edit_weights[1][:, row])
        replaced = np.where(can_draw & ~is_same, replaced, nothing)
        left_alone = np.where(is_same, either[:-1], nothing)
        following[1:] = add(add(following[1:], replaced), left_alone)
        substituting = following
    return totals
