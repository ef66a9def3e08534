"""Ranking responses to a query by a trained energy model, and measuring how local responses are."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from hf_localgan.data.padding import pad_ids
from hf_localgan.metrics.energy_gap import cluster_spread
from hf_localgan.models.dbm import DbmModel

SCORES = ("difference", "free_energy")


class RankedResponse(NamedTuple):
    """A candidate and its numbers in nats; NaN where no token of it has a vector.

    Attributes:
        text: the candidate.
        difference: `F(q, r) - F(bq, r)`: how much likelier the response is because of this query; lower is better.
        free_energy: `F(q, r)`, which is also low for responses that are common after any query.
        radius: `F(q, r) - F(q, rc)`: its distance from the centre of the query's responses.
    """

    text: str
    difference: float
    free_energy: float
    radius: float


class Locality(NamedTuple):
    """How far the responses to one query lie from their centre and from each other.

    Attributes:
        radii: `F(q, r) - F(q, rc)` of each response, nats, shape `(responses,)`; NaN where no token has a vector.
        center_energy: `F(q, rc)`, nats.
        cosines: cosine of each response's vector with the centre's, shape `(responses,)`; NaN as above.
        spread: trace of the covariance of the responses' vectors, NaN for less than two. It equals their dimension for
            responses that are as far apart as those of the training data.
    """

    radii: np.ndarray
    center_energy: float
    cosines: np.ndarray
    spread: float


@torch.no_grad()
def rank_responses(
    model: DbmModel,
    tokenizer: PreTrainedTokenizerBase,
    query: str,
    candidates: Sequence[str],
    *,
    by: str = "difference",
) -> list[RankedResponse]:
    """Candidate responses, best first.

    Args:
        model: trained, with word vectors.
        tokenizer: the one it was trained with.
        query: a text.
        candidates: texts.
        by: "difference" or "free_energy", see `RankedResponse`. Candidates without a known word come last.

    Raises:
        ValueError: for no candidate, one text instead of a list, a query without a known word, another `by`, and an
            energy without word vectors.
    """
    if by not in SCORES:
        raise ValueError(f'`by` must be "difference" or "free_energy", got "{by}".')
    vector, responses, known = _vectors(model, tokenizer, query, "candidates", candidates)
    queries = vector.expand(len(responses), -1)
    bias = model.visible_bias[: model.config.query_size].to(queries)
    energies = model.free_energy(queries, responses)
    differences = energies - model.free_energy(bias.expand_as(queries), responses)
    radii = energies - model.free_energy(vector, model.center(vector))
    numbers = torch.stack([differences, energies, radii], dim=1).double()  # (candidates, 3)
    rows = numbers.masked_fill(~known[:, None], math.nan).tolist()
    ranked = [RankedResponse(text, *row) for text, row in zip(candidates, rows, strict=True)]
    return sorted(ranked, key=lambda response: (math.isnan(response.radius), getattr(response, by)))


@torch.no_grad()
def measure_locality(
    model: DbmModel, tokenizer: PreTrainedTokenizerBase, query: str, responses: Sequence[str]
) -> Locality:
    """Radii of responses to a query, and their spread.

    Args:
        model: trained, with word vectors.
        tokenizer: the one it was trained with.
        query: a text.
        responses: texts, such as several generations or the references of one query.

    Raises:
        ValueError: for no response, one text instead of a list, a query without a known word, and an energy without
            word vectors.
    """
    vector, vectors, known = _vectors(model, tokenizer, query, "responses", responses)
    center = model.center(vector)
    center_energy = model.free_energy(vector, center)
    radii = model.free_energy(vector.expand(len(vectors), -1), vectors) - center_energy
    cosines = torch.nn.functional.cosine_similarity(vectors, center.to(vectors))
    columns = [values.double().masked_fill(~known, math.nan).cpu().numpy() for values in (radii, cosines)]
    cluster = vectors[known].cpu().numpy()
    spread = float(cluster_spread(cluster, np.zeros(len(cluster), dtype=np.int64))[0]) if len(cluster) else math.nan
    return Locality(columns[0], float(center_energy), columns[1], spread)


@torch.no_grad()
def answer_radii(
    energy: DbmModel,
    tokenizer: PreTrainedTokenizerBase,
    queries: Sequence[str],
    answers: Sequence[str],
    *,
    batch_size: int = 256,
) -> Tensor:
    """`F(q, r) - F(q, rc)`: how far answers lie from the centre of their query's responses.

    Args:
        energy: trained, with word vectors.
        tokenizer: the one it was trained with.
        queries: texts; the centre of a repeated query is computed once.
        answers: as many texts.
        batch_size: texts at a time.

    Returns:
        Nats, float64 on the CPU, shape `(answers,)`; NaN where no token of the query or of the answer has a vector.

    Raises:
        ValueError: for unequal numbers, and for an energy without word vectors.
    """
    if len(queries) != len(answers):
        raise ValueError(f"There must be one answer per query, got {len(queries)} queries and {len(answers)} answers.")
    _check_word_vectors(energy)

    indices = {query: index for index, query in enumerate(dict.fromkeys(queries))}
    batches: list[tuple[Tensor, Tensor, Tensor]] = []  # vectors, centres, whether a word is known
    for start in range(0, len(indices), batch_size):
        ids = _token_ids(energy, tokenizer, text=[*indices][start : start + batch_size])
        vectors = energy.query_features(ids)
        batches.append((vectors, energy.center(vectors), _is_known(energy, ids)))
    columns = [torch.cat(parts) for parts in zip(*batches, strict=True)]
    radii = []
    for start in range(0, len(answers), batch_size):
        rows = torch.tensor([indices[query] for query in queries[start : start + batch_size]], device=energy.device)
        query, center, query_known = (values[rows] for values in columns)
        ids = _token_ids(energy, tokenizer, text_target=list(answers[start : start + batch_size]))
        distances = energy.radius(query, energy.response_features(ids), center).double()
        radii.append(distances.masked_fill(~(query_known & _is_known(energy, ids)), math.nan).cpu())
    return torch.cat(radii) if radii else torch.zeros(0, dtype=torch.float64)


def grouped_radii(
    energy: DbmModel,
    tokenizer: PreTrainedTokenizerBase,
    queries: Sequence[str],
    answers: Sequence[Sequence[str]],
    *,
    batch_size: int = 256,
) -> list[np.ndarray]:
    """`answer_radii` of several answers to each query: an array of radii for each query.

    Args:
        energy, tokenizer, queries, batch_size: as in `answer_radii`.
        answers: texts of each query's answers.
    """
    asked = [query for query, texts in zip(queries, answers, strict=True) for _ in texts]
    given = [text for texts in answers for text in texts]
    radii = answer_radii(energy, tokenizer, asked, given, batch_size=batch_size).numpy()
    return np.split(radii, np.cumsum([len(texts) for texts in answers])[:-1])


def _vectors(
    model: DbmModel, tokenizer: PreTrainedTokenizerBase, query: str, name: str, texts: Sequence[str]
) -> tuple[Tensor, Tensor, Tensor]:
    """Standardised vectors of the query, `(1, size)`, and of texts, `(texts, size)`; which texts have a known word."""
    if isinstance(texts, str) or not len(texts):
        raise ValueError(f"`{name}` must be a list of at least one text, got {texts!r}.")
    _check_word_vectors(model)
    encoded = tokenizer([query], return_tensors="pt", verbose=False)
    ids = {key: encoded[key].to(model.device) for key in ("input_ids", "attention_mask")}
    if not _is_known(model, **ids).all():
        raise ValueError(f"No word of the query {query!r} has a vector in this energy model.")
    padded = _token_ids(model, tokenizer, text_target=list(texts))
    return model.query_features(**ids), model.response_features(padded), _is_known(model, padded)


def _check_word_vectors(model: DbmModel):
    if model.word_vectors is None:
        raise ValueError("This energy model holds no word vectors, so it cannot read text. Use its methods on vectors.")


def _is_known(model: DbmModel, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """Whether a token of each text has a vector, bool, shape `(texts,)`."""
    assert model.word_vectors is not None  # see `_check_word_vectors`
    return model.word_vectors(input_ids, attention_mask)[1]


def _token_ids(model: DbmModel, tokenizer: PreTrainedTokenizerBase, **texts: list[str]) -> Tensor:
    return pad_ids(tokenizer(**texts, verbose=False).input_ids).to(model.device)
