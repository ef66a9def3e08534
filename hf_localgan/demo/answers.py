"""Answers of several models to one query, each with its log-likelihood and its radius."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeGuard

from hf_localgan.decoding.answers import Decoding
from hf_localgan.demo.loading import PageModels, Speaker
from hf_localgan.responses import ChatSettings, history_of, query_text, respond, set_seed
from hf_localgan.text import is_blank, without_surrogates
from hf_localgan.turns import ASSISTANT, USER

DECODINGS = ("greedy", "beams", "sampling")
LONGEST_QUERY = 2000  # characters


class Answer(NamedTuple):
    """One answer and its numbers.

    Attributes:
        text: the answer, perhaps empty.
        score: mean log-probability per token under the model that gave it, nats, the end of the sequence included, at
            temperature 1; NaN for a reference.
        radius: `F(q, r) - F(q, rc)`, nats; NaN where no word of it or of the query is known; `None` without an energy.
        nearer: share of the references with a smaller radius, 0 to 1; `None` without references or radius.
        rank: place among the answers of all models to the query, from 1 for the lowest free energy; equal texts share
            theirs; `None` where fewer than two have a radius. See `ranked`.
    """

    text: str
    score: float
    radius: float | None
    nearer: float | None
    rank: int | None = None


@dataclass(frozen=True)
class Comparison:
    """The answers of all models to one query.

    Attributes:
        query: the query without spaces around it.
        settings: settings of the decoding.
        answers: answers by the name of the model, the most probable first.
        references: the data set's own responses to this query, with radii and without scores.
        read: the query with the earlier turns of the conversation by the name of the model, as it was read.
    """

    query: str
    settings: ChatSettings
    answers: dict[str, list[Answer]]
    references: list[Answer]
    read: dict[str, str] = field(default_factory=dict)


def read_settings(
    decoding: str,
    num_beams: int = 5,
    temperature: float = 0.7,
    top_p: float = 1.0,
    answers: int = 1,
    max_new_tokens: int = 40,
    seed: int | None = 0,
) -> ChatSettings:
    """Settings from the values of the controls; controls that the decoding does not use are ignored.

    Args:
        decoding: "greedy", "beams" or "sampling", to which the other controls apply, or the name of any decoding, as
            `Decoding.parse` reads it.
        num_beams, temperature, top_p, max_new_tokens, seed: see `ChatSettings`.
        answers: number of answers.

    Raises:
        ValueError: for an unknown decoding or a value that is not accepted.
    """
    if decoding not in DECODINGS:
        try:
            named = Decoding.parse(decoding)
        except ValueError as error:
            raise ValueError(
                f'`decoding` must be "greedy", "beams" or "sampling", got {decoding!r}, or the name of another one. '
                f"{error}"
            ) from error
        return ChatSettings(
            max_new_tokens=whole_number("max_new_tokens", max_new_tokens),
            num_return_sequences=1 if named.most_answers == 1 else whole_number("answers", answers),
            seed=whole_number("seed", seed) if seed is not None else None, decoding=named,
        )  # fmt: skip
    sampling = decoding == "sampling"
    return ChatSettings(
        do_sample=sampling,
        num_beams=whole_number("num_beams", num_beams) if decoding == "beams" else 1,
        temperature=_real("temperature", temperature) if sampling else 1.0,
        top_p=_real("top_p", top_p) if sampling else 1.0,
        max_new_tokens=whole_number("max_new_tokens", max_new_tokens),
        num_return_sequences=1 if decoding == "greedy" else whole_number("answers", answers),
        seed=whole_number("seed", seed) if sampling and seed is not None else None,
    )


def compare_answers(
    page_models: PageModels, query: str, settings: ChatSettings, earlier: Sequence[Comparison] = ()
) -> Comparison:
    """Asks every model of the page.

    Args:
        page_models: generators, energy and references.
        query: a text. Models cut off tokens beyond their positions.
        settings: settings of the decoding. The seed is set again for each model, so that the order does not matter.
        earlier: what was asked and answered before in the same conversation. A model remembers as many turns as it was
            trained on; of its own answers the first.

    Raises:
        ValueError: for an empty query, and for one of more than 2,000 characters.
    """
    query = " ".join(without_surrogates(query).split())
    if is_blank(query):
        raise ValueError("The query is empty. Type a sentence.")
    if len(query) > LONGEST_QUERY:
        raise ValueError(f"The query has {len(query):,} characters. Type at most {LONGEST_QUERY:,}.")
    answers, read = {}, {}
    for speaker in page_models.speakers:
        if settings.seed is not None:
            set_seed(settings.seed)
        read[speaker.name] = query_text(speaker.model, speaker.tokenizer, _messages(speaker, query, earlier))
        responses = respond(speaker.model, speaker.tokenizer, [read[speaker.name]], settings, scored=True)[0]
        scores = [math.nan if response.score is None else response.score for response in responses]
        answers[speaker.name] = place_texts(page_models, query, [response.text for response in responses], scores)
    own = [] if page_models.references is None else page_models.references.of_query(query)
    return Comparison(query, settings, answers, place_texts(page_models, query, own, [math.nan] * len(own)), read)


def remembered_turns(page_models: PageModels) -> int:
    """The most earlier turns that a model of the page was trained on."""
    return max(history_of(speaker.tokenizer).turns for speaker in page_models.speakers)


def _messages(speaker: Speaker, query: str, earlier: Sequence[Comparison]) -> list[dict[str, str]]:
    """The conversation of a model."""
    messages = []
    for comparison in earlier:
        messages.append({"role": USER, "content": comparison.query})
        answer = comparison.answers[speaker.name][0].text
        messages += [] if is_blank(answer) else [{"role": ASSISTANT, "content": answer}]
    return [*messages, {"role": USER, "content": query}]


def place_texts(page_models: PageModels, query: str, texts: list[str], scores: list[float]) -> list[Answer]:
    """Texts with their radii, and their places among the references."""
    if page_models.reader is None or not texts:
        return [Answer(text, score, None, None) for text, score in zip(texts, scores, strict=True)]
    radii = page_models.reader.radii([query] * len(texts), texts).tolist()
    references = page_models.references
    nearer = [None if references is None or math.isnan(radius) else references.share_nearer(radius) for radius in radii]
    return [Answer(*values) for values in zip(texts, scores, radii, nearer, strict=True)]


def ranked(answers: Mapping[str, Sequence[Answer]]) -> dict[str, list[Answer]]:
    """The answers with their rank by the energy: of one query, the order of free energies is that of radii.

    Args:
        answers: to one query, by the name of the model.
    """
    measured = [answer.radius for given in answers.values() for answer in given if answer.radius is not None]
    radii = sorted(radius for radius in measured if not math.isnan(radius))
    if len(radii) < 2:
        return {name: list(given) for name, given in answers.items()}

    def rank(answer: Answer) -> int | None:
        return radii.index(answer.radius) + 1 if answer.radius in radii else None

    return {name: [answer._replace(rank=rank(answer)) for answer in given] for name, given in answers.items()}


def whole_number(name: str, value: float | None) -> int:
    """The value of a control as an int.

    Raises:
        ValueError: for another value, and for a control that is empty.
    """
    if not _is_number(value) or value != int(value):
        raise ValueError(f"`{name}` must be a whole number, got {value}.")
    return int(value)


def _real(name: str, value: float | None) -> float:
    if not _is_number(value):
        raise ValueError(f"`{name}` must be a number, got {value}.")
    return float(value)


def _is_number(value: float | None) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and math.isfinite(value)
