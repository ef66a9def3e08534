"""The partition function: enumeration against integrals on a grid, and annealing against enumeration."""

import math

import numpy as np
import pytest
import torch

from hf_localgan.models.dbm import LogPartition
from hf_localgan.models.dbm.annealing_dbm import inverse_temperatures

FORMS = pytest.mark.parametrize(
    "fields",
    [
        {},
        {"visible_std": "learned"},
        {"top_size": 0},
        {"top_size": 0, "visible_std": "learned"},
        {"energy": "rbm_pair"},
    ],
    ids=str,
)
LARGER = {"query_size": 4, "response_size": 5, "hidden_size": 8, "top_size": 6}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@FORMS
def test_the_enumerated_log_partition_is_the_integral_on_a_grid(tiny_dbm, fields):
    # Z = integral of exp(-F(q, r)) over both. The sum over a grid of step 0.1 is exact to rounding for mixtures of
    # normal densities with deviations above 0.3 (its error is below exp(-2 (pi s / 0.1)^2)).
    model = tiny_dbm(1, 0.8, **({"query_size": 1, "response_size": 1, "hidden_size": 3, "top_size": 2} | fields))
    axis = torch.arange(-18, 18, 0.1, dtype=torch.float64)
    query, response = torch.cartesian_prod(axis, axis)[:, None].unbind(dim=2)
    with torch.no_grad():
        free_energies = model.exact_free_energy(query, response)
        expected = torch.logsumexp(-free_energies, dim=0) + 2 * math.log(0.1)
        torch.testing.assert_close(model.exact_log_partition(), expected, rtol=1e-9, atol=0)
        density = model.log_likelihood(query, response, expected).logsumexp(dim=0) + 2 * math.log(0.1)
    # The density integrates to one, or to less: F~ >= F.
    assert -0.5 < density < 1e-6 if model._weights().coupled else abs(density) < 1e-8


def test_without_couplings_it_is_the_base_in_closed_form(tiny_dbm):
    # ln Z = D / 2 ln 2 pi + sum ln s + sum softplus(c1) + sum softplus(c2), whatever the visible bias; every chain of
    # the annealing has exactly this weight.
    model = tiny_dbm(visible_std="learned")
    with torch.no_grad():
        model.visible_to_hidden.zero_()
        model.hidden_to_top.zero_()
        biases = torch.cat([model.hidden_bias, model.top_bias])
        expected = 5 / 2 * math.log(2 * math.pi) + model.visible_log_std.sum() + torch.log1p(biases.exp()).sum()
    torch.testing.assert_close(model.exact_log_partition(), expected)
    estimate = model.log_partition(chains=5, temperatures=7)
    torch.testing.assert_close(estimate.log_weights, expected.expand(5))
    assert estimate.value == pytest.approx(float(expected)) and estimate.standard_error < 1e-12
    assert estimate.effective_sample_size == pytest.approx(5)


@FORMS
def test_annealing_agrees_with_enumeration_within_its_own_error(tiny_dbm, fields):
    # Six models each, from weak to strong couplings; 4 standard errors are left by chance in 1 of 16,000 estimates.
    for seed, scale in enumerate((0.3, 0.5, 0.7, 0.8, 0.9, 1.0)):
        model = tiny_dbm(seed, scale, **(LARGER | fields))
        exact = model.exact_log_partition().item()
        estimate = model.log_partition(200, 200, generator=seeded(seed))
        assert estimate.effective_sample_size > 20 and 0 < estimate.standard_error < 0.3
        assert abs(estimate.value - exact) < 4 * estimate.standard_error, (seed, exact, estimate[:3])


def test_with_few_temperatures_the_weights_are_still_unbiased_and_the_schedule_matters(tiny_dbm):
    # From 0 to 1 in one step it is plain importance sampling from the base; in two, one transition counts, and a wrong
    # one shows. E[w] = Z for both: checked at 5 standard errors of the mean of 50,000 weights. Annealing gains much.
    model = tiny_dbm(2, 0.5, **LARGER)
    exact = model.exact_log_partition().item()
    for schedule in ([0.0, 0.6, 1.0], [0.0, 1.0]):
        direct = model.log_partition(50_000, schedule, generator=seeded(0))
        ratios = (direct.log_weights - exact).exp()
        assert abs(ratios.mean() - 1) < 5 * ratios.std() / 50_000**0.5
    annealed = model.log_partition(2000, 50, generator=seeded(0))
    assert annealed.effective_sample_size / 2000 > 5 * direct.effective_sample_size / 50_000
    uneven = model.log_partition(2000, torch.linspace(0, 1, 50) ** 2, generator=seeded(0))
    assert abs(uneven.value - exact) < 4 * uneven.standard_error and uneven.value != annealed.value


def test_the_standard_error_is_that_of_repeated_estimates(tiny_dbm):
    # 40 repeats of 50 chains. The spread of 40 values has a relative error of 1 / sqrt(78) = 0.11: the bounds are about
    # three of these and the skewness of the weights.
    model = tiny_dbm(5, 0.8, **LARGER)
    exact = model.exact_log_partition().item()
    weights = model.log_partition(2000, 100, generator=seeded(0)).log_weights
    repeats = [LogPartition.from_log_weights(part) for part in weights.split(50)]
    values, errors = (np.array([getattr(r, name) for r in repeats]) for name in ("value", "standard_error"))
    ratio = values.std(ddof=1) / np.sqrt((errors**2).mean())
    assert 0.65 < ratio < 1.5, ratio
    # Jensen: too low by about half the variance; within 4 standard errors of the mean of 40.
    bias = values.mean() - exact + values.var() / 2
    assert abs(bias) < 4 * values.std() / 40**0.5


def test_value_error_and_sample_size_by_hand():
    # Weights 1, 2, 3: the mean is 2, the effective sample size 36 / 14. Leaving one out gives means 5/2, 2, 3/2, and
    # the jackknife's variance is 2/3 of the sum of squared deviations of their logarithms.
    weights = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    actual = LogPartition.from_log_weights(weights.log() + 500)
    logs = np.log([2.5, 2.0, 1.5])
    assert actual.value == pytest.approx(500 + math.log(2))
    assert actual.effective_sample_size == pytest.approx(36 / 14)
    assert actual.standard_error == pytest.approx(math.sqrt(2 / 3 * ((logs - logs.mean()) ** 2).sum()))
    torch.testing.assert_close(actual.log_weights, weights.log() + 500)
    # Many equal shares: the delta method, std / (mean sqrt(n)).
    many = torch.rand(5000, dtype=torch.float64, generator=seeded(0)) + 1
    assert LogPartition.from_log_weights(many.log()).standard_error == pytest.approx(
        float(many.std() / many.mean()) / math.sqrt(5000), rel=1e-3
    )
    # One chain that carries everything leaves nothing to judge by.
    alone = LogPartition.from_log_weights(torch.tensor([0.0, -900.0, -900.0]))
    assert alone.standard_error == math.inf and alone.effective_sample_size == pytest.approx(1)
    broken = LogPartition.from_log_weights(torch.tensor([0.0, math.nan, 1.0]))
    assert all(math.isnan(number) for number in broken[:3])


def test_chains_in_chunks_are_chains(tiny_dbm):
    model = tiny_dbm(3, 0.6, **LARGER)
    exact = model.exact_log_partition().item()
    estimate = model.log_partition(250, 100, chains_at_once=60, generator=seeded(1))
    assert estimate.log_weights.shape == (250,) and len(estimate.log_weights.unique()) == 250
    assert abs(estimate.value - exact) < 4 * estimate.standard_error
    first = model.log_partition(60, 100, generator=seeded(1)).log_weights
    assert torch.equal(estimate.log_weights[:60], first)


def test_a_float32_model_of_the_usual_size_loses_nothing_over_many_temperatures(tiny_dbm):
    # A thousand differences of sums over 456 units. Both precisions must agree within the errors, which are below a
    # hundredth of a nat here: 4 of them are left by chance in 1 of 16,000 runs.
    model = tiny_dbm(0, 0.2, query_size=100, response_size=100, hidden_size=128, top_size=128)
    with torch.no_grad():
        model.visible_to_hidden.mul_(0.1)
        model.hidden_to_top.mul_(0.1)
    double = model.log_partition(20, 1000, generator=seeded(0))
    single = model.float().log_partition(20, 1000, generator=seeded(0))
    error = math.hypot(single.standard_error, double.standard_error)
    assert single.log_weights.dtype == torch.float64 and error < 0.02
    assert abs(single.value - double.value) < 4 * error


def test_the_likelihood_is_less_the_free_energy_and_the_constant(tiny_dbm, pairs):
    model = tiny_dbm()
    query, response = pairs(model)
    estimate = model.log_partition(10, 10, generator=seeded(0))
    expected = -model.free_energy(query, response) - estimate.value
    torch.testing.assert_close(model.log_likelihood(query, response, estimate), expected)
    torch.testing.assert_close(model.log_likelihood(query, response, estimate.value), expected)
    # With the exact constant it is a bound from below.
    exact = model.exact_log_partition()
    direct = -model.exact_free_energy(query, response) - exact
    assert (model.log_likelihood(query, response, exact) <= direct + 1e-12).all()


def test_a_draw_can_be_repeated_and_the_global_state_left_alone(tiny_dbm):
    model = tiny_dbm()
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first, second = (model.log_partition(5, 20, generator=seeded(9)).log_weights for _ in range(2))
    assert torch.equal(first, second) and torch.equal(before, torch.random.get_rng_state())
    assert not torch.equal(first, model.log_partition(5, 20).log_weights)


def test_the_bar_shows_on_request(tiny_dbm, capsys):
    model = tiny_dbm()
    model.log_partition(2, 20)
    assert capsys.readouterr().err == ""
    model.log_partition(2, 20, progress=True)
    assert "Annealing" in capsys.readouterr().err


def test_bad_schedules_and_large_enumerations_are_refused(tiny_dbm):
    model = tiny_dbm()
    for temperatures in ([0.0, 0.5], [0.1, 1.0], [0.0, 0.5, 0.5, 1.0], [0.0, math.nan, 1.0], [1.0], []):
        with pytest.raises(ValueError, match="inverse temperatures, or these, rising from 0 to 1"):
            model.log_partition(3, temperatures)
    with pytest.raises(ValueError, match="`temperatures` must be at least 2, the ends 0 and 1, got 1"):
        model.log_partition(3, 1)
    for settings in ({"chains": 1}, {"chains_at_once": 0}):
        with pytest.raises(ValueError, match="`chains` must be at least 2, for an error estimate"):
            model.log_partition(**settings)
    with pytest.raises(ValueError, match="at most 20 binary units, got 21"):
        tiny_dbm(hidden_size=21).exact_log_partition()
    with pytest.raises(ValueError, match="at most 20 binary units, got 22"):  # both layers of a pair
        tiny_dbm(hidden_size=11, top_size=11, energy="rbm_pair").exact_log_partition()
    assert inverse_temperatures(5) == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_enumeration_in_chunks_is_enumeration(tiny_dbm, pairs, monkeypatch):
    model = tiny_dbm()
    query, response = pairs(model)
    whole = model.exact_log_partition(), model.exact_free_energy(query, response)
    for module in ("annealing_dbm", "likelihood_dbm"):
        monkeypatch.setattr(f"hf_localgan.models.dbm.{module}._CHUNK_ELEMENTS", 15)
    torch.testing.assert_close(model.exact_log_partition(), whole[0])
    torch.testing.assert_close(model.exact_free_energy(query, response), whole[1])
    states = model.hidden_states()
    assert states.shape == (16, 4) and len(states.unique(dim=0)) == 16 and states.dtype == torch.float64
