"""Loops over time that `torch.export` keeps as loops, so that an exported model takes any number of steps.

torch's recurrent layers are exported for one length alone, and packed sequences not at all. Shapes as in
`encoder_rnn_seq2seq.py`.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

Tensors: TypeAlias = tuple[Tensor, ...]


def loop_over_time(
    step: Callable[[Tensors, Tensors], tuple[Tensors, Tensors]], carry: Tensors, inputs: Tensors
) -> tuple[Tensors, Tensors]:
    """Runs a step for each place in time: a loop of Python, and while a model is exported torch's `scan`.

    Args:
        step: from what is carried and the inputs of one place, each of shape `(batch, ...)`, to what is carried on and
            the outputs of this place. To be exported it may call layers, but no recurrent one (see `cell`), and what it
            returns must be new tensors.
        carry: what the first step gets.
        inputs: shape `(batch, time, ...)` each.

    Returns:
        What the last step carried on, and the outputs of all places, shape `(batch, time, ...)` each.
    """
    if torch.compiler.is_exporting():
        from torch._higher_order_ops.scan import scan

        carry, outputs = scan(step, carry, tuple(tensor.transpose(0, 1) for tensor in inputs))
        return tuple(carry), tuple(tensor.transpose(0, 1) for tensor in outputs)
    steps = []
    for place in range(inputs[0].shape[1]):
        carry, outputs = step(carry, tuple(tensor[:, place] for tensor in inputs))
        steps.append(outputs)
    return carry, tuple(torch.stack(column, dim=1) for column in zip(*steps, strict=True))


def cell(layer: nn.RNNBase, inputs: Tensor, state: Tensors, backwards: bool = False) -> Tensors:
    """One step of a recurrent layer, by torch's functions of one step.

    Args:
        layer: an LSTM or a GRU of one layer.
        inputs: shape `(batch, features)`.
        state: shape `(batch, hidden)`, one tensor of a GRU, two of an LSTM.
        backwards: take the weights of the direction from the end to the start.

    Returns:
        The new state.
    """
    suffix = "l0_reverse" if backwards else "l0"
    weights = [getattr(layer, f"{name}_{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    if isinstance(layer, nn.LSTM):
        return torch.lstm_cell(inputs, state, *weights)
    return (torch.gru_cell(inputs, state[0], *weights),)


def scan_recurrent(
    layer: nn.RNNBase,
    inputs: Tensor,
    state: Tensor | Tensors | None = None,
    exists: Tensor | None = None,
    zero_skipped: bool = False,
) -> tuple[Tensor, Tensor | Tensors]:
    """A recurrent layer over inputs of any length, with padding anywhere: for models that are exported.

    Args:
        layer: an LSTM or a GRU of one layer with `batch_first`.
        inputs: shape `(batch, time, features)`.
        state: first state, `(directions, batch, hidden)`, a pair of them for an LSTM; by default zero.
        exists: false at steps that leave the state alone, shape `(batch, time)`; by default there are none.
        zero_skipped: give zeros at those steps; otherwise what the layer makes of them.

    Returns:
        As the layer itself: outputs of shape `(batch, time, directions * hidden)`, and the last states.
    """
    directions = 2 if layer.bidirectional else 1
    given = state if isinstance(state, tuple) else None if state is None else (state,)
    number = 2 if isinstance(layer, nn.LSTM) else 1
    all_outputs, finals = [], []
    for direction in range(directions):
        backwards = direction == 1
        if given is None:
            first = tuple(inputs.new_zeros(inputs.shape[0], layer.hidden_size) for _ in range(number))
        else:
            first = tuple(tensor[direction] for tensor in given)
        ordered: Tensors = (inputs,) if exists is None else (inputs, exists)

        def step(carried: Tensors, slices: Tensors, backwards: bool = backwards) -> tuple[Tensors, Tensors]:
            new = cell(layer, slices[0], carried, backwards)
            output = new[0].clone()  # what is carried on must be another tensor
            if len(slices) == 1:
                return new, (output,)
            exists = slices[1][:, None]
            kept = tuple(torch.where(exists, after, before) for after, before in zip(new, carried, strict=True))
            return kept, (output * exists.to(output.dtype) if zero_skipped else output,)

        if backwards:
            ordered = tuple(tensor.flip(1) for tensor in ordered)
        final, (outputs,) = loop_over_time(step, first, ordered)
        all_outputs.append(outputs.flip(1) if backwards else outputs)
        finals.append(final)
    last = tuple(torch.stack(tensors) for tensors in zip(*finals, strict=True))
    return torch.cat(all_outputs, dim=-1), last if number == 2 else last[0]


def steps_read(attention_mask: Tensor) -> Tensor:
    """True at the steps that an encoder reads, shape `(batch, time)`; a row of padding alone is read at its first."""
    mask = attention_mask.bool()
    empty = ~mask.any(dim=1, keepdim=True)
    first = torch.arange(mask.shape[1], device=mask.device) == 0
    return mask | (empty & first)


__all__ = ["cell", "loop_over_time", "scan_recurrent", "steps_read"]
