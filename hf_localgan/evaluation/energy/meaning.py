"""Whether the radius of an energy is one to train on: what it measures, and where safe answers stand."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from hf_localgan.data.padding import PADDING, pad_ids
from hf_localgan.decoding.sampling import greedy_responses
from hf_localgan.metrics.radius import (
    commonest,
    mean_information,
    radius_percentiles,
    rank_correlation,
)
from hf_localgan.models.dbm import DbmModel

LENGTHS = (3, 8, 20)  # words of the references whose mean radius is shown
SAFE_ANSWERS = 20  # commonest responses
SAFE_QUERIES = 300  # queries to which safe answers are given
LOWEST = 0.1  # share of the references' radii below which safe answers must lie on average


class SafeAnswer(NamedTuple):
    """An answer that is given often.

    Attributes:
        tokens: ids.
        times: how often it was met.
        percentile: mean share of the references' radii below it, 0 to 1, over queries.
    """

    tokens: tuple[int, ...]
    times: int
    percentile: float


class MeanRadius(NamedTuple):
    """Mean radius of the references of one length, nats, and how many these are."""

    pairs: int
    radius: float


class RadiusMeaning(NamedTuple):
    """What the radius measures on a corpus.

    Attributes:
        length: Spearman's correlation of the references' radius with their number of words.
        information: the same with their informativeness, the mean of `-ln p` of their words by unigram frequency.
        by_length: mean radius of the references by number of words.
        safe: the commonest responses of the training pairs, given to queries; empty where none was met twice.
        greedy: mean share of the references' radii below a generator's greedy answers; NaN without a generator.
        greedy_commonest: the commonest of these answers; `None` without a generator.
    """

    length: float
    information: float
    by_length: dict[int, MeanRadius]
    safe: list[SafeAnswer]
    greedy: float = math.nan
    greedy_commonest: SafeAnswer | None = None

    @property
    def safe_percentile(self) -> float:
        """Share of the references' radii below safe answers: the mean of a generator's greedy ones, or, without it, the
        median of the commonest responses, some of which ("you are welcome") are common and distinctive.
        """
        if not math.isnan(self.greedy):
            return self.greedy
        return float(np.median([answer.percentile for answer in self.safe])) if self.safe else math.nan

    @property
    def ranks_safe_lowest(self) -> bool | None:
        """Whether the radius is one to train on.

        Safe answers stand in the lowest tenth, and the radius says more of information than of length. `None` where one
        of the numbers is not known.
        """
        values = (self.safe_percentile, self.length, self.information)
        if any(math.isnan(value) for value in values):
            return None
        return self.safe_percentile <= LOWEST and self.information > abs(self.length)

    def verdict(self) -> str:
        """One sentence with the numbers."""
        numbers = (
            f"safe answers stand above {self.safe_percentile:.1%} of the references, and the radius has a "
            f"rank correlation of {self.length:+.2f} with length and {self.information:+.2f} with informativeness"
        )
        if self.ranks_safe_lowest is None:
            return "Whether the radius ranks safe answers lowest cannot be said: there are too few responses."
        if self.ranks_safe_lowest:
            return f"The radius ranks safe answers lowest: {numbers}."
        return (
            f"A radius that does not rank safe answers lowest is not one to train on: {numbers}. Train the energy with "
            "`pooling: distinct_sqrt`."
        )


@torch.no_grad()
def radius_meaning(
    model: DbmModel,
    query: Tensor,
    radii: np.ndarray,
    responses: Sequence[Sequence[int]],
    corpus: Sequence[Sequence[int]],
    *,
    greedy: Sequence[Sequence[int]] | None = None,
    greedy_rows: Sequence[int] | None = None,
    batch_size: int = 1024,
) -> RadiusMeaning:
    """Measures what the radius of references depends on, and where safe answers stand among them.

    Args:
        model: the energy, with word vectors.
        query: standardised vectors of the references' queries, shape `(pairs, query_size)`.
        radii: the references' radii, nats, shape `(pairs,)`.
        responses: the references' words: tokens that have a vector.
        corpus: those of training responses, for frequencies and safe answers.
        greedy: those of a generator's greedy answers.
        greedy_rows: the pair whose query each of them answers.
        batch_size: pairs at a time.
    """
    lengths = np.array([len(tokens) for tokens in responses], dtype=np.float64)
    counts = Counter(token for tokens in corpus for token in tokens)
    by_length = {}
    for length in LENGTHS:
        chosen = radii[lengths == length]
        by_length[length] = MeanRadius(len(chosen), float(chosen.mean()) if len(chosen) else math.nan)

    rows = evenly(len(query), SAFE_QUERIES)
    safe = []
    for tokens, count in commonest(corpus, SAFE_ANSWERS):
        standing = _percentiles(model, query[rows], [tokens] * len(rows), radii, batch_size)
        safe.append(SafeAnswer(tokens, count, float(np.nanmean(standing)) if (~np.isnan(standing)).any() else math.nan))
    result = RadiusMeaning(
        rank_correlation(radii, np.where(lengths > 0, lengths, np.nan)),
        rank_correlation(radii, mean_information(responses, counts)),
        by_length,
        [answer for answer in safe if not math.isnan(answer.percentile)],
    )
    if not greedy:
        return result
    assert greedy_rows is not None
    standing = _percentiles(model, query[list(greedy_rows)], greedy, radii, batch_size)
    (tokens, count), *_ = commonest(greedy, 1, least=1) or [((), 0)]
    own = standing[[tuple(answer) == tokens for answer in greedy]]
    known = (~np.isnan(standing)).any()
    return result._replace(
        greedy=float(np.nanmean(standing)) if known else math.nan,
        greedy_commonest=SafeAnswer(tokens, count, float(own.mean()) if len(own) else math.nan),
    )


def evenly(rows: int, number: int) -> list[int]:
    """Indices of at most `number` of so many rows, evenly spaced."""
    number = min(rows, number)
    return [index * rows // number for index in range(number)]


@torch.no_grad()
def greedy_answers(
    generator: PreTrainedModel, queries: Sequence[Sequence[int]], *, max_new_tokens: int = 40, batch_size: int = 128
) -> list[list[int]]:
    """Tokens of the generator's greedy answers, end token included.

    Args:
        generator: an encoder-decoder.
        queries: token ids of each.
        max_new_tokens: longest answer.
        batch_size: queries at a time; those of one batch are padded together.
    """
    answers = []
    for start in range(0, len(queries), batch_size):
        rows = [[token for token in row if token != PADDING] for row in queries[start : start + batch_size]]
        inputs = {"input_ids": pad_ids(rows, 0), "attention_mask": pad_ids([[1] * len(row) for row in rows], 0)}
        inputs = {name: values.to(generator.device) for name, values in inputs.items()}
        labels = greedy_responses(generator, inputs, max_new_tokens=max_new_tokens).labels
        answers += [[token for token in row if token != PADDING] for row in labels.tolist()]
    return answers


def _percentiles(
    model: DbmModel, query: Tensor, answers: Sequence[Sequence[int]], radii: np.ndarray, batch_size: int
) -> np.ndarray:
    """Share of the references' radii below each answer; NaN for an answer without a word that has a vector."""
    assert model.word_vectors is not None
    parts = []
    for start in range(0, len(answers), batch_size):
        chosen = query[start : start + batch_size].to(model.device)
        labels = pad_ids([list(tokens) for tokens in answers[start : start + batch_size]]).to(model.device)
        distances = model.radius(chosen, model.response_features(labels)).double()
        known = model.word_vectors(labels)[1]
        parts.append(distances.masked_fill(~known, math.nan).cpu().numpy())
    return radius_percentiles(np.concatenate(parts), radii)
