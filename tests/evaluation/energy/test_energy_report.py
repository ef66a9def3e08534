"""The report on an energy: every number against one that is known, and the files."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_localgan.evaluation import evaluate_energy, pair_features, plot_energy_training
from hf_localgan.evaluation.energy import plots as energy_plots
from hf_localgan.metrics import GaussianPairs, group_means

QUICK = {"resamples": 50, "curvature_queries": 10, "clusters": 2, "ais_chains": 20, "ais_temperatures": 50}


@pytest.fixture(scope="module")
def known(matched_energy, drawn_pairs):
    """An energy, and pairs that it has drawn: 300 training queries, 120 test queries, three responses to each."""
    return matched_energy, drawn_pairs(matched_energy, 300, seed=1), drawn_pairs(matched_energy, 120, seed=2)


@pytest.fixture(scope="module")
def report(known):
    return evaluate_energy(*known, about={"model": "tiny"}, **QUICK)


# ---- numbers ----


def test_the_likelihood_of_a_small_model_is_exact(known, report):
    model, _, test = known
    data = pair_features(model, test)
    expected = -model.exact_free_energy(data.query, data.response) - model.exact_log_partition()
    found = report.likelihood["DBM"]
    assert found.test.value == pytest.approx(expected.mean().item(), rel=1e-5)
    assert found.log_partition_error == 0 and found.effective_sample_size is None
    bound = -model.free_energy(data.query, data.response).mean() - model.exact_log_partition()
    assert found.bound == pytest.approx(bound.item(), rel=1e-5) and found.bound < found.test.value


def test_no_normal_distribution_beats_the_model_that_drew_the_data(known, report):
    model, train, test = known
    data, seen = pair_features(model, test), pair_features(model, train)
    gaussian = GaussianPairs.fit(seen.query, seen.response).log_likelihood(data.query, data.response)
    found = report.likelihood
    assert found["Gaussian"].test.value == pytest.approx(gaussian.mean())
    best = max(found[name].test.value for name in found if name.startswith("Gaussian"))
    assert found["DBM"].advantage.value == pytest.approx(found["DBM"].test.value - best)
    assert found["DBM"].advantage.low > 0


def test_annealed_sampling_agrees_with_enumeration(known, report, monkeypatch):
    monkeypatch.setattr("hf_localgan.evaluation.energy.measure.LARGEST_ENUMERATION", 0)
    model, train, test = known
    settings = {**QUICK, "ais_chains": 400, "ais_temperatures": 1000}
    found = evaluate_energy(model, train, test, **settings).likelihood["DBM"]
    exact = report.likelihood["DBM"]
    assert found.chains == 400 and 20 < found.effective_sample_size <= 400
    # five standard errors: wrong once in a million seeds, and the seed is fixed
    assert abs(found.log_partition - exact.log_partition) < 5 * found.log_partition_error
    assert found.log_partition_error < 0.3
    # what is left is the error of 100 samples of F, from which the exact one is enumerated
    assert found.test.value - exact.test.value == pytest.approx(exact.log_partition - found.log_partition, abs=0.05)


def test_responses_that_the_model_drew_match_their_queries(report):
    found = report.matching["DBM"]
    assert found.difference.low > 0.65 and found.recall_at_1.low > 0.2 and found.candidates == 10
    assert report.center["DBM"].true.low > report.center["DBM"].shuffled.high


def test_a_model_without_couplings_knows_nothing(tiny_energy, drawn_pairs, known):
    flat = tiny_energy()
    with torch.no_grad():
        flat.visible_to_hidden.zero_()
    report = evaluate_energy(flat, known[1], known[2], **QUICK)
    # every comparison is a tie but for rounding; 120 queries: standard error below 0.5 / sqrt(120) = 0.046
    assert report.matching["DBM"].difference.value == pytest.approx(0.5, abs=0.15)
    # the energy is |r - br|^2 / 2 and a constant, so that the second order is exact and a centre is br
    gap = report.gap
    assert gap.second_order.total.mean() == pytest.approx(gap.measured.value, rel=1e-4)
    data = pair_features(flat, known[2])
    error = (data.response - flat.visible_bias[3:]).square()
    assert report.reconstruction["response"] == pytest.approx(error.mean().item(), rel=1e-5)
    assert report.reconstruction["response_from_query"] == pytest.approx(error.mean().item(), rel=1e-5)
    assert report.radii.true.mean() == pytest.approx(error.sum(dim=1).mean().item() / 2, rel=1e-4)


def test_radii_and_the_gap_are_those_of_the_models_own_methods(known, report):
    model, _, test = known
    data = pair_features(model, test)
    radii = model.radius(data.query, data.response).detach().double().numpy()
    np.testing.assert_allclose(report.radii.true, radii, atol=1e-4)
    signed = group_means(radii, data.groups)
    assert report.gap.signed.value == pytest.approx(signed.mean(), abs=1e-4)
    np.testing.assert_allclose(report.gap.gaps, np.abs(signed), atol=1e-4)
    assert report.gap.by_size.sizes == [1, 2, 3] and report.gap.by_size.queries == [120] * 3
    assert report.gap.by_size.gap[2].value == pytest.approx(np.abs(signed).mean(), abs=1e-4)
    first = np.unique(data.groups, return_index=True)[1]
    energies = model.free_energy(data.query[first], model.center(data.query[first]))
    assert report.positive_center.value == pytest.approx((energies > 0).double().mean().item())
    assert np.abs(report.gap.second_order.slope).max() < 1e-3  # the centre is stationary
    assert np.isfinite(report.gap.predicted).sum() == 10


def test_the_report_is_repeated_exactly_and_leaves_random_states_alone(known, report):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = evaluate_energy(*known, about={"model": "tiny"}, **QUICK)
    assert torch.equal(torch.get_rng_state(), before)
    assert again.to_dict() == report.to_dict()
    assert evaluate_energy(*known, seed=1, **QUICK).to_dict() != report.to_dict()


def test_batches_change_nothing(known, report):
    found = evaluate_energy(*known, about={"model": "tiny"}, batch_size=50, **QUICK).to_dict()
    assert found["matching"]["DBM"] == report.to_dict()["matching"]["DBM"]
    assert found["gap"]["signed"]["value"] == pytest.approx(report.gap.signed.value, abs=1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-4), (torch.bfloat16, 0.3)], ids=str)
def test_other_precisions_of_the_parameters_give_the_same_report(known, report, dtype, tolerance):
    model = copy.deepcopy(known[0]).to(dtype)
    found = evaluate_energy(model, *known[1:], about={"model": "tiny"}, **QUICK)
    assert found.likelihood["DBM"].test.value == pytest.approx(report.likelihood["DBM"].test.value, abs=tolerance)
    assert found.gap.signed.value == pytest.approx(report.gap.signed.value, abs=tolerance)
    assert model.visible_bias.dtype == dtype


# ---- other energies, other data ----


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"top_size": 0}, "RBM"),
        ({"visible_std": "learned"}, "DBM"),
        ({"energy": "rbm_pair"}, "pair of RBMs"),
        ({"hidden_size": 20}, "DBM"),
    ],
    ids=["rbm", "learned", "pair", "sampled"],
)
def test_every_energy_is_measured(tiny_energy, known, fields, name):
    report = evaluate_energy(tiny_energy(**fields), known[1], known[2], **QUICK)
    assert math.isfinite(report.likelihood[name].test.value)
    assert name in report.matching and f"{name}, single pass" in report.center
    json.dumps(report.to_dict(), allow_nan=False)
    # one-layer energies have an exact free energy: both estimates agree
    found = report.likelihood[name]
    if name != "DBM":
        assert found.bound == pytest.approx(found.test.value, abs=1e-4)


def test_one_response_to_each_query_leaves_the_spread_out(known, tmp_path):
    model, train, test = known
    report = evaluate_energy(model, train, test[:120], **QUICK)  # the first response of each
    assert report.gap.by_spread is None and report.gap.second_order is None and not report.clusters
    assert report.gap.by_size.sizes == [1]
    files = report.write(tmp_path)
    assert [file.name for file in files] == ["energy.json", "energy.md", "energy_histograms.png", "energy_gap.png"]
    assert "Spearman" not in report.to_markdown()


def test_rivals_are_measured_on_the_same_vectors(known, tiny_energy, text_energy):
    model, train, test = known
    report = evaluate_energy(model, train, test, rivals={"flat": tiny_energy(scale=0.0, bias=0.0)}, **QUICK)
    assert list(report.matching) == ["DBM", "flat", "Gaussian", "Gaussian, Ledoit-Wolf"] == list(report.likelihood)
    assert report.matching["flat"].difference.value == pytest.approx(0.5, abs=0.15)  # ties but for rounding
    # a standard normal distribution: -3 ln 2 pi - |v|^2 / 2
    data = pair_features(model, test)
    squares = (data.query.square().sum(dim=1) + data.response.square().sum(dim=1)).mean().item()
    expected = -3 * math.log(2 * math.pi) - squares / 2
    assert report.likelihood["flat"].test.value == pytest.approx(expected, abs=1e-3)

    other = tiny_energy()
    other.query_scaler.std.fill_(2)
    with pytest.raises(ValueError, match="The rival 'other' sees other vectors"):
        evaluate_energy(model, train, test, rivals={"other": other}, **QUICK)
    with pytest.raises(ValueError, match="The rival 'small' sees other vectors"):
        evaluate_energy(
            text_energy(), *text_rows(), rivals={"small": text_energy(seed=1)}, **QUICK
        )  # its word vectors are others


def text_rows():
    """Training and test rows of tokens: 60 and 8 pairs of 30 and 4 queries."""
    rng = np.random.default_rng(0)
    rows = [
        {"input_ids": [4 + i % 12, 5 + i // 12, 2], "labels": [*rng.integers(4, 17, 3).tolist(), 2]}
        for i in range(34)
        for _ in range(2)
    ]
    return Dataset.from_list(rows[:60]), Dataset.from_list(rows[60:])


def test_rows_of_tokens_are_measured_and_their_queries_named(text_energy, tiny_tokenizer):
    report = evaluate_energy(text_energy(), *text_rows(), tokenizer=tiny_tokenizer, **QUICK)
    assert report.about["test_pairs"] == 8 and report.about["pairs_without_a_word"] == 0
    first = text_rows()[1][0]["input_ids"]
    assert report.clusters[0].title == tiny_tokenizer.decode(first, skip_special_tokens=True)
    assert report.clusters[0].responses.shape == (2, 2) and report.clusters[0].share == pytest.approx(1)


def test_a_singular_covariance_is_left_out_and_the_rest_is_measured(known):
    model, train, test = known
    with pytest.warns(UserWarning, match="Gaussian is left out of the report. The covariance of 6 dimensions"):
        report = evaluate_energy(model, train[:4], test, **QUICK)
    assert list(report.matching) == ["DBM", "Gaussian, Ledoit-Wolf"]
    assert report.likelihood["DBM"].advantage.value > 0
    with pytest.warns(UserWarning, match="Ledoit-Wolf is left out"):
        report = evaluate_energy(model, train[:1] * 3, test, **QUICK)
    assert list(report.likelihood) == ["DBM"] and report.likelihood["DBM"].advantage is None
    assert "| DBM |" in report.to_markdown()


def test_what_cannot_be_measured_is_refused(tiny_energy, known):
    model, train, test = known
    with pytest.raises(ValueError, match="needs an energy with a lower bound"):
        evaluate_energy(tiny_energy(energy="printed"), train, test, **QUICK)
    with pytest.raises(ValueError, match="at least 2 queries"):
        evaluate_energy(model, train, test[:1], **QUICK)
    broken = tiny_energy()
    with torch.no_grad():
        broken.hidden_bias.fill_(math.nan)
    with pytest.raises(ValueError, match="Has the model diverged"):
        evaluate_energy(broken, train, test, **QUICK)


# ---- files ----


def test_the_files_hold_the_report(report, tmp_path):
    files = report.write(tmp_path / "new")
    names = ["energy.json", "energy.md", "energy_histograms.png", "energy_gap.png", "energy_clusters.png"]
    assert [file.name for file in files] == names == [file.name for file in files if file.stat().st_size]
    assert {path.name for path in (tmp_path / "new").iterdir()} == set(names)
    found = json.loads(files[0].read_text())
    assert found == report.to_dict() and found["kind"] == "energy" and found["about"]["model"] == "tiny"
    dbm = found["likelihood"]["DBM"]
    assert dbm["test_per_dimension"] == dbm["test"]["value"] / 6
    assert found["radii"]["true"]["count"] == 360 and found["gap"]["gaps"]["count"] == 120
    text = files[1].read_text()
    for row in ("| DBM |", "| Gaussian |", "| chance | 0.5 |", "| 3 | 120 |", "Spearman", "* model: tiny"):
        assert row in text
    assert "nan" not in text


def test_the_console_shows_values_without_intervals(report, capsys):
    report.print()
    said = capsys.readouterr().out
    assert "Log-likelihood" in said and " to " not in said.split("Theorem 1")[0].split("it goes from")[0]


def test_plots_of_clusters_and_of_the_training(report, tmp_path, monkeypatch):
    plane = report.clusters[0]
    # the centre is at the origin of the plane, and the radius there is 0
    middle = len(plane.ticks) // 2
    assert plane.ticks[middle] == pytest.approx(0, abs=1e-6) and plane.radii[middle, middle] == pytest.approx(
        0, abs=1e-3
    )
    assert np.abs(plane.responses).max() < plane.ticks[-1] and 0 < plane.share <= 1
    history = [
        {"step": 1, "loss": 1.0, "dbm/reconstruction": 0.9},
        {"step": 2, "eval_matching": 0.6, "eval_reconstruction": 0.8},
        {"step": 3, "dbm/reconstruction": 0.7, "dbm/free_energy_gap": 3.0},
    ]
    drawn = []
    monkeypatch.setattr(energy_plots, "save_figure", lambda figure, path: drawn.append(figure))
    plot_energy_training(history, tmp_path / "training.png")
    lines = [[line.get_xydata().tolist() for line in axis.lines] for axis in drawn[0].axes]
    assert lines == [[[[2, 0.6]]], [[[1, 0.9], [3, 0.7]], [[2, 0.8]]], [[[3, 3.0]]]]
    plot_energy_training([], tmp_path / "training.png")  # nothing was logged


def test_a_script_that_the_font_lacks_is_not_written_into_a_plot():
    assert energy_plots._legible("你好", 3) == "query 3"
    assert energy_plots._legible("x" * 60, 3) == "x" * 49 + "…"
