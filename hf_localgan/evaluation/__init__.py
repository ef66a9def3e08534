"""Answering and scoring with a trained generator."""

from hf_localgan.evaluation.adversarial import AdversarialReport, answer_radii
from hf_localgan.evaluation.adversarial_plots import (
    plot_adversarial_training,
    plot_answer_radii,
    plot_fronts,
    plot_stability,
)
from hf_localgan.evaluation.answers import Decoding, answer_queries
from hf_localgan.evaluation.draws import DrawSummary, summarize_draws
from hf_localgan.evaluation.energy import evaluate_energy
from hf_localgan.evaluation.energy_plots import plot_clusters, plot_energy_training, plot_gap, plot_radii
from hf_localgan.evaluation.energy_report import EnergyReport
from hf_localgan.evaluation.finish import finish_training, likelihood_about
from hf_localgan.evaluation.finish_adversarial import finish_adversarial_training
from hf_localgan.evaluation.finish_energy import finish_energy_training
from hf_localgan.evaluation.front import FrontPoint, front_margin
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
    "AdversarialReport",
    "Decoding",
    "DrawSummary",
    "EnergyReport",
    "Evaluation",
    "FrontPoint",
    "Locality",
    "MatchingReport",
    "PairFeatures",
    "RankedResponse",
    "TranslationEvaluation",
    "answer_queries",
    "answer_radii",
    "evaluate_energy",
    "evaluate_generator",
    "evaluate_translations",
    "finish_adversarial_training",
    "finish_energy_training",
    "finish_matching",
    "finish_training",
    "front_margin",
    "likelihood_about",
    "measure_locality",
    "pair_features",
    "plot_adversarial_training",
    "plot_answer_radii",
    "plot_clusters",
    "plot_diversity_relevance",
    "plot_energy_training",
    "plot_fronts",
    "plot_gap",
    "plot_radii",
    "plot_stability",
    "plot_tau_curve",
    "plot_training",
    "rank_responses",
    "require_matplotlib",
    "score_translations",
    "summarize_draws",
    "translation_metrics",
]
