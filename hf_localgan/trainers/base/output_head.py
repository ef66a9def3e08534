"""Getting at the hidden states before the output layer of any encoder-decoder, inside one call of the wrapped model."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

# `finish(hidden, weight, bias)` computes what is wanted from the inputs of the output layer, `(batch, time, dim)`.
Finish = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def output_head(model: nn.Module) -> nn.Linear | None:
    """The output layer, or `None` where it is not a plain linear layer (LoRA on the head, say)."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = base.get_output_embeddings() if isinstance(base, PreTrainedModel) else None
    return head if type(head) is nn.Linear else None


@contextmanager
def _replaced_head(model: nn.Module, forward: Callable[[Tensor], Tensor]) -> Iterator[tuple[Tensor, Tensor | None]]:
    """While this is open, `forward` takes the place of the output layer, whose weight and bias are yielded."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = output_head(model)
    bias, extra = head.bias, getattr(base, "final_logits_bias", None)  # BART and its kin add a buffer to the logits
    if extra is not None:
        bias = extra.flatten() if bias is None else bias + extra.flatten()
        base.final_logits_bias = extra.new_zeros(1, 1)
    with replaced_forward(head, forward):
        try:
            yield head.weight, bias
        finally:
            if extra is not None:
                base.final_logits_bias = extra


@contextmanager
def replaced_forward(module: nn.Module, forward: Callable) -> Iterator[None]:
    """While this is open, calling `module` runs `forward`; so a loss can run inside the one call of a wrapper."""
    before = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before  # accelerate puts its autocast there


def finish_inside(wrapped: nn.Module, model: nn.Module, inputs: dict, finish: Finish) -> Tensor:
    """Runs `wrapped(**inputs)` up to the output layer, and then `finish`, all inside the one call of the wrapper.

    What is computed outside the call of `DistributedDataParallel` is not averaged over the processes, so the loss
    takes the place of the model's forward for the length of this call.

    Args:
        wrapped: the model as the trainer wrapped it, or `model` itself.
        model: the model inside, a `PreTrainedModel` or a PEFT model, for which `output_head` is not `None`.
        inputs: arguments of the model's forward without labels.
        finish: called with the hidden states, shape `(batch, time, dim)`, and the output layer's weight and bias.

    Returns:
        What `finish` returns.
    """
    forward = model.forward

    def up_to_the_head(*args, **kwargs) -> Tensor:
        with _replaced_head(model, lambda hidden: hidden) as (weight, bias):
            hidden = forward(*args, **kwargs).logits
        return finish(hidden, weight, bias)

    with replaced_forward(model, up_to_the_head):
        return wrapped(**inputs)


@torch.no_grad()
def head_can_be_separated(model: nn.Module, inputs: dict) -> bool:
    """Whether the model's logits are what its output layer returns, tried on one small batch.

    The output layer is made to return invented logits, from -128 to 128, and the model must hand them on unchanged: a
    scale, a soft cap or a second way to the logits shows, in any precision and however small the model's own logits.

    Args:
        model: a `PreTrainedModel` or a PEFT model.
        inputs: arguments of the model's forward without labels.
    """
    head = output_head(model)
    if head is None:
        return False
    invented: list[Tensor] = []

    def invent(hidden: Tensor) -> Tensor:
        shape = (*hidden.shape[:-1], head.out_features)
        values = torch.arange(hidden.shape[:-1].numel() * head.out_features, device=hidden.device) % 257 - 128
        invented.append(values.to(hidden.dtype).view(shape))  # whole numbers up to 256 are exact in 16 bits, too
        return invented[-1]

    training = model.training
    model.eval()  # without dropout, so that the random state is left alone
    try:
        with _replaced_head(model, invent):
            logits = model(**inputs).logits
        hidden = finish_inside(model, model, inputs, lambda hidden, weight, bias: hidden)
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        return False
    finally:
        model.train(training)
    if len(invented) != 1 or hidden.shape != (*logits.shape[:-1], head.in_features):
        return False
    return torch.equal(logits.float(), invented[0].float())
