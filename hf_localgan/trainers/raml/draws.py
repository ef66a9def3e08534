"""What a payoff distribution does to the references of a training set, before anything is trained on it."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text
from transformers import PreTrainedTokenizerBase

from hf_localgan.trainers.raml.collator import DRAW_KEY, SOURCES, RamlCollator


@dataclass(frozen=True)
class DrawSummary:
    """Draws for some references.

    Attributes:
        payoff: name of the sampler's class.
        temperature: tau at which they were drawn; of a schedule, the last one.
        vocab_size: tokens that may be drawn.
        references: how many there were.
        mean_length: of the references, in tokens without the frame of special tokens.
        edit_rate: edits per token of the references.
        intact: share of the references that stayed as they are.
        examples: query, reference and draws of a few, as text.
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
        """What names an evaluation of a model that was trained on such draws."""
        return {
            "temperature": round(self.temperature, 6),
            "edit_rate": round(self.edit_rate, 5),
            "intact": round(self.intact, 4),
        }


def summarize_draws(
    collator: RamlCollator,
    dataset: Iterable[dict],
    tokenizer: PreTrainedTokenizerBase,
    *,
    references: int = 1000,
    examples: int = 3,
    draws: int = 3,
) -> DrawSummary:
    """Draws once for up to `references` rows, and several times for a few of them.

    The draws are those that the trainer of this collator makes in its first epoch, but that a schedule of the
    temperature is left out: they are at its end.

    Args:
        collator: of the trainer.
        dataset: training rows of `input_ids` or `input_features`, and `labels`. A stream is read from its start.
        tokenizer: writes the text.
        references: rows, evenly spaced where their number is known.
        examples: rows that are shown.
        draws: of each of these.
    """
    if hasattr(dataset, "__len__"):
        number = min(references, len(dataset))
        rows = [dataset[index * len(dataset) // number] for index in range(number)]
    else:
        rows = list(islice(dataset, references))
    columns = (*SOURCES, DRAW_KEY, "attention_mask", "labels")
    names = [row.get("id", "") for row in rows]  # of utterances, which have no text
    rows = [{name: row[name] for name in columns if name in row} for row in rows]
    settings = {"tokenizer": tokenizer, "seed": collator.seed}
    batch = RamlCollator(collator.collator, collator.payoff, **settings)(rows)
    edits, lengths = (np.asarray(batch[name]) for name in ("raml_edits", "raml_lengths"))

    places = [index * len(rows) // examples for index in range(min(examples, len(rows)))]
    shown = [rows[place] for place in places]
    several = RamlCollator(collator.collator, collator.payoff, num_samples=draws, **settings)(shown)["labels"]

    def text(ids) -> str:
        return tokenizer.decode([token for token in map(int, ids) if token >= 0], skip_special_tokens=True).strip()

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
                text(row["input_ids"]) if "input_ids" in row else str(names[place]),
                text(row["labels"]),
                [text(ids) for ids in several[i * draws : (i + 1) * draws]],
            )
            for i, (place, row) in enumerate(zip(places, shown, strict=True))
        ],
    )
