"""The learning rules of the three periods: by hand on one or two units, and against exact gradients by enumeration."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from scipy.stats import chisquare

from hf_localgan.models.dbm import Weights
from hf_localgan.models.dbm.annealing_dbm import log_marginal
from hf_localgan.models.dbm.contrastive_dbm import (
    Chains,
    Phase,
    _covariance,
    bottom_loss,
    bottom_means,
    bottom_phases,
    joint_loss,
    joint_phases,
    pair_loss,
    pair_phases,
    top_loss,
    top_phases,
)

JOINT = pytest.mark.parametrize(
    "fields",
    [{}, {"visible_std": "learned"}, {"top_size": 0}, {"top_size": 0, "visible_std": "learned"}],
    ids=["dbm", "dbm-learned", "rbm", "rbm-learned"],
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gradients(model, loss) -> dict[str, torch.Tensor]:
    """Of every parameter; zeros where the loss does not depend on it."""
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    named = zip(model.named_parameters(), found, strict=True)
    return {name: torch.zeros_like(p) if gradient is None else gradient for (name, p), gradient in named}


def exact_chains(model, number: int, seed: int = 0) -> Chains:
    """Independent draws from the model, by enumeration."""
    hidden = model.hidden_states()
    probabilities = log_marginal(Weights(model).binary_layers(), hidden).softmax(dim=0)
    hidden = hidden[torch.multinomial(probabilities, number, replacement=True, generator=generator(seed))]
    top = torch.sigmoid(hidden @ model.hidden_to_top.T + model.top_bias) if model.config.top_size else hidden[:, :0]
    return Chains(hidden, torch.bernoulli(top, generator=generator(seed + 1)))


# ---- the loss ----


@JOINT
def test_the_joint_loss_is_a_difference_of_mean_energies_and_its_gradient_that_of_fixed_states(tiny_dbm, pairs, fields):
    model = tiny_dbm(**fields)
    query, response = pairs(model, 6)
    chains = exact_chains(model, 9)
    positive, negative, _ = joint_phases(
        model, query, response, chains, mean_field_steps=3, gibbs_steps=2, generator=generator()
    )  # fmt: skip
    loss = joint_loss(model, positive, negative)
    at_data = model.energy(query, response, positive.hidden, positive.top).mean()
    # Mean over v given hq: the quadratic term adds the noise's variance, a constant, divided by 2 s^2.
    at_chains = model.energy(*negative.visible.split([2, 3], dim=1), negative.hidden, negative.top).mean()
    inverse = (-2 * model.visible_log_std).exp() if fields.get("visible_std") else torch.ones(5).double()
    expected = at_data - at_chains - (negative.visible_variance * inverse).sum() / 2
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    wanted = gradients(model, expected)
    for name, gradient in gradients(model, loss).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-10, atol=1e-12, msg=name)
        assert gradient.numel() == 0 or gradient.abs().max() > 1e-3 or not fields.get("top_size", 1), name


def test_data_and_chains_count_by_their_own_numbers(tiny_dbm, pairs):
    model = tiny_dbm()
    query, response = pairs(model, 4)
    positive, negative, _ = joint_phases(model, query, response, exact_chains(model, 6), generator=generator())
    twice = [Phase(*(one.repeat(2, 1) for one in phase[:3]), phase[3]) for phase in (positive, negative)]
    loss = joint_loss(model, positive, negative).item()
    assert joint_loss(model, twice[0], negative).item() == pytest.approx(loss, rel=1e-12)
    assert joint_loss(model, positive, twice[1]).item() == pytest.approx(loss, rel=1e-12)


@JOINT
def test_the_expected_update_is_the_exact_gradient_of_the_bound_on_the_log_likelihood(tiny_dbm, pairs, fields):
    # Without a top layer the bound is the likelihood itself. Chains start at exact draws, so that each of 24 batches
    # of 4,000 has the right expectation; 5 standard errors (4.6 of a normal: 23 degrees of freedom) in about 45 numbers
    # fail a right rule once in 500 seeds.
    model = tiny_dbm(3, **fields)
    query, response = pairs(model, 5)
    partition = model.exact_log_partition()
    means = model.mean_field(query, response, steps=2000, tolerance=1e-13)
    exact = gradients(model, model.free_energy(query, response, means).mean() + partition)
    batches = []
    for seed in range(24):
        positive, negative, _ = joint_phases(
            model, query, response, exact_chains(model, 4000, seed), mean_field_steps=400, gibbs_steps=2,
            generator=generator(100 + seed),
        )  # fmt: skip
        batches.append(gradients(model, joint_loss(model, positive, negative)))
    for name, gradient in exact.items():
        if not gradient.numel():
            continue
        drawn = torch.stack([batch[name] for batch in batches])
        error = drawn.std(dim=0) / len(batches) ** 0.5
        assert (drawn.mean(dim=0) - gradient).abs().le(5 * error + 1e-6).all(), name
        assert gradient.abs().max() > 20 * error.max(), name  # a rule that returned 0 would fail


def test_with_exact_posteriors_the_expected_update_is_the_gradient_of_the_log_likelihood(
    tiny_dbm, pairs, joint_energies
):
    model = tiny_dbm(5)
    query, response = pairs(model, 4)
    exact = gradients(model, model.exact_free_energy(query, response).mean() + model.exact_log_partition())
    energies, hiddens, tops = joint_energies(model, query, response)
    posterior = torch.tensor(-energies).flatten(1).softmax(dim=1)
    # Every state of both layers of every pair, in proportion to its probability, as one large weighted phase.
    batches = []
    for seed in range(24):
        states = torch.multinomial(posterior, 4000, replacement=True, generator=generator(seed))
        hidden = torch.tensor(hiddens)[states // len(tops)].flatten(0, 1)
        top = torch.tensor(tops)[states % len(tops)].flatten(0, 1)
        visible = torch.cat([query, response], dim=1).repeat_interleave(4000, dim=0)
        _, negative, _ = joint_phases(
            model, query, response, exact_chains(model, 4000, seed), gibbs_steps=1, generator=generator(seed + 50)
        )
        batches.append(gradients(model, joint_loss(model, Phase(visible, hidden, top), negative)))
    for name, gradient in exact.items():
        drawn = torch.stack([batch[name] for batch in batches])
        error = drawn.std(dim=0) / len(batches) ** 0.5
        assert (drawn.mean(dim=0) - gradient).abs().le(5 * error).all(), name
        assert gradient.abs().max() > 20 * error.max(), name


# ---- the chains ----


@pytest.mark.parametrize("sizes", [{}, {"query_size": 1, "response_size": 2}], ids=["wide", "narrow"])
@pytest.mark.parametrize("fields", [{"visible_std": "learned"}, {"top_size": 0}], ids=["dbm", "rbm"])
def test_chains_reach_the_models_distribution_from_one_state(tiny_dbm, pairs, sizes, fields):
    # 60 sweeps from zeros; at a level of 1e-4.
    model, number = tiny_dbm(2, 0.6, **sizes, **fields), 20_000
    chains = Chains(torch.zeros(number, 4).double(), torch.zeros(number, model.config.top_size).double())
    query, response = pairs(model, 2)
    _, _, chains = joint_phases(model, query, response, chains, gibbs_steps=60, generator=generator(4))
    probabilities = log_marginal(Weights(model).binary_layers(), model.hidden_states()).softmax(dim=0).detach()
    counts = torch.bincount((chains.hidden @ 2.0 ** torch.arange(4).double()).long(), minlength=16)
    assert chisquare(counts, number * probabilities.numpy()).pvalue > 1e-4
    top = torch.sigmoid(model.hidden_states() @ model.hidden_to_top.T + model.top_bias).T @ probabilities
    error = (top * (1 - top) / number).sqrt()
    assert (chains.top.mean(dim=0) - top).abs().le(5 * error).all()


def test_a_chain_enters_with_means_given_its_last_hidden_state(tiny_dbm, pairs):
    model = tiny_dbm(visible_std="learned")
    _, negative, chains = joint_phases(model, *pairs(model), exact_chains(model, 7), generator=generator())
    assert torch.equal(negative.hidden, chains.hidden) and set(chains.hidden.unique().tolist()) == {0.0, 1.0}
    expected = chains.hidden @ model.visible_to_hidden + model.visible_bias
    torch.testing.assert_close(negative.visible, expected.detach())
    torch.testing.assert_close(negative.top, (chains.hidden @ model.hidden_to_top.T + model.top_bias).sigmoid().data)
    torch.testing.assert_close(negative.visible_variance, (2 * model.visible_log_std).exp().detach())
    query, response = Chains(*(states.repeat(20_000, 1) for states in chains)).visible(model, generator())
    drawn = torch.cat([query, response], dim=1).view(20_000, 7, 5)
    assert (drawn.mean(dim=0) - expected).abs().max() < 5 * 2.5 / 20_000**0.5  # deviations are below 2.5
    torch.testing.assert_close(drawn.var(dim=0), negative.visible_variance.expand(7, -1), rtol=0.05, atol=0)


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (3, 3)])
def test_the_noise_that_the_visible_units_put_into_the_hidden_ones_has_their_covariance(shape):
    couplings = torch.randn(shape, generator=generator(), dtype=torch.float64)
    couplings[0] = couplings[-1]  # two units that are always alike: without full rank
    for one in (couplings, couplings.float(), torch.zeros(shape)):
        within, root = _covariance(one)
        torch.testing.assert_close(within, one @ one.T)
        torch.testing.assert_close(root.T @ root, one @ one.T, atol=1e-5, rtol=1e-5)
        assert len(root) <= max(shape)


def test_the_means_at_the_data_are_those_of_the_models_mean_field(tiny_dbm, pairs):
    model = tiny_dbm(visible_std="learned")
    query, response = pairs(model)
    positive, *_ = joint_phases(model, query, response, exact_chains(model, 2), mean_field_steps=4)
    means = model.mean_field(query, response, steps=4, tolerance=0)
    torch.testing.assert_close(positive.hidden, means.hidden)
    torch.testing.assert_close(positive.top, means.top)


def test_one_generator_state_gives_one_result_and_torchs_own_is_left_alone(tiny_dbm, pairs):
    model, state = tiny_dbm(), torch.random.get_rng_state()
    query, response = pairs(model)
    visible = torch.cat([query, response], dim=1)
    runs = []
    for _ in range(2):
        draws = generator(9)
        bottom = bottom_phases(model, visible, steps=2, generator=draws)
        top = top_phases(model, bottom[0].hidden, steps=2, generator=draws)
        runs.append([bottom[1].visible, top[1].hidden])
        runs[-1] += joint_phases(model, query, response, exact_chains(model, 3), generator=draws)[2]
    assert all(torch.equal(first, second) for first, second in zip(*runs, strict=True))
    assert torch.equal(state, torch.random.get_rng_state())


def test_half_precision_around_the_rules_and_in_the_vectors_does_not_reach_the_algebra(tiny_dbm, pairs):
    model = tiny_dbm(visible_std="learned").float()
    query, response = (values.bfloat16() for values in pairs(model, 6))
    visible = torch.cat([query, response], dim=1)

    def losses():
        draws = generator(2)
        bottom = bottom_phases(model, visible, generator=draws)
        top = top_phases(model, bottom[0].hidden, generator=draws)
        *joint, _ = joint_phases(model, query, response, exact_chains(model, 4), generator=draws)
        return [bottom_loss(model, *bottom), top_loss(model, *top), joint_loss(model, *joint)]

    plain = losses()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        around = losses()
    assert [loss.item() for loss in around] == [loss.item() for loss in plain]
    assert {loss.dtype for loss in around} == {torch.float32}


# ---- bottom and top, by hand ----


def set_parameters(model, **values):
    with torch.no_grad():
        for name, value in values.items():
            getattr(model, name).copy_(torch.tensor(value, dtype=torch.float64))
    return model


@pytest.mark.parametrize("top_size", [0, 1])
def test_the_bottom_period_by_hand_on_one_hidden_unit(tiny_dbm, top_size):
    model = tiny_dbm(query_size=1, response_size=1, hidden_size=1, top_size=top_size, visible_std="learned")
    set_parameters(
        model, visible_to_hidden=[[0.6, -1.0]], hidden_bias=[0.2], visible_bias=[0.1, -0.3],
        visible_log_std=[np.log(0.5), np.log(2.0)],
    )  # fmt: skip
    data = torch.tensor([[1.0, 2.0], [-0.5, 0.4]]).double()
    doubled = 2 if top_size else 1  # no top layer, nothing to make up for
    uniform = torch.empty(2, 1, dtype=torch.float64).uniform_(generator=generator(3)).numpy()
    variance = np.array([0.25, 4.0])
    couplings = np.array([0.6, -1.0])
    v = data.numpy()
    means = expit(doubled * (v @ (couplings / variance)) + 0.2)
    drawn = (uniform[:, 0] < means).astype(float)
    again = drawn[:, None] * couplings + [0.1, -0.3]  # not doubled, and without noise
    after = expit(doubled * (again @ (couplings / variance)) + 0.2)

    positive, negative = bottom_phases(model, data, generator=generator(3))
    np.testing.assert_allclose(positive.hidden[:, 0], means)
    np.testing.assert_allclose(negative.visible, again)
    np.testing.assert_allclose(negative.hidden[:, 0], after)
    np.testing.assert_allclose(bottom_means(model, data)[:, 0], means)
    shifted = expit(doubled * (v @ (couplings / variance)) - 0.7)
    np.testing.assert_allclose(bottom_means(model, data, torch.tensor([-0.7]).double())[:, 0], shifted)

    rule = gradients(model, bottom_loss(model, positive, negative))
    np.testing.assert_allclose(
        rule["visible_to_hidden"][0], -((means[:, None] * v).mean(0) - (after[:, None] * again).mean(0)) / variance
    )
    np.testing.assert_allclose(rule["hidden_bias"], -(means.mean() - after.mean()))
    np.testing.assert_allclose(rule["visible_bias"], -(v.mean(0) - again.mean(0)) / variance)
    # d/d ln s of (v - b)^2 / (2 s^2) - h w v / s^2, the reconstruction with its variance.
    bias = np.array([0.1, -0.3])
    at_data = -((v - bias) ** 2).mean(0) + 2 * couplings * (means[:, None] * v).mean(0)
    at_again = -((again - bias) ** 2).mean(0) - variance + 2 * couplings * (after[:, None] * again).mean(0)
    np.testing.assert_allclose(rule["visible_log_std"], (at_data - at_again) / variance)
    assert rule["hidden_to_top"].eq(0).all() and rule["top_bias"].eq(0).all()


def test_the_top_period_by_hand_on_two_hidden_units_and_one_above(tiny_dbm):
    model = tiny_dbm(hidden_size=2, top_size=1)
    set_parameters(model, hidden_to_top=[[0.8, -1.5]], hidden_bias=[0.3, -0.1], top_bias=[0.4])
    data = torch.tensor([[0.9, 0.2], [0.1, 0.6], [0.5, 0.5]]).double()
    uniform = torch.empty(3, 1, dtype=torch.float64).uniform_(generator=generator(1)).numpy()
    couplings, hq = np.array([0.8, -1.5]), data.numpy()
    means = expit(hq @ couplings + 0.4)  # not doubled
    drawn = (uniform[:, 0] < means).astype(float)
    again = expit(2 * drawn[:, None] * couplings + [0.3, -0.1])
    after = expit(again @ couplings + 0.4)

    positive, negative = top_phases(model, data, generator=generator(1))
    np.testing.assert_allclose(positive.hidden, hq)
    np.testing.assert_allclose(positive.top[:, 0], means)
    np.testing.assert_allclose(negative.hidden, again)
    np.testing.assert_allclose(negative.top[:, 0], after)

    loss = top_loss(model, positive, negative)
    energy = [
        (-h * (x @ couplings) - x @ [0.3, -0.1] - 0.4 * h).mean() for h, x in ((means, hq), (after, again))
    ]  # fmt: skip
    assert loss.item() == pytest.approx(energy[0] - energy[1])
    rule = gradients(model, loss)
    expected = -((means[:, None] * hq).mean(0) - (after[:, None] * again).mean(0))
    np.testing.assert_allclose(rule["hidden_to_top"][0], expected)
    np.testing.assert_allclose(rule["hidden_bias"], -(hq.mean(0) - again.mean(0)))
    np.testing.assert_allclose(rule["top_bias"], -(means.mean() - after.mean()))
    assert rule["visible_to_hidden"].eq(0).all() and rule["visible_bias"].eq(0).all()


# ---- a pair of RBMs ----


def test_the_chains_of_a_pair_keep_what_they_are_given_and_its_loss_adds_both(tiny_dbm, pairs):
    model = tiny_dbm(energy="rbm_pair")
    query, response = pairs(model, 6)
    first, second = pair_phases(model, query, response, steps=3, generator=generator())
    assert torch.equal(first[1].visible[:, :2], query) and not torch.equal(first[1].visible[:, 2:], response)
    assert torch.equal(second[1].visible[:, 2:], response) and not torch.equal(second[1].visible[:, :2], query)
    loss = pair_loss(model, first, second)

    def energy(phase, couplings, bias, hidden_bias):
        inputs = phase.visible @ couplings.T + hidden_bias
        return ((phase.visible - bias).square().sum(dim=1) / 2 - (phase.hidden * inputs).sum(dim=1)).mean()

    own = (model.visible_to_hidden, model.visible_bias, model.hidden_bias)
    other = (model.visible_to_top, model.top_visible_bias, model.top_bias)
    expected = energy(first[0], *own) - energy(first[1], *own) + energy(second[0], *other) - energy(second[1], *other)
    assert loss.item() == pytest.approx(expected.item())
    wanted = gradients(model, expected)
    for name, gradient in gradients(model, loss).items():
        torch.testing.assert_close(gradient, wanted[name], msg=name)


def test_the_rule_of_a_pair_vanishes_on_responses_drawn_from_the_first_and_queries_from_the_second(tiny_dbm):
    # Responses are drawn from the first RBM given the queries, by 25 sweeps of its own conditional chain. 24 batches of
    # 2,000, 5 standard errors.
    model = tiny_dbm(1, 0.5, energy="rbm_pair")
    batches = []
    for seed in range(24):
        draws = generator(seed)
        query = torch.randn(2000, 2, generator=draws, dtype=torch.float64)
        response = torch.zeros(2000, 3, dtype=torch.float64)
        (_, reached), _ = pair_phases(model, query, response, steps=25, generator=draws)
        first, second = pair_phases(model, query, reached.visible[:, 2:], generator=draws)
        batches.append(gradients(model, pair_loss(model, first, second)))
    for name in ("visible_to_hidden", "hidden_bias", "visible_bias"):
        drawn = torch.stack([batch[name] for batch in batches])
        error = drawn.std(dim=0) / len(batches) ** 0.5
        assert drawn.mean(dim=0).abs().le(5 * error + 1e-12).all(), name
    drawn = torch.stack([batch["visible_to_top"] for batch in batches])  # those are not the second one's queries
    assert (drawn.mean(dim=0).abs() > 5 * drawn.std(dim=0) / len(batches) ** 0.5).any()
