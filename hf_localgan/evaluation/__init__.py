"""Answering and scoring with a trained generator."""

from hf_localgan.evaluation.answers import Decoding, answer_queries
from hf_localgan.evaluation.draws import DrawSummary, summarize_draws
from hf_localgan.evaluation.energy import evaluate_energy
from hf_localgan.evaluation.energy_plots import plot_clusters, plot_energy_training, plot_gap, plot_radii
from hf_localgan.evaluation.energy_report import EnergyReport
from hf_localgan.evaluation.finish import finish_training, likelihood_about
from hf_localgan.evaluation.finish_energy import finish_energy_training
from hf_localgan.evaluation.matching import MatchingReport, finish_matching
from hf_localgan.evaluation.pair_features import PairFeatures, pair_features
from hf_localgan.evaluation.plots import plot_diversity_relevance, plot_tau_curve, plot_training, require_matplotlib
from hf_localgan.evaluation.ranking import Locality, RankedResponse, measure_locality, rank_responses
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
    "EnergyReport",
    "Evaluation",
    "Locality",
    "MatchingReport",
    "PairFeatures",
    "RankedResponse",
    "TranslationEvaluation",
    "answer_queries",
    "evaluate_energy",
    "evaluate_generator",
    "evaluate_translations",
    "finish_energy_training",
    "finish_matching",
    "finish_training",
    "likelihood_about",
    "measure_locality",
    "pair_features",
    "plot_clusters",
    "plot_diversity_relevance",
    "plot_energy_training",
    "plot_gap",
    "plot_radii",
    "plot_tau_curve",
    "plot_training",
    "rank_responses",
    "require_matplotlib",
    "score_translations",
    "summarize_draws",
    "translation_metrics",
]
