"""The log-loss of pairs against pairs whose responses have changed places."""

import itertools
import math

import pytest
import torch

from hf_localgan.models import DbmConfig, DbmModel
from hf_localgan.models.dbm.swap_dbm import swap_loss


@pytest.fixture(params=["dbm", "rbm", "rbm_pair", "learned"])
def model(request):
    torch.manual_seed(0)
    fields = {
        "dbm": {},
        "rbm": {"top_size": 0},
        "rbm_pair": {"energy": "rbm_pair"},
        "learned": {"visible_std": "learned"},
    }
    shape = {"query_size": 3, "response_size": 2, "hidden_size": 4, "top_size": 3}
    model = DbmModel(DbmConfig(**{**shape, **fields[request.param]})).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    return model


def pairs(number: int):
    generator = torch.Generator().manual_seed(1)
    return (torch.randn(number, size, generator=generator, dtype=torch.float64) for size in (3, 2))


def test_it_is_the_log_loss_of_the_right_matching_of_two_queries_and_two_responses(model):
    query, response = pairs(2)
    weight = {}
    for order in itertools.permutations(range(2)):
        weight[order] = math.exp(-float(model.free_energy(query, response[list(order)]).sum()))
    expected = -math.log(weight[0, 1] / (weight[0, 1] + weight[1, 0]))
    assert float(swap_loss(model, query, response, mean_field_steps=200)) == pytest.approx(expected, rel=1e-6)


def test_the_mean_is_over_matches_of_the_first_half_with_the_second(model):
    query, response = pairs(7)  # the last one is left over
    loss = swap_loss(model, query, response)
    each = [swap_loss(model, query[[row, row + 3]], response[[row, row + 3]]) for row in range(3)]
    torch.testing.assert_close(loss, torch.stack(each).mean())


def test_what_is_said_of_a_query_or_a_response_alone_cancels(model):
    query, response = pairs(6)
    loss = swap_loss(model, query, response, mean_field_steps=200)
    (bias,) = torch.autograd.grad(loss, model.visible_bias)
    torch.testing.assert_close(bias, torch.zeros_like(bias), atol=1e-9, rtol=0)
    with torch.no_grad():  # without couplings nothing joins the two: both ways are alike
        model.visible_to_hidden.zero_()
        if model.config.energy == "rbm_pair":
            model.visible_to_top.zero_()
    assert float(swap_loss(model, query, response)) == pytest.approx(math.log(2))


def test_the_gradient_against_finite_differences(model):
    query, response = pairs(6)
    couplings = model.visible_to_hidden
    direction = torch.randn(couplings.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    (gradient,) = torch.autograd.grad(swap_loss(model, query, response, mean_field_steps=300), couplings)

    def moved(step: float) -> torch.Tensor:
        with torch.no_grad():
            couplings.add_(direction, alpha=step)
            loss = swap_loss(model, query, response, mean_field_steps=300)
            couplings.add_(direction, alpha=-step)
        return loss

    torch.testing.assert_close((moved(1e-5) - moved(-1e-5)) / 2e-5, (gradient * direction).sum(), rtol=1e-5, atol=1e-8)


def test_responses_to_one_query_are_not_held_against_each_other(model):
    query, response = pairs(4)
    query[2] = query[0]
    loss = swap_loss(model, query, response)
    torch.testing.assert_close(loss, swap_loss(model, query[[1, 3]], response[[1, 3]]))
    assert float(swap_loss(model, query[[0, 2]], response[[0, 2]])) == 0
    assert float(swap_loss(model, query[:1], response[:1])) == 0
    query[2] *= 1 + 4 * torch.finfo(query.dtype).eps  # the same query to rounding, as whitening leaves it
    torch.testing.assert_close(swap_loss(model, query, response), loss)
    assert float(swap_loss(model, query[[0, 2]], response[[0, 2]])) == 0
