"""What all samplers of edits have in common: keys, rows of any kind, temperatures, empty batches, pickles, refusals."""

import math
import pickle

import numpy as np
import pytest

from hf_localgan.payoff.edit import EditPayoff
from hf_localgan.payoff.exact_edit import ExactEditPayoff
from hf_localgan.payoff.hamming import HammingPayoff

TOKENS = range(4, 20)
ROWS = [[4, 5, 6, 7], [], [8, 9, 10], [11, 12]]
KEYS = np.arange(4, dtype=np.uint64)


@pytest.fixture(params=[HammingPayoff, EditPayoff, ExactEditPayoff])
def sampler(request):
    """The class of a sampler."""
    return request.param


def test_a_draw_depends_on_its_key_and_reference_alone(sampler):
    rng = np.random.default_rng(0)
    labels = [rng.integers(2, 20, size=length).tolist() for length in rng.integers(0, 12, size=100)]
    keys, payoff = np.arange(100, dtype=np.uint64), sampler(TOKENS, 1.0)
    draws = payoff.draw(labels, keys)
    whole = list(zip(draws.labels, draws.edits.tolist(), strict=True))
    assert draws.edits.max() >= 4 and draws.effective_sample_size is None
    for row in range(100):
        alone = payoff.draw([labels[row]], keys[row : row + 1])
        assert (alone.labels[0], alone.edits.item()) == whole[row]
    order = rng.permutation(100)
    assert payoff.sample_batch([labels[row] for row in order], keys[order]) == [draws.labels[row] for row in order]
    assert payoff.sample_batch([*labels, list(TOKENS) * 3], np.append(keys, np.uint64(100)))[:-1] == draws.labels
    other = payoff.sample_batch(labels, keys + np.uint64(100))
    assert sum(first != second for first, second in zip(draws.labels, other, strict=True)) > 60
    assert len(set(map(tuple, payoff.sample_batch([list(TOKENS)] * 50, keys[:50])))) == 50


def test_rows_may_be_tuples_and_arrays_and_are_never_changed_or_handed_back(sampler):
    payoff, rows = sampler(TOKENS, 1.0), [row[:] for row in ROWS]
    expected = payoff.sample_batch(rows, KEYS)
    assert rows == ROWS != expected
    for kind in (tuple, np.array, lambda row: np.array(row, dtype=np.int32)):
        drawn = payoff.sample_batch([kind(row) for row in ROWS], KEYS)
        assert drawn == expected and all(type(token) is int for row in drawn for token in row)
    for temperature in (0.0, 1e-6):
        same = payoff.sample_batch(rows, KEYS, temperature=temperature)
        assert same == rows and not any(new is old for new, old in zip(same, rows, strict=True))
    assert all(type(token) is int for token in payoff.sample(np.array([4, 5, 6]), np.random.default_rng(0)))


def test_temperature_zero_returns_a_copy_of_the_reference_and_uses_no_randomness(sampler):
    payoff, rng, reference = sampler(TOKENS, 0.0), np.random.default_rng(0), [4, 3, 5]
    before = rng.bit_generator.state
    drawn = payoff.sample(reference, rng)
    assert drawn == reference and drawn is not reference
    assert rng.bit_generator.state == before
    drawn = payoff.draw([reference, []], KEYS[:2])
    assert drawn.labels == [[4, 3, 5], []] and drawn.edits.tolist() == [0, 0]
    assert payoff.log_prob([4, 3, 5], reference) == 0
    assert payoff.log_prob([4, 4, 5], reference) == -math.inf
    assert sampler(TOKENS, 0.9).log_probs([[2], [3]], [[2], [2]], temperature=0).tolist() == [0, -math.inf]


def test_the_temperature_of_a_schedule_takes_the_place_of_the_samplers_own(sampler):
    labels, keys = [[4, 5, 6, 7, 8, 9]] * 40, np.arange(40, dtype=np.uint64)
    cold, hot = sampler(TOKENS, 0.0), sampler(TOKENS, 0.9)
    assert cold.sample_batch(labels, keys, temperature=0.9) == hot.sample_batch(labels, keys) != labels
    assert hot.sample_batch(labels, keys, temperature=0.0) == labels
    pair = [4, 5, 7], [4, 5, 6]
    assert cold.log_prob(*pair, temperature=0.9) == hot.log_prob(*pair) > -math.inf


def test_batches_and_references_may_be_empty(sampler):
    payoff = sampler(TOKENS, 1.0)
    empty = payoff.draw([], np.array([], dtype=np.uint64))
    assert empty.labels == [] and empty.edits.shape == (0,)
    drawn = payoff.draw([[], []], KEYS[:2])
    assert drawn.labels == [[], []] and drawn.edits.tolist() == [0, 0]
    assert payoff.sample([], np.random.default_rng(0)) == [] and payoff.log_prob([], []) == 0
    assert payoff.log_probs([], []).shape == (0,)


def test_log_probs_of_a_batch_are_those_of_each_alone(sampler):
    payoff = sampler(range(2, 6), 0.9)
    references = [[2, 3, 4], [], [0, 2], [5, 5, 5, 5], [1], [2], [3, 3]]
    candidates = [[2, 4, 4], [], [0, 2, 2, 3], [5, 4, 5, 2], [3], [3, 3, 3, 3], [2, 9]]
    together = payoff.log_probs(candidates, references)
    assert together.dtype == np.float64 and together.shape == (7,)
    pairs = list(zip(candidates, references, strict=True))
    np.testing.assert_allclose(together, [payoff.log_prob(*pair) for pair in pairs])
    # Nothing stays nothing; one token becomes three in two edits, not four; nothing draws a 9.
    assert together[1] == 0 and together[5] == together[6] == -math.inf
    assert np.isfinite(together[[0, 3, 4]]).all()
    hot = payoff.log_probs(candidates, references, temperature=2.0)
    np.testing.assert_allclose(hot, sampler(range(2, 6), 2.0).log_probs(candidates, references))


def test_a_pickled_sampler_draws_the_same(sampler):
    most = {} if sampler is HammingPayoff else {"max_edits": 2}
    payoff, labels, keys = sampler(TOKENS, 0.9, edit_cost=3.0, **most), [[4, 5, 6]] * 40, np.arange(40)
    copy = pickle.loads(pickle.dumps(payoff))
    assert copy.sample_batch(labels, keys) == payoff.sample_batch(labels, keys) != labels
    assert (copy.temperature, copy.edit_cost, copy.tokens.tolist()) == (0.9, 3.0, list(TOKENS))
    assert getattr(copy, "max_edits", None) == most.get("max_edits")
    assert copy.index_of(np.array([3, 4, 19, 20, 900])).tolist() == [-1, 0, 15, -1, -1]


def test_a_pickle_leaves_all_tables_behind(sampler):
    # A table of places has a number for each id up to the largest, here 8 MB.
    payoff = sampler([5, 1_000_000], 0.9)
    assert payoff._index.nbytes > 8_000_000
    before = len(pickle.dumps(payoff))
    payoff.sample_batch([list(range(50))] * 4, KEYS)
    assert len(pickle.dumps(payoff)) == before < 2_000
    assert pickle.loads(pickle.dumps(payoff)).index_of(np.array([5, 6, 1_000_000])).tolist() == [0, -1, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda payoff: payoff.draw([[-100] * 40], KEYS[:1]), "at least 0, got -100"),
        (lambda payoff: payoff.draw([np.array([-100] * 40)], KEYS[:1]), "at least 0, got -100"),
        (lambda payoff: payoff.sample([-100] * 40, np.random.default_rng(0)), "at least 0, got -100"),
        (lambda payoff: payoff.draw([[4, 5], [6, -100]], KEYS[:2], temperature=1e-3), "at least 0, got -100"),
        (lambda payoff: payoff.draw([[5.0, 9.7]], KEYS[:1], temperature=1e-3), "integer token ids .* got 5.0"),
        (lambda payoff: payoff.draw([np.array([5.5, 9])], KEYS[:1], temperature=1e-3), "integer token ids .* got 5.5"),
        (lambda payoff: payoff.draw([["a"]], KEYS[:1], temperature=1e-3), "integer token ids .* got 'a'"),
        (lambda payoff: payoff.draw([[2**70]], KEYS[:1], temperature=1e-3), f"token ids .* got {2**70}"),
        (lambda payoff: payoff.sample([4, 9.7], np.random.default_rng(0)), "integer token ids .* got 9.7"),
        (lambda payoff: payoff.log_prob([4], [4.5]), "integer token ids .* got 4.5"),
        (lambda payoff: payoff.log_prob([4], [-100]), "at least 0, got -100"),
        (lambda payoff: payoff.log_prob([-100], [4]), "at least 0, got -100"),
        (lambda payoff: payoff.log_probs([[4]], [[4], [5]]), "must be as many, got 1 and 2"),
        (lambda payoff: payoff.draw([[4], [5]], KEYS), "one for each of the 2 references"),
        (lambda payoff: payoff.draw([[4]], np.array([0.5])), "`keys` must be integers"),
        (lambda payoff: payoff.draw([[4]], KEYS[:1], temperature=-1), "`temperature` must be at least 0, got -1.0"),
        (lambda payoff: payoff.draw([[4]], KEYS[:1], temperature=math.nan), "`temperature` must be .* got nan"),
        (lambda payoff: payoff.log_prob([4], [4], temperature=-1), "`temperature` must be at least 0, got -1.0"),
        (lambda payoff: type(payoff)(range(4), -0.1), "`temperature` must be at least 0, got -0.1"),
        (lambda payoff: type(payoff)(range(4), math.nan), "`temperature` must be at least 0, got nan"),
        (lambda payoff: type(payoff)(range(4), "warm"), "`temperature` must be a number .* got 'warm'"),
        (lambda payoff: type(payoff)(range(4), "0.9"), "`temperature` must be a number .* got '0.9'"),
        (lambda payoff: type(payoff)(range(4), None), "`temperature` must be a number .* got None"),
        (lambda payoff: type(payoff)(range(4), True), "`temperature` must be a number .* got True"),
        (lambda payoff: payoff.draw([[4]], KEYS[:1], temperature=True), "`temperature` must be a number .* got True"),
        (lambda payoff: type(payoff)([4, None], 0.9), r"`tokens` must be a set .* got \[4, None\]"),
        (lambda payoff: type(payoff)(100, 0.9), r"`tokens` must be .* such as `range\(4, 8_004\)`, got 100"),
        (lambda payoff: type(payoff)("words", 0.9), "`tokens` must be a set of integer ids, .* got 'words'"),
        (lambda payoff: type(payoff)([], 0.9), "`tokens` is empty"),
        (lambda payoff: type(payoff)([3, -1], 0.9), "must not hold negative ids, got -1"),
        (lambda payoff: type(payoff)([3.5], 0.9), "set of integer ids"),
        (lambda payoff: type(payoff)([3], 0.9, edit_cost="words"), "\"log_vocab\" .* got 'words'"),
        (lambda payoff: type(payoff)([3], 0.9, edit_cost=-1.0), "got -1.0"),
        (lambda payoff: type(payoff)([3], 0.9, edit_cost=0), "a positive finite number, got 0"),
        (lambda payoff: type(payoff)([3], 0.9, edit_cost=math.inf), "a positive finite number, got inf"),
        (lambda payoff: type(payoff)([3], 0.9, edit_cost=None), "`edit_cost` must be .* got None"),
        (lambda payoff: type(payoff)([3], 0.9, edit_cost=[1]), r"`edit_cost` must be .* got \[1\]"),
        (lambda payoff: type(payoff)([3], 0.9, edit_cost=True), "`edit_cost` must be .* got True"),
        (lambda payoff: type(payoff)([3], 0.9, edit_cost="2"), "`edit_cost` must be .* got '2'"),
        (lambda payoff: rate_of(payoff, edit_rate="0.1"), "`edit_rate` must be a number of at least 0, .* got '0.1'"),
        (lambda payoff: rate_of(payoff, edit_rate=None), "`edit_rate` must be a number of at least 0, .* got None"),
        (lambda payoff: rate_of(payoff, edit_rate=-0.1), "`edit_rate` must be at least 0 .* got -0.1"),
    ],
)
def test_what_is_refused(sampler, call, message):
    with pytest.raises(ValueError, match=message):
        call(sampler(range(4, 7), math.inf))  # three of four tokens are replaced


def rate_of(payoff, edit_rate):
    return type(payoff).for_edit_rate(tokens=range(4, 65), edit_rate=edit_rate, length=5)


@pytest.mark.parametrize("sampler", [HammingPayoff, EditPayoff])
def test_edits_by_length_take_whole_numbers(sampler):
    payoff = sampler(range(4), 0.9)
    for length in (2.5, -1, "5", True):
        with pytest.raises(ValueError, match=f"`length` must be a whole number of at least 0, got {length!r}"):
            payoff.edit_probs(length)
    with pytest.raises(ValueError, match="`outside` must be a whole number of at least 0, got 0.5"):
        payoff.edit_probs(3, outside=0.5)


@pytest.mark.parametrize("sampler", [EditPayoff, ExactEditPayoff])
def test_a_rate_is_for_a_length_that_is_a_whole_number(sampler):
    with pytest.raises(ValueError, match="`length` must be a whole number of at least [01], got 2.5"):
        sampler.for_edit_rate(tokens=range(4), edit_rate=0.1, length=2.5)


@pytest.mark.parametrize("edits", [0, 2.5, True, "2"])
@pytest.mark.parametrize("sampler", [EditPayoff, ExactEditPayoff])
def test_a_largest_number_of_edits_is_a_whole_number(sampler, edits):
    with pytest.raises(ValueError, match=f"`max_edits` must be a whole number .* or None, got {edits!r}"):
        sampler([3], 0.9, max_edits=edits)
