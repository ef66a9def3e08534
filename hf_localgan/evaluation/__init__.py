"""Answering and scoring with a trained generator."""

from hf_localgan.evaluation.answers import Decoding, answer_queries
from hf_localgan.evaluation.plots import plot_diversity_relevance, plot_training, require_matplotlib
from hf_localgan.evaluation.sweep import Evaluation, evaluate_generator

__all__ = [
    "Decoding",
    "Evaluation",
    "answer_queries",
    "evaluate_generator",
    "plot_diversity_relevance",
    "plot_training",
    "require_matplotlib",
]
