"""Token cross-entropy from the last hidden states, without ever holding the logits of a whole batch."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Elements of the logits that exist at a time. 2 ** 23 float32 values are 32 MiB: more is slower on processors, whose
# caches it leaves, and a smaller chunk reads the output layer and its gradient more often.
CHUNK_ELEMENTS = 2**23


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    weights: Tensor | None = None,
    divisor: Tensor | float = 1.0,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    matmul_dtype: torch.dtype | None = None,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> Tensor:
    """Summed cross-entropy of `softmax(hidden @ weight.T + bias)`, divided by `divisor`.

    Only positions with a label are computed, in chunks, and the gradients with respect to `hidden`, `weight` and `bias`
    are formed in the same pass: the gradient of the cross-entropy with respect to the logits is `softmax - target`, so
    the logits need not be kept or computed again. Memory is one chunk of logits and one gradient of the output layer,
    whatever the length of the padded batch. The result can be differentiated once.

    With smoothing `s` and `vocab` classes the target is `(1 - s) onehot + s / vocab` (Szegedy et al. 2016).

    Args:
        hidden: shape `(..., dim)`.
        weight: the output layer, shape `(vocab, dim)`.
        labels: integer, shape `(...)`; `ignore_index` where nothing is to be predicted.
        bias: shape `(vocab,)`.
        weights: of the labels, in the shape of `labels`: each token's loss and gradient are multiplied by its own,
            which may be negative. They are constants, no gradient reaches them. By default all are 1.
        divisor: what the sum is divided by, the number of labels of the whole batch for a mean.
        label_smoothing: share `s` of the target that is spread evenly over the vocabulary, in `[0, 1)`.
        matmul_dtype: precision of the three products with the output layer, such as `torch.bfloat16`; softmax and sums
            stay in float32. By default the dtype of `hidden`.
        chunk_elements: largest number of logits that exist at a time (at least one row).

    Returns:
        A scalar in nats, float32 (float64 for float64 input).

    Raises:
        ValueError: if the shapes do not fit or `label_smoothing` is outside `[0, 1)`.
    """
    _check_shapes(hidden, weight, labels, weights)
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"`label_smoothing` must be in [0, 1), got {label_smoothing}.")
    labels = labels.flatten()
    predicted = labels != ignore_index
    hidden, labels = hidden.flatten(0, -2)[predicted], labels[predicted]  # (tokens, dim), (tokens,)
    divisor = torch.as_tensor(divisor, dtype=_sum_dtype(hidden.dtype), device=hidden.device)
    if weights is not None:
        weights = weights.detach().flatten()[predicted].to(divisor)  # (tokens,)
    chunk = max(1, chunk_elements // len(weight))
    with torch.autocast(hidden.device.type, enabled=False):
        wants = torch.is_grad_enabled()
        return _LinearCrossEntropy.apply(
            hidden, weight, bias, labels, weights, divisor, label_smoothing, matmul_dtype or hidden.dtype, chunk, wants
        )


def _check_shapes(hidden: Tensor, weight: Tensor, labels: Tensor, weights: Tensor | None) -> None:
    if weights is not None and weights.shape != labels.shape:
        raise ValueError(
            f"`weights` {tuple(weights.shape)} must have the shape of `labels` {tuple(labels.shape)}: one for each."
        )
    if hidden.shape[:-1] != labels.shape or hidden.shape[-1] != weight.shape[-1]:
        raise ValueError(
            f"`hidden` {tuple(hidden.shape)} must have the shape of `labels` {tuple(labels.shape)} plus the columns of "
            f"`weight` {tuple(weight.shape)}."
        )


def _sum_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, bias, labels, weights, divisor, smoothing, matmul_dtype, chunk, wants_gradients):
        sum_dtype, vocab = divisor.dtype, len(weight)
        matrix = weight.to(matmul_dtype)
        grads = [None, None, None]
        if wants_gradients:
            grads = [torch.empty_like(hidden) if ctx.needs_input_grad[0] else None]
            grads += [weight.new_zeros(weight.shape, dtype=sum_dtype) if ctx.needs_input_grad[1] else None]
            grads += [bias.new_zeros(vocab, dtype=sum_dtype) if bias is not None and ctx.needs_input_grad[2] else None]
        total = hidden.new_zeros((), dtype=sum_dtype)
        buffer = hidden.new_empty(min(chunk, len(hidden)), vocab, dtype=matmul_dtype)

        for start in range(0, len(hidden), chunk):
            rows = slice(start, min(start + chunk, len(hidden)))
            inputs, targets = hidden[rows].to(matmul_dtype), labels[rows, None]
            logits = torch.mm(inputs, matrix.T, out=buffer[: len(inputs)])
            if bias is not None:
                logits += bias
            at_target = logits.gather(1, targets).to(sum_dtype)
            average = logits.mean(dim=1, keepdim=True, dtype=sum_dtype) if smoothing else at_target
            highest = logits.amax(dim=1, keepdim=True)
            exponentials = logits.sub_(highest).exp_()  # (tokens of the chunk, vocab), from here on in place
            normaliser = exponentials.sum(dim=1, keepdim=True, dtype=sum_dtype)
            log_normaliser = normaliser.log() + highest
            nll = log_normaliser - (1 - smoothing) * at_target - smoothing * average
            total += (nll if weights is None else nll * weights[rows, None]).sum()
            if not any(grad is not None for grad in grads):
                continue
            grad_logits = exponentials.div_(normaliser.to(matmul_dtype))  # the softmax, then minus the target
            if smoothing:
                grad_logits -= smoothing / vocab
            grad_logits.scatter_add_(1, targets, grad_logits.new_full(targets.shape, smoothing - 1))
            share = divisor if weights is None else divisor / weights[rows, None]  # infinite at weight 0
            if grads[0] is not None:
                grads[0][rows] = (grad_logits @ matrix).to(sum_dtype) / share
            if grads[1] is not None:
                scaled = (inputs.to(sum_dtype) / share).to(matmul_dtype)
                _add_product(grads[1], grad_logits.T, scaled)
            if grads[2] is not None:
                if weights is not None:
                    grad_logits *= weights[rows, None]
                grads[2] += grad_logits.sum(dim=0, dtype=sum_dtype) / divisor

        ctx.grads = grads
        return total / divisor

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_output):
        grads, ctx.grads = ctx.grads, None  # dropped here, so that autograd may keep them instead of a copy
        if grads is None:
            raise RuntimeError("The gradients of this loss were used already; `retain_graph` is not supported by it.")
        if grad_output.device.type != "cpu" or grad_output.item() != 1:  # on an accelerator looking at it would wait
            grads = [None if grad is None else grad.mul_(grad_output) for grad in grads]
        return (*grads, None, None, None, None, None, None, None)


def _add_product(total: Tensor, left: Tensor, right: Tensor):
    """`total += left @ right`, in place where the dtypes are equal."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


@torch.no_grad()
def linear_token_nll(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    ignore_index: int = -100,
    matmul_dtype: torch.dtype | None = None,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> Tensor:
    """Negative log-likelihood of each label, without gradients and in chunks as in `linear_cross_entropy`.

    Args:
        hidden: shape `(..., dim)`.
        weight: the output layer, shape `(vocab, dim)`.
        labels: integer, shape `(...)`; `ignore_index` where nothing is predicted.
        bias: shape `(vocab,)`.
        matmul_dtype: precision of the product with the output layer.
        chunk_elements: largest number of logits that exist at a time (at least one row).

    Returns:
        The shape of `labels`, in nats, float32 (float64 for float64 input); 0 at `ignore_index`.
    """
    predicted = labels != ignore_index
    rows, targets = hidden[predicted], labels[predicted]
    matmul_dtype = matmul_dtype or hidden.dtype
    matrix, sum_dtype = weight.to(matmul_dtype), _sum_dtype(hidden.dtype)
    chunk = max(1, chunk_elements // len(weight))
    parts = []
    with torch.autocast(hidden.device.type, enabled=False):
        for inputs, target in zip(rows.split(chunk), targets.split(chunk), strict=True):
            logits = torch.mm(inputs.to(matmul_dtype), matrix.T).to(sum_dtype)
            logits = logits if bias is None else logits + bias
            parts.append(F.cross_entropy(logits, target, reduction="none"))
    nll = hidden.new_zeros(labels.shape, dtype=sum_dtype)
    if parts:
        nll[predicted] = torch.cat(parts)
    return nll
