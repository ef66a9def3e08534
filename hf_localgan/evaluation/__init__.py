"""Answering and scoring with a trained generator."""

from hf_localgan.evaluation.answers import Decoding, answer_queries
from hf_localgan.evaluation.draws import DrawSummary, summarize_draws
from hf_localgan.evaluation.finish import finish_training, likelihood_about
from hf_localgan.evaluation.plots import plot_diversity_relevance, plot_tau_curve, plot_training, require_matplotlib
from hf_localgan.evaluation.sweep import Evaluation, evaluate_generator
from hf_localgan.evaluation.translation import (
    TranslationEvaluation,
    evaluate_translations,
    score_translations,
    translation_metrics,
)

__all__ = [
    "Decoding",
    "DrawSummary",
    "Evaluation",
    "TranslationEvaluation",
    "answer_queries",
    "evaluate_generator",
    "evaluate_translations",
    "finish_training",
    "likelihood_about",
    "plot_diversity_relevance",
    "plot_tau_curve",
    "plot_training",
    "require_matplotlib",
    "score_translations",
    "summarize_draws",
    "translation_metrics",
]
