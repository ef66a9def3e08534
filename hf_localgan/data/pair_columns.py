"""The columns of encoded pairs: token ids, or vectors of the user's own."""

from collections.abc import Iterable

TOKENS = ("input_ids", "labels")
VECTORS = ("query_features", "response_features")


def check_columns(names: Iterable[str], what: str):
    """Refuses data without the columns of either kind.

    Args:
        names: of the columns.
        what: the data are called in the message.

    Raises:
        ValueError: unless there are `input_ids` and `labels`, or `query_features` and `response_features`.
    """
    names = list(names)
    if not any(set(wanted) <= set(names) for wanted in (VECTORS, TOKENS)):
        found = ", ".join(f"`{name}`" for name in names)
        raise ValueError(
            f"{what} must have `input_ids` and `labels` (see `encode_pairs`), or vectors as `query_features` and "
            f"`response_features`; found {found or 'none'}."
        )
