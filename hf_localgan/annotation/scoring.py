"""Answers of people turned into scores, tests, agreement and checks of every person."""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from hf_localgan.annotation.agreement import cohen_kappa, measure_agreement
from hf_localgan.annotation.extra import annotation_module
from hf_localgan.annotation.judgements import Judgements, query_means
from hf_localgan.annotation.power import measured_variance, queries_needed, smallest_difference
from hf_localgan.annotation.report import (
    PLANNED_PEOPLE,
    PLANNED_QUERIES,
    AnnotationReport,
    Difference,
    HumanScore,
    PersonCheck,
)
from hf_localgan.annotation.study import CONTROL, REFERENCE
from hf_localgan.metrics import Interval, bootstrap_interval, paired_permutation_test


def score_judgements(
    judgements: Judgements,
    *,
    against: str | None = None,
    all_pairs: bool = False,
    resamples: int = 1000,
    permutations: int = 9999,
    seed: int = 0,
) -> AnnotationReport:
    """Scores, tests, agreement and checks of one annotation.

    Args:
        judgements: the answers.
        against: the system that is compared with every other; the first without.
        all_pairs: compare all pairs of systems instead.
        resamples: bootstrap samples behind every interval.
        permutations: random swaps of every test; p values are at least `1 / (1 + permutations)`.
        seed: seed of both.

    Raises:
        ValueError: for a system in `against` that was not judged.
    """
    study = judgements.study
    systems = study.systems
    first = systems[0] if against is None else against
    if first not in systems:
        raise ValueError(f"`against` must be one of {', '.join(systems)}, got {first!r}.")
    pairs = list(combinations(systems, 2)) if all_pairs else [(first, name) for name in systems if name != first]
    present = [*systems, *(name for name in (REFERENCE, CONTROL) if (study.items_of(name) >= 0).any())]
    drawing = {"resamples": resamples, "seed": seed}
    scores, differences, plans = [], [], []
    for number, question in enumerate(study.questions):
        answers = {source: judgements.of(source, number) for source in present}
        scores += [
            HumanScore(
                source, question.name, bootstrap_interval(query_means(values), **drawing),
                two_way_interval(values, **drawing), int((~np.isnan(values)).any(axis=0).sum()),
            )
            for source, values in answers.items()
        ]  # fmt: skip
        differences += compare_answers(answers, pairs, question.name, permutations=permutations, **drawing)
        planned = (_plan(answers[pair[0]], answers[pair[1]], *pair, question.name) for pair in pairs)
        plans += [plan for plan in planned if plan is not None]
    agreements = {
        question.name: {
            "all": measure_agreement(judgements.answers[:, :, number], **drawing),
            **{source: measure_agreement(judgements.of(source, number), **drawing) for source in present},
        }
        for number, question in enumerate(study.questions)
    }
    settings = {"against": None if all_pairs else first, "permutations": permutations, **drawing}
    scores.sort(key=lambda score: present.index(score.source))
    return AnnotationReport(judgements, scores, differences, agreements, _people(judgements), plans, settings)


def compare_answers(
    answers: dict[str, np.ndarray],
    pairs: Sequence[tuple[str, str]],
    question: str,
    *,
    resamples: int = 1000,
    permutations: int = 9999,
    seed: int = 0,
) -> list[Difference]:
    """Paired tests of pairs of systems on one question, corrected together by Holm's method (Holm 1979).

    Args:
        answers: by system, 0, 1 or NaN, shape `(people, queries)`, the same people and queries throughout.
        pairs: names of systems.
        question: name of the question.
        resamples: bootstrap samples behind the intervals.
        permutations: random swaps.
        seed: seed of both.
    """
    rows = []
    for first, second in pairs:
        # People who judged one of the two only would bring their own leniency into the difference.
        difference = answers[first] - answers[second]
        answered = ~np.isnan(difference)
        left, right = (query_means(np.where(answered, answers[name], np.nan)) for name in (first, second))
        judged = answered.any(axis=0)
        p_value = math.nan
        if judged.any():
            p_value = paired_permutation_test(left[judged], right[judged], permutations=permutations, seed=seed).p_value
        interval = bootstrap_interval(left - right, resamples=resamples, seed=seed)
        people = two_way_interval(difference, resamples=resamples, seed=seed)
        rows.append((first, second, interval, people, p_value, int(judged.sum())))
    p_values = np.array([row[4] for row in rows])
    corrected = np.full(len(rows), np.nan)
    tested = ~np.isnan(p_values)
    if tested.any():
        multipletests = annotation_module("statsmodels.stats.multitest").multipletests
        corrected[tested] = multipletests(p_values[tested], method="holm")[1]
    return [
        Difference(first, second, question, interval, people, p_value, float(holm), queries)
        for (first, second, interval, people, p_value, queries), holm in zip(rows, corrected, strict=True)
    ]


def two_way_interval(answers: np.ndarray, *, resamples: int = 1000, level: float = 0.95, seed: int = 0) -> Interval:
    """Percentile bootstrap of the mean over queries of the mean over people, both drawn anew.

    With few people this is a rough guess: below about five it covers rather less than `level`.

    Args:
        answers: values, NaN for a gap, shape `(people, queries)`.
        resamples: number of bootstrap samples.
        level: nominal coverage.
        seed: seed of the resampling.

    Returns:
        No ends (NaN) with fewer than two people.
    """
    people, queries = answers.shape
    point = query_means(answers)
    value = float(point[~np.isnan(point)].mean()) if (~np.isnan(point)).any() else math.nan
    if people < 2 or queries < 2 or resamples < 2 or math.isnan(value):
        return Interval(value, math.nan, math.nan, level, "none", 0, None)
    rng = np.random.default_rng(seed)
    answered = ~np.isnan(answers)
    filled = np.where(answered, answers, 0.0)
    means = np.empty(resamples)
    for index in range(resamples):
        weights = np.bincount(rng.integers(people, size=people), minlength=people)[None, :]
        counts = (weights @ answered)[0]  # (queries,)
        sums = (weights @ filled)[0]
        drawn = rng.integers(queries, size=(queries,))
        drawn = drawn[counts[drawn] > 0]
        means[index] = (sums[drawn] / counts[drawn]).mean() if len(drawn) else np.nan
    low, high = np.nanquantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), level, "bootstrap", resamples, seed)


def _plan(
    first: np.ndarray, second: np.ndarray, first_name: str, second_name: str, question: str
) -> dict[str, Any] | None:
    try:
        variance = measured_variance(first, second)
    except ValueError:  # one person, or hardly a query in common: there is nothing to plan from
        return None
    known = ~np.isnan(first - second)
    means = query_means(np.where(known, first - second, np.nan))
    difference = float(means[~np.isnan(means)].mean())
    return {
        "question": question, "first": first_name, "second": second_name, "difference": difference,
        "variance_between": variance.between, "variance_within": variance.within,
        "queries_needed": {count: queries_needed(difference, variance, count) for count in PLANNED_PEOPLE},
        "smallest": {
            count: {queries: smallest_difference(variance, queries, count) for queries in PLANNED_QUERIES}
            for count in PLANNED_PEOPLE
        },
    }  # fmt: skip


def _people(judgements: Judgements) -> list[PersonCheck]:
    checks = []
    for number, question in enumerate(judgements.study.questions):
        answers, again = judgements.answers[:, :, number], judgements.repeated[:, :, number]
        references, controls = judgements.of(REFERENCE, number), judgements.of(CONTROL, number)
        for person, name in enumerate(judgements.people):
            known = ~np.isnan(answers[person])
            twice = known & ~np.isnan(again[person])
            kappas = [cohen_kappa(answers[person], row) for index, row in enumerate(answers) if index != person]
            checks.append(
                PersonCheck(
                    name, question.name, float(known.mean()), _mean(answers[person]),
                    float((answers[person] == again[person])[twice].mean()) if twice.any() else math.nan,
                    int(twice.sum()), _mean(references[person]), _mean(controls[person]), _mean(np.array(kappas)),
                )
            )  # fmt: skip
    return checks


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan
