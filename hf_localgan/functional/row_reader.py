"""Reading few rows of wide tables at each step of a decoder, with one gradient of the tables for all steps.

A decoder that keeps the k likeliest tokens of a step reads k rows of its output layer and of its embeddings. The
gradient of a table is then zero but in these rows. A gradient of the table's size at each step would cost more than all
else, and so would a gradient of all logits; here the steps only note what they read, and the rows are added up once.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .relaxation import RelaxedTokens, expected_embedding


class RowReader:
    """The output layer and the embeddings of a decoder, of which each step reads the rows of k tokens.

    What the steps return has a gradient for the weight and the bias of the output layer, for the table, and for the
    inputs, as if each step had computed all logits and gathered k of them. It can be differentiated once, not twice;
    as often as the graph is kept.

    Args:
        weight: the output layer, shape `(vocab, dim)`.
        bias: shape `(vocab,)`, or `None`.
        table: the embeddings, shape `(rows, embedding_dim)`; it may be `weight` itself.
        batch, k: rows and columns of a step.
        steps: largest number of steps.
        padding: row of the table that embeddings give no gradient, as in `torch.nn.Embedding`.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, table: Tensor, *, batch: int, k: int, steps: int,
        padding: int | None = None,
    ):  # fmt: skip
        self.weight, self.table = weight.detach(), table.detach()
        self._read: list[_Step] = []
        # Each step adds a zero of its own, whose gradient comes back to `_Zeros` when all steps are through.
        zeros = _Zeros.apply(weight, bias, table, self._read, (batch, k, steps, padding))
        self._zeros = list(zip(zeros[:steps], zeros[steps:], strict=True))

    def logits(self, hidden: Tensor, logits: Tensor, ids: Tensor) -> Tensor:
        """Logits of k tokens with their gradient, shape `(batch, k)`; begins a step.

        Args:
            hidden: inputs of the output layer, shape `(batch, dim)`.
            logits: its outputs for them, without a gradient, shape `(batch, vocab)`.
            ids: the tokens, shape `(batch, k)`, each at most once in a row.
        """
        zero, _ = self._zeros[len(self._read)]
        self._read.append(_Step(hidden.detach(), ids))
        return _Chosen.apply(hidden, zero, logits, ids, self.weight)

    def embedding(self, tokens: RelaxedTokens) -> Tensor:
        """Mean of the table's rows with the tokens' weights, shape `(batch, embedding_dim)`; ends a step.

        Args:
            tokens: relaxed logits of this step, with ids.
        """
        _, zero = self._zeros[len(self._read) - 1]
        self._read[-1].weights = tokens.weights.detach().to(self.table.dtype)
        return expected_embedding(tokens, self.table) + zero


class _Step:
    """What a step has read: inputs of the output layer, tokens, and their weights in the mean of embeddings."""

    def __init__(self, hidden: Tensor, ids: Tensor):
        self.hidden, self.ids = hidden, ids
        self.weights: Tensor | None = None


class _Chosen(torch.autograd.Function):
    """Gathers logits; backward it multiplies with the gathered rows alone, and hands the gradient on to `zero`."""

    @staticmethod
    def forward(ctx, hidden, zero, logits, ids, weight):
        ctx.save_for_backward(ids, weight)
        ctx.dtype = hidden.dtype
        return logits.gather(-1, ids).to(zero.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        ids, weight = ctx.saved_tensors
        of_hidden = None
        if ctx.needs_input_grad[0]:
            of_hidden = _mean_of_rows(ids, weight, gradient).to(ctx.dtype)
        return of_hidden, gradient, None, None, None


def _mean_of_rows(ids: Tensor, table: Tensor, weights: Tensor) -> Tensor:
    if table.dtype in (torch.float32, torch.float64):
        return F.embedding_bag(ids, table, per_sample_weights=weights.to(table.dtype), mode="sum")
    return torch.bmm(weights[:, None], table[ids].to(weights.dtype))[:, 0]


class _Zeros(torch.autograd.Function):
    """A zero for the logits and one for the mean embedding of every step; backward it adds up what they read."""

    @staticmethod
    def forward(ctx, weight, bias, table, read, sizes):
        batch, k, steps, padding = sizes
        ctx.set_materialize_grads(False)
        ctx.read, ctx.steps, ctx.padding = read, steps, padding
        ctx.rows, ctx.same = (len(weight), len(table)), weight is table
        ctx.dtypes = tuple(None if tensor is None else tensor.dtype for tensor in (weight, bias, table))
        wide = torch.promote_types(weight.dtype, torch.float32)
        logits = [weight.new_zeros((), dtype=wide).expand(batch, k) for _ in range(steps)]
        return (*logits, *(table.new_zeros(()).expand(batch, table.shape[1]) for _ in range(steps)))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *gradients):
        pairs = list(zip(ctx.read, gradients[: ctx.steps], strict=False))
        read = [(step.ids, of_logits, step.hidden) for step, of_logits in pairs if of_logits is not None]
        fed = []
        for step, of_mean in zip(ctx.read, gradients[ctx.steps :], strict=False):
            if of_mean is not None:
                weights = step.weights if ctx.padding is None else step.weights.masked_fill(step.ids == ctx.padding, 0)
                fed.append((step.ids, weights, of_mean))
        needs_weight, needs_bias, needs_table = ctx.needs_input_grad[:3]
        of_weight = of_bias = of_table = None
        if ctx.same:
            if needs_weight:
                of_weight = _added_rows(ctx.rows[0], [*read, *fed], ctx.dtypes[0])
        else:
            of_weight = _added_rows(ctx.rows[0], read, ctx.dtypes[0]) if needs_weight else None
            of_table = _added_rows(ctx.rows[1], fed, ctx.dtypes[2]) if needs_table else None
        if needs_bias and read:
            ids, values = (torch.cat([step[place].flatten() for step in read]) for place in (0, 1))
            of_bias = values.new_zeros(ctx.rows[0]).index_add_(0, ids, values).to(ctx.dtypes[1])
        return of_weight, of_bias, of_table, None, None


def _added_rows(number: int, parts: list[tuple[Tensor, Tensor, Tensor]], dtype: torch.dtype) -> Tensor | None:
    """A table of `number` rows: to the rows `ids` the vectors of their line, times their factors, are added.

    Args:
        number: rows of the table.
        parts: ids and factors, shape `(batch, k)` of each, and vectors, shape `(batch, dim)`.
        dtype: of the table. Sums are in float32 at least.
    """
    if not parts:
        return None
    wide = torch.promote_types(dtype, torch.float32)
    all_ids, all_factors, all_vectors = zip(*parts, strict=True)
    ids, vectors = torch.cat(all_ids), torch.cat([part.to(wide) for part in all_vectors])
    factors = torch.cat([part.to(wide) for part in all_factors])
    # Every row is a bag of the vectors that are added to it: a quarter of the time of `index_add_`, and always in the
    # same order. Smaller integers are sorted in half the time.
    values, order = ids.flatten().int().sort(stable=True)
    starts = torch.searchsorted(values, torch.arange(number, dtype=torch.int32, device=values.device))
    return F.embedding_bag(
        order // ids.shape[1], vectors, starts, per_sample_weights=factors.flatten()[order], mode="sum"
    ).to(dtype)
