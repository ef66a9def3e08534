"""Dist-n as an `evaluate` module."""

import datasets
import evaluate

from hf_localgan import metrics
from hf_localgan.metrics import checked_module


class DistinctN(checked_module.CheckedMetric):
    """`compute(predictions=..., n=2, tokenization="words", lowercase=True)`."""

    def _info(self):
        return evaluate.MetricInfo(
            description="Distinct n-grams over all n-grams of a set of generations.",
            citation="Li et al. 2016, A Diversity-Promoting Objective Function for Neural Conversation Models",
            inputs_description=metrics.distinct_n.__doc__,
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    def _compute(self, predictions, n=2, tokenization="words", lowercase=True):
        metrics.warn_of_script(tokenization, predictions, 'Choose tokenization="characters".')
        tokens = [metrics.metric_tokens(text, tokenization, lowercase) for text in predictions]
        settings = {"n": n, "tok": tokenization, "case": "lower" if lowercase else "mixed", "N": len(tokens)}
        return {
            f"distinct_{n}": metrics.distinct_n(tokens, n),
            f"mean_distinct_{n}": metrics.mean_distinct_n(tokens, n),
            "signature": str(metrics.Signature("distinct", settings)),
        }
