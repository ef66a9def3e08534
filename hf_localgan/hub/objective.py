"""A training method as model cards describe it."""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Protocol


class Objective(NamedTuple):
    """The objective of a training, for the card of the trained model.

    Attributes:
        name: such as "LocalGAN".
        tag: the model's tag on the Hub.
        description: one or two sentences on how the model was trained.
        citations: BibTeX entries, the method's own first.
    """

    name: str
    tag: str
    description: str
    citations: tuple[str, ...] = ()


class Method(Protocol):
    """The part of a trainer's class that cards read.

    Attributes:
        objective: of the training.
        role: role of the trained model, such as "generator".
        part_roles: the models that stand beside the trained one, by the name of their folder, and the role of each.
    """

    objective: Objective  # the Trainer has an attribute of this name, too, and not of the class
    role: ClassVar[str]
    part_roles: ClassVar[Mapping[str, str]]


def check_method(trainer: type) -> Objective:
    """The objective of a trainer's class.

    Raises:
        ValueError: for a class without one.
    """
    objective = getattr(trainer, "objective", None)
    if not isinstance(objective, Objective):
        raise ValueError(
            "`trainer` must be the class of a trainer that says its `objective`, such as `RamlTrainer`, got "
            f"{trainer!r}."
        )
    return objective
