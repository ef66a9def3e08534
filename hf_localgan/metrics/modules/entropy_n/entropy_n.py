"""Ent-n as an `evaluate` module."""

import math

import datasets
import evaluate

from hf_localgan import metrics
from hf_localgan.metrics import checked_module


class EntropyN(checked_module.CheckedMetric):
    """`compute(predictions=..., n=4, base=math.e, tokenization="words", lowercase=True)`."""

    def _info(self):
        return evaluate.MetricInfo(
            description="Entropy of the n-grams of a set of generations.",
            citation="Zhang et al. 2018, Generating Informative and Diverse Conversational Responses via AIM",
            inputs_description=metrics.entropy_n.__doc__,
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    def _compute(self, predictions, n=4, base=math.e, tokenization="words", lowercase=True):
        metrics.warn_of_script(tokenization, predictions, 'Choose tokenization="characters".')
        tokens = [metrics.metric_tokens(text, tokenization, lowercase) for text in predictions]
        settings = {"n": n, "tok": tokenization, "case": "lower" if lowercase else "mixed"}
        settings |= {"log": "e" if base == math.e else base, "N": len(tokens)}
        return {
            f"entropy_{n}": metrics.entropy_n(tokens, n, base),
            "signature": str(metrics.Signature("entropy", settings)),
        }
