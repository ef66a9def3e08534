"""Settings of LoRA, which trains small matrices beside the layers of a generator instead of its weights."""

import logging
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from hf_localgan.models.adapter_checks import check_adapters, describe_unread, unread_layers
from hf_localgan.models.adapters import quiet_peft

SHOWN = 8  # names of layers in an error
ALL_LINEAR = "all-linear"  # PEFT's name for every linear layer but the output layer

logger = logging.getLogger(__name__)


@dataclass
class LoraArguments:
    """Adapters (LoRA) that are trained instead of a generator's weights."""

    lora_rank: int | None = field(
        default=None,
        metadata={
            "help": "Train adapters of this rank (LoRA) instead of the weights of the generator. Checkpoints and the "
            "output then hold the adapters alone. By default all weights are trained."
        },
    )
    lora_alpha: float | None = field(
        default=None, metadata={"help": "What adapters add is multiplied by `lora_alpha / lora_rank`, by default 1."}
    )
    lora_dropout: float = field(default=0.0, metadata={"help": "Dropout on the input of adapters."})
    lora_targets: list[str] | None = field(
        default=None,
        metadata={
            "help": "Layers that get an adapter: ends of their names, or `all-linear`. By default PEFT's choice for "
            "the architecture (`q` and `v` of T5, `q_proj` and `v_proj` of BART), and `all-linear` where it has none."
        },
    )

    def __post_init__(self):
        if self.lora_rank is None:
            given = [name for name in ("lora_alpha", "lora_targets") if getattr(self, name) is not None]
            given += ["lora_dropout"] if self.lora_dropout else []
            if given:
                raise ValueError(
                    f"`{given[0]}` says how adapters are made. Set `lora_rank`, 8 for example, to have some."
                )
            return
        if self.lora_rank < 1:
            raise ValueError(
                f"`lora_rank` must be at least 1, got {self.lora_rank}. Leave it out to train all weights."
            )
        if self.lora_alpha is not None and self.lora_alpha <= 0:
            raise ValueError(f"`lora_alpha` must be positive, got {self.lora_alpha}.")
        if not 0 <= self.lora_dropout < 1:
            raise ValueError(f"`lora_dropout` must be at least 0 and below 1, got {self.lora_dropout}.")
        if self.lora_targets == []:
            raise ValueError("`lora_targets` is empty. Name layers, or leave it out for the usual ones.")

    def adapt(self, model: PreTrainedModel) -> PreTrainedModel:
        """The model; where `lora_rank` is set, with adapters, which alone are trained then.

        Adapters on layers that share their weights (ties) are adapters of their own.

        Raises:
            ValueError: for layers that do not exist, cannot have adapters, such as recurrent ones, or are read by
                nothing, so that their adapters would learn nothing.
        """
        if self.lora_rank is None:
            return model
        from peft import LoraConfig, get_peft_model
        from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as USUAL

        targets: str | list[str] | None = self.lora_targets
        if targets is None and model.config.model_type not in USUAL:
            targets = ALL_LINEAR
        config = LoraConfig(
            task_type="SEQ_2_SEQ_LM", r=self.lora_rank,
            lora_alpha=cast(int, self.lora_alpha or self.lora_rank),  # PEFT divides it, a fraction too
            lora_dropout=self.lora_dropout, target_modules=ALL_LINEAR if targets == [ALL_LINEAR] else targets,
        )  # fmt: skip
        linear = {
            name.rsplit(".", 1)[-1] for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)
        }
        try:
            with quiet_peft():
                adapted = cast(PreTrainedModel, get_peft_model(model, config))
        except ValueError as error:
            names = ", ".join([*sorted(linear)[:SHOWN], *(["..."] if len(linear) > SHOWN else [])])
            raise ValueError(
                f"`lora_targets` {targets} do not fit {type(model).__name__}: {str(error).split('. ')[0]}. Its linear "
                f"layers are {names}; `{ALL_LINEAR}` means every one but the output layer."
            ) from error
        check_adapters(adapted)
        self._report_unread(adapted, targets)
        return adapted

    @staticmethod
    def _report_unread(adapted: PreTrainedModel, targets: str | list[str] | None):
        """Refuses a given name all whose layers learn nothing; logs where some of them do not."""
        unread = unread_layers(adapted)
        if not unread:
            return
        names = {layer.name for layer in unread}
        adapters = cast(Any, adapted).targeted_module_names
        for target in targets if isinstance(targets, list) else []:
            matched = {name for name in adapters if name == target or name.endswith(f".{target}")}
            if matched and matched <= names:
                unread = [layer for layer in unread if layer.name in matched]
                raise ValueError(f"`lora_targets` has `{target}`. {describe_unread(unread, adapted)}")
        logger.warning("%s The other adapters are trained.", describe_unread(unread, adapted))
