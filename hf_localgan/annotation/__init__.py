"""Human judgement: blinded sheets, a page to fill them in, scores and tests, and what metrics are worth by them."""

from hf_localgan.annotation.agreement import (
    Agreement,
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    mean_cohen_kappa,
    measure_agreement,
    raw_agreement,
)
from hf_localgan.annotation.correlation import correlate_metrics
from hf_localgan.annotation.judged_responses import JudgedResponses, read_judged_responses
from hf_localgan.annotation.judgements import Judgements, human_scores, read_judgements
from hf_localgan.annotation.metric_worth import Correlation, MetricWorth
from hf_localgan.annotation.power import (
    DifferenceVariance,
    detection_power,
    measured_variance,
    planned_variance,
    power_table,
    queries_needed,
    smallest_difference,
)
from hf_localgan.annotation.report import AnnotationReport, Difference, HumanScore, PersonCheck
from hf_localgan.annotation.scoring import compare_answers, score_judgements, two_way_interval
from hf_localgan.annotation.server import AnnotationServer, SheetFile, serve_sheet
from hf_localgan.annotation.sheets import Question, Sheet, SheetRow, read_sheet
from hf_localgan.annotation.study import QUESTIONS, Item, KeyRow, Study, System, make_study, read_systems

__all__ = [
    "QUESTIONS",
    "Agreement",
    "AnnotationReport",
    "AnnotationServer",
    "Correlation",
    "Difference",
    "DifferenceVariance",
    "HumanScore",
    "Item",
    "JudgedResponses",
    "Judgements",
    "KeyRow",
    "MetricWorth",
    "PersonCheck",
    "Question",
    "Sheet",
    "SheetFile",
    "SheetRow",
    "Study",
    "System",
    "measure_agreement",
    "cohen_kappa",
    "compare_answers",
    "correlate_metrics",
    "fleiss_kappa",
    "human_scores",
    "krippendorff_alpha",
    "make_study",
    "mean_cohen_kappa",
    "measured_variance",
    "planned_variance",
    "power_table",
    "detection_power",
    "queries_needed",
    "raw_agreement",
    "read_judged_responses",
    "read_judgements",
    "read_sheet",
    "read_systems",
    "score_judgements",
    "serve_sheet",
    "smallest_difference",
    "two_way_interval",
]
