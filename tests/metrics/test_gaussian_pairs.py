"""The normal distribution that energy models are held against."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.covariance import ShrunkCovariance
from sklearn.linear_model import LinearRegression

from hf_localgan.metrics import GaussianPairs


@pytest.fixture
def pairs():
    """400 correlated pairs of 3 and 2 dimensions."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((400, 5)) @ rng.standard_normal((5, 5)) + rng.standard_normal(5)
    return vectors[:, :3], vectors[:, 3:]


def test_the_log_likelihood_is_scipys(pairs):
    found = GaussianPairs.fit(*pairs)
    joined = np.concatenate(pairs, axis=1)
    expected = multivariate_normal(joined.mean(axis=0), np.cov(joined.T, bias=True)).logpdf(joined)
    np.testing.assert_allclose(found.log_likelihood(*pairs), expected, rtol=1e-9)


def test_the_mean_log_likelihood_of_what_it_was_fitted_on_is_its_entropy(pairs):
    # maximum likelihood: mean of the Mahalanobis distances = dimensions
    found = GaussianPairs.fit(*pairs)
    log_det = np.linalg.slogdet(np.cov(np.concatenate(pairs, axis=1).T, bias=True))[1]
    assert found.log_likelihood(*pairs).mean() == pytest.approx(-(5 * (1 + np.log(2 * np.pi)) + log_det) / 2)


def test_standard_normal_vectors_of_one_dimension_by_hand():
    found = GaussianPairs(np.zeros(2), np.eye(2), 1)
    # -ln 2 pi - (1 + 4) / 2
    assert found.log_likelihood([[1.0]], [[2.0]])[0] == pytest.approx(-np.log(2 * np.pi) - 2.5)


def test_the_centre_is_linear_regression(pairs):
    query, response = pairs
    expected = LinearRegression().fit(query, response).predict(query)
    np.testing.assert_allclose(GaussianPairs.fit(query, response).center(query), expected, rtol=1e-8)


def test_shrinkage_is_scikit_learns(pairs):
    joined = np.concatenate(pairs, axis=1)
    expected = ShrunkCovariance(shrinkage=0.3).fit(joined).covariance_
    np.testing.assert_allclose(GaussianPairs.fit(*pairs, shrinkage=0.3).covariance, expected)
    few = pairs[0][:12], pairs[1][:12]
    held_out = pairs[0][12:], pairs[1][12:]
    plain, shrunk = (GaussianPairs.fit(*few, shrinkage=one) for one in ("none", "ledoit_wolf"))
    assert shrunk.log_likelihood(*held_out).mean() > plain.log_likelihood(*held_out).mean()


def test_what_has_no_covariance_is_refused(pairs):
    query, response = pairs
    with pytest.raises(ValueError, match='singular: there are fewer different pairs than dimensions.*"ledoit_wolf"'):
        GaussianPairs.fit(query[:3], response[:3])
    for bad, told in (
        ({"shrinkage": "some"}, 'must be "none", "ledoit_wolf" or a number, got "some"'),
        ({"shrinkage": 1.5}, "from 0 to 1, got 1.5"),
    ):
        with pytest.raises(ValueError, match=told):
            GaussianPairs.fit(query, response, **bad)
    with pytest.raises(ValueError, match="at least 2 finite pairs"):
        GaussianPairs.fit(query * np.nan, response)
