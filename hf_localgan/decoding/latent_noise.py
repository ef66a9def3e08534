"""Answers of a decoder that starts from noise beside the encoded query, as AIM trains it (Zhang et al. 2018)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_localgan.decoding.answers import Decoding, number_in_name, register_decoding
from hf_localgan.decoding.likelihood import select_rows
from hf_localgan.decoding.special_tokens import unadapted
from hf_localgan.functional.information import add_latent_noise, latent_noise


def noise_size(model: nn.Module) -> int:
    """Dimensions of a generator's noise: its `noise_size`, or else the width of its encoder's states.

    Raises:
        ValueError: if the configuration of the encoder has no `hidden_size`.
    """
    base = unadapted(model)
    own = getattr(base.config, "noise_size", 0)
    if own:
        return own
    width = getattr(base.get_encoder().config, "hidden_size", None)
    if width is None:
        raise ValueError(
            f"The encoder of {type(base).__name__} has no `hidden_size` in its config, so that the size of the noise "
            "is unknown. Use a model whose encoder has one, such as `rnn_seq2seq`, T5 or BART."
        )
    return width


def encode_with_noise(
    model: nn.Module, batch: Mapping[str, Tensor], noise: Tensor | None, *, scale: float = 1.0
) -> Any:
    """The encoded queries of a batch with noise beside them, with gradients.

    A recurrent generator with `noise_size` starts its decoder from the noise. For any other model the noise is added to
    the encoder's states (`functional.information.add_latent_noise`). `generate` repeats it for beams with the rest.

    Args:
        model: an encoder-decoder, or a PEFT model around one.
        batch: `input_ids` and `attention_mask`.
        noise: shape `(batch, noise_size(model))`; `None` for no noise.
        scale: factor of the noise; 0 for no noise.

    Returns:
        `encoder_outputs` for the model.
    """
    base = unadapted(model)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask") if batch.get(name) is not None}
    encoded = base.get_encoder()(**inputs, return_dict=True)
    if noise is None or not scale:
        return encoded
    if getattr(base.config, "noise_size", 0):
        encoded.noise = scale * noise
    else:
        states = encoded.last_hidden_state
        encoded.last_hidden_state = add_latent_noise(states, noise, inputs.get("attention_mask"), scale)
    return encoded


@dataclass(frozen=True)
class LatentNoise(Decoding):
    """Greedy answers from one draw of noise for each answer, as AIM's authors decode; other decodings have noise 0.

    Attributes:
        scale: factor of the noise; it was 1 in training.

    Raises:
        ValueError: for a `scale` that is not positive and finite.
    """

    name: str = ""
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)
    scale: float = 1.0

    def __post_init__(self):
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"`scale` must be above 0 and finite, got {self.scale}. Without noise decode greedily.")
        object.__setattr__(self, "arguments", {"do_sample": False, "num_beams": 1})
        if not self.name:
            object.__setattr__(self, "name", f"noise {self.scale:g}")

    @property
    def most_answers(self) -> int | None:
        return None

    def settings(self) -> dict[str, Any]:
        return {**self.arguments, "decoding": "noise", "scale": self.scale}

    def generate(
        self,
        model: PreTrainedModel,
        batch: Mapping[str, Tensor],
        *,
        tokenizer: PreTrainedTokenizerBase,
        num_return_sequences: int = 1,
        max_new_tokens: int,
        **arguments: Any,
    ) -> Tensor:
        queries = len(batch["input_ids"])
        rows = torch.arange(queries, device=batch["input_ids"].device).repeat_interleave(num_return_sequences)
        repeated = {name: value[rows] for name, value in batch.items()}
        noise = latent_noise(len(rows), noise_size(model), device=rows.device)
        encoded = encode_with_noise(model, repeated, noise, scale=self.scale)
        mask = {name: value for name, value in repeated.items() if name == "attention_mask"}
        outputs = select_rows(encoded, torch.arange(len(rows), device=rows.device))
        return model.generate(  # type: ignore[operator]  # not declared by `PreTrainedModel`
            encoder_outputs=outputs, **mask, **{**self.arguments, **arguments}, max_new_tokens=max_new_tokens
        )


register_decoding("noise", lambda scale="1": LatentNoise(scale=number_in_name(scale)), "noise 1")
