"""The encoder of speech: recurrent layers over frames that are joined into longer steps, and masks in training.

Shapes are named `batch`, `frames`, `steps` (of the encoder's output, `frames / reduction` rounded up), `feature`.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from transformers.utils import can_return_tuple

from .base_rnn_seq2seq import RnnSeq2SeqPreTrainedModel
from .configuration_speech_rnn_seq2seq import RnnSpeechConfig
from .encoder_rnn_seq2seq import RnnSeq2SeqEncoderOutput, final_state, order_in_front
from .precision_rnn_seq2seq import run_recurrent
from .recurrence_rnn_seq2seq import scan_recurrent


class RnnSpeechPreTrainedModel(RnnSeq2SeqPreTrainedModel):
    """Base class of the recurrent models of speech."""

    config: RnnSpeechConfig
    config_class = RnnSpeechConfig
    main_input_name = "input_features"
    _no_split_modules = ["RnnSpeechEncoder", "RnnSeq2SeqDecoder"]


class RnnSpeechEncoder(RnnSpeechPreTrainedModel):
    """Recurrent layers over frames, each over the joined steps of the layer below.

    The frames of each utterance are moved to the front first, so that padding on either side or between frames does not
    change the result: the output always begins with the first step of the utterance.
    """

    def __init__(self, config: RnnSpeechConfig):
        super().__init__(config)
        self.dropout = nn.Dropout(config.dropout)
        directions = 2 if config.bidirectional else 1
        size = config.encoder_hidden_size
        cell = nn.LSTM if config.cell_type == "lstm" else nn.GRU
        self.layers = nn.ModuleList(
            cell(
                (size if layer else config.feature_size) * reduction,
                size // directions,
                batch_first=True,
                bidirectional=config.bidirectional,
            )
            for layer, reduction in enumerate(config.layer_reductions)
        )
        projected = size != config.hidden_size
        self.projection = nn.Linear(size, config.hidden_size) if projected else None
        self.state_projection = nn.Linear(size, config.hidden_size) if projected else None
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs,
    ) -> RnnSeq2SeqEncoderOutput:
        """Encodes a batch of utterances.

        Args:
            input_features: shape `(batch, frames, feature)`.
            attention_mask: 1 for frames, 0 for padding, shape `(batch, frames)`. By default all are frames.
            output_hidden_states: whether to return the outputs of all layers.

        Returns:
            `last_hidden_state` of shape `(batch, steps, hidden)`, zero after the end, `final_state` of shape
            `(batch, layers, state_tensors, hidden)`.

        Raises:
            ValueError: for features of another shape than the configuration's.
        """
        if input_features is None or input_features.dim() != 3 or input_features.shape[2] != self.config.feature_size:
            shape = None if input_features is None else tuple(input_features.shape)
            raise ValueError(
                f"`input_features` must have the shape (batch, frames, {self.config.feature_size}), got {shape}. Take "
                "them from the feature extractor that the model was trained with."
            )
        keep_all = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        hidden, lengths = frames_in_front(input_features, attention_mask)
        if self.training:
            hidden = mask_features(hidden, lengths, self.config)
        hidden_states, final_states = [hidden], []
        for number, (layer, reduction) in enumerate(zip(self.layers, self.config.layer_reductions, strict=True)):
            hidden, lengths = join_steps(hidden, lengths, reduction)
            if number:
                hidden = self.dropout(hidden)
            hidden, final = _run(cast(nn.RNNBase, layer), hidden, lengths)
            final_states.append(final_state(final))
            if keep_all:
                hidden_states.append(hidden)
        states = torch.stack(final_states, dim=1)
        if self.projection is not None and self.state_projection is not None:
            exists = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]
            hidden = self.projection(hidden) * exists[..., None].to(hidden.dtype)
            states = self.state_projection(states)
        return RnnSeq2SeqEncoderOutput(
            last_hidden_state=hidden,
            final_state=states,
            hidden_states=tuple(hidden_states) if keep_all else None,
        )


def encoder_lengths(attention_mask: Tensor, reduction: int) -> Tensor:
    """Steps of the encoder's output of each utterance, shape `(batch,)`: the frames by `reduction`, rounded up.

    Args:
        attention_mask: over frames, shape `(batch, frames)`.
        reduction: frames per step.
    """
    return -(-attention_mask.bool().sum(dim=1).clamp(min=1) // reduction)


def frames_in_front(features: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """The frames of each utterance in order from the first place on, then zeros, and their number.

    Args:
        features: shape `(batch, frames, feature)`.
        attention_mask: shape `(batch, frames)`; `None` if all are frames.

    Returns:
        The features in the same shape, and lengths, shape `(batch,)`. Utterances without frames get one of zeros.
    """
    batch, frames, _ = features.shape
    if attention_mask is None:
        return features, torch.full((batch,), frames, device=features.device)
    mask = attention_mask.bool()
    lengths = mask.sum(dim=1)
    features = features.masked_fill(~mask[..., None], 0.0)
    order = order_in_front(mask)
    if order is not None:
        features = features.gather(1, order[..., None].expand_as(features))
    return features, lengths.clamp(min=1)


def join_steps(hidden: Tensor, lengths: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Joins `number` neighbouring steps into one, the last filled up with zeros (Chan et al. 2016, Eq. 5).

    Args:
        hidden: shape `(batch, steps, size)`, zero after the end of each utterance.
        lengths: steps of each utterance, shape `(batch,)`.
        number: steps to join.

    Returns:
        Shape `(batch, ceil(steps / number), number * size)`, and the new lengths.
    """
    if number == 1:
        return hidden, lengths
    batch, steps, size = hidden.shape
    hidden = F.pad(hidden, (0, 0, 0, -steps % number))
    return hidden.reshape(batch, -1, number * size), -(-lengths // number)


def mask_features(features: Tensor, lengths: Tensor, config: RnnSpeechConfig) -> Tensor:
    """SpecAugment (Park et al. 2019) without time warping: sets random bands of bins and of frames to 0, the mean.

    The width of each mask is uniform from 0 to its largest, and so is its place in the utterance; masks may overlap.
    They are drawn from torch's global random state, as dropout is. The argument itself stays as it is.

    Args:
        features: frames in front, shape `(batch, frames, feature)`.
        lengths: frames of each utterance, shape `(batch,)`.
        config: holds the numbers and widths of the masks.

    Returns:
        The masked features, in the same shape.
    """
    batch, frames, size = features.shape
    if config.frequency_masks and config.frequency_mask_bins:
        bins = size // config.feature_groups
        widest = torch.full((batch,), config.frequency_mask_bins, device=features.device)
        hidden = _bands(widest, widest.new_full((batch,), bins), bins, config.frequency_masks)
        features = features.masked_fill(hidden.repeat(1, config.feature_groups)[:, None], 0.0)
    if config.time_masks and config.time_mask_frames:
        # A mask hides a fifth of an utterance at most, so that short utterances keep most of their sounds.
        widest = (lengths // 5).clamp(max=config.time_mask_frames)
        hidden = _bands(widest, lengths, frames, config.time_masks)
        features = features.masked_fill(hidden[..., None], 0.0)
    return features


def _bands(widest: Tensor, lengths: Tensor, size: int, number: int) -> Tensor:
    """True inside `number` random bands, shape `(batch, size)`."""
    draws = torch.rand(2, len(widest), number, device=widest.device)
    width = (draws[0] * (widest[:, None] + 1)).long()
    start = (draws[1] * (lengths[:, None] - width + 1)).long()
    place = torch.arange(size, device=widest.device)
    return ((place >= start[..., None]) & (place < (start + width)[..., None])).any(dim=1)


def _run(layer: nn.RNNBase, hidden: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor | tuple[Tensor, ...]]:
    """One layer over utterances of different lengths; its outputs, zero after the end, and its last states."""
    total = hidden.shape[1]
    if torch.compiler.is_exporting():
        exists = torch.arange(total, device=hidden.device) < lengths[:, None]
        return scan_recurrent(layer, hidden, exists=exists, zero_skipped=True)
    whole = bool((lengths == total).all())
    inputs = hidden if whole else pack_padded_sequence(hidden, lengths.cpu(), batch_first=True, enforce_sorted=False)
    output, final = run_recurrent(layer, inputs)
    if isinstance(output, PackedSequence):
        output, _ = pad_packed_sequence(output, batch_first=True, total_length=total)
    return output, final


__all__ = ["RnnSpeechEncoder", "RnnSpeechPreTrainedModel", "encoder_lengths", "mask_features"]
