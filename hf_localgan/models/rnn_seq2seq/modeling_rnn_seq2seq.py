"""A recurrent encoder-decoder with attention: LSTM or GRU, for training from scratch.

After Sutskever et al. 2014, Bahdanau et al. 2015 and Luong et al. 2015. Shapes as in `stacks_rnn_seq2seq.py`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import Seq2SeqLMOutput, Seq2SeqModelOutput
from transformers.utils import can_return_tuple

from .cache_rnn_seq2seq import RecurrentCache
from .configuration_rnn_seq2seq import RnnSeq2SeqConfig
from .stacks_rnn_seq2seq import (
    RnnSeq2SeqDecoder,
    RnnSeq2SeqEncoder,
    RnnSeq2SeqEncoderOutput,
    RnnSeq2SeqPreTrainedModel,
)


class RnnSeq2SeqModel(RnnSeq2SeqPreTrainedModel):
    """Encoder and decoder without the output layer."""

    _tied_weights_keys = {"encoder.embed_tokens.weight": "decoder.embed_tokens.weight"}

    def __init__(self, config: RnnSeq2SeqConfig):
        super().__init__(config)
        self.encoder = RnnSeq2SeqEncoder(config)
        self.decoder = RnnSeq2SeqDecoder(config)
        self.post_init()

    def _ties_its_weights(self) -> bool:
        return self.config.share_embeddings

    def get_input_embeddings(self) -> nn.Embedding:
        return self.encoder.embed_tokens

    def set_input_embeddings(self, value: nn.Module):
        self.encoder.set_input_embeddings(value)
        if self.config.share_embeddings:
            self.decoder.set_input_embeddings(value)

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args, **kwargs) -> nn.Embedding:
        """Resizes both embedding tables; a `ValueError` where source and target have separate vocabularies."""
        _refuse_two_vocabularies(self.config)
        embeddings = super().resize_token_embeddings(new_num_tokens, *args, **kwargs)
        _resize_decoder(self, self.decoder, embeddings)
        return embeddings

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: RnnSeq2SeqEncoderOutput | tuple | None = None,
        past_key_values: RecurrentCache | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        noise: Tensor | None = None,
        **kwargs,
    ) -> Seq2SeqModelOutput:
        """Encodes, unless `encoder_outputs` are given, and decodes. Arguments as in encoder and decoder.

        `noise` starts the decoder beside the encoder's states, shape `(batch, noise_size)`; by default that of
        `encoder_outputs`, or none.

        Raises:
            ValueError: for `encoder_outputs` without the encoder's `final_state`.
        """
        if encoder_outputs is None:
            encoded: RnnSeq2SeqEncoderOutput = self.encoder(
                input_ids=input_ids,
                attention_mask=attention_mask,
                inputs_embeds=inputs_embeds,
                output_hidden_states=output_hidden_states,
                noise=noise,
                return_dict=True,
            )
        elif isinstance(encoder_outputs, tuple):
            encoded = RnnSeq2SeqEncoderOutput(*encoder_outputs)
        else:
            encoded = encoder_outputs
        if getattr(encoded, "final_state", None) is None:
            raise ValueError(
                "`encoder_outputs` must hold the encoder's `final_state`, which starts the decoder. Take them from "
                "`model.get_encoder()(...)`."
            )
        decoded = self.decoder(
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            encoder_hidden_states=encoded.last_hidden_state,
            encoder_attention_mask=attention_mask,
            encoder_final_state=encoded.final_state,
            encoder_noise=encoded.noise if noise is None else noise,
            past_key_values=past_key_values,
            inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        return Seq2SeqModelOutput(
            last_hidden_state=decoded.last_hidden_state,
            past_key_values=decoded.past_key_values,
            decoder_hidden_states=decoded.hidden_states,
            cross_attentions=decoded.cross_attentions,
            encoder_last_hidden_state=encoded.last_hidden_state,
            encoder_hidden_states=encoded.hidden_states,
        )


class RnnSeq2SeqForConditionalGeneration(RnnSeq2SeqPreTrainedModel, GenerationMixin):
    """The recurrent generator: encoder, decoder and output layer."""

    _tied_weights_keys = {"lm_head.weight": "model.decoder.embed_tokens.weight"}

    def __init__(self, config: RnnSeq2SeqConfig):
        super().__init__(config)
        self.model = RnnSeq2SeqModel(config)
        self.lm_head = nn.Linear(self.model.decoder.readout_size, config.vocab_size, bias=False)
        self.post_init()

    def _ties_its_weights(self) -> bool:
        return self.config.tie_word_embeddings

    def get_input_embeddings(self) -> nn.Embedding:
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head

    def set_output_embeddings(self, value: nn.Linear):
        self.lm_head = value

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args, **kwargs) -> nn.Embedding:
        """Resizes both tables and the output; a `ValueError` where source and target have separate vocabularies."""
        _refuse_two_vocabularies(self.config)
        embeddings = super().resize_token_embeddings(new_num_tokens, *args, **kwargs)
        _resize_decoder(self, self.model.decoder, embeddings)
        return embeddings

    def resize_noise(self, noise_size: int):
        """Makes the decoder read noise of `noise_size` dimensions; changes the model in place.

        The new weights are zeros: the model's outputs stay the same, with noise and without, until the weights learn.
        A size that the decoder has already changes nothing.

        Raises:
            ValueError: for a negative size.
        """
        if noise_size < 0:
            raise ValueError(f"`noise_size` must be at least 0, got {noise_size}. 0 takes the noise away.")
        if noise_size == self.config.noise_size:
            return
        decoder = self.model.decoder
        self.config.noise_size = decoder.config.noise_size = noise_size
        bridge = decoder.new_noise_bridge(noise_size)
        decoder.noise_bridge = None if bridge is None else bridge.to(self.lm_head.weight)

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """Labels, shape `(batch, time)`, shifted right after the start token; `-100` becomes padding."""
        start, padding = self.config.decoder_start_token_id, self.config.pad_token_id
        assert start is not None and padding is not None
        inputs = labels.new_full(labels.shape, start)
        inputs[:, 1:] = labels[:, :-1]
        return inputs.masked_fill(inputs == -100, padding)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: RnnSeq2SeqEncoderOutput | tuple | None = None,
        past_key_values: RecurrentCache | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        noise: Tensor | None = None,
        **kwargs,
    ) -> Seq2SeqLMOutput:
        """Logits of the next tokens, and the cross-entropy where `labels` are given.

        Args:
            labels: shape `(batch, time)`, `-100` where nothing is to be predicted. Shifted right they are the decoder's
                input unless that is given.
            num_items_in_batch: divisor of the summed cross-entropy; by default the number of labels in this batch. The
                Trainer gives that of all accumulated batches.
            noise: starts the decoder beside the encoder's states, shape `(batch, noise_size)`; by default that of
                `encoder_outputs`, or none.

        Returns:
            `loss` in nats per token, `logits` of shape `(batch, time, vocab_size)`.
        """
        if labels is not None:
            use_cache = False if use_cache is None else use_cache
            if decoder_input_ids is None and decoder_inputs_embeds is None:
                decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoder_outputs,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            noise=noise,
            return_dict=True,
            **kwargs,
        )
        logits = self.lm_head(outputs.last_hidden_state)
        loss = None
        if labels is not None:
            labels = labels.to(logits.device)
            wide = logits.to(torch.promote_types(logits.dtype, torch.float32))  # float64 stays
            total = F.cross_entropy(wide.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")
            items = (labels != -100).sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
            loss = total / items
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            decoder_hidden_states=outputs.decoder_hidden_states,
            cross_attentions=outputs.cross_attentions,
            encoder_last_hidden_state=outputs.encoder_last_hidden_state,
            encoder_hidden_states=outputs.encoder_hidden_states,
        )


def _refuse_two_vocabularies(config: RnnSeq2SeqConfig):
    if config.encoder_vocab_size is not None:
        raise ValueError(
            f"Source and target have separate vocabularies ({config.encoder_vocab_size} and {config.vocab_size} "
            "tokens), so there is no single number of tokens to resize to."
        )


def _resize_decoder(model: PreTrainedModel, decoder: RnnSeq2SeqDecoder, embeddings: nn.Embedding):
    """Resizes a decoder table that is not shared to the new size of the encoder's."""
    if decoder.embed_tokens is not embeddings and decoder.embed_tokens.num_embeddings != embeddings.num_embeddings:
        decoder.embed_tokens = model._get_resized_embeddings(decoder.embed_tokens, embeddings.num_embeddings)
        model.tie_weights()


__all__ = [
    "RnnSeq2SeqEncoderOutput",
    "RnnSeq2SeqForConditionalGeneration",
    "RnnSeq2SeqModel",
    "RnnSeq2SeqPreTrainedModel",
]
