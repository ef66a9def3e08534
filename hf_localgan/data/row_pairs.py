"""Pairs of rows that are more than a query and responses: conversations, conversational prompts, instructions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hf_localgan.data.text_files import half_a_character, no_text
from hf_localgan.turns import (
    ASSISTANT,
    USER,
    Conversation,
    Exchange,
    History,
    Turn,
    exchanges,
    instruction_text,
    is_conversation,
    read_conversation,
)


@dataclass
class RowPairs:
    """Pairs of some rows, column by column: a list entry for each pair, or for a row without any.

    Attributes:
        queries: with their history; `None` where a row cannot be read.
        bare: the same without history.
        responses: their responses.
        rows: numbers of the rows that they stand in.
        reasons: why a row cannot be read; `None` for others.
        wrong: whether a row is a conversation that cannot be read.
        turns: number of earlier turns in each query.
        left_out: messages of the system and of tools, counted with the first pair of each row.
        replaced: whether a turn of the query holds the separator, which was replaced.
    """

    queries: list[str | None] = field(default_factory=list)
    bare: list[str | None] = field(default_factory=list)
    responses: list[str | None] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    reasons: list[str | None] = field(default_factory=list)
    wrong: list[bool] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)
    replaced: list[bool] = field(default_factory=list)

    def add_pair(self, row: int, exchange: Exchange, history: History, left_out: int = 0):
        """Adds a pair."""
        texts = [*exchange.earlier, exchange.query]
        kept = texts[-1 - history.turns :]
        replaced = history.turns > 0 and any(history.separator in text for text in kept)
        self._add(
            history.join(texts), exchange.query, exchange.response, row, None, False, len(kept) - 1, left_out, replaced
        )

    def add_texts(self, row: int, query: Any, response: Any, reason: str | None):
        """Adds a pair of two cells, of which each may be no text."""
        texts = [value if isinstance(value, str) and half_a_character(value) is None else None
                 for value in (query, response)]  # fmt: skip
        self._add(texts[0], texts[0], texts[1], row, reason, False, 0, 0, False)

    def add_wrong(self, row: int, reason: str):
        """Adds a row that cannot be read."""
        self._add(None, None, None, row, reason, True, 0, 0, False)

    def _add(self, *values: Any):
        columns: Iterable[list] = vars(self).values()
        for column, value in zip(columns, values, strict=True):
            column.append(value)


def pair_rows(
    cells: Iterable[Sequence[Any]],
    rows: Sequence[int],
    columns: Sequence[str],
    history: History,
    places: Sequence[str] | None = None,
    wrong: Sequence[str | None] | None = None,
) -> RowPairs:
    """The pairs of some rows.

    Args:
        cells: of each row the values of `columns`.
        rows: their numbers.
        columns: as `find_columns` returns them.
        history: how many earlier turns are joined to a query.
        places: where each row stands, for messages; by default its number.
        wrong: of each row why the reader could not read it; `None` where it could.
    """
    read = RowPairs()
    for index, (row, values) in enumerate(zip(rows, cells, strict=True)):
        reason = None if wrong is None else wrong[index]
        place = f"row {row}" if places is None else places[index]
        if reason is not None:
            read.add_texts(row, None, None, reason)
            continue
        if len(columns) == 3:
            values = (instruction_text(values[0], values[1]), values[2])
        if len(columns) != 1 and not any(map(is_conversation, values)):
            _add_texts(read, row, place, *values)
            continue
        try:
            found, left_out = _conversation_pairs(values, (columns[0], columns[-1]))
        except ValueError as error:
            read.add_wrong(row, f"{place}: {error}")
            continue
        for number, exchange in enumerate(found):
            read.add_pair(row, exchange, history, 0 if number else left_out)
    return read


def _add_texts(read: RowPairs, row: int, place: str, query: Any, response: Any):
    """Adds the pairs of a query and its response, or list of responses."""
    responses = (response or [None]) if isinstance(response, (list, tuple)) else [response]
    reason = next((reason for reason in map(no_text, (query, *responses)) if reason is not None), None)
    for text in responses:
        read.add_texts(row, query, text, None if reason is None else f"{place}: {reason}")


def _conversation_pairs(values: Sequence[Any], columns: tuple[str, str]) -> tuple[list[Exchange], int]:
    """The pairs of a row, and the number of messages that are left out."""
    if len(values) == 1:
        conversation = _read(values[0], columns[0])
        turns, first, left_out = conversation.turns, 0, conversation.left_out
    else:
        prompt, completion = (
            Conversation([Turn(speaker, value)], 0) if isinstance(value, str) else _read(value, column)
            for value, column, speaker in zip(values, columns, (USER, ASSISTANT), strict=True)
        )
        if not prompt.turns or prompt.turns[-1].speaker != USER:
            raise ValueError(f"`{columns[0]}` must end with a turn of the user")
        if not completion.turns or completion.turns[0].speaker != ASSISTANT:
            raise ValueError(f"`{columns[1]}` must begin with a turn of the assistant")
        turns, first = [*prompt.turns, *completion.turns], len(prompt.turns)
        left_out = prompt.left_out + completion.left_out
    for turn in turns:
        reason = half_a_character(turn.text)
        if reason is not None:
            raise ValueError(reason)
    found = list(exchanges(turns, first))
    if not found:
        speakers = {turn.speaker for turn in turns}
        lacking = "no turn of the assistant" if ASSISTANT not in speakers else "no turn of the user before an answer"
        raise ValueError(f"`{columns[0]}` has {lacking}, so there is nothing to learn")
    return found, left_out


def _read(value: Any, column: str) -> Conversation:
    try:
        return read_conversation(value)
    except ValueError as error:
        raise ValueError(f"`{column}`: {error}") from error
