"""The encoder of text, its output, and what it shares with the encoder of speech.

Encoder states and decoder states both have `hidden_size` dimensions. Shapes are named `batch`, `source_time`, `time`
(of the decoder), `embedding`, `hidden`.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from transformers.modeling_outputs import ModelOutput
from transformers.utils import can_return_tuple

from .base_rnn_seq2seq import RnnSeq2SeqPreTrainedModel
from .configuration_rnn_seq2seq import RnnSeq2SeqConfig
from .precision_rnn_seq2seq import run_recurrent
from .recurrence_rnn_seq2seq import scan_recurrent, steps_read


@dataclass
class RnnSeq2SeqEncoderOutput(ModelOutput):
    """The encoder's output. All tensors are batch first, so that `generate` can repeat them for beams.

    Args:
        last_hidden_state: top layer, shape `(batch, source_time, hidden)`; zero at padding.
        final_state: shape `(batch, layers, state_tensors, hidden)`, the states after the last token of each sequence.
        hidden_states: on request, embeddings and the output of each layer.
        attentions: always `None`; the encoder has no attention.
        noise: what starts the decoder beside `final_state`, shape `(batch, noise_size)`; `None` for none.
    """

    last_hidden_state: Tensor | None = None
    final_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    noise: Tensor | None = None


class RnnSeq2SeqEncoder(RnnSeq2SeqPreTrainedModel):
    """Word embeddings and a stack of recurrent layers. Padding on either side or between tokens changes nothing."""

    def __init__(self, config: RnnSeq2SeqConfig):
        super().__init__(config)
        vocab_size = config.encoder_vocab_size or config.vocab_size
        self.embed_tokens = nn.Embedding(vocab_size, config.embedding_size, padding_idx=config.pad_token_id)
        self.embedding_dropout = nn.Dropout(config.embedding_dropout)
        self.dropout = nn.Dropout(config.dropout)
        directions = 2 if config.bidirectional else 1
        cell = nn.LSTM if config.cell_type == "lstm" else nn.GRU
        self.layers = nn.ModuleList(
            cell(
                config.hidden_size if layer else config.embedding_size,
                config.hidden_size // directions,
                batch_first=True,
                bidirectional=config.bidirectional,
            )
            for layer in range(config.encoder_layers)
        )
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embed_tokens

    def set_input_embeddings(self, value: nn.Module):
        self.embed_tokens = cast(nn.Embedding, value)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool | None = None,
        noise: Tensor | None = None,
        **kwargs,
    ) -> RnnSeq2SeqEncoderOutput:
        """Encodes a batch of sources.

        Args:
            input_ids: shape `(batch, source_time)`.
            attention_mask: 1 for tokens, 0 for padding, shape `(batch, source_time)`. By default all are tokens.
            inputs_embeds: instead of `input_ids`, shape `(batch, source_time, embedding)`.
            output_hidden_states: whether to return the outputs of all layers.
            noise: handed on to the decoder, shape `(batch, noise_size)`.

        Raises:
            ValueError: unless exactly one of `input_ids` and `inputs_embeds` is given.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give the encoder exactly one of `input_ids` and `inputs_embeds`.")
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        keep_all = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        embedded: Tensor = self.embedding_dropout(inputs_embeds)  # (batch, source_time, embedding)
        hidden_states = [embedded]

        packing = read = None
        exporting = torch.compiler.is_exporting()
        if exporting and attention_mask is not None:
            read = steps_read(attention_mask)  # what to do must not depend on what the mask holds
        elif attention_mask is not None and not bool(attention_mask.all()):
            packing = _Packing(attention_mask)
        hidden: Tensor | PackedSequence = embedded if packing is None else packing.pack(embedded)
        final_states = []
        for number, layer in enumerate(self.layers):
            if number:
                hidden = _dropout(self.dropout, hidden)
            if exporting:
                hidden, final = scan_recurrent(
                    cast(nn.RNNBase, layer), cast(Tensor, hidden), exists=read, zero_skipped=True
                )
            else:
                hidden, final = run_recurrent(cast(nn.RNNBase, layer), hidden)
            final_states.append(final_state(final))
            if keep_all:
                hidden_states.append(_padded(hidden, packing))

        return RnnSeq2SeqEncoderOutput(
            last_hidden_state=_padded(hidden, packing),
            final_state=torch.stack(final_states, dim=1),
            hidden_states=tuple(hidden_states) if keep_all else None,
            noise=noise,
        )


def final_state(final: Tensor | tuple[Tensor, ...]) -> Tensor:
    """A layer's last states, from torch's `(directions, batch, size)` to `(batch, state_tensors, hidden)`.

    Args:
        final: one tensor, of a GRU, or two, of an LSTM.
    """
    tensors = final if isinstance(final, tuple) else (final,)
    return torch.stack([tensor.transpose(0, 1).flatten(1) for tensor in tensors], dim=1)


def order_in_front(mask: Tensor) -> Tensor | None:
    """The order that brings what exists to the front of each row; `None` where it stands there already and no model is
    being exported.

    Args:
        mask: true at what exists, shape `(batch, time)`.

    Returns:
        Places, shape `(batch, time)`, to gather by.
    """
    if not torch.compiler.is_exporting() and bool((mask[:, :-1] >= mask[:, 1:]).all()):
        return None
    return (~mask).long().argsort(dim=1, stable=True)


class _Packing:
    """Moves the tokens of each row to the front and drops the padding; `unpack` puts everything back."""

    def __init__(self, attention_mask: Tensor):
        mask = attention_mask.bool()
        self.time = mask.shape[1]
        self.order = order_in_front(mask)
        self.inverse = None if self.order is None else self.order.argsort(dim=1)
        self.lengths = mask.sum(dim=1).clamp(min=1).cpu()  # a row without any token reads one padding token
        self.mask = mask

    def pack(self, padded: Tensor) -> PackedSequence:
        if self.order is not None:
            padded = padded.gather(1, self.order[..., None].expand_as(padded))
        return pack_padded_sequence(padded, self.lengths, batch_first=True, enforce_sorted=False)

    def unpack(self, packed: PackedSequence) -> Tensor:
        padded, _ = pad_packed_sequence(packed, batch_first=True, total_length=self.time)
        if self.inverse is not None:
            padded = padded.gather(1, self.inverse[..., None].expand_as(padded))
        return padded


def _padded(hidden: Tensor | PackedSequence, packing: _Packing | None) -> Tensor:
    if isinstance(hidden, PackedSequence):
        assert packing is not None
        return packing.unpack(hidden)
    return hidden


def _dropout(dropout: nn.Dropout, hidden: Tensor | PackedSequence) -> Tensor | PackedSequence:
    if isinstance(hidden, PackedSequence):
        return hidden._replace(data=dropout(hidden.data))
    return dropout(hidden)


__all__ = ["RnnSeq2SeqEncoder", "RnnSeq2SeqEncoderOutput", "final_state", "order_in_front"]
