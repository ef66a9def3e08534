"""The face that all samplers share: a token set, a temperature, draws by generator or by key."""

import math
import reprlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hf_localgan.payoff.measure import BaseMeasure, TokenMeasure, batch_measure, check_measure

Labels = Sequence[int]


@dataclass(frozen=True)
class Draws:
    """What a sampler drew for a batch.

    Attributes:
        labels: one list of token ids for each reference.
        edits: number of edits between each draw and its reference, as the sampler counts them; int64, shape `(batch,)`.
        effective_sample_size: of the candidates each draw was chosen from; float64, shape `(batch,)`, or `None` where
            draws are not weighted.
    """

    labels: list[list[int]]
    edits: np.ndarray
    effective_sample_size: np.ndarray | None = None


class Payoff(ABC):
    """A sampler of `q(y | y*; temperature)`, the exponentiated payoff distribution (Norouzi et al. 2016, Eq. 4).

    References and draws are token ids without the end-of-sequence token, which is never edited: the caller takes it
    off and puts it back.

    Args:
        temperature: tau, in units of the reward. At 0 every draw is the reference, and no randomness is used.
    """

    def __init__(self, temperature: float):
        self.temperature = check_temperature(temperature)

    @abstractmethod
    def sample(self, labels: Labels, rng: np.random.Generator) -> list[int]:
        """One draw for one reference, in plain steps.

        Args:
            labels: token ids of the reference, without the end token.
            rng: advanced by the draw; untouched at temperature 0.
        """

    @abstractmethod
    def draw(self, labels: Sequence[Labels], keys: np.ndarray, *, temperature: float | None = None) -> Draws:
        """One draw for each reference, which depends on its key, itself and the temperature only.

        Args:
            labels: references, token ids without the end token.
            keys: uint64, shape `(batch,)`. Equal keys and references give equal draws.
            temperature: instead of the sampler's own, as a schedule needs it.
        """

    @abstractmethod
    def log_prob(self, candidate: Labels, reference: Labels, *, temperature: float | None = None) -> float:
        """Log-probability in nats of drawing the string `candidate`, summed over all ways of drawing it.

        Args:
            candidate: token ids, without the end token.
            reference: token ids, without the end token.
            temperature: instead of the sampler's own.
        """

    def log_probs(
        self, candidates: Sequence[Labels], references: Sequence[Labels], *, temperature: float | None = None
    ) -> np.ndarray:
        """`log_prob` of each candidate for its reference; samplers that can compute many at once do.

        Args:
            candidates: token ids, one row for each reference.
            references: token ids.
            temperature: instead of the sampler's own.

        Returns:
            Nats, float64, shape `(batch,)`.

        Raises:
            ValueError: if there is not one candidate for each reference.
        """
        check_pairs(candidates, references)
        pairs = zip(candidates, references, strict=True)
        return np.array([self.log_prob(*pair, temperature=temperature) for pair in pairs], dtype=np.float64)

    def log_weights(
        self, candidates: Sequence[Labels], references: Sequence[Labels], *, temperature: float | None = None
    ) -> np.ndarray:
        """`log_probs` up to a constant of each reference: what ratios need, without the normaliser where it is costly.

        Arguments, shape and refusals as `log_probs`, which it is unless a sampler says otherwise.
        """
        return self.log_probs(candidates, references, temperature=temperature)

    def sample_batch(
        self, labels: Sequence[Labels], keys: np.ndarray, *, temperature: float | None = None
    ) -> list[list[int]]:
        """The labels of `draw`."""
        return self.draw(labels, keys, temperature=temperature).labels

    def _temperature(self, temperature: float | None) -> float:
        return self.temperature if temperature is None else check_temperature(temperature)


class TokenPayoff(Payoff):
    """A sampler that replaces, deletes or inserts tokens of a set, each edit at a cost.

    **The base measure** says which tokens edits bring in. With counts `c` of the tokens, and their sum `C` over the
    set, the distribution is `q(y | y*) = base(y | y*) exp(r(y, y*) / tau) / Z` instead of Eq. 4. Here `base` is a
    product over the edits: `(v - 1) c(a) / (C - c(b))` where `a` replaces `b`, `v c(a) / C` where `a` is inserted or
    replaces a token outside of the set, and 1 for a deletion and for a token left alone. (Where several scripts of
    edits make one string, as in Eq. 11, it is each script's.) Over the choices of one edit these weights sum to the
    number of choices, as the uniform measure's do, whose weights are all 1. So how many edits there are, and where,
    does not depend on the measure, and a temperature means the same edits per token under each. A measure of the
    string alone, `base(y)` the product of `c(y_t)`, would instead replace rare words nearly always and frequent ones
    hardly ever, at any temperature that edits at all.

    Args:
        tokens: ids that may be drawn: the regular tokens, without padding, begin, end, unknown and other special ones.
        temperature: tau, in units of the reward, which is minus `edit_cost` for each edit. At 0 every draw is the
            reference.
        edit_cost: `"log_vocab"` for `1 + ln v`, which reproduces the paper's Figure 1; `"unit"` for 1, the printed
            formula, under which the paper's temperatures replace nearly every token; or the cost itself.
        base_measure: `None` for the uniform one; counts by token id, such as `numpy.bincount` of all training labels
            (unigrams), tokens with a count of 0 are then never drawn; or `"batch"`, the counts of the references of
            the same call of `draw`, so that a draw depends on what stands beside it, and `log_prob` is refused.

    Attributes:
        tokens: the ids, sorted, int64, shape `(v,)`.
        edit_cost: the cost of one edit, a float.

    Raises:
        ValueError: for an empty set, ids that are negative or no integers, a set that cannot be iterated; for a cost
            that is 0, negative, NaN or infinite; for a temperature that is negative or NaN (0 and infinity are
            accepted); for a cost or temperature that is no number, among them `True` and text such as `"0.9"`; for
            counts that are no whole numbers, or 0 for all tokens but one.
    """

    def __init__(
        self,
        tokens: Iterable[int],
        temperature: float,
        edit_cost: str | float = "log_vocab",
        base_measure: BaseMeasure = None,
    ):
        super().__init__(temperature)
        self.tokens = _check_tokens(tokens)
        self.edit_cost = _check_cost(edit_cost, len(self.tokens))
        self._measure = check_measure(base_measure, self.tokens)
        self._index = _places(self.tokens)

    def measure(self, places: np.ndarray) -> TokenMeasure | None:
        """The base measure of one call of `draw`; `None` is the uniform one.

        Args:
            places: of all tokens of the references in the set, which `"batch"` counts; shape `(tokens,)`.
        """
        return batch_measure(places, len(self.tokens)) if self._measure == "batch" else self._measure

    def fixed_measure(self) -> TokenMeasure | None:
        """The base measure of every call.

        Raises:
            NotImplementedError: for `"batch"`.
        """
        if self._measure == "batch":
            raise NotImplementedError(
                'With `base_measure="batch"` the probability of a draw depends on the other references of its batch. '
                "Use counts of all labels (`numpy.bincount`), or the uniform measure."
            )
        return self._measure

    def other_tokens(self, measure: TokenMeasure | None, chance: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Ids of substitutes of the tokens at `places` (-1 outside of the set), by uniform numbers of [0, 1)."""
        if measure is not None:
            return self.tokens[measure.others(chance, places)]
        choice = (chance * (len(self.tokens) - (places >= 0))).astype(np.int64)
        return self.tokens[choice + ((0 <= places) & (places <= choice))]

    def sample_other(self, measure: TokenMeasure | None, place: int, rng: np.random.Generator) -> int:
        """Id of a substitute of the token at a place, as `other_tokens`."""
        if measure is not None:
            return int(self.tokens[measure.others(np.array([rng.random()]), np.array([place]))[0]])
        choice = int(rng.integers(len(self.tokens) - (place >= 0)))
        return int(self.tokens[choice + (0 <= place <= choice)])

    def temperature_for(self, edit_rate: float, length: int) -> float:
        """The temperature at which this sampler makes `edit_rate` edits per token of references of `length` tokens.

        Raises:
            ValueError: if no temperature reaches the rate.
        """
        raise NotImplementedError

    def edit_rate(self, length: int, *, temperature: float | None = None) -> float:
        """Expected edits per token of references of `length` tokens of the set; see `temperature_for`."""
        raise NotImplementedError

    def index_of(self, ids: np.ndarray) -> np.ndarray:
        """Place of each id in `tokens`, -1 for ids outside of the set (unknown words, for example)."""
        return self._index[np.minimum(ids, len(self._index) - 1)]

    def __getstate__(self) -> dict:
        """Without the table, which follows from the tokens: workers that are spawned get the sampler by pickle."""
        return {name: value for name, value in self.__dict__.items() if name != "_index"}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, _index=_places(state["tokens"]))


def check_temperature(temperature: float) -> float:
    """The temperature as a float.

    Raises:
        ValueError: if it is negative, NaN or no number.
    """
    value = check_number("temperature", temperature)
    if not value >= 0:
        raise ValueError(
            f"`temperature` must be at least 0, got {value}. 0 returns the reference; the paper's best values are 0.85 "
            "(Hamming, translation) and 0.9 (edit distance, speech)."
        )
    return value


def check_number(name: str, value: str | float) -> float:
    """The value as a float; its range is the caller's to check.

    Raises:
        ValueError: if it is no number, or a truth value or text, which Python would convert.
    """
    try:
        if isinstance(value, (bool, np.bool_, str, bytes)):
            raise TypeError("converted by `float`, but hardly meant")
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ValueError(f"`{name}` must be a number of at least 0, such as 0.5, got {value!r}.") from error


def check_count(name: str, value: int, least: int = 0, otherwise: str = "") -> int:
    """The value as an int. `otherwise` says what else the caller accepts, for the message.

    Raises:
        ValueError: if it is no whole number, or below `least`.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"`{name}` must be a whole number of at least {least}{otherwise}, got {value!r}.")
    return int(value)


def check_references(labels: Sequence[Labels], keys: np.ndarray) -> np.ndarray:
    """The keys as uint64.

    Raises:
        ValueError: if there is not one key for each reference, or a reference is no row of token ids.
    """
    _check_rows("labels", labels)
    keys = np.asarray(keys)
    if keys.shape != (len(labels),) or keys.dtype.kind not in "ui":
        raise ValueError(
            f"`keys` must be integers (uint64), one for each of the {len(labels)} references, got {keys.dtype} of "
            f"shape {keys.shape}."
        )
    return keys.astype(np.uint64)


def check_pairs(candidates: Sequence[Labels], references: Sequence[Labels]) -> None:
    """Refuses what is no list of pairs.

    Raises:
        ValueError: if there is not one candidate for each reference, or one of them is no row of token ids.
    """
    _check_rows("candidates", candidates)
    _check_rows("references", references)
    if len(candidates) != len(references):
        raise ValueError(f"`candidates` and `references` must be as many, got {len(candidates)} and {len(references)}.")


def _check_rows(name: str, rows: Sequence[Labels]) -> None:
    wrong = next((row for row in rows if isinstance(row, (str, bytes)) or not hasattr(row, "__len__")), None)
    if wrong is not None:
        raise ValueError(
            f"`{name}` must hold rows of integer token ids of at least 0, one for each example, got {wrong!r:.60} "
            f"({type(wrong).__name__}) as a row. Give what the tokenizer returns, unscaled."
        )


def _places(tokens: np.ndarray) -> np.ndarray:
    """Place of each id in the sorted tokens: ids of a vocabulary are dense, so that a table is small.

    At its last entry, for all ids beyond, and for ids that the tokens leave out it holds -1.
    """
    index = np.full(int(tokens[-1]) + 2, -1, dtype=np.int64)
    index[tokens] = np.arange(len(tokens))
    return index


def _check_tokens(tokens: Iterable[int]) -> np.ndarray:
    try:
        ids = np.array(tokens if isinstance(tokens, (range, np.ndarray)) else list(tokens))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`tokens` must be a set of integer ids, such as `range(4, 8_004)`, got {reprlib.repr(tokens)}."
        ) from error
    if ids.size == 0:
        raise ValueError("`tokens` is empty. Give the ids that may be drawn: the vocabulary without special tokens.")
    if ids.ndim != 1 or ids.dtype.kind not in "ui":
        raise ValueError(
            f"`tokens` must be a set of integer ids, such as `range(4, 8_004)`, got {reprlib.repr(tokens)} "
            f"({ids.dtype} of shape {ids.shape})."
        )
    ids = np.unique(ids.astype(np.int64))
    if ids[0] < 0:
        raise ValueError(f"`tokens` must not hold negative ids, got {ids[0]}.")
    return ids


def _check_cost(edit_cost: str | float, vocab_size: int) -> float:
    if isinstance(edit_cost, str) and edit_cost in ("log_vocab", "unit"):
        return 1.0 if edit_cost == "unit" else 1.0 + math.log(vocab_size)
    try:
        cost = check_number("edit_cost", edit_cost)
    except ValueError:
        cost = math.nan
    if not 0 < cost < math.inf:
        raise ValueError(
            f'`edit_cost` must be "log_vocab" (1 + ln v), "unit" (1) or a positive finite number, got {edit_cost!r}.'
        )
    return cost
