"""Overlap with the references: BLEU through sacrebleu, word and phone error rates through jiwer."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from hf_localgan.metrics.checks import (
    require_count,
    require_equal_lengths,
    require_reference_lists,
    require_strings,
    require_texts,
    require_tokens,
    warn_of_script,
)
from hf_localgan.metrics.phone_alignment import align_phones, count_edits
from hf_localgan.metrics.signature import Signature, references_setting
from hf_localgan.metrics.tokens import metric_tokens
from hf_localgan.phones import SILENCE, fold_phones


@dataclass(frozen=True)
class BleuStatistics:
    """What corpus BLEU is computed from, per query, so that resampling costs a sum instead of a count.

    Attributes:
        lengths: length of the generation and of its closest reference in tokens, shape `(queries, 2)`.
        counts: matched n-grams by order, shape `(queries, max_order)`.
        totals: the generation's n-grams by order, shape `(queries, max_order)`.
        smooth_method: as sacrebleu names it.
    """

    lengths: np.ndarray
    counts: np.ndarray
    totals: np.ndarray
    smooth_method: str = "exp"

    def score(self, indices: np.ndarray | None = None, max_order: int | None = None) -> float:
        """Corpus BLEU, 0 to 100, of the queries `indices` (all of them without), up to `max_order`-grams."""
        from sacrebleu.metrics import BLEU

        order = max_order or self.counts.shape[1]
        rows = slice(None) if indices is None else indices
        generated, referred = self.lengths[rows].sum(axis=0)
        return BLEU.compute_bleu(
            correct=self.counts[rows].sum(axis=0)[:order].tolist(),
            total=self.totals[rows].sum(axis=0)[:order].tolist(),
            sys_len=int(generated),
            ref_len=int(referred),
            smooth_method=self.smooth_method,
            max_ngram_order=order,
        ).score

    def spread(self, rows: np.ndarray, queries: int) -> "BleuStatistics":
        """The same statistics as the rows `rows` of a table of `queries`, zeros elsewhere; the score is the same."""

        def widened(part: np.ndarray) -> np.ndarray:
            wide = np.zeros((queries, part.shape[1]), dtype=part.dtype)
            wide[rows] = part
            return wide

        return BleuStatistics(widened(self.lengths), widened(self.counts), widened(self.totals), self.smooth_method)


@dataclass(frozen=True)
class BleuScore:
    """Corpus BLEU: `score` from 0 to 100, sacrebleu's own signature, and the statistics for intervals and tests."""

    score: float
    signature: str
    statistics: BleuStatistics


def bleu(
    generations: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenize: str = "13a",
    lowercase: bool = False,
    max_order: int = 4,
    smooth_method: str = "exp",
) -> BleuScore:
    """Corpus BLEU as sacrebleu computes it, against any number of references per query.

    Args:
        generations: one string per query.
        references: for each query its references, at least one; queries may have different numbers of them.
        tokenize: sacrebleu's tokenizer: `"13a"`, `"zh"`, `"char"`, `"intl"`, or `"none"` for text that is tokenised
            already, its tokens separated by spaces.
        lowercase: lower-case both sides.
        max_order: longest n-gram; 4 is the standard, 2 gives BLEU-2.
        smooth_method: sacrebleu's: `"exp"`, `"floor"`, `"add-k"` or `"none"`.

    Raises:
        ValueError: for unequal numbers of queries, no query at all, a query without references, or a setting that is
            not accepted.
        ImportError: for a tokenizer whose package is missing.
    """
    from sacrebleu.metrics import BLEU

    if not _check_texts(generations, references):
        raise ValueError("`generations` is empty: BLEU needs at least one query.")
    _check_tokenize(tokenize, generations, references)
    require_count("max_order", max_order)
    if smooth_method not in tuple(BLEU.SMOOTH_DEFAULTS):
        methods = ", ".join(BLEU.SMOOTH_DEFAULTS)
        raise ValueError(f"`smooth_method` must be one of sacrebleu's, {methods}, got {smooth_method!r}.")
    settings: dict[str, Any] = dict(tokenize=tokenize, lowercase=lowercase, max_ngram_order=max_order)
    sentences = _sentence_scores(generations, references, BLEU(effective_order=True, **settings))
    statistics = BleuStatistics(
        lengths=np.array([(score.sys_len, score.ref_len) for score in sentences]),
        counts=np.array([score.counts for score in sentences]),
        totals=np.array([score.totals for score in sentences]),
        smooth_method=smooth_method,
    )
    corpus = BLEU(smooth_method=smooth_method, **settings)
    corpus.num_refs = n if isinstance(n := references_setting(list(references)), int) else -1  # -1 reads "var"
    order = "" if max_order == 4 else f"order:{max_order}|"  # sacrebleu's signature leaves the order out
    return BleuScore(statistics.score(), order + str(corpus.get_signature()), statistics)


def sentence_bleu(
    generations: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenize: str = "13a",
    lowercase: bool = False,
    max_order: int = 4,
) -> np.ndarray:
    """BLEU of each generation on its own, 0 to 100, shape `(queries,)`: sacrebleu's, with effective order.

    Effective order leaves out n-gram orders that the generation is too short to have. Their mean is not corpus BLEU.
    """
    from sacrebleu.metrics import BLEU

    _check_texts(generations, references)
    _check_tokenize(tokenize, generations, references)
    require_count("max_order", max_order)
    metric = BLEU(effective_order=True, tokenize=tokenize, lowercase=lowercase, max_ngram_order=max_order)
    return np.array([score.score for score in _sentence_scores(generations, references, metric)])


def _check_texts(generations, references) -> int:
    """The number of queries; refuses what is no list of texts and lists of references."""
    require_texts("generations", generations)
    queries = require_equal_lengths(generations=generations, references=references)
    require_reference_lists(references)
    require_strings("generations", generations)
    require_strings("references", chain.from_iterable(references))
    return queries


def _check_tokenize(tokenize: str, generations, references) -> None:
    from sacrebleu.metrics import BLEU

    if tokenize not in tuple(BLEU.TOKENIZERS):
        raise ValueError(
            f"`tokenize` must be one of sacrebleu's tokenizers, {', '.join(sorted(BLEU.TOKENIZERS))}, got {tokenize!r}."
        )
    try:
        BLEU(tokenize=tokenize)
    except (ImportError, RuntimeError) as error:
        command = re.search(r"pip install \S+", str(error))
        advice = f": {command[0]}" if command else ". sacrebleu says: " + " ".join(str(error).split())
        raise ImportError(f"`tokenize={tokenize!r}` needs a package that is not installed{advice}") from error
    except OSError as error:
        raise OSError(
            f"`tokenize={tokenize!r}` needs a file that sacrebleu downloads at its first use, which failed: {error}"
        ) from error
    if tokenize != "none":  # whose tokens are the caller's
        advice = 'Choose tokenize="zh" for Chinese, "ja-mecab" for Japanese, "char" for the others.'
        texts = [*generations, *chain.from_iterable(references)]
        warn_of_script(tokenize, texts, advice)


def _sentence_scores(generations, references, metric) -> list:
    return [metric.sentence_score(text, list(refs)) for text, refs in zip(generations, references, strict=True)]


@dataclass(frozen=True)
class ErrorRate:
    """Edits per reference token over a whole set; `rate` is a fraction (0.12 is 12 %) and may exceed 1.

    Attributes:
        edits: substitutions, deletions and insertions of each query added up, shape `(queries,)`.
        reference_tokens: shape `(queries,)`.
        generated_tokens: likewise; counted as the edits are, after folding.
    """

    rate: float
    substitutions: int
    deletions: int
    insertions: int
    edits: np.ndarray
    reference_tokens: np.ndarray
    signature: str
    generated_tokens: np.ndarray

    def score(self, indices: np.ndarray) -> float:
        """The rate over the queries `indices`, for intervals."""
        return float(self.edits[indices].sum() / max(self.reference_tokens[indices].sum(), 1))


def phone_error_rate(
    generations: Sequence[str | Sequence[str]],
    references: Sequence[str | Sequence[str]],
    *,
    fold: str = "none",
    silence: str = "counted",
) -> ErrorRate:
    """PER: edits between phone sequences over the number of reference phones, as jiwer aligns them.

    Args:
        generations: one sequence of phones per query; a string is split at white space.
        references: likewise, one per query. An empty one adds its insertions to the edits and nothing to the length.
        fold: classes that both sides are brought to first, see `hf_localgan.phones.fold_phones`: `"timit39"` is the
            custom of TIMIT.
        silence: `"counted"`: `sil` is a phone like others. `"optional"`: a `sil` of a reference may be left out without
            an edit, as Kaldi's recipe scores TIMIT, which makes the rate lower; it is counted among the reference's
            phones all the same.

    Raises:
        ValueError: for unequal numbers of queries, for phones that contain white space or that `fold` does not know,
            and where all references together are empty, for the rate is then undefined (jiwer returns the number of
            insertions there).
    """
    if silence not in ("counted", "optional"):
        raise ValueError(f'`silence` must be "counted" or "optional", got {silence!r}.')
    for name, side in (("generations", generations), ("references", references)):
        require_texts(name, side)
        for phones in side:
            if not isinstance(phones, str):
                require_tokens(name, phones)
    require_equal_lengths(generations=generations, references=references)
    settings = {"tok": "phones"} | ({} if fold == "none" else {"fold": fold})
    signature = Signature("per", {**settings, "sil": silence, "N": len(references)})
    if fold != "none":
        sides = (generations, references)
        generations, references = ([fold_phones(_joined(phones).split(), fold) for phones in side] for side in sides)
    if silence == "counted":
        return _error_rate(generations, references, signature)
    generations, references = ([_joined(sequence).split() for sequence in side] for side in (generations, references))
    return _optional_error_rate(generations, references, signature)


def word_error_rate(
    generations: Sequence[str], references: Sequence[str], *, tokenization: str = "whitespace", lowercase: bool = False
) -> ErrorRate:
    """WER: edits between word sequences over the number of reference words, as jiwer aligns them.

    Args:
        generations: one utterance per query.
        references: one per query.
        tokenization: as in `metric_tokens`; `"characters"` gives the character error rate of Chinese.
        lowercase: lower-case both sides.

    Raises:
        ValueError: as `phone_error_rate`.
    """
    case = "lower" if lowercase else "mixed"
    require_texts("generations", generations)
    require_texts("references", references)
    require_equal_lengths(generations=generations, references=references)
    if tokenization != "none":
        require_strings("generations", generations)
        require_strings("references", references)
        warn_of_script(tokenization, [*generations, *references], 'Choose tokenization="characters".')
    signature = Signature("wer", {"tok": tokenization, "case": case, "N": len(references)})
    generated, referred = (
        [metric_tokens(text, tokenization, lowercase) for text in side] for side in (generations, references)
    )
    return _error_rate(generated, referred, signature)


def _error_rate(generations, references, signature: Signature) -> ErrorRate:
    import jiwer

    require_texts("generations", generations)
    require_texts("references", references)
    require_equal_lengths(generations=generations, references=references)
    generations, references = ([_joined(sequence) for sequence in side] for side in (generations, references))
    lengths = _lengths([sequence.split() for sequence in references])
    if not lengths.sum():
        raise ValueError("All `references` are empty: an error rate counts edits per reference token, and has none.")
    output = jiwer.process_words(references, generations)
    edits = [sum(_chunk_edits(chunk) for chunk in alignment) for alignment in output.alignments]
    return ErrorRate(
        rate=output.wer,
        substitutions=output.substitutions,
        deletions=output.deletions,
        insertions=output.insertions,
        edits=np.array(edits, dtype=np.int64),
        reference_tokens=lengths,
        signature=str(signature),
        generated_tokens=_lengths([sequence.split() for sequence in generations]),
    )


def _optional_error_rate(generations, references, signature: Signature) -> ErrorRate:
    lengths = _lengths(references)
    if not lengths.sum():
        raise ValueError("All `references` are empty: an error rate counts edits per reference token, and has none.")
    pairs = zip(references, generations, strict=True)
    counts = np.array([count_edits(align_phones(*pair, optional={SILENCE}), {SILENCE}) for pair in pairs])
    substitutions, deletions, insertions = counts.sum(axis=0).tolist()
    return ErrorRate(
        rate=float(counts.sum() / lengths.sum()), substitutions=substitutions, deletions=deletions,
        insertions=insertions, edits=counts.sum(axis=1), reference_tokens=lengths, signature=str(signature),
        generated_tokens=_lengths(generations),
    )  # fmt: skip


def _lengths(sequences) -> np.ndarray:
    return np.array([len(tokens) for tokens in sequences], dtype=np.int64)


def _chunk_edits(chunk) -> int:
    if chunk.type == "equal":
        return 0
    return max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)


def _joined(sequence: str | Sequence[str]) -> str:
    """The form jiwer reads: tokens separated by single spaces."""
    tokens = sequence.split() if isinstance(sequence, str) else list(sequence)
    for token in tokens:
        if not isinstance(token, str) or token.split() != [token]:
            raise ValueError(f"A token must be non-empty and free of white space, got {token!r}.")
    return " ".join(tokens)
