"""BLEU against several references, as many as each query has, as an `evaluate` module."""

import datasets
import evaluate

from hf_localgan import metrics
from hf_localgan.metrics import checked_module


class ResponseBleu(checked_module.CheckedMetric):
    """`compute(predictions=..., references=[[...], ...], tokenize="13a", lowercase=False, max_order=4)`."""

    def _info(self):
        return evaluate.MetricInfo(
            description="Corpus BLEU through sacrebleu.",
            citation="Post 2018, A Call for Clarity in Reporting BLEU Scores",
            inputs_description=metrics.bleu.__doc__,
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Sequence(datasets.Value("string"))}
            ),
        )

    def _compute(self, predictions, references, **settings):
        result = metrics.bleu(predictions, references, **settings)
        return {"bleu": result.score, "signature": result.signature}
