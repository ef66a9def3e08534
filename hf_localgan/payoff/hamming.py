"""Draws by substitution alone: the exponentiated Hamming payoff, exact and in closed form (Norouzi et al. 2016)."""

from collections.abc import Iterable, Sequence

import numpy as np

from hf_localgan.functional.payoff import (
    hamming_log_probs,
    hamming_replacement_prob,
    hamming_temperature_for_edit_rate,
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
from hf_localgan.payoff.keys import derive_keys, random_bits, uniforms
from hf_localgan.payoff.measure import BaseMeasure
from hf_localgan.payoff.rows import copy_row, copy_rows, flatten_rows, pad_rows, row_lengths

_STREAM = 7  # sets these draws apart from those of other samplers with the same keys
_OTHER_TOKEN = 2**40  # positions from here on of a key's sequence choose the tokens


class HammingPayoff(TokenPayoff):
    """Replaces each token independently, with the same probability, by another one of the set, chosen uniformly or
    by a base measure.

    The length stays. With a base measure the substitute of `b` is `a` with probability `c(a) / (C - c(b))`; see
    `TokenPayoff` for the distribution. Time grows with the number of tokens and with that of replacements, not with the
    vocabulary. All labels of a batch are checked, unless the temperature is 0: negative ids (-100) and floats raise a
    `ValueError`.

    Args:
        tokens: ids that may be drawn.
        temperature: tau, in units of the reward; 0.85 is the paper's best in translation.
        edit_cost: `"log_vocab"` (`1 + ln v`), `"unit"`, or a number; see `TokenPayoff`.
        base_measure: `None` (uniform), counts by token id, or `"batch"`; see `TokenPayoff`.
    """

    @classmethod
    def for_edit_rate(
        cls,
        *,
        tokens: Iterable[int],
        edit_rate: float,
        length: int | None = None,
        edit_cost: str | float = "log_vocab",
        base_measure: BaseMeasure = None,
    ) -> "HammingPayoff":
        """The sampler that replaces `edit_rate` of the tokens.

        Args:
            tokens: ids that may be drawn.
            edit_rate: replacements per token of the reference, from 0.
            length: not used, for the rate is the same for every length; `EditPayoff` needs it.
            edit_cost: see the class; draws do not depend on it, but `temperature` is in its units.
            base_measure: see the class; the rate does not depend on it.

        Raises:
            ValueError: if no temperature reaches the rate, or it is no number.
        """
        payoff, edit_rate = cls(tokens, 0.0, edit_cost, base_measure), check_number("edit_rate", edit_rate)
        payoff.temperature = payoff.temperature_for(edit_rate)
        return payoff

    def temperature_for(self, edit_rate: float, length: int | None = None) -> float:
        return hamming_temperature_for_edit_rate(edit_rate, len(self.tokens), self.edit_cost)

    def edit_rate(self, length: int | None = None, *, temperature: float | None = None) -> float:
        return self._replacement_probs(self._temperature(temperature))[0]

    def edit_probs(self, length: int, *, outside: int = 0, temperature: float | None = None) -> np.ndarray:
        """Probability of each number of replaced tokens.

        Args:
            length: tokens of the reference.
            outside: number of them that may not be drawn themselves; those are replaced a little more often.
            temperature: instead of the sampler's own.

        Returns:
            For `0 .. length` replacements, float64, shape `(length + 1,)`; the sum is 1.
        """
        temperature = self._temperature(temperature)
        length, outside = check_count("length", length), check_count("outside", outside)
        return np.exp(hamming_log_probs(length, len(self.tokens), temperature, self.edit_cost, outside))

    def sample(self, labels: Labels, rng: np.random.Generator) -> list[int]:
        drawn = copy_row(labels)
        if not self.temperature:
            return drawn
        measure = self.measure(self.index_of(flatten_rows([drawn])))
        probs = self._replacement_probs(self.temperature)
        for position, token in enumerate(drawn):
            place = int(self.index_of(np.asarray(token)))
            if rng.random() < probs[place < 0]:
                drawn[position] = self.sample_other(measure, place, rng)
        return drawn

    def draw(self, labels: Sequence[Labels], keys: np.ndarray, *, temperature: float | None = None) -> Draws:
        keys = check_references(labels, keys)
        temperature = self._temperature(temperature)
        drawn = copy_rows(labels)
        edits = np.zeros(len(drawn), np.int64)
        if not temperature:
            return Draws(drawn, edits)
        tokens = flatten_rows(drawn)
        keys = derive_keys(keys, _STREAM)
        largest = threshold(self._replacement_probs(temperature)[True])
        hits, rows, positions, bits = find_hits(keys, row_lengths(drawn), largest)
        if not len(hits):
            return Draws(drawn, edits)
        places = self.index_of(tokens[hits])
        # Tokens of the set have one substitute less, so that not all hits are theirs.
        kept = (places < 0) | (bits < threshold(self._replacement_probs(temperature)[False]))
        rows, positions, places = rows[kept], positions[kept], places[kept]
        measure = self.measure(self.index_of(tokens)) if self._measure == "batch" else self.measure(places)
        new = self.other_tokens(measure, uniforms(keys[rows], _OTHER_TOKEN + positions), places)
        for row, position, token in zip(rows.tolist(), positions.tolist(), new.tolist(), strict=True):
            drawn[row][position] = token
        return Draws(drawn, np.bincount(rows, minlength=len(drawn)))

    def _replacement_probs(self, temperature: float) -> tuple[float, float]:
        """Probabilities that a token of the set is replaced, and that a token outside of it is."""
        inside, outside = (
            hamming_replacement_prob(len(self.tokens), temperature, self.edit_cost, outside=outside)
            for outside in (False, True)
        )
        return inside, outside

    def log_prob(self, candidate: Labels, reference: Labels, *, temperature: float | None = None) -> float:
        """Log-probability in nats of drawing the string `candidate`; only one way leads to it."""
        return float(self.log_probs([candidate], [reference], temperature=temperature)[0])

    def log_probs(
        self, candidates: Sequence[Labels], references: Sequence[Labels], *, temperature: float | None = None
    ) -> np.ndarray:
        """`log_prob` of each candidate for its reference, many at once; see `Payoff.log_probs`."""
        check_pairs(candidates, references)
        measure = self.fixed_measure()
        probs = np.array(self._replacement_probs(self._temperature(temperature)))
        others = len(self.tokens) - np.array([1, 0])
        with np.errstate(divide="ignore"):
            log_kept, log_replaced = np.log1p(-probs), np.log(probs) - np.log(np.maximum(others, 1))
        new, new_lengths = pad_rows(candidates)
        old, lengths = pad_rows(references)
        width = max(new.shape[1], old.shape[1])
        new, old = (np.pad(table, ((0, 0), (0, width - table.shape[1]))) for table in (new, old))
        new_places, old_places = self.index_of(new), self.index_of(old)
        outside = (old_places < 0).astype(np.int64)
        replaced = log_replaced[outside]
        if measure is not None:
            replaced = replaced + measure.log_weights(new_places) + measure.log_factors(old_places)
        terms = np.where(new == old, log_kept[outside], replaced)
        terms[(new != old) & (new_places < 0)] = -np.inf
        terms[np.arange(width) >= lengths[:, None]] = 0.0
        return np.where(new_lengths == lengths, terms.sum(axis=1), -np.inf)


def threshold(prob: float) -> np.uint64:
    """The number that random bits are below with this probability, to 64 bits."""
    return np.uint64(min(int(prob * 2.0**64), 2**64 - 1))


def find_hits(
    keys: np.ndarray, lengths: np.ndarray, thresholds: np.uint64 | np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Tokens whose random bits are below a threshold: their places among all, rows, positions, and the bits.

    Args:
        keys: of the rows, uint64, shape `(batch,)`.
        lengths: of the rows, shape `(batch,)`.
        thresholds: one for all, or one for each token, shape `(tokens,)`.
    """
    starts = np.cumsum(lengths) - lengths
    rows = np.repeat(np.arange(len(keys)), lengths)
    positions = np.arange(len(rows)) - starts[rows]
    bits = random_bits(keys[rows], positions)
    hits = np.flatnonzero(bits < thresholds)
    return hits, rows[hits], positions[hits], bits[hits]
