"""How a training method describes itself. Nothing else in the package has a list of methods."""

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import TrainOutput

from hf_localgan.hub.objective import Objective
from hf_localgan.models.loading import load_generator
from hf_localgan.models.quantization import GivenQuantization, check_quantization
from hf_localgan.trainers.base.best_metric import check_best_metric
from hf_localgan.trainers.base.given import GivenModel, settle_args, with_adapters
from hf_localgan.trainers.base.settings import SharedSettings

if TYPE_CHECKING:
    from peft import PeftConfig


class MethodMixin(Trainer):
    """What cards, trackers, uploads, resuming, reports and comparisons read from a trainer.

    Attributes:
        objective: the objective's name and description, and its papers. One per class.
        config_class: class of the arguments.
        role: role of the trained model: "generator", "energy", "discriminator" or "recogniser".
        part_roles: role of each model that stands beside the trained one and is saved in a folder of its name, such as
            `{"discriminator": "its opponent in training"}`.
        parts: these models, by name.
        loader: loads a model that is given by its name, and its tokenizer or processor.
        measured: names of what an evaluation of this trainer measures, without `eval_`.
        loss_unit: unit of the `loss` that training logs.
    """

    objective: Objective  # no `ClassVar`, for the Trainer has an attribute of this name: the value of a search's trial
    config_class: ClassVar[type[SharedSettings]]
    role: ClassVar[str] = "generator"
    part_roles: ClassVar[Mapping[str, str]] = MappingProxyType({})
    loss_unit: ClassVar[str] = "nats per token"

    parts: Mapping[str, PreTrainedModel] = MappingProxyType({})
    loader: ClassVar[Callable[..., tuple[PreTrainedModel, Any]]] = staticmethod(load_generator)
    measured: frozenset[str] = frozenset({"loss"})

    # The Trainer declares these more widely.
    args: SharedSettings
    model: PreTrainedModel  # or a PEFT model, which passes on what it does not have itself
    processing_class: PreTrainedTokenizerBase | None

    # ---- what the constructor gets ----

    @classmethod
    def check_args(cls, args: TrainingArguments | None) -> Any:
        """The settings: of `config_class`, or made from plain arguments of transformers or `None`.

        Raises:
            ValueError: for arguments of another class, naming the class that is needed. See `settle_args`.
        """
        return settle_args(cls.config_class, cls.__name__, args)

    @classmethod
    def load_given(
        cls,
        model: GivenModel | None,
        processing_class: Any,
        model_init_kwargs: Mapping[str, Any] | None = None,
        peft_config: "PeftConfig | None" = None,
        quantization_config: GivenQuantization | None = None,
    ) -> tuple[Any, Any]:
        """The model, loaded if it is given by its name, with adapters if they are wanted; and its tokenizer.

        Args:
            model: a model, a folder, or an id on the Hub.
            processing_class: the tokenizer or processor; by default that of a model that is loaded.
            model_init_kwargs: arguments of `loader`, such as `revision`.
            peft_config: makes adapters, see `with_adapters`.
            quantization_config: how the weights of a model that is loaded are quantized, as in `from_pretrained`.

        Returns:
            The model (`None` if none is given) and the tokenizer or processor.

        Raises:
            OSError, ValueError: for a model that cannot be loaded, arguments that its loader does not have, and a
                quantization that cannot be made or trained.
            ImportError: for a library of the quantization that is missing.
        """
        accepted = inspect.signature(cls.loader).parameters
        names = [name for name, parameter in accepted.items() if parameter.kind is parameter.KEYWORD_ONLY]
        if quantization_config is not None:
            cls._check_quantization(model, names, model_init_kwargs, peft_config, quantization_config)
            model_init_kwargs = {**(model_init_kwargs or {}), "quantization_config": quantization_config}
        if isinstance(model, (str, os.PathLike)):
            unknown = [name for name in model_init_kwargs or {} if name not in names]
            if unknown:
                raise ValueError(
                    f"`model_init_kwargs` have {', '.join(f'`{name}`' for name in unknown)}; accepted are "
                    f"{', '.join(f'`{name}`' for name in names)}. Load the model yourself for other arguments."
                )
            loaded, own = cls.loader(model, **(model_init_kwargs or {}))
            return with_adapters(loaded, peft_config), own if processing_class is None else processing_class
        if model_init_kwargs:
            raise ValueError(
                f"`model_init_kwargs` are for a `model` that is given by its name, got {type(model).__name__}. Leave "
                "them out, or give the folder or the id on the Hub."
            )
        if model is not None and not isinstance(model, nn.Module):
            raise ValueError(f"`model` must be a model, a folder or an id on the Hub, got {type(model).__name__}.")
        return with_adapters(model, peft_config), processing_class

    @classmethod
    def _check_quantization(
        cls,
        model: Any,
        accepted: list[str],
        model_init_kwargs: Mapping[str, Any] | None,
        peft_config: "PeftConfig | None",
        quantization_config: GivenQuantization,
    ):
        if "quantization_config" not in accepted:
            raise ValueError(f"`{cls.__name__}` cannot quantize its {cls.role}. Leave `quantization_config` out.")
        if not isinstance(model, (str, os.PathLike)):
            raise ValueError(
                f"`quantization_config` is for a `model` that is given by its name, got {type(model).__name__}. Give "
                "it to `from_pretrained` of a model that you load yourself."
            )
        if "quantization_config" in (model_init_kwargs or {}):
            raise ValueError(
                "Got `quantization_config` twice, alone and in `model_init_kwargs`. Leave one of them out."
            )
        if peft_config is None:
            raise ValueError(
                "Got a `quantization_config` without a `peft_config`: quantized weights cannot be trained themselves. "
                'Give `peft_config`, such as `LoraConfig(r=16, target_modules="all-linear")`, too.'
            )
        check_quantization(quantization_config)

    # ---- before the training ----

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """As `Trainer.train`; refuses a `metric_for_best_model` that no evaluation has before it starts."""
        check_best_metric(self, self.measured)
        return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        try:
            return super()._determine_best_metric(metrics, trial)
        except KeyError as error:  # of a name that could not be looked for before
            raise ValueError(str(error.args[0])) from error

    def adopt_settings(self):
        """Makes anew what the trainer has made of `args`, after they have changed.

        A search for hyperparameters changes them before each trial.
        """

    def _replace_callback(self, old: TrainerCallback | None, new: TrainerCallback | None) -> TrainerCallback | None:
        """Puts a callback in the place of another; `None` for none. Returns the new one."""
        if old is not None:
            self.remove_callback(old)
        if new is not None:
            self.add_callback(new)
        return new

    def _hp_search_setup(self, trial: Any):
        super()._hp_search_setup(trial)
        if trial is not None:
            self.args.check()
            self.adopt_settings()


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
