"""Listen, Attend and Spell: a recurrent encoder-decoder from frames of speech to phones or words.

After Chan et al. 2016 and Chorowski et al. 2015; the decoder and the attention are those of `rnn_seq2seq`.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import Seq2SeqLMOutput, Seq2SeqModelOutput
from transformers.models.auto.modeling_auto import MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES
from transformers.utils import can_return_tuple

from .cache_rnn_seq2seq import RecurrentCache
from .configuration_speech_rnn_seq2seq import RnnSpeechConfig
from .decoder_rnn_seq2seq import RnnSeq2SeqDecoder
from .encoder_rnn_seq2seq import RnnSeq2SeqEncoderOutput
from .encoder_speech_rnn_seq2seq import RnnSpeechEncoder, RnnSpeechPreTrainedModel, encoder_lengths
from .generation_rnn_seq2seq import RnnConditionalGeneration, RnnEncoderDecoder, label_number, summed_cross_entropy


@dataclass
class RnnSpeechOutput(Seq2SeqLMOutput):
    """Output of the recogniser.

    Args:
        ctc_nll: negative log-likelihood of the labels under connectionist temporal classification, in nats, shape
            `(batch,)`; 0 where an utterance has fewer encoder steps than the labels need. `None` without `ctc_labels`.
    """

    ctc_nll: Tensor | None = None


class RnnSpeechModel(RnnSpeechPreTrainedModel, RnnEncoderDecoder):
    """Encoder and decoder without the output layer."""

    def __init__(self, config: RnnSpeechConfig):
        super().__init__(config)
        self.encoder = RnnSpeechEncoder(config)
        self.decoder = RnnSeq2SeqDecoder(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: RnnSeq2SeqEncoderOutput | tuple | None = None,
        past_key_values: RecurrentCache | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs,
    ) -> Seq2SeqModelOutput:
        """Encodes, unless `encoder_outputs` are given, and decodes.

        Args:
            attention_mask: over frames, shape `(batch, frames)`, also where `encoder_outputs` are given.

        Other arguments as in encoder and decoder.
        """
        encoded = self._encoded(
            encoder_outputs,
            input_features=input_features,
            attention_mask=attention_mask,
            output_hidden_states=output_hidden_states,
        )
        assert encoded.last_hidden_state is not None
        return self._decoded(
            encoded,
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            encoder_attention_mask=self._step_mask(attention_mask, encoded.last_hidden_state.shape[1]),
            past_key_values=past_key_values,
            inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )

    def _step_mask(self, attention_mask: Tensor | None, steps: int) -> Tensor | None:
        """The mask over the encoder's steps, shape `(batch, steps)`, from the mask over frames."""
        if attention_mask is None:
            return None
        if not torch.compiler.is_exporting() and bool(attention_mask.all()):
            return None
        lengths = encoder_lengths(attention_mask, self.config.reduction)
        return torch.arange(steps, device=attention_mask.device) < lengths[:, None]


class RnnSpeechForConditionalGeneration(RnnSpeechPreTrainedModel, RnnConditionalGeneration):
    """The recurrent recogniser: encoder, decoder, output layer, and a layer for CTC with a `ctc_weight`."""

    reads_shortlists = True

    def __init__(self, config: RnnSpeechConfig):
        super().__init__(config)
        # The pipeline `automatic-speech-recognition` treats a class that is not in this list as a model of CTC alone.
        MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES.setdefault(config.model_type, type(self).__name__)
        self.model = RnnSpeechModel(config)
        self.lm_head = nn.Linear(self.model.decoder.readout_size, config.vocab_size, bias=False)
        self.ctc_head = nn.Linear(config.hidden_size, config.vocab_size + 1) if config.ctc_weight else None
        self.post_init()

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args, **kwargs) -> nn.Embedding:
        """Resizes embeddings and output; a `ValueError` with CTC, whose blank is the class after the last token."""
        if self.ctc_head is not None and new_num_tokens not in (None, self.config.vocab_size):
            raise ValueError(
                f"A recogniser with CTC cannot be resized from {self.config.vocab_size} to {new_num_tokens} tokens. "
                "Make it with the tokenizer's size, or with `ctc_weight=0`."
            )
        return super().resize_token_embeddings(new_num_tokens, *args, **kwargs)

    @can_return_tuple
    def forward(
        self,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: RnnSeq2SeqEncoderOutput | tuple | None = None,
        past_key_values: RecurrentCache | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        ctc_labels: Tensor | None = None,
        use_cache: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs,
    ) -> RnnSpeechOutput:
        """Logits of the next tokens, and the training loss where `labels` are given.

        Args:
            input_features: shape `(batch, frames, feature)`.
            attention_mask: over frames, shape `(batch, frames)`.
            labels: shape `(batch, time)`, `-100` where nothing is to be predicted. Shifted right they are the decoder's
                input unless that is given.
            ctc_labels: labels for CTC, by default `labels`; their special tokens are left out.
            num_items_in_batch: divisor of the summed loss; by default the number of labels in this batch. The Trainer
                gives that of all accumulated batches.

        Returns:
            `loss` in nats per label, cross-entropy plus `ctc_weight` times CTC; `logits` of shape
            `(batch, time, vocab_size)`; `ctc_nll` of shape `(batch,)`.
        """
        fields = self._predict(
            labels,
            input_features=input_features,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoder_outputs,
            past_key_values=past_key_values,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        ctc_nll = loss = None
        ctc_labels = labels if ctc_labels is None else ctc_labels
        if self.ctc_head is not None and ctc_labels is not None:
            ctc_nll = self._ctc_nll(fields["encoder_last_hidden_state"], attention_mask, ctc_labels)
        if labels is not None:
            total = summed_cross_entropy(fields["logits"], labels)
            if ctc_nll is not None:
                total = total + self.config.ctc_weight * ctc_nll.sum()
            loss = total / label_number(labels, num_items_in_batch)
        return RnnSpeechOutput(loss=loss, ctc_nll=ctc_nll, **fields)

    def _ctc_nll(self, hidden: Tensor, attention_mask: Tensor | None, labels: Tensor) -> Tensor:
        """Nats of all alignments of the labels to the encoder's steps (Graves et al. 2006, Eq. 8), shape `(batch,)`."""
        batch, steps, _ = hidden.shape
        lengths = torch.full((batch,), steps, device=hidden.device)
        if attention_mask is not None:
            lengths = encoder_lengths(attention_mask, self.config.reduction)
        assert self.ctc_head is not None
        logits = self.ctc_head(hidden)
        log_probs = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)
        ends = self.config.eos_token_id if isinstance(self.config.eos_token_id, list) else [self.config.eos_token_id]
        special = {-100, self.config.pad_token_id, self.config.bos_token_id, *ends} - {None}
        kept = ~torch.isin(labels, torch.tensor(sorted(special), device=labels.device))
        return F.ctc_loss(
            log_probs.transpose(0, 1), labels[kept], lengths, kept.sum(dim=1), blank=self.config.vocab_size,
            reduction="none", zero_infinity=True,
        )  # fmt: skip


__all__ = ["RnnSpeechForConditionalGeneration", "RnnSpeechModel", "RnnSpeechOutput", "RnnSpeechPreTrainedModel"]
