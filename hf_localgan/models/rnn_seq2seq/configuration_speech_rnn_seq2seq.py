"""Configuration of the recurrent speech recogniser."""

import math
from typing import ClassVar

from huggingface_hub.dataclasses import strict

from .configuration_rnn_seq2seq import ATTENTIONS, RnnSeq2SeqConfig


@strict  # a value of another type is refused by name
class RnnSpeechConfig(RnnSeq2SeqConfig):
    """Configuration of Listen, Attend and Spell (Chan et al. 2016): recurrent layers over frames, an attending decoder.

    The defaults are the recogniser of the RAML paper, three bidirectional encoder layers of 256 LSTM units a direction
    and a decoder layer of 256 over 123 features, read three frames at a time, with location-aware attention. Arguments
    that are not listed are those of `RnnSeq2SeqConfig`; `hidden_size` is the decoder's.

    Args:
        vocab_size: tokens of the decoder.
        feature_size: numbers of one frame.
        feature_groups: equal parts of a frame (the features and their first and second differences); a frequency mask
            hides the same bins in each.
        encoder_hidden_size: width of an encoder layer, half of it for each direction. Where it is not `hidden_size`
            the encoder's states are projected.
        reductions: for each encoder layer, the number of neighbouring steps of its input that are joined into one.
            `[3, 1, 1]` reads stacks of three frames, `[1, 2, 2]` is the pyramid of Chan et al. Their product divides
            the number of frames (rounded up). `None`: 3 for the first layer, 1 for the others.
        attention: "dot", "general", "additive" or "location" (Chorowski et al. 2015).
        location_filters: filters over the last attention weights, for "location".
        location_width: width of these filters in encoder steps, odd.
        ctc_weight: weight of connectionist temporal classification on the encoder's states (Graves et al. 2006) in the
            training loss, which teaches it the order of the labels. 0: none.
        frequency_masks, frequency_mask_bins: masks of SpecAugment (Park et al. 2019) over bins in training, and their
            largest width. 0: none.
        time_masks, time_mask_frames: the same over frames.

    Raises:
        ValueError: as `RnnSeq2SeqConfig`; for `reductions` without a whole number of at least 1 for each layer, an even
            `location_width`, and masks wider than a frame.
    """

    model_type = "rnn_speech"
    attentions: ClassVar[tuple[str, ...]] = (*(name for name in ATTENTIONS if name != "none"), "location")

    vocab_size: int = 65
    feature_size: int = 123
    feature_groups: int = 3
    embedding_size: int = 128
    encoder_layers: int = 3
    encoder_hidden_size: int = 512
    reductions: list[int] | None = None
    cell_type: str = "lstm"
    attention: str = "location"
    location_filters: int = 10
    location_width: int = 31
    input_feeding: bool = True
    share_embeddings: bool = False
    ctc_weight: float | int = 0.0
    frequency_masks: int = 0
    frequency_mask_bins: int = 5
    time_masks: int = 0
    time_mask_frames: int = 15

    def __post_init__(self, **kwargs):
        if self.encoder_vocab_size is not None or self.share_embeddings:
            raise ValueError(
                "The encoder of speech reads features, not tokens: leave out `encoder_vocab_size` and "
                "`share_embeddings`."
            )
        if self.noise_size:
            raise ValueError(f"A recogniser takes no noise. Leave out `noise_size`, got {self.noise_size}.")
        for name in ("feature_size", "feature_groups", "encoder_hidden_size", "location_filters", "location_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        for name in ("frequency_masks", "frequency_mask_bins", "time_masks", "time_mask_frames", "ctc_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"`{name}` must not be negative, got {getattr(self, name)}. 0 turns it off.")
        if self.reductions is None:
            self.reductions = [3, *[1] * (self.encoder_layers - 1)]
        if len(self.reductions) != self.encoder_layers or min(self.reductions) < 1:
            raise ValueError(
                f"`reductions` must have a whole number of at least 1 for each of the {self.encoder_layers} encoder "
                f"layers, got {self.reductions}. [3, 1, 1] stacks three frames, [1, 2, 2] is a pyramid."
            )
        if self.location_width % 2 == 0:
            raise ValueError(f"`location_width` must be odd, so that it has a middle, got {self.location_width}.")
        if self.feature_size % self.feature_groups:
            raise ValueError(
                f"`feature_size` must be a multiple of `feature_groups`, got {self.feature_size} and "
                f"{self.feature_groups}."
            )
        if self.frequency_masks and self.frequency_mask_bins > self.feature_size // self.feature_groups:
            raise ValueError(
                f"`frequency_mask_bins` must not exceed the {self.feature_size // self.feature_groups} bins of a "
                f"group, got {self.frequency_mask_bins}."
            )
        super().__post_init__(**kwargs)

    def _check_directions(self):
        if self.bidirectional and self.encoder_hidden_size % 2:
            raise ValueError(
                "`encoder_hidden_size` must be even for a bidirectional encoder (half of it per direction), got "
                f"{self.encoder_hidden_size}."
            )

    @property
    def reduction(self) -> int:
        """Frames per step of the encoder's output."""
        return math.prod(self.layer_reductions)

    @property
    def layer_reductions(self) -> list[int]:
        """`reductions` with its default filled in."""
        assert self.reductions is not None
        return self.reductions


__all__ = ["RnnSpeechConfig"]
