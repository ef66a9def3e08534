"""How a training method describes itself. Nothing else in the package has a list of methods."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import ClassVar, TypeVar

from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

from hf_localgan.hub.objective import Objective
from hf_localgan.trainers.base.settings import SharedSettings

Settings = TypeVar("Settings", bound=SharedSettings)


class MethodMixin(Trainer):
    """What cards, trackers, uploads, resuming, reports and comparisons read from a trainer.

    Attributes:
        objective: the objective's name and description, and its papers. One per class.
        config_class: class of the arguments.
        role: role of the trained model: "generator", "energy", "discriminator" or "recogniser".
        part_roles: role of each model that stands beside the trained one and is saved in a folder of its name, such as
            `{"discriminator": "its opponent in training"}`.
        parts: these models, by name.
        loss_unit: unit of the `loss` that training logs.
    """

    objective: Objective  # no `ClassVar`, for the Trainer has an attribute of this name: the value of a search's trial
    config_class: ClassVar[type[SharedSettings]]
    role: ClassVar[str] = "generator"
    part_roles: ClassVar[Mapping[str, str]] = MappingProxyType({})
    loss_unit: ClassVar[str] = "nats per token"

    parts: Mapping[str, PreTrainedModel] = MappingProxyType({})

    # The Trainer declares these more widely.
    args: SharedSettings
    model: PreTrainedModel  # or a PEFT model, which passes on what it does not have itself
    processing_class: PreTrainedTokenizerBase | None

    @classmethod
    def check_args(cls, args: Settings | None) -> Settings:
        """Refuses arguments of another class than `config_class`.

        Returns:
            The arguments.

        Raises:
            ValueError: naming the class that is needed.
        """
        if not isinstance(args, cls.config_class):
            raise ValueError(
                f"`args` must be a `{cls.config_class.__name__}`, got {type(args).__name__}. It holds the settings of "
                f"`{cls.__name__}`."
            )
        return args


def known_trainers() -> Iterator[type[MethodMixin]]:
    """All imported trainer classes with an objective of their own, the most general ones first."""
    queue: list[type[MethodMixin]] = [MethodMixin]
    seen: set[type[MethodMixin]] = set()
    while queue:
        trainer = queue.pop(0)
        if trainer in seen:
            continue
        seen.add(trainer)
        queue += trainer.__subclasses__()
        if "objective" in vars(trainer):
            yield trainer


def trainer_named(name: str) -> type[MethodMixin] | None:
    """The imported trainer class of this name that has an objective, its own or an inherited one; `None` if none is."""
    queue: list[type[MethodMixin]] = [MethodMixin]
    while queue:
        trainer = queue.pop(0)
        if trainer.__name__ == name and hasattr(trainer, "objective"):
            return trainer
        queue += trainer.__subclasses__()
    return None
