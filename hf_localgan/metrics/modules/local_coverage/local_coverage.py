"""Local coverage and precision as an `evaluate` module."""

import datasets
import evaluate
import numpy

from hf_localgan import metrics
from hf_localgan.metrics import checked_module


class LocalCoverage(checked_module.CheckedMetric):
    """`compute(predictions=..., references=..., radius=None)`, vectors of shape `(count, dim)` for each query."""

    def _info(self):
        vectors = datasets.Sequence(datasets.Sequence(datasets.Value("float64")))
        return evaluate.MetricInfo(
            description="Share of references near a generation, and of generations near a reference.",
            citation="",
            inputs_description=metrics.local_coverage.__doc__,
            features=datasets.Features({"predictions": vectors, "references": vectors}),
        )

    def _compute(self, predictions, references, radius=None):
        generations = [numpy.array(one) for one in predictions]
        referred = [numpy.array(one) for one in references]
        chosen = "median-nearest-reference" if radius is None else "given"
        radius = metrics.reference_radius(referred) if radius is None else radius
        result = metrics.local_coverage(referred, generations, radius)
        settings = {"refs": metrics.references_setting(referred), "samples": metrics.references_setting(generations)}
        settings |= {
            "radius": float(radius),
            "chosen": chosen,
            "N": int((~numpy.isnan(result.per_query_coverage)).sum()),
        }
        signature = str(metrics.Signature("local-coverage", settings))
        return {"coverage": result.coverage, "precision": result.precision, "signature": signature}
