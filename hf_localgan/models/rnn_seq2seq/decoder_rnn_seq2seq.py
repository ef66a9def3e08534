"""The decoder, of text and of speech: a recurrent stack that attends to the encoder's states.

Shapes as in `encoder_rnn_seq2seq.py`.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions
from transformers.utils import can_return_tuple

from .attention_rnn_seq2seq import AttentionMemory, RnnSeq2SeqAttention
from .base_rnn_seq2seq import NoiseBridge, RnnSeq2SeqPreTrainedModel
from .cache_rnn_seq2seq import RecurrentCache
from .configuration_rnn_seq2seq import RnnSeq2SeqConfig
from .precision_rnn_seq2seq import run_recurrent
from .recurrence_rnn_seq2seq import Tensors, cell, loop_over_time, scan_recurrent


class RnnSeq2SeqDecoder(RnnSeq2SeqPreTrainedModel):
    """A stack of recurrent layers that attends to the encoder's states.

    With attention after the cell and no input feeding the whole target is one call of each layer and one batched
    attention; otherwise the time steps are a loop. Both use the same layers and agree.
    """

    def __init__(self, config: RnnSeq2SeqConfig):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id)
        self.embedding_dropout = nn.Dropout(config.embedding_dropout)
        self.dropout = nn.Dropout(config.dropout)
        self.output_dropout = nn.Dropout(config.output_dropout)
        hidden_size, attends = config.hidden_size, config.attention != "none"
        self.readout_size = config.embedding_size if config.tie_word_embeddings else hidden_size
        self.attends_first = config.attention_position == "before"
        input_size = config.embedding_size
        input_size += hidden_size if self.attends_first else 0
        input_size += self.readout_size if config.input_feeding else 0
        cell = nn.LSTM if config.cell_type == "lstm" else nn.GRU
        self.layers = nn.ModuleList(
            cell(hidden_size if layer else input_size, hidden_size, batch_first=True)
            for layer in range(config.decoder_layers)
        )
        self.attention = (
            RnnSeq2SeqAttention(config.attention, hidden_size, **self._location(config)) if attends else None
        )
        self.looks_back = config.attention == "location"
        self.bridge = (
            nn.Linear(hidden_size * config.state_tensors, hidden_size * config.state_tensors)
            if config.bridge == "dense"
            else None
        )
        self.noise_bridge = self.new_noise_bridge(config.noise_size)
        # The attentional vector tanh(Wc [h; context]) of Luong et al. 2015, Eq. 5.
        self.readout = nn.Linear(hidden_size * (2 if attends else 1), self.readout_size, bias=False)
        self.post_init()

    @staticmethod
    def _location(config: RnnSeq2SeqConfig) -> dict[str, int]:
        if config.attention != "location":
            return {}
        return {"filters": config.location_filters, "width": config.location_width}

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embed_tokens

    def set_input_embeddings(self, value: nn.Module):
        self.embed_tokens = cast(nn.Embedding, value)

    def new_noise_bridge(self, noise_size: int) -> NoiseBridge | None:
        """The part of `W [enc; z]` that reads the noise, for every layer; `None` for noise of 0 dimensions."""
        sizes = (self.config.decoder_layers, self.config.state_tensors, self.config.hidden_size)
        return NoiseBridge(noise_size, sizes) if noise_size else None

    def initial_state(self, final_state: Tensor, noise: Tensor | None = None) -> Tensor:
        """The decoder's first states from the encoder's last, top layers aligned, and from noise where there is any.

        Args:
            final_state: shape `(batch, encoder_layers, state_tensors, hidden)`.
            noise: shape `(batch, noise_size)`. `None` is a noise of zeros.

        Returns:
            Shape `(batch, decoder_layers, state_tensors, hidden)`. A decoder deeper than the encoder starts its lower
            layers from the encoder's first.
        """
        encoder_layers, decoder_layers = final_state.shape[1], len(self.layers)
        source = [max(0, encoder_layers - decoder_layers + layer) for layer in range(decoder_layers)]
        state = final_state[:, source]
        sizes = state.shape[2:]
        if self.bridge is not None:
            state = self.bridge(state.flatten(2)).unflatten(2, sizes)
        if noise is not None:
            self._check_noise(noise, len(state))
            assert self.noise_bridge is not None
            state = state + self.noise_bridge(noise.to(state.dtype))
        return state if self.bridge is None else torch.tanh(state)

    def _check_noise(self, noise: Tensor, batch: int):
        size = self.config.noise_size
        if not size or noise.shape != (batch, size):
            accepted = f"of shape {(batch, size)}" if size else "left out, for `noise_size` is 0 (see `resize_noise`)"
            raise ValueError(f"The decoder's `noise` must be {accepted}, got the shape {tuple(noise.shape)}.")

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        encoder_final_state: Tensor | None = None,
        encoder_noise: Tensor | None = None,
        past_key_values: RecurrentCache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """Runs `time` steps.

        Args:
            input_ids: shape `(batch, time)`, the new tokens only where `past_key_values` holds earlier ones.
            attention_mask: over past and new tokens, shape `(batch, past + time)`. Steps with 0 leave the state alone.
            encoder_hidden_states: shape `(batch, source_time, hidden)`.
            encoder_attention_mask: shape `(batch, source_time)`.
            encoder_final_state: shape `(batch, encoder_layers, state_tensors, hidden)`.
            encoder_noise: shape `(batch, noise_size)`; by default there is none.
            past_key_values: states after the tokens before these.
            inputs_embeds: instead of `input_ids`, shape `(batch, time, embedding)`.
            use_cache: whether to return a cache. A given cache is updated in place.

        Returns:
            `last_hidden_state` is the attentional vector, shape `(batch, time, readout_size)`.

        Raises:
            ValueError: unless exactly one of `input_ids` and `inputs_embeds` is given; for another class of cache.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give the decoder exactly one of `decoder_input_ids` and `decoder_inputs_embeds`.")
        if past_key_values is not None and not isinstance(past_key_values, RecurrentCache):
            raise ValueError(
                "`past_key_values` of a recurrent decoder must be a `RecurrentCache`, got "
                f"{type(past_key_values).__name__}. Leave `past_key_values` and `cache_implementation` out; the "
                "model makes its own cache."
            )
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        exporting = torch.compiler.is_exporting()
        if exporting and use_cache:
            raise ValueError(
                "A model with a cache cannot be exported, got `use_cache=True`. Leave it out, and give the exported "
                "decoder all tokens so far at each step."
            )
        use_cache = self.config.use_cache and not exporting if use_cache is None else use_cache
        cache = past_key_values if past_key_values is not None else RecurrentCache() if use_cache else None
        time = inputs_embeds.shape[1]

        state, fed, keys = (cache.get(name) if cache is not None else None for name in ("state", "fed", "keys"))
        if state is None:
            assert encoder_final_state is not None
            state = self.initial_state(encoder_final_state, encoder_noise)
        memory = None
        if self.attention is not None:
            assert encoder_hidden_states is not None
            if keys is None:
                keys = self.attention.project_keys(encoder_hidden_states)
            mask = None if encoder_attention_mask is None else encoder_attention_mask.bool()
            memory = AttentionMemory(encoder_hidden_states, keys, mask)
        embedded = self.embedding_dropout(inputs_embeds)  # (batch, time, embedding)
        skipped = self._skipped_steps(attention_mask, time, keeps_state=cache is not None)

        alignment = cache.get("alignment") if cache is not None else None
        reads_last_step = self.attends_first or self.config.input_feeding or self.looks_back
        if reads_last_step or (skipped is not None and not exporting):
            outputs, layer_outputs, weights, state, fed, alignment = self._step_by_step(
                embedded, state, fed, alignment, memory, skipped
            )
        else:
            layer_outputs, state = self._run_layers(embedded, state, skipped)
            outputs, weights = self._attend_and_read_out(layer_outputs[-1], memory)
        if cache is not None:
            carried = {"fed": fed if self.config.input_feeding else None, "keys": keys}
            cache.advance(time, state=state, alignment=alignment if self.looks_back else None, **carried)

        keep_all = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        keep_weights = self.config.output_attentions if output_attentions is None else output_attentions
        return BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=self.output_dropout(outputs),
            past_key_values=cache,
            hidden_states=(embedded, *layer_outputs) if keep_all else None,
            cross_attentions=(weights[:, None],) if keep_weights and weights is not None else None,
        )

    @staticmethod
    def _skipped_steps(attention_mask: Tensor | None, time: int, keeps_state: bool) -> Tensor | None:
        """True at new steps that are padding, shape `(batch, time)`; `None` where that changes no result.

        Padding at the end of the target comes after all tokens, and matters only if the state is kept.
        """
        if attention_mask is None:
            return None
        mask = attention_mask[:, attention_mask.shape[1] - time :].bool()
        if torch.compiler.is_exporting():  # what to do must not depend on what the mask holds
            return ~mask & (mask[:, :-1] < mask[:, 1:]).any()
        if bool(attention_mask.all()):
            return None
        matters = not bool(mask.all()) if keeps_state else bool((mask[:, :-1] < mask[:, 1:]).any())
        return ~mask if matters else None

    def _run_layers(self, inputs: Tensor, state: Tensor, skipped: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
        """All layers over all steps. Returns each layer's output `(batch, time, hidden)` and the new state.

        `skipped` steps leave the state alone; they are for models that are exported.
        """
        outputs: list[Tensor] = []
        states = []
        for number, layer in enumerate(self.layers):
            inputs = self.dropout(outputs[-1]) if number else inputs
            first = self._cell_state(state[:, number])
            output: Tensor | PackedSequence
            if torch.compiler.is_exporting():
                exists = None if skipped is None else ~skipped
                output, final = scan_recurrent(cast(nn.RNNBase, layer), inputs, first, exists)
            else:
                output, final = run_recurrent(cast(nn.RNNBase, layer), inputs, first)
            assert isinstance(output, Tensor)
            outputs.append(output)
            states.append(torch.stack(final, dim=2) if isinstance(final, tuple) else final[:, :, None])
        return outputs, torch.cat(states).transpose(0, 1)  # from (layers, batch, ...) to batch first

    def _run_one_step(self, inputs: Tensor, state: Tensor) -> tuple[list[Tensor], Tensor]:
        """As `_run_layers` for inputs of one step, inside a loop that is exported."""
        hidden, outputs, states = inputs[:, 0], [], []
        for number, layer in enumerate(self.layers):
            new = cell(cast(nn.RNNBase, layer), hidden, state[:, number].unbind(1))
            hidden = self.dropout(new[0])
            outputs.append(new[0][:, None])
            states.append(torch.stack(new, dim=1))
        return outputs, torch.stack(states, dim=1)

    def _cell_state(self, state: Tensor) -> Tensor | tuple[Tensor, ...]:
        """`(batch, state_tensors, hidden)` as torch's cells take it: `(1, batch, hidden)`, one tensor or a pair."""
        tensors = tuple(tensor.contiguous()[None] for tensor in state.unbind(1))
        return tensors if len(tensors) == 2 else tensors[0]

    def _attend_and_read_out(
        self,
        top: Tensor,
        memory: AttentionMemory | None,
        context: Tensor | None = None,
        alignment: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        if self.attention is None:
            return self.readout(top), None
        assert memory is not None
        weights = None
        if context is None:
            context, weights = self.attention(top, *memory, alignment)
        return torch.tanh(self.readout(torch.cat((top, context), dim=-1))), weights

    def _step_by_step(
        self,
        embedded: Tensor,
        state: Tensor,
        fed: Tensor | None,
        alignment: Tensor | None,
        memory: AttentionMemory | None,
        skipped: Tensor | None,
    ) -> tuple[Tensor, list[Tensor], Tensor | None, Tensor, Tensor, Tensor | None]:
        """The loop over time, for layers that read the last step (attention before the cell, location-aware attention,
        input feeding) and for targets with padding inside."""
        batch = embedded.shape[0]
        if fed is None:
            fed = embedded.new_zeros(batch, self.readout_size)
        if alignment is None and self.looks_back:
            assert memory is not None
            alignment = embedded.new_zeros(batch, memory.states.shape[1])
        run = self._run_one_step if torch.compiler.is_exporting() else self._run_layers

        def step(carried: Tensors, slices: Tensors) -> tuple[Tensors, Tensors]:
            state, fed = carried[:2]
            alignment = carried[2] if self.looks_back else None
            inputs, context, weights = [slices[0][:, None]], None, None
            if self.attends_first:
                assert self.attention is not None and memory is not None
                # The query is the top layer's last `h`.
                context, weights = self.attention(state[:, -1, :1], *memory, alignment)
                inputs.append(context)
            if self.config.input_feeding:
                inputs.append(fed[:, None])
            layers, new_state = run(torch.cat(inputs, dim=-1), state)
            output, after_weights = self._attend_and_read_out(layers[-1], memory, context, alignment)
            weights = after_weights if weights is None else weights
            output = output[:, 0]
            outputs = [output, *(layer[:, 0] for layer in layers)]
            new = [new_state, output]
            if weights is not None:
                outputs.append(weights[:, 0])
                if self.looks_back:
                    new.append(weights[:, 0])
            if skipped is not None:
                new = [
                    torch.where(slices[1].view(-1, *[1] * (after.dim() - 1)), before, after)
                    for before, after in zip(carried, new, strict=True)
                ]
            if torch.compiler.is_exporting():  # what is carried on must be another tensor
                new = [tensor.clone() for tensor in new]
            return tuple(new), tuple(outputs)

        carried: Tensors = (state, fed) if alignment is None else (state, fed, alignment)
        slices: Tensors = (embedded,) if skipped is None else (embedded, skipped)
        carried, (output, *outputs) = loop_over_time(step, carried, slices)
        layer_outputs, weights = outputs[: len(self.layers)], outputs[len(self.layers) :]
        return (
            output, layer_outputs, weights[0] if weights else None, carried[0], carried[1],
            carried[2] if self.looks_back else None,
        )  # fmt: skip


__all__ = ["RnnSeq2SeqDecoder"]
