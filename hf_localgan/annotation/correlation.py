"""Agreement of metrics with people's scores of the same responses, by response and by system."""

import warnings
from collections.abc import Sequence

import numpy as np

from hf_localgan.annotation.judged_responses import JudgedResponses
from hf_localgan.annotation.metric_worth import Correlation, MetricWorth
from hf_localgan.metrics import (
    metric_tokens,
    reference_radius,
    score_responses,
    sentence_bleu,
    utterance_vectors,
    word_error_rate,
)
from hf_localgan.metrics.embedding import Vectors, WordTable

METHODS = ("pearson", "spearman", "kendall")
ALIKE = 90.0  # percent of equal characters from which on a reference counts as the response itself
DRAWN_SHARE = 0.5  # of a system's responses that stand among the references, from which it is people's own


def correlate_metrics(
    judged: JudgedResponses,
    *,
    vectors: Vectors | None = None,
    tokenization: str = "words",
    lowercase: bool = True,
    drawn: Sequence[str] | None = None,
    resamples: int = 200,
    seed: int = 0,
) -> MetricWorth:
    """Scores every response and every system by all metrics of responses, and correlates them with people's scores.

    By response: BLEU of the sentence, the smallest word error rate over the references, length, the response's own
    distinct bigrams, and with vectors the embedding scores, local coverage and precision. By system: the value that
    `score_responses` gives the whole set, Dist-n and Ent-n too, and people's mean. Every set has the same contexts.

    Some systems draw their responses from the references, such as people beside machines: there the reference that
    is the response itself is left out, and contexts with no other reference are dropped for all systems. The other
    systems are the generators.

    Args:
        judged: responses and scores.
        vectors: word vectors, for the embedding scores.
        tokenization: how the metrics cut texts, as in `metric_tokens`.
        lowercase: whether the metrics ignore case.
        drawn: systems that draw from the references; without, those of which at least half of the responses stand
            there.
        resamples: bootstrap samples behind every interval.
        seed: seed of the bootstrap.

    Raises:
        ValueError: for fewer than three generators, an unknown system in `drawn`, or where no context is left.
    """
    unknown = next((name for name in drawn or () if name not in judged.systems), None)
    if unknown is not None:
        raise ValueError(f"`drawn` must be among {', '.join(judged.systems)}, got {unknown!r}.")
    drawn = _drawn_systems(judged) if drawn is None else list(drawn)
    if len(judged.systems) - len(drawn) < 3:
        besides = f" besides {', '.join(drawn)}, who draw from the references" if drawn else ""
        raise ValueError(
            f"A correlation over systems needs at least 3, got {len(judged.systems) - len(drawn)}{besides}. If one of "
            "these is a generator, name those that are none."
        )
    references = _own_references_left_out(judged, drawn)
    kept = [index for index in range(len(judged.contexts)) if all(contexts[index] for contexts in references)]
    if not kept:
        raise ValueError("No context has a reference besides the judged responses themselves.")
    words = WordTable.of(vectors) if vectors is not None else None
    radius = _radius(judged, kept, words, tokenization, lowercase)
    response_scores: dict[str, list[np.ndarray]] = {}
    system_scores: dict[str, list[float]] = {}
    for responses, contexts in zip(judged.responses, references, strict=True):
        answers = [responses[index] for index in kept]
        referred = [contexts[index] for index in kept]
        report = score_responses(
            answers, referred, vectors=words, radius=radius, tokenization=tokenization, lowercase=lowercase,
            resamples=0,
        )  # fmt: skip
        own = {**report.per_query, **_sentence_scores(answers, referred, tokenization, lowercase)}
        whole = {name: score.value for name, score in report.scores.items()}
        whole["word_error_rate_min"] = float(own["word_error_rate_min"].mean())
        for name, scores in own.items():
            response_scores.setdefault(name, []).append(scores)
        for name, value in whole.items():
            system_scores.setdefault(name, []).append(value)
    human = {name: scores[:, kept] for name, scores in judged.human.items()}
    generators = [index for index, name in enumerate(judged.systems) if name not in drawn]
    correlations = []
    for name, people in human.items():
        for metric, rows in response_scores.items():
            measured = _correlate_responses(np.stack(rows)[generators], people[generators], resamples, seed)
            correlations += [Correlation(metric, name, "response", "generators", *numbers) for numbers in measured]
        sets = {"generators": generators, **({"all": list(range(len(judged.systems)))} if drawn else {})}
        for set_name, members in sets.items():
            means = people[members].mean(axis=1)
            for metric, totals in system_scores.items():
                measured = _correlate_systems(np.array(totals)[members], means, resamples, seed)
                correlations += [Correlation(metric, name, "system", set_name, *numbers) for numbers in measured]
    values = {
        system: {
            **{name: float(people[index].mean()) for name, people in human.items()},
            **{metric: float(totals[index]) for metric, totals in system_scores.items()},
        }
        for index, system in enumerate(judged.systems)
    }
    left_out = {**judged.left_out, "with no reference but the judged response": len(judged.contexts) - len(kept)}
    notes = {
        "tokenization": tokenization, "lowercase": lowercase, "resamples": resamples, "seed": seed,
        "vectors": None if words is None else words.name, "contexts_left_out": left_out,
    }  # fmt: skip
    return MetricWorth(correlations, values, drawn, len(kept), notes)


def _drawn_systems(judged: JudgedResponses) -> list[str]:
    """Systems of which `DRAWN_SHARE` of the responses stand among the references, letter by letter."""
    letters = [{_letters(reference) for reference in references} for references in judged.references]

    def share(answers: list[str]) -> float:
        return float(
            np.mean([_letters(answer) in references for answer, references in zip(answers, letters, strict=True)])
        )

    return [
        name for name, answers in zip(judged.systems, judged.responses, strict=True) if share(answers) >= DRAWN_SHARE
    ]


def _own_references_left_out(judged: JudgedResponses, drawn: Sequence[str]) -> list[list[list[str]]]:
    """The references of each system; for one in `drawn` without those that are the response itself, or nearly."""
    from rapidfuzz import fuzz

    def without_own(answer: str, references: list[str]) -> list[str]:
        own = _letters(answer)
        return [reference for reference in references if fuzz.ratio(own, _letters(reference)) < ALIKE]

    return [
        [without_own(answer, references) for answer, references in zip(answers, judged.references, strict=True)]
        if name in drawn
        else judged.references
        for name, answers in zip(judged.systems, judged.responses, strict=True)
    ]


def _letters(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())


def _radius(
    judged: JudgedResponses, kept: list[int], words: WordTable | None, tokenization: str, lowercase: bool
) -> float | None:
    if words is None:
        return None
    vectors = [
        utterance_vectors([metric_tokens(text, tokenization, lowercase) for text in judged.references[index]], words)
        for index in kept
    ]
    return reference_radius(vectors) if any(len(rows) > 1 for rows in vectors) else None


def _sentence_scores(
    answers: list[str], references: list[list[str]], tokenization: str, lowercase: bool
) -> dict[str, np.ndarray]:
    def cut(text: str) -> str:
        return " ".join(metric_tokens(text, tokenization, lowercase))

    texts = [cut(text) for text in answers]
    referred = [[cut(text) for text in context] for context in references]
    scores = {f"bleu_{order}": sentence_bleu(texts, referred, tokenize="none", max_order=order) for order in (2, 4)}
    owners = np.repeat(np.arange(len(texts)), [len(context) for context in referred])
    rates = word_error_rate([texts[owner] for owner in owners], [text for context in referred for text in context])
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    scores["word_error_rate_min"] = np.minimum.reduceat(rates.edits / np.maximum(rates.reference_tokens, 1), starts)
    return scores


def _correlate_responses(metric: np.ndarray, human: np.ndarray, resamples: int, seed: int) -> list[tuple]:
    """Method, value, interval and count; arguments of shape `(systems, contexts)`. Whole contexts are drawn."""
    contexts = metric.shape[1]
    value = _correlations(metric.ravel(), human.ravel())
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        indices = rng.integers(contexts, size=contexts)
        drawn.append(_correlations(metric[:, indices].ravel(), human[:, indices].ravel()))
    return _interval_rows(value, np.array(drawn), int((~np.isnan(metric)).sum()))


def _correlate_systems(metric: np.ndarray, human: np.ndarray, resamples: int, seed: int) -> list[tuple]:
    """As `_correlate_responses` for one value per system. Draws with fewer than three systems are left out."""
    systems = len(metric)
    value = _correlations(metric, human)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(systems, size=(10 * resamples, systems))  # cheap, and the ends are ragged with fewer
    drawn = drawn[[len(np.unique(draw)) > 2 for draw in drawn]]
    return _interval_rows(value, _correlate_rows(metric[drawn], human[drawn]), systems)


def _correlate_rows(metric: np.ndarray, human: np.ndarray) -> np.ndarray:
    """As `_correlations` of each row on its own, all at once; arguments `(draws, systems)`, result `(draws, 3)`.

    Each coefficient is the cosine of two vectors: of deviations from the mean, of those of the ranks, and, for tau-b,
    of the signs of all differences between two systems.
    """
    from scipy.stats import rankdata

    def cosine(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):  # a constant row has no correlation
            return (left * right).sum(axis=1) / np.sqrt((left**2).sum(axis=1) * (right**2).sum(axis=1))

    def centred(values: np.ndarray) -> np.ndarray:
        deviations = values - values.mean(axis=1, keepdims=True)
        return np.where(np.ptp(values, axis=1, keepdims=True) > 0, deviations, 0.0)

    def signs(values: np.ndarray) -> np.ndarray:
        return np.sign(values[:, :, None] - values[:, None, :]).reshape(len(values), -1)

    forms = (centred, lambda values: centred(rankdata(values, axis=1)), signs)
    return np.stack([cosine(form(metric), form(human)) for form in forms], axis=1)


def _interval_rows(value: np.ndarray, drawn: np.ndarray, count: int) -> list[tuple]:
    ends = np.full((2, len(METHODS)), np.nan)
    if len(drawn):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a constant metric has no interval
            ends = np.nanquantile(drawn, [0.025, 0.975], axis=0)
    return [
        (method, float(value[index]), float(ends[0, index]), float(ends[1, index]), count)
        for index, method in enumerate(METHODS)
    ]


def _correlations(metric: np.ndarray, human: np.ndarray) -> np.ndarray:
    """Pearson, Spearman and Kendall's tau-b; NaN where either side is constant. Rows without a value are left out."""
    from scipy.stats import kendalltau, pearsonr, spearmanr

    known = ~np.isnan(metric)
    metric, human = metric[known], human[known]
    if len(metric) < 2 or np.ptp(metric) == 0 or np.ptp(human) == 0:
        return np.full(len(METHODS), np.nan)
    return np.array([function(metric, human).statistic for function in (pearsonr, spearmanr, kendalltau)])
