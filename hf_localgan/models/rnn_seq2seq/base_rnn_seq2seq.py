"""The base class of the recurrent models, and the layer whose weights it starts with zeros."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init

from .configuration_rnn_seq2seq import RnnSeq2SeqConfig


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


__all__ = ["NoiseBridge", "RnnSeq2SeqPreTrainedModel"]
