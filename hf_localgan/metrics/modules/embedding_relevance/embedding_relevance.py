"""Embedding average, greedy matching, vector extrema and their sum as an `evaluate` module."""

import datasets
import evaluate

from hf_localgan import metrics
from hf_localgan.metrics import checked_module


class EmbeddingRelevance(checked_module.CheckedMetric):
    """`compute(predictions=..., references=[[...], ...], vectors=vectors, tokenization="words", lowercase=True)`."""

    def _info(self):
        return evaluate.MetricInfo(
            description="Relevance of generations to one or several references by word vectors.",
            citation="Liu et al. 2016, How NOT To Evaluate Your Dialogue System",
            inputs_description=metrics.embedding_scores.__doc__,
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Sequence(datasets.Value("string"))}
            ),
        )

    def _compute(self, predictions, references, vectors, tokenization="words", lowercase=True):
        metrics.warn_of_script(
            tokenization,
            [*predictions, *(text for one in references for text in one)],
            'Choose tokenization="characters".',
        )
        tokens = [metrics.metric_tokens(text, tokenization, lowercase) for text in predictions]
        referred = [[metrics.metric_tokens(text, tokenization, lowercase) for text in one] for one in references]
        scores = metrics.embedding_scores(tokens, referred, vectors)
        settings = {"tok": tokenization, "case": "lower" if lowercase else "mixed"}
        settings |= {"refs": metrics.references_setting(referred), "vectors": vectors.name, "N": len(tokens)}
        means = {name: float(values.mean()) for name, values in scores.items()}
        return {**means, "signature": str(metrics.Signature("embedding-relevance", settings))}
