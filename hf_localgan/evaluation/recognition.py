"""Transcripts of speech, scored by their error rate, with the most frequent errors and pictures of the attention."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

from hf_localgan.decoding.answers import Decoding
from hf_localgan.decoding.transcripts import attention_maps, transcribe
from hf_localgan.evaluation.dialogue import Evaluation
from hf_localgan.evaluation.speech_plots import plot_attention
from hf_localgan.markdown import markdown_table
from hf_localgan.metrics.intervals import bootstrap_statistic, no_interval
from hf_localgan.metrics.overlap import ErrorRate, phone_error_rate, word_error_rate
from hf_localgan.metrics.phone_alignment import PhoneConfusions, phone_confusions
from hf_localgan.metrics.report import Score, ScoreReport

SHOWN_SCORES = {
    "per": "PER %",
    "wer": "WER %",
    "substitutions": "substituted %",
    "deletions": "deleted %",
    "insertions": "inserted %",
    "length_ratio": "length ratio",
    "runaways": "runaways",
    "per_without_runaways": "PER % without them",
    "wer_without_runaways": "WER % without them",
}
RUNAWAY_RATIO, RUNAWAY_EXCESS = 1.5, 5
BEST_OF = "best_of_evaluations"  # fact of a run whose dev error rate is the smallest of so many
DEV_IS_BIASED = (
    "The dev error rate (`validation_error_rate`) is the smallest of all evaluations of its training, so that it is "
    "biased low: the test split decides."
)
CONFUSIONS_SHOWN = 15
NOTHING = "(nothing)"


@dataclass
class RecognitionEvaluation(Evaluation):
    """Scores and transcripts of one recogniser; queries are names of utterances, answers transcripts.

    Attributes:
        confusions: counts of each phone heard for each other under the widest search; `None` for words.
        attention: pictures of the first utterances: name, tokens of the reference, weights `(tokens, steps)`.
    """

    kind: ClassVar[str] = "recognition"
    shown: ClassVar[dict[str, str]] = SHOWN_SCORES
    columns: ClassVar[tuple[str, str]] = ("utterance", "reference")
    counts: ClassVar[frozenset[str]] = frozenset({"runaways"})
    samples: ClassVar[str] = "sample transcripts"

    confusions: PhoneConfusions | None = field(default=None, repr=False)
    attention: list[tuple[str, list[str], np.ndarray]] = field(default_factory=list, repr=False)

    def remarks(self) -> list[str]:
        runaways = (
            f"Runaways are transcripts that are longer than {RUNAWAY_RATIO} times their reference, and by at least "
            f"{RUNAWAY_EXCESS}."
        )
        return [*([DEV_IS_BIASED] if BEST_OF in self.about else []), runaways]

    def to_markdown(self, rows: int = 12) -> str:
        text = super().to_markdown(rows)
        if self.confusions is None:
            return text
        errors = self.confusions.errors(CONFUSIONS_SHOWN)
        cells = [(reference or NOTHING, heard or NOTHING, times) for reference, heard, times in errors]
        lines = ["", "## Most frequent errors", "", *markdown_table(("reference", "heard as", "times"), cells, "<<>")]
        return text + "\n".join(lines) + "\n"

    def _plot(self, folder: Path) -> list[Path]:
        if not self.attention:
            return []
        plot_attention(self.attention, folder / "attention.png")
        return [folder / "attention.png"]


def score_transcripts(
    transcripts: Sequence[str],
    references: Sequence[str],
    *,
    target: str = "phones",
    fold: str = "none",
    silence: str = "counted",
    names: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> ScoreReport:
    """The error rate of one transcript per utterance, and its three kinds of errors, in per cent of the reference.

    Args:
        transcripts: phones with spaces, or text.
        references: likewise.
        target: "phones" for the phone error rate, "text" for the word error rate, which ignores case.
        fold, silence: treatment of phones, see `phone_error_rate`.
        names: names of the utterances, kept in the report.
        resamples: samples of the bootstrap over utterances; below 2 there are no intervals.
        seed: seed of the bootstrap.

    Returns:
        `per` or `wer`, `substitutions`, `deletions`, `insertions` (the three add up to it) and `length_ratio`;
        `runaways`, the number of transcripts that `find_runaways` finds, and `per_without_runaways` or
        `wer_without_runaways`, the rate over the other utterances, where there are any. One transcript that loops until
        the limit of length may weigh more than a difference between two recognisers.
        `per_query` holds `edits`, `reference_tokens` and `generated_tokens` of each utterance.

    Raises:
        ValueError: as `phone_error_rate`.
    """
    if target == "phones":
        name, rate = "per", phone_error_rate(transcripts, references, fold=fold, silence=silence)
    else:
        name, rate = "wer", word_error_rate(transcripts, references, lowercase=True)
    total = rate.reference_tokens.sum()
    interval = bootstrap_statistic(lambda rows: 100 * rate.score(rows), len(rate.edits), resamples, seed=seed)
    scores = {name: Score(interval, rate.signature)}
    for part in ("substitutions", "deletions", "insertions"):
        scores[part] = Score(no_interval(100 * getattr(rate, part) / total), f"{part}|{rate.signature}")
    ratio = (total + rate.insertions - rate.deletions) / total
    if silence == "counted" or target != "phones":  # else deletions that cost nothing are not counted
        scores["length_ratio"] = Score(no_interval(float(ratio)), f"length_ratio|{rate.signature}")
    runaways = find_runaways(rate.generated_tokens, rate.reference_tokens)
    definition = f"ratio:{RUNAWAY_RATIO}|excess:{RUNAWAY_EXCESS}|{rate.signature}"
    scores["runaways"] = Score(no_interval(float(runaways.sum())), f"runaways|{definition}")
    kept = np.flatnonzero(~runaways)
    if rate.reference_tokens[kept].sum():
        interval = bootstrap_statistic(lambda rows: 100 * rate.score(kept[rows]), len(kept), resamples, seed=seed)
        scores[f"{name}_without_runaways"] = Score(interval, f"{name}_without_runaways|{definition}")
    names_of_counts = ("edits", "reference_tokens", "generated_tokens")
    per_query = {column: getattr(rate, column).astype(float) for column in names_of_counts}
    return ScoreReport(
        scores, len(rate.edits), per_query=per_query, tokens=[text.split() for text in transcripts],
        query_texts=None if names is None else list(names),
    )  # fmt: skip


def find_runaways(generated_tokens: np.ndarray, reference_tokens: np.ndarray) -> np.ndarray:
    """Which transcripts run away: longer than 1.5 times their reference, and by at least 5 tokens.

    Args:
        generated_tokens: length of each transcript, shape `(utterances,)`.
        reference_tokens: of each reference, likewise.

    Returns:
        Booleans of the same shape.
    """
    longer = generated_tokens > RUNAWAY_RATIO * reference_tokens
    return longer & (generated_tokens >= reference_tokens + RUNAWAY_EXCESS)


def evaluate_recognition(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    dataset: Sequence[Mapping[str, Any]],
    *,
    decodings: Sequence[Decoding],
    target: str = "phones",
    fold: str = "none",
    silence: str = "counted",
    resamples: int = 1000,
    pictures: int = 6,
    about: dict[str, Any] | None = None,
    seed: int = 0,
    **transcribing: Any,
) -> RecognitionEvaluation:
    """Transcribes every utterance under every decoding and scores the transcripts.

    Args:
        model: a recogniser.
        processor: its processor.
        dataset: rows of `encode_speech`: `input_features`, `labels`, `id`.
        decodings: how to decode; the last one gives the confusions.
        target, fold, silence, resamples: as in `score_transcripts`.
        pictures: utterances whose attention is drawn.
        about: kept in the result; the frames per second of sound and of each decoding are added to it.
        seed: seed of the bootstrap.
        transcribing: further arguments of `transcribe`.

    Raises:
        ValueError: without an utterance.
    """
    if not len(dataset):
        raise ValueError("There is no utterance to transcribe: the split is empty.")
    features = [np.asarray(row["input_features"], dtype=np.float32) for row in dataset]
    names = [str(row["id"]) for row in dataset]
    references = decode_labels(processor.tokenizer, [row["labels"] for row in dataset])
    answers, seconds = {}, {}
    for decoding in decodings:
        started = time.perf_counter()
        answers[decoding.name] = transcribe(model, processor, features, decoding, **transcribing)
        seconds[decoding.name] = time.perf_counter() - started
    scoring: dict[str, Any] = dict(
        target=target, fold=fold, silence=silence, names=names, resamples=resamples, seed=seed
    )
    reports = {name: score_transcripts(texts, references, **scoring) for name, texts in answers.items()}
    confusions = None
    if target == "phones":
        best = [text.split() for text in answers[decodings[-1].name]]
        confusions = phone_confusions(best, [text.split() for text in references], fold=fold)
    shown = [dataset[index] for index in range(min(pictures, len(dataset)))]
    maps = attention_maps(model, processor, shown)
    attention = [
        (str(row["id"]), processor.tokenizer.convert_ids_to_tokens(list(map(int, row["labels"]))), weights)
        for row, weights in zip(shown, maps, strict=True)
    ]
    frames = sum(map(len, features))
    speed = {f"frames_per_second_{name}": round(frames / max(took, 1e-9)) for name, took in seconds.items()}
    return RecognitionEvaluation(
        {**(about or {}), **speed}, names, [[text] for text in references], reports, None, answers, list(decodings),
        seconds, confusions, attention,
    )  # fmt: skip


def recognition_metrics(
    tokenizer: PreTrainedTokenizerBase, *, target: str = "phones", fold: str = "none", silence: str = "counted"
) -> Callable[[EvalPrediction], dict[str, float]]:
    """A `compute_metrics` that gives the error rate of the generated validation set, a fraction, and its parts.

    Set `predict_with_generate=True` in the trainer's arguments.

    Args:
        tokenizer: the trainer's.
        target, fold, silence: as in `score_transcripts`.

    Raises:
        ValueError: by the function that is returned, where it gets logits in place of generations.
    """

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        ids = prediction.predictions
        if isinstance(ids, tuple) or ids.ndim != 2:
            raise ValueError("Error rates need generated token ids. Set `predict_with_generate=True`.")
        transcripts, references = (decode_labels(tokenizer, rows) for rows in (ids, prediction.label_ids))
        rate: ErrorRate
        if target == "phones":
            name, rate = "per", phone_error_rate(transcripts, references, fold=fold, silence=silence)
        else:
            name, rate = "wer", word_error_rate(transcripts, references, lowercase=True)
        total = int(rate.reference_tokens.sum())
        parts = {part: getattr(rate, part) / total for part in ("substitutions", "deletions", "insertions")}
        return {name: rate.rate, **parts}

    return compute


def decode_labels(tokenizer: PreTrainedTokenizerBase, rows: Iterable[Any]) -> list[str]:
    """The text of rows of ids; padding, -100 included, and special tokens are left out."""
    kept = [[token for token in map(int, row) if token >= 0] for row in rows]
    return [text.strip() for text in tokenizer.batch_decode(kept, skip_special_tokens=True)]
