"""A normal distribution over `[q; r]`, the baseline of every energy model over the same vectors."""

from dataclasses import dataclass, field

import numpy as np

SHRINKAGES = ("none", "ledoit_wolf")


@dataclass(frozen=True, eq=False)
class GaussianPairs:
    """A normal distribution with full covariance over the vectors of a query and a response.

    What a linear model can know: its energy is `-ln p(q, r)`, its centre of a query is linear regression.

    Attributes:
        mean: shape `(dim,)`, queries' dimensions first.
        covariance: shape `(dim, dim)`.
        query_size: dimensions of a query.
    """

    mean: np.ndarray
    covariance: np.ndarray
    query_size: int
    _factor: np.ndarray = field(init=False, repr=False)

    def __post_init__(self):
        try:
            factor = np.linalg.cholesky(self.covariance)
        except np.linalg.LinAlgError as error:
            raise ValueError(
                f"The covariance of {len(self.mean)} dimensions is singular: there are fewer different pairs than "
                'dimensions, or dimensions that depend on each other. Give more pairs, or `shrinkage="ledoit_wolf"`.'
            ) from error
        object.__setattr__(self, "_factor", factor)

    @classmethod
    def fit(cls, query: np.ndarray, response: np.ndarray, *, shrinkage: str | float = "none") -> "GaussianPairs":
        """Fits mean and covariance.

        Args:
            query, response: vectors of training pairs, shapes `(pairs, query_size)` and `(pairs, response_size)`.
            shrinkage: "none": maximum likelihood (scikit-learn's `EmpiricalCovariance`), "ledoit_wolf", or a share
                from 0 to 1 of `ShrunkCovariance`.

        Raises:
            ValueError: for another shrinkage, vectors that are not finite, and a singular covariance.
        """
        from sklearn.covariance import EmpiricalCovariance, LedoitWolf, ShrunkCovariance

        pairs = _joined(query, response)
        if not np.isfinite(pairs).all() or len(pairs) < 2:
            raise ValueError(f"A covariance needs at least 2 finite pairs, got {len(pairs)}, or NaN or infinity.")
        if isinstance(shrinkage, str):
            if shrinkage not in SHRINKAGES:
                raise ValueError(f'`shrinkage` must be "none", "ledoit_wolf" or a number, got "{shrinkage}".')
            estimator = EmpiricalCovariance() if shrinkage == "none" else LedoitWolf()
        elif 0 <= shrinkage <= 1:
            estimator = ShrunkCovariance(shrinkage=shrinkage)
        else:
            raise ValueError(f"`shrinkage` must be from 0 to 1, got {shrinkage}.")
        estimator.fit(pairs)
        return cls(estimator.location_, estimator.covariance_, np.asarray(query).shape[1])

    def log_likelihood(self, query: np.ndarray, response: np.ndarray) -> np.ndarray:
        """`ln p(q, r)` of each pair, nats, shape `(pairs,)`."""
        whitened = np.linalg.solve(self._factor, (_joined(query, response) - self.mean).T)
        log_det = 2 * np.log(np.diag(self._factor)).sum()
        return -(len(self.mean) * np.log(2 * np.pi) + log_det + (whitened**2).sum(axis=0)) / 2

    def center(self, query: np.ndarray) -> np.ndarray:
        """`E[r | q]`, shape `(pairs, response_size)`."""
        size = self.query_size
        between, within = self.covariance[:size, size:], self.covariance[:size, :size]
        return self.mean[size:] + (np.asarray(query, np.float64) - self.mean[:size]) @ np.linalg.solve(within, between)


def _joined(query: np.ndarray, response: np.ndarray) -> np.ndarray:
    return np.concatenate([np.asarray(query, np.float64), np.asarray(response, np.float64)], axis=1)
