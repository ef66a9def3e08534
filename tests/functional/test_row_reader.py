"""Rows that the steps of a decoder read: values and gradients are those of whole tables."""

import pytest
import torch
import torch.nn.functional as F

from hf_localgan.functional.relaxation import likeliest, relax_tokens
from hf_localgan.functional.row_reader import RowReader

BATCH, VOCAB, DIM, K, STEPS = 3, 11, 5, 4, 3


class Decoder:
    """A chain of steps whose inputs are made of the embedding before; few rows or whole tables."""

    def __init__(self, dtype=torch.float64, tied=False, biased=True, padding=None):
        generator = torch.Generator().manual_seed(0)

        def draw(*shape):
            return torch.randn(*shape, dtype=torch.float64, generator=generator).to(dtype).requires_grad_()

        self.weight, self.first, self.mix = draw(VOCAB, DIM), draw(BATCH, DIM), draw(DIM, DIM)
        self.bias = draw(VOCAB) if biased else None
        self.table = self.weight if tied else draw(VOCAB, DIM)
        self.padding = padding

    @property
    def leaves(self):
        given = {id(leaf): leaf for leaf in (self.weight, self.table, self.bias, self.first, self.mix)}
        return [leaf for leaf in given.values() if leaf is not None]

    def few(self):
        sizes = {"batch": BATCH, "k": K, "steps": STEPS + 2}  # a rollout may end early
        rows = RowReader(self.weight, self.bias, self.table, **sizes, padding=self.padding)
        return self._run(rows.logits, rows.embedding)

    def whole(self):
        def logits_of(hidden, logits, ids):
            return F.linear(hidden, self.weight, self.bias).gather(-1, ids)

        def embedding(tokens):
            rows = F.embedding(tokens.ids, self.table, padding_idx=self.padding)
            return (tokens.weights[:, :, None] * rows).sum(dim=1)

        return self._run(logits_of, embedding)

    def _run(self, logits_of, embedding):
        hidden, found = self.first, []
        for _ in range(STEPS):
            hidden = torch.tanh(hidden @ self.mix)
            with torch.no_grad():
                logits = F.linear(hidden, self.weight, self.bias)
            ids = likeliest(logits, K)
            tokens = relax_tokens(logits_of(hidden, logits, ids), temperature=0.7, ids=ids)
            found.append(tokens.weights)
            hidden = embedding(tokens)
        return torch.stack(found)


TARGET = torch.randn(STEPS, BATCH, K, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
FORMS = {
    "two tables": {}, "without a bias": {"biased": False}, "tied": {"tied": True},
    "tied, padding": {"tied": True, "padding": 2}, "two tables, padding": {"padding": 2},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_values_and_gradients_are_those_of_whole_tables(form):
    decoder = Decoder(**FORMS[form])
    few, whole = decoder.few(), decoder.whole()
    assert torch.equal(few, whole)
    gradients = [torch.autograd.grad((run * TARGET).sum(), decoder.leaves) for run in (few, whole)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("form", [form for form in FORMS if "padding" not in form])
def test_gradients_against_finite_differences(form):
    decoder = Decoder(**FORMS[form])
    torch.autograd.gradcheck(lambda *leaves: decoder.few(), decoder.leaves)


def test_in_single_precision_the_error_is_one_of_rounding():
    found = []
    for dtype in (torch.float32, torch.float64):
        decoder = Decoder(dtype, tied=True)
        loss = (decoder.few() * TARGET.to(dtype)).sum()
        found.append([gradient.double() for gradient in torch.autograd.grad(loss, decoder.leaves)])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_rows_that_nobody_read_have_no_gradient():
    decoder = Decoder()
    rows = RowReader(decoder.weight, decoder.bias, decoder.table, batch=BATCH, k=2, steps=1)
    ids = torch.tensor([[1, 3], [3, 4], [1, 7]])
    rows.logits(decoder.first, torch.zeros(BATCH, VOCAB, dtype=torch.float64), ids).sum().backward()
    assert decoder.weight.grad.abs().sum(dim=1).nonzero().flatten().tolist() == [1, 3, 4, 7]
    assert decoder.bias.grad.tolist() == [0, 2, 0, 2, 1, 0, 0, 1, 0, 0, 0]
    assert decoder.table.grad is None  # no step has ended


def test_a_graph_that_is_kept_gives_the_same_gradient_again_and_again():
    decoder = Decoder(tied=True)
    loss = (decoder.few() * TARGET).sum()
    torch.autograd.grad(loss, decoder.first, retain_graph=True)  # for something else, the tables left out
    first = torch.autograd.grad(loss, decoder.leaves, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(loss, decoder.leaves), first, rtol=0, atol=0)


def test_frozen_tables_hand_the_gradient_on():
    decoder = Decoder()
    expected = torch.autograd.grad((decoder.whole() * TARGET).sum(), (decoder.first, decoder.mix))
    for leaf in (decoder.weight, decoder.bias, decoder.table):
        leaf.requires_grad_(False)
    found = torch.autograd.grad((decoder.few() * TARGET).sum(), (decoder.first, decoder.mix))
    torch.testing.assert_close(found, expected)


def test_weights_that_changed_before_the_backward_are_noticed():
    decoder = Decoder()
    loss = decoder.few().square().sum()
    with torch.no_grad():
        decoder.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_second_derivative_is_refused():
    decoder = Decoder()
    (gradient,) = torch.autograd.grad(decoder.few().square().sum(), decoder.first, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
