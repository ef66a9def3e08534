"""Answering and scoring with a trained generator."""

from hf_localgan.evaluation.adversarial.front import FrontPoint, front_margin
from hf_localgan.evaluation.adversarial.plots import (
    plot_adversarial_training,
    plot_answer_radii,
    plot_fronts,
    plot_player_losses,
    plot_stability,
)
from hf_localgan.evaluation.adversarial.report import AdversarialReport
from hf_localgan.evaluation.dialogue import Evaluation, evaluate_generator
from hf_localgan.evaluation.energy.features import PairFeatures, pair_features
from hf_localgan.evaluation.energy.measure import evaluate_energy
from hf_localgan.evaluation.energy.plots import plot_clusters, plot_energy_training, plot_gap, plot_radii
from hf_localgan.evaluation.energy.ranking import (
    Locality,
    RankedResponse,
    answer_radii,
    measure_locality,
    rank_responses,
)
from hf_localgan.evaluation.energy.report import EnergyReport
from hf_localgan.evaluation.matching import MatchingReport
from hf_localgan.evaluation.plots import plot_diversity_relevance, plot_tau_curve, plot_training, require_matplotlib
from hf_localgan.evaluation.recognition import (
    RecognitionEvaluation,
    evaluate_recognition,
    recognition_metrics,
    score_transcripts,
)
from hf_localgan.evaluation.speech_plots import plot_attention, plot_speech_training
from hf_localgan.evaluation.translation import (
    TranslationEvaluation,
    evaluate_translations,
    score_translations,
    translation_metrics,
)

__all__ = [
    "AdversarialReport",
    "EnergyReport",
    "Evaluation",
    "FrontPoint",
    "Locality",
    "MatchingReport",
    "PairFeatures",
    "RankedResponse",
    "RecognitionEvaluation",
    "TranslationEvaluation",
    "answer_radii",
    "evaluate_energy",
    "evaluate_generator",
    "evaluate_recognition",
    "evaluate_translations",
    "front_margin",
    "measure_locality",
    "pair_features",
    "plot_adversarial_training",
    "plot_answer_radii",
    "plot_attention",
    "plot_clusters",
    "plot_diversity_relevance",
    "plot_energy_training",
    "plot_fronts",
    "plot_gap",
    "plot_player_losses",
    "plot_radii",
    "plot_speech_training",
    "plot_stability",
    "plot_tau_curve",
    "plot_training",
    "rank_responses",
    "recognition_metrics",
    "require_matplotlib",
    "score_transcripts",
    "score_translations",
    "translation_metrics",
]
