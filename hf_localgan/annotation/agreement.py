"""How far people agree on yes-or-no answers: raw agreement and three coefficients that take chance away.

All take answers of shape `(people, items)`: 0, 1, or NaN for a gap. Fleiss' kappa is statsmodels', Cohen's
scikit-learn's, Krippendorff's alpha nltk's: libraries under BSD and Apache licences. The package `krippendorff`
computes the same alpha but is under the GPL.
"""

import math
import warnings
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from hf_localgan.annotation.extra import annotation_module
from hf_localgan.metrics import Interval, bootstrap_interval


@dataclass(frozen=True)
class Agreement:
    """Agreement on one question.

    Attributes:
        raw: share of pairs of answers on one item that are equal, mean over items with two answers; interval by
            bootstrap over items.
        fleiss: Fleiss' kappa of the items that everybody answered.
        cohen: Cohen's kappa, mean over pairs of people, each on the items that both answered.
        krippendorff: Krippendorff's alpha for nominal answers; uses every item with two answers.
        items: items with two answers.
        complete: items that everybody answered.
        yes: share of yes among all answers. Near 0 or 1 the coefficients are low even where people agree.

    A coefficient is NaN where it is not defined: one person, no common item, or one and the same answer throughout.
    """

    raw: Interval
    fleiss: float
    cohen: float
    krippendorff: float
    items: int
    complete: int
    yes: float


def measure_agreement(answers: np.ndarray, *, resamples: int = 1000, seed: int = 0) -> Agreement:
    """All measures of one question.

    Args:
        answers: 0, 1 or NaN, shape `(people, items)`.
        resamples: bootstrap samples behind the interval of raw agreement.
        seed: seed of the bootstrap.
    """
    answers = _checked(answers)
    per_item = raw_agreement(answers)
    known = ~np.isnan(answers)
    return Agreement(
        raw=bootstrap_interval(per_item, resamples=resamples, seed=seed),
        fleiss=fleiss_kappa(answers),
        cohen=mean_cohen_kappa(answers),
        krippendorff=krippendorff_alpha(answers),
        items=int((~np.isnan(per_item)).sum()),
        complete=int(known.all(axis=0).sum()),
        yes=float(answers[known].mean()) if known.any() else math.nan,
    )


def raw_agreement(answers: np.ndarray) -> np.ndarray:
    """Share of equal pairs of answers of each item, shape `(items,)`; NaN where fewer than two people answered."""
    answers = _checked(answers)
    given = (~np.isnan(answers)).sum(axis=0)
    yes = np.nansum(answers, axis=0)
    no = given - yes
    equal = yes * (yes - 1) + no * (no - 1)
    return np.where(given > 1, equal / np.maximum(given * (given - 1), 1), np.nan)


def fleiss_kappa(answers: np.ndarray) -> float:
    """Fleiss' kappa (Fleiss 1971) of the items that all people answered."""
    answers = _checked(answers)
    complete = answers[:, ~np.isnan(answers).any(axis=0)]
    if len(complete) < 2 or len(np.unique(complete)) < 2:
        return math.nan
    raters = annotation_module("statsmodels.stats.inter_rater")
    table, _ = raters.aggregate_raters(complete.T.astype(int), n_cat=2)
    return float(raters.fleiss_kappa(table, method="fleiss"))


def cohen_kappa(first: np.ndarray, second: np.ndarray) -> float:
    """Cohen's kappa (Cohen 1960) of two people on the items that both answered. Arguments of shape `(items,)`."""
    from sklearn.metrics import cohen_kappa_score

    both = ~np.isnan(first) & ~np.isnan(second)
    first, second = first[both].astype(int), second[both].astype(int)
    if not both.any() or len(np.unique([first, second])) < 2:
        return math.nan
    return float(cohen_kappa_score(first, second, labels=[0, 1]))


def mean_cohen_kappa(answers: np.ndarray) -> float:
    """Mean of Cohen's kappa over all pairs of people; pairs without one are left out."""
    answers = _checked(answers)
    return _mean([cohen_kappa(first, second) for first, second in combinations(answers, 2)])


def krippendorff_alpha(answers: np.ndarray) -> float:
    """Krippendorff's alpha for nominal answers (Krippendorff 1980), gaps allowed."""
    answers = _checked(answers)
    shared = answers[:, (~np.isnan(answers)).sum(axis=0) > 1]
    given = shared[~np.isnan(shared)]
    if not len(given) or len(np.unique(given)) < 2:
        return math.nan
    task = annotation_module("nltk.metrics.agreement").AnnotationTask
    people, items = np.nonzero(~np.isnan(shared))
    triples = [(int(person), int(item), int(shared[person, item])) for person, item in zip(people, items, strict=True)]
    return float(task(data=triples).alpha())


def _checked(answers: np.ndarray) -> np.ndarray:
    answers = np.asarray(answers, dtype=float)
    if answers.ndim != 2:
        raise ValueError(f"`answers` must have the shape (people, items), got {answers.shape}.")
    wrong = answers[~np.isnan(answers) & (answers != 0) & (answers != 1)]
    if len(wrong):
        raise ValueError(f"`answers` must be 0, 1 or NaN for a gap, got {wrong[0]:g}.")
    return answers


def _mean(values: list[float]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing
        return float(np.nanmean(values)) if values else math.nan
