"""A recurrent encoder-decoder with attention: LSTM or GRU, for training from scratch.

After Sutskever et al. 2014, Bahdanau et al. 2015 and Luong et al. 2015. Shapes as in `encoder_rnn_seq2seq.py`.
"""

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import Seq2SeqLMOutput, Seq2SeqModelOutput
from transformers.utils import can_return_tuple

from .base_rnn_seq2seq import RnnSeq2SeqPreTrainedModel
from .cache_rnn_seq2seq import RecurrentCache
from .configuration_rnn_seq2seq import RnnSeq2SeqConfig
from .decoder_rnn_seq2seq import RnnSeq2SeqDecoder
from .encoder_rnn_seq2seq import RnnSeq2SeqEncoder, RnnSeq2SeqEncoderOutput
from .generation_rnn_seq2seq import RnnConditionalGeneration, RnnEncoderDecoder, label_number, summed_cross_entropy


class RnnSeq2SeqModel(RnnEncoderDecoder):
    """Encoder and decoder without the output layer."""

    _tied_weights_keys = {"encoder.embed_tokens.weight": "decoder.embed_tokens.weight"}

    encoder: RnnSeq2SeqEncoder

    def __init__(self, config: RnnSeq2SeqConfig):
        super().__init__(config)
        self.encoder = RnnSeq2SeqEncoder(config)
        self.decoder = RnnSeq2SeqDecoder(config)
        self.post_init()

    def _ties_its_weights(self) -> bool:
        return self.config.share_embeddings

    def get_input_embeddings(self) -> nn.Embedding:
        # The table that others are tied to comes first, as PEFT expects.
        return self.decoder.embed_tokens if self.config.share_embeddings else self.encoder.embed_tokens

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
        encoded = self._encoded(
            encoder_outputs,
            input_ids=input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            output_hidden_states=output_hidden_states,
            noise=noise,
        )
        return self._decoded(
            encoded,
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            encoder_attention_mask=attention_mask,
            encoder_noise=encoded.noise if noise is None else noise,
            past_key_values=past_key_values,
            inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )


class RnnSeq2SeqForConditionalGeneration(RnnConditionalGeneration):
    """The recurrent generator: encoder, decoder and output layer."""

    reads_shortlists = True

    model: RnnSeq2SeqModel

    def __init__(self, config: RnnSeq2SeqConfig):
        super().__init__(config)
        self.model = RnnSeq2SeqModel(config)
        self.lm_head = nn.Linear(self.model.decoder.readout_size, config.vocab_size, bias=False)
        self.post_init()

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
        fields = self._predict(
            labels,
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
            **kwargs,
        )
        loss = None
        if labels is not None:
            loss = summed_cross_entropy(fields["logits"], labels) / label_number(labels, num_items_in_batch)
        return Seq2SeqLMOutput(loss=loss, **fields)


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
