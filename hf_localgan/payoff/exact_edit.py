"""Draws by insertions, deletions and substitutions, each string in proportion to `exp(-cost distance / tau)`.

Eq. 11 of Norouzi et al. (2016) draws edit scripts, and a string that several scripts make is drawn too often. Here its
draws are proposals: one is accepted with probability 1 / k if its script is one of the `k` shortest that make the
string, and never otherwise. With `d` edits in the shortest ones, that makes the probability of the string proportional
to `k exp(-cost d / tau) / k`, whatever the largest number of edits of a script.

The distance is the fewest edits of a script. It is the Levenshtein distance, except for strings with a token outside of
the set, such as an unknown word: the set's tokens alone are drawn, so this token was left alone, and the distance is
the smallest over alignments that match it with an equal token of the reference.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from hf_localgan.functional.edit_distance import fewest_scripts, log_string_counts, temperature_for_distance
from hf_localgan.functional.payoff import (
    edit_log_probs,
    log_edit_totals,
    log_softmax_edits,
    logsumexp,
    penalty_per_edit,
)
from hf_localgan.payoff.base import (
    Draws,
    Labels,
    TokenPayoff,
    check_count,
    check_number,
    check_pairs,
    check_references,
)
from hf_localgan.payoff.edit import EditPayoff, log_script_counts
from hf_localgan.payoff.keys import derive_keys, uniforms
from hf_localgan.payoff.rows import copy_row, copy_rows, flatten_rows, row_lengths

_STREAM = 13  # sets these draws apart from those of other samplers with the same keys
_DRAWS_FOR_RATE = 2_048
_MOST_ATTEMPTS = 1_000
_LEAST_ROWS = 64  # fewer cost as much: the time is numpy's for a call
_NEGLIGIBLE = 1e-13  # of the normaliser


class ExactEditPayoff(TokenPayoff):
    """`q(y | y*) = exp(-cost d(y, y*) / tau) / Z` (Norouzi et al. 2016, Eq. 4), `d` the edit distance.

    Draws are those of `EditPayoff` after a rejection that takes out its double counting: fewer edits at the same
    temperature. Where it accepts too rarely (`acceptance_rate`), the temperature is far above the useful ones.

    The distance is Levenshtein's, with one exception: tokens outside of the set are never drawn, so a string that
    holds one counts the alignments alone that match it with an equal token of the reference. Strings without such an
    alignment have probability 0.

    The base measure is the uniform one: scripts of one string would weigh differently under another, and no distance
    alone would give its probability.

    How probable each distance is depends on the reference and not on its length alone, so there is no `edit_probs`:
    see `distance_probs`.

    Args:
        tokens: ids that may be drawn.
        temperature: tau, in units of the reward.
        edit_cost: `"log_vocab"` (`1 + ln v`), `"unit"`, or a number; see `TokenPayoff`.
        max_edits: largest distance; strings beyond it have probability 0. `None` for twice the length of each
            reference.
    """

    def __init__(
        self,
        tokens: Iterable[int],
        temperature: float,
        edit_cost: str | float = "log_vocab",
        max_edits: int | None = None,
    ):
        super().__init__(tokens, temperature, edit_cost)
        self._proposal = EditPayoff(self.tokens, temperature, edit_cost, max_edits)
        self.max_edits = self._proposal.max_edits

    @classmethod
    def for_edit_rate(
        cls,
        *,
        tokens: Iterable[int],
        edit_rate: float,
        length: int,
        edit_cost: str | float = "log_vocab",
        max_edits: int | None = None,
    ) -> "ExactEditPayoff":
        """The sampler whose draws have `edit_rate` edits per token, for a reference of `length` different tokens.

        Exact where the strings at each distance can be counted (see `log_normalizer`: up to 11 tokens). For longer
        references the rate is that of 2,048 draws, always the same ones, so it has a standard error of about 2 %.
        Repeated tokens change the rate little.

        Args:
            tokens: ids that may be drawn.
            edit_rate: mean distance between draw and reference, per token of the reference; from 0.
            length: tokens of a typical reference.
            edit_cost: see the class.
            max_edits: see the class.

        Raises:
            ValueError: if no temperature reaches the rate, the length is 0, or one of them is no number.
        """
        edit_rate, length = check_number("edit_rate", edit_rate), check_count("length", length, 1)
        payoff = cls(tokens, 0.0, edit_cost, max_edits)
        vocab_size = len(payoff.tokens)
        pattern = tuple(place % vocab_size for place in range(length))
        try:
            log_counts = log_string_counts(pattern, vocab_size, payoff._most(length))
        except ValueError:  # too many to count
            eq11 = EditPayoff.for_edit_rate(
                tokens=payoff.tokens, edit_rate=edit_rate, length=length, edit_cost=edit_cost, max_edits=max_edits
            )
            payoff.temperature = payoff._temperature_by_draws(edit_rate, length, eq11.temperature)
        else:
            largest = float(np.exp(log_softmax_edits(log_counts, 0.0)) @ np.arange(len(log_counts))) / length
            if not 0 <= edit_rate < largest:
                raise ValueError(
                    f"`edit_rate` must be at least 0 and under {largest:.4g}, which an infinite temperature reaches at "
                    f"a length of {length}, got {edit_rate}."
                )
            payoff.temperature = temperature_for_distance(edit_rate * length, log_counts, payoff.edit_cost)
        return payoff

    def temperature_for(self, edit_rate: float, length: int) -> float:
        """As `EditPayoff.temperature_for`, at which Eq. 11 makes a few more edits; `for_edit_rate` is closer."""
        return self._proposal.temperature_for(edit_rate, length)

    def edit_rate(self, length: int, *, temperature: float | None = None) -> float:
        """As `EditPayoff.edit_rate`, a few more edits than there are."""
        return self._proposal.edit_rate(length, temperature=self._temperature(temperature))

    def _temperature_by_draws(self, edit_rate: float, length: int, low: float) -> float:
        """Temperature at which draws have `edit_rate` edits per token, by bisection from one with fewer."""
        reference = self.tokens[np.arange(length) % len(self.tokens)].tolist()
        references, keys = [reference] * _DRAWS_FOR_RATE, np.arange(_DRAWS_FOR_RATE, dtype=np.uint64)

        def reached(temperature: float) -> bool:
            return self.draw(references, keys, temperature=temperature).edits.mean() >= edit_rate * length

        if not low or reached(low):
            return low  # of so few edits that both samplers agree
        high = low
        while not reached(high):
            if high > 100 * low:
                raise ValueError(
                    f"No temperature gives {edit_rate} edits per token of {length}: at {high:.3g} draws still have "
                    "fewer. Ask for a lower `edit_rate`."
                )
            low, high = high, 1.25 * high
        while high - low > 5e-4 * high:
            middle = (low + high) / 2
            low, high = (low, middle) if reached(middle) else (middle, high)
        return high

    def sample(self, labels: Labels, rng: np.random.Generator) -> list[int]:
        labels = copy_row(labels)
        if not self.temperature:
            return labels
        self._proposal.temperature = self.temperature
        penalty = penalty_per_edit(self.temperature, self.edit_cost)
        for _ in range(_MOST_ATTEMPTS):
            drawn = self._proposal.sample(labels, rng)
            # Over the draws of one string this comes to the same as 1 / k for its k shortest scripts and 0 for others.
            scripts = log_script_counts(drawn, labels, self, self._most(len(labels)))
            log_prob = logsumexp(scripts - penalty * np.arange(len(scripts)))
            distance = np.isfinite(scripts).argmax()
            if math.log1p(-rng.random()) <= -penalty * distance - log_prob:
                return drawn
        raise _too_hot(self.temperature, len(labels))

    def draw(self, labels: Sequence[Labels], keys: np.ndarray, *, temperature: float | None = None) -> Draws:
        keys = derive_keys(check_references(labels, keys), _STREAM)
        temperature = self._temperature(temperature)
        drawn, edits = copy_rows(labels), np.zeros(len(labels), np.int64)
        pending, attempt = np.arange(len(labels) if temperature else 0), 0
        while len(pending):
            if attempt == _MOST_ATTEMPTS:
                raise _too_hot(temperature, len(labels[int(pending[0])]))
            # Several attempts of each sentence at once when few are left; the first one accepted counts, so how many
            # sentences are in the batch changes nothing.
            attempts = np.arange(attempt, min(_MOST_ATTEMPTS, attempt + max(1, _LEAST_ROWS // len(pending))))
            rows = np.repeat(pending, len(attempts))
            row_keys = derive_keys(keys[rows], np.tile(attempts, len(pending)))
            proposals = self._proposal._propose([labels[row] for row in rows.tolist()], row_keys, temperature)
            chances = self._acceptance([labels[row] for row in rows.tolist()], proposals)
            accepted = np.flatnonzero(uniforms(derive_keys(row_keys, _STREAM), np.zeros(1)) < chances)
            done, first = np.unique(rows[accepted], return_index=True)
            for row, place in zip(done.tolist(), accepted[first].tolist(), strict=True):
                drawn[row], edits[row] = proposals.labels[place], proposals.edits[place]
            pending, attempt = np.setdiff1d(pending, done), int(attempts[-1]) + 1
        return Draws(drawn, edits)

    def log_prob(self, candidate: Labels, reference: Labels, *, temperature: float | None = None) -> float:
        """Log-probability in nats of drawing the string `candidate`: `-cost d / tau - ln Z`.

        Raises:
            ValueError: if the reference is too long for `log_normalizer`.
        """
        temperature = self._temperature(temperature)
        log_weight = float(self.log_weights([candidate], [reference], temperature=temperature)[0])
        if not temperature or log_weight == -math.inf:
            return log_weight
        return log_weight - self.log_normalizer(reference, temperature=temperature)

    def log_weights(
        self, candidates: Sequence[Labels], references: Sequence[Labels], *, temperature: float | None = None
    ) -> np.ndarray:
        """`-cost d / tau` of each candidate for its reference: `log_prob` without `-ln Z`, at any length.

        `-inf` beyond `max_edits`, and at temperature 0 for all but the reference. See `Payoff.log_weights`.
        """
        check_pairs(candidates, references)
        temperature, lengths = self._temperature(temperature), row_lengths(references)
        # Deleting all tokens and inserting those wanted is a script, if there is any.
        distances = self._fewest_scripts(references, candidates, lengths + row_lengths(candidates))[0]
        most = (2 * lengths if self.max_edits is None else self.max_edits) if temperature else 0
        reached = distances <= most
        penalty = penalty_per_edit(temperature, self.edit_cost)
        return np.where(reached, 0.0 - penalty * np.where(reached, distances, 0.0), -np.inf)

    def distance(self, candidate: Labels, reference: Labels) -> float:
        """The fewest edits of a script that makes `candidate` of `reference`; infinity if there is none.

        Levenshtein's distance where all tokens of the candidate are in the set; see the class.
        """
        bound = np.array([len(candidate) + len(reference)])
        return float(self._fewest_scripts([reference], [candidate], bound)[0][0])

    def log_normalizer(self, reference: Labels, *, temperature: float | None = None) -> float:
        """`ln Z`, in nats: over all strings, the sum of `exp(-cost d / tau)`; exact to 12 digits.

        Counts strings by their distance, see `log_string_counts`. That takes up to 50,000 states: references of 11
        different tokens, longer ones if tokens repeat, or if distances beyond 7 are excluded by `max_edits` or too
        improbable to matter.

        Raises:
            ValueError: if there are more states; `estimate_log_normalizer` has no limit.
        """
        return float(logsumexp(self._log_distances(reference, self._temperature(temperature))))

    def distance_probs(self, reference: Labels, *, temperature: float | None = None) -> np.ndarray:
        """Probability of each distance between draw and reference.

        Returns:
            For distances 0, 1, ..., float64, shape `(max_edits + 1,)`; the sum is 1.

        Raises:
            ValueError: if the reference is too long for `log_normalizer`.
        """
        log_weights = self._log_distances(reference, self._temperature(temperature))
        return np.exp(log_weights - logsumexp(log_weights))

    def acceptance_rate(self, reference: Labels, *, temperature: float | None = None) -> float:
        """Share of Eq. 11's draws that are accepted: the exact normaliser over that of Eq. 11.

        Raises:
            ValueError: if the reference is too long for `log_normalizer`; `estimate_acceptance_rate` has no limit.
        """
        temperature = self._temperature(temperature)
        return math.exp(
            self.log_normalizer(reference, temperature=temperature) - self._log_scripts(reference, temperature)
        )

    def estimate_acceptance_rate(
        self,
        reference: Labels,
        rng: np.random.Generator,
        num_samples: int = 10_000,
        *,
        temperature: float | None = None,
    ) -> tuple[float, float]:
        """Share of Eq. 11's draws that are accepted, estimated from some.

        Args:
            reference: token ids, of any length.
            rng: its next number keys the draws.
            num_samples: draws, at least 2. The error falls with the square root.

        Returns:
            The estimate and its standard error.
        """
        if num_samples < 2:
            raise ValueError(f"`num_samples` must be at least 2, got {num_samples}.")
        temperature = self._temperature(temperature)
        if not temperature:
            return 1.0, 0.0
        keys = derive_keys(np.asarray(rng.integers(2**64, dtype=np.uint64)), np.arange(num_samples))
        parts = []
        for first in range(0, num_samples, 1024):
            labels = [reference] * len(keys[first : first + 1024])
            proposals = self._proposal._propose(labels, keys[first : first + 1024], temperature)
            parts.append(self._acceptance(labels, proposals))
        chances = np.concatenate(parts)
        return float(chances.mean()), float(chances.std(ddof=1) / math.sqrt(num_samples))

    def estimate_log_normalizer(
        self,
        reference: Labels,
        rng: np.random.Generator,
        num_samples: int = 10_000,
        *,
        temperature: float | None = None,
    ) -> tuple[float, float]:
        """`ln Z`, in nats, estimated for a reference of any length: Eq. 11's normaliser times its acceptance rate.

        Arguments as `estimate_acceptance_rate`.

        Returns:
            The estimate and its standard error, that of the rate relative to the rate.

        Raises:
            ValueError: if none of the draws is accepted.
        """
        rate, error = self.estimate_acceptance_rate(reference, rng, num_samples, temperature=temperature)
        if not rate:
            raise ValueError(
                f"None of {num_samples} draws of Eq. 11 was accepted. Raise `num_samples`, or lower the temperature."
            )
        return self._log_scripts(reference, self._temperature(temperature)) + math.log(rate), error / rate

    def _most(self, length: int) -> int:
        return 2 * length if self.max_edits is None else self.max_edits

    def _acceptance(self, labels: Sequence[Labels], proposals: Draws) -> np.ndarray:
        """Probability of accepting each proposal, given the number of edits of its script; shape `(batch,)`."""
        chances = np.ones(len(labels))
        edited = np.flatnonzero(proposals.edits)
        if len(edited):
            candidates = [proposals.labels[row] for row in edited.tolist()]
            edits = proposals.edits[edited]
            distances, counts = self._fewest_scripts([labels[row] for row in edited.tolist()], candidates, edits)
            chances[edited] = (distances == edits) / counts
        return chances

    def _fewest_scripts(self, references: Sequence[Labels], candidates: Sequence[Labels], edits: np.ndarray):
        lengths = row_lengths(references), row_lengths(candidates)
        tokens = flatten_rows(references), flatten_rows(candidates)
        return fewest_scripts(*tokens, *lengths, self.index_of(tokens[1]) >= 0, edits)

    def _log_scripts(self, reference: Labels, temperature: float) -> float:
        """`ln` of Eq. 11's normaliser: the one script without edits has weight 1."""
        outside = int((self.index_of(np.array(copy_row(reference), dtype=np.int64)) < 0).sum())
        arguments = len(reference), len(self.tokens), temperature, self.edit_cost, self._most(len(reference)), outside
        return -float(edit_log_probs(*arguments)[0])

    def _log_distances(self, reference: Labels, temperature: float) -> np.ndarray:
        """`ln` of the number of strings at each distance, less their cost; `-inf` beyond what matters."""
        tokens = copy_row(reference)
        most, vocab_size = self._most(len(tokens)), len(self.tokens)
        penalty = penalty_per_edit(temperature, self.edit_cost)
        inside = self.index_of(np.array(tokens, dtype=np.int64)) >= 0
        # There are fewer strings at a distance than scripts with as many edits, and the normaliser is at least 1.
        log_scripts = log_edit_totals(len(tokens), vocab_size, most, int((~inside).sum()))
        tails = np.logaddexp.accumulate((log_scripts - penalty * np.arange(most + 1))[::-1])[::-1]
        counted = max(0, int(np.count_nonzero(tails > math.log(_NEGLIGIBLE))) - 1)
        names: dict[int, int] = {}
        pattern = tuple(
            names.setdefault(token, len(names) if drawable else -1 - len(names))
            for token, drawable in zip(tokens, inside.tolist(), strict=True)
        )
        log_counts = np.full(most + 1, -np.inf)
        try:
            log_counts[: counted + 1] = log_string_counts(pattern, vocab_size, counted)
        except ValueError as error:
            raise ValueError(
                f"{error} Use `estimate_log_normalizer(reference, rng, num_samples)`, a lower temperature than "
                f"{temperature}, or a smaller `max_edits`."
            ) from error
        return log_counts - penalty * np.arange(most + 1)


def _too_hot(temperature: float, length: int) -> RuntimeError:
    return RuntimeError(
        f"No draw for a reference of {length} tokens was accepted in {_MOST_ATTEMPTS:,} attempts at temperature "
        f"{temperature}, at which nearly every draw has a shorter edit script. Lower it, set `max_edits`, or use "
        "`EditPayoff`."
    )
