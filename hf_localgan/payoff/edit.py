"""Draws by insertions, deletions and substitutions, stratified by the number of edits (Norouzi et al. 2016, Eq. 11)."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from hf_localgan.functional.edit_scripts import (
    LOG_SCRIPTS_PER_TOKEN,
    log_edit_script_counts,
    log_edit_script_weights,
)
from hf_localgan.functional.payoff import (
    log_edit_totals,
    log_factorials,
    log_softmax_edits,
    log_substitution_counts,
    logsumexp,
    penalty_per_edit,
    temperature_for_edit_rate,
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
from hf_localgan.payoff.measure import BaseMeasure, TokenMeasure
from hf_localgan.payoff.rows import copy_row, copy_rows, flatten_rows, pad_rows, row_lengths

_STREAM = 11  # sets these draws apart from those of other samplers with the same keys
# Each kind of choice has positions of a key's sequence to itself: kind * _BLOCK + number of the choice.
_BLOCK = 2**40
_EDITS, _SUBSTITUTIONS, _OUTSIDE, _CHOSEN, _SLOTS, _REPLACED, _INSERTED = range(7)
_MOST = np.iinfo(np.uint64).max
_NOTHING, _EMPTY = -1, -2  # instead of a token: it was deleted; none has been drawn yet
_CACHED_NUMBERS = 2**22  # of all tables together, 32 MiB; they start anew beyond
_ROWS_AT_ONCE = 256  # whose tables `log_probs` holds
_BELOW_ONE = np.nextafter(1.0, 0.0)
_LOG_NEGLIGIBLE = -37.0  # less than float64's precision of what it is added to


class EditPayoff(TokenPayoff):
    """Edits a reference: how many times by Eq. 11, then which by a uniform choice among the scripts with that many.

    A script chooses `s` tokens, each of which becomes nothing or another token of the set, and puts `e - s` tokens of
    the set into the gaps between the tokens left alone. Inside a gap the substituted tokens come first, in order, then
    the inserted ones. Several scripts may give one string, so strings of many edits are drawn more often than
    `exp(reward / tau)` says; `ExactEditPayoff` corrects that.

    With a base measure (see `TokenPayoff`) a script weighs `exp(-cost e / tau)` times the product of its edits'
    weights. These leave the counts of Eq. 11 as they are: only which tokens replace and are inserted changes.

    Args:
        tokens: ids that may be drawn.
        temperature: tau, in units of the reward; 0.9 is the paper's best in speech recognition.
        edit_cost: `"log_vocab"` (`1 + ln v`), `"unit"`, or a number; see `TokenPayoff`.
        max_edits: largest number of edits; `None` for twice the length of each reference.
        base_measure: `None` (uniform), counts by token id, or `"batch"`; see `TokenPayoff`.
    """

    def __init__(
        self,
        tokens: Iterable[int],
        temperature: float,
        edit_cost: str | float = "log_vocab",
        max_edits: int | None = None,
        base_measure: BaseMeasure = None,
    ):
        super().__init__(tokens, temperature, edit_cost, base_measure)
        self.max_edits = max_edits if max_edits is None else check_count("max_edits", max_edits, 1, ", or None")
        self._tables: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
        self._cached = 0

    @classmethod
    def for_edit_rate(
        cls,
        *,
        tokens: Iterable[int],
        edit_rate: float,
        length: int,
        edit_cost: str | float = "log_vocab",
        max_edits: int | None = None,
        base_measure: BaseMeasure = None,
    ) -> "EditPayoff":
        """The sampler whose draws have `edit_rate` edits per token, on average over references of `length` tokens.

        Args:
            tokens: ids that may be drawn.
            edit_rate: edits per token of the reference, from 0.
            length: tokens of a typical reference.
            edit_cost: see the class; draws do not depend on it, but `temperature` is in its units.
            max_edits: see the class.
            base_measure: see the class; the rate does not depend on it.

        Raises:
            ValueError: if no temperature reaches the rate, or rate or length are no numbers.
        """
        payoff = cls(tokens, 0.0, edit_cost, max_edits, base_measure)
        edit_rate, length = check_number("edit_rate", edit_rate), check_count("length", length)
        payoff.temperature = payoff.temperature_for(edit_rate, length)
        return payoff

    def temperature_for(self, edit_rate: float, length: int) -> float:
        return temperature_for_edit_rate(edit_rate, length, len(self.tokens), self.edit_cost, self.max_edits)

    def edit_rate(self, length: int, *, temperature: float | None = None) -> float:
        probs = self.edit_probs(length, temperature=temperature)
        return float(probs @ np.arange(len(probs))) / length if length else 0.0

    def edit_probs(self, length: int, *, outside: int = 0, temperature: float | None = None) -> np.ndarray:
        """Probability of each number of edits.

        Args:
            length: tokens of the reference.
            outside: number of them that may not be drawn themselves.
            temperature: instead of the sampler's own.

        Returns:
            For 0, 1, ... edits, float64, shape `(max_edits + 1,)`; the sum is 1.
        """
        penalty = penalty_per_edit(self._temperature(temperature), self.edit_cost)
        log_counts = self._log_counts(check_count("length", length), check_count("outside", outside))[0]
        return np.exp(log_softmax_edits(log_counts, penalty))

    def sample(self, labels: Labels, rng: np.random.Generator) -> list[int]:
        labels = copy_row(labels)
        if not self.temperature:
            return labels
        places = self.index_of(flatten_rows([labels]))
        measure = self.measure(places)
        inside, outside = np.flatnonzero(places >= 0), np.flatnonzero(places < 0)
        edits = _choose(rng.random(), self.edit_probs(len(labels), outside=len(outside)))
        substitutions, of_outside = self._sample_substitutions(len(labels), len(outside), edits, rng)
        chosen = set(rng.permutation(inside)[: substitutions - of_outside].tolist())
        chosen |= set(rng.permutation(outside)[:of_outside].tolist())
        slots = len(labels) - substitutions + edits - substitutions
        inserted = set(rng.permutation(slots)[: edits - substitutions].tolist())
        drawn, slot = [], 0
        for position, token in enumerate(labels):
            if position in chosen:
                drawn += self._replace(int(places[position]), measure, rng)
                continue
            slot = self._insert(drawn, slot, inserted, measure, rng)
            drawn.append(token)
            slot += 1
        self._insert(drawn, slot, inserted, measure, rng)
        return drawn

    def _sample_substitutions(self, length: int, outside: int, edits: int, rng: np.random.Generator) -> tuple[int, int]:
        """How many of the edits are substitutions, and of tokens outside of the set."""
        log_chosen, log_vocab_size = self._log_counts(length, outside)[1], math.log(len(self.tokens))
        lengths = np.array([length])
        weights = _log_substitution_weights(np.array([edits]), lengths, log_chosen[None], log_vocab_size)[0]
        substitutions = _choose(rng.random(), np.exp(weights - weights.max()))
        if not outside:
            return substitutions, 0
        weights = _log_outside_weights(np.array([substitutions]), lengths, np.array([outside]), len(self.tokens))[0]
        return substitutions, _choose(rng.random(), np.exp(weights - weights.max()))

    def _replace(self, place: int, measure: TokenMeasure | None, rng: np.random.Generator) -> list[int]:
        """What a token becomes: nothing, or another one of the set."""
        options = len(self.tokens) + (place < 0)
        choice = int(rng.integers(options))
        if choice == options - 1:
            return []
        if measure is not None:
            return [self.sample_other(measure, place, rng)]
        return [int(self.tokens[choice + (0 <= place <= choice)])]

    def _insert(
        self, drawn: list[int], slot: int, inserted: set[int], measure: TokenMeasure | None, rng: np.random.Generator
    ) -> int:
        """Inserts what stands before the next token left alone; that token's slot."""
        while slot in inserted:
            drawn.append(
                int(rng.choice(self.tokens) if measure is None else self.tokens[measure.tokens(np.array(rng.random()))])
            )
            slot += 1
        return slot

    def draw(self, labels: Sequence[Labels], keys: np.ndarray, *, temperature: float | None = None) -> Draws:
        keys = check_references(labels, keys)
        temperature = self._temperature(temperature)
        if not temperature or not len(labels):
            return Draws(copy_rows(labels), np.zeros(len(labels), np.int64))
        return self._propose(labels, keys, temperature)

    def _propose(self, labels: Sequence[Labels], keys: np.ndarray, temperature: float) -> Draws:
        """`draw` at a temperature that is not 0, for at least one reference."""
        keys = derive_keys(keys, _STREAM)
        lengths = row_lengths(labels)
        tokens = flatten_rows(labels)
        places = self.index_of(tokens)
        ends = np.cumsum(lengths)
        outside = np.diff(np.concatenate([[0], np.cumsum(places < 0)])[np.concatenate([[0], ends])])
        stride = int(lengths.max()) + 1
        codes, table_of_row = np.unique(lengths * stride + outside, return_inverse=True)
        tables = [self._log_counts(*divmod(code, stride)) for code in codes.tolist()]
        edits = self._draw_edits([totals for totals, _ in tables], table_of_row, keys, temperature)
        drawn: list[list[int]] = [[]] * len(labels)
        for row in np.flatnonzero(edits == 0).tolist():
            drawn[row] = copy_row(labels[row])
        edited = np.flatnonzero(edits)
        if len(edited):
            log_chosen = _padded([chosen for _, chosen in tables])[table_of_row[edited]]
            substitutions = self._draw_substitutions(edits[edited], lengths[edited], log_chosen, keys[edited])
            starts = (ends - lengths)[edited]
            sizes = lengths[edited], edits[edited], substitutions
            rows = self._edit(tokens, places, starts, *sizes, keys[edited], self.measure(places))
            for row, new in zip(edited.tolist(), rows, strict=True):
                drawn[row] = new
        return Draws(drawn, edits)

    def _log_counts(self, length: int, outside: int) -> tuple[np.ndarray, np.ndarray]:
        """Logarithms of `c(e, m)` and of the ways to choose and replace `s` tokens; they know no temperature."""
        tables = self._tables.get((length, outside))
        if tables is None:
            vocab_size = len(self.tokens)
            tables = (
                log_edit_totals(length, vocab_size, self.max_edits, outside),
                log_substitution_counts(length, vocab_size, outside),
            )
            size = len(tables[0]) + len(tables[1])
            if self._cached + size > _CACHED_NUMBERS:
                self._tables, self._cached = {}, 0
            self._tables[length, outside] = tables
            self._cached += size
        return tables

    def _draw_edits(self, totals: list[np.ndarray], table_of_row: np.ndarray, keys: np.ndarray, temperature: float):
        """Numbers of edits, shape `(batch,)`, for rows whose log-counts are `totals[table_of_row]`."""
        penalty = penalty_per_edit(temperature, self.edit_cost)
        cdf = _cdf(_padded(totals) - penalty * np.arange(max(map(len, totals))))
        cdf = cdf[:, : 1 + np.count_nonzero((cdf < 1).any(axis=0))]
        chance = uniforms(keys, np.array([_EDITS * _BLOCK]))
        return (cdf[table_of_row] <= chance[:, None]).sum(axis=1)

    def _draw_substitutions(self, edits: np.ndarray, lengths: np.ndarray, log_chosen: np.ndarray, keys: np.ndarray):
        """How many of the edits are substitutions; it does not depend on the temperature."""
        cdf = _cdf(_log_substitution_weights(edits, lengths, log_chosen, math.log(len(self.tokens))))
        chance = uniforms(keys, np.array([_SUBSTITUTIONS * _BLOCK]))
        return (cdf <= chance[:, None]).sum(axis=1)

    def _edit(self, tokens, places, starts, lengths, edits, substitutions, keys, measure) -> list[list[int]]:
        """Applies to each reference one of its scripts with these numbers of edits and substitutions, by their weights.

        Args:
            tokens: of all references, one after another; `places` are theirs in the set.
            starts: of the references to edit, within `tokens`; all arguments but the last have shape `(batch,)` from
                here on.
            measure: the base measure.
        """
        column = np.arange(max(1, int(lengths.max())))
        is_token = column < lengths[:, None]  # (batch, time)
        if len(tokens):
            index = np.minimum(starts[:, None] + column, len(tokens) - 1)
            tokens, places = tokens[index], places[index]
        else:
            tokens = places = np.zeros(is_token.shape, dtype=np.int64)
        chosen = self._choose_tokens(keys, is_token, places, substitutions)
        untouched = np.cumsum(is_token & ~chosen, axis=1)  # at and before the token
        insertions = edits - substitutions
        before = self._insertions_before(keys, lengths - substitutions, insertions)  # (batch, untouched)
        new_lengths = lengths + insertions
        # What comes before a token of the reference: all others of it, and the insertions before the gap that it is in
        # (if chosen) or closes (if not). The places that remain are the insertions'.
        rows = np.arange(len(lengths))[:, None]
        position = column + before[rows, untouched]
        new = np.full((len(lengths), int(new_lengths.max()) + 1), _EMPTY)
        unused = new.shape[1] - 1
        new[rows, np.where(is_token, position, unused)] = self._replaced(tokens, places, chosen, keys, measure)
        is_new = np.arange(new.shape[1]) < new_lengths[:, None]
        row, place = _nonzero((new == _EMPTY) & is_new)
        chance = uniforms(keys[row], _INSERTED * _BLOCK + place)
        drawn = (chance * len(self.tokens)).astype(np.int64) if measure is None else measure.tokens(chance)
        new[row, place] = self.tokens[drawn]
        kept = is_new & (new >= 0)
        flat, ends = new[kept].tolist(), np.cumsum(kept.sum(axis=1)).tolist()
        return [flat[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    def _choose_tokens(self, keys, is_token, places, substitutions) -> np.ndarray:
        """Which tokens are substituted, bool, shape `(batch, time)`."""
        is_outside = is_token & (places < 0)
        outside = is_outside.sum(axis=1)
        if not outside.any():
            return _smallest(keys, _CHOSEN, is_token, substitutions)
        lengths = is_token.sum(axis=1)
        cdf = _cdf(_log_outside_weights(substitutions, lengths, outside, len(self.tokens)))
        of_outside = (cdf <= uniforms(keys, np.array([_OUTSIDE * _BLOCK]))[:, None]).sum(axis=1)
        of_inside = _smallest(keys, _CHOSEN, is_token & ~is_outside, substitutions - of_outside)
        return of_inside | _smallest(keys, _CHOSEN, is_outside, of_outside)

    def _insertions_before(self, keys: np.ndarray, untouched: np.ndarray, insertions: np.ndarray) -> np.ndarray:
        """Insertions in all gaps up to the one that untouched token number `k` closes, `k` from 1; shape `(batch, k)`.

        A uniform multiset of gaps is a uniform choice of slots for insertions in a row of insertions and tokens.
        """
        slots = untouched + insertions
        is_slot = np.arange(max(1, int(slots.max()))) < slots[:, None]
        is_token = is_slot & ~_smallest(keys, _SLOTS, is_slot, insertions)
        before = np.zeros((len(keys), 1 + int(untouched.max())), dtype=np.int64)
        row, slot = _nonzero(is_token)
        number = np.cumsum(is_token, axis=1)[row, slot]
        before[row, number] = slot + 1 - number
        return before

    def _replaced(self, tokens, places, chosen, keys, measure) -> np.ndarray:
        """The tokens; where chosen, nothing or another one of the set."""
        row, column = _nonzero(chosen)
        place = places[row, column]
        options = len(self.tokens) + (place < 0)
        chance = uniforms(keys[row], _REPLACED * _BLOCK + column) * options
        choice = chance.astype(np.int64)
        if measure is None:
            other = self.tokens[np.minimum(choice + ((0 <= place) & (place <= choice)), len(self.tokens) - 1)]
        else:  # given that it is not the last option, the number is uniform again
            other = self.tokens[measure.others(np.minimum(chance / (options - 1), _BELOW_ONE), place)]
        tokens = tokens.copy()
        tokens[row, column] = np.where(choice == options - 1, _NOTHING, other)
        return tokens

    def log_prob(self, candidate: Labels, reference: Labels, *, temperature: float | None = None) -> float:
        """Log-probability in nats of drawing `candidate`, summed over its edit scripts. See `log_probs`."""
        return float(self.log_probs([candidate], [reference], temperature=temperature)[0])

    def log_probs(
        self, candidates: Sequence[Labels], references: Sequence[Labels], *, temperature: float | None = None
    ) -> np.ndarray:
        """`log_prob` of each candidate for its reference, many at once; see `Payoff.log_probs`.

        Time grows with the product of both lengths and the number of edits, and not with the vocabulary.
        """
        check_pairs(candidates, references)
        temperature = self._temperature(temperature)
        if not temperature:
            pairs = zip(candidates, references, strict=True)
            return np.array([0.0 if copy_row(new) == copy_row(old) else -math.inf for new, old in pairs])
        log_probs = np.empty(len(references))
        order = np.lexsort([row_lengths(references), row_lengths(candidates)])  # little padding
        for first in range(0, len(order), _ROWS_AT_ONCE):
            rows = order[first : first + _ROWS_AT_ONCE].tolist()
            chunk = [candidates[row] for row in rows], [references[row] for row in rows]
            log_probs[rows] = self._log_probs(*chunk, temperature)
        return log_probs

    def _log_probs(self, candidates: Sequence[Labels], references: Sequence[Labels], temperature: float) -> np.ndarray:
        (new, new_lengths), (old, old_lengths) = pad_rows(candidates), pad_rows(references)
        is_outside = (self.index_of(old) < 0) & (np.arange(old.shape[1]) < old_lengths[:, None])
        lengths_and_outside = zip(old_lengths.tolist(), is_outside.sum(axis=1).tolist(), strict=True)
        totals = _padded([self._log_counts(*pair)[0] for pair in lengths_and_outside])
        penalty = penalty_per_edit(temperature, self.edit_cost)
        cost = penalty * np.arange(totals.shape[1])
        places, measure = self.index_of(new), self.fixed_measure()
        drawable, of_edits = places >= 0, None
        if measure is not None:
            of_edits = measure.log_weights(places), measure.log_factors(self.index_of(old))
        weights = log_edit_script_weights(new, old, drawable, new_lengths, old_lengths, penalty, of_edits)
        # Those are of any number of edits. Where it matters that there is a largest, it takes counts by number.
        tokens, most = new_lengths + old_lengths, np.isfinite(totals).sum(axis=1) - 1
        matters = (tokens > most) & np.isfinite(weights)
        if measure is None:
            bound = tokens * LOG_SCRIPTS_PER_TOKEN - (most + 1) * penalty
            matters &= bound >= weights + _LOG_NEGLIGIBLE
        for row in np.flatnonzero(matters).tolist():
            alone, width, height = slice(row, row + 1), new_lengths[row], old_lengths[row]
            own = None if of_edits is None else (of_edits[0][alone, :width], of_edits[1][alone, :height])
            log_counts = log_edit_script_counts(
                new[alone, :width], old[alone, :height], drawable[alone, :width], new_lengths[alone],
                old_lengths[alone], int(most[row]), own,
            )  # fmt: skip
            weights[row] = logsumexp(log_counts - cost[: most[row] + 1])[0]
        return weights - logsumexp(totals - cost)

    def __getstate__(self) -> dict:
        return super().__getstate__() | {"_tables": {}, "_cached": 0}


def log_script_counts(candidate: Labels, reference: Labels, payoff: TokenPayoff, max_edits: int) -> np.ndarray:
    """Logarithm of the number of edit scripts that make `candidate` of `reference`, by their number of edits.

    Args:
        candidate: token ids of the edited string.
        reference: token ids of what was edited.
        payoff: whose tokens may be drawn.
        max_edits: largest number of edits looked at.

    Returns:
        Nats, float64, shape `(max_edits + 1,)`; `-inf` where there is no script.
    """
    (new, new_lengths), (old, old_lengths) = pad_rows([candidate]), pad_rows([reference])
    return log_edit_script_counts(new, old, payoff.index_of(new) >= 0, new_lengths, old_lengths, max_edits)[0]


def _choose(chance: float, probs: np.ndarray) -> int:
    cumulated = np.cumsum(probs)
    return int(np.searchsorted(cumulated / cumulated[-1], chance, side="right"))


def _cdf(log_weights: np.ndarray) -> np.ndarray:
    """Cumulated probabilities over the last dimension; exactly 1 from the last possible outcome on."""
    cumulated = np.cumsum(np.exp(log_weights - log_weights.max(axis=1, keepdims=True)), axis=1)
    return cumulated / cumulated[:, -1:]


def _nonzero(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns where the mask is set; faster than `mask.nonzero()`."""
    flat = np.flatnonzero(mask)
    row = flat // mask.shape[1]
    return row, flat - row * mask.shape[1]


def _padded(rows: list[np.ndarray]) -> np.ndarray:
    padded = np.full((len(rows), max(map(len, rows))), -np.inf)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded


def _log_substitution_weights(
    edits: np.ndarray, lengths: np.ndarray, log_chosen: np.ndarray, log_vocab_size: float
) -> np.ndarray:
    """Log-weights of 0, 1, ... substitutions among the edits of each row: its summands of Eq. 11.

    Args:
        edits: at least 1, shape `(batch,)`.
        lengths: lengths of the references, shape `(batch,)`.
        log_chosen: `log_substitution_counts` of each row, shape `(batch, at least the largest length + 1)`.
    """
    most = np.minimum(edits, lengths)
    substitutions = np.arange(int(most.max()) + 1)
    insertions = np.maximum(edits[:, None] - substitutions, 0)
    untouched = np.maximum(lengths[:, None] - substitutions, 0)
    logs = log_factorials(int((edits + lengths).max()))
    weights = logs[untouched + insertions] - logs[insertions] - logs[untouched] + insertions * log_vocab_size
    return np.where(substitutions <= most[:, None], weights + log_chosen[:, : len(substitutions)], -np.inf)


def _log_outside_weights(
    substitutions: np.ndarray, lengths: np.ndarray, outside: np.ndarray, vocab_size: int
) -> np.ndarray:
    """Log-weights of 0, 1, ... tokens outside of the set among the substituted ones of each row.

    A token outside has `v + 1` options where others have `v`. Arguments have shape `(batch,)`.
    """
    number = np.arange(int(np.minimum(outside, substitutions).max()) + 1)
    outside, inside, inner = outside[:, None], (lengths - outside)[:, None], substitutions[:, None] - number
    possible = (number <= outside) & (0 <= inner) & (inner <= inside)
    logs = log_factorials(int(lengths.max()))
    # A negative index would read another number's logarithm, which `possible` takes out again.
    log_ways = -logs[number] - logs[(outside - number) * possible]
    log_ways = log_ways - logs[inner * possible] - logs[(inside - inner) * possible]
    return np.where(possible, log_ways + number * math.log1p(1 / vocab_size), -np.inf)


def _smallest(keys: np.ndarray, purpose: int, places: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """A uniform choice of `numbers` of the places that are allowed in each row.

    Args:
        keys: shape `(batch,)`.
        purpose: number of the purpose, by which the random bits differ.
        places: which are allowed, bool, shape `(batch, time)`.
        numbers: shape `(batch,)`.

    Returns:
        bool, shape `(batch, time)`.
    """
    bits = random_bits(keys[:, None], purpose * _BLOCK + np.arange(places.shape[1] + 1))
    bits[:, :-1][~places] = _MOST
    bits[:, -1] = _MOST  # for a row of which all places are chosen
    # The numbers of one key are all different, so that no two places tie.
    limit = np.sort(bits, axis=1)[np.arange(len(keys)), numbers]
    return bits[:, :-1] < limit[:, None]
