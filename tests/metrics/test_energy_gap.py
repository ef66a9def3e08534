"""Theorem 1: the gap between a cluster's energy and its centre's, against size, spread and curvature."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch

from hf_localgan import DbmConfig, DbmModel
from hf_localgan.metrics import (
    cluster_spread,
    directional_curvature,
    gap_by_size,
    gap_by_spread,
    second_order_gap,
)

# ---- size ----


def test_the_gap_by_hand():
    # query 0: energies 0 and 4, centre 1: one response |-1|, |3|, mean 2; both |2 - 1| = 1
    # query 1: energies 5 and 7, centre 1: one response 4, 6, mean 5; both 5
    found = gap_by_size([0.0, 5.0, 4.0, 7.0], [1.0, 1.0], [0, 1, 0, 1])
    assert found.sizes == [1, 2] and found.queries == [2, 2]
    assert [one.value for one in found.gap] == [3.5, 3.0]
    assert [one.value for one in found.change] == [0.0, -0.5]


def clusters(sizes, seed=0):
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return rng, groups


def test_the_gap_is_flat_where_all_responses_lie_above_the_centre():
    rng, groups = clusters([7] * 30)
    centers = rng.standard_normal(30)
    energies = centers[groups] + rng.exponential(5, len(groups))
    found = gap_by_size(energies, centers, groups, subsets=10**6)
    assert found.sizes == [1, 2, 3, 4, 5, 6, 7]
    np.testing.assert_allclose([one.value for one in found.gap], found.gap[0].value, rtol=1e-12)
    np.testing.assert_allclose([(one.low, one.high) for one in found.change], 0, atol=1e-12)


def test_random_subsets_leave_it_flat():
    rng, groups = clusters([40] * 12)
    found = gap_by_size(rng.exponential(5, len(groups)), np.zeros(12), groups, subsets=20)
    assert found.sizes[-1] == 40
    np.testing.assert_allclose([one.value for one in found.gap], found.gap[0].value, rtol=1e-12)


def test_the_gap_falls_where_responses_lie_on_both_sides():
    # F(q, r) - F(q, rc) standard normal: the mean of n has E|.| = sqrt(2 / (pi n))
    rng, groups = clusters([6] * 4000)
    found = gap_by_size(rng.standard_normal(len(groups)), np.zeros(4000), groups, resamples=200)
    for size, gap in zip(found.sizes, found.gap, strict=True):
        # standard error at most sqrt((1 - 2 / pi) / (6 * 4000)) for one, / (n 4000) for all: below 0.004 for n = 6
        assert gap.value == pytest.approx(math.sqrt(2 / math.pi / size), abs=4 * 0.004)
    assert all(one.high < 0 for one in found.change[1:])


def test_random_subsets_stand_for_all_of_them():
    rng, groups = clusters([12] * 10)
    energies = rng.standard_normal(120)
    exact = np.mean(
        [np.mean([abs(np.mean(some)) for some in combinations(energies[groups == query], 6)]) for query in range(10)]
    )  # of 924 subsets each
    found = {
        number: gap_by_size(energies, np.zeros(10), groups, sizes=[6], subsets=number).gap[0].value
        for number in (924, 400)
    }
    assert found[924] == pytest.approx(exact, abs=1e-12)
    # 10 * 400 subsets of standard deviation below 0.2: standard error 0.003
    assert found[400] == pytest.approx(exact, abs=0.015) and found[400] != found[924]


def test_every_size_is_measured_on_the_queries_that_have_it():
    rng, groups = clusters([1, 3, 3, 5])
    found = gap_by_size(rng.random(12), np.full(4, -1.0), groups, least_queries=1)
    assert found.sizes == [1, 2, 3, 4, 5] and found.queries == [4, 3, 3, 1, 1]
    assert gap_by_size(rng.random(12), np.zeros(4), groups, least_queries=3).sizes == [1, 2, 3]
    # few queries may not be fewer than there are
    assert gap_by_size(rng.random(12), np.zeros(4), groups).sizes == [1]


def test_large_clusters_are_sampled_at_doubling_sizes():
    rng, groups = clusters([50] * 3)
    assert gap_by_size(rng.random(150), np.zeros(3), groups).sizes == [*range(1, 11), 20, 40]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"energies": [1.0, np.nan]}, "`energies` must be finite"),
        ({"center_energies": [1.0]}, r"`center_energies` \(2,\)"),
        ({"energies": [1.0]}, r"`energies` must have shape \(2,\)"),
        ({"sizes": [2]}, "`sizes` must be some of 1 to 1"),
        ({"sizes": []}, "`sizes` must be some of 1 to 1"),
    ],
)
def test_gaps_that_cannot_be_measured_are_refused(settings, told):
    given = {"energies": [1.0, 2.0], "center_energies": [0.0, 0.0], "groups": [0, 1], **settings}
    with pytest.raises(ValueError, match=told):
        gap_by_size(**given)


# ---- spread ----


def test_the_spread_is_the_trace_of_the_covariance():
    rng, groups = clusters([4, 1, 6])
    responses = rng.standard_normal((11, 3))
    found = cluster_spread(responses, groups)
    for query in (0, 2):
        assert found[query] == pytest.approx(np.trace(np.cov(responses[groups == query].T)))
    assert math.isnan(found[1])


def test_the_gap_in_groups_of_growing_spread():
    gaps, spreads = np.array([4.0, 1.0, 3.0, 2.0, 9.0]), np.array([40.0, 10.0, 30.0, 20.0, np.nan])
    found = gap_by_spread(gaps, spreads, np.array([8.0, np.nan, 6.0, np.nan, 1.0]), bins=2)
    assert found.spread == [15, 35] and found.queries == [2, 2]
    assert [one.value for one in found.gap] == [1.5, 3.5]
    assert math.isnan(found.predicted[0]) and found.predicted[1] == 7
    assert found.rank_correlation == pytest.approx(1)


def test_a_constant_has_no_rank_correlation_and_few_queries_make_few_groups():
    found = gap_by_spread(np.ones(2), np.array([1.0, 2.0]), np.ones(2))
    assert math.isnan(found.rank_correlation) and found.queries == [1, 1]
    rounded = np.float32(3) + np.arange(4) * np.spacing(np.float32(3)) / 2  # equal energies in float32
    assert math.isnan(gap_by_spread(rounded, np.arange(4.0), np.ones(4)).rank_correlation)
    assert gap_by_spread(rounded + 1e-4 * np.arange(4), np.arange(4.0), np.ones(4)).rank_correlation == 1
    assert gap_by_spread(np.ones(2), np.full(2, np.nan), np.ones(2)).gap == []
    with pytest.raises(ValueError, match="one entry per query each"):
        gap_by_spread(np.ones(2), np.ones(3), np.ones(2))


# ---- curvature ----


def quadratic(seed=0, size=5):
    """`F(q, r) = r' A r / 2 + q' B r`, and `A`."""
    rng = np.random.default_rng(seed)
    half = rng.standard_normal((size, size))
    matrix, between = torch.from_numpy(half @ half.T), torch.from_numpy(rng.standard_normal((2, size)))

    def free_energy(query, response):
        return (response @ matrix * response).sum(dim=1) / 2 + (query @ between * response).sum(dim=1)

    return free_energy, matrix, rng


def test_curvature_of_a_quadratic_energy_is_exact():
    free_energy, matrix, rng = quadratic()
    query, response, direction = (torch.from_numpy(rng.standard_normal((6, size))) for size in (2, 5, 5))
    direction[3] = 0
    found = directional_curvature(free_energy, query, response, direction)
    torch.testing.assert_close(found, (direction @ matrix * direction).sum(dim=1), rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="float64, got torch.float32"):
        directional_curvature(free_energy, query.float(), response.float(), direction.float())


def test_the_second_order_is_the_whole_gap_of_a_quadratic_energy():
    free_energy, matrix, rng = quadratic(1)
    groups = np.array([0, 1, 0, 2, 1, 1, 2, 2, 2])
    queries, centers = (torch.from_numpy(rng.standard_normal((3, size))) for size in (2, 5))
    responses = torch.from_numpy(rng.standard_normal((9, 5)))
    found = second_order_gap(free_energy, queries, centers, responses, groups, batch_size=4)
    for query in range(3):
        own = responses[np.flatnonzero(groups == query)]
        gap = free_energy(queries[query].expand(len(own), -1), own).mean() - free_energy(queries, centers)[query]
        assert found.total[query] == pytest.approx(gap.item(), rel=1e-8)
        covariance = torch.from_numpy(np.cov(own.T.numpy(), bias=True))
        assert found.spread[query] == pytest.approx(torch.trace(matrix @ covariance).item() / 2, rel=1e-8)
    with pytest.raises(ValueError, match="3 queries and a response for each of 9 pairs, got 3, 3 and 8"):
        second_order_gap(free_energy, queries, centers, responses[:8], groups)


@pytest.mark.parametrize("std", ["unit", "learned"])
def test_curvature_of_a_machine_is_that_of_its_fixed_point(std):
    # At the fixed point dhq = D1 (A dr + U' dh) and dh = D2 U dhq with A = Wr / s^2, D the units' variances, so
    #     Hess F~ = 1 / s^2 - A' (D1^-1 - U' D2 U)^-1 A
    torch.manual_seed(0)
    model = DbmModel(DbmConfig(query_size=3, response_size=4, hidden_size=6, top_size=5, visible_std=std)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    query, response, direction = (torch.randn(8, size, dtype=torch.float64) for size in (3, 4, 4))

    def free_energy(query, response):
        return model.free_energy(query, response, model.mean_field(query, response, steps=5000, tolerance=1e-13))

    means = model.mean_field(query, response, steps=5000, tolerance=1e-13)
    variance = model.visible_log_std.exp()[3:] ** 2 if std == "learned" else torch.ones(4, dtype=torch.float64)
    into, above = (model.visible_to_hidden[:, 3:] / variance).detach(), model.hidden_to_top.detach()
    expected = []
    for hidden, top, d in zip(means.hidden, means.top, direction, strict=True):
        inner = torch.diag(1 / (hidden * (1 - hidden))) - above.T @ torch.diag(top * (1 - top)) @ above
        hessian = torch.diag(1 / variance.detach()) - into.T @ torch.linalg.solve(inner, into)
        expected.append(d @ hessian @ d)
    found = directional_curvature(free_energy, query, response, direction, step=1e-4)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-5, atol=1e-6)
