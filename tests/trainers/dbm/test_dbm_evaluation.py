"""Evaluation of `DbmTrainer`: against loops over pairs, for any batch size; the log-likelihood against exact sums."""

import math

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_localgan.metrics.energy import other_query_responses
from hf_localgan.trainers.base.launching import warn_once
from hf_localgan.trainers.dbm.evaluation import LogLikelihood, query_groups

NUMBERS = ("eval_free_energy", "eval_reconstruction", "eval_residual", "eval_matching", "eval_center_cosine")


@pytest.fixture
def trained(vectors, tiny_energy, energy_trainer):
    """`trained(**fields)`: a model after a few updates, so that no number is one of its start."""

    def build(**fields):
        run = energy_trainer(tiny_energy(**fields), vectors(200), max_steps=60, learning_rate=0.02, logging_steps=50)
        run.train()
        return run.model

    return build


@pytest.fixture
def grouped(vectors):
    """Rows of which each query has three responses, one after the other, and the last one a single one."""
    rows = vectors(22, seed=1)
    return [{**row, "query_features": rows[i // 3 * 3]["query_features"]} for i, row in enumerate(rows)]


def standardised(model, rows):
    return tuple(
        scaler(torch.tensor([row[name] for row in rows]))
        for name, scaler in (("query_features", model.query_scaler), ("response_features", model.response_scaler))
    )


@pytest.mark.parametrize(
    "fields", [{}, {"top_size": 0}, {"energy": "rbm_pair", "visible_std": "unit"}], ids=["dbm", "rbm", "pair"]
)
@torch.no_grad()
def test_the_numbers_are_those_of_a_loop_over_pairs(fields, trained, grouped, energy_trainer):
    with torch.enable_grad():
        model = trained(**fields)
    metrics = energy_trainer(model, evaluate=grouped, per_device_eval_batch_size=5).evaluate()
    query, response = standardised(model, grouped)
    groups = np.arange(22) // 3
    other = other_query_responses(groups, np.random.default_rng(0))
    bias, wins, errors, energies = model.visible_bias[:3], [], [], []

    def score(q, r):
        pairs = (q[None], r[None]), (bias[None], r[None])
        return (model.free_energy(*pairs[0]) - model.free_energy(*pairs[1])).item()

    for i in range(22):
        q, r = query[i], response[i]
        wins.append(score(q, r) < score(q, response[other[i]]))
        means = model.mean_field(q[None], r[None])
        rebuilt = means.hidden @ model.visible_to_hidden + model.visible_bias
        if fields.get("energy") == "rbm_pair":  # v is normal around the middle of what both say
            rebuilt = (rebuilt + means.top @ model.visible_to_top + model.top_visible_bias) / 2
        errors.append((rebuilt[0] - torch.cat([q, r])).square().mean().item())
        energies.append(model.free_energy(q[None], r[None]).item())
    cosines = []
    for group in range(8):
        mean = response[torch.from_numpy(groups == group)].mean(dim=0)
        center = model.center(query[3 * group][None])[0]
        cosines.append(torch.cosine_similarity(center, mean, dim=0).item())
    assert metrics["eval_free_energy"] == pytest.approx(np.mean(energies), abs=1e-4)
    assert metrics["eval_reconstruction"] == pytest.approx(np.mean(errors), abs=1e-5)
    assert metrics["eval_center_cosine"] == pytest.approx(np.mean(cosines), abs=1e-4)
    assert metrics["eval_matching"] == pytest.approx(np.mean(wins)) and 0 < np.mean(wins) < 1
    assert metrics["eval_residual"] <= model.config.mean_field_tolerance


def test_the_batch_size_and_the_form_of_the_data_do_not_matter(trained, grouped, energy_trainer):
    model, found = trained(), []
    for data in (grouped, Dataset.from_list(grouped), Dataset.from_list(grouped).to_iterable_dataset(num_shards=2)):
        for size in (1, 7, 256):
            metrics = energy_trainer(model, evaluate=data, per_device_eval_batch_size=size).evaluate()
            found.append([metrics[name] for name in NUMBERS])
    np.testing.assert_allclose(found, [found[0]] * len(found), atol=2e-6)


def test_several_splits_and_a_limit_of_pairs_for_matching(trained, grouped, vectors, energy_trainer):
    model = trained()
    sets = {"close": grouped, "far": vectors(9, seed=5)}
    metrics = energy_trainer(model, evaluate=sets).evaluate()
    for name, rows in sets.items():
        alone = energy_trainer(model, evaluate=rows).evaluate()
        assert [metrics[f"eval_{name}_{key[5:]}"] for key in NUMBERS] == [alone[key] for key in NUMBERS]
    limited = energy_trainer(model, evaluate=grouped, matching_pairs=9, per_device_eval_batch_size=4).evaluate()
    first, whole = (energy_trainer(model, evaluate=rows).evaluate() for rows in (grouped[:9], grouped))
    for key in NUMBERS:
        expected = first if key in NUMBERS[3:] else whole
        assert limited[key] == pytest.approx(expected[key], abs=2e-6)


def test_one_query_alone_has_no_matching(trained, grouped, energy_trainer):
    metrics = energy_trainer(trained(), evaluate=grouped[:3]).evaluate()
    assert "eval_matching" not in metrics and "eval_center_cosine" not in metrics and "eval_free_energy" in metrics


def test_an_untrained_energy_is_undecided(vectors, tiny_energy, energy_trainer):
    # Without couplings every response scores the same: ties count one half. 6 standard errors of 400 fair coins.
    model = tiny_energy()
    with torch.no_grad():
        model.visible_to_hidden.zero_()
    run = energy_trainer(model, vectors(20), vectors(400, seed=1))
    run.fit_scalers()
    metrics = run.evaluate()
    assert metrics["eval_matching"] == pytest.approx(0.5, abs=6 * 0.5 / 400**0.5)  # rounding may decide a tie
    assert abs(metrics["eval_center_cosine"]) < 1e-5


@pytest.mark.parametrize(("factor", "is_told"), [(1.0, False), (100.0, True)])
def test_pairs_far_from_those_of_the_training_are_told_of(
    factor, is_told, vectors, tiny_energy, energy_trainer, caplog
):
    far = [
        {**row, "query_features": (factor * np.array(row["query_features"])).tolist()} for row in vectors(20, seed=1)
    ]
    run = energy_trainer(tiny_energy(), vectors(20), far)
    run.fit_scalers()
    warn_once.cache_clear()
    run.evaluate(), run.evaluate()
    assert caplog.text.count("standard deviations from the training pairs") == is_told


def test_predictions_are_free_energies_and_metrics_of_the_user_see_them(trained, grouped, energy_trainer):
    model = trained()
    run = energy_trainer(model, evaluate=grouped, per_device_eval_batch_size=4)
    run.compute_metrics = lambda prediction: {"lowest": float(prediction.predictions.min())}
    output = run.predict(grouped)
    expected = model.free_energy(*standardised(model, grouped)).detach().numpy()
    np.testing.assert_allclose(output.predictions, expected, atol=1e-5)
    assert output.metrics["test_lowest"] == pytest.approx(expected.min(), abs=1e-5)
    assert output.metrics["test_matching"] == run.evaluate()["eval_matching"]


def test_queries_are_numbered_in_their_order():
    query = torch.tensor([[1.0, 2.0], [0.0, 2.0], [1.0, 2.0], [3.0, 0.0], [0.0, 2.0]])
    assert query_groups(query).tolist() == [0, 1, 0, 2, 1]


@pytest.mark.parametrize("fields", [{}, {"energy": "rbm_pair", "visible_std": "unit"}], ids=["dbm", "pair"])
def test_the_log_likelihood_and_its_parts(fields, trained, grouped, energy_trainer):
    model = trained(**fields)
    run = energy_trainer(model, evaluate=grouped, per_device_eval_batch_size=5, ais_chains=200, ais_temperatures=200)
    found = run.log_likelihood()
    assert isinstance(found, LogLikelihood) and found.pairs == 22
    exact = model.exact_log_partition().item()
    assert abs(found.log_partition - exact) < 5 * found.log_partition_error < 0.5
    energy = model.free_energy(*standardised(model, grouped)).mean().item()
    assert found.free_energy == pytest.approx(energy, abs=1e-5)
    assert found.log_likelihood == pytest.approx(-found.free_energy - found.log_partition, abs=1e-9)
    assert found.log_likelihood_per_dimension == pytest.approx(found.log_likelihood / 7)
    assert 1 < found.log_partition_ess <= 200
    assert run.log_likelihood() == found != run.log_likelihood(seed=1)
    shorter = run.log_likelihood(grouped[:4], chains=50, temperatures=20)
    assert shorter.pairs == 4 and math.isfinite(shorter.log_likelihood)
