"""The columns of encoded pairs: token ids, or vectors of the user's own."""

from collections.abc import Iterable

TOKENS = ("input_ids", "labels")
VECTORS = ("query_features", "response_features")


def check_columns(names: Iterable[str], data: str):
    """Refuses data that have neither token ids nor vectors.

    Args:
        names: names of the columns.
        data: name of the data, for the message.

    Raises:
        ValueError: unless there are `input_ids` and `labels`, or `query_features` and `response_features`.
    """
    names = list(names)
    if not any(set(columns) <= set(names) for columns in (VECTORS, TOKENS)):
        listed = ", ".join(f"`{name}`" for name in names)
        raise ValueError(
            f"{data} must have `input_ids` and `labels` (see `encode_pairs`), or vectors as `query_features` and "
            f"`response_features`; found {listed or 'none'}."
        )
