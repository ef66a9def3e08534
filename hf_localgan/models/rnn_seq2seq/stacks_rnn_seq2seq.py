"""The encoder's and the decoder's recurrent stacks, and the attention between them.

Encoder states and decoder states both have `hidden_size` dimensions. Shapes are named `batch`, `source_time`, `time`
(of the decoder), `embedding`, `hidden`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions, ModelOutput
from transformers.utils import can_return_tuple

from .cache_rnn_seq2seq import RecurrentCache
from .configuration_rnn_seq2seq import RnnSeq2SeqConfig
from .precision_rnn_seq2seq import run_recurrent


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


class RnnSeq2SeqPreTrainedModel(PreTrainedModel):
    """Base class of the recurrent models: how weights start and which of them are tied."""

    config: RnnSeq2SeqConfig
    config_class = RnnSeq2SeqConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    _is_stateful = True  # `generate` refuses assisted decoding, for a recurrent state cannot be rolled back
    _no_split_modules = ["RnnSeq2SeqEncoder", "RnnSeq2SeqDecoder"]

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # the decoder makes its own `RecurrentCache`

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        # The base class knows one switch for all ties. Here sharing the embeddings and tying the output are two.
        if all_submodels:
            return super().get_expanded_tied_weights_keys(all_submodels=True)
        return dict(self._tied_weights_keys or {}) if self._ties_its_weights() else {}

    def _ties_its_weights(self) -> bool:
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        if isinstance(module, nn.RNNBase):
            # The base class leaves GRUs uninitialised when a checkpoint lacks them.
            for name, weight in module.named_parameters(recurse=False):
                if name.startswith("weight_hh"):
                    for gate in weight.chunk(len(weight) // module.hidden_size):
                        _initialise_slice(init.orthogonal_, weight, gate)
                elif name.startswith("weight_ih"):
                    for gate in weight.chunk(len(weight) // module.hidden_size):
                        _initialise_slice(init.xavier_uniform_, weight, gate)
                else:
                    init.zeros_(weight)
                    if isinstance(module, nn.LSTM) and name.startswith("bias_ih"):
                        # Forget gates start open (Jozefowicz et al. 2015), so that early gradients reach back.
                        forget = weight[module.hidden_size : 2 * module.hidden_size]
                        _initialise_slice(init.ones_, weight, forget)
        elif isinstance(module, NoiseBridge):
            init.zeros_(module.weight)
        elif isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        else:
            super()._init_weights(module)


def _initialise_slice(initialise: Callable[[Tensor], Tensor], weight: Tensor, part: Tensor):
    """Initialises a slice, unless the tensor it is cut from came out of a checkpoint (slices lose that mark)."""
    if not getattr(weight, "_is_hf_initialized", False):
        initialise(part)


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

        packing = None if attention_mask is None or bool(attention_mask.all()) else _Packing(attention_mask)
        hidden: Tensor | PackedSequence = embedded if packing is None else packing.pack(embedded)
        final_states = []
        for number, layer in enumerate(self.layers):
            if number:
                hidden = _dropout(self.dropout, hidden)
            hidden, final = run_recurrent(cast(nn.RNNBase, layer), hidden)
            final_states.append(self._final_state(final))
            if keep_all:
                hidden_states.append(_padded(hidden, packing))

        return RnnSeq2SeqEncoderOutput(
            last_hidden_state=_padded(hidden, packing),
            final_state=torch.stack(final_states, dim=1),
            hidden_states=tuple(hidden_states) if keep_all else None,
            noise=noise,
        )

    def _final_state(self, final: Tensor | tuple[Tensor, ...]) -> Tensor:
        """From torch's `(directions, batch, size)`, one tensor or two, to `(batch, state_tensors, hidden)`."""
        tensors = final if isinstance(final, tuple) else (final,)
        return torch.stack([tensor.transpose(0, 1).flatten(1) for tensor in tensors], dim=1)


class _Packing:
    """Moves the tokens of each row to the front and drops the padding; `unpack` puts everything back."""

    def __init__(self, attention_mask: Tensor):
        mask = attention_mask.bool()
        self.time = mask.shape[1]
        order = (~mask).long().argsort(dim=1, stable=True)
        is_packed = bool((mask[:, :-1] >= mask[:, 1:]).all())
        self.order = None if is_packed else order
        self.inverse = None if is_packed else order.argsort(dim=1)
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


class _Memory(NamedTuple):
    """The attention's view of the encoder; see `RnnSeq2SeqAttention.forward`."""

    states: Tensor
    keys: Tensor | None
    mask: Tensor | None


class RnnSeq2SeqAttention(nn.Module):
    """Scores the encoder's states against a decoder state and averages them by these weights.

    dot: `q' m`; general: `q' W m` (Luong et al. 2015, Eq. 8); additive: `v' tanh(W q + U m)` (Bahdanau et al. 2015);
    location: `v' tanh(W q + U m + F f)`, `f` the last step's weights after a convolution (Chorowski et al. 2015), which
    tells places of equal content apart.
    """

    def __init__(self, scoring: str, size: int, filters: int = 10, width: int = 31):
        super().__init__()
        self.scoring = scoring
        self.adds = scoring in ("additive", "location")
        if scoring == "general" or self.adds:
            self.query = nn.Linear(size, size, bias=self.adds)
        if self.adds:
            self.key = nn.Linear(size, size, bias=False)
            self.score = nn.Linear(size, 1, bias=False)
        if scoring == "location":
            self.neighbours = nn.Conv1d(1, filters, width, padding=width // 2, bias=False)
            self.location = nn.Linear(filters, size, bias=False)

    def project_keys(self, memory: Tensor) -> Tensor | None:
        """Keys of additive scores, made once per source, shape `(batch, source_time, hidden)`; else `None`."""
        return self.key(memory) if self.adds else None

    def forward(
        self, query: Tensor, memory: Tensor, keys: Tensor | None, mask: Tensor | None, alignment: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attends from each of `time` queries.

        Args:
            query: shape `(batch, time, hidden)`; `time` is 1 for location-aware attention.
            memory: the encoder's states, shape `(batch, source_time, hidden)`.
            keys: `project_keys(memory)`.
            mask: true at tokens, shape `(batch, source_time)`, or `None`.
            alignment: the weights of the step before, shape `(batch, source_time)`, which only location-aware attention
                reads; `None` at the first step.

        Returns:
            The contexts, shape `(batch, time, hidden)`, and the weights, shape `(batch, time, source_time)`.
        """
        if self.adds:
            assert keys is not None
            if self.scoring == "location" and alignment is not None:
                context = self.neighbours(alignment[:, None].to(keys.dtype)).transpose(1, 2)
                keys = keys + self.location(context)
            scores = self.score(torch.tanh(self.query(query)[:, :, None] + keys[:, None])).squeeze(-1)
        else:
            scores = torch.bmm(self.query(query) if self.scoring == "general" else query, memory.transpose(1, 2))
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-1)  # (batch, time, source_time)
        return torch.bmm(weights, memory), weights


class NoiseBridge(nn.Linear):
    """A linear map from noise, shape `(batch, noise_size)`, to a term of each first state, shape `(batch, *sizes)`.

    Its weights begin with zeros, so that the outputs of a generator that was trained without noise stay the same until
    the weights learn.
    """

    def __init__(self, noise_size: int, sizes: tuple[int, int, int]):
        self.sizes = sizes
        super().__init__(noise_size, math.prod(sizes), bias=False)

    def reset_parameters(self):
        nn.init.zeros_(self.weight)

    def forward(self, noise: Tensor) -> Tensor:
        return super().forward(noise).unflatten(1, self.sizes)


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

    def new_noise_bridge(self, noise_size: int) -> "NoiseBridge | None":
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
        use_cache = self.config.use_cache if use_cache is None else use_cache
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
            memory = _Memory(encoder_hidden_states, keys, mask)
        embedded = self.embedding_dropout(inputs_embeds)  # (batch, time, embedding)
        skipped = self._skipped_steps(attention_mask, time, keeps_state=cache is not None)

        alignment = cache.get("alignment") if cache is not None else None
        if self.attends_first or self.config.input_feeding or self.looks_back or skipped is not None:
            outputs, layer_outputs, weights, state, fed, alignment = self._step_by_step(
                embedded, state, fed, alignment, memory, skipped
            )
        else:
            layer_outputs, state = self._run_layers(embedded, state)
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
        if attention_mask is None or bool(attention_mask.all()):
            return None
        mask = attention_mask[:, -time:].bool()
        matters = not bool(mask.all()) if keeps_state else bool((mask[:, :-1] < mask[:, 1:]).any())
        return ~mask if matters else None

    def _run_layers(self, inputs: Tensor, state: Tensor) -> tuple[list[Tensor], Tensor]:
        """All layers over all steps. Returns each layer's output `(batch, time, hidden)` and the new state."""
        outputs: list[Tensor] = []
        states = []
        for number, layer in enumerate(self.layers):
            inputs = self.dropout(outputs[-1]) if number else inputs
            output, final = run_recurrent(cast(nn.RNNBase, layer), inputs, self._cell_state(state[:, number]))
            assert isinstance(output, Tensor)
            outputs.append(output)
            states.append(torch.stack(final, dim=2) if isinstance(final, tuple) else final[:, :, None])
        return outputs, torch.cat(states).transpose(0, 1)  # from (layers, batch, ...) to batch first

    def _cell_state(self, state: Tensor) -> Tensor | tuple[Tensor, ...]:
        """`(batch, state_tensors, hidden)` as torch's cells take it: `(1, batch, hidden)`, one tensor or a pair."""
        tensors = tuple(tensor.contiguous()[None] for tensor in state.unbind(1))
        return tensors if len(tensors) == 2 else tensors[0]

    def _attend_and_read_out(
        self, top: Tensor, memory: _Memory | None, context: Tensor | None = None, alignment: Tensor | None = None
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
        memory: _Memory | None,
        skipped: Tensor | None,
    ) -> tuple[Tensor, list[Tensor], Tensor | None, Tensor, Tensor, Tensor | None]:
        """The loop over time, for layers that read the last step (attention before the cell, location-aware attention,
        input feeding) and for targets with padding inside."""
        if fed is None:
            fed = embedded.new_zeros(len(embedded), self.readout_size)
        if alignment is None and self.looks_back:
            assert memory is not None
            alignment = embedded.new_zeros(memory.states.shape[:2])
        outputs, layer_outputs = [], []
        all_weights: list[Tensor] = []
        for step in range(embedded.shape[1]):
            inputs, context, weights = [embedded[:, step : step + 1]], None, None
            if self.attends_first:
                assert self.attention is not None and memory is not None
                # The query is the top layer's last `h`.
                context, weights = self.attention(state[:, -1, :1], *memory, alignment)
                inputs.append(context)
            if self.config.input_feeding:
                inputs.append(fed[:, None])
            layers, new_state = self._run_layers(torch.cat(inputs, dim=-1), state)
            output, after_weights = self._attend_and_read_out(layers[-1], memory, context, alignment)
            weights = after_weights if weights is None else weights
            new_fed = output[:, 0]
            new_alignment = weights[:, 0] if self.looks_back and weights is not None else None
            if skipped is not None:
                new_state = torch.where(skipped[:, step, None, None, None], state, new_state)
                new_fed = torch.where(skipped[:, step, None], fed, new_fed)
                if alignment is not None and new_alignment is not None:
                    new_alignment = torch.where(skipped[:, step, None], alignment, new_alignment)
            state, fed, alignment = new_state, new_fed, new_alignment
            outputs.append(output)
            layer_outputs.append(layers)
            if weights is not None:
                all_weights.append(weights)
        weights = torch.cat(all_weights, dim=1) if all_weights else None
        whole_outputs = [torch.cat(steps, dim=1) for steps in zip(*layer_outputs, strict=True)]
        return torch.cat(outputs, dim=1), whole_outputs, weights, state, fed, alignment


__all__ = ["RnnSeq2SeqDecoder", "RnnSeq2SeqEncoder", "RnnSeq2SeqEncoderOutput", "RnnSeq2SeqPreTrainedModel"]
