"""BLEU and chrF of translations: of the test set by a trained generator, and of the validation set during training."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase

from hf_localgan.data.padding import PADDING
from hf_localgan.decoding.answers import Decoding, answer_all
from hf_localgan.evaluation.dialogue import Evaluation
from hf_localgan.metrics import Interval, Score, ScoreReport, Signature, metric_tokens, sentence_bleu
from hf_localgan.metrics.checks import require_equal_lengths, require_reference_lists
from hf_localgan.metrics.intervals import no_interval
from hf_localgan.metrics.overlap import bleu

SHOWN_TRANSLATION_SCORES = {
    "bleu": "BLEU",
    "bleu_tokenized": "tokenised BLEU",
    "chrf": "chrF",
    "length_ratio": "length ratio",
    "brevity_penalty": "brevity penalty",
    "mean_length": "words",
}


@dataclass
class TranslationEvaluation(Evaluation):
    """Scores and translations of one generator; queries are source sentences, answers translations."""

    kind: ClassVar[str] = "translation"
    shown: ClassVar[dict[str, str]] = SHOWN_TRANSLATION_SCORES
    columns: ClassVar[tuple[str, str]] = ("source", "a reference")
    samples: ClassVar[str] = "sample translations"

    def _plot(self, folder: Path) -> list[Path]:
        return []  # diversity against relevance is for dialogue


def score_translations(
    generations: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    queries: Sequence[str] | None = None,
    bleu_tokenize: str = "13a",
    tokenization: str = "words",
    resamples: int = 1000,
) -> ScoreReport:
    """BLEU, tokenised BLEU and chrF of one translation per source sentence, as sacrebleu computes them, mixed case.

    Args:
        generations: detokenised translations.
        references: for each source sentence at least one, detokenised.
        queries: the source sentences, kept in the report.
        bleu_tokenize: sacrebleu's tokenizer for detokenised BLEU: `"13a"`, the standard, or `"zh"` for Chinese.
        tokenization: for tokenised BLEU, as in `metric_tokens`; the RAML paper reports it, with a tokenizer of its own.
        resamples: number of samples of sacrebleu's bootstrap, which makes the intervals (95 %, seed 12345 unless the
            environment variable `SACREBLEU_SEED` says otherwise); below 2 there are none.

    Returns:
        `bleu`, `bleu_tokenized` and `chrf` from 0 to 100, with sacrebleu's signatures; `length_ratio` (tokens of the
        translations by those of the references, 13a), `brevity_penalty`, `mean_length` (in tokens of `tokenization`).
        `per_query` holds `sentence_bleu` and `sentence_chrf`, whose means are no corpus scores.

    Raises:
        ValueError: for unequal numbers of translations and references, no sentence, or one without references.
    """
    from sacrebleu.metrics import BLEU, CHRF

    if not require_equal_lengths(generations=generations, references=references):
        raise ValueError("`generations` is empty: there is nothing to score.")
    require_reference_lists(references)
    tokens: list[Sequence[str]] = [metric_tokens(text, tokenization, lowercase=False) for text in generations]
    tokenized = [
        [" ".join(metric_tokens(reference, tokenization, lowercase=False)) for reference in group]
        for group in references
    ]

    plain, without_tokenizer, chrf = BLEU(tokenize=bleu_tokenize), BLEU(tokenize="none", force=True), CHRF()
    corpus = plain.corpus_score(list(generations), _streams(references), n_bootstrap=resamples)
    corpus_chrf = chrf.corpus_score(list(generations), _streams(references), n_bootstrap=resamples)
    corpus_tokenized = without_tokenizer.corpus_score(
        [*map(" ".join, tokens)], _streams(tokenized), n_bootstrap=resamples
    )

    settings = {"tok": tokenization, "case": "mixed", "N": len(tokens)}
    scores = {
        "bleu": _score(corpus, plain, "BLEU", resamples),
        "bleu_tokenized": _score(
            corpus_tokenized, without_tokenizer, f"{Signature('bleu', settings)}|sacrebleu", resamples
        ),
        "chrf": _score(corpus_chrf, chrf, "chrF2", resamples),
        "length_ratio": Score(no_interval(corpus.ratio), f"length_ratio|{plain.get_signature()}"),
        "brevity_penalty": Score(no_interval(corpus.bp), f"brevity_penalty|{plain.get_signature()}"),
        "mean_length": Score(no_interval(float(np.mean([*map(len, tokens)]))), str(Signature("mean_length", settings))),
    }
    pairs = zip(generations, references, strict=True)
    per_query = {
        "sentence_bleu": sentence_bleu(generations, references, tokenize=bleu_tokenize),
        "sentence_chrf": np.array([chrf.sentence_score(text, list(group)).score for text, group in pairs]),
    }
    return ScoreReport(
        scores, len(tokens), per_query=per_query, tokens=tokens,
        bleu_statistics=bleu(generations, references, tokenize=bleu_tokenize).statistics,
        query_texts=None if queries is None else list(queries),
    )  # fmt: skip


def _streams(references: Sequence[Sequence[str]]) -> list[list[str]]:
    """The references as sacrebleu takes them: all first ones, all second ones, ...

    A sentence with fewer references has `None` in the later ones, which sacrebleu accepts, though its types do not.
    """
    return [cast(list[str], list(stream)) for stream in zip_longest(*references)]


def _score(result: Any, metric: Any, name: str, resamples: int) -> Score:
    signature = f"{name}|{metric.get_signature()}"
    if resamples < 2:
        return Score(no_interval(result.score), signature)
    seed = int(metric.seed) if metric.seed.isdigit() else None
    mean, half = float(result._mean), float(result._ci)  # what sacrebleu prints as "μ = ... ± ..."
    low, high = max(mean - half, 0.0), min(mean + half, 100.0)  # BLEU and chrF lie between these
    return Score(Interval(result.score, low, high, 0.95, "bootstrap", resamples, seed), signature)


def evaluate_translations(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    queries: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    decodings: Sequence[Decoding],
    bleu_tokenize: str = "13a",
    tokenization: str = "words",
    resamples: int = 1000,
    about: dict[str, Any] | None = None,
    seed: int = 0,
    max_new_tokens: int = 40,
    max_source_length: int | None = None,
    batch_size: int = 128,
) -> TranslationEvaluation:
    """Translates every source sentence under every decoding and scores the translations.

    Args:
        model: any encoder-decoder.
        tokenizer: its tokenizer.
        queries: source sentences.
        references: for each source sentence at least one, detokenised.
        decodings: with different names.
        bleu_tokenize, tokenization, resamples: as in `score_translations`.
        about: what identifies the evaluation; kept in the result.
        seed: of sampling.
        max_new_tokens, max_source_length, batch_size: see `answer_queries`.

    Raises:
        ValueError: without a source sentence, for two decodings of one name, and for a sentence without a reference.
    """
    samples, seconds = answer_all(
        model, tokenizer, queries, decodings, max_new_tokens=max_new_tokens, max_source_length=max_source_length,
        batch_size=batch_size, seed=seed,
    )  # fmt: skip
    answers = {name: [texts[0] for texts in drawn] for name, drawn in samples.items()}
    reports = {
        name: score_translations(
            texts, references, queries=queries, bleu_tokenize=bleu_tokenize, tokenization=tokenization,
            resamples=resamples,
        )
        for name, texts in answers.items()
    }  # fmt: skip
    return TranslationEvaluation(
        about or {}, list(queries), [*map(list, references)], reports, None, answers, list(decodings), seconds
    )


def bleu_against(references: Sequence[Sequence[str]], bleu_tokenize: str = "13a") -> Callable[[list[str]], float]:
    """A function that gives detokenised corpus BLEU, 0 to 100, of one translation of each sentence.

    Args:
        references: for each source sentence at least one, detokenised; they are tokenised once for all calls.
        bleu_tokenize: sacrebleu's tokenizer.
    """
    from sacrebleu.metrics import BLEU

    require_reference_lists(references)
    metric = BLEU(tokenize=bleu_tokenize, references=_streams(references))
    return lambda generations: metric.corpus_score(generations, None).score


def translation_metrics(
    tokenizer: PreTrainedTokenizerBase,
    queries: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    max_source_length: int | None = None,
    bleu_tokenize: str = "13a",
) -> Callable[[EvalPrediction], dict[str, float]]:
    """A `compute_metrics` that gives `bleu` (detokenised, 0 to 100) and `length_ratio` of the generated validation set.

    Generations are recognised by their inputs, so that the rows may come in any order (batches grouped by length,
    several processes) and with any padding. A source sentence with several rows counts once, against all of its
    references. Set `predict_with_generate=True` and `include_for_metrics=["inputs"]` in the trainer's arguments.

    Args:
        tokenizer: the trainer's.
        queries: source sentences of the validation set.
        references: for each source sentence at least one, detokenised.
        max_source_length: longest source, in tokens, the rest cut off as by `encode_pairs(..., on_long="truncate")`.
        bleu_tokenize: sacrebleu's tokenizer.

    Raises:
        ValueError: from the function that is returned, where it gets no generations, no inputs, or inputs that are none
            of `queries`.
    """
    queries, references = list(queries), list(references)  # columns of a data set read the disk at each access
    require_equal_lengths(queries=queries, references=references)
    require_reference_lists(references)
    encoded = tokenizer(queries, truncation=max_source_length is not None, max_length=max_source_length)
    padding = {PADDING, tokenizer.pad_token_id}
    waiting: dict[tuple[int, ...], list[int]] = {}
    for index, ids in enumerate(encoded["input_ids"]):
        waiting.setdefault(_without(ids, padding), []).append(index)  # unknown words make different sources equal

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        from sacrebleu.metrics import BLEU

        ids, inputs = prediction.predictions, prediction.inputs
        if isinstance(ids, tuple) or ids.ndim != 2 or inputs is None:
            raise ValueError(
                "BLEU needs generated token ids and the inputs they belong to. Set `predict_with_generate=True` and "
                '`include_for_metrics=["inputs"]`.'
            )
        texts = tokenizer.batch_decode(np.where(ids == PADDING, tokenizer.pad_token_id, ids), skip_special_tokens=True)
        left = {key: list(indices) for key, indices in waiting.items()}
        generations, groups = [], []
        for row, text in zip(inputs, texts, strict=True):
            indices = left.get(_without(row, padding))
            if indices is None:
                source = tokenizer.decode([*_without(row, padding)], skip_special_tokens=True)
                raise ValueError(
                    f"The validation set holds a source that is none of `queries`: {source!r}. Give the queries of "
                    "the data set that is evaluated."
                )
            if indices:  # else a further row of the same source
                groups.append(references[indices.pop(0)])
                generations.append(text.strip())
        score = BLEU(tokenize=bleu_tokenize).corpus_score(generations, _streams(groups))
        return {"bleu": score.score, "length_ratio": score.ratio}

    return compute


def _without(ids: Iterable[int], left_out: set[int | None]) -> tuple[int, ...]:
    return tuple(token for token in map(int, ids) if token not in left_out)
