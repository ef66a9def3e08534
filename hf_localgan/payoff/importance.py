"""Draws under any reward, by importance sampling from a sampler that knows nothing of it (Norouzi et al. 2016, 2.2)."""

import math
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hf_localgan.payoff.base import Draws, Labels, Payoff, check_count, check_references
from hf_localgan.payoff.keys import derive_keys, uniforms
from hf_localgan.payoff.rewards import evaluate_rewards
from hf_localgan.payoff.rows import copy_row, copy_rows

BASES = ("proposal", "uniform")
_PICK = 0  # stream of the choice among the candidates; candidate number k has stream k + 1
_SAMPLERS = f"{__name__.rpartition('.')[0]}."  # what the names of their modules start with
_FEW = 0.1  # effective share of the candidates below which few of them decide


@dataclass(frozen=True)
class Candidates:
    """Candidates of a batch with their weights. `sum_k weights[b, k] f(labels[b][k])` estimates the target's mean of f.

    Attributes:
        labels: for each reference a list of `num_candidates` lists of token ids.
        rewards: reward of each candidate, float64, shape `(batch, num_candidates)`.
        weights: self-normalised: each row sums to 1; float64, shape `(batch, num_candidates)`.
        edits: between candidate and reference as the proposal counts them, int64, shape `(batch, num_candidates)`.
        effective_sample_size: `1 / sum_k weights[b, k] ** 2`, from 1 to `num_candidates`; float64, shape `(batch,)`.
    """

    labels: list[list[list[int]]]
    rewards: np.ndarray
    weights: np.ndarray
    edits: np.ndarray
    effective_sample_size: np.ndarray


class ImportancePayoff(Payoff):
    """Weights candidates of another sampler by any reward; a draw is one of them, chosen in proportion to its weight.

    The target is one of two, by `base`, `P` being the proposal's distribution of strings:

    * `"proposal"`: `P(y | y*) exp(r(y, y*) / tau)`. The weight is `exp(r / tau)`.
    * `"uniform"`: `exp(r(y, y*) / tau)`, Eq. 4 as printed. The weight is `exp(r / tau) / P(y | y*)`. One more edit
      makes `v` times as many strings, so with a bounded reward and a large vocabulary the target itself is nearly all
      garbage, and the most corrupted candidate wins, unless `1 / tau` is of the order of `ln v` per edit.

    A draw (sampling importance resampling) follows the target only as the number of candidates grows; so does the
    estimate with the self-normalised weights of `candidates`. The error falls as `1 / num_candidates`.

    At temperature 0 every draw is the reference, by the rule for all samplers, without a look at the reward. As the
    temperature falls towards 0 a draw is the best of the candidates, and so the reference only if that is among them.

    Args:
        proposal: draws the candidates, at its own temperature. `"uniform"` needs its `log_weights` of each different
            candidate, which cost little with `HammingPayoff` and `ExactEditPayoff`, and far more than the draw with
            `EditPayoff`.
        reward: `reward(candidate, reference) -> float`; see `Reward`. With loader workers that are spawned, not forked,
            it must be possible to pickle it, so no lambda.
        num_candidates: number of candidates for each reference.
        temperature: tau, in units of the reward. For BLEU and 16 candidates start from 0.02 to 0.5.
        base: `"proposal"` or `"uniform"`.

    Raises:
        ValueError: for another base, fewer than one candidate, a negative temperature, a proposal that is no sampler,
            or a reward that cannot be called or is a class.
    """

    def __init__(
        self,
        proposal: Payoff,
        reward: Callable[[Labels, Labels], float],
        num_candidates: int,
        temperature: float,
        base: Literal["proposal", "uniform"] = "proposal",
    ):
        super().__init__(temperature)
        if not isinstance(proposal, Payoff):
            raise ValueError(
                f"`proposal` must be a sampler such as `HammingPayoff` or `EditPayoff`, got {type(proposal).__name__}."
            )
        if not callable(reward):
            raise ValueError(f"`reward` must be callable as reward(candidate, reference), got {reward!r}.")
        if isinstance(reward, type):
            raise ValueError(
                f"`reward` must be a function or an object that is called as reward(candidate, reference), got the "
                f"class {reward.__name__}. Make one: `{reward.__name__}(...)`."
            )
        num_candidates = check_count("num_candidates", num_candidates, 1)
        if base not in BASES:
            raise ValueError(f'`base` must be "proposal" or "uniform", got {base!r}.')
        self.proposal, self.reward, self.num_candidates, self.base = proposal, reward, num_candidates, base
        self._warned = False

    def candidates(self, labels: Sequence[Labels], keys: np.ndarray, *, temperature: float | None = None) -> Candidates:
        """Candidates and their weights, which depend on each reference, its key and the temperature only.

        Args:
            labels: references, token ids without the end token.
            keys: uint64, shape `(batch,)`.
            temperature: of the reward, instead of the sampler's own; the proposal keeps its.

        Raises:
            ValueError: if the reward returns NaN, `inf` or no number, or `-inf` for all candidates of a reference.
            RuntimeError: if the reward raises.
            NotImplementedError: with `base="uniform"`, if the proposal cannot compute its `log_weights`.
        """
        keys, temperature = check_references(labels, keys), self._temperature(temperature)
        shape = len(labels), self.num_candidates
        references = [reference for reference in copy_rows(labels) for _ in range(self.num_candidates)]
        if not temperature:
            rewards = evaluate_rewards(self.reward, references, references).reshape(shape)
            drawn = Draws([reference[:] for reference in references], np.zeros(len(references), dtype=np.int64))
            weights = np.full(shape, 1 / self.num_candidates)
        else:
            streams = np.arange(1, self.num_candidates + 1)
            drawn = self.proposal.draw(references, derive_keys(keys[:, None], streams).ravel())
            rewards = evaluate_rewards(self.reward, drawn.labels, references).reshape(shape)
            log_base = np.reshape(self._log_base(drawn.labels, references), shape)
            weights = self._weights(rewards, log_base, temperature, labels)
        grouped = [drawn.labels[i : i + shape[1]] for i in range(0, len(drawn.labels), shape[1])]
        effective = 1 / np.square(weights).sum(axis=1)
        if self.base == "uniform":
            self._warn_if_few(effective)
        return Candidates(grouped, rewards, weights, drawn.edits.reshape(shape), effective)

    def draw(self, labels: Sequence[Labels], keys: np.ndarray, *, temperature: float | None = None) -> Draws:
        keys, temperature = check_references(labels, keys), self._temperature(temperature)
        if not temperature:
            edits, effective = np.zeros(len(labels), dtype=np.int64), np.full(len(labels), float(self.num_candidates))
            return Draws(copy_rows(labels), edits, effective)
        candidates = self.candidates(labels, keys, temperature=temperature)
        cumulated = candidates.weights.cumsum(axis=1)
        cumulated /= cumulated[:, -1:]  # exactly 1 from the last candidate of any weight on
        chance = uniforms(derive_keys(keys, _PICK), np.zeros(len(keys), dtype=np.int64))
        picks = (cumulated <= chance[:, None]).sum(axis=1)
        chosen = [group[pick] for group, pick in zip(candidates.labels, picks.tolist(), strict=True)]
        edits = np.take_along_axis(candidates.edits, picks[:, None], axis=1)[:, 0]
        return Draws(chosen, edits, candidates.effective_sample_size)

    def sample(self, labels: Labels, rng: np.random.Generator) -> list[int]:
        labels = copy_row(labels)
        if not self.temperature:
            return labels
        drawn = [self.proposal.sample(labels, rng) for _ in range(self.num_candidates)]
        references = [labels] * self.num_candidates
        rewards = evaluate_rewards(self.reward, drawn, references)[None]
        weights = self._weights(rewards, self._log_base(drawn, references)[None], self.temperature, [labels])[0]
        return drawn[rng.choice(self.num_candidates, p=weights)]

    def log_target(self, candidate: Labels, reference: Labels, *, temperature: float | None = None) -> float:
        """Logarithm of the target in nats, without its normaliser, which is a sum over all strings.

        `r / tau + log P` with `base="proposal"`, `r / tau` with `base="uniform"`; `log P` is the proposal's
        `log_weights`, without its own normaliser where that is costly. Over the strings that can be enumerated for one
        reference, its softmax is the target. `-inf` says that the reward or the proposal never allows the candidate.

        Raises:
            ValueError: at temperature 0, where there is no density; if `r / tau` of a finite reward overflows; and for
                what the reward returns, as `candidates`.
        """
        temperature = self._temperature(temperature)
        if not temperature:
            raise ValueError("`temperature` must be above 0: at 0 every draw is the reference.")
        reward = evaluate_rewards(self.reward, [candidate], [reference])[0]
        if np.isneginf(reward):
            return -math.inf
        with np.errstate(over="ignore"):
            log_payoff = reward / temperature
        if not np.isfinite(log_payoff):
            raise ValueError(
                f"The reward {reward:g} over the temperature {temperature:g} overflows. Raise the "
                "temperature or make the rewards smaller. Draws do not need it, for they compare rewards first."
            )
        if self.base == "proposal":
            log_payoff += self._log_proposal([candidate], [reference])[0]
        return float(log_payoff)

    def log_prob(self, candidate: Labels, reference: Labels, *, temperature: float | None = None) -> float:
        """Refused: the law of a draw sums over all that the other candidates may be. See `log_target`.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "The probability of a draw of `ImportancePayoff` sums over all sets of candidates that hold it, and the "
            "normaliser of its target over all strings. `log_target(candidate, reference)` is the logarithm of the "
            "target without its normaliser."
        )

    def _log_base(self, candidates: Sequence[Labels], references: Sequence[Labels]) -> np.ndarray:
        """What the log-weights lose besides `r / tau`: nothing, or `_log_proposal`; shape `(n,)`."""
        if self.base == "proposal":
            return np.zeros(len(candidates))
        keys = [tuple(map(tuple, pair)) for pair in zip(candidates, references, strict=True)]
        different = list(dict.fromkeys(keys))
        rows = [[list(pair[side]) for pair in different] for side in (0, 1)]
        known = dict(zip(different, self._log_proposal(*rows), strict=True))
        return np.array([known[key] for key in keys], dtype=np.float64)

    def _log_proposal(self, candidates: Sequence[Labels], references: Sequence[Labels]) -> np.ndarray:
        """The proposal's log-probabilities up to a constant of each reference, which no normalised weight sees."""
        try:
            return self.proposal.log_weights(candidates, references)
        except NotImplementedError as error:
            raise NotImplementedError(
                f"The target needs the `log_weights` of its proposal, which {type(self.proposal).__name__} does not "
                "have. Take `HammingPayoff`, `EditPayoff` or `ExactEditPayoff` as the proposal, or draw with "
                'base="proposal".'
            ) from error

    def _weights(
        self, rewards: np.ndarray, log_base: np.ndarray, temperature: float, labels: Sequence[Labels]
    ) -> np.ndarray:
        """Self-normalised weights, shape `(batch, num_candidates)`; a reward of `-inf` has weight 0."""
        best = rewards.max(axis=1, keepdims=True, initial=-np.inf)
        if np.isneginf(best).any():
            row = int(np.flatnonzero(np.isneginf(best[:, 0]))[0])
            raise ValueError(
                f"All {self.num_candidates} candidates for the reference {list(labels[row])} have the reward -inf: the "
                f"proposal never reaches what the reward allows. Raise `num_candidates` ({self.num_candidates}) or the "
                f"proposal's temperature ({self.proposal.temperature:g}), or let the reward return a low finite number."
            )
        with np.errstate(over="ignore", invalid="ignore"):
            # Differences first: rewards over a tiny temperature may overflow, a difference of 0 stays 0.
            log_weights = np.where(np.isneginf(rewards), -np.inf, (rewards - best) / temperature) - log_base
            weights = np.exp(log_weights - log_weights.max(axis=1, keepdims=True, initial=-np.inf))
        return weights / weights.sum(axis=1, keepdims=True)

    def _warn_if_few(self, effective_sample_size: np.ndarray) -> None:
        """Once, if the weights rest on few candidates."""
        if self._warned or not len(effective_sample_size):
            return
        mean = effective_sample_size.mean()
        if mean < _FEW * self.num_candidates:
            self._warned = True
            warnings.warn(
                f"The weights of {self.num_candidates} candidates are worth {mean:.1f} equal ones (mean effective "
                'sample size). With base="uniform" the most corrupted candidate outweighs all others unless '
                "1 / temperature is of the order of the logarithm of the vocabulary's size per edit, and the "
                f'temperature is {self.temperature:g}. Draw with base="proposal", or lower the temperature and look at '
                "the draws.",
                stacklevel=_callers_level(),
            )


def _callers_level() -> int:
    """For `warnings.warn` in the function that asks: the level of the line outside of the samplers that led to it."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_SAMPLERS):
        frame, level = frame.f_back, level + 1
    return level
