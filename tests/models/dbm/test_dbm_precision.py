"""Inputs and models of other precisions, and autocast, which must change nothing."""

import pytest
import torch

from hf_localgan.models.dbm import DbmState

FORMS = pytest.mark.parametrize(
    "fields", [{}, {"visible_std": "learned"}, {"top_size": 0}, {"energy": "rbm_pair"}], ids=str
)
SIZES = {"query_size": 20, "response_size": 30, "hidden_size": 8, "top_size": 6}


def everything(model, query, response) -> dict[str, torch.Tensor]:
    """What every method computes, with seeds where it draws."""
    chains = DbmState(query, response, torch.zeros(5, 8), torch.zeros(5, model.config.top_size))
    means = model.mean_field(query, response)
    results = {
        "energy": model.energy(query, response, means.hidden, means.top),
        "free_energy": model.free_energy(query, response),
        "sampled": model.sampled_free_energy(query, response, 3, generator=torch.Generator().manual_seed(0)),
        "exact": model.exact_free_energy(query, response),
        "hidden": means.hidden,
        "top": means.top,
        "unrolled": model.unrolled_means(query, response)[0],
        "center": model.center(query),
        "single_pass": model.center(query, "single_pass"),
        "radius": model.radius(query, response),
        "forward": model(query, response).free_energy,
        "partition": model.exact_log_partition(),
        "annealed": model.log_partition(3, 5, generator=torch.Generator().manual_seed(0)).log_weights,
        "likelihood": model.log_likelihood(query, response, 3.0),
    }
    for name, units in model.gibbs(chains, generator=torch.Generator().manual_seed(0))._asdict().items():
        results[f"gibbs {name}"] = units
    return results


@FORMS
def test_bf16_inputs_are_taken_and_computed_in_float32(tiny_dbm, pairs, fields):
    model = tiny_dbm(**(SIZES | fields), scale=0.3).float()
    query, response = (vectors.bfloat16() for vectors in pairs(model))
    expected = everything(model, query.float(), response.float())
    for name, actual in everything(model, query, response).items():
        assert actual.dtype == (torch.float64 if name == "annealed" else torch.float32), name
        assert torch.equal(actual, expected[name]), name


@FORMS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_autocast_changes_no_bit(tiny_dbm, pairs, fields, dtype):
    model = tiny_dbm(**(SIZES | fields), scale=0.3).to(dtype)
    query, response = pairs(model)
    expected = everything(model, query, response)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = everything(model, query, response)
        response.requires_grad_()
        energies = model.free_energy(query, response)
    (gradient,) = torch.autograd.grad(energies.sum(), response)  # a backward pass belongs outside of autocast
    for name, value in actual.items():
        assert torch.equal(value, expected[name]), name
    (without,) = torch.autograd.grad(model.free_energy(query, response).sum(), response)
    assert torch.equal(gradient, without) and gradient.dtype == dtype


@FORMS
def test_a_float64_model_computes_in_float64_and_a_float32_one_agrees(tiny_dbm, pairs, fields):
    model = tiny_dbm(**(SIZES | fields), scale=0.3)
    query, response = pairs(model)
    double = everything(model, query, response)
    assert all(value.dtype == torch.float64 for value in double.values())
    single = everything(model.float(), query, response)
    for name, value in single.items():
        if name in ("sampled", "annealed") or name.startswith("gibbs"):
            continue  # other draws
        scale = double["energy"].abs().max().item() if value.dim() < 2 else 1
        torch.testing.assert_close(value.double(), double[name], rtol=0, atol=3e-6 * scale, msg=name)


def test_a_bf16_model_computes_in_float32_from_its_rounded_parameters(tiny_dbm, pairs):
    model = tiny_dbm(**SIZES, scale=0.3).bfloat16()
    query, response = pairs(model)
    energies = model.free_energy(query, response)
    assert energies.dtype == torch.float32
    energies.sum().backward()
    assert model.visible_to_hidden.grad.dtype == torch.bfloat16 and model.visible_to_hidden.grad.isfinite().all()
    assert torch.equal(energies, model.float().free_energy(query, response))


def test_large_energies_do_not_overflow(tiny_dbm, pairs):
    # Inputs of a thousand saturate every unit: F~ is then the energy of one state.
    model = tiny_dbm(**SIZES, scale=0.3).float()
    query, response = (1000 * vectors for vectors in pairs(model))
    means = model.mean_field(query, response)
    assert ((means.hidden < 1e-6) | (means.hidden > 1 - 1e-6)).all()
    energies = model.free_energy(query, response)
    assert energies.isfinite().all() and energies.min() > 1e6
    top_down = model.energy(query, response, means.hidden.round(), means.top)
    entropy = (torch.special.entr(means.top) + torch.special.entr(1 - means.top)).sum(dim=1)
    torch.testing.assert_close(energies, top_down - entropy, rtol=1e-6, atol=0)
