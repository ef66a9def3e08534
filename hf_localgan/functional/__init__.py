"""Equations as plain functions: tensors in, tensors out."""

from .cross_entropy import linear_cross_entropy, linear_token_nll

__all__ = ["linear_cross_entropy", "linear_token_nll"]
