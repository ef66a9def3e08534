"""Every way to answer a query."""

from hf_localgan.decoding.answers import (
    Decoding,
    answer_all,
    answer_queries,
    generate_answers,
    register_decoding,
)
from hf_localgan.decoding.candidates import Candidates, draw_candidates
from hf_localgan.decoding.latent_noise import LatentNoise, encode_with_noise
from hf_localgan.decoding.mmi import AntiLm, AntiLmProcessor, AntiLmReranker, MutualInformationReranker
from hf_localgan.decoding.reranking import DiscriminatorReranker, EnergyReranker, Reranker, reference_radius
from hf_localgan.decoding.sampling import Responses, greedy_responses, sample_responses
from hf_localgan.decoding.soft_rollout import SoftRollout, soft_rollout
from hf_localgan.decoding.transcripts import attention_maps, transcribe, transcript_limit
from hf_localgan.decoding.tuning import CandidateTable, tabulate_candidates, tune_decodings, tune_reranker, tune_search

__all__ = [
    "AntiLm",
    "AntiLmProcessor",
    "AntiLmReranker",
    "CandidateTable",
    "Candidates",
    "Decoding",
    "DiscriminatorReranker",
    "EnergyReranker",
    "LatentNoise",
    "MutualInformationReranker",
    "Reranker",
    "Responses",
    "SoftRollout",
    "answer_all",
    "answer_queries",
    "attention_maps",
    "draw_candidates",
    "encode_with_noise",
    "generate_answers",
    "greedy_responses",
    "reference_radius",
    "register_decoding",
    "sample_responses",
    "soft_rollout",
    "tabulate_candidates",
    "transcribe",
    "transcript_limit",
    "tune_decodings",
    "tune_reranker",
    "tune_search",
]
