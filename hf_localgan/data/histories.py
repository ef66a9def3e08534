"""The history of pairs: kept with a data set, with a tokenizer, and so with every model."""

import json
import warnings
from typing import TypeVar

from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase

from hf_localgan.data.tokenization import stored_settings
from hf_localgan.turns import HISTORY_TURNS, TURN_SEPARATOR, History, kept_history, make_history

Rows = TypeVar("Rows", Dataset, IterableDataset)


def note_history(rows: Rows, history: History | None) -> Rows:
    """The rows, whose description says which history their queries hold; `None` says nothing, and forgets what was.

    Selections, maps and `save_to_disk` keep it.
    """
    lines = [line for line in (rows.info.description or "").splitlines() if _noted(line) is None]
    if history is not None:
        lines.append(json.dumps({HISTORY_TURNS: history.turns, TURN_SEPARATOR: history.separator}))
    rows.info.description = "\n".join(lines)
    return rows


def noted_history(rows: Dataset | IterableDataset) -> History | None:
    """The history that the description of some rows names; of joined data sets the longest."""
    found = [_noted(line) for line in (rows.info.description or "").splitlines()]
    return max((history for history in found if history is not None), default=None)


def _noted(line: str) -> History | None:
    if not line.startswith(f'{{"{HISTORY_TURNS}"'):
        return None
    try:
        values = json.loads(line)
        return make_history(values[HISTORY_TURNS], values.get(TURN_SEPARATOR))
    except (ValueError, KeyError, AttributeError):
        return None


def keep_history(tokenizer: PreTrainedTokenizerBase, history: History) -> None:
    """Writes into a tokenizer's configuration how many turns its model is trained on, to be saved with both.

    Warns where the tokenizer cannot tell turns apart.
    """
    tokenizer.init_kwargs |= {HISTORY_TURNS: history.turns, TURN_SEPARATOR: history.separator}
    if not history.turns:
        return
    apart, together = tokenizer([f"a{history.separator}a", "a a"], add_special_tokens=False, verbose=False).input_ids
    unknown = tokenizer.unk_token_id
    if apart == together or apart.count(unknown) > together.count(unknown):
        warnings.warn(
            f"The tokenizer has no token for the sign between turns, {history.separator!r}: a model cannot tell where "
            f"one ends. Choose another by `{TURN_SEPARATOR}`, such as {f' {tokenizer.eos_token} '!r}.",
            stacklevel=3,
        )


def tokenizer_history(tokenizer: PreTrainedTokenizerBase) -> History | None:
    """The history that a tokenizer's configuration keeps; `None` where it keeps none."""
    return kept_history(tokenizer.init_kwargs)


def stored_history(model: str) -> History | None:
    """The history that is kept with a model or a tokenizer; `None` where there is none, or nothing to be read.

    Args:
        model: folder or Hub id; only the tokenizer's configuration is read.
    """
    return kept_history(stored_settings(model))
