"""What stands before an encoder-decoder's output layer: losses on the hidden states, and a look at them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

INVENTED = 257  # different numbers that stand in for logits

# A loss from the inputs of the output layer, shape `(batch, time, dim)`, and the layer's weight and bias.
HiddenLoss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def base_model(model: nn.Module) -> Any:
    """The model inside a PEFT model; any other model as it is."""
    unwrapped = getattr(model, "get_base_model", None)
    return model if unwrapped is None else unwrapped()


def output_head(model: nn.Module) -> nn.Linear | None:
    """The output layer; `None` if it is not a plain linear layer, as with LoRA on the head."""
    base = base_model(model)
    head = base.get_output_embeddings() if isinstance(base, PreTrainedModel) else None
    return head if type(head) is nn.Linear else None


@contextmanager
def _replaced_head(model: nn.Module, forward: Callable[[Tensor], Tensor]) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Replaces the output layer by `forward` within the context, and yields the layer's weight and bias."""
    base, head = base_model(model), output_head(model)
    assert head is not None
    # BART and its relatives add a buffer to the logits.
    bias: Tensor | None = head.bias
    extra: Tensor | None = getattr(base, "final_logits_bias", None)
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
def replaced_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Within the context, a call of `module` runs `forward`, so that a loss runs inside the one call of a wrapper."""
    replaced = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if replaced is None:
            del module.forward
        else:
            module.forward = replaced  # accelerate puts its autocast there


def finish_inside(wrapped: nn.Module, model: nn.Module, inputs: dict[str, Any], finish: HiddenLoss) -> Tensor:
    """Runs `wrapped(**inputs)` up to the output layer, and then `finish`, all inside the one call of the wrapper.

    `DistributedDataParallel` averages over the processes only what is computed inside its call, so the loss replaces
    the model's forward for the length of this call.

    Args:
        wrapped: the model as the trainer wrapped it, or `model` itself.
        model: the model inside, a `PreTrainedModel` or a PEFT model, for which `output_head` is not `None`.
        inputs: arguments of the model's forward without labels.
        finish: called with the hidden states, shape `(batch, time, dim)`, and the output layer's weight and bias.

    Returns:
        The result of `finish`.
    """
    forward = model.forward

    def forward_and_finish(*args, **kwargs) -> Tensor:
        with _replaced_head(model, lambda hidden: hidden) as (weight, bias):
            hidden = forward(*args, **kwargs).logits
        return finish(hidden, weight, bias)

    with replaced_forward(model, forward_and_finish):
        return wrapped(**inputs)


class LastPlace(NamedTuple):
    """The output layer at the last place of a call.

    Attributes:
        hidden: what the layer read, shape `(batch, dim)`, with its gradient.
        logits: the model's logits if nothing follows the layer but an added bias; without a gradient, shape
            `(batch, vocab)`.
        invented: what the layer returned in their place, shape `(batch, time, INVENTED)`.
        calls: how often the model called the layer.
    """

    hidden: Tensor
    logits: Tensor
    invented: Tensor
    calls: int

    def is_last(self, outputs: Any) -> bool:
        """Whether nothing has changed what the layer returned on its way into the model's outputs."""
        logits = outputs.logits
        return (
            self.calls == 1
            and logits.shape == self.invented.shape
            and torch.equal(logits.float(), self.invented.float())
        )


@contextmanager
def watched_head(model: nn.Module) -> Iterator[Callable[..., tuple[Any, LastPlace]]]:
    """Within the context, calls the model without a gradient through its output layer.

    The layer hands on a few invented numbers instead of logits, so that what follows costs nothing, and shows whether
    it changes them.

    Args:
        model: a `PreTrainedModel` or a PEFT model, for which `output_head` is not `None`.

    Returns:
        A function that calls the model with the arguments it gets. It returns the model's outputs, whose logits are the
        invented ones, and what the output layer has read.
    """
    base, head = base_model(model), output_head(model)
    assert head is not None
    plain_forward = head.forward
    extra: Tensor | None = getattr(base, "final_logits_bias", None)
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def watch(hidden: Tensor) -> Tensor:
        last = hidden[:, -1]
        with torch.no_grad():
            logits = plain_forward(last)
            seen.append((last, logits if extra is None else logits + extra, _invented(hidden, INVENTED)))
        return seen[-1][2]

    def call(*args, **kwargs) -> tuple[Any, LastPlace]:
        seen.clear()
        outputs = model(*args, **kwargs)
        return outputs, LastPlace(*seen[-1], len(seen))

    with _replaced_head(model, watch):
        yield call


def _invented(hidden: Tensor, columns: int) -> Tensor:
    """Whole numbers from -128 to 128, which are exact in 16 bits, too; shape `(*hidden.shape[:-1], columns)`."""
    shape = (*hidden.shape[:-1], columns)
    values = torch.arange(hidden.shape[:-1].numel() * columns, device=hidden.device) % INVENTED - 128
    return values.to(hidden.dtype).view(shape)


@torch.no_grad()
def head_is_separable(model: nn.Module, inputs: dict[str, Any]) -> bool:
    """Whether the model's logits are the outputs of its output layer, tested on one small batch.

    The output layer is made to return invented logits, from -128 to 128, and the model must return them unchanged. This
    reveals a scale, a soft cap or a second path to the logits, in any precision and for any size of the true logits.

    Args:
        model: a `PreTrainedModel` or a PEFT model.
        inputs: arguments of the model's forward without labels.
    """
    head = output_head(model)
    if head is None:
        return False
    invented: list[Tensor] = []

    def invent(hidden: Tensor) -> Tensor:
        invented.append(_invented(hidden, head.out_features))
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
