"""The centre of a query's responses, and the radius around it."""

import math

import pytest
import torch

CONVERGED = {"mean_field_steps": 5000, "mean_field_tolerance": 1e-14}
FORMS = pytest.mark.parametrize(
    "fields", [{}, {"visible_std": "learned"}, {"top_size": 0}, {"energy": "rbm_pair"}], ids=str
)


@FORMS
def test_the_centre_is_a_stationary_point_and_a_fixed_point(tiny_dbm, pairs, fields):
    model = tiny_dbm(**fields, **CONVERGED)
    query, _ = pairs(model, 20)
    center = model.center(query).requires_grad_()
    (gradient,) = torch.autograd.grad(model.free_energy(query, center).sum(), center)
    assert gradient.abs().max() < 1e-9
    means, weights = model.mean_field(query, center.detach()), model._weights()
    torch.testing.assert_close(weights.response_mean(means.hidden, means.top), center, rtol=0, atol=1e-9)
    # and a lowest point: every displacement costs energy
    for seed in range(5):
        away = center + 0.05 * torch.randn(20, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert (model.radius(query, away) > 0).all()


def test_the_centre_by_hand_in_one_pass(tiny_dbm):
    # One unit everywhere: W = (2, 3), c1 = -1, b = (5, 7). At q = 1 the hidden unit is on with probability
    # sigmoid(2 * 1 - 1) = sigmoid(1), the response's mean is 7 + 3 sigmoid(1).
    model = tiny_dbm(query_size=1, response_size=1, hidden_size=1, top_size=1)
    with torch.no_grad():
        model.visible_to_hidden.copy_(torch.tensor([[2.0, 3.0]]))
        model.hidden_bias.fill_(-1)
        model.visible_bias.copy_(torch.tensor([5.0, 7.0]))
    query = torch.ones(1, 1, dtype=torch.float64)
    assert model.center(query, "single_pass").item() == pytest.approx(7 + 3 / (1 + math.exp(-1)))
    # With s = (1/2, 2): the input is W q / s^2 - 1 = 8 - 1, the mean stays b + W' hq.
    learned = tiny_dbm(query_size=1, response_size=1, hidden_size=1, top_size=1, visible_std="learned")
    learned.load_state_dict(model.state_dict() | {"visible_log_std": torch.tensor([0.5, 2.0]).log()})
    assert learned.center(query, "single_pass").item() == pytest.approx(7 + 3 / (1 + math.exp(-7)))


def test_the_centre_of_a_pair_by_hand_in_one_pass(tiny_dbm):
    # The second RBM: W' = (1, -4), c2 = 2, b' = (0, 1): sigmoid(1 + 2), mean 1 - 4 sigmoid(3); both have precision 1.
    model = tiny_dbm(query_size=1, response_size=1, hidden_size=1, top_size=1, energy="rbm_pair")
    with torch.no_grad():
        model.visible_to_hidden.copy_(torch.tensor([[2.0, 3.0]]))
        model.visible_to_top.copy_(torch.tensor([[1.0, -4.0]]))
        model.hidden_bias.fill_(-1)
        model.top_bias.fill_(2)
        model.visible_bias.copy_(torch.tensor([5.0, 7.0]))
        model.top_visible_bias.copy_(torch.tensor([0.0, 1.0]))
    first, second = 7 + 3 / (1 + math.exp(-1)), 1 - 4 / (1 + math.exp(-3))
    actual = model.center(torch.ones(1, 1, dtype=torch.float64), "single_pass").item()
    assert actual == pytest.approx((first + second) / 2)


def test_without_couplings_the_centre_is_the_bias_and_the_radius_half_a_square(tiny_dbm, pairs):
    model = tiny_dbm(visible_std="learned")
    query, response = pairs(model)
    with torch.no_grad():
        model.visible_to_hidden.zero_()
    bias, std = model.visible_bias[2:].detach(), model.visible_log_std[2:].exp().detach()
    for method in ("mean_field", "single_pass"):
        torch.testing.assert_close(model.center(query, method), bias.expand(5, 3))
    expected = ((response - bias) / std).square().sum(dim=1) / 2
    torch.testing.assert_close(model.radius(query, response), expected)


def test_the_radius_is_a_difference_and_its_centre_a_constant(tiny_dbm, pairs):
    model = tiny_dbm(0, 1.5)
    query, response = pairs(model, 40)
    center = model.center(query)
    assert not model.radius(query, center).any()
    expected = model.free_energy(query, response) - model.free_energy(query, center)
    torch.testing.assert_close(model.radius(query, response), expected)
    # Measured from a point that is no centre it has both signs.
    assert 0 < (model.radius(query, response, torch.zeros_like(response)) < 0).sum() < 40
    point = center.clone().requires_grad_()
    response.requires_grad_()
    given, both = torch.autograd.grad(model.radius(query, response, point).sum(), [response, point], allow_unused=True)
    (alone,) = torch.autograd.grad(model.free_energy(query, response).sum(), response)
    torch.testing.assert_close(given, alone)
    assert both is None


def test_it_converges_where_two_hundred_steps_are_too_few(tiny_dbm):
    # One unit of each kind, W = (0, w), U = 0, c1 = -w^2 / 2, b = 0: the ascent is m <- sigmoid(w^2 (m - 1/2)).
    # By symmetry 1/2 is a fixed point, and with w^2 = 3.96 an error shrinks by w^2 / 4 = 0.99 a step: from 1/2 + e it
    # takes ln(1e-6 / (0.01 e)) / ln 0.99, several hundred steps, until a step is below 1e-6.
    model = tiny_dbm(query_size=1, response_size=1, hidden_size=1, top_size=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.visible_to_hidden[0, 1] = 3.96**0.5
        model.hidden_bias.fill_(-3.96 / 2)
    query = torch.zeros(1, 1, dtype=torch.float64)
    expected = 3.96**0.5 / 2
    assert model.center(query).item() == pytest.approx(expected, abs=1e-3)
    assert abs(model.center(query, steps=200).item() - expected) > 1e-2


def test_neighbours_do_not_move_a_centre(tiny_dbm, pairs):
    model = tiny_dbm(0, 1.5)
    query, _ = pairs(model, 30)
    together = model.center(query)
    for i in (0, 7, 29):
        torch.testing.assert_close(model.center(query[i : i + 1])[0], together[i], rtol=0, atol=1e-12)


def test_another_method_and_another_shape_are_refused(tiny_dbm, pairs):
    model = tiny_dbm()
    query, response = pairs(model)
    with pytest.raises(ValueError, match='`method` must be "mean_field" or "single_pass", got "mode"'):
        model.center(query, "mode")
    with pytest.raises(ValueError, match=r"`query` must have shape \(batch, 2\), got \(5, 3\)"):
        model.center(response)
