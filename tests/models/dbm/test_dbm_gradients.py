"""Gradients of the free energy and of the likelihood, against finite differences and against expectations."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from torch.func import functional_call

CONVERGED = {"mean_field_steps": 5000, "mean_field_tolerance": 1e-15}
FORMS = pytest.mark.parametrize(
    "fields", [{}, {"visible_std": "learned"}, {"top_size": 0}, {"energy": "rbm_pair"}, {"energy": "printed"}], ids=str
)


@FORMS
def test_gradients_agree_with_finite_differences_of_the_converged_free_energy(tiny_dbm, pairs, fields):
    # `gradcheck` runs the mean field anew at every displaced point, so its numbers are whole derivatives.
    model = tiny_dbm(**fields, **CONVERGED)
    query, response = (vectors.requires_grad_() for vectors in pairs(model, 2))
    tolerances = {"eps": 1e-5, "atol": 1e-8, "rtol": 1e-6}
    assert torch.autograd.gradcheck(model.free_energy, (query, response), **tolerances)
    names, parameters = zip(*model.named_parameters(), strict=True)

    def free_energy(*values):
        given = {"query": query.detach(), "response": response.detach()}
        return functional_call(model, dict(zip(names, values, strict=True)), kwargs=given).free_energy

    used = [p for name, p in model.named_parameters() if p.numel()]
    assert torch.autograd.gradcheck(free_energy, parameters, **tolerances) and used


def test_nothing_is_unrolled(tiny_dbm, pairs):
    # Far from the fixed point the gradient is the partial one, (r - br) - Wqr' mu, and not that of the steps.
    model = tiny_dbm(0, 1.5)
    query, response = pairs(model)
    response.requires_grad_()
    means = model.mean_field(query, response, steps=1)
    assert not any(tensor.requires_grad for tensor in means) and means.residual.max() > 0.05
    (gradient,) = torch.autograd.grad(model.free_energy(query, response, means).sum(), response)
    with torch.no_grad():
        visible = torch.cat([query, response], dim=1)
        fresh = torch.sigmoid(visible @ model.visible_to_hidden.T + means.top @ model.hidden_to_top + model.hidden_bias)
        expected = response - model.visible_bias[2:] - fresh @ model.visible_to_hidden[:, 2:]
    torch.testing.assert_close(gradient, expected)

    def unrolled(response):
        return model.free_energy(query, response, model.mean_field(query, response, steps=1)).sum()

    step = 1e-6 * torch.eye(15, dtype=torch.float64).reshape(15, 5, 3)
    differences = torch.stack([unrolled(response + d) - unrolled(response - d) for d in step]) / 2e-6
    assert (differences.detach() - gradient.flatten()).abs().max() > 1e-3  # so that the two can be told apart


def test_the_unrolled_means_carry_gradients_and_approach_the_fixed_point(tiny_dbm, pairs):
    model = tiny_dbm(**CONVERGED)
    query, response = (vectors.requires_grad_() for vectors in pairs(model, 2))
    converged = model.mean_field(query, response)
    for mean, expected in zip(model.unrolled_means(query, response, 300), converged, strict=False):
        torch.testing.assert_close(mean, expected)
    assert torch.autograd.gradcheck(lambda q, r: model.unrolled_means(q, r, 3), (query, response))
    few = model.mean_field(query, response, steps=4, tolerance=0)
    torch.testing.assert_close(model.unrolled_means(query, response, 4)[1], few.top)  # `hidden` is a half-step ahead
    for parameter in (model.visible_to_hidden, model.hidden_to_top):
        (gradient,) = torch.autograd.grad(model.unrolled_means(query, response)[0].sum(), parameter)
        assert gradient.abs().min() > 0


def test_the_gradient_of_the_likelihood_is_a_difference_of_expectations(tiny_dbm, pairs, joint_energies):
    # d/dtheta of mean F(data) + ln Z = E_data E_posterior[dE/dtheta] - E_model[dE/dtheta], all by enumeration.
    # With unit deviations dE/dW = -hq v', dE/db = b - v, dE/dU = -h hq', dE/dc1 = -hq, dE/dc2 = -h,
    # and E_model[v | hq] = b + W' hq.
    model = tiny_dbm()
    query, response = pairs(model, 7)
    loss = model.exact_free_energy(query, response).mean() + model.exact_log_partition()
    loss.backward()
    visible = torch.cat([query, response], dim=1).numpy()
    energies, hiddens, tops = joint_energies(model, query, response)
    p = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    posterior = np.exp(-energies - logsumexp(-energies, axis=(1, 2), keepdims=True)) / len(visible)

    field = hiddens @ p["visible_to_hidden"]
    log_joint = (hiddens @ p["hidden_bias"] + field @ p["visible_bias"] + (field**2).sum(1) / 2)[:, None]
    log_joint = log_joint + hiddens @ p["hidden_to_top"].T @ tops.T + tops @ p["top_bias"]
    joint = np.exp(log_joint - logsumexp(log_joint))
    mean_visible = p["visible_bias"] + field  # of each state of hq

    expected = {
        "visible_to_hidden": -np.einsum("bjk,ji,bv->iv", posterior, hiddens, visible)
        + np.einsum("jk,ji,jv->iv", joint, hiddens, mean_visible),
        "hidden_to_top": -np.einsum("bjk,kt,ji->ti", posterior, tops, hiddens)
        + np.einsum("jk,kt,ji->ti", joint, tops, hiddens),
        "visible_bias": -visible.mean(axis=0) + joint.sum(axis=1) @ mean_visible,
        "hidden_bias": -posterior.sum(axis=(0, 2)) @ hiddens + joint.sum(axis=1) @ hiddens,
        "top_bias": -posterior.sum(axis=(0, 1)) @ tops + joint.sum(axis=0) @ tops,
    }
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(parameter.grad.numpy(), expected.pop(name), rtol=1e-8, atol=1e-10, err_msg=name)
    assert not expected
