"""What a recurrent decoder carries from one step of `generate` to the next."""

from torch import Tensor
from transformers.cache_utils import Cache


class RecurrentStateLayer:
    """Named tensors whose first dimension is the batch, and the number of tokens they stand for.

    Tensors are replaced, never written in place, so gradients flow from step to step.
    """

    is_compileable = False
    is_croppable = False
    is_sliding = False
    supports_early_init = False

    def __init__(self):
        self.states: dict[str, Tensor] = {}
        self.seen = 0

    def get_seq_length(self) -> int:
        return self.seen

    def get_max_length(self) -> int:
        return -1

    @property
    def batch_size(self) -> int:
        return next((len(state) for state in self.states.values()), -1)

    def reset(self):
        self.states, self.seen = {}, 0

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

    def _map(self, function):
        self.states = {name: function(state) for name, state in self.states.items()}


class RecurrentCache(Cache):
    """Cache of a recurrent decoder: constant size, whatever the length so far.

    Holds `state`, shape `(batch, layers, state_tensors, hidden_size)`; where the model has them also `fed`, the last
    attentional vector, shape `(batch, readout_size)`, `keys`, the projected keys of additive attention, shape
    `(batch, source_time, hidden_size)`, and `alignment`, the last weights of location-aware attention, shape
    `(batch, source_time)`.
    """

    def __init__(self):
        super().__init__(layers=[RecurrentStateLayer()])

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens the state stands for."""
        return self.layers[0].seen

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """Length and offset of a mask over past and new tokens."""
        return self.layers[0].seen + query_length, 0

    def get(self, name: str) -> Tensor | None:
        """The tensor of that name, or `None` before the first step."""
        return self.layers[0].states.get(name)

    def advance(self, tokens: int, **states: Tensor | None):
        """Takes over the states after `tokens` more tokens; those given as `None` are not kept."""
        layer = self.layers[0]
        layer.states = {**layer.states, **{name: state for name, state in states.items() if state is not None}}
        layer.seen += tokens

    def detach(self) -> "RecurrentCache":
        """The same states outside the graph, for truncated backpropagation."""
        detached = RecurrentCache()
        detached.advance(self.get_seq_length(), **{k: v.detach() for k, v in self.layers[0].states.items()})
        return detached


__all__ = ["RecurrentCache", "RecurrentStateLayer"]
