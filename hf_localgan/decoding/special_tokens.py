"""Tokens that frame what a model generates, as its generation settings or else its configuration name them."""

from transformers import PreTrainedModel


def special_token(model: PreTrainedModel, name: str) -> int | list[int] | None:
    """The id (of end tokens: one or several) that a model uses; `None` where it has none.

    Args:
        model: a `PreTrainedModel`, or a PEFT model around one.
        name: "eos_token_id", "pad_token_id", "bos_token_id" or "decoder_start_token_id".
    """
    value = getattr(model.generation_config, name, None)
    return getattr(model.config, name, None) if value is None else value


def end_tokens(model: PreTrainedModel) -> list[int]:
    """The ids that end a response, at least one.

    Raises:
        ValueError: if the model has none.
    """
    ends = special_token(model, "eos_token_id")
    if ends is None:
        raise ValueError("The model has no `eos_token_id`, so that its samples never end. Set it in its config.")
    return list(ends) if isinstance(ends, (list, tuple)) else [ends]
