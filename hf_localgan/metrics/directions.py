"""Directions of vectors, for cosines."""

import numpy as np
import torch

from hf_localgan.functional.rounding import rounding_bound


def unit_vectors(vectors: np.ndarray, magnitude: float, dtype: torch.dtype = torch.float64) -> np.ndarray:
    """Vectors of length one. A vector of zeros has no direction: it becomes zeros, and its cosine with anything is 0.

    Vectors that cancel out on paper leave a rest of rounding, which has no direction either.

    Args:
        vectors: shape `(..., dim)`.
        magnitude: length of the longest vector that they were computed from.
        dtype: that they were computed in.
    """
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    directed = norm > rounding_bound(magnitude, dtype)
    return np.where(directed, vectors / np.where(directed, norm, 1.0), 0.0)


def longest(vectors: np.ndarray) -> float:
    """Length of the longest of the vectors, shape `(..., dim)`; 0 of none."""
    return float(np.linalg.norm(vectors, axis=-1).max(initial=0.0))
