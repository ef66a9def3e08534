"""Pairs of text that a function of the user's own makes of the rows of any data set."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, TypeAlias

import datasets
from torch.utils.data import IterableDataset

# A row to {"query": ..., "response": ...}, {"source": ..., "target": ...} or a tuple of both texts.
FormattingFunction: TypeAlias = Callable[[Mapping[str, Any]], Mapping[str, Any] | tuple[str, Any]]

SIDES = (("query", "response"), ("query", "responses"), ("source", "target"))
ACCEPTED = (
    'Return one pair for each row: {"query": ..., "response": ...}, {"source": ..., "target": ...}, or the tuple '
    "(source, target), all texts"
)


def format_rows(name: str, data: Any, formatting_func: FormattingFunction) -> Any:
    """Rows of text columns made of other rows, one of each.

    Args:
        name: `train_dataset` or `eval_dataset`, for errors.
        data: a data set, a stream, or a list of rows.
        formatting_func: gets a row, and returns `query` with `response` or `responses` (a list), `source` with
            `target`, or a tuple of the two texts. Other columns are left behind.

    Returns:
        A data set, a stream or a list, as it was given.

    Raises:
        ValueError: for what is no function, rows that cannot be gone through, and what is no pair of texts.
    """
    if not callable(formatting_func):
        raise ValueError(f"`formatting_func` must be a function of a row, got {formatting_func!r:.100}.")
    if inspect.isgeneratorfunction(formatting_func) or inspect.iscoroutinefunction(formatting_func):
        form = "a generator, which yields" if inspect.isgeneratorfunction(formatting_func) else "a coroutine"
        raise ValueError(f"`formatting_func` is {form}. {ACCEPTED}, by `return` of a plain function.")
    row_of = partial(_formatted, name=name, formatting_func=formatting_func)
    if isinstance(data, (datasets.Dataset, datasets.IterableDataset)):
        if isinstance(data, datasets.Dataset):
            columns = data.column_names
            return data.map(row_of, with_indices=True, remove_columns=columns, desc=f"Formatting {name}")
        first: Mapping[str, Any] = next(iter(islice(data, 1)), {})
        made = row_of(first, 0) if first else {}
        # A column that the function returns under its old name must not be removed here.
        removed = [column for column in first if column not in made]
        return data.map(row_of, with_indices=True, remove_columns=removed)
    if hasattr(data, "__len__") and hasattr(data, "__getitem__") and not isinstance(data, (str, Mapping)):
        return [row_of(data[number], number) for number in range(len(data))]
    advice = " Make a `datasets.IterableDataset` of it." if isinstance(data, IterableDataset) else ""
    raise ValueError(
        f"`formatting_func` needs rows: a data set, a stream of `datasets` or a list, got {name} as "
        f"{type(data).__name__}.{advice}"
    )


def _formatted(row: Mapping[str, Any], number: int, name: str, formatting_func: FormattingFunction) -> dict[str, Any]:
    try:
        pair: Any = formatting_func(row)
    except Exception as error:
        error.add_note(f"`formatting_func` raised this at row {number} of `{name}` ({_columns(row)}).")
        raise
    if isinstance(pair, Mapping):
        sides = next((sides for sides in SIDES if all(side in pair for side in sides)), None)
        made = {side: pair[side] for side in sides or ()}
    else:
        is_pair = isinstance(pair, (tuple, list)) and len(pair) == 2 and isinstance(pair[0], str)
        made = {"query": pair[0], "responses" if isinstance(pair[1], list) else "response": pair[1]} if is_pair else {}
    query, response = list(made.values()) or (None, None)
    texts = [query, *(response if isinstance(response, (list, tuple)) and response else [response])]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(
            f"`formatting_func` returned {_described(pair)} for row {number} of `{name}` ({_columns(row)}). {ACCEPTED}."
        )
    return made


def _columns(row: Any) -> str:
    return f"columns {', '.join(f'`{column}`' for column in row)}" if isinstance(row, Mapping) else type(row).__name__


def _described(pair: Any) -> str:
    if pair is None:
        return "nothing (`None`)"
    if isinstance(pair, str):
        return f"one text ({pair!r:.60}), and an encoder-decoder has two sides,"
    if isinstance(pair, Mapping):
        listed = ", ".join(f"`{key}`: {value!r:.40}" for key, value in pair.items())
        return f"a dictionary of {listed}" if pair else "an empty dictionary"
    if isinstance(pair, Sequence):
        return f"{type(pair).__name__} {pair!r:.80} of length {len(pair)}"
    return f"{type(pair).__name__} {pair!r:.60}"
