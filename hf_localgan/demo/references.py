"""Radii of the responses in a data set, the measure of what is near to the centre and what is far from it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from transformers import PreTrainedTokenizerBase

from hf_localgan.evaluation import answer_radii
from hf_localgan.models import DbmModel

CHUNK = 128  # queries between two moves of the progress bar


@dataclass(frozen=True)
class Reader:
    """An energy with its own tokenizer, which may differ from the generators'.

    Attributes:
        path: folder or Hub id of the energy.
        energy: with word vectors.
        tokenizer: the one it was made with.
    """

    path: str
    energy: DbmModel = field(repr=False)
    tokenizer: PreTrainedTokenizerBase = field(repr=False)

    def radii(self, queries: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        """`F(q, r) - F(q, rc)` of each pair of texts, nats, float64; NaN where no word of one of them is known."""
        return answer_radii(self.energy, self.tokenizer, queries, responses).numpy()


@dataclass(frozen=True)
class ReferenceRadii:
    """Radii of a data set's references.

    Attributes:
        name: name of the data set and its split, for the page.
        radii: radii of the measured references, nats, sorted, without NaN; float64, shape `(references,)`.
        queries: number of queries that these references answer.
        responses: each query of the split with its references, by the folded query, see `fold`.
    """

    name: str
    radii: np.ndarray = field(repr=False)
    queries: int
    responses: Mapping[str, tuple[str, list[str]]] = field(repr=False)

    def share_nearer(self, radius: float) -> float:
        """Share of the references that lie nearer to the centre of their query's responses, 0 to 1."""
        return float(np.searchsorted(self.radii, radius, side="left") / len(self.radii))

    def of_query(self, query: str) -> list[str]:
        """The data set's own responses to a query; none where the query is not in it."""
        return self.responses.get(fold(query), ("", []))[1]


def fold(query: str) -> str:
    """A query without case, spacing and punctuation; a query of signs alone keeps the signs."""
    folded = query.casefold()
    return re.sub(r"[\W_]+", "", folded) or re.sub(r"\s+", "", folded)


def measure_references(
    reader: Reader, grouped: Sequence[Mapping], name: str, *, queries: int = 1000, progress: bool = True
) -> ReferenceRadii:
    """Radii of the responses to some queries, evenly spaced in the data set.

    Args:
        reader: the energy.
        grouped: rows of `query` and `responses`, as `load_pairs(...).grouped[split]` has them.
        name: name of the data set, for the page.
        queries: largest number of queries, at least 1.
        progress: show a bar on standard error.

    Raises:
        ValueError: if no response has a radius, for example in another language than the energy's.
    """
    from rich.console import Console
    from rich.progress import track

    if queries < 1:
        raise ValueError(f"`queries` must be at least 1, got {queries}.")
    rows = list(grouped)
    number = min(queries, len(rows))
    chosen = [rows[index * len(rows) // number] for index in range(number)]
    bar = track(
        range(0, number, CHUNK),
        f"radii of {name}",
        console=Console(stderr=True),
        disable=not progress,
        transient=True,
    )
    parts = []
    for start in bar:
        pairs = [(row["query"], text) for row in chosen[start : start + CHUNK] for text in row["responses"]]
        parts.append(reader.radii([query for query, _ in pairs], [response for _, response in pairs]))
    radii = np.concatenate(parts)
    radii = np.sort(radii[np.isfinite(radii)])
    if not len(radii):
        raise ValueError(
            f"No response of {name} has a word that the energy `{reader.path}` knows. Give the data set that it was "
            "trained for, `--dataset DATA`."
        )
    responses: dict[str, tuple[str, list[str]]] = {}
    for row in rows:
        texts = responses.setdefault(fold(row["query"]), (row["query"], []))[1]
        texts += [text for text in row["responses"] if text not in texts]
    return ReferenceRadii(name, radii, number, responses)
