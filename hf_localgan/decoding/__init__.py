"""Every way to answer a query."""

from hf_localgan.decoding.answers import (
    Decoding,
    answer_all,
    answer_queries,
    generate_answers,
    register_decoding,
)
from hf_localgan.decoding.sampling import Responses, greedy_responses, sample_responses
from hf_localgan.decoding.soft_rollout import SoftRollout, soft_rollout

__all__ = [
    "Decoding",
    "Responses",
    "SoftRollout",
    "answer_all",
    "answer_queries",
    "generate_answers",
    "greedy_responses",
    "register_decoding",
    "sample_responses",
    "soft_rollout",
]
