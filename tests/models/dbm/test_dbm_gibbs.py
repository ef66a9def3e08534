"""Gibbs sampling leaves the model's distribution as it is, by chi-square tests against enumeration.

Every test rejects a correct sampler with probability 1e-4 for a random seed; the seeds are fixed.
"""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import chi2, kstest

from hf_localgan.models.dbm import DbmState

ERROR_RATE = 1e-4
CHAINS = 20_000
SMALL = {"query_size": 2, "response_size": 2, "hidden_size": 3, "top_size": 2}
FORMS = pytest.mark.parametrize(
    "fields", [{}, {"visible_std": "learned"}, {"top_size": 0}, {"energy": "rbm_pair"}], ids=str
)


def log_joint(model, joint_energies, visible=None, known=None):
    """`ln p*` of each state of both binary layers with the visible units integrated out, those before `known` given.

    From the energies at one point: at fixed binary units `E` is `|(v - m) / s|^2 / 2 + E(m)` around their mean `m`.
    """
    weights, size = model._weights(), visible.shape[1] if visible is not None else 0
    _, hiddens, tops = joint_energies(model, torch.zeros(1, 2).double(), torch.zeros(1, 2).double())
    values = np.empty((len(hiddens), len(tops)))
    for j, hidden in enumerate(hiddens):
        for k, top in enumerate(tops):
            states = torch.tensor(hidden)[None], torch.tensor(top)[None]
            mean = weights.visible_mean(*states).detach()
            if size:
                mean = torch.cat([visible[:1], mean[:, size:]], dim=1)
            values[j, k] = -model.energy(mean[:, :2], mean[:, 2:], *states).item()
    return values, hiddens, tops


def codes(states: torch.Tensor) -> np.ndarray:
    """The number of each state in the order of enumeration."""
    return (states.numpy() @ 2.0 ** np.arange(states.shape[1])[::-1]).astype(int)


def assert_counts_agree(hidden, top, log_probabilities):
    expected = np.exp(log_probabilities - logsumexp(log_probabilities)).flatten()
    numbers = codes(hidden) * log_probabilities.shape[1] + codes(top)
    counts = np.bincount(numbers, minlength=len(expected))
    large = expected * len(hidden) >= 5  # the others are counted together
    counts = np.append(counts[large], counts[~large].sum())
    expected = np.append(expected[large], expected[~large].sum()) * len(hidden)
    kept = expected > 0
    statistic = ((counts - expected)[kept] ** 2 / expected[kept]).sum()
    assert kept.sum() > 5 and statistic < chi2.isf(ERROR_RATE, kept.sum() - 1), statistic


@FORMS
def test_chains_that_start_at_the_distribution_stay_there(tiny_dbm, joint_energies, fields):
    model = tiny_dbm(3, 0.8, **(SMALL | fields))
    values, hiddens, tops = log_joint(model, joint_energies)
    probabilities = np.exp(values - logsumexp(values))
    rng = np.random.default_rng(0)
    drawn = rng.choice(probabilities.size, CHAINS, p=probabilities.flatten())
    hidden, top = (torch.tensor(table[i]) for table, i in zip((hiddens, tops), divmod(drawn, len(tops)), strict=True))
    assert_counts_agree(hidden, top, values)
    generator, weights = torch.Generator().manual_seed(1), model._weights()
    noise = torch.empty(CHAINS, 4, dtype=torch.float64).normal_(generator=generator)
    visible = (weights.visible_mean(hidden, top) + weights.noise_std * noise).detach()
    state = model.gibbs(DbmState(visible[:, :2], visible[:, 2:], hidden, top), 2, generator=generator)
    assert_counts_agree(state.hidden, state.top, values)
    assert (state.hidden != hidden).any(dim=1).float().mean() > 0.1  # it moved
    standard = (torch.cat(state[:2], dim=1) - weights.visible_mean(*state[2:])) / weights.noise_std
    for dimension in standard.detach().numpy().T:
        assert kstest(dimension, "norm").pvalue > ERROR_RATE / 4


@FORMS
def test_chains_that_start_elsewhere_get_there(tiny_dbm, joint_energies, fields):
    model = tiny_dbm(4, 0.6, **(SMALL | fields))
    generator = torch.Generator().manual_seed(2)
    start = model.initial_state(CHAINS, generator)
    assert abs(float(start.hidden.mean()) - 0.5) < 0.01
    values = log_joint(model, joint_energies)[0]
    with pytest.raises(AssertionError):
        assert_counts_agree(start.hidden, start.top, values)
    state = model.gibbs(start, 60, generator=generator)
    assert_counts_agree(state.hidden, state.top, values)


@FORMS
def test_with_the_query_clamped_chains_sample_its_responses(tiny_dbm, joint_energies, fields):
    model = tiny_dbm(5, 0.6, **(SMALL | fields))
    query = torch.tensor([[0.7, -1.2]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    start = model.initial_state(CHAINS, generator)._replace(query=query.expand(CHAINS, -1))
    state = model.gibbs(start, 60, clamp_query=True, generator=generator)
    assert torch.equal(state.query, start.query) and not torch.equal(state.response, start.response)
    given = log_joint(model, joint_energies, query)[0]
    assert_counts_agree(state.hidden, state.top, given)
    with pytest.raises(AssertionError):  # the query must matter for this to say anything
        assert_counts_agree(state.hidden, state.top, log_joint(model, joint_energies)[0])


def test_the_same_seed_draws_the_same_and_states_keep_their_shapes(tiny_dbm):
    model = tiny_dbm()
    start = model.initial_state(6, torch.Generator().manual_seed(0))
    first, second = (model.gibbs(start, 3, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    third = model.gibbs(start, 3, generator=torch.Generator().manual_seed(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first.query, third.query)
    assert [tuple(units.shape) for units in first] == [(6, 2), (6, 3), (6, 4), (6, 3)]
    assert ((first.hidden == 0) | (first.hidden == 1)).all() and not first.query.requires_grad
    # Three steps are three times one step.
    generator, state = torch.Generator().manual_seed(1), start
    for _ in range(3):
        state = model.gibbs(state, generator=generator)
    assert torch.equal(state.response, first.response)
    for call in (lambda: model.gibbs(start, 0), lambda: model.initial_state(0)):
        with pytest.raises(ValueError, match="must be at least 1, got 0"):
            call()


def test_a_chain_that_is_not_a_number_shows(tiny_dbm):
    model = tiny_dbm()
    state = model.initial_state(4, torch.Generator().manual_seed(0))
    state.response[2, 1] = torch.nan
    state = model.gibbs(state, 5)
    for units in state:
        assert units.isnan().any(dim=1).tolist() == [False, False, True, False]
