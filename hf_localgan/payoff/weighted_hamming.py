"""Draws by substitution with similar tokens: an exponentiated Hamming payoff whose measure, or costs, know of them."""

from collections.abc import Iterable, Sequence
from numbers import Real

import numpy as np

from hf_localgan.functional.payoff import logsumexp, penalty_per_edit
from hf_localgan.payoff.alias import alias_tables, choose_by_alias
from hf_localgan.payoff.base import Draws, Labels, TokenPayoff, check_number, check_pairs, check_references
from hf_localgan.payoff.hamming import find_hits
from hf_localgan.payoff.keys import derive_keys, uniforms
from hf_localgan.payoff.neighbours import Neighbours
from hf_localgan.payoff.rows import copy_row, copy_rows, flatten_rows, pad_rows, row_lengths

_STREAM = 17  # sets these draws apart from those of other samplers with the same keys
# Positions from here on of a key's sequence choose among the neighbours and the rest, and a token of the rest.
_OUTCOME, _REST_TOKEN = 2**40, 2**41
SIMILARITY_TEMPERATURE = 0.05


class WeightedHammingPayoff(TokenPayoff):
    """Replaces tokens by similar ones, in Eq. 4 of Norouzi et al. 2016; each position is drawn alone.

    **By an even rate** (the default) similarity is a base measure, as `base_measure` is of the other samplers: the
    reward is minus `edit_cost` for each token replaced, and the substitutes `a` of `b` share what the uniform measure
    gives them by a softmax of their similarities, at the similarity temperature `s`:

        q(a | b) = n w(a | b) exp(-edit_cost / tau) / (1 + n exp(-edit_cost / tau))
        w(a | b) = exp(similarity(a, b) / s) / (sum of exp(similarity(., b) / s) over all substitutes of b)

    with `n` substitutes under the uniform measure (`v - 1`, or `v` for a token outside of the set), and a similarity of
    0 for all tokens of the set that are no neighbours (the rest). So every token is replaced as often as by
    `HammingPayoff` at the same temperature, and similarity decides by what.

    **By costs**, `even_rate=False`, the measure is uniform and the reward `r(y, y*) = -sum_t cost(y_t, y*_t)`, the cost
    being `edit_cost * (1 - similarity(a, b))`:

        q(a | b) = exp(-cost(a, b) / tau) / (1 + sum of exp(-cost / tau) over all substitutes of b)

    Then tau decides both how often and by what, and at a low rate nearly all edits fall on the few tokens with a near
    twin.

    Both are exactly normalised, in a time that does not depend on the vocabulary. Without any neighbour both are
    `HammingPayoff`. The length stays; only one way leads to each string.

    A token is replaced if 64 random bits are below its own threshold; one alias table for each token then chooses among
    its neighbours and the rest. Similarities need not be symmetric. All labels of a batch are checked, unless the
    temperature is 0: negative ids (-100) and floats raise a `ValueError`.

    Args:
        tokens: ids that may be drawn.
        temperature: tau, in units of the reward.
        neighbours: of the tokens; those that are not in the set are left out. Tokens outside of the set have none.
        edit_cost: cost of an edit, with `even_rate=False` of a token of the rest: `"log_vocab"` (`1 + ln v`), `"unit"`,
            or a number; see `TokenPayoff`.
        rest: whether tokens of the rest are drawn. Without it a token without neighbours is never replaced.
        even_rate: whether all tokens that have a substitute are replaced equally often.
        similarity_temperature: `s`, in units of similarity, above 0: the smaller, the more of the substitutes are the
            nearest neighbours. Only with `even_rate`.
        counts: how often each token stands in the references, by token id (`numpy.bincount`), for `edit_rate`,
            `temperature_for` and `neighbour_share` alone; by default all tokens of the set alike.

    Raises:
        ValueError: as `TokenPayoff`, for counts that are negative or 0 for the whole set, and for a similarity
            temperature that is not above 0 and finite.
    """

    def __init__(
        self,
        tokens: Iterable[int],
        temperature: float,
        neighbours: Neighbours,
        edit_cost: str | float = "log_vocab",
        rest: bool = True,
        counts: Sequence[int] | np.ndarray | None = None,
        *,
        even_rate: bool = True,
        similarity_temperature: float = SIMILARITY_TEMPERATURE,
    ):
        super().__init__(tokens, temperature, edit_cost)
        self.rest, self.even_rate = bool(rest), bool(even_rate)
        self.similarity_temperature = check_similarity_temperature(similarity_temperature)
        size = len(self.tokens)
        self._neighbours, self._similarities = self._aligned(neighbours)
        number = (self._neighbours < size).sum(axis=1)
        self._others = np.append(np.full(size, size - 1), size)  # a token outside of the set has one more
        self._in_rest = (self._others - number) * self.rest
        self._frequencies = self._checked_counts(counts)
        self._forget()

    @classmethod
    def for_edit_rate(
        cls,
        *,
        tokens: Iterable[int],
        neighbours: Neighbours,
        edit_rate: float,
        length: int | None = None,
        edit_cost: str | float = "log_vocab",
        rest: bool = True,
        counts: Sequence[int] | np.ndarray | None = None,
        even_rate: bool = True,
        similarity_temperature: float = SIMILARITY_TEMPERATURE,
    ) -> "WeightedHammingPayoff":
        """The sampler that replaces `edit_rate` of the tokens.

        Args:
            tokens, neighbours, edit_cost, rest, even_rate, similarity_temperature: see the class.
            edit_rate: replacements per token of the reference, from 0.
            length: not used, for the rate is the same for every length; `EditPayoff` needs it.
            counts: see the class. With `even_rate=False`, where tokens with close neighbours are replaced more often
                than others, and without a rest, where those without neighbours are not replaced, the rate depends on
                how frequent they are.

        Raises:
            ValueError: if no temperature reaches the rate, or it is no number.
        """
        payoff = cls(
            tokens, 0.0, neighbours, edit_cost, rest, counts,
            even_rate=even_rate, similarity_temperature=similarity_temperature,
        )  # fmt: skip
        payoff.temperature = payoff.temperature_for(check_number("edit_rate", edit_rate))
        return payoff

    def temperature_for(self, edit_rate: float, length: int | None = None) -> float:
        from scipy.optimize import brentq

        largest = self.edit_rate(temperature=np.inf)
        if not 0 <= edit_rate < largest:
            raise ValueError(
                f"`edit_rate` must be at least 0 and under {largest:.4g}, which an infinite temperature reaches, got "
                f"{edit_rate}."
            )
        if edit_rate == 0:
            return 0.0
        high = 1.0  # 1 / tau, over which the rate falls
        while self.edit_rate(temperature=1 / high) > edit_rate:
            high *= 2
        penalty = brentq(lambda value: self._rate(value) - edit_rate, 0.0, high, xtol=1e-12, rtol=1e-14)
        return 1 / float(penalty)

    def edit_rate(self, length: int | None = None, *, temperature: float | None = None) -> float:
        return self._rate(penalty_per_edit(self._temperature(temperature), 1.0))

    def _rate(self, penalty: float) -> float:
        """Replacements per token at `1 / tau`, over references with tokens by their frequencies."""
        return float(self._frequencies @ np.exp(_log_share(self._log_masses(penalty)[:-1])))

    def replacement_probs(self, *, temperature: float | None = None) -> np.ndarray:
        """Probability that each token of the set is replaced, float64, shape `(v,)`."""
        penalty = penalty_per_edit(self._temperature(temperature), 1.0)
        return np.exp(_log_share(self._log_masses(penalty)[:-1]))

    def neighbour_share(self, *, temperature: float | None = None) -> float:
        """Share of the replacements that are neighbours, over references with tokens by `counts`; 0 where none is.

        With `even_rate` a smaller similarity temperature raises it, and `temperature` does not matter.
        """
        masses = self._log_masses(penalty_per_edit(self._temperature(temperature), 1.0))[:-1]
        total = logsumexp(masses)
        weights = self._frequencies * np.exp(_log_share(masses))
        near = np.exp(logsumexp(masses[:, :-1]) - np.where(np.isfinite(total), total, 0.0))
        return float(weights @ near / max(weights.sum(), np.finfo(float).tiny))

    # ---- tables ----

    def _aligned(self, neighbours: Neighbours) -> tuple[np.ndarray, np.ndarray]:
        """Places of each token's neighbours in the set, sorted, and their similarities; the last row is for the others.

        Places that are not taken hold `v`, at a similarity of `-inf`.
        """
        size = len(self.tokens)
        width = neighbours.ids.shape[1]
        places, values = np.full((size + 1, width), size), np.full((size + 1, width), -np.inf)
        rows = self.index_of(np.maximum(neighbours.tokens, 0))
        rows = np.where(neighbours.tokens >= 0, rows, -1)
        near = np.where(neighbours.ids >= 0, self.index_of(np.maximum(neighbours.ids, 0)), -1)
        known = rows >= 0
        near, similar = near[known], neighbours.similarities[known]
        places[rows[known]] = np.where(near >= 0, near, size)
        values[rows[known]] = np.where(near >= 0, similar, -np.inf)
        order = np.argsort(places, axis=1, kind="stable")
        return np.take_along_axis(places, order, axis=1), np.take_along_axis(values, order, axis=1)

    def _checked_counts(self, counts) -> np.ndarray:
        size = len(self.tokens)
        if counts is None:
            return np.full(size, 1 / size)
        counts = np.asarray(counts)
        if counts.ndim != 1 or counts.dtype.kind not in "ui" or (counts.size and counts.min() < 0):
            raise ValueError(
                "`counts` must be whole numbers of at least 0, the count of token i at place i, as `numpy.bincount` of "
                f"the training labels has them, got {counts.dtype} of shape {counts.shape}."
            )
        inside = np.zeros(size)
        known = self.tokens < len(counts)
        inside[known] = counts[self.tokens[known]]
        if not inside.sum():
            raise ValueError("`counts` are 0 for all tokens that may be drawn. Count the training labels.")
        return inside / inside.sum()

    def _log_masses(self, penalty: float, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Log-weights of each neighbour and, last, of the rest together, against a token left alone.

        Args:
            penalty: `1 / tau`.
            rows: places, `v` for tokens outside of the set.

        Returns:
            Nats, shape `(rows, k + 1)`.
        """
        similar, size = self._similarities[rows], self._in_rest[rows].astype(np.float64)
        with np.errstate(divide="ignore"):
            rest, others = np.log(size)[:, None], np.log(self._others[rows])[:, None]
        if self.even_rate:
            shares = np.concatenate([similar / self.similarity_temperature, rest], axis=1)
            total = logsumexp(shares)[:, None]
            shares = shares - np.where(np.isfinite(total), total, 0.0)  # a token without substitutes keeps `-inf`
            return shares + others - penalty * self.edit_cost
        is_near = np.isfinite(similar)
        near = np.where(is_near, -penalty * self.edit_cost * (1.0 - np.where(is_near, similar, 0.0)), -np.inf)
        return np.concatenate([near, rest - penalty * self.edit_cost], axis=1)

    def _forget(self):
        self._warm: float | None = None  # the temperature of the tables
        self._thresholds = self._keep = self._alias = self._known = self._built = None

    def _warm_up(self, places: np.ndarray, temperature: float):
        """Tables of a temperature: thresholds of tokens when they are first seen, alias tables once they are replaced.

        So a temperature that changes at every step costs what the tokens of a batch cost, not the vocabulary.
        """
        if self._warm != temperature:
            shape = len(self._similarities), self._similarities.shape[1] + 1
            if self._warm is None:
                self._thresholds = np.empty(shape[0], np.uint64)
                self._keep, self._alias = np.empty(shape), np.empty(shape, np.int64)
            self._known, self._built = np.zeros(shape[0], dtype=bool), np.zeros(shape[0], dtype=bool)
            self._warm = temperature
        is_new = np.zeros(len(self._known), dtype=bool)
        is_new[places] = True
        new = np.flatnonzero(is_new & ~self._known)
        if len(new):
            probs = np.exp(_log_share(self._log_masses(penalty_per_edit(temperature, 1.0), new)))
            self._thresholds[new] = np.minimum(probs * 2.0**64, 2.0**64 - 2048).astype(np.uint64)
            self._known[new] = True

    def _build(self, places: np.ndarray, temperature: float):
        new = np.unique(places[~self._built[places]])
        if len(new):
            masses = self._log_masses(penalty_per_edit(temperature, 1.0), new)
            self._keep[new], self._alias[new] = alias_tables(np.exp(masses - logsumexp(masses)[:, None]))
            self._built[new] = True

    def __getstate__(self) -> dict:
        tables = dict.fromkeys(("_warm", "_thresholds", "_keep", "_alias", "_known", "_built"))
        return super().__getstate__() | tables  # made again where the copy draws

    # ---- draws ----

    def sample(self, labels: Labels, rng: np.random.Generator) -> list[int]:
        drawn = copy_row(labels)
        if not self.temperature:
            return drawn
        penalty = penalty_per_edit(self.temperature, 1.0)
        for position, place in enumerate(self.index_of(flatten_rows([drawn])).tolist()):
            place = place if place >= 0 else len(self.tokens)
            masses = self._log_masses(penalty, np.array([place]))[0]
            weights = np.exp(np.append(masses, 0.0) - max(0.0, masses.max()))
            outcome = int(rng.choice(len(weights), p=weights / weights.sum()))
            if outcome == len(masses):  # left alone
                continue
            if outcome < len(masses) - 1:
                drawn[position] = int(self.tokens[self._neighbours[place, outcome]])
            else:
                excluded = {place, *self._neighbours[place].tolist()}
                allowed = [other for other in range(len(self.tokens)) if other not in excluded]
                drawn[position] = int(self.tokens[allowed[int(rng.integers(len(allowed)))]])
        return drawn

    def draw(self, labels: Sequence[Labels], keys: np.ndarray, *, temperature: float | None = None) -> Draws:
        keys = check_references(labels, keys)
        temperature = self._temperature(temperature)
        drawn = copy_rows(labels)
        if not temperature:
            return Draws(drawn, np.zeros(len(drawn), np.int64))
        keys, size = derive_keys(keys, _STREAM), len(self.tokens)
        places = self.index_of(flatten_rows(drawn))
        places = np.where(places >= 0, places, size)
        self._warm_up(places, temperature)
        hits, rows, positions, _ = find_hits(keys, row_lengths(drawn), self._thresholds[places])
        places = places[hits]
        self._build(places, temperature)
        outcome = choose_by_alias(self._keep, self._alias, places, uniforms(keys[rows], _OUTCOME + positions))
        is_rest = outcome == self._neighbours.shape[1]
        new = np.empty(len(hits), np.int64)
        new[~is_rest] = self._neighbours[places[~is_rest], outcome[~is_rest]]
        chance = uniforms(keys[rows[is_rest]], _REST_TOKEN + positions[is_rest])
        new[is_rest] = self._rest_tokens(places[is_rest], chance)
        for row, position, token in zip(rows.tolist(), positions.tolist(), self.tokens[new].tolist(), strict=True):
            drawn[row][position] = token
        return Draws(drawn, np.bincount(rows, minlength=len(drawn)))

    def _rest_tokens(self, places: np.ndarray, chance: np.ndarray) -> np.ndarray:
        """Places of uniformly drawn tokens that are neither the given ones nor their neighbours."""
        choice = (chance * self._in_rest[places]).astype(np.int64)
        excluded = np.sort(np.column_stack([self._neighbours[places], places]), axis=1)  # `v` where there is none
        # Below the j-th excluded place there are that many fewer tokens of the rest.
        below = excluded - np.arange(excluded.shape[1])
        below[excluded >= len(self.tokens)] = len(self.tokens)
        return choice + (below <= choice[:, None]).sum(axis=1)

    # ---- probabilities ----

    def log_prob(self, candidate: Labels, reference: Labels, *, temperature: float | None = None) -> float:
        """Log-probability in nats of drawing the string `candidate`; only one way leads to it."""
        return float(self.log_probs([candidate], [reference], temperature=temperature)[0])

    def log_probs(
        self, candidates: Sequence[Labels], references: Sequence[Labels], *, temperature: float | None = None
    ) -> np.ndarray:
        """`log_prob` of each candidate for its reference, many at once; see `Payoff.log_probs`."""
        check_pairs(candidates, references)
        temperature, size = self._temperature(temperature), len(self.tokens)
        new, new_lengths = pad_rows(candidates)
        old, lengths = pad_rows(references)
        width = max(new.shape[1], old.shape[1])
        new, old = (np.pad(table, ((0, 0), (0, width - table.shape[1]))) for table in (new, old))
        if not temperature:
            terms = np.where(new == old, 0.0, -np.inf)
        else:
            penalty = penalty_per_edit(temperature, 1.0)
            new_places, places = self.index_of(new), self.index_of(old)
            places = np.where(places >= 0, places, size)
            masses = self._log_masses(penalty, places.ravel()).reshape(*places.shape, -1)
            log_alone = -np.logaddexp(0.0, logsumexp(masses))  # `-ln Z`
            # Of neighbours their own, of all other tokens of the set that of one of the rest.
            log_rest = masses[..., -1] - np.log(np.maximum(self._in_rest[places], 1))
            is_near = self._neighbours[places] == new_places[..., None]
            near = np.where(is_near, masses[..., :-1], -np.inf).max(axis=-1, initial=-np.inf)
            weights = np.where(is_near.any(axis=-1), near, log_rest)
            weights = np.where(new == old, 0.0, np.where(new_places >= 0, weights, -np.inf))
            terms = weights + log_alone
        terms[np.arange(width) >= lengths[:, None]] = 0.0
        return np.where(new_lengths == lengths, terms.sum(axis=1), -np.inf)


def check_similarity_temperature(value: float) -> float:
    """The value as a float; a `ValueError` for one that is not above 0 and finite."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < np.inf:
        raise ValueError(
            f"`similarity_temperature` must be a number above 0, finite, got {value!r}. It is in units of similarity: "
            f"{SIMILARITY_TEMPERATURE} draws near tokens mostly, 1 hardly minds the similarity."
        )
    return float(value)


def _log_share(masses: np.ndarray) -> np.ndarray:
    """Log-probability that a token is replaced, from the log-weights of all that replaces it; shape `(rows,)`."""
    total = logsumexp(masses)
    return total - np.logaddexp(0.0, total)
