"""What a training method says of itself on model cards."""

from typing import NamedTuple


class Objective(NamedTuple):
    """What a model was trained for.

    Attributes:
        name: as cards write it.
        tag: on the Hub.
        description: one or two sentences.
        citations: BibTeX entries, the method's own first.
    """

    name: str
    tag: str
    description: str
    citations: tuple[str, ...] = ()


def check_method(trainer: type) -> Objective:
    """The objective of a trainer's class.

    Raises:
        ValueError: for a class that says none.
    """
    objective = getattr(trainer, "objective", None)
    if not isinstance(objective, Objective):
        raise ValueError(
            "`trainer` must be the class of a trainer that says its `objective`, such as `RamlTrainer`, got "
            f"{trainer!r}."
        )
    return objective
