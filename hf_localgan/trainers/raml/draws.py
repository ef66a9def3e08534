"""Draws of a payoff distribution for the references of a training set, to look at before training."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import numpy as np
from rich.table import Table
from rich.text import Text
from transformers import PreTrainedTokenizerBase

from hf_localgan.trainers.raml.collator import DRAW_KEY, SOURCES, RamlCollator


@dataclass(frozen=True)
class DrawSummary:
    """Statistics of the draws for a number of references.

    Attributes:
        payoff: name of the sampler's class.
        temperature: tau of the draws; of a schedule the last one, or the first one if it ends at 0.
        vocab_size: number of tokens that may be drawn; `None` if it is unknown.
        references: number of references.
        mean_length: mean length of the references, in tokens without the frame of special tokens.
        edit_rate: edits per token of the references.
        intact: share of the references whose draw equals them.
        examples: query, reference and draws of a few references, as text.
    """

    payoff: str
    temperature: float
    vocab_size: int | None
    references: int
    mean_length: float
    edit_rate: float
    intact: float
    examples: list[tuple[str, str, list[str]]]

    def __str__(self) -> str:
        tokens = "" if self.vocab_size is None else f", {self.vocab_size:,} tokens to draw from"
        return (
            f"{self.payoff}, temperature {self.temperature:.4g}{tokens}: of {self.references:,} references "
            f"({self.mean_length:.1f} tokens on average) {self.intact:.1%} stay as they are; {self.edit_rate:.4f} "
            "edits per token."
        )

    def table(self) -> Table:
        """The examples as a rich table."""
        table = Table(title="draws of the first epoch", title_justify="left", expand=True)
        for column in ("query", "reference", "draws"):
            table.add_column(column, ratio=1, overflow="fold")
        for query, reference, draws in self.examples:
            table.add_row(Text(query), Text(reference), Text("\n".join(draws)))  # as `Text`, brackets are no markup
        return table

    def about(self) -> dict[str, Any]:
        """The numbers that describe such draws in an evaluation of the model that was trained on them."""
        return {
            "temperature": round(self.temperature, 6),
            "edit_rate": round(self.edit_rate, 5),
            "intact": round(self.intact, 4),
        }


def summarize_draws(
    collator: RamlCollator,
    dataset: Iterable[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    references: int = 1000,
    examples: int = 3,
    draws: int = 3,
) -> DrawSummary:
    """Draws once for up to `references` rows, and several times for a few of them.

    The draws are those of the trainer's first epoch, at the last temperature of a schedule, or the first if the last
    is 0.

    Args:
        collator: the trainer's.
        dataset: training rows of `input_ids` or `input_features`, and `labels`. A stream is read from its start.
        tokenizer: decodes the examples.
        references: largest number of rows, evenly spaced if the number of all rows is known.
        examples: number of rows among the examples.
        draws: draws for each example.
    """
    if hasattr(dataset, "__len__"):
        table = cast(Sequence[dict[str, Any]], dataset)
        number = min(references, len(table))
        rows = [table[index * len(table) // number] for index in range(number)]
    else:
        rows = list(islice(dataset, references))
    columns = (*SOURCES, DRAW_KEY, "attention_mask", "labels")
    names = [row.get("id", "") for row in rows]  # of utterances, which have no text
    rows = [{name: row[name] for name in columns if name in row} for row in rows]
    seed = collator.seed
    batch = RamlCollator(collator.collator, collator.payoff, tokenizer, seed=seed)(rows)
    edits, lengths = (np.asarray(batch[name]) for name in ("raml_edits", "raml_lengths"))

    places = [index * len(rows) // examples for index in range(min(examples, len(rows)))]
    sampler = RamlCollator(collator.collator, collator.payoff, tokenizer, seed=seed, num_samples=draws)
    drawn = sampler([rows[place] for place in places])["labels"]

    def text(ids: Iterable[int]) -> str:
        decoded = tokenizer.decode([token for token in map(int, ids) if token >= 0], skip_special_tokens=True)
        return cast(str, decoded).strip()

    tokens = getattr(collator.payoff, "tokens", getattr(getattr(collator.payoff, "proposal", None), "tokens", None))
    return DrawSummary(
        payoff=type(collator.payoff).__name__,
        temperature=float(collator.payoff.temperature),
        vocab_size=None if tokens is None else len(tokens),
        references=len(rows),
        mean_length=float(lengths.mean()),
        edit_rate=float(edits.sum() / max(lengths.sum(), 1)),
        intact=float((edits == 0).mean()),
        examples=[
            (
                text(rows[place]["input_ids"]) if "input_ids" in rows[place] else str(names[place]),
                text(rows[place]["labels"]),
                [text(ids) for ids in drawn[i * draws : (i + 1) * draws]],
            )
            for i, place in enumerate(places)
        ],
    )
