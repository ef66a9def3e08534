"""The state that a recurrent decoder carries from one step of `generate` to the next."""

from collections.abc import Callable
from typing import cast

from torch import Tensor
from transformers.cache_utils import Cache


class RecurrentStateLayer:
    """Named tensors whose first dimension is the batch, and the number of tokens that the decoder has read.

    Tensors are replaced, never written in place, so gradients flow from step to step.
    """

    is_compileable = False
    is_croppable = False
    is_sliding = False
    supports_early_init = False

    def __init__(self) -> None:
        self.states: dict[str, Tensor] = {}
        self.length = 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return -1

    @property
    def batch_size(self) -> int:
        return next((len(state) for state in self.states.values()), -1)

    def reset(self):
        self.states, self.length = {}, 0

    def reorder_cache(self, beam_idx: Tensor):
        self._map(lambda state: state.index_select(0, beam_idx.to(state.device)))

    def batch_repeat_interleave(self, repeats: int):
        self._map(lambda state: state.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: Tensor):
        self._map(lambda state: state[indices.to(state.device)])

    def crop(self, tokens_to_remove: int):
        if tokens_to_remove:
            raise ValueError(
                f"A recurrent state cannot go back {tokens_to_remove} tokens: earlier states are not kept. Assisted "
                "decoding and prompt lookup are therefore not available for recurrent decoders."
            )

    def _map(self, function: Callable[[Tensor], Tensor]):
        self.states = {name: function(state) for name, state in self.states.items()}


class RecurrentCache(Cache):
    """Cache of a recurrent decoder: constant size, whatever the length so far.

    Holds `state`, shape `(batch, layers, state_tensors, hidden_size)`; where the model has them also `fed`, the last
    attentional vector, shape `(batch, readout_size)`, `keys`, the projected keys of additive attention, shape
    `(batch, source_time, hidden_size)`, and `alignment`, the last weights of location-aware attention, shape
    `(batch, source_time)`.
    """

    def __init__(self):
        super().__init__(layers=[RecurrentStateLayer()])  # type: ignore[list-item]  # the stub knows its own layers only

    @property
    def _layer(self) -> RecurrentStateLayer:
        return cast(RecurrentStateLayer, self.layers[0])

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens that the decoder has read."""
        return self._layer.length

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """Length and offset of a mask over past and new tokens."""
        return self._layer.length + query_length, 0

    def get(self, name: str) -> Tensor | None:
        """The tensor of that name, or `None` before the first step."""
        return self._layer.states.get(name)

    def advance(self, tokens: int, **states: Tensor | None):
        """Stores the states after `tokens` more tokens; a state that is `None` leaves the stored one as it is."""
        layer = self._layer
        layer.states = {**layer.states, **{name: state for name, state in states.items() if state is not None}}
        layer.length += tokens

    def detach(self) -> "RecurrentCache":
        """The same states outside the graph, for truncated backpropagation."""
        detached = RecurrentCache()
        detached.advance(self.get_seq_length(), **{name: state.detach() for name, state in self._layer.states.items()})
        return detached


__all__ = ["RecurrentCache", "RecurrentStateLayer"]
