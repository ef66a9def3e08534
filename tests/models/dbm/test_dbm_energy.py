"""Energies and free energies against sums over every state, written out one by one."""

import numpy as np
import pytest
import torch
from scipy.special import expit, logsumexp
from sklearn.neural_network import BernoulliRBM

from hf_localgan.models.dbm import DbmState
from hf_localgan.models.dbm.annealing_dbm import log_marginal

FORMS = pytest.mark.parametrize(
    "fields",
    [
        {},
        {"visible_std": "learned"},
        {"top_size": 0},
        {"top_size": 0, "visible_std": "learned"},
        {"energy": "rbm_pair"},
        {"energy": "printed"},
    ],
    ids=lambda fields: "-".join(map(str, fields.values())) or "dbm",
)
EXACT = [{"top_size": 0}, {"energy": "rbm_pair"}]  # no coupling between the binary layers


@FORMS
def test_energy_and_exact_free_energy_equal_the_sums_written_out(tiny_dbm, pairs, joint_energies, fields):
    model = tiny_dbm(**fields)
    query, response = pairs(model)
    energies, hiddens, tops = joint_energies(model, query, response)
    for j in (0, 5, 15):
        for k in {0, len(tops) - 1}:
            hidden, top = (torch.tensor(states).expand(5, -1) for states in (hiddens[j], tops[k]))
            actual = model.energy(query, response, hidden, top).detach().numpy()
            np.testing.assert_allclose(actual, energies[:, j, k], rtol=1e-12, atol=1e-12)
    expected = -logsumexp(-energies, axis=(1, 2))
    np.testing.assert_allclose(model.exact_free_energy(query, response).detach().numpy(), expected, rtol=1e-12)


@FORMS
def test_the_variational_free_energy_is_a_bound_from_above_and_exact_without_coupling(tiny_dbm, pairs, fields):
    gaps = []
    for seed in range(5):
        model = tiny_dbm(seed, 1.0, **fields)
        query, response = pairs(model, 20, seed)
        gaps.append(model.free_energy(query, response) - model.exact_free_energy(query, response))
    gaps = torch.cat(gaps).detach()
    if fields.get("top_size") == 0 or fields.get("energy") == "rbm_pair":
        assert gaps.abs().max() < 1e-12
    else:
        assert gaps.min() > -1e-12 and gaps.mean() > 1e-3
        assert gaps.mean() < 1  # and not a loose one


def test_the_variational_free_energy_is_the_expected_energy_less_the_entropy(tiny_dbm, pairs, joint_energies):
    model = tiny_dbm()
    query, response = pairs(model)
    means = model.mean_field(query, response, tolerance=1e-14, steps=2000)
    energies, hiddens, tops = joint_energies(model, query, response)
    chances = [  # of each state of a layer, shape (batch, states)
        np.prod(np.where(states[None] == 1, mean.numpy()[:, None], 1 - mean.numpy()[:, None]), axis=2)
        for states, mean in ((hiddens, means.hidden), (tops, means.top))
    ]
    joint = chances[0][:, :, None] * chances[1][:, None]
    expected = (joint * (energies + np.log(joint))).sum(axis=(1, 2))
    np.testing.assert_allclose(model.free_energy(query, response, means).detach().numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("fields", EXACT, ids=str)
def test_means_are_the_exact_marginals_without_coupling(tiny_dbm, pairs, joint_energies, fields):
    model = tiny_dbm(**fields)
    query, response = pairs(model)
    energies, hiddens, tops = joint_energies(model, query, response)
    posterior = np.exp(-energies - logsumexp(-energies, axis=(1, 2), keepdims=True))
    means = model.mean_field(query, response)
    np.testing.assert_allclose(means.hidden.numpy(), np.einsum("bjk,ji->bi", posterior, hiddens), rtol=1e-10)
    np.testing.assert_allclose(means.top.numpy(), np.einsum("bjk,ki->bi", posterior, tops), rtol=1e-10)
    assert means.steps.tolist() == [1] * 5 and not means.residual.any()


@FORMS
def test_conditionals_agree_with_the_joint(tiny_dbm, pairs, joint_energies, fields):
    # p(hq_j = 1 | v, h) from the joint for one h, against the sigmoid of the input; and the same for h given hq.
    model, (query, response) = tiny_dbm(**fields), pairs(tiny_dbm(**fields))
    energies, hiddens, tops = joint_energies(model, query, response)
    weights, visible = model._weights(), torch.cat([query, response], dim=1)
    k, j = len(tops) - 1, 6
    given_top = np.exp(-energies[:, :, k] - logsumexp(-energies[:, :, k], axis=1, keepdims=True)) @ hiddens
    top = torch.tensor(tops[k]).expand(5, -1)
    inputs = weights.hidden_input(visible) + weights.from_top(top)
    np.testing.assert_allclose(expit(inputs.detach().numpy()), given_top, rtol=1e-10)
    given_hidden = np.exp(-energies[:, j] - logsumexp(-energies[:, j], axis=1, keepdims=True)) @ tops
    inputs = weights.top_input(visible, torch.tensor(hiddens[j]).expand(5, -1))
    np.testing.assert_allclose(expit(inputs.detach().numpy()), given_hidden, rtol=1e-10)


@pytest.mark.parametrize("fields", [{}, {"visible_std": "learned"}, {"energy": "rbm_pair"}], ids=str)
def test_visible_units_given_the_others_are_normal_with_the_stated_mean_and_deviation(tiny_dbm, fields):
    # The energy's gradient for v must be (v - mean) / std^2, at any v.
    model, weights = tiny_dbm(**fields), tiny_dbm(**fields)._weights()
    hidden, top = torch.tensor([[1.0, 0, 1, 1]]).double(), torch.tensor([[0.0, 1, 1]]).double()
    visible = torch.randn(1, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3), requires_grad=True)
    (gradient,) = torch.autograd.grad(model.energy(visible[:, :2], visible[:, 2:], hidden, top).sum(), visible)
    expected = (visible - weights.visible_mean(hidden, top)) / torch.as_tensor(weights.noise_std) ** 2
    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(weights.response_mean(hidden, top), weights.visible_mean(hidden, top)[:, 2:])


def test_without_top_couplings_it_is_a_gaussian_bernoulli_rbm_in_closed_form(tiny_dbm, pairs):
    # F = |v - b|^2 / 2 - sum softplus(W v + c1) - sum softplus(c2), and the top layer only adds its constant.
    model = tiny_dbm()
    query, response = pairs(model)
    with torch.no_grad():
        model.hidden_to_top.zero_()
    p = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    v = torch.cat([query, response], dim=1).numpy()
    expected = ((v - p["visible_bias"]) ** 2).sum(1) / 2
    expected -= np.logaddexp(0, v @ p["visible_to_hidden"].T + p["hidden_bias"]).sum(1)
    expected -= np.logaddexp(0, p["top_bias"]).sum()
    for method in (model.free_energy, model.exact_free_energy):
        np.testing.assert_allclose(method(query, response).detach().numpy(), expected, rtol=1e-12)
    bare = tiny_dbm(top_size=0)
    with torch.no_grad():
        for name in ("visible_to_hidden", "hidden_bias", "visible_bias"):
            getattr(bare, name).copy_(getattr(model, name))
    expected += np.logaddexp(0, p["top_bias"]).sum()
    np.testing.assert_allclose(bare.free_energy(query, response).detach().numpy(), expected, rtol=1e-12)


def test_the_top_layer_alone_agrees_with_scikit_learn(tiny_dbm):
    # Without W, `hidden` and `top` are a Bernoulli RBM: p*(hq) = exp(-its free energy), and F at v = b is -ln of its Z.
    model = tiny_dbm()
    with torch.no_grad():
        model.visible_to_hidden.zero_()
    rbm = BernoulliRBM(n_components=3)
    rbm.components_ = model.hidden_to_top.detach().numpy()
    rbm.intercept_hidden_, rbm.intercept_visible_ = model.top_bias.detach().numpy(), model.hidden_bias.detach().numpy()
    states = model.hidden_states()
    expected = -rbm._free_energy(states.numpy())
    gaussian = 5 / 2 * np.log(2 * np.pi)
    actual = log_marginal(model._weights().binary_layers(), states).detach().numpy()
    np.testing.assert_allclose(actual - gaussian, expected, rtol=1e-12, atol=1e-12)
    at_bias = model.exact_free_energy(*model.visible_bias[None].split([2, 3], dim=1))
    np.testing.assert_allclose(at_bias.detach().numpy(), -logsumexp(expected), rtol=1e-12)
    np.testing.assert_allclose(
        expit(model._weights().top_input(None, states).detach().numpy()), rbm._mean_hiddens(states.numpy())
    )


def test_a_pair_of_rbms_adds_their_free_energies(tiny_dbm, pairs):
    pair = tiny_dbm(energy="rbm_pair")
    query, response = pairs(pair)
    total = 0
    for names in (
        ("visible_to_hidden", "hidden_bias", "visible_bias"),
        ("visible_to_top", "top_bias", "top_visible_bias"),
    ):
        one = tiny_dbm(top_size=0, hidden_size=len(getattr(pair, names[1])))
        with torch.no_grad():
            for name, source in zip(("visible_to_hidden", "hidden_bias", "visible_bias"), names, strict=True):
                getattr(one, name).copy_(getattr(pair, source))
        total = total + one.free_energy(query, response)
    torch.testing.assert_close(pair.free_energy(query, response), total)


def test_samples_of_the_mean_field_close_the_gap(tiny_dbm, pairs, joint_energies):
    # In expectation F <= F_samples <= F~, falling with the number of samples. 4000 repeats of one pair; the bounds are
    # 5 standard errors of a mean, so that each fails by chance less than once in a million seeds.
    model = tiny_dbm(7, 1.2)
    query, response = (vectors[:1].repeat(4000, 1) for vectors in pairs(model))
    exact, bound = model.exact_free_energy(query[:1], response[:1]), model.free_energy(query[:1], response[:1])
    generator, means, errors = torch.Generator().manual_seed(0), {}, {}
    for samples in (1, 5, 200):
        values = model.sampled_free_energy(query, response, samples, generator=generator)
        means[samples], errors[samples] = values.mean(), values.std() / 4000**0.5
    assert abs(means[200] - exact) < 5 * errors[200]
    assert means[200] < means[5] - 5 * (errors[5] + errors[200]) and means[5] < means[1] - 5 * (errors[1] + errors[5])
    assert means[1] < bound - 5 * errors[1]  # `top` is summed out

    # One sample: the expectation is sum over hq of Q(hq) (ln Q(hq) - ln sum over h of exp(-E)).
    energies, hiddens, tops = joint_energies(model, query[:1], response[:1])
    given, weights = model.mean_field(query[:1], response[:1]), model._weights()
    visible = torch.cat([query[:1], response[:1]], dim=1)
    q = expit((weights.hidden_input(visible) + weights.from_top(given.top)).detach().numpy())
    chance = np.prod(np.where(hiddens == 1, q, 1 - q), axis=1)
    expected = (chance * (np.log(chance) - logsumexp(-energies[0], axis=1))).sum()
    assert abs(means[1] - expected) < 5 * errors[1]

    first, second = (torch.Generator().manual_seed(4) for _ in range(2))
    with_means = model.sampled_free_energy(query[:1], response[:1], 3, means=given, generator=first)
    assert torch.equal(with_means, model.sampled_free_energy(query[:1], response[:1], 3, generator=second))


@pytest.mark.parametrize("fields", EXACT, ids=str)
def test_nothing_is_sampled_where_the_sum_is_known(tiny_dbm, pairs, fields):
    model = tiny_dbm(**fields)
    values = model.sampled_free_energy(*pairs(model), 1)
    torch.testing.assert_close(values, model.exact_free_energy(*pairs(model)))
    assert not values.requires_grad


def test_an_empty_batch_and_a_single_pair(tiny_dbm, pairs):
    for fields in ({}, *EXACT):
        model = tiny_dbm(**fields)
        for count in (0, 1):
            query, response = pairs(model, count)
            state = DbmState(query, response, *(torch.zeros(count, size) for size in (4, model.config.top_size)))
            values = [model.free_energy(query, response), model.exact_free_energy(query, response)]
            values += [model.sampled_free_energy(query, response), model.radius(query, response)]
            values += [model.energy(*state), model.mean_field(query, response).hidden, model.gibbs(state).query]
            values += [model.center(query), model.center(query, "single_pass"), model(query, response).free_energy]
            assert all(len(value) == count and value.isfinite().all() for value in values)


def test_bad_shapes_are_refused_by_name(tiny_dbm, pairs):
    model = tiny_dbm()
    query, response = pairs(model)
    for method in (model.free_energy, model.exact_free_energy, model.mean_field, model.sampled_free_energy):
        with pytest.raises(ValueError, match=r"`query` must have shape \(batch, 2\), got \(5, 3\)"):
            method(response, response)
        with pytest.raises(ValueError, match=r"`response` must have shape \(batch, 3\), got \(3,\)"):
            method(query, response[0])
        with pytest.raises(ValueError, match="one response for each query, got 4 and 5"):
            method(query, response[:4])
    with pytest.raises(ValueError, match=r"`top` must have shape \(5, 3\), got \(5, 4\)"):
        model.energy(query, response, torch.zeros(5, 4), torch.zeros(5, 4))
    with pytest.raises(ValueError, match=r"`hidden` must have shape \(5, 4\), got \(1, 4\)"):
        model.free_energy(query, response, model.mean_field(query[:1], response[:1]))
    with pytest.raises(ValueError, match="`samples` must be at least 1, got 0"):
        model.sampled_free_energy(query, response, 0)
    large = tiny_dbm(hidden_size=21)
    for method, arguments in ((large.exact_free_energy, (query, response)), (large.hidden_states, ())):
        with pytest.raises(ValueError, match="at most 20 binary units, got 21. Use `free_energy`"):
            method(*arguments)


def test_the_printed_energy_has_no_bound_and_says_so(tiny_dbm, pairs):
    model = tiny_dbm(energy="printed")
    query, response = pairs(model)
    assert model.free_energy(100 * query, 100 * response).mean() < 10 * model.free_energy(query, response).mean() < 0
    state = DbmState(query, response, torch.zeros(5, 4), torch.zeros(5, 3))
    for call, what in (
        (lambda: model.gibbs(state), "Sampling"),
        (lambda: model.initial_state(3), "Sampling"),
        (lambda: model.center(query), "A centre"),
        (lambda: model.radius(query, response), "A centre"),
        (lambda: model.log_partition(), "A partition function"),
        (lambda: model.exact_log_partition(), "A partition function"),
        (lambda: model.log_likelihood(query, response, 0.0), "A likelihood"),
    ):
        with pytest.raises(
            ValueError, match=f"{what} needs an energy with a lower bound, and Eq. 8 as printed has none"
        ):
            call()


def test_the_forward_returns_the_free_energy_and_the_means(tiny_dbm, pairs):
    model = tiny_dbm()
    query, response = pairs(model)
    outputs, means = model(query, response), model.mean_field(query, response)
    torch.testing.assert_close(outputs.free_energy, model.free_energy(query, response))
    for name in means._fields:
        assert torch.equal(outputs[name], getattr(means, name))
    assert torch.equal(model(query, response, return_dict=False)[0], outputs.free_energy)
    for given in ({}, {"query": query}, {"query": query, "response": response, "labels": torch.ones(5, 2).long()}):
        with pytest.raises(ValueError, match="Give either `query` or `input_ids`, and either `response` or `labels`"):
            model(**given)
