"""Draws from `q(y|y*)` around one sentence, and their distribution, for the page (Norouzi et al. 2016)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from rapidfuzz.distance import Levenshtein
from transformers import PreTrainedTokenizerBase

from hf_localgan.data import regular_tokens
from hf_localgan.data.label_frames import LabelFrames
from hf_localgan.payoff import EditPayoff, ExactEditPayoff, HammingPayoff, ImportancePayoff, Payoff
from hf_localgan.payoff.keys import derive_keys
from hf_localgan.payoff.rewards import evaluate_rewards
from hf_localgan.text import without_surrogates
from hf_localgan.trainers.raml.config import REWARDS, make_reward

SAMPLERS: dict[str, type[HammingPayoff | EditPayoff | ExactEditPayoff]] = {
    "hamming": HammingPayoff,
    "edit": EditPayoff,
    "exact_edit": ExactEditPayoff,
}
PAYOFFS = (*SAMPLERS, "importance")
LONGEST = 60  # tokens of a reference
COUNTABLE = 11  # different tokens of a reference whose strings at each distance are counted in about a second
ESTIMATES = {"exact_edit": 2000, "importance": 200}  # draws for estimates where there is no closed form
_ESTIMATE_STREAM = 1  # stream of their keys; the draws that are shown have stream 0
KEPT, NEW, REMOVED = "kept", "new", "removed"


class Piece(NamedTuple):
    """Part of a draw.

    Attributes:
        status: `KEPT`, `NEW` (drawn), or `REMOVED` (in the reference, not in the draw).
        text: with the space before it, if it has one.
    """

    status: str
    text: str


class Draw(NamedTuple):
    """One draw.

    Attributes:
        text: the draw, decoded.
        pieces: its differences from the reference.
        edits: number of edits, as the sampler counts them.
        log_prob: log-probability of drawing this string, nats; `None` where it cannot be computed.
        reward: its reward with `importance`; `None` otherwise.
    """

    text: str
    pieces: list[Piece]
    edits: int
    log_prob: float | None
    reward: float | None


@dataclass(frozen=True)
class DrawsShown:
    """Draws around one reference.

    Attributes:
        reference: the reference, decoded, with `<unk>` for words outside the vocabulary.
        length: number of its tokens, without the special ones around it.
        vocab_size: number of tokens that may be drawn.
        temperature: tau.
        edit_cost: cost of one edit, in units of the reward; with `importance` that of its proposal.
        edit_rate: expected edits per token of the reference.
        error: standard error of `edit_rate` if it is estimated from draws, otherwise 0.
        probs: probabilities of 0, 1, 2, ... edits, float64, shape `(edits + 1,)`.
        approximate: whether log-probabilities use an estimated normaliser.
        estimated_from: number of draws that estimate `edit_rate` and `probs`, 0 where they are exact.
        draws: the draws that are shown.
    """

    reference: str
    length: int
    vocab_size: int
    temperature: float
    edit_cost: float
    edit_rate: float
    error: float
    probs: np.ndarray
    approximate: bool
    estimated_from: int
    draws: list[Draw]


@lru_cache(maxsize=8)
def _tokens(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    return np.array(regular_tokens(tokenizer), dtype=np.int64)


def make_sampler(
    tokenizer: PreTrainedTokenizerBase,
    payoff: str,
    length: int,
    *,
    temperature: float | None = None,
    edit_rate: float | None = None,
    reward: str = "bleu",
    num_candidates: int = 16,
    proposal: str = "edit",
    proposal_rate: float = 0.2,
) -> Payoff:
    """The sampler that the controls describe.

    Args:
        tokenizer: its regular tokens may be drawn.
        payoff: "hamming", "edit", "exact_edit" or "importance".
        length: number of tokens of the reference.
        temperature: tau; or instead
        edit_rate: expected edits per token, for which tau is solved (not with "importance").
        reward, num_candidates: settings of "importance".
        proposal, proposal_rate: sampler of the candidates of "importance", and its expected edits per token.

    Raises:
        ValueError: for an unknown name, both or neither of temperature and edit rate, or values that the sampler
            refuses.
    """
    if payoff not in PAYOFFS:
        raise ValueError(f"`payoff` must be one of {', '.join(PAYOFFS)}, got {payoff!r}.")
    if (temperature is None) == (edit_rate is None):
        raise ValueError("Give either `temperature` or `edit_rate`.")
    tokens = _tokens(tokenizer)
    if payoff != "importance":
        if temperature is not None:
            return SAMPLERS[payoff](tokens, temperature)
        assert edit_rate is not None  # see above
        return SAMPLERS[payoff].for_edit_rate(tokens=tokens, edit_rate=edit_rate, length=length)
    if temperature is None:
        raise ValueError('"importance" has no edit rate to solve for: it depends on the reward. Set the temperature.')
    if reward not in REWARDS or proposal not in SAMPLERS:
        raise ValueError(
            f"`reward` must be one of {', '.join(REWARDS)} and `proposal` one of {', '.join(SAMPLERS)}, got {reward!r} "
            f"and {proposal!r}."
        )
    sampler = SAMPLERS[proposal].for_edit_rate(tokens=tokens, edit_rate=proposal_rate, length=length)
    return ImportancePayoff(sampler, make_reward(reward, tokenizer), num_candidates, temperature)


def encode_reference(tokenizer: PreTrainedTokenizerBase, reference: str) -> list[int]:
    """The token ids of a sentence that a sampler edits, without the special ones around them.

    Raises:
        ValueError: for a sentence without tokens, or with more than 60.
    """
    row = list(tokenizer(text_target=without_surrogates(reference).strip(), verbose=False).input_ids)
    frames = LabelFrames.from_tokenizer(tokenizer)
    spans = frames.spans([row], np.array(row, dtype=np.int64), np.array([len(row)]))[0]
    ids = row[spans[0][0] : spans[-1][1]]
    if not ids:
        raise ValueError("The reference is empty. Type a sentence.")
    if len(ids) > LONGEST:
        raise ValueError(f"The reference has {len(ids)} tokens. Type at most {LONGEST}.")
    return ids


def show_draws(
    tokenizer: PreTrainedTokenizerBase, reference: str, payoff: str, *, draws: int = 8, seed: int = 0, **settings: Any
) -> DrawsShown:
    """Draws around a sentence, and their distribution.

    The keys of the draws depend on the seed alone, so that a draw keeps its random numbers as tau changes.

    Args:
        tokenizer: of the generator; its vocabulary is drawn from.
        reference: the sentence.
        payoff: see `make_sampler`.
        draws: number of draws.
        seed: of the draws.
        settings: further arguments of `make_sampler`.

    Raises:
        ValueError: as `encode_reference` and `make_sampler`.
        RuntimeError: if the exact edit distance accepts hardly any draw because tau is too high.
    """
    if draws < 1:
        raise ValueError(f"`draws` must be at least 1, got {draws}.")
    ids = encode_reference(tokenizer, reference)
    sampler = make_sampler(tokenizer, payoff, len(ids), **settings)
    drawn = sampler.draw([ids] * draws, draw_keys(seed, draws))
    probs, number, error = _edit_probs(sampler, payoff, ids, seed)
    log_probs, approximate = _log_probs(sampler, drawn.labels, ids, seed)
    rewards = [None] * draws
    if isinstance(sampler, ImportancePayoff):
        rewards = evaluate_rewards(sampler.reward, drawn.labels, [ids] * draws).tolist()
    shown = [
        Draw(_decode(tokenizer, labels), mark_edits(tokenizer, ids, labels, payoff == "hamming"), int(edits), *numbers)
        for labels, edits, *numbers in zip(drawn.labels, drawn.edits, log_probs, rewards, strict=True)
    ]
    base: Any = sampler.proposal if isinstance(sampler, ImportancePayoff) else sampler
    rate = float(probs @ np.arange(len(probs))) / len(ids)
    return DrawsShown(
        _decode(tokenizer, ids), len(ids), len(base.tokens), sampler.temperature, base.edit_cost, rate, error, probs,
        approximate, number, shown,
    )  # fmt: skip


def draw_keys(seed: int, number: int, stream: int = 0) -> np.ndarray:
    """One key for each draw, uint64, shape `(number,)`; a larger number begins with the same keys."""
    return derive_keys(derive_keys(np.asarray(seed, dtype=np.uint64), stream), np.arange(number))


def mark_edits(
    tokenizer: PreTrainedTokenizerBase, reference: Sequence[int], drawn: Sequence[int], aligned: bool = False
) -> list[Piece]:
    """A draw as pieces that are kept, new or removed, along a shortest edit script.

    Args:
        tokenizer: decodes the tokens.
        reference, drawn: token ids.
        aligned: compare position by position, for samplers that only substitute.
    """
    old, new = token_texts(tokenizer, reference), token_texts(tokenizer, drawn)
    if aligned:
        pairs = zip(reference, drawn, old, new, strict=True)
        return [
            piece
            for old_id, new_id, removed, text in pairs
            for piece in ([Piece(KEPT, text)] if old_id == new_id else [Piece(REMOVED, removed), Piece(NEW, text)])
        ]
    pieces = []
    for edit in Levenshtein.opcodes(list(reference), list(drawn)):
        old_texts, new_texts = old[edit.src_start : edit.src_end], new[edit.dest_start : edit.dest_end]
        if edit.tag == "equal":
            pieces += [Piece(KEPT, text) for text in new_texts]
            continue
        pieces += [Piece(REMOVED, text) for text in old_texts]
        pieces += [Piece(NEW, text) for text in new_texts]
    return pieces


def token_texts(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """The text that each token adds to the decoded text, with the space before it."""
    texts, before = [], ""
    for stop in range(1, len(ids) + 1):
        text = _decode(tokenizer, ids[:stop])
        # For bytes of an unfinished character, and spaces that decoding takes back, the token's own name.
        has_grown = text.startswith(before) and "�" not in text[len(before) :]
        texts.append(text[len(before) :] if has_grown else f" {tokenizer.convert_ids_to_tokens(int(ids[stop - 1]))}")
        before = text
    return texts


def _decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(map(int, ids)), skip_special_tokens=False))


def _edit_probs(sampler: Payoff, payoff: str, ids: list[int], seed: int) -> tuple[np.ndarray, int, float]:
    """Probabilities of 0, 1, ... edits; number of draws that estimate them; standard error of edits per token."""
    if isinstance(sampler, (HammingPayoff, EditPayoff)):
        outside = int((sampler.index_of(np.array(ids)) < 0).sum())
        return sampler.edit_probs(len(ids), outside=outside), 0, 0.0
    if isinstance(sampler, ExactEditPayoff) and len(set(ids)) <= COUNTABLE:
        try:
            return sampler.distance_probs(ids), 0, 0.0
        except ValueError:  # a few different tokens, many times each
            pass
    number = ESTIMATES[payoff]
    edits = sampler.draw([ids] * number, draw_keys(seed, number, _ESTIMATE_STREAM)).edits
    probs = np.bincount(edits) / number
    return probs, number, float(edits.std(ddof=1)) / math.sqrt(number) / len(ids)


def _log_probs(sampler: Payoff, drawn: list[list[int]], ids: list[int], seed: int) -> tuple[list[float | None], bool]:
    """Log-probability of each draw, nats, and whether the normaliser is an estimate."""
    references = [ids] * len(drawn)
    if isinstance(sampler, ImportancePayoff):
        return [None] * len(drawn), False  # a sum over all sets of candidates
    if isinstance(sampler, ExactEditPayoff) and sampler.temperature:
        weights = sampler.log_weights(drawn, references)
        if len(set(ids)) <= COUNTABLE:
            try:
                return (weights - sampler.log_normalizer(ids)).tolist(), False
            except ValueError:
                pass
        number = ESTIMATES["exact_edit"]
        return (weights - sampler.estimate_log_normalizer(ids, np.random.default_rng(seed), number)[0]).tolist(), True
    return sampler.log_probs(drawn, references).tolist(), False
