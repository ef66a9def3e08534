"""Metrics of generated responses: plain functions, `evaluate` modules on top (`load`), reports and paired tests."""

from hf_localgan.metrics.comparison import Comparison, compare_systems
from hf_localgan.metrics.diversity import (
    NgramCounts,
    distinct_n,
    distinct_response_share,
    entropy_n,
    mean_distinct_n,
    mean_length,
    response_distinct_n,
)
from hf_localgan.metrics.embedding import (
    WordTable,
    embedding_average,
    embedding_scores,
    greedy_matching,
    relevance,
    utterance_vectors,
    vector_coverage,
    vector_extrema,
)
from hf_localgan.metrics.intervals import (
    Interval,
    PairedTest,
    bootstrap_interval,
    bootstrap_statistic,
    group_jackknife_interval,
    jackknife_interval,
    paired_bootstrap,
    paired_permutation_test,
    subsample_interval,
    swap_test,
)
from hf_localgan.metrics.likelihood import nats_to_bits, perplexity
from hf_localgan.metrics.loading import load, module_names, module_path
from hf_localgan.metrics.locality import LocalCoverage, Stability, local_coverage, reference_radius, stability
from hf_localgan.metrics.overlap import (
    BleuScore,
    BleuStatistics,
    ErrorRate,
    bleu,
    phone_error_rate,
    sentence_bleu,
    word_error_rate,
)
from hf_localgan.metrics.report import Score, ScoreReport, score_references, score_responses
from hf_localgan.metrics.signature import Signature, references_setting
from hf_localgan.metrics.tokens import TOKENIZATIONS, metric_tokens

__all__ = [
    "TOKENIZATIONS",
    "BleuScore",
    "BleuStatistics",
    "Comparison",
    "ErrorRate",
    "Interval",
    "LocalCoverage",
    "NgramCounts",
    "PairedTest",
    "Score",
    "ScoreReport",
    "Signature",
    "Stability",
    "WordTable",
    "bleu",
    "bootstrap_interval",
    "bootstrap_statistic",
    "compare_systems",
    "distinct_n",
    "distinct_response_share",
    "embedding_average",
    "embedding_scores",
    "entropy_n",
    "greedy_matching",
    "group_jackknife_interval",
    "jackknife_interval",
    "load",
    "local_coverage",
    "mean_distinct_n",
    "mean_length",
    "metric_tokens",
    "module_names",
    "module_path",
    "nats_to_bits",
    "paired_bootstrap",
    "paired_permutation_test",
    "perplexity",
    "phone_error_rate",
    "reference_radius",
    "references_setting",
    "relevance",
    "response_distinct_n",
    "score_references",
    "score_responses",
    "sentence_bleu",
    "stability",
    "subsample_interval",
    "swap_test",
    "utterance_vectors",
    "vector_coverage",
    "vector_extrema",
    "word_error_rate",
]
