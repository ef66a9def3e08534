"""Tokens that frame a generation, as the model's generation settings or else its configuration name them."""

from typing import cast

from torch import nn
from transformers import PreTrainedModel


def unadapted(model: nn.Module) -> PreTrainedModel:
    """The model itself, or the one inside a PEFT model."""
    get_base_model = getattr(model, "get_base_model", None)
    return cast(PreTrainedModel, model if get_base_model is None else get_base_model())


def special_token(model: nn.Module, name: str) -> int | list[int] | None:
    """The id that a model uses, or a list of ids where it has several end tokens; `None` where it has none.

    Args:
        model: a `PreTrainedModel`, or a PEFT model around one.
        name: "eos_token_id", "pad_token_id", "bos_token_id" or "decoder_start_token_id".
    """
    value = getattr(model.generation_config, name, None)
    return getattr(model.config, name, None) if value is None else value


def end_tokens(model: nn.Module) -> list[int]:
    """The ids that end a response, at least one.

    Raises:
        ValueError: if the model has none.
    """
    ends = special_token(model, "eos_token_id")
    if ends is None:
        raise ValueError("The model has no `eos_token_id`, so that its samples never end. Set it in its config.")
    return list(ends) if isinstance(ends, (list, tuple)) else [ends]


def single_token(model: nn.Module, *names: str) -> int | None:
    """The id of the first of these special tokens that a model has; `None` where it has none of them."""
    for name in names:
        if (token := special_token(model, name)) is not None:
            return cast(int, token)  # a list is of end tokens alone
    return None
