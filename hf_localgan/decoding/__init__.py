"""Every way to answer a query."""

from hf_localgan.decoding.answers import Decoding, answer_all, answer_queries
from hf_localgan.decoding.soft_rollout import SoftRollout, soft_rollout

__all__ = [
    "Decoding",
    "SoftRollout",
    "answer_all",
    "answer_queries",
    "soft_rollout",
]
