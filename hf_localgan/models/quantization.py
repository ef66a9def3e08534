"""Quantized weights of a base model: whether they can be made here, and whether they can be trained."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.quantizers import AutoHfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from .places import first_line

GivenQuantization: TypeAlias = QuantizationConfigMixin | Mapping[str, Any]


def check_quantization(quantization_config: Any, config: PreTrainedConfig | None = None):
    """Refuses a quantization that cannot be made, before any weight is read.

    Args:
        quantization_config: as in `from_pretrained`, such as `BitsAndBytesConfig(load_in_4bit=True)`, or its values.
        config: of the model, once it is known.

    Raises:
        ValueError: for other objects, a model of recurrent layers, and hardware that the method does not have.
        ImportError: for a library that is missing.
    """
    if not isinstance(quantization_config, (QuantizationConfigMixin, Mapping)):
        raise ValueError(
            "`quantization_config` must be a configuration of transformers, such as "
            f"`BitsAndBytesConfig(load_in_4bit=True)`, got {type(quantization_config).__name__}."
        )
    model_type = getattr(config, "model_type", None) or ""
    if model_type.startswith("rnn_"):
        raise ValueError(
            f"A model of the type `{model_type}` cannot be quantized: no method has recurrent layers. Leave "
            "`quantization_config` out, or take a T5 or BART."
        )
    given = dict(quantization_config) if isinstance(quantization_config, Mapping) else quantization_config
    try:
        quantizer = AutoHfQuantizer.from_config(given, pre_quantized=False)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"`quantization_config` cannot be used: {first_line(error)}") from error
    method = str(getattr(quantizer.quantization_config.quant_method, "value", None) or "its method")
    try:
        quantizer.validate_environment(device_map=None, weights_only=True)
    except ImportError as error:
        raise ImportError(
            f"`quantization_config` asks for {method}, and a library for it is missing: {first_line(error)}. Install "
            "it, or leave `quantization_config` out."
        ) from error
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"`quantization_config` asks for {method}, which cannot be used on this machine: {first_line(error)} Leave "
            "`quantization_config` out, or train where there is a GPU for it."
        ) from error


def is_quantized(model: Any) -> bool:
    """Whether a model's weights are quantized."""
    return bool(getattr(model, "is_quantized", False))


def needs_adapters(model: nn.Module) -> bool:
    """Whether nothing of a model can be trained: its weights are quantized, and it has no adapters."""
    if not is_quantized(model) or getattr(model, "peft_config", None):
        return False
    return not getattr(getattr(model, "hf_quantizer", None), "is_qat_trainable", False)


def prepared_for_adapters(model: PreTrainedModel) -> PreTrainedModel:
    """A quantized model whose parameters are frozen and, where they are not quantized, in float32, by PEFT's rule."""
    from peft import prepare_model_for_kbit_training

    # The trainer turns checkpointing on itself, by `gradient_checkpointing`.
    return prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
