"""The precisions that the processor computes in, and recurrent layers that avoid those it lacks."""

import os
import platform
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

# Limits of oneDNN's instructions under which it computes bfloat16 by float32 instructions.
WIDENING = ("AVX512_CORE", "AVX512_CORE_VNNI")


@cache
def processor_has(dtype: torch.dtype) -> bool:
    """Whether the processor has instructions for products of a precision, and torch uses them.

    Without them torch computes `bfloat16` 2 to 30 times slower than `float32`, and an LSTM under autocast not at all.
    `ONEDNN_MAX_CPU_ISA`, which limits the instructions of oneDNN and so of these products, is taken into account.

    Args:
        dtype: such as `torch.bfloat16`. `float32` and `float64` are always there.
    """
    if dtype in (torch.float32, torch.float64):
        return True
    checks = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}
    if dtype not in checks or not torch.backends.mkldnn.is_available():
        return False
    if not getattr(torch.ops.mkldnn, checks[dtype])():
        return False
    if dtype == torch.bfloat16 and platform.machine().lower() in ("x86_64", "amd64"):
        # oneDNN reports bfloat16 for any AVX-512.
        limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or ""
        return limit.upper() not in WIDENING and torch.cpu._is_avx512_bf16_supported()
    return True


@torch.compiler.assume_constant_result
def _cells_support(dtype: torch.dtype) -> bool:
    """Whether torch's recurrent layers run in a precision of autocast on this processor."""
    # In float16 an LSTM fails without the instructions; no processor with them was tried.
    return dtype == torch.bfloat16 and processor_has(dtype)


def run_recurrent(
    layer: nn.RNNBase, inputs: Tensor | PackedSequence, state: Tensor | tuple[Tensor, ...] | None = None
) -> tuple[Tensor | PackedSequence, Tensor | tuple[Tensor, ...]]:
    """Runs a recurrent layer; in the precision of its weights where the processor lacks that of autocast.

    Args:
        layer: an LSTM or a GRU with `batch_first`.
        inputs: shape `(batch, time, features)`, or packed.
        state: first state, `(directions, batch, hidden)`, a pair of them for an LSTM; by default zero.

    Returns:
        Outputs of shape `(batch, time, directions * hidden)`, or packed, and the last states.
    """
    data = inputs.data if isinstance(inputs, PackedSequence) else inputs
    if (
        data.device.type != "cpu"
        or not torch.is_autocast_enabled("cpu")
        or _cells_support(torch.get_autocast_dtype("cpu"))
    ):
        return layer(inputs, state)
    dtype = next(layer.parameters()).dtype
    if isinstance(state, tuple):
        state = tuple(tensor.to(dtype) for tensor in state)
    elif state is not None:
        state = state.to(dtype)
    with torch.autocast("cpu", enabled=False):
        return layer(inputs.to(dtype), state)


__all__ = ["processor_has", "run_recurrent"]
