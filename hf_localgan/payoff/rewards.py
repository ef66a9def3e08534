"""Rewards `r(candidate, reference)` of token sequences, and the check of what a reward returns.

Any function of two token sequences is a reward. Those here judge many pairs at once, by `batch`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from rapidfuzz.distance import LCSseq, Levenshtein

from hf_localgan.payoff.base import Labels, check_pairs
from hf_localgan.payoff.ngrams import clipped_matches
from hf_localgan.payoff.rows import copy_row

SMOOTHING = ("exp", "floor", "add-k", "none")
_FLOOR, _ADDED = 0.1, 1.0  # sacrebleu's defaults for "floor" and "add-k"


class Reward(Protocol):
    """What a reward has to be: a function of a candidate and its reference, token ids without the end token.

    The larger, the better; `-inf` says that a candidate must never be drawn. The same pair must get the same number.
    A reward that is faster on many pairs offers `batch(candidates, references)`, too (see `BatchReward`).
    """

    def __call__(self, candidate: Labels, reference: Labels) -> float: ...


class BatchReward(ABC):
    """A reward that is computed for many pairs at once; one pair is a batch of one."""

    @abstractmethod
    def batch(self, candidates: Sequence[Labels], references: Sequence[Labels]) -> np.ndarray:
        """Rewards of `candidates[i]` against `references[i]`, float64, shape `(pairs,)`."""

    def __call__(self, candidate: Labels, reference: Labels) -> float:
        return float(self.batch([candidate], [reference])[0])


class SentenceBleu(BatchReward):
    """BLEU of one sentence, from 0 to 1: sacrebleu's `sentence_bleu` with effective order, divided by 100.

    Without a tokenizer the token ids are the words. With one, both sides are decoded and sacrebleu tokenises the text:
    BLEU as it is reported, but tens of times slower. A candidate equal to its reference has 1, also where sacrebleu
    says less: if both are empty, or short and smoothed by `"add-k"`.

    Args:
        max_order: longest n-gram.
        smoothing: for orders without a match, as sacrebleu names it: `"exp"`, `"floor"`, `"add-k"` or `"none"`.
        tokenizer: a transformers tokenizer, or `None`.
        tokenize: sacrebleu's tokenizer for the decoded text (`"13a"`, `"zh"`, `"char"`, ...); needs `tokenizer`.

    Raises:
        ValueError: for an order below 1, an unknown smoothing, a tokenizer that cannot decode.
    """

    def __init__(self, max_order: int = 4, smoothing: str = "exp", tokenizer=None, tokenize: str = "13a"):
        if isinstance(max_order, bool) or not isinstance(max_order, int) or max_order < 1:
            raise ValueError(f"`max_order` must be a whole number of at least 1, got {max_order!r}.")
        if smoothing not in SMOOTHING:
            raise ValueError(f"`smoothing` must be one of {', '.join(map(repr, SMOOTHING))}, got {smoothing!r}.")
        self.max_order, self.smoothing = max_order, smoothing
        self.tokenizer = None if tokenizer is None else _check_tokenizer(tokenizer, "SentenceBleu")
        if tokenizer is not None:
            from sacrebleu.metrics import BLEU

            self._metric = BLEU(
                tokenize=tokenize, smooth_method=smoothing, max_ngram_order=max_order, effective_order=True
            )

    def batch(self, candidates: Sequence[Labels], references: Sequence[Labels]) -> np.ndarray:
        if self.tokenizer is not None:
            return _score_texts(self._metric, self.tokenizer, candidates, references)
        candidates, references = _lists(candidates), _lists(references)
        pairs = list(zip(candidates, references, strict=True))
        edited = [i for i, (candidate, reference) in enumerate(pairs) if candidate != reference]
        counts = clipped_matches([candidates[i] for i in edited], [references[i] for i in edited], self.max_order)
        scores = np.ones(len(pairs))
        scores[edited] = _bleu(*counts, self.smoothing)
        return scores


class NegativeTokenErrorRate(BatchReward):
    """Minus the edits (insertions, deletions, substitutions) per token of the reference: 0 for the reference itself.

    It has no lower bound. Against an empty reference it is minus the number of tokens, as if that had one token.
    """

    def batch(self, candidates: Sequence[Labels], references: Sequence[Labels]) -> np.ndarray:
        candidates, references = _lists(candidates), _lists(references)
        edits = np.fromiter(map(Levenshtein.distance, candidates, references), np.float64, len(candidates))
        lengths = np.fromiter(map(len, references), np.float64, len(references))
        return 0.0 - edits / np.maximum(lengths, 1)


class RougeL(BatchReward):
    """ROUGE-L as F1, from 0 to 1: twice the longest common subsequence over both lengths together (Lin 2004, beta 1).

    It is 1 for two empty sequences.
    """

    def batch(self, candidates: Sequence[Labels], references: Sequence[Labels]) -> np.ndarray:
        candidates, references = _lists(candidates), _lists(references)
        common = np.fromiter(map(LCSseq.similarity, candidates, references), np.float64, len(candidates))
        lengths = np.fromiter(map(len, candidates), np.float64, len(candidates))
        lengths += np.fromiter(map(len, references), np.float64, len(references))
        return np.where(lengths > 0, 2 * common / np.maximum(lengths, 1), 1.0)


class Chrf(BatchReward):
    """chrF of the decoded text, from 0 to 1: sacrebleu's `sentence_chrf` divided by 100.

    Sacrebleu compares the characters, so both sides are decoded: some thousands of pairs per second. Equal texts have
    1, also empty ones.

    Args:
        tokenizer: a transformers tokenizer, which decodes the ids.
        char_order: longest n-gram of characters.
        word_order: longest n-gram of words; 2 is chrF++.
        beta: how much more recall counts than precision.
    """

    def __init__(self, tokenizer, char_order: int = 6, word_order: int = 0, beta: int = 2):
        from sacrebleu.metrics import CHRF

        self.tokenizer = _check_tokenizer(tokenizer, "Chrf")
        self._metric = CHRF(char_order=char_order, word_order=word_order, beta=beta)

    def batch(self, candidates: Sequence[Labels], references: Sequence[Labels]) -> np.ndarray:
        return _score_texts(self._metric, self.tokenizer, candidates, references)


def evaluate_rewards(
    reward: Callable[[Labels, Labels], float], candidates: Sequence[Labels], references: Sequence[Labels]
) -> np.ndarray:
    """The reward of each candidate, by the reward's `batch` where it has one, else once for each different pair.

    Args:
        reward: as `Reward` says.
        candidates: token ids.
        references: one for each candidate.

    Returns:
        float64, shape `(pairs,)`; finite or `-inf`.

    Raises:
        ValueError: if the reward returns NaN, `inf`, no number, or not one for each pair.
        RuntimeError: if the reward raises; it names the pair, and the reward's error is its cause.
    """
    check_pairs(candidates, references)
    if callable(getattr(reward, "batch", None)):
        rewards = _evaluate_batch(reward, candidates, references)
    else:
        known: dict[tuple, float] = {}
        for pair in zip(candidates, references, strict=True):
            key = tuple(map(tuple, pair))
            if key not in known:
                known[key] = _evaluate_one(reward, *pair)
        keys = zip(map(tuple, candidates), map(tuple, references), strict=True)
        rewards = np.fromiter((known[key] for key in keys), np.float64, len(candidates))
    refused = np.flatnonzero(np.isnan(rewards) | (rewards == np.inf))
    if len(refused):
        first = refused[0]
        raise ValueError(
            f"The reward {_name(reward)} returned {rewards[first]} for {_pair(candidates[first], references[first])}. "
            "It must return a finite number, or -inf for a candidate that must never be drawn."
        )
    return rewards


def _evaluate_batch(reward, candidates: Sequence[Labels], references: Sequence[Labels]) -> np.ndarray:
    try:
        rewards = np.asarray(reward.batch(candidates, references))
    except Exception as error:
        for pair in zip(candidates, references, strict=True):
            _evaluate_one(reward, *pair)  # finds the pair that the error comes from
        raise RuntimeError(
            f"`batch` of the reward {_name(reward)} raised {error!r} on {len(candidates)} pairs, each of which it "
            "accepts alone."
        ) from error
    if rewards.shape != (len(candidates),) or rewards.dtype.kind not in "fiub":
        raise ValueError(
            f"`batch` of the reward {_name(reward)} must return one number for each of the {len(candidates)} pairs, "
            f"got {rewards.dtype} of shape {rewards.shape}."
        )
    return rewards.astype(np.float64)


def _evaluate_one(reward, candidate: Labels, reference: Labels) -> float:
    try:
        returned = reward(candidate, reference)
        value = np.asarray(returned)
    except Exception as error:
        raise RuntimeError(f"The reward {_name(reward)} raised {error!r} for {_pair(candidate, reference)}.") from error
    if value.shape != () or value.dtype.kind not in "fiub":
        raise ValueError(
            f"The reward {_name(reward)} must return one number, got {returned!r} for {_pair(candidate, reference)}."
        )
    return float(value)


def _bleu(matches: np.ndarray, lengths: np.ndarray, reference_lengths: np.ndarray, smoothing: str) -> np.ndarray:
    """BLEU, 0 to 1, from clipped matches, shape `(pairs, max_order)`, as `sacrebleu.BLEU.compute_bleu` defines it."""
    orders = np.arange(1, matches.shape[1] + 1)
    totals = np.maximum(lengths[:, None] - orders + 1, 0).astype(np.float64)  # n-grams of the candidate
    matched = matches.astype(np.float64)
    if smoothing == "add-k":
        matched[:, 1:] += _ADDED
        totals[:, 1:] += _ADDED
    used = totals > 0  # effective order: those that the candidate is long enough for
    missed = used & (matched == 0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if smoothing == "exp":  # the first order without a match counts as 1/2 of one, the next as 1/4, ...
            matched = np.where(missed, 0.5 ** missed.cumsum(axis=1), matched)
        elif smoothing == "floor":
            matched = np.where(missed, _FLOOR, matched)
        log_precisions = np.where(used, np.log(matched / totals), 0.0)
        brevity = np.exp(np.minimum(0.0, 1.0 - reference_lengths / lengths))
        scores = brevity * np.exp(log_precisions.sum(axis=1) / used.sum(axis=1))
    return np.where(matches.any(axis=1), scores, 0.0)


def _score_texts(metric, tokenizer, candidates: Sequence[Labels], references: Sequence[Labels]) -> np.ndarray:
    """A sacrebleu metric of the decoded pairs, 0 to 1; each sequence is decoded, each pair of texts judged once."""
    sides = [[tuple(copy_row(row)) for row in side] for side in (candidates, references)]
    different = list(dict.fromkeys(sides[0] + sides[1]))
    # An empty list would be decoded as one sequence without tokens.
    decoded = tokenizer.batch_decode(different, skip_special_tokens=True) if different else []
    texts = dict(zip(different, decoded, strict=True))
    pairs = [(texts[candidate], texts[reference]) for candidate, reference in zip(*sides, strict=True)]
    scores = {
        pair: 1.0 if pair[0] == pair[1] else metric.sentence_score(pair[0], [pair[1]]).score / 100
        for pair in dict.fromkeys(pairs)
    }
    return np.fromiter((min(scores[pair], 1.0) for pair in pairs), np.float64, len(pairs))


def _check_tokenizer(tokenizer, name: str):
    if not callable(getattr(tokenizer, "batch_decode", None)):
        raise ValueError(
            f"`tokenizer` of `{name}` must be a transformers tokenizer, which decodes token ids to text, got "
            f"{tokenizer!r}."
        )
    return tokenizer


def _lists(rows: Sequence[Labels]) -> list[list[int]]:
    """Rows as lists of Python integers: rapidfuzz compares elements by their hash, which tensors do not share."""
    return [row if type(row) is list else copy_row(row) for row in rows]


def _name(reward) -> str:
    return f"`{getattr(reward, '__qualname__', type(reward).__qualname__)}`"


def _pair(candidate: Labels, reference: Labels) -> str:
    return f"candidate {copy_row(candidate)} and reference {copy_row(reference)}"
