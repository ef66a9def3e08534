"""Reading wide tables at each step of a decoder, with few gradients of the tables for many steps.

A decoder reads its output layer and its embeddings at each step. Of a vocabulary of 40,000 words, a gradient of either
table at each step costs more than all else: most of the time goes into making tensors of that size and adding them up.
Here the steps only note what they read, and a gradient is made once for many of them. Where a step keeps the k
likeliest tokens, k rows are read, and the gradient of all logits is not made either.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .relaxation import RelaxedTokens, expected_embedding

# Gradients of logits that are kept until the output layer's is made, where a step reads all of it; 64 MiB of float32.
KEPT_ELEMENTS = 2**24
STEPS_AT_A_TIME = 32
ROWS_AT_A_TIME = 4096  # rows of a table whose gradient is made in one product


class TableReader:
    """The output layer and the embeddings of a decoder, as its steps read them.

    What the steps return has a gradient for the weight and the bias of the output layer, for the table, and for the
    inputs, as if each step had computed all logits and read the whole table. It can be differentiated as often as the
    graph is kept, but not twice.

    Args:
        weight: the output layer, shape `(vocab, dim)`.
        bias: shape `(vocab,)`, or `None`.
        table: the embeddings, shape `(rows, embedding_dim)`; it may be `weight` itself.
        padding: row of the table that embeddings give no gradient, as in `torch.nn.Embedding`.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, table: Tensor, *, padding: int | None = None):
        self.given, self.padding = (weight, bias, table), padding
        self.weight, self.table = weight.detach(), table.detach()
        self._read: list[_Step] = []
        self._zeros: list[tuple[Tensor, Tensor]] = []
        self._cast: Tensor | None = None  # the weight in the precision of the logits

    def logits(self, hidden: Tensor, logits: Tensor, ids: Tensor | None) -> Tensor:
        """Logits with their gradient, in float32 at least; begins a step.

        Args:
            hidden: inputs of the output layer, shape `(batch, dim)`. A step may have fewer rows than those before it.
            logits: its outputs for them, without a gradient, shape `(batch, vocab)`.
            ids: tokens whose logits are returned, shape `(batch, k)`, each at most once in a row; `None` for all.

        Returns:
            Shape `(batch, k)` or `(batch, vocab)`.
        """
        wide = torch.promote_types(logits.dtype, torch.float32)
        columns = logits.shape[1] if ids is None else ids.shape[1]
        if len(self._read) == len(self._zeros):
            # Each step adds a zero of its own. Its gradient comes back to `_Zeros` when all of these steps are through.
            steps = min(max(1, KEPT_ELEMENTS // (len(logits) * columns)), STEPS_AT_A_TIME)
            self._read, sizes = [], (len(logits), columns, wide, steps)
            zeros = _Zeros.apply(*self.given, self._read, self.padding, sizes)
            self._zeros = list(zip(zeros[:steps], zeros[steps:], strict=True))
        zero = self._zeros[len(self._read)][0][: len(logits)]
        self._read.append(_Step(hidden.detach(), ids, logits.dtype))
        if ids is not None:
            return _Chosen.apply(hidden, zero, logits, ids, self.weight)
        if self._cast is None or self._cast.dtype != logits.dtype:
            self._cast = self.weight.to(logits.dtype)
        return _All.apply(hidden, zero, logits, self._cast)

    def embedding(self, tokens: RelaxedTokens) -> Tensor:
        """Mean of the table's rows with the tokens' weights, shape `(batch, embedding_dim)`; ends a step.

        Args:
            tokens: relaxed logits of this step.
        """
        step = self._read[-1]
        step.weights, step.tokens = tokens.weights.detach(), tokens.ids
        mean = expected_embedding(tokens, self.table)
        step.mean_dtype = mean.dtype
        zero = self._zeros[len(self._read) - 1][1][: len(mean)]
        return mean + zero.to(mean.dtype)


class _Step:
    """What a step has read: inputs and tokens of the output layer, and weights and tokens of the mean of embeddings."""

    def __init__(self, hidden: Tensor, ids: Tensor | None, dtype: torch.dtype):
        self.hidden, self.ids, self.dtype = hidden, ids, dtype
        self.weights: Tensor | None = None
        self.tokens: Tensor | None = None
        self.mean_dtype = dtype


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


class _All(torch.autograd.Function):
    """All logits; backward it multiplies with the output layer, and hands the gradient on to `zero`."""

    @staticmethod
    def forward(ctx, hidden, zero, logits, weight):
        ctx.save_for_backward(weight)
        ctx.dtype = hidden.dtype
        return logits.to(zero.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        (weight,) = ctx.saved_tensors
        of_hidden = (gradient.to(weight.dtype) @ weight).to(ctx.dtype) if ctx.needs_input_grad[0] else None
        return of_hidden, gradient, None, None


def _mean_of_rows(ids: Tensor, table: Tensor, weights: Tensor) -> Tensor:
    if table.dtype in (torch.float32, torch.float64):
        return F.embedding_bag(ids, table, per_sample_weights=weights.to(table.dtype), mode="sum")
    return torch.bmm(weights[:, None], table[ids].to(weights.dtype))[:, 0]


class _Zeros(torch.autograd.Function):
    """A zero for the logits and one for the mean embedding of every step; backward it adds up what they read."""

    @staticmethod
    def forward(ctx, weight, bias, table, read, padding, sizes):
        batch, columns, wide, steps = sizes
        ctx.set_materialize_grads(False)
        ctx.read, ctx.steps, ctx.padding, ctx.same = read, steps, padding, weight is table
        ctx.rows = (len(weight), len(table))
        ctx.dtypes = tuple(None if tensor is None else tensor.dtype for tensor in (weight, bias, table))
        logits = [weight.new_zeros((), dtype=wide).expand(batch, columns) for _ in range(steps)]
        return (*logits, *(table.new_zeros(()).expand(batch, table.shape[1]) for _ in range(steps)))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *gradients):
        read, fed = [], []
        for step, of_logits, of_mean in zip(ctx.read, gradients, gradients[ctx.steps :], strict=False):
            rows = len(step.hidden)
            if of_logits is not None:
                read.append(_Product(step.ids, of_logits[:rows], step.hidden, step.dtype))
            if of_mean is not None:
                fed.append(_Product(step.tokens, step.weights, of_mean[:rows], step.mean_dtype))
        (needs_weight, needs_bias, needs_table), (dtype, bias_dtype, table_dtype) = ctx.needs_input_grad[:3], ctx.dtypes
        of_weight = of_bias = of_table = None
        if ctx.same:
            of_weight = _summed(ctx.rows[0], read, fed, ctx.padding, dtype) if needs_weight else None
        else:
            of_weight = _summed(ctx.rows[0], read, [], None, dtype) if needs_weight else None
            of_table = _summed(ctx.rows[1], [], fed, ctx.padding, table_dtype) if needs_table else None
        if needs_bias and read:
            of_bias = sum(product.factor_sums(ctx.rows[0]) for product in read).to(bias_dtype)
        return of_weight, of_bias, of_table, None, None, None


class _Product:
    """A term `factors.T @ vectors` of a table's gradient, of all its rows or of those in `ids`.

    Attributes:
        ids: rows, shape `(batch, k)`; `None` for all.
        factors: shape `(batch, k)` or `(batch, rows)`.
        vectors: shape `(batch, dim)`.
        dtype: precision of a product of all rows.
    """

    def __init__(self, ids: Tensor | None, factors: Tensor, vectors: Tensor, dtype: torch.dtype):
        self.ids, self.factors, self.vectors, self.dtype = ids, factors, vectors, dtype

    def factor_sums(self, rows: int) -> Tensor:
        """The factors of each row, added up, shape `(rows,)`."""
        if self.ids is None:
            return self.factors.sum(dim=0)
        return self.factors.new_zeros(rows).index_add_(0, self.ids.flatten(), self.factors.flatten())

    def without(self, row: int) -> "_Product":
        """The same without a row; for terms of chosen rows."""
        assert self.ids is not None
        return _Product(self.ids, self.factors.masked_fill(self.ids == row, 0), self.vectors, self.dtype)


def _summed(
    rows: int, read: list[_Product], fed: list[_Product], padding: int | None, dtype: torch.dtype
) -> Tensor | None:
    """The gradient of a table of `rows` rows, `None` without any term; `fed` terms leave out the row `padding`."""
    if padding is not None:
        fed = [product if product.ids is None else product.without(padding) for product in fed]
    whole = [product for product in (*read, *fed) if product.ids is None]
    few = [product for product in (*read, *fed) if product.ids is not None]
    total = _added_products(rows, whole, dtype) if whole else None
    if total is not None and padding is not None and any(product.ids is None for product in fed):
        kept = [product for product in read if product.ids is None]
        total[padding] = sum(product.factors[:, padding].to(total) @ product.vectors.to(total) for product in kept)
    if few:
        added = _added_rows(rows, few, dtype)
        total = added if total is None else total.add_(added)
    return total


def _added_products(rows: int, products: list[_Product], dtype: torch.dtype) -> Tensor:
    """The sum of products of all rows, some thousand rows at a time."""
    matmul_dtype = products[0].dtype
    vectors = torch.cat([product.vectors.to(matmul_dtype) for product in products])  # (steps * batch, dim)
    total = vectors.new_empty(rows, vectors.shape[1], dtype=dtype)
    for start in range(0, rows, ROWS_AT_A_TIME):
        part = slice(start, start + ROWS_AT_A_TIME)
        factors = torch.cat([product.factors[:, part].to(matmul_dtype) for product in products])
        total[part] = factors.T @ vectors
    return total


def _added_rows(rows: int, products: list[_Product], dtype: torch.dtype) -> Tensor:
    """The sum of products of chosen rows. Sums are in float32 at least."""
    wide = torch.promote_types(dtype, torch.float32)
    ids = torch.cat([product.ids for product in products if product.ids is not None])
    vectors = torch.cat([product.vectors.to(wide) for product in products])
    factors = torch.cat([product.factors.to(wide) for product in products])
    # Every row is a bag of the vectors that are added to it: a quarter of the time of `index_add_`, and always in the
    # same order. Smaller integers are sorted in half the time.
    values, order = ids.flatten().int().sort(stable=True)
    starts = torch.searchsorted(values, torch.arange(rows, dtype=torch.int32, device=values.device))
    return F.embedding_bag(
        order // ids.shape[1], vectors, starts, per_sample_weights=factors.flatten()[order], mode="sum"
    ).to(dtype)
