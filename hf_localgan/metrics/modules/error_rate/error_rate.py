"""Phone and word error rate as an `evaluate` module."""

import datasets
import evaluate

from hf_localgan import metrics
from hf_localgan.metrics import checked_module


class ErrorRate(checked_module.CheckedMetric):
    """`compute(predictions=..., references=..., unit="phones")`; `"words"` takes `tokenization` and `lowercase` too."""

    def _info(self):
        return evaluate.MetricInfo(
            description="Edits per reference token.",
            citation="",
            inputs_description=metrics.phone_error_rate.__doc__,
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _compute(self, predictions, references, unit="phones", tokenization="whitespace", lowercase=False):
        if unit == "phones":
            result = metrics.phone_error_rate(predictions, references)
        elif unit == "words":
            result = metrics.word_error_rate(predictions, references, tokenization=tokenization, lowercase=lowercase)
        else:
            raise ValueError(f'`unit` must be "phones" or "words", got {unit!r}.')
        return {
            "per" if unit == "phones" else "wer": result.rate,
            "substitutions": result.substitutions,
            "deletions": result.deletions,
            "insertions": result.insertions,
            "signature": result.signature,
        }
