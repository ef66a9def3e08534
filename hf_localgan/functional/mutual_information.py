"""Responses chosen by mutual information with their query, MMI (Li et al. 2016).

A response `y` to a query `q` is chosen by `log p(y | q) - lambda log p(y)`, or, by Bayes' rule up to what is the same
for all responses to a query, by `(1 - lambda) log p(y | q) + lambda log p(q | y)`. The first form, antiLM, can be
searched token by token; the second, bidi, ranks whole candidates. Log-probabilities are in nats.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

NORMALISATIONS = ("sum", "token")


def check_mmi(penalty: float, steps: int | None, length_reward: float):
    """Refuses numbers that antiLM has no meaning for.

    Raises:
        ValueError: for a penalty that is negative or not finite, fewer than 0 steps, a reward that is not finite.
    """
    if not 0 <= penalty < float("inf"):
        raise ValueError(f"`penalty` must be a number of at least 0, got {penalty}. 0 leaves the language model out.")
    if steps is not None and steps < 0:
        raise ValueError(f"`steps` must be at least 0, or `None` for all steps, got {steps}.")
    if not abs(length_reward) < float("inf"):
        raise ValueError(f"`length_reward` must be finite, got {length_reward}. 0 rewards no length.")


def check_weight(weight: float):
    """Refuses a share that is no share.

    Raises:
        ValueError: for a weight outside of 0 to 1, and NaN.
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"`weight` must be from 0 (the generator alone) to 1 (the other model alone), got {weight}.")


def anti_lm_step(
    scores: Tensor, language_model_scores: Tensor | None, penalty: float, length_reward: float = 0.0
) -> Tensor:
    """One step of antiLM: `log p(. | q, y_<k) - lambda log u(. | y_<k) + mu` of every next token.

    Their sum over the tokens of a response is `anti_lm_scores` (Li et al. 2016, section on MMI-antiLM). A token that
    `scores` forbids stays forbidden.

    Args:
        scores: logits or log-probabilities of the next token; `log_softmax` changes the latter no more. Shape
            `(rows, vocab)`.
        language_model_scores: the same of `u`, a model that does not see the query; `None` where it takes no part,
            behind the first `gamma` steps.
        penalty: lambda, at least 0, without a unit.
        length_reward: mu, nats for each token, the end token included.

    Returns:
        Shape `(rows, vocab)`, nats; `-inf` where `scores` has it.

    Raises:
        ValueError: for another vocabulary of `u`.
    """
    log_probs = scores.log_softmax(dim=-1)
    if language_model_scores is not None and penalty:
        if language_model_scores.shape != scores.shape:
            raise ValueError(
                f"The language model must score the tokens that the generator scores, shape {tuple(scores.shape)}, got "
                f"{tuple(language_model_scores.shape)}. Take one with the same vocabulary."
            )
        own = language_model_scores.log_softmax(dim=-1)
        # What the generator forbids may have no probability under `u` either, and `inf - inf` is no number.
        log_probs = torch.where(log_probs.isneginf(), log_probs, log_probs - penalty * own)
    return log_probs + length_reward


def anti_lm_scores(
    log_probs: Tensor,
    language_model_log_probs: Tensor,
    mask: Tensor,
    penalty: float,
    steps: int | None = None,
    length_reward: float = 0.0,
) -> Tensor:
    """`sum_k [log p(y_k | q, y_<k) - lambda 1(k <= gamma) log u(y_k | y_<k) + mu]` (Li et al. 2016, MMI-antiLM).

    The first words decide what a response is about, and the language model's vote on later ones breaks its grammar, so
    that only the first `gamma` are penalised.

    Args:
        log_probs: log-probability of each token given the query, nats, shape `(rows, time)`.
        language_model_log_probs: log-probability of the same tokens under `u`, without the query.
        mask: true or 1 at tokens, the end token included; shape `(rows, time)`. Tokens may begin anywhere.
        penalty: lambda, at least 0.
        steps: gamma, the number of tokens that are penalised; `None` for all.
        length_reward: mu, nats per token.

    Returns:
        Shape `(rows,)`, nats. 0 without any token.

    Raises:
        ValueError: for shapes that differ, and numbers that `check_mmi` refuses.
    """
    _check_shapes(log_probs=log_probs, language_model_log_probs=language_model_log_probs, mask=mask)
    check_mmi(penalty, steps, length_reward)
    mask = mask.bool()
    number = mask.cumsum(dim=1)  # of each token, from 1
    penalised = mask if steps is None else mask & (number <= steps)
    total = log_probs.masked_fill(~mask, 0.0).sum(dim=1) + length_reward * mask.sum(dim=1)
    return total - penalty * language_model_log_probs.masked_fill(~penalised, 0.0).sum(dim=1)


def bidirectional_scores(
    forward: Tensor,
    backward: Tensor,
    lengths: Tensor,
    query_lengths: Tensor,
    weight: float,
    length_reward: float = 0.0,
    normalise: str = "sum",
) -> Tensor:
    """`(1 - lambda) log p(y | q) + lambda log p(q | y) + mu |y|` of candidates (Li et al. 2016, MMI-bidi).

    Args:
        forward: `log p(y | q)`, summed over the tokens of `y`, nats, shape `(candidates,)`.
        backward: `log p(q | y)`, summed over the tokens of `q`.
        lengths: tokens of `y`, the end token included.
        query_lengths: tokens of `q`, the end token included.
        weight: lambda, 0 to 1. At 1 the backward model alone decides.
        length_reward: mu, nats per token of `y`.
        normalise: "sum" as in the paper, or "token": both log-probabilities are means per token, as in the authors'
            decoder, which rewards length by itself.

    Returns:
        Shape `(candidates,)`, nats, or nats per token.

    Raises:
        ValueError: for shapes that differ, a weight outside of 0 to 1, another `normalise`.
    """
    _check_shapes(forward=forward, backward=backward, lengths=lengths, query_lengths=query_lengths)
    check_weight(weight)
    if normalise not in NORMALISATIONS:
        raise ValueError(f'`normalise` must be "sum" or "token", got "{normalise}".')
    reward = length_reward * lengths.to(forward.dtype)
    if normalise == "token":
        forward, backward = forward / lengths.clamp(min=1), backward / query_lengths.clamp(min=1)
    # A weight of 0 leaves a term out, even one that is infinite.
    parts = [share * part for share, part in ((1 - weight, forward), (weight, backward)) if share]
    return sum(parts[1:], parts[0]) + reward


def best_rows(scores: Tensor, groups: Tensor, finished: Tensor | None = None) -> Tensor:
    """Rows of the candidates, query by query, the best of each query first.

    A candidate without an end token was cut, and its score says nothing of what it would have cost to end: it comes
    behind all that ended. Equal scores keep the order in which they were given.

    Args:
        scores: shape `(candidates,)`; NaN is the worst.
        groups: the query of each candidate, integers, shape `(candidates,)`.
        finished: which candidates have an end token; by default all.

    Returns:
        All row numbers, sorted by query, then by rank; shape `(candidates,)`.
    """
    _check_shapes(scores=scores, groups=groups, **({} if finished is None else {"finished": finished}))
    order = scores.nan_to_num(nan=float("-inf")).argsort(descending=True, stable=True)
    if finished is not None:
        order = order[(~finished.bool())[order].long().argsort(stable=True)]
    return order[groups[order].argsort(stable=True)]


def best_candidates(scores: Tensor, groups: Tensor, finished: Tensor | None = None) -> Tensor:
    """Row of the best candidate of each query, in the order of the queries' numbers; see `best_rows`."""
    rows = best_rows(scores, groups, finished)
    sorted_groups = groups[rows]
    first = torch.ones_like(sorted_groups, dtype=torch.bool)
    first[1:] = sorted_groups[1:] != sorted_groups[:-1]
    return rows[first]


class Tuned(NamedTuple):
    """The best point of a grid.

    Attributes:
        settings: the arguments at that point.
        quality: there.
        tried: every point with its quality, in the order of the grid.
    """

    settings: dict
    quality: float
    tried: list[tuple[dict, float]]


def settings_grid(**values: Iterable) -> Iterator[dict]:
    """Every combination of values, the last name moving fastest: `settings_grid(weight=(0, 1), length_reward=(0,))`."""
    names = list(values)
    for point in product(*values.values()):
        yield dict(zip(names, point, strict=True))


def tune_scores(
    score: Callable[..., Tensor],
    groups: Tensor,
    quality: Callable[[Tensor], float],
    grid: Iterable[dict],
    finished: Tensor | None = None,
) -> Tuned:
    """Chooses the numbers of a score on the validation split, from candidates whose parts are stored.

    Nothing is decoded again: every point of the grid ranks the same candidates. Never call it with the test split. It
    takes the place of the minimum error rate training of Li et al. 2016.

    Args:
        score: gives scores, shape `(candidates,)`, for the arguments of a point, such as `bidirectional_scores` with
            its tensors bound.
        groups: the query of each candidate, shape `(candidates,)`.
        quality: a number for the rows of the chosen candidates, one for each query; larger is better. Of equal ones the
            first point of the grid wins.
        grid: points, see `settings_grid`.
        finished: which candidates have an end token.

    Raises:
        ValueError: for an empty grid, and where no point has a quality that is a number.
    """
    tried = [(dict(point), float(quality(best_candidates(score(**point), groups, finished)))) for point in grid]
    if not tried:
        raise ValueError("The grid has no point. Give at least one set of values, see `settings_grid`.")
    return _best_point(tried)


def climb_settings(quality: Callable[..., float], grid: Mapping[str, Sequence], start: Mapping[str, Any]) -> Tuned:
    """Looks for the best point of a grid one setting at a time, where a point costs too much to try all of them.

    All values of one setting are tried with the others held, the best is kept, and so on through the settings, until a
    whole round changes nothing (coordinate ascent). What it finds is best along every setting, and need not be the best
    of the grid. No point is tried twice.

    Args:
        quality: a number for the arguments of a point; larger is better. Of equal ones the present point stays.
        grid: values of each setting, see `settings_grid`.
        start: a value of each setting.

    Raises:
        ValueError: for a grid without a setting, a setting without a value, a start with other settings, and where no
            point has a quality that is a number.
    """
    if not grid or not all(len(values) for values in grid.values()) or grid.keys() != start.keys():
        raise ValueError(
            f"The grid must give values of at least one setting, and the start one of each, got {dict(grid)} and "
            f"{dict(start)}."
        )
    known: dict[tuple, float] = {}

    def value(point: Mapping[str, Any]) -> float:
        key = tuple(point[name] for name in grid)
        if key not in known:
            known[key] = float(quality(**point))
        return known[key] if known[key] == known[key] else -math.inf

    best, before = dict(start), None
    while best != before:
        before = best
        for name, values in grid.items():
            best = max([best, *({**best, name: one} for one in values)], key=value)
    points = [(dict(zip(grid, key, strict=True)), found) for key, found in known.items()]
    return _best_point(points)


def _best_point(tried: list[tuple[dict, float]]) -> Tuned:
    known = [entry for entry in tried if entry[1] == entry[1]]
    if not known:
        raise ValueError(f"The quality of all {len(tried)} points is NaN. Look at what `quality` returns.")
    settings, best = max(known, key=lambda entry: entry[1])
    return Tuned(settings, best, tried)


def _check_shapes(**tensors: Tensor):
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:
        given = ", ".join(f"`{name}` {shape}" for name, shape in shapes.items())
        raise ValueError(f"Shapes must be equal, got {given}.")
