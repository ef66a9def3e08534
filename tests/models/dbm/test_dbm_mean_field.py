"""The mean field: its fixed point, its end, and that an example's neighbours do not matter."""

import pytest
import torch

from hf_localgan.models import DbmConfig, DbmModel


def medium(dtype=torch.float64) -> DbmModel:
    """Large enough for blocked matrix products, with couplings that converge in 5 to 60 steps."""
    torch.manual_seed(0)
    model = DbmModel(DbmConfig(query_size=24, response_size=20, hidden_size=48, top_size=32, initializer_range=0.35))
    return model.to(dtype)


def vectors(count: int, dtype=torch.float64):
    generator = torch.Generator().manual_seed(5)
    both = torch.randn(count, 44, generator=generator, dtype=torch.float64).to(dtype)
    return both[:, :24], both[:, 24:]


def test_it_ends_at_a_fixed_point_of_both_conditionals():
    model, (query, response) = medium(), vectors(50)
    means = model.mean_field(query, response, tolerance=1e-13, steps=3000)
    weights = model._weights()
    hidden = torch.sigmoid(weights.hidden_input(torch.cat([query, response], dim=1)) + weights.from_top(means.top))
    torch.testing.assert_close(means.hidden, hidden, rtol=0, atol=1e-11)
    torch.testing.assert_close(means.top, torch.sigmoid(weights.top_input(None, means.hidden)), rtol=0, atol=1e-11)


def test_steps_and_residual_are_what_they_say():
    # An example's result is that of exactly `steps` steps, and its residual the last movement; one step less had moved
    # further than the tolerance.
    model, (query, response) = medium(), vectors(40)
    means = model.mean_field(query, response, tolerance=1e-6)
    assert means.residual.max() <= 1e-6 and means.steps.max() < 200
    assert len(means.steps.unique()) > 5, "the examples must end at different times for this test to say anything"
    for steps in means.steps.unique().tolist():
        rows = means.steps == steps
        exact = model.mean_field(query[rows], response[rows], steps=steps, tolerance=0)
        before = model.mean_field(query[rows], response[rows], steps=steps - 1, tolerance=0)
        assert (before.residual > 1e-6).all() and (exact.steps == steps).all()
        for name in ("hidden", "top", "residual"):
            torch.testing.assert_close(getattr(means, name)[rows], getattr(exact, name), rtol=0, atol=1e-12)


def test_no_step_makes_the_bound_worse():
    model, (query, response) = medium(), vectors(30)
    values = [
        model.free_energy(query, response, model.mean_field(query, response, steps=steps, tolerance=0))
        for steps in range(1, 12)
    ]
    assert (torch.stack(values).diff(dim=0) <= 1e-10).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_neighbours_change_nothing_beyond_rounding(dtype):
    model, (query, response) = medium(dtype), vectors(64, dtype)
    together = model.mean_field(query, response)
    apart = [model.mean_field(query[i : i + 1], response[i : i + 1]) for i in range(0, 64, 3)]
    rounding = 1e-12 if dtype == torch.float64 else 5e-6
    for i, alone in zip(range(0, 64, 3), apart, strict=True):
        for name in ("hidden", "top"):
            torch.testing.assert_close(getattr(alone, name)[0], getattr(together, name)[i], rtol=0, atol=rounding)
        difference = abs(int(alone.steps) - int(together.steps[i]))
        assert difference <= (0 if dtype == torch.float64 else 1)  # rounding may fall on either side of the tolerance
    energies = model.free_energy(query, response)
    for i in range(0, 64, 7):
        alone = model.free_energy(query[i : i + 1], response[i : i + 1])[0]
        torch.testing.assert_close(alone, energies[i], rtol=1e-6 if dtype == torch.float32 else 1e-12, atol=0)


def test_vectors_that_are_not_numbers_end_at_once_show_and_stay_alone():
    model, (query, response) = medium(), vectors(6)
    clean = model.mean_field(query, response)
    query[2, 3], response[4, 0] = torch.nan, torch.inf
    for tolerance in (None, 0):
        means = model.mean_field(query, response, tolerance=tolerance)
        assert means.hidden[2].isnan().all() and means.residual[2].isnan()
        assert not means.residual[torch.tensor([0, 1, 3, 5])].isnan().any()
        assert tolerance == 0 or means.steps[2] == 1
    energies = model.free_energy(query, response)
    assert energies[2].isnan() and not energies[4].isfinite()
    others = torch.tensor([0, 1, 3, 5])
    means = model.mean_field(query, response)
    torch.testing.assert_close(means.hidden[others], clean.hidden[others], rtol=0, atol=1e-12)
    assert torch.equal(means.steps[others], clean.steps[others])


def test_not_a_number_shows_without_a_top_layer_too(tiny_dbm, pairs):
    for fields in ({"top_size": 0}, {"energy": "rbm_pair"}):
        model = tiny_dbm(**fields)
        query, response = pairs(model)
        query[1, 0] = torch.nan
        means = model.mean_field(query, response)
        assert means.residual.isnan().tolist() == [False, True, False, False, False]


def test_a_fixed_number_of_steps_never_waits_for_the_device():
    # A tensor of the meta device has no value, so that whatever asks for one raises.
    for fields in ({}, {"top_size": 0}, {"energy": "rbm_pair"}, {"visible_std": "learned"}):
        with torch.device("meta"):
            model = DbmModel(DbmConfig(query_size=4, response_size=3, hidden_size=5, **({"top_size": 2} | fields)))
            query, response = torch.empty(6, 4), torch.empty(6, 3)
        means = model.mean_field(query, response, steps=7, tolerance=0)
        assert means.hidden.shape == (6, 5) and model.free_energy(query, response, means).is_meta
        assert model.center(query, steps=7, tolerance=0).shape == (6, 3)
        assert model.gibbs(model.initial_state(6), 2).response.shape == (6, 3)
        if fields in ({}, {"visible_std": "learned"}):
            with pytest.raises((RuntimeError, NotImplementedError)):
                model.mean_field(query, response, steps=50, tolerance=1e-3)


def test_the_defaults_come_from_the_configuration(tiny_dbm, pairs):
    model = tiny_dbm(0, 1.5, mean_field_steps=3, mean_field_tolerance=0)
    assert (model.mean_field(*pairs(model)).steps == 3).all()
    assert (model.mean_field(*pairs(model), tolerance=1e-9, steps=7).steps == 7).any()
    default = DbmConfig()
    assert (default.mean_field_steps, default.mean_field_tolerance) == (200, 1e-6)
    for limits in ({"steps": 0}, {"tolerance": -1e-3}, {"tolerance": float("nan")}):
        with pytest.raises(ValueError, match="`steps` must be at least 1 and `tolerance` at least 0"):
            model.mean_field(*pairs(model), **limits)
