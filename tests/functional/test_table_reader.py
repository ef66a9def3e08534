"""Tables that the steps of a decoder read: values and gradients are those of whole tables at each step."""

import pytest
import torch
import torch.nn.functional as F

from hf_localgan.functional import table_reader
from hf_localgan.functional.relaxation import likeliest, relax_tokens
from hf_localgan.functional.table_reader import TableReader

BATCH, VOCAB, DIM, K, STEPS = 3, 11, 5, 4, 3


class Decoder:
    """A chain of steps whose inputs are made of the embedding before.

    Args:
        mode: "few" reads the rows of few tokens, "whole" all rows, "mixed" all logits and few embeddings.
    """

    def __init__(self, mode="few", dtype=torch.float64, tied=False, biased=True, padding=None):
        generator = torch.Generator().manual_seed(0)

        def draw(*shape):
            return torch.randn(*shape, dtype=torch.float64, generator=generator).to(dtype).requires_grad_()

        self.weight, self.first, self.mix = draw(VOCAB, DIM), draw(BATCH, DIM), draw(DIM, DIM)
        self.bias = draw(VOCAB) if biased else None
        self.table = self.weight if tied else draw(VOCAB, DIM)
        self.mode, self.padding = mode, padding

    @property
    def leaves(self):
        given = {id(leaf): leaf for leaf in (self.weight, self.table, self.bias, self.first, self.mix)}
        return [leaf for leaf in given.values() if leaf is not None]

    def noted(self):
        tables = TableReader(self.weight, self.bias, self.table, padding=self.padding)
        return self._run(tables.logits, tables.embedding)

    def plain(self):
        def logits_of(hidden, logits, ids):
            logits = F.linear(hidden, self.weight, self.bias)
            return logits if ids is None else logits.gather(-1, ids)

        def embedding(tokens):
            ids = torch.arange(VOCAB).expand(BATCH, -1) if tokens.ids is None else tokens.ids
            rows = F.embedding(ids, self.table, padding_idx=self.padding)
            return (tokens.weights[:, :, None] * rows).sum(dim=1)

        return self._run(logits_of, embedding)

    def _run(self, logits_of, embedding):
        """The weights of some tokens in all steps, and, where all logits are read, of one logit in all."""
        hidden, found = self.first, []
        for _ in range(STEPS):
            hidden = torch.tanh(hidden @ self.mix)
            with torch.no_grad():
                logits = F.linear(hidden, self.weight, self.bias)
            ids = None if self.mode == "whole" else likeliest(logits, K)
            if self.mode == "mixed":
                every = logits_of(hidden, logits, None)
                found.append(every.logsumexp(dim=-1, keepdim=True).expand(-1, K))
                chosen = every.gather(-1, ids)
            else:
                chosen = logits_of(hidden, logits, ids)
            tokens = relax_tokens(chosen, temperature=0.7, ids=ids)
            found.append(tokens.weights[:, :K])
            hidden = embedding(tokens)
        return torch.stack(found)


def loss_of(run):
    target = torch.randn(run.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return (run * target.to(run.dtype)).sum()


MODES = pytest.mark.parametrize("mode", ["few", "whole", "mixed"])
FORMS = {
    "two tables": {}, "without a bias": {"biased": False}, "tied": {"tied": True},
    "tied, padding": {"tied": True, "padding": 2}, "two tables, padding": {"padding": 2},
}  # fmt: skip


@MODES
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kept", [2**24, 2 * BATCH * VOCAB, 1])
def test_values_and_gradients_are_those_of_plain_steps(mode, form, kept, monkeypatch):
    monkeypatch.setattr(table_reader, "KEPT_ELEMENTS", kept)  # all steps together, two, one
    monkeypatch.setattr(table_reader, "ROWS_AT_A_TIME", 4)
    decoder = Decoder(mode, **FORMS[form])
    runs = decoder.noted(), decoder.plain()
    torch.testing.assert_close(*runs, rtol=1e-12, atol=1e-13)
    gradients = [torch.autograd.grad(loss_of(run), decoder.leaves) for run in runs]
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-12)


@MODES
@pytest.mark.parametrize("form", [form for form in FORMS if "padding" not in form])
def test_gradients_against_finite_differences(mode, form):
    decoder = Decoder(mode, **FORMS[form])
    torch.autograd.gradcheck(lambda *leaves: decoder.noted(), decoder.leaves)


@MODES
def test_in_single_precision_the_error_is_one_of_rounding(mode):
    found = []
    for dtype in (torch.float32, torch.float64):
        decoder = Decoder(mode, dtype, tied=True)
        loss = loss_of(decoder.noted())
        found.append([gradient.double() for gradient in torch.autograd.grad(loss, decoder.leaves)])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_rows_that_nobody_read_have_no_gradient():
    decoder = Decoder()
    rows = TableReader(decoder.weight, decoder.bias, decoder.table)
    ids = torch.tensor([[1, 3], [3, 4], [1, 7]])
    rows.logits(decoder.first, torch.zeros(BATCH, VOCAB, dtype=torch.float64), ids).sum().backward()
    assert decoder.weight.grad.abs().sum(dim=1).nonzero().flatten().tolist() == [1, 3, 4, 7]
    assert decoder.bias.grad.tolist() == [0, 2, 0, 2, 1, 0, 0, 1, 0, 0, 0]
    assert decoder.table.grad is None  # no step has ended


@MODES
def test_a_graph_that_is_kept_gives_the_same_gradient_again_and_again(mode):
    decoder = Decoder(mode, tied=True)
    loss = loss_of(decoder.noted())
    torch.autograd.grad(loss, decoder.first, retain_graph=True)  # for something else, the tables left out
    first = torch.autograd.grad(loss, decoder.leaves, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(loss, decoder.leaves), first, rtol=0, atol=0)


@MODES
def test_frozen_tables_hand_the_gradient_on(mode):
    decoder = Decoder(mode)
    expected = torch.autograd.grad(loss_of(decoder.plain()), (decoder.first, decoder.mix))
    for leaf in (decoder.weight, decoder.bias, decoder.table):
        leaf.requires_grad_(False)
    found = torch.autograd.grad(loss_of(decoder.noted()), (decoder.first, decoder.mix))
    torch.testing.assert_close(found, expected)


@MODES
def test_weights_that_changed_before_the_backward_are_noticed(mode):
    decoder = Decoder(mode)
    loss = decoder.noted().square().sum()
    with torch.no_grad():
        decoder.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@MODES
def test_a_second_derivative_is_refused(mode):
    decoder = Decoder(mode)
    (gradient,) = torch.autograd.grad(decoder.noted().square().sum(), decoder.first, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
