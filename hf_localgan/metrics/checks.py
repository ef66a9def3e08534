"""Checks of what the metrics are given, so that every one of them refuses the same mistakes in the same words."""

from collections.abc import Sequence


def require_equal_lengths(**named: Sequence) -> int:
    """The common length of the sequences, given by their argument names.

    Raises:
        ValueError: if two differ; the message names both numbers.
    """
    (first, one), *others = named.items()
    for name, other in others:
        if len(other) != len(one):
            raise ValueError(
                f"`{first}` and `{name}` must have one entry per query each, got {len(one)} and {len(other)}. "
                "Score the same queries in the same order on both sides."
            )
    return len(one)


def require_reference_lists(references: Sequence[Sequence], *, allow_empty: bool = False) -> None:
    """Refuses a bare string where a list of references stands, and queries without references.

    Raises:
        ValueError: naming the first such query.
    """
    for index, one_query in enumerate(references):
        if isinstance(one_query, str):
            raise ValueError(
                f"`references` must hold a list of references per query, got the string {one_query[:40]!r} at query "
                f"{index}. With one reference per query write [[reference], ...]."
            )
        if not one_query and not allow_empty:
            raise ValueError(f"Query {index} has no reference. Leave it out, on the side of the generations too.")


def require_level(level: float) -> None:
    """Refuses a confidence level outside of (0, 1)."""
    if not 0 < level < 1:
        raise ValueError(f"`level` must lie between 0 and 1, for example 0.95, got {level}.")
