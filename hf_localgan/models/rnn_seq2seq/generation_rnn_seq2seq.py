"""What the generator of text and the recogniser of speech share around their encoders: decoding, output layer, loss."""

from copy import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationConfig, GenerationMixin, PreTrainedTokenizerBase, StoppingCriteriaList
from transformers.modeling_outputs import Seq2SeqModelOutput

from .base_rnn_seq2seq import RnnSeq2SeqPreTrainedModel
from .beams_rnn_seq2seq import Shortlist, ShortlistedBeams
from .decoder_rnn_seq2seq import RnnSeq2SeqDecoder
from .encoder_rnn_seq2seq import RnnSeq2SeqEncoderOutput
from .stopping_rnn_seq2seq import StopAtText


class RnnEncoderDecoder(RnnSeq2SeqPreTrainedModel):
    """Base class of an encoder with a recurrent decoder, without the output layer."""

    encoder: RnnSeq2SeqPreTrainedModel
    decoder: RnnSeq2SeqDecoder

    def get_input_embeddings(self) -> nn.Embedding:
        return self.decoder.embed_tokens

    def set_input_embeddings(self, value: nn.Module):
        self.decoder.set_input_embeddings(value)

    def _encoded(
        self, encoder_outputs: RnnSeq2SeqEncoderOutput | tuple | None, **inputs: Any
    ) -> RnnSeq2SeqEncoderOutput:
        """`encoder_outputs` where they are given, otherwise the encoder's output for `inputs`.

        Raises:
            ValueError: for `encoder_outputs` without the encoder's `final_state`.
        """
        if encoder_outputs is None:
            return self.encoder(**inputs, return_dict=True)
        if isinstance(encoder_outputs, tuple):
            encoder_outputs = RnnSeq2SeqEncoderOutput(*encoder_outputs)
        if getattr(encoder_outputs, "final_state", None) is None:
            raise ValueError(
                "`encoder_outputs` must hold the encoder's `final_state`, which starts the decoder. Take them from "
                "`model.get_encoder()(...)`."
            )
        return encoder_outputs

    def _decoded(self, encoded: RnnSeq2SeqEncoderOutput, **inputs: Any) -> Seq2SeqModelOutput:
        """The decoder's output for further `inputs` of its own, with the encoder's states beside it."""
        decoded = self.decoder(
            encoder_hidden_states=encoded.last_hidden_state,
            encoder_final_state=encoded.final_state,
            return_dict=True,
            **inputs,
        )
        return Seq2SeqModelOutput(
            last_hidden_state=decoded.last_hidden_state,
            past_key_values=decoded.past_key_values,
            decoder_hidden_states=decoded.hidden_states,
            cross_attentions=decoded.cross_attentions,
            encoder_last_hidden_state=encoded.last_hidden_state,
            encoder_hidden_states=encoded.hidden_states,
        )


class RnnConditionalGeneration(RnnSeq2SeqPreTrainedModel, ShortlistedBeams, GenerationMixin):
    """Base class of an encoder-decoder with its output layer."""

    _tied_weights_keys = {"lm_head.weight": "model.decoder.embed_tokens.weight"}

    model: RnnEncoderDecoder
    lm_head: nn.Linear

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

    def _get_stopping_criteria(
        self,
        generation_config: GenerationConfig,
        stopping_criteria: StoppingCriteriaList | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        **kwargs: Any,
    ) -> StoppingCriteriaList:
        # The last that `generate` asks before it searches, whatever the search.
        refuse_settings(generation_config)
        base: Any = super()
        given: dict[str, Any] = {"stopping_criteria": stopping_criteria, "tokenizer": tokenizer, **kwargs}
        stops = generation_config.stop_strings
        if stops is None or tokenizer is None:
            return base._get_stopping_criteria(generation_config, **given)
        # Those of transformers go by the letters of tokens, and fail for vocabularies of whole words.
        without_stops = copy(generation_config)
        without_stops.stop_strings = None
        criteria = base._get_stopping_criteria(without_stops, **given)
        criteria.append(StopAtText(tokenizer, stops))
        return criteria

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """Labels, shape `(batch, time)`, shifted right after the start token; `-100` becomes padding."""
        start, padding = self.config.decoder_start_token_id, self.config.pad_token_id
        assert start is not None and padding is not None
        inputs = labels.new_full(labels.shape, start)
        inputs[:, 1:] = labels[:, :-1]
        return inputs.masked_fill(inputs == -100, padding)

    def _predict(
        self,
        labels: Tensor | None,
        *,
        decoder_input_ids: Tensor | None,
        decoder_inputs_embeds: Tensor | None,
        use_cache: bool | None,
        shortlist: Shortlist | None = None,
        **inputs: Any,
    ) -> dict[str, Any]:
        """Fields of the output but its loss. With `labels`, they are the decoder's input unless that is given.

        A `shortlist` reads the last place, and its answer takes the place of the logits.
        """
        if labels is not None:
            use_cache = False if use_cache is None else use_cache
            if decoder_input_ids is None and decoder_inputs_embeds is None:
                decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        outputs = self.model(
            decoder_input_ids=decoder_input_ids,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            return_dict=True,
            **inputs,
        )
        hidden = outputs.last_hidden_state
        return {
            "logits": self.lm_head(hidden) if shortlist is None else shortlist.read(hidden[:, -1], self.lm_head),
            "past_key_values": outputs.past_key_values,
            "decoder_hidden_states": outputs.decoder_hidden_states,
            "cross_attentions": outputs.cross_attentions,
            "encoder_last_hidden_state": outputs.encoder_last_hidden_state,
            "encoder_hidden_states": outputs.encoder_hidden_states,
        }


def refuse_settings(settings: GenerationConfig):
    """Refuses what `generate` takes and an encoder-decoder with a recurrent state cannot do, or nobody can mean.

    Raises:
        ValueError: naming the setting.
    """
    for name in ("num_beams", "num_return_sequences"):
        number = getattr(settings, name, None)
        if number is not None and (not isinstance(number, int) or number < 1):
            raise ValueError(f"`{name}` must be a whole number of at least 1, got {number!r}.")
    for name in ("top_p", "min_p", "typical_p"):
        share = getattr(settings, name, None)
        if settings.do_sample and share is not None and not 0 <= share <= 1:
            raise ValueError(f"`{name}` must lie between 0 and 1, got {share}.")
    if getattr(settings, "guidance_scale", None) not in (None, 1):
        raise ValueError(
            f"`guidance_scale` asks for a second pass over a prompt of the decoder, got {settings.guidance_scale}. "
            "Encoder-decoders read the prompt in their encoder: leave it out."
        )
    if getattr(settings, "token_healing", False):
        raise ValueError(
            "`token_healing` writes the end of a decoder's prompt anew. Encoder-decoders have none: leave it out."
        )


def summed_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy of all labels together, in nats, a scalar; in float32 at least.

    Args:
        logits: shape `(batch, time, vocab_size)`.
        labels: shape `(batch, time)`, `-100` where nothing is to be predicted.
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))  # float64 stays
    labels = labels.to(logits.device)
    return F.cross_entropy(wide.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")


def label_number(labels: Tensor, num_items_in_batch: Tensor | int | None) -> Tensor | int:
    """What a summed loss is divided by: `num_items_in_batch` where it is given, otherwise the number of labels."""
    return (labels != -100).sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch


__all__ = ["RnnConditionalGeneration", "RnnEncoderDecoder", "label_number", "refuse_settings", "summed_cross_entropy"]
