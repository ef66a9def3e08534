"""Answers from a decoder that starts from noise beside the encoded query, as AIM trains it (Zhang et al. 2018)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hf_localgan.decoding.answers import Decoding, number_in_name, register_decoding
from hf_localgan.decoding.likelihood import select_rows
from hf_localgan.functional.information import add_latent_noise, latent_noise


def noise_size(model: nn.Module) -> int:
    """Dimensions of the noise of a generator: its own place for it, or else the width of its encoder's states."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    own = getattr(base.config, "noise_size", 0)
    if own:
        return own
    width = getattr(base.get_encoder().config, "hidden_size", None)
    if width is None:
        raise ValueError(f"The width of the encoder of {type(base).__name__} is not known: its config has no size.")
    return width


def encode_with_noise(
    model: nn.Module, batch: Mapping[str, Tensor], noise: Tensor | None, *, scale: float = 1.0
) -> Any:
    """The encoded queries of a batch with noise beside them, as `encoder_outputs` of the model, with gradients.

    A recurrent generator with `noise_size` starts its decoder from it. To the encoder's states of any other model it is
    added (`functional.information.add_latent_noise`). `generate` repeats it for beams with the rest.

    Args:
        model: an encoder-decoder, or a PEFT model around one.
        batch: `input_ids` and `attention_mask`.
        noise: shape `(batch, noise_size(model))`; `None` encodes the queries and nothing else.
        scale: of the noise; 0 is no noise.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
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
    """Greedy answers from one draw of noise a query, as AIM's authors decode; without it noise is 0.

    Several answers to a query have a draw each.

    Attributes:
        scale: of the noise; it was 1 in training.
    """

    name: str = ""
    arguments: dict = field(default_factory=dict, hash=False)
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
        self, model, batch, *, tokenizer, num_return_sequences: int = 1, max_new_tokens: int, **more
    ) -> Tensor:
        queries = len(batch["input_ids"])
        rows = torch.arange(queries, device=batch["input_ids"].device).repeat_interleave(num_return_sequences)
        repeated = {name: value[rows] for name, value in batch.items()}
        noise = latent_noise(len(rows), noise_size(model), device=rows.device)
        encoded = encode_with_noise(model, repeated, noise, scale=self.scale)
        given = {name: value for name, value in repeated.items() if name == "attention_mask"}
        return model.generate(
            encoder_outputs=select_rows(encoded, torch.arange(len(rows), device=rows.device)), **given,
            **{**self.arguments, **more}, max_new_tokens=max_new_tokens,
        )  # fmt: skip


register_decoding("noise", lambda scale="1": LatentNoise(scale=number_in_name(scale)), "noise 1")
