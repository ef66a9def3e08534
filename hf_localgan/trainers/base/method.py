"""What a training method says of itself. Nothing else of the package knows which methods there are."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import ClassVar

from torch import nn
from transformers import Trainer, TrainingArguments

from hf_localgan.hub.objective import Objective


class MethodMixin(Trainer):
    """What cards, trackers, uploads, resuming, reports and comparisons read of a trainer.

    Attributes:
        objective: what it trains for: a name, a description, the papers.
        config_class: of its arguments.
        role: what it trains: "generator", "energy" or "discriminator".
        part_roles: the models that stand beside the trained one and are saved in folders of these names, with what
            each of them is, such as `{"discriminator": "its opponent in training"}`.
        parts: these models, by name.
    """

    objective: ClassVar[Objective]
    config_class: ClassVar[type[TrainingArguments]]
    role: ClassVar[str] = "generator"
    part_roles: ClassVar[Mapping[str, str]] = MappingProxyType({})

    parts: Mapping[str, nn.Module] = MappingProxyType({})

    @classmethod
    def check_args(cls, args):
        """Refuses arguments that are not those of this method.

        Raises:
            ValueError: naming the class that is needed.
        """
        if not isinstance(args, cls.config_class):
            raise ValueError(
                f"`args` must be a `{cls.config_class.__name__}`, got {type(args).__name__}. It holds the settings of "
                f"`{cls.__name__}`."
            )


def known_trainers() -> Iterator[type[MethodMixin]]:
    """The imported classes with an objective of their own, the package's and others, most general ones first."""
    waiting, seen = [MethodMixin], set()
    while waiting:
        trainer = waiting.pop(0)
        if trainer in seen:
            continue
        seen.add(trainer)
        waiting += trainer.__subclasses__()
        if "objective" in vars(trainer):
            yield trainer


def trainer_named(name: str) -> type[MethodMixin] | None:
    """The class of this name or, where it has no objective of its own, the nearest one above it that has."""
    waiting = [MethodMixin]
    while waiting:
        trainer = waiting.pop(0)
        if trainer.__name__ == name and hasattr(trainer, "objective"):
            return trainer
        waiting += trainer.__subclasses__()
    return None
